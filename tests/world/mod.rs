//! A world for a relay under test: an upstream that follows a script, on the network in memory and on paused time.

#![allow(dead_code)] // each test binary uses its part

pub mod answers;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::{Envelope, Reply, Route, RouteTable, Via};
use posthouse::net::{Network, Stream};
use posthouse::relay::{Relay, Settings as RelaySettings};
use posthouse::route::Zone;
use posthouse::smtp::server::{Server, Settings, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// 2026-11-20T12:00:00Z, a Friday.
pub const FRIDAY_NOON: Timestamp = Timestamp::from_millis(1_795_176_000_000);

/// A reply by its text: `451 4.7.1 try later`.
pub fn reply(text: &str) -> Reply {
    Reply::new(text[..3].parse().expect("a reply code"), None, &text[4..])
}

/// A relay that stands in memory, with these upstream groups: the name of each, and its hosts with blanks between them, which
/// are spoken to in clear. All mail goes by the first.
pub fn settings(groups: &[(&str, &str)]) -> RelaySettings {
    let mut settings = RelaySettings::new("relay.example.org");
    for (name, hosts) in groups {
        let urls: Vec<String> = hosts.split(' ').map(|host| format!("smtp://{host}?tls=none")).collect();
        settings.route.groups.insert((*name).to_owned(), urls.join(" ").parse().expect("hosts"));
    }
    if let Some((first, _)) = groups.first() {
        settings.routes = RouteTable::all_via(*first);
    }
    settings
}

/// Mail for this domain, or for `*`, goes by that group.
pub fn route(domain: &str, group: &str) -> Route {
    Route::new([domain.parse().expect("a domain")], Via::Upstream(group.to_owned()))
}

/// The relay by these settings, in a world in which DNS knows nothing.
pub async fn start(settings: RelaySettings, network: &Network, clock: &Clock) -> Relay {
    let builder = Relay::builder(settings).clock(clock.clone()).network(network.clone());
    builder.names(Arc::new(Zone::new())).start().await.expect("it starts")
}

/// What the script says to a question.
pub enum Say {
    Yes,
    No(Reply),
    /// Closes the connection without a word.
    HangUp,
}

/// Where in the dialogue the script is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Greeting,
    Mail(String),
    Recipient(String),
    EndOfContent,
}

/// A message that the upstream has taken.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Timestamp,
    pub envelope: Envelope,
    pub content: String,
}

type Script = Box<dyn FnMut(&Asked, Timestamp) -> Say + Send>;

/// A server that does what its script says, and remembers.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Mutex<Shared>>,
    clock: Clock,
}

struct Shared {
    script: Script,
    received: Vec<Received>,
    asked: Vec<(Timestamp, Asked)>,
}

impl Upstream {
    /// Listens on `address` of `network` until the runtime ends.
    pub async fn start(
        network: &Network,
        address: &str,
        clock: &Clock,
        script: impl FnMut(&Asked, Timestamp) -> Say + Send + 'static,
    ) -> Self {
        let shared = Shared { script: Box::new(script), received: Vec::new(), asked: Vec::new() };
        let upstream = Self { shared: Arc::new(Mutex::new(shared)), clock: clock.clone() };
        let address: SocketAddr = address.parse().expect("an address with a port");
        let mut listener = network.bind(address).await.expect("the address is free");
        let serving = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().session(stream));
            }
        });
        upstream
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().unwrap().received.clone()
    }

    /// When the script was asked what.
    pub fn asked(&self) -> Vec<(Timestamp, Asked)> {
        self.shared.lock().unwrap().asked.clone()
    }

    fn say(&self, asked: Asked) -> Say {
        let now = self.clock.now();
        let mut shared = self.shared.lock().unwrap();
        let say = (shared.script)(&asked, now);
        shared.asked.push((now, asked));
        say
    }

    async fn session(self, mut stream: Stream) {
        let mut server = Server::new(Settings::new("upstream.example"));
        loop {
            match server.step() {
                Step::NeedInput => match stream.read_buf(server.read_buffer()).await {
                    Ok(octets) if octets > 0 => {}
                    _ => return,
                },
                Step::Send => {
                    if stream.write_all_buf(server.output()).await.is_err() {
                        return;
                    }
                }
                Step::Auth(question) => drop(question),
                Step::Greet(question) => match self.say(Asked::Greeting) {
                    Say::Yes => question.accept(),
                    Say::No(reply) => question.refuse(reply),
                    Say::HangUp => return,
                },
                Step::Mail(question) => match self.say(Asked::Mail(question.mail().reverse_path.to_string()))
                {
                    Say::Yes => question.accept(),
                    Say::No(reply) => question.refuse(reply),
                    Say::HangUp => return,
                },
                Step::Recipient(question) => {
                    match self.say(Asked::Recipient(question.recipient().address.to_string())) {
                        Say::Yes => question.accept(),
                        Say::No(reply) => question.refuse(reply),
                        Say::HangUp => return,
                    }
                }
                Step::Content(question) => question.accept(),
                Step::EndOfContent(question) => {
                    let say = self.say(Asked::EndOfContent);
                    let (envelope, content, answer) = question.into_parts();
                    match say {
                        Say::Yes => {
                            let content = String::from_utf8_lossy(&content.to_bytes()).into_owned();
                            let received = Received { at: self.clock.now(), envelope, content };
                            self.shared.lock().unwrap().received.push(received);
                            answer.accept("taken");
                        }
                        Say::No(reply) => answer.refuse(reply),
                        Say::HangUp => return,
                    }
                }
                Step::StartTls => unreachable!("TLS is not offered"),
                Step::Closed => return,
            }
        }
    }
}
