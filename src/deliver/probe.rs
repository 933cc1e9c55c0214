//! Whether a server answers: what a health check needs, without a message.
//!
//! Contract: [`probe`] opens a session as a delivery would, connection, greeting and EHLO, and ends it with QUIT. It ends
//! within the time given, whatever the server does.
//! Invariants: no transaction is begun, so nothing is delivered and no recipient is asked for.
//! Not here: handing over a message (`submit`).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::classify;
use super::connection::Opener;
use super::settings::Timeouts;
use crate::mail::{Host, Outcome};

/// Why a server was found out of order.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It could not be connected to, or it refused the session; the text has its own words, where it said any.
    #[error("{0}")]
    Refused(Box<Outcome>),
    #[error("{host}: no session within {}", humantime::format_duration(*within))]
    Late { host: Host, within: Duration },
}

/// Begins a session with the server at `address`, over TCP in the clear, and ends it. Its greeting must be a 220 and its
/// reply to EHLO (or HELO) a 250, all `within` this time, which is real.
pub async fn probe(address: SocketAddr, within: Duration) -> Result<(), ProbeError> {
    let deadline = Instant::now() + within;
    let host = Host::at(address.ip().to_string(), address);
    // The deadline is for all steps together; none of these is shorter.
    let timeouts = Timeouts { connect: within, greeting: within, command: within, ..Timeouts::default() };
    match timeout_at(deadline, Opener::open_in_clear(address, timeouts)).await {
        Ok(Ok(connection)) => {
            // It has answered: a slow goodbye is no fault of it.
            let _ = timeout_at(deadline, connection.quit()).await;
            Ok(())
        }
        Ok(Err((stage, trouble))) => {
            Err(ProbeError::Refused(Box::new(classify::of_host(&host, stage, &trouble))))
        }
        Err(_) => Err(ProbeError::Late { host, within }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::net::Network;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server that says these pieces, each after the client's turn but for the first; gives what it was told.
    async fn server(says: &'static [&'static str]) -> (SocketAddr, JoinHandle<String>) {
        let mut listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for piece in says {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.read_buf(&mut heard).await.unwrap();
            }
            String::from_utf8(heard).unwrap()
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_server_that_answers_is_in_order_and_is_taken_leave_of() {
        let (address, heard) = server(&["220 ready\r\n", "250 hello\r\n", "221 bye\r\n"]).await;
        probe(address, LIMIT).await.unwrap();
        assert_eq!(heard.await.unwrap(), "EHLO [127.0.0.1]\r\nQUIT\r\n");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words() {
        let (address, _heard) = server(&["554 5.3.2 closed for today\r\n"]).await;
        let error = probe(address, LIMIT).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("[127.0.0.1]:{} said: 554 5.3.2 closed for today", address.port())
        );
    }

    #[tokio::test]
    async fn nobody_listening_is_told() {
        let listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr();
        drop(listener);
        let error = probe(address, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("connecting: Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_stays_silent_or_drips_does_not_hold_it_up() {
        let within = Duration::from_millis(50);
        let (address, _heard) = server(&["220-wait"]).await;
        let error = probe(address, within).await.unwrap_err();
        assert!(error.to_string().contains("within 50ms"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_quit_is_in_order() {
        let (address, _heard) = server(&["220 ready\r\n", "250 hello\r\n", ""]).await;
        probe(address, Duration::from_millis(500)).await.unwrap();
    }
}
