//! The crate mailin-embedded on both sides of a relay (feature `mailin`): in front of it, with our intake, and behind
//! it, as an upstream that another maker wrote.
//!
//! Contract: the real server of that crate over loopback. What it answers 250 is delivered once and unaltered.
//! Not here: what mailin does with commands out of order.

mod client;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, Sender};

use mailin_embedded::{Handler, Response, Server, SslConfig, response};
use posthouse::Relay;
use posthouse::mail::RouteTable;
use posthouse::mailin::Intake;
use posthouse::net::Network;
use posthouse::relay::Settings;

use client::{Client, PATIENCE};

/// A server that keeps what it hears. Its thread ends with the process.
fn serve(handler: impl Handler + Clone + Send + 'static) -> SocketAddr {
    serve_with(handler, SslConfig::None)
}

fn serve_with(handler: impl Handler + Clone + Send + 'static, ssl: SslConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::new(handler);
    server.with_name("mailin.example.org").with_tcp_listener(listener).with_ssl(ssl).unwrap();
    std::thread::spawn(move || server.serve().unwrap());
    address
}

/// What the upstream has taken: sender, recipients, content.
type Taken = (String, Vec<String>, String);

#[derive(Clone)]
struct Upstream {
    taken: Sender<Taken>,
    sender: String,
    recipients: Vec<String>,
    content: Vec<u8>,
}

impl Handler for Upstream {
    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("nobody@") { response::NO_MAILBOX } else { response::OK }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        (self.sender, self.recipients) = (from.to_owned(), to.to_vec());
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.content.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let content = String::from_utf8(std::mem::take(&mut self.content)).unwrap();
        self.taken.send((self.sender.clone(), self.recipients.clone(), content)).unwrap();
        response::OK
    }
}

/// A relay between two servers of that crate.
async fn between() -> (Relay, SocketAddr, Receiver<Taken>) {
    let (sender, taken) = mpsc::channel();
    let upstream =
        Upstream { taken: sender, sender: String::new(), recipients: Vec::new(), content: Vec::new() };
    let upstream = serve(upstream);
    let mut settings = Settings::new("relay.example.org");
    settings.routes = RouteTable { routes: vec![] };
    settings.routes.routes.push(posthouse::mail::Route::new(
        ["example.com".parse().unwrap()],
        posthouse::mail::Via::Upstream("main".into()),
    ));
    settings.route.groups.insert("main".into(), format!("smtp://{upstream}?tls=none").parse().unwrap());
    let relay = Relay::builder(settings).start().await.unwrap();
    let front = serve(Intake::new(relay.clone()));
    (relay, front, taken)
}

async fn next(taken: Receiver<Taken>) -> (Taken, Receiver<Taken>) {
    let wait = move || (taken.recv_timeout(PATIENCE).expect("the upstream takes it"), taken);
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mailin_answers_250_reaches_another_mailin_unaltered() {
    let (relay, front, taken) = between().await;
    let mut client = Client::connect(&Network::System, front).await;
    assert!(client.reply().await.starts_with("220 "));
    client.talk(&[("EHLO client.example.org", "250-")]).await;
    let content = "Subject: through\r\n\r\n..a dot\r\nand more\r\n";
    client.transaction().await;
    client.send(content.as_bytes()).await;
    let reply = client.say(".").await;
    assert!(reply.starts_with("250 2.0.0 ") && reply.ends_with(" is safe here"), "{reply}");
    let ((sender, recipients, received), taken) = next(taken).await;
    assert_eq!(
        (sender.as_str(), recipients.as_slice()),
        ("alice@example.org", &["bob@example.com".to_owned()][..])
    );
    assert!(received.ends_with(&content.replace("..a", ".a")), "{received:?}");

    // The same session goes on, and a second message is another one.
    client.transaction().await;
    let reply = client.say("Subject: second\r\n\r\nx\r\n.").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let ((_, _, second), _) = next(taken).await;
    assert!(second.contains("Subject: second") && !second.contains("through"), "{second:?}");
    relay.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_relay_are_those_of_mailin() {
    let (relay, front, taken) = between().await;
    let mut client = Client::connect(&Network::System, front).await;
    assert!(client.reply().await.starts_with("220 "));
    client.talk(&[("EHLO client.example.org", "250-")]).await;
    let to_nowhere =
        [("MAIL FROM:<alice@example.org>", "250 "), ("RCPT TO:<bob@nowhere.test>", "250 "), ("DATA", "354 ")];
    client.talk(&to_nowhere).await;
    let reply = client.say("Subject: x\r\n\r\nx\r\n.").await;
    assert!(reply.starts_with("550 5.4.4 "), "{reply}");
    // The session goes on: the next message is taken.
    client.transaction().await;
    let reply = client.say("Subject: x\r\n\r\nx\r\n.").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let (_, taken) = next(taken).await;

    // What that server reads as the end of content, and others do not, ends the session: nothing slips through.
    client.transaction().await;
    let smuggled = "Subject: x\r\n\r\nx\n.\r\nMAIL FROM:<mallory@example.net>\r\nRCPT TO:<bob@example.com>\r\n\
                    DATA\r\nSubject: smuggled\r\n\r\nx\r\n.";
    let reply = client.say(smuggled).await;
    assert!(reply.starts_with("550 5.6.11 "), "{reply}");
    let more = client.rest().await.unwrap_or_default();
    assert!(more.is_empty(), "{}", more.escape_ascii());
    relay.shutdown(PATIENCE).await.unwrap();
    assert!(taken.try_recv().is_err(), "nothing else was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls_of_that_server_works_once_the_program_has_chosen_its_cryptography() {
    let (relay, _, taken) = between().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    client::certificate(folder.path());
    let ssl = SslConfig::SelfSigned { cert_path: file("fullchain.pem"), key_path: file("key.pem") };
    let intake = Intake::new(relay.clone());
    let unprepared = std::panic::AssertUnwindSafe(|| serve_with(intake.clone(), ssl.clone()));
    assert!(std::panic::catch_unwind(unprepared).is_err(), "without the line of the module's doc it panics");
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let front = serve_with(intake, ssl);
    let mut client = Client::connect(&Network::System, front).await;
    assert!(client.reply().await.starts_with("220 "));
    client.talk(&[("EHLO client.example.org", "250-"), ("STARTTLS", "220 ")]).await;
    let mut client = client.start_tls().await;
    client.talk(&[("EHLO client.example.org", "250-")]).await;
    client.transaction().await;
    let reply = client.say("Subject: by TLS\r\n\r\nx\r\n.").await;
    assert!(reply.starts_with("250 "), "{reply}");
    let ((_, _, received), _) = next(taken).await;
    assert!(received.contains("Subject: by TLS"), "{received:?}");
    relay.shutdown(PATIENCE).await.unwrap();
}
