//! The way to an upstream as a configuration file says it: whose certificate is trusted, which one is shown, from which address.
//! Over the system's loopback, in real time, with a server that demands all of that.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::Clock;
use posthouse::config;
use posthouse::mail::{Envelope, ReversePath};
use posthouse::net::{
    AskForCertificate, Authorities, ClientCertificates, Listener, Network, ServerTls, Stream,
};
use posthouse::relay::{Keep, Relay, Settings, Track};
use posthouse::route::Zone;
use posthouse::tracking::{Event, EventName};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const LIMIT: Duration = Duration::from_secs(20);

/// A session as the server saw it.
#[derive(Debug, Default)]
struct Seen {
    from: Option<IpAddr>,
    /// The names in the client's certificate, where it was verified.
    client: Vec<String>,
    commands: Vec<String>,
}

/// A folder with authorities and pairs, and a server that demands a certificate from the first authority.
struct Town {
    folder: tempfile::TempDir,
    server: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes NAME.pem and NAME-key.pem.
fn pair(folder: &Path, name: &str, subject: &str, by: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![subject.to_owned()]).unwrap().signed_by(&key, by).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), made.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

impl Town {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (authority("ours"), authority("another"));
        std::fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
        std::fs::write(folder.path().join("other-ca.pem"), other.pem()).unwrap();
        pair(folder.path(), "server", "127.0.0.1", &ours);
        pair(folder.path(), "client", "relay.example.org", &ours);
        let in_folder = |name: &str| folder.path().join(name);
        let authorities = Some(Authorities::load(&in_folder("ca.pem")).unwrap());
        let tls = ServerTls::load(&in_folder("server.pem"), &in_folder("server-key.pem")).unwrap();
        let tls = tls.asking(ClientCertificates { ask: AskForCertificate::Require, authorities });
        let listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (server, seen) = (listener.local_addr(), Arc::default());
        tokio::spawn(serve(listener, tls, Arc::clone(&seen)));
        Self { folder, server, seen }
    }

    /// A relay whose one group has these lines besides its host.
    async fn relay(&self, lines: &str) -> (Relay, UnboundedReceiver<Arc<Event>>) {
        let (sender, events) = unbounded_channel();
        let settings = Settings { track: Track::Channel(sender), ..self.settings(lines) };
        let builder = Relay::builder(settings).clock(Clock::system()).names(Arc::new(Zone::new()));
        (builder.start().await.unwrap(), events)
    }

    fn settings(&self, lines: &str) -> Settings {
        let file = self.folder.path().join("posthouse.toml");
        let text = format!(
            "hostname = \"relay.example.org\"\n[upstream.main]\n\
             hosts = [\"smtp://{}?tls=verified\"]\n{lines}\n",
            self.server
        );
        std::fs::write(&file, text).unwrap();
        let loaded = config::load(Some(&file), [], &config::Flags::default())
            .unwrap_or_else(|faults| panic!("{faults}"));
        let mut settings = loaded.settings.relay();
        (settings.keep, settings.memory) = (Keep::Memory, None);
        settings.listeners.clear();
        settings
    }
}

async fn serve(mut listener: Listener, tls: ServerTls, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, peer)) = listener.accept().await {
        seen.lock().unwrap().push(Seen { from: Some(peer.ip()), ..Seen::default() });
        tokio::spawn(session(stream, tls.clone(), Arc::clone(&seen)));
    }
}

/// A server written without any of our own code for dialogues; it ends when the client does.
async fn session(stream: Stream, tls: ServerTls, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 peer.example ESMTP\r\n").await.unwrap();
    let mut content = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if content && line != ".\r\n" {
            continue;
        }
        let verb = line.split([' ', ':']).next().unwrap_or_default().trim().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" if stream.get_ref().tls().is_none() => b"250-peer.example\r\n250 STARTTLS\r\n",
            "STARTTLS" => b"220 go\r\n",
            "DATA" => b"354 go\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        content = verb == "DATA";
        if let Some(seen) = seen.lock().unwrap().last_mut() {
            seen.commands.push(verb.clone());
        }
        if stream.write_all(reply).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if verb == "STARTTLS" {
            let Ok(secured) = stream.into_inner().start_tls_server(&tls, LIMIT).await else { return };
            let shown = secured.tls().and_then(|facts| facts.client_certificate.clone());
            if let (Some(seen), Some(shown)) =
                (seen.lock().unwrap().last_mut(), shown.filter(|shown| shown.verified))
            {
                seen.client = shown.names;
            }
            stream = BufReader::new(secured);
        }
    }
}

