//! The session's octets: the PROXY header, TLS, reading and writing, each within its time.
//!
//! Contract: silence for too long, a command or a content that comes too slowly, and the relay's stop end a session
//! with a 421.
//! Invariants: no memory is held for what may come while nothing comes.
//! Not here: what is said (`smtp`), what is answered (the session itself).

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::super::policy::is_within;
use super::super::refusals::Refusal;
use super::seeing::in_words;
use super::{Gone, ListenerSettings, ListenerTls, Session};
use crate::net::{ServerTls, Stream, TlsError};
use crate::smtp::server::Server;
use crate::tracking::{Ended, Stage};

/// A TLS handshake must end within this time (real time).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A PROXY header must be whole within this time (real time).
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);
/// A client must take our replies within this time (real time).
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The end of a connection is waited for that long (real time).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Room that is made for each read: small for commands, large for content.
const READ_COMMANDS: usize = 4 << 10;
const READ_CONTENT: usize = 64 << 10;
/// Octets of content that buy another second.
const CONTENT_RATE: u64 = 1 << 10;

/// What a client is amid of, and since when: it must come to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Amid {
    Nothing,
    Command(Instant),
    Content(Instant),
}

impl Session {
    /// What comes before the dialogue: who is behind the proxy, and TLS where it is from the start.
    pub(super) async fn enter(&mut self, server: &mut Server) -> Result<(), Gone> {
        if self.listener.proxy.is_some() {
            self.read_proxy_header().await?;
        }
        // Who is watched is known from here on.
        self.record(server);
        self.count();
        let ListenerTls::Implicit(tls) = self.listener.tls.clone() else { return Ok(()) };
        if self.turned_away.is_some() && !self.place.give_up() {
            // As many as may be told so at one time are being told.
            self.seen.end(Ended::SentAway, None);
            return Err(Gone);
        }
        self.start_tls(&tls, server).await
    }

    /// The client is from here on whom the proxy says it is. Without a header that is in order nothing is said.
    async fn read_proxy_header(&mut self) -> Result<(), Gone> {
        self.seen.at(Stage::Proxy);
        let proxy = self.client.address;
        let networks = self.listener.proxy.as_deref().unwrap_or_default();
        if !proxy.is_some_and(|proxy| is_within(networks, proxy)) {
            self.rejected(None, None, Refusal::NotTheProxy);
            self.seen.end(Ended::NoProxyHeader, Some(Refusal::NotTheProxy.reason().to_owned()));
            return Err(Gone);
        }
        let mut stop = self.stop.clone();
        let header = tokio::select! {
            biased;
            header = self.stream().read_proxy_header(PROXY_TIMEOUT) => header,
            () = stop.stopped() => {
                self.seen.end(Ended::Stopped, None);
                return Err(Gone);
            }
        };
        match header {
            Ok(header) => {
                // Without one the connection is the proxy's own, or that of somebody whom it cannot name.
                match header.source {
                    Some(source) => {
                        self.client.address = Some(source.ip().to_canonical());
                        self.seen.proxy = proxy;
                    }
                    None => {
                        self.is_proxys_own = true;
                        // It may be anybody's: that the proxy itself may relay gives him no right to.
                        let nobodys =
                            ListenerSettings { networks: Some(Vec::new()), ..(*self.listener).clone() };
                        self.listener = Arc::new(nobodys);
                    }
                }
                self.seen.at(Stage::Greeted);
                Ok(())
            }
            Err(error) => {
                self.tell_rejected(None, None, &Refusal::NotTheProxy.reply(), &error.to_string());
                self.seen.end(Ended::NoProxyHeader, Some(in_words(&error)));
                Err(Gone)
            }
        }
    }

