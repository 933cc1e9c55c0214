//! A look at a server: what it says, how long each step takes, and what its certificate is worth.
//!
//! Contract: [`inspect`] connects, waits for the greeting, says EHLO, starts TLS where it is offered, whatever the certificate, says EHLO
//! again and QUIT. It ends within the time given, and tells how far it got.
//! Invariants: no transaction is begun and no password is shown. Nobody is called by his own name: a server takes a client
//! that claims its address for a liar.
//! Not here: whether a server is in order, in one word (`probe`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::submit::literal;
use crate::clock::Timestamp;
use crate::mail::Reply;
use crate::net::{ClientTls, Network, Stream, TlsCheck, TlsaSet};
use crate::smtp::client::{Client, ClientSettings, Hello, Step};

/// Whom to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name for which its certificate should be.
    pub host: String,
    pub address: SocketAddr,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// LHLO in place of EHLO (RFC 2033).
    pub lmtp: bool,
    /// What we call ourselves; our address, where nothing is said.
    pub hostname: Option<String>,
    /// The address of ours from which to connect; the system chooses, where nothing is said.
    pub source: Option<IpAddr>,
    /// The TLSA records that its certificate is compared with.
    pub tlsa: Option<Arc<TlsaSet>>,
}

impl Target {
    /// SMTP in the clear or with STARTTLS, as anybody.
    pub fn new(host: impl Into<String>, address: SocketAddr) -> Self {
        let (implicit_tls, lmtp, hostname, source, tlsa) = (false, false, None, None, None);
        Self { host: host.into(), address, implicit_tls, lmtp, hostname, source, tlsa }
    }

    fn hello(&self) -> String {
        let own = || own_address(self.address).map(|ip| literal(SocketAddr::new(ip, 0)));
        self.hostname.clone().or_else(|| own().ok()).unwrap_or_else(|| literal(self.address))
    }
}

/// From where the system would connect there; nothing is sent.
fn own_address(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// What was seen. Field names are used by people's scripts: they may be added to, never changed.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub host: String,
    pub address: SocketAddr,
    /// Everything asked for was answered.
    pub answers: bool,
    /// The steps that were taken, in order.
    pub steps: Vec<Taken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Why it went no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// It went no further since TLS that was offered did not come about.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped_by_tls: bool,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// `connect`, `greeting`, `ehlo`, `tls`, `ehlo after tls`.
    pub step: &'static str,
    pub milliseconds: u64,
    /// What the server said, or what was agreed on.
    pub said: String,
}

/// The server's certificate.
#[derive(Debug, Serialize)]
pub struct Certificate {
    pub names: Vec<String>,
    pub issuer: String,
    pub valid_from: Timestamp,
    pub valid_until: Timestamp,
    pub fingerprint: String,
    /// Whether it would do where `tls = "verified"` is demanded.
    pub verified: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What the host's TLSA records make of it, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dane: Option<ByTlsa>,
}

/// What the TLSA records of a host make of its certificates.
#[derive(Debug, Serialize)]
pub struct ByTlsa {
    /// Those that match one, as a zone writes them: `3 1 1 0a1b...`.
    pub matching: Vec<String>,
    /// Why nothing is sent there by DANE all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl ByTlsa {
    fn of(records: &Arc<TlsaSet>, stream: &Stream, host: &str) -> Self {
        let chain = stream.peer_certificates();
        let fault = records.judge(chain, host).err().map(|fault| fault.to_string());
        Self { matching: records.matching(chain).map(ToString::to_string).collect(), fault }
    }
}

/// Looks at a server, `within` this time, which is real.
pub async fn inspect(target: &Target, tls: &ClientTls, within: Duration) -> Inspection {
    let mut look = Look { target, tls, began: now(), seen: Inspection::of(target) };
    let deadline = look.began + within;
    let trouble = match timeout_at(deadline, look.take_steps()).await {
        Ok(Ok(())) => None,
        Ok(Err(trouble)) => Some(trouble),
        Err(_) => {
            let after = look.seen.steps.last().map_or("before it was connected", |step| step.step);
            Some(format!("no answer within {} (last step: {after})", humantime::format_duration(within)))
        }
    };
    look.seen.answers = trouble.is_none();
    look.seen.trouble = trouble;
    look.seen
}

/// What servers take to answer is real time.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

impl Inspection {
    fn of(target: &Target) -> Self {
        let (host, address) = (target.host.clone(), target.address);
        let (steps, certificate, trouble) = (Vec::new(), None, None);
        Self { host, address, answers: false, steps, certificate, trouble, stopped_by_tls: false }
    }
}

