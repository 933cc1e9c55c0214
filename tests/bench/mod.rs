//! A relay that can be stopped and started again: a spool in a folder, two upstreams, and a network in memory.
//!
//! Contract: the upstream `main` can be told to be busy. Nothing sleeps for a fixed time: everything waits for an event
//! of the tracking log, and at most [`PATIENCE`].
//! Not here: paused time, which a spool on disk cannot follow.

#![allow(dead_code)] // each test binary uses its part

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthouse::clock::Clock;
use posthouse::mail::{Address, Envelope, QueueId, RouteTable};
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::Listed;
use posthouse::relay::{Keep, Relay, Settings, StartError, Track};
use posthouse::route::Zone;
use posthouse::spool;
use posthouse::tracking::{self, Event, EventName, Events};

use crate::world::{Asked, Say, Upstream, reply};

/// More than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// A spool's folder, two upstreams, and a network. Relays come and go.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub memory: MemoryNetwork,
    pub network: Network,
    pub main: Upstream,
    /// Whether `main` says 451 to the recipients whose names begin with "busy".
    pub busy: Arc<AtomicBool>,
    pub other: Upstream,
}

/// `main` refuses gone@... for good, and busy@... for now while it is told to.
pub async fn bench() -> Bench {
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let clock = Clock::system();
    let busy = Arc::new(AtomicBool::new(true));
    let is_busy = Arc::clone(&busy);
    let script = move |asked: &Asked, _| match asked {
        Asked::Recipient(to) if to.starts_with("busy") && is_busy.load(Ordering::SeqCst) => {
            Say::No(reply("451 4.2.1 the mailbox is busy"))
        }
        Asked::Recipient(to) if to.starts_with("gone") => Say::No(reply("550 5.1.1 no such user")),
        _ => Say::Yes,
    };
    let main = Upstream::start(&network, "192.0.2.10:25", &clock, script).await;
    let other = Upstream::start(&network, "192.0.2.20:25", &clock, |_, _| Say::Yes).await;
    Bench { folder: tempfile::tempdir().unwrap(), memory, network, main, busy, other }
}

pub fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.keep =
        Keep::Folder(spool::Settings { min_free: 0, ..spool::Settings::new(folder.join("spool")) });
    settings.track = Track::Folder { path: folder.join("tracking"), keep: 30 * DAY };
    settings.routes = RouteTable::all_via("main");
    let groups = &mut settings.route.groups;
    groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    groups.insert("other".into(), "smtp://192.0.2.20:25?tls=none".parse().unwrap());
    settings
}

impl Bench {
    pub fn settings(&self) -> Settings {
        settings(self.folder.path())
    }

    pub async fn start(&self) -> Relay {
        self.start_with(|_| {}).await
    }

    pub async fn start_with(&self, change: impl FnOnce(&mut Settings)) -> Relay {
        let mut settings = self.settings();
        change(&mut settings);
        self.try_start(settings).await.unwrap()
    }

    pub async fn try_start(&self, settings: Settings) -> Result<Relay, StartError> {
        let builder = Relay::builder(settings).network(self.network.clone());
        builder.names(Arc::new(Zone::new())).start().await
    }

    /// Everything that stands in the tracking log about this message.
    pub fn story(&self, id: QueueId) -> Vec<Event> {
        self.read(tracking::Filter { id: Some(id), ..Default::default() })
    }

    pub fn events(&self) -> Vec<Event> {
        self.read(tracking::Filter::default())
    }

    fn read(&self, filter: tracking::Filter) -> Vec<Event> {
        let records = tracking::read(&self.folder.path().join("tracking"), &filter).unwrap();
        records.map(|record| record.unwrap()).collect()
    }

    pub fn names(&self, id: QueueId) -> Vec<EventName> {
        self.story(id).iter().map(|event| event.event).collect()
    }
}

pub fn letter(to: &[&str]) -> Envelope {
    let sender: Address = "alice@example.org".parse().unwrap();
    Envelope::new(sender.into(), to.iter().map(|to| to.parse().unwrap()))
}

pub async fn submit(relay: &Relay, to: &[&str]) -> QueueId {
    relay.submit(letter(to), "Subject: the plan\r\n\r\nHello.\r\n").await.unwrap()
}

/// The next event of this name; others are passed over.
pub async fn until(events: &mut Events, name: EventName) -> Event {
    let search = async {
        loop {
            let event = events.next().await.expect("the relay goes on").expect("no event is missed");
            if event.event == name {
                return (*event).clone();
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no {name} comes"))
}

pub async fn stop(relay: &Relay) {
    relay.shutdown(PATIENCE).await.unwrap();
}

/// Submits, and waits until the upstream has said 451.
pub async fn deferred(relay: &Relay, to: &[&str]) -> QueueId {
    let mut events = relay.events();
    let id = submit(relay, to).await;
    assert_eq!(until(&mut events, EventName::Defer).await.id, Some(id));
    id
}

pub async fn show(relay: &Relay, id: QueueId) -> Listed {
    relay.queue().show(id).await.unwrap()
}

/// The queue is empty, and stays in step with the spool.
pub async fn is_empty(relay: &Relay) {
    let clock = Clock::system();
    let emptied = async {
        while relay.spool_status().messages > 0 || !relay.queue().is_empty() {
            clock.wait(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.expect("the queue does not get empty");
}