async fn submit(relay: &Relay) {
    let sender = ReversePath::from("alice@example.org".parse::<posthouse::mail::Address>().unwrap());
    let envelope = Envelope::new(sender, ["bob@example.com".parse().unwrap()]);
    relay.submit(envelope, "Subject: lunch\r\n\r\nAt noon?\r\n").await.unwrap();
}

/// Waits for the event of this name.
async fn told(events: &mut UnboundedReceiver<Arc<Event>>, name: EventName) -> Arc<Event> {
    let wait = async {
        loop {
            let event = events.recv().await.expect("the relay runs");
            if event.event == name {
                return event;
            }
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("no {name}"))
}

#[tokio::test]
async fn a_group_trusts_its_own_authority_shows_its_own_certificate_and_comes_from_its_own_address() {
    let town = Town::new().await;
    let (relay, mut events) = town
        .relay(
            "ca_file = \"ca.pem\"\ncertificate = \"client.pem\"\nkey = \"client-key.pem\"\n\
             source_address = [\"127.0.0.2\", \"::1\"]",
        )
        .await;
    submit(&relay).await;
    let sent = told(&mut events, EventName::Send).await;
    assert_eq!(sent.tls_verified_by.as_deref(), Some("ca"), "{sent:?}");
    let seen = town.seen.lock().unwrap();
    assert_eq!(seen[0].from, Some("127.0.0.2".parse().unwrap()));
    assert_eq!(seen[0].client[0], "relay.example.org");
}

#[tokio::test]
async fn without_a_certificate_the_server_ends_it_and_a_reload_mends_that() {
    let town = Town::new().await;
    let (relay, mut events) = town.relay("ca_file = \"ca.pem\"").await;
    submit(&relay).await;
    let down = told(&mut events, EventName::Sleep).await;
    let reason = down.reason.clone().unwrap();
    assert!(
        reason.ends_with("it demands a certificate of ours: write certificate and key in its group"),
        "{reason}"
    );
    assert_eq!(town.seen.lock().unwrap()[0].from, Some("127.0.0.1".parse().unwrap()));
    assert!(
        !town.seen.lock().unwrap().iter().any(|seen| seen.commands.iter().any(|verb| verb == "MAIL")),
        "{down:?}"
    );
    relay
        .reload(town.settings("ca_file = \"ca.pem\"\ncertificate = \"client.pem\"\nkey = \"client-key.pem\""))
        .await
        .unwrap();
    relay.retry_all(None);
    told(&mut events, EventName::Send).await;
    assert_eq!(town.seen.lock().unwrap().last().unwrap().client[0], "relay.example.org");
}

#[tokio::test]
async fn an_authority_that_is_not_named_is_not_trusted_and_nothing_is_sent() {
    let town = Town::new().await;
    for lines in ["ca_file = \"other-ca.pem\"", "certificate = \"client.pem\"\nkey = \"client-key.pem\""] {
        let (relay, mut events) = town.relay(lines).await;
        submit(&relay).await;
        let deferred = told(&mut events, EventName::Defer).await;
        assert_eq!(deferred.status.unwrap().to_string(), "4.7.5");
        let reason = deferred.reason.clone().unwrap();
        assert!(reason.contains("not from an authority that this machine trusts"), "{reason}");
    }
    assert!(town.seen.lock().unwrap().iter().all(|seen| seen.commands == ["EHLO", "STARTTLS"]));
}

#[tokio::test]
async fn a_source_address_that_is_not_ours_is_told() {
    let town = Town::new().await;
    let (relay, mut events) = town.relay("ca_file = \"ca.pem\"\nsource_address = [\"192.0.2.5\"]").await;
    submit(&relay).await;
    let reason = told(&mut events, EventName::Defer).await.reason.clone().unwrap();
    assert!(
        reason.contains("192.0.2.5 is no address of this machine, and source_address names it"),
        "{reason}"
    );
    assert!(town.seen.lock().unwrap().is_empty());
}
