//! The signal that it is time to end.

use tokio::sync::watch;

/// Told once, heard by all who hold a clone.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: std::sync::Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    pub fn new() -> Self {
        let (sender, receiver) = watch::channel(false);
        Self { sender: sender.into(), receiver }
    }

    pub fn stop(&self) {
        self.sender.send_replace(true);
    }

    pub fn is_stopped(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits until it is told; returns at once when it was told before.
    pub async fn stopped(&mut self) {
        self.receiver.wait_for(|stopped| *stopped).await.expect("this holds the sender too");
    }
}
