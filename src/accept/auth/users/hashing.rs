//! Work that takes a processor for a while: a few at a time, away from the runtime's threads.
//!
//! Contract: [`Hashing::run`] gives what the work gives, or says at once that too many wait already.
//! Invariants: a client that leaves gives its place back, but work that has begun keeps it to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::super::AuthenticatorError;

/// Hashes that are computed at one time.
const AT_ONCE: usize = 2;
/// Clients that may wait for one; further ones hear 454.
const WAITING: usize = 32;

#[derive(Debug)]
pub(super) struct Hashing {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// How often it has begun to work.
    begun: Arc<AtomicUsize>,
}

impl Hashing {
    pub fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            begun: Arc::new(AtomicUsize::new(0)),
        }
    }

    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthenticatorError> {
        let place = {
            let _waiting = Waiting::join(&self.waiting)?;
            Arc::clone(&self.places).acquire_owned().await.expect("it is never closed")
        };
        let begun = Arc::clone(&self.begun);
        let work = tokio::task::spawn_blocking(move || {
            begun.fetch_add(1, Ordering::Relaxed);
            let done = work();
            drop(place);
            done
        });
        work.await.map_err(|error| AuthenticatorError::Unavailable(error.into()))
    }

    #[cfg(test)]
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize) -> Result<Self, AuthenticatorError> {
        let joined = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < WAITING {
            Ok(joined)
        } else {
            Err(AuthenticatorError::Busy)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn no_more_than_two_work_and_no_more_than_32_wait() {
        let hashing = Arc::new(Hashing::new());
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let start = || {
            let (hashing, wait) = (Arc::clone(&hashing), Arc::clone(&wait));
            tokio::spawn(async move {
                let work = move || wait.lock().expect("no holder panics").recv().is_ok();
                hashing.run(work).await
            })
        };
        let mut tasks: Vec<_> = (0..AT_ONCE + WAITING).map(|_| start()).collect();
        while hashing.waiting.load(Ordering::Relaxed) < WAITING || hashing.begun() < AT_ONCE {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hashing.run(|| ()).await, Err(AuthenticatorError::Busy)));
        assert_eq!(hashing.begun(), AT_ONCE);
        // One that leaves makes room for another.
        let left = tasks.pop().unwrap();
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(hashing.waiting.load(Ordering::Relaxed), WAITING - 1);
        for _ in &tasks {
            release.send(()).unwrap();
        }
        for task in tasks {
            assert!(task.await.unwrap().unwrap());
        }
        assert_eq!(hashing.waiting.load(Ordering::Relaxed), 0);
    }
}
