//! The session's octets: reading, writing and TLS, each within its time.
//!
//! Not here: what is said (`smtp`), what is answered (the session itself).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::refusals::Refusal;
use super::seeing::in_words;
use super::{Gone, Session};
use crate::net::{ServerTls, Stream};
use crate::smtp::server::Server;
use crate::tracking::{Ended, Stage};

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
        self.seen.reads(server);
        let stream = self.stream.as_mut().expect("a session has its stream but during a handshake");
        let buffer = server.read_buffer();
        buffer.reserve(if receiving { READ_CONTENT } else { READ_COMMANDS });
        let read = tokio::time::timeout(limits.idle_timeout, stream.read_buf(buffer));
        let read = tokio::select! {
                biased;
            read = read => read,
            // Content that has begun to come may come to its end.
            () = self.stop.stopped(), if !receiving => {
                self.seen.end(Ended::Stopped, None);
                server.abort(Refusal::Stopping.reply());
                return Ok(());
            }
        };
        match read {
            Ok(Ok(0)) => {
                self.seen.end(Ended::Closed, None);
                Err(Gone)
            }
            Ok(Err(error)) => {
                self.seen.end(Ended::Broken, Some(in_words(&error)));
                Err(Gone)
            }
            Ok(Ok(octets)) => {
                self.seen.heard(server, octets);
                Ok(())
            }
            Err(_) => {
                self.seen.end(Ended::Idle, None);
                server.abort(self.rejected(None, None, Refusal::Idle));
                Ok(())
            }
        }
    }

    pub(super) async fn write(&mut self, server: &mut Server) -> Result<(), Gone> {
        self.seen.says(server);
        let stream = self.stream();
        let output = server.output();
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            stream.write_all_buf(output).await?;
            stream.flush().await
        });
        let (ended, detail) = match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => (Ended::Broken, in_words(&error)),
            Err(_) => (Ended::NotTaken, format!("for {} s", WRITE_TIMEOUT.as_secs())),
        };
        self.seen.end(ended, Some(detail));
        Err(Gone)
    }

    pub(super) async fn start_tls(&mut self, tls: &ServerTls, server: &mut Server) -> Result<(), Gone> {
        let stream = self.stream.take().expect("a session has its stream but during a handshake");
        self.seen.at(Stage::Tls);
        match stream.start_tls_server(tls, HANDSHAKE_TIMEOUT).await {
            Ok(stream) => {
                self.seen.tls_started(server, stream.tls());
                self.client.tls = stream.tls().cloned();
                self.stream = Some(stream);
                server.tls_started();
                Ok(())
            }
            Err(error) => {
                self.seen.end(Ended::TlsFailed, Some(in_words(&error)));
                Err(Gone)
            }
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("a session has its stream but during a handshake")
    }
}
