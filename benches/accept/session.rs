//! One session of the client: greeting, EHLO, perhaps STARTTLS, and message after message.
//!
//! Contract: [`Session::open`] gets as far as a transaction may begin; [`Session::submit`] sends one and tells how long the
//! reply to its content took, from the last octet written. A reply that is not the one expected is a failure that quotes it.
//! Invariants: pipelining is RFC 2920's: MAIL, RCPT and DATA in one write, and content only after 354. Waits are bounded.
//! Not here: how many sessions, and how long (`load`).

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Failure;

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

const ENVELOPE: [&[u8]; 3] =
    [b"MAIL FROM:<alice@example.org>\r\n", b"RCPT TO:<bob@example.com>\r\n", b"DATA\r\n"];

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub struct Session {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// Trusts one certificate, which is that of `relay.example.org`.
pub fn connector(certificate: &str) -> Result<TlsConnector, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Session {
    pub async fn open(port: u16, tls: Option<&TlsConnector>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let Some(connector) = tls else {
            let mut session = Self { stream: Box::new(stream), read: Vec::new() };
            session.greet().await?;
            return Ok(session);
        };
        let mut clear = Clear { stream, read: Vec::new() };
        expect(&mut clear.stream, &mut clear.read, b"220").await?;
        for (line, code) in [(&b"EHLO client.example.org\r\n"[..], b"250"), (b"STARTTLS\r\n", b"220")] {
            clear.stream.write_all(line).await?;
            expect(&mut clear.stream, &mut clear.read, code).await?;
        }
        let name = ServerName::try_from("relay.example.org")?;
        let stream = connector.connect(name, clear.stream).await?;
        let mut session = Self { stream: Box::new(stream), read: Vec::new() };
        session.say(b"EHLO client.example.org\r\n", b"250").await?;
        Ok(session)
    }

    async fn greet(&mut self) -> Result<(), Failure> {
        self.expect(b"220").await?;
        self.say(b"EHLO client.example.org\r\n", b"250").await
    }

    /// One message; `content` has its final dot. Gives the time from its last octet to its 250.
    pub async fn submit(&mut self, content: &[u8], pipelined: bool) -> Result<Duration, Failure> {
        if pipelined {
            self.write(&ENVELOPE.concat()).await?;
            for code in [b"250", b"250", b"354"] {
                self.expect(code).await?;
            }
        } else {
            for (line, code) in ENVELOPE.iter().zip([b"250", b"250", b"354"]) {
                self.say(line, code).await?;
            }
        }
        self.write(content).await?;
        let sent = Instant::now();
        self.expect(b"250").await?;
        Ok(sent.elapsed())
    }

    pub async fn quit(&mut self) -> Result<(), Failure> {
        self.say(b"QUIT\r\n", b"221").await
    }

    async fn say(&mut self, line: &[u8], code: &[u8; 3]) -> Result<(), Failure> {
        self.write(line).await?;
        self.expect(code).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(octets).await?;
        Ok(self.stream.flush().await?)
    }

    async fn expect(&mut self, code: &[u8; 3]) -> Result<(), Failure> {
        expect(&mut self.stream, &mut self.read, code).await
    }
}

struct Clear {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Reads one reply, of one line or several; what comes behind it stays in `read`.
async fn expect<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    code: &[u8; 3],
) -> Result<(), Failure> {
    let mut start = 0;
    loop {
        if let Some(length) = memchr::memchr(b'\n', &read[start..]) {
            let line = &read[start..start + length + 1];
            if line.get(3) == Some(&b'-') {
                start += length + 1;
                continue;
            }
            let said = String::from_utf8_lossy(line).trim_end().to_owned();
            let expected = line.starts_with(code);
            read.drain(..start + length + 1);
            return if expected { Ok(()) } else { Err(format!("the server said {said}").into()) };
        }
        let got = tokio::time::timeout(PATIENCE, stream.read_buf(read)).await;
        if got.map_err(|_| "the server said nothing for a minute")?? == 0 {
            return Err("the server hung up".into());
        }
    }
}