    /// Reads what the client says. Silence for too long and the relay's stop end the session with a 421.
    pub(super) async fn read(&mut self, server: &mut Server) -> Result<(), Gone> {
        let limits = self.settings.limits;
        let receiving = server.receiving_content();
        if !receiving && !server.in_transaction() {
            self.intake = None;
        }
        let held = server.content_length();
        if server.refuses_content() || (!receiving && held == 0) {
            // Content that the dialogue itself has refused takes no room, be it over or not.
            self.place.give_back_in_flight();
        } else if !self.place.grow_in_flight(held, limits.bytes_in_flight) {
            server.abort(self.rejected(None, None, Refusal::ContentCutShort));
            return Ok(());
        }
        let patience = self.patience(server);
        self.seen.reads(server);
        let stream = self.stream.as_mut().expect("a session has its stream but during a handshake");
        let read = tokio::time::timeout(patience.unwrap_or_default(), octets(stream, server));
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
                let slow = patience.is_none_or(|patience| patience < limits.idle_timeout);
                if !slow {
                    self.seen.end(Ended::Idle, None);
                }
                let refusal = if slow { Refusal::TooSlow } else { Refusal::Idle };
                server.abort(self.rejected(None, None, refusal));
                Ok(())
            }
        }
    }

    /// How long the next octets may take; `None`: no longer.
    fn patience(&mut self, server: &Server) -> Option<Duration> {
        let limits = self.settings.limits;
        let now = Instant::now();
        let (amid, end) = match (server.receiving_content(), server.is_amid_command(), self.amid) {
            (true, _, amid) => {
                let began = if let Amid::Content(began) = amid { began } else { now };
                let earned = Duration::from_secs(server.content_length() / CONTENT_RATE);
                (Amid::Content(began), began + limits.content_time + earned)
            }
            (false, true, amid) => {
                let began = if let Amid::Command(began) = amid { began } else { now };
                (Amid::Command(began), began + limits.idle_timeout)
            }
            (false, false, _) => (Amid::Nothing, now + limits.idle_timeout),
        };
        self.amid = amid;
        end.checked_duration_since(now)
            .filter(|left| !left.is_zero())
            .map(|left| left.min(limits.idle_timeout))
    }

    pub(super) async fn write(&mut self, server: &mut Server) -> Result<(), Gone> {
        self.seen.says(server);
        // A reply is the end of a command: what has come behind it is another one.
        self.amid = Amid::Nothing;
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

    /// Ends the connection in order, if the client lets us.
    pub(super) async fn close(&mut self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream().shutdown()).await;
    }

    pub(super) async fn start_tls(&mut self, tls: &ServerTls, server: &mut Server) -> Result<(), Gone> {
        let stream = self.stream.take().expect("a session has its stream but during a handshake");
        self.seen.at(Stage::Tls);
        // In a place of its own: it needs far more room than the session that waits for it.
        let handshake = Box::pin(stream.start_tls_server(tls, HANDSHAKE_TIMEOUT));
        let shaken = tokio::select! {
            biased;
            shaken = handshake => shaken,
            () = self.stop.stopped() => {
                self.seen.end(Ended::Stopped, None);
                return Err(Gone);
            }
        };
        match shaken {
            Ok(stream) => {
                self.seen.tls_started(server, stream.tls());
                self.client.tls = stream.tls().cloned();
                self.stream = Some(stream);
                server.tls_started();
                Ok(())
            }
            // A proxy that only looks whether somebody is there.
            Err(TlsError::Left { .. }) if self.is_proxys_own => Err(Gone),
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

/// Reads into the dialogue's buffer, which takes no memory while nothing comes.
async fn octets(stream: &mut Stream, server: &mut Server) -> io::Result<usize> {
    let room = if server.receiving_content() { READ_CONTENT } else { READ_COMMANDS };
    poll_fn(|cx| {
        let buffer = server.read_buffer();
        buffer.reserve(room);
        let read = pin!(stream.read_buf(buffer)).poll(cx);
        if read.is_pending() {
            server.rest();
        }
        read
    })
    .await
}
