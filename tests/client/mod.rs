//! An SMTP client for tests: it says what it is told, and hears every line.
//!
//! Contract: a server that stays silent for [`PATIENCE`] is a panic, on paused time too, so that nothing hangs.
//! Not here: what should be said and heard.

#![allow(dead_code)] // each test binary uses its part

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use posthouse::net::{ClientTls, MemoryNetwork, Network, ServerTls, Stream, TlsCheck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a line is waited for: less than any timeout of the server.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One connection to a server.
pub struct Client {
    stream: Stream,
    heard: Vec<u8>,
}

impl Client {
    pub async fn connect(network: &Network, to: SocketAddr) -> Self {
        Self::over(network.connect(to, PATIENCE).await.expect("somebody listens"))
    }

    /// As a client with this address.
    pub async fn connect_from(network: &MemoryNetwork, from: &str, to: SocketAddr) -> Self {
        let from = from.parse().expect("an address with a port");
        Self::over(network.connect_from(from, to).await.expect("somebody listens"))
    }

    /// Over a connection that there is already.
    pub fn over(stream: Stream) -> Self {
        Self { stream, heard: Vec::new() }
    }

    /// The TLS handshake; any certificate will do.
    pub async fn start_tls(self) -> Self {
        let Self { stream, heard } = self;
        assert!(heard.is_empty(), "the server spoke before the handshake: {}", heard.escape_ascii());
        let tls = ClientTls::trusting([]).expect("no authority is no bad one");
        let started = stream.start_tls_client(&tls, TlsCheck::Opportunistic, "relay.example.org", PATIENCE);
        Self::over(started.await.expect("the handshake succeeds"))
    }

    /// The fingerprint of the certificate that the server has shown.
    pub fn certificate(&self) -> String {
        self.stream.tls().and_then(|facts| facts.server_certificate.clone()).expect("TLS has started")
    }

    /// Sends these octets. A server that has closed already hears nothing: what it said before is what counts.
    pub async fn send(&mut self, octets: &[u8]) {
        if self.stream.write_all(octets).await.is_ok() {
            let _ = self.stream.flush().await;
        }
    }

    /// The next line without its CRLF; `None` when the server has closed.
    pub async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|two| two == b"\r\n") {
                let line = self.heard.drain(..end + 2).take(end).collect();
                return Some(line);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.heard));
            match read.await.expect("the server is silent") {
                Ok(octets) if octets > 0 => {}
                _ => {
                    let rest = &self.heard;
                    assert!(rest.is_empty(), "the server closed amid a line: {}", rest.escape_ascii());
                    return None;
                }
            }
        }
    }

    /// The next reply, its lines joined by line feeds.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("the server closed after {reply:?}"));
            let line = String::from_utf8(line).expect("replies are US-ASCII");
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            reply.push_str(&line);
            if !goes_on {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Sends a line, and hears the reply.
    pub async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Says each line in turn; the replies must begin so.
    pub async fn talk(&mut self, dialogue: &[(&str, &str)]) {
        for (line, beginning) in dialogue {
            let reply = self.say(line).await;
            assert!(reply.starts_with(beginning), "{line:?} got {reply:?}, not {beginning:?}");
        }
    }

    /// Hears the greeting, and opens a transaction from alice to bob up to the 354.
    pub async fn until_content(&mut self) {
        assert!(self.reply().await.starts_with("220 "));
        self.talk(&[("EHLO client.example.org", "250-")]).await;
        self.transaction().await;
    }

    /// A transaction from alice to bob up to the 354.
    pub async fn transaction(&mut self) {
        let to_bob = [
            ("MAIL FROM:<alice@example.org>", "250 "),
            ("RCPT TO:<bob@example.com>", "250 "),
            ("DATA", "354 "),
        ];
        self.talk(&to_bob).await;
    }

    /// All that the server still says until it closes in order.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut self.heard));
        read.await.expect("the server does not close")?;
        Ok(std::mem::take(&mut self.heard))
    }

    /// The server must have closed, with nothing more to say.
    pub async fn ends_here(mut self) {
        let rest = self.rest().await.expect("the server closes in order");
        assert!(rest.is_empty(), "the server also said {}", rest.escape_ascii());
    }

    /// Closes this side; the server closes its own without a word.
    pub async fn leave(mut self) {
        let _ = self.stream.shutdown().await;
        // Within TLS nobody is owed a farewell by those whom he has left.
        let rest = self.rest().await.unwrap_or_default();
        assert!(rest.is_empty(), "the server also said {}", rest.escape_ascii());
    }
}

/// Writes a certificate and its key, `fullchain.pem` and `key.pem`, into `folder`, and loads them.
pub fn certificate(folder: &Path) -> ServerTls {
    let key = rcgen::KeyPair::generate().expect("chance is at hand");
    let params = rcgen::CertificateParams::new(vec!["relay.example.org".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a key signs its own certificate");
    let (chain_file, key_file) = (folder.join("fullchain.pem"), folder.join("key.pem"));
    std::fs::write(&chain_file, certificate.pem()).expect("the folder can be written");
    std::fs::write(&key_file, key.serialize_pem()).expect("the folder can be written");
    ServerTls::load(&chain_file, &key_file).expect("the two belong together")
}