struct Look<'a> {
    target: &'a Target,
    tls: &'a ClientTls,
    /// When the step that is under way began.
    began: Instant,
    seen: Inspection,
}

impl Look<'_> {
    async fn take_steps(&mut self) -> Result<(), String> {
        // The deadline around all of this is shorter than any of these.
        const AMPLE: Duration = Duration::from_secs(600);
        let connected = Network::System.connect_from(self.target.address, self.target.source, AMPLE).await;
        let mut stream = connected.map_err(|error| format!("connecting: {error}"))?;
        self.took("connect", String::new());
        if self.target.implicit_tls {
            stream = self.handshake(stream, AMPLE).await?;
        }
        let hello = if self.target.lmtp { Hello::Lmtp } else { Hello::Extended };
        let settings = ClientSettings { hello, ..ClientSettings::new(self.target.hello()) };
        let mut client = Client::new(settings);
        self.until_ready(&mut client, &mut stream, "ehlo").await?;
        if client.extensions().starttls && !self.target.implicit_tls {
            client.start_tls();
            self.seen.stopped_by_tls = true;
            match drive(&mut client, &mut stream).await? {
                Step::StartTls => {}
                other => return Err(format!("starting TLS: {}", told(other))),
            }
            stream = self.handshake(stream, AMPLE).await?;
            self.seen.stopped_by_tls = false;
            client.tls_started();
            self.until_ready(&mut client, &mut stream, "ehlo after tls").await?;
        }
        client.quit();
        // It has answered: what it makes of a goodbye is no matter.
        let _ = drive(&mut client, &mut stream).await;
        Ok(())
    }

    async fn until_ready(
        &mut self,
        client: &mut Client,
        stream: &mut Stream,
        step: &'static str,
    ) -> Result<(), String> {
        let mut greeted = client.greeting().is_some();
        loop {
            match client.step() {
                Step::Send => {
                    if !greeted {
                        self.took("greeting", one_line(client.greeting()));
                        greeted = true;
                    }
                    write(client, stream).await?;
                }
                Step::NeedInput(_) => read(client, stream).await?,
                Step::Ready => {
                    self.took(step, one_line(client.answer_to_hello()));
                    return Ok(());
                }
                other => return Err(told(other)),
            }
        }
    }

    async fn handshake(&mut self, stream: Stream, limit: Duration) -> Result<Stream, String> {
        let host = &self.target.host;
        let started = stream.start_tls_client(self.tls, TlsCheck::Opportunistic, host, limit).await;
        let stream = started.map_err(|error| format!("TLS: {error}"))?;
        let agreed = stream.tls().map(|facts| format!("{} {}", facts.version, facts.cipher));
        self.took("tls", agreed.unwrap_or_default());
        self.seen.certificate = self.tls.look_at(stream.peer_certificates(), host).map(|seen| Certificate {
            names: seen.names,
            issuer: seen.issuer,
            valid_from: Timestamp::from_millis(seen.valid_from * 1000),
            valid_until: Timestamp::from_millis(seen.valid_until * 1000),
            fingerprint: seen.fingerprint,
            verified: seen.fault.is_none(),
            fault: seen.fault.map(|fault| fault.to_string()),
            dane: self.target.tlsa.as_ref().map(|records| ByTlsa::of(records, &stream, host)),
        });
        Ok(stream)
    }

    fn took(&mut self, step: &'static str, said: String) {
        let now = now();
        let milliseconds = now.duration_since(self.began).as_millis() as u64;
        self.began = now;
        self.seen.steps.push(Taken { step, milliseconds, said });
    }
}

/// Until the machine has something to say.
async fn drive(client: &mut Client, stream: &mut Stream) -> Result<Step, String> {
    loop {
        match client.step() {
            Step::Send => write(client, stream).await?,
            Step::NeedInput(_) => read(client, stream).await?,
            step => return Ok(step),
        }
    }
}

