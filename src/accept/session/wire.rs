//! The session's octets: reading, writing and TLS, each within its time.
//!
//! Not here: what is said (`smtp`), what is answered (the session itself).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::refusals::Refusal;
use super::{Gone, Session};
use crate::net::{ServerTls, Stream};
use crate::smtp::server::Server;

/// A TLS handshake must end within this time (real time).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client must take our replies within this time (real time).
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Room that is made for each read: small for commands, large for content.
const READ_COMMANDS: usize = 4 << 10;
const READ_CONTENT: usize = 64 << 10;

impl Session {
    /// Reads what the client says. Silence for too long and the relay's stop end the session with a 421.
    pub(super) async fn read(&mut self, server: &mut Server) -> Result<(), Gone> {
        let limits = self.settings.limits;
        let receiving = server.receiving_content();
        if !receiving && !server.in_transaction() {
            self.intake = None;
        }
        if !receiving && server.content_length() == 0 {
            // Content that the dialogue itself has refused is over too; between chunks it is not.
            self.place.give_back_in_flight();
        } else if !self.place.grow_in_flight(server.content_length(), limits.bytes_in_flight) {
            server.abort(self.rejected(None, None, Refusal::ContentCutShort));
            return Ok(());
        }
        let stream = self.stream.as_mut().expect("a session has its stream but during a handshake");
        let buffer = server.read_buffer();
        buffer.reserve(if receiving { READ_CONTENT } else { READ_COMMANDS });
        let read = tokio::time::timeout(limits.idle_timeout, stream.read_buf(buffer));
        let read = tokio::select! {
                biased;
            read = read => read,
            // Content that has begun to come may come to its end.
            () = self.stop.stopped(), if !receiving => {
                server.abort(Refusal::Stopping.reply());
                return Ok(());
            }
        };
        match read {
            Ok(Ok(0)) | Ok(Err(_)) => Err(Gone),
            Ok(Ok(_)) => Ok(()),
            Err(_) => {
                server.abort(self.rejected(None, None, Refusal::Idle));
                Ok(())
            }
        }
    }

    pub(super) async fn write(&mut self, server: &mut Server) -> Result<(), Gone> {
        let stream = self.stream();
        let output = server.output();
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            stream.write_all_buf(output).await?;
            stream.flush().await
        });
        written.await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    pub(super) async fn start_tls(&mut self, tls: &ServerTls, server: &mut Server) -> Result<(), Gone> {
        let stream = self.stream.take().expect("a session has its stream but during a handshake");
        match stream.start_tls_server(tls, HANDSHAKE_TIMEOUT).await {
            Ok(stream) => {
                self.stream = Some(stream);
                server.tls_started();
                Ok(())
            }
            Err(error) => {
                tracing::info!(session = %self.id, client = %self.client, %error, "TLS handshake failed");
                Err(Gone)
            }
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("a session has its stream but during a handshake")
    }
}