async fn read(client: &mut Client, stream: &mut Stream) -> Result<(), String> {
    match stream.read_buf(client.read_buffer()).await {
        Ok(0) => Err("the other side closed the connection".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn write(client: &mut Client, stream: &mut Stream) -> Result<(), String> {
    let written = async {
        stream.write_all_buf(client.output()).await?;
        stream.flush().await
    };
    written.await.map_err(|error| error.to_string())
}

fn told(step: Step) -> String {
    match step {
        Step::Refused(reply) | Step::TlsRefused(reply) => format!("the host said: {reply}"),
        Step::Failed(error) => error.to_string(),
        _ => "the other side closed the connection".to_owned(),
    }
}

fn one_line(reply: Option<&Reply>) -> String {
    reply.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::net::{ServerTls, Tlsa};

    /// Looks at a server on loopback that does this with its one connection.
    async fn look<F: Future<Output = ()> + Send + 'static>(
        within: Duration,
        server: impl FnOnce(Stream) -> F,
    ) -> Inspection {
        let mut listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let tlsa = TlsaSet { records: vec![unfit()], names: Vec::new() };
        let hostname = Some("relay.example.org".into());
        let target = Target {
            hostname,
            tlsa: Some(Arc::new(tlsa)),
            ..Target::new("mx.example.org", listener.local_addr())
        };
        let tls = ClientTls::trusting([]).unwrap();
        let (seen, ()) = tokio::join!(inspect(&target, &tls, within), async {
            server(listener.accept().await.unwrap().0).await;
        });
        seen
    }

    fn unfit() -> Tlsa {
        Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] }
    }

    async fn say(stream: &mut Stream, text: &str) {
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one command.
    async fn hear(stream: &mut Stream) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "closed in the midst of {heard:?}");
        }
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn shows_each_step_and_what_the_certificate_is_worth() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["mx.example.org".into()]).unwrap().self_signed(&key).unwrap();
        let (certificate, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let server = ServerTls::load(&certificate, &key_file).unwrap();
        let seen = look(Duration::from_secs(10), async move |mut stream| {
            say(&mut stream, "220 mx.example.org ready\r\n").await;
            assert_eq!(hear(&mut stream).await, "EHLO relay.example.org\r\n");
            say(&mut stream, "250-mx.example.org\r\n250-SIZE 1000\r\n250 STARTTLS\r\n").await;
            assert_eq!(hear(&mut stream).await, "STARTTLS\r\n");
            say(&mut stream, "220 go\r\n").await;
            let mut stream = stream.start_tls_server(&server, Duration::from_secs(5)).await.unwrap();
            hear(&mut stream).await;
            say(&mut stream, "250 mx.example.org\r\n").await;
            assert_eq!(hear(&mut stream).await, "QUIT\r\n");
            say(&mut stream, "221 bye\r\n").await;
        })
        .await;
        assert!(seen.answers, "{seen:?}");
        let steps: Vec<&str> = seen.steps.iter().map(|taken| taken.step).collect();
        assert_eq!(steps, ["connect", "greeting", "ehlo", "tls", "ehlo after tls"]);
        assert_eq!(seen.steps[1].said, "220 mx.example.org ready");
        assert_eq!(seen.steps[2].said, "250 mx.example.org SIZE 1000 STARTTLS");
        assert!(seen.steps[3].said.starts_with("TLSv1.3 TLS_"));
        let shown = seen.certificate.unwrap();
        assert_eq!((shown.names[0].as_str(), shown.verified), ("mx.example.org", false));
        let fault = shown.fault.unwrap();
        assert!(fault.contains("authority"), "{fault}");
        let dane = shown.dane.unwrap();
        assert_eq!(dane.matching, [""; 0]);
        assert_eq!(dane.fault.as_deref(), Some("no TLSA record of the host matches its certificate"));
    }

    #[tokio::test]
    async fn comes_from_the_address_of_ours_that_is_named() {
        let mut listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let source: IpAddr = "127.0.0.7".parse().unwrap();
        let target = Target { source: Some(source), ..Target::new("mx.example.org", listener.local_addr()) };
        let tls = ClientTls::trusting([]).unwrap();
        let (seen, client) = tokio::join!(inspect(&target, &tls, Duration::from_secs(10)), async {
            listener.accept().await.unwrap().0.peer()
        });
        assert_eq!((client.ip(), seen.answers), (source, false));
    }

    #[test]
    fn without_a_name_of_ours_we_are_called_by_our_address() {
        let target = Target::new("mx.example.org", "127.0.0.2:25".parse().unwrap());
        assert_eq!(target.hello(), "[127.0.0.1]");
    }

    #[tokio::test]
    async fn tells_how_far_it_got() {
        let refused = look(Duration::from_secs(10), async |mut stream| {
            say(&mut stream, "554 5.7.1 not you\r\n").await;
            let _ = stream.read_buf(&mut Vec::new()).await;
        })
        .await;
        assert!(!refused.answers);
        assert_eq!(refused.trouble.as_deref(), Some("the host said: 554 5.7.1 not you"));
        let silent = look(Duration::from_millis(50), async |mut stream| {
            let _ = stream.read_buf(&mut Vec::new()).await;
        })
        .await;
        assert_eq!(silent.trouble.as_deref(), Some("no answer within 50ms (last step: connect)"));
    }
}
