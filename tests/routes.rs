//! Routes as a whole relay follows them: each selector, each way, a redirect, other routes while mail waits, a restart, and
//! a group that falls back to another. In memory on paused time; what needs a spool in a folder, in real time.

mod bench;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use bench::{HOUR, bench, deferred, is_empty, show, stop, submit, until};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use posthouse::accept::{Client, ListenerSettings};
use posthouse::clock::Clock;
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network, Weather};
use posthouse::queue::{ListedState, Matching, OperateError};
use posthouse::relay::{Relay, Settings};
use posthouse::route::{Group, Terms};
use posthouse::tracking::{Event, EventName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use world::{Asked, FRIDAY_NOON, Received, Say, Upstream, reply};

const MINUTE: Duration = Duration::from_secs(60);

/// A relay in memory with three upstreams: main, other, spare.
struct Town {
    relay: Relay,
    clock: Clock,
    network: Network,
    memory: MemoryNetwork,
    upstreams: [Upstream; 3],
}

const NAMES: [&str; 3] = ["main", "other", "spare"];
const HOSTS: [&str; 3] = ["192.0.2.10:25", "192.0.2.20:25", "192.0.2.30:25"];

fn settings(routes: Vec<Route>) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.routes = RouteTable { routes };
    for (name, host) in NAMES.iter().zip(HOSTS) {
        let hosts = vec![format!("smtp://{host}?tls=none").parse().unwrap()];
        let terms = Terms { group: Some((*name).to_owned()), ..Terms::default() };
        settings.route.groups.insert((*name).to_owned(), Group::new(hosts, terms));
    }
    settings
}

impl Town {
    async fn with(routes: Vec<Route>) -> Self {
        Self::built(settings(routes)).await
    }

    async fn built(settings: Settings) -> Self {
        let clock = Clock::simulated(FRIDAY_NOON, 1);
        let memory = MemoryNetwork::new();
        let network = Network::Memory(memory.clone());
        let mut upstreams = Vec::new();
        for host in HOSTS {
            let script = |asked: &Asked, _| match asked {
                Asked::Recipient(to) if to.starts_with("busy") => Say::No(reply("451 4.2.1 busy")),
                _ => Say::Yes,
            };
            upstreams.push(Upstream::start(&network, host, &clock, script).await);
        }
        let relay = world::start(settings, &network, &clock).await;
        let upstreams = <[Upstream; 3]>::try_from(upstreams).ok().unwrap();
        Self { relay, clock, network, memory, upstreams }
    }

    /// What each upstream has got: its name and the recipients, one entry for each message.
    fn got(&self) -> Vec<(&'static str, Vec<String>)> {
        let of = |(name, upstream): (&&'static str, &Upstream)| {
            let recipients = |received: Received| {
                received.envelope.recipients.iter().map(|r| r.address.to_string()).collect::<Vec<_>>()
            };
            let name = *name;
            upstream
                .received()
                .into_iter()
                .map(move |received| (name, recipients(received)))
                .collect::<Vec<_>>()
        };
        NAMES.iter().zip(&self.upstreams).flat_map(of).collect()
    }

    async fn submit(&self, from: &str, to: &[&str]) -> QueueId {
        self.relay.submit(envelope(from, to), "Subject: x\r\n\r\nHello.\r\n").await.unwrap()
    }

    async fn wait(&self, time: Duration) {
        self.clock.wait(time).await;
    }

    async fn reload(&self, routes: Vec<Route>) {
        self.relay.reload(settings(routes)).await.unwrap();
    }
}

fn envelope(from: &str, to: &[&str]) -> Envelope {
    let reverse_path = match from {
        "" => ReversePath::NULL,
        from => from.parse::<Address>().unwrap().into(),
    };
    Envelope::new(reverse_path, to.iter().map(|to| to.parse().unwrap()))
}

fn to(domain: &str, via: Via) -> Route {
    Route::new([domain.parse().unwrap()], via)
}

fn upstream(name: &str) -> Via {
    Via::Upstream(name.to_owned())
}

fn everything(name: &str) -> Route {
    to("*", upstream(name))
}

/// The events of one message, as they come.
async fn story(events: &mut posthouse::tracking::Events, id: QueueId) -> Vec<Event> {
    let mut story = Vec::new();
    while let Ok(Some(Ok(event))) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
        if event.id == Some(id) {
            story.push((*event).clone());
        }
    }
    story
}

#[tokio::test(start_paused = true)]
async fn mail_goes_by_its_recipient_its_sender_its_user_and_its_listener() {
    let any = |via: &str| Route::new([], upstream(via));
    let mut settings = settings(vec![
        Route { senders: vec![".shop.example".parse().unwrap()], ..to("example.com", upstream("other")) },
        Route { users: vec!["app".into()], ..any("spare") },
        Route { listeners: vec!["inner".into()], ..any("spare") },
        to("example.com", upstream("main")),
        Route { senders: vec!["<>".parse().unwrap()], ..any("other") },
    ]);
    let listener =
        ListenerSettings { name: "inner".into(), ..ListenerSettings::new("192.0.2.50:25".parse().unwrap()) };
    settings.listeners = vec![listener, ListenerSettings::new("192.0.2.50:587".parse().unwrap())];
    settings.accept.networks = vec!["0.0.0.0/0".parse().unwrap()];
    let town = Town::built(settings).await;
    town.submit("a@eu.shop.example", &["one@example.com"]).await;
    town.submit("a@example.net", &["two@example.com"]).await;
    town.submit("", &["three@example.net"]).await;
    let client = Client { user: Some("app".into()), ..Client::here() };
    town.relay.submit_from(&client, envelope("a@example.net", &["four@example.net"]), "\r\n").await.unwrap();
    let none = town.relay.submit(envelope("a@example.net", &["five@example.net"]), "\r\n").await.unwrap_err();
    let said = "550 5.4.4 no route to this domain is configured here for mail from example.net without \
                authentication by no listener (every [[route]] for the recipient's domain is for other senders, users or listeners)";
    assert!(none.to_string().contains(said), "{none}");
    for (port, said) in [(25, "250"), (587, "550")] {
        let mut stream = town.network.connect(([192, 0, 2, 50], port).into(), MINUTE).await.unwrap();
        let dialogue = "EHLO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<six@example.net>\r\nDATA\r\n";
        let mut heard = String::new();
        for line in dialogue.split_inclusive("\r\n").chain(["\r\nHello.\r\n.\r\n", "QUIT\r\n"]) {
            stream.write_all(line.as_bytes()).await.unwrap();
        }
        stream.read_to_string(&mut heard).await.unwrap();
        let replies: Vec<&str> = heard.lines().filter(|line| line.as_bytes()[3] == b' ').collect();
        assert!(replies[3].starts_with(said), "{heard}");
    }
    town.wait(MINUTE).await;
    let expected = [
        ("main", "two@example.com"),
        ("other", "one@example.com"),
        ("other", "three@example.net"),
        ("spare", "four@example.net"),
        ("spare", "six@example.net"),
    ];
    assert_eq!(town.got(), expected.map(|(name, to)| (name, vec![to.to_owned()])));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_even_answer_costs_little_while_another_stands_ready() {
    const DEAD: &str = "192.0.2.40:25";
    const SECOND: Duration = Duration::from_secs(1);
    let group = |urls: &[&str]| {
        let hosts = urls.iter().map(|at| format!("smtp://{at}?tls=none").parse().unwrap()).collect();
        Group::new(hosts, Terms::default())
    };
    for (weather, costs, at_last) in [(Some(Weather::Silent), 10, 30), (None, 30, 300)] {
        let mut settings = settings(vec![to("example.com", upstream("main")), everything("other")]);
        settings.route.groups.insert("main".into(), group(&[DEAD, HOSTS[0]]));
        settings.route.groups.insert("other".into(), group(&[DEAD]));
        let town = Town::built(settings).await;
        // Where it can be connected to, it says nothing: its program is stopped.
        let mut listener = town.network.bind(DEAD.parse().unwrap()).await.unwrap();
        town.memory.set_weather(DEAD.parse().unwrap(), weather);
        tokio::spawn(async move {
            let mut streams = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                streams.push(stream);
            }
        });
        let mut events = town.relay.events();
        let alone = town.submit("alice@example.org", &["bob@example.net"]).await;
        town.submit("alice@example.org", &["bob@example.com"]).await;
        town.wait(SECOND * (costs - 1)).await;
        assert_eq!(town.got(), [], "it is waited for");
        town.wait(SECOND * 2).await;
        assert_eq!(town.got(), [("main", vec!["bob@example.com".to_owned()])], "{weather:?}");
        // The last one has the whole time.
        town.wait(SECOND * (at_last - costs - 2)).await;
        assert_eq!(story(&mut events, alone).await.len(), 1, "{weather:?}: received, and nothing else");
        town.wait(SECOND * 2).await;
        let told: Vec<_> = story(&mut events, alone).await.iter().map(|event| event.event).collect();
        assert_eq!(told, [EventName::Defer], "{weather:?}");
        stop(&town.relay).await;
    }
}

/// A name server that knows one address, for every name.
async fn name_server(address: [u8; 4]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut octets).await {
            let asked = Message::from_vec(&octets[..length]).unwrap();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            let query = asked.queries[0].clone();
            if query.query_type() == RecordType::A {
                let data = RData::A(A(address.into()));
                answer.add_answer(Record::from_rdata(query.name().clone(), 3600, data));
            }
            answer.add_query(query);
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    at
}

#[tokio::test]
async fn other_name_servers_are_asked_from_a_reload_on_and_what_the_former_said_is_forgotten() {
    let mut settings = settings(vec![everything("main")]);
    settings.route.groups.insert("main".into(), "smtp://smarthost.example?tls=none".parse().unwrap());
    settings.dns_servers = vec![name_server([192, 0, 2, 10]).await];
    let network = Network::Memory(MemoryNetwork::new());
    let relay = Relay::builder(settings.clone()).network(network).start().await.unwrap();
    let main = Destination::Upstream("main".into());
    let first = async || relay.router().plan(&main).await.unwrap().hops[0].address.to_string();
    assert_eq!(first().await, "192.0.2.10:25");
    settings.dns_servers = vec![name_server([192, 0, 2, 20]).await];
    assert_eq!(first().await, "192.0.2.10:25");
    relay.reload(settings).await.unwrap();
    assert_eq!(first().await, "192.0.2.20:25");
    stop(&relay).await;
}

#[tokio::test(start_paused = true)]
async fn held_mail_is_not_tried_told_of_or_given_up_and_goes_with_its_whole_time_when_the_routes_change() {
    let town = Town::with(vec![to("example.com", Via::Hold), everything("main")]).await;
    let mut events = town.relay.events();
    let mut asking = envelope("alice@example.org", &["busy@example.com"]);
    let by = DeliverBy { seconds: 3600, mode: ByMode::Notify, trace: false };
    asking.deliver_by = Some(by);
    let late = town.relay.submit(asking.clone(), "\r\n").await.unwrap();
    asking.deliver_by = Some(DeliverBy { mode: ByMode::Return, ..by });
    let returned = town.relay.submit(asking, "\r\n").await.unwrap();
    let id = town.submit("alice@example.org", &["busy@example.com", "bob@example.com"]).await;
    town.wait(HOUR * 24 * 5).await;
    let listed = town.relay.queue().show(id).await.unwrap();
    assert_eq!((listed.state, listed.expires), (ListedState::HeldByRoute, None));
    for recipient in &listed.recipients {
        assert_eq!((recipient.destination.as_str(), recipient.next_attempt), ("hold", None));
        assert_eq!(recipient.last.as_deref(), Some("held by a route, until the routes change"));
    }
    let held = Matching { held: true, ..Matching::default() };
    assert_eq!(town.relay.queue().list(&held).await.len(), 3);
    assert_eq!(town.relay.retry_all(None), 0);
    assert!(matches!(town.relay.retry(id).await, Err(OperateError::HeldByRoute(_))));
    assert!(matches!(town.relay.queue().release(id).await, Err(OperateError::HeldByRoute(_))));
    let story = story(&mut events, id).await;
    let told: Vec<_> = story.iter().map(|event| (event.event, event.recipients.len())).collect();
    assert_eq!(told, [(EventName::Receive, 2), (EventName::Hold, 2)], "and nothing else");
    assert_eq!(story[1].reason.as_deref(), Some("held by a route, until the routes change"));

    let released = town.clock.now();
    town.reload(vec![everything("other")]).await;
    town.wait(MINUTE).await;
    assert_eq!(town.got()[0], ("other", vec!["bob@example.com".to_owned()]));
    // The deadlines that a sender named are his, and over: of one he is told that it is late, the other comes back.
    let notices: Vec<String> = town.upstreams[1].received().into_iter().skip(1).map(|r| r.content).collect();
    let actions = ["Action: delayed", "Action: failed"];
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(actions.iter().all(|action| notices.iter().any(|notice| notice.contains(action))), "{notices:?}");
    let listed = town.relay.queue().show(id).await.unwrap();
    let age = listed.expires.unwrap().since(released);
    assert!((HOUR * 47..HOUR * 49).contains(&age), "it has all of its two days: {age:?}");
    assert_eq!(listed.recipients[0].attempts, 1);
    let waiting: Vec<QueueId> =
        town.relay.queue().list(&Matching::default()).await.iter().map(|row| row.id).collect();
    assert!(waiting.contains(&late) && !waiting.contains(&returned), "{waiting:?}");

    // And back into a hold, in the middle of its schedule.
    town.reload(vec![to("*", Via::Hold)]).await;
    town.wait(HOUR * 24 * 5).await;
    assert_eq!(town.relay.queue().show(id).await.unwrap().recipients[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn discarded_mail_is_gone_without_a_word_and_a_reply_of_our_own_goes_through_the_schedule() {
    let error = |text: &str| Via::Error(text.parse().unwrap());
    let town = Town::with(vec![
        to("void.example", Via::Discard),
        to("busy.example", error("450 4.2.1 Mailbox busy")),
        to("gone.example", error("550 5.1.1 No such user")),
        everything("main"),
    ])
    .await;
    let mut events = town.relay.events();
    let mut asking = envelope("alice@example.org", &["a@void.example"]);
    asking.recipients[0].notify = Some(Notify { success: true, failure: true, delay: true });
    let void = town.relay.submit(asking, "\r\n").await.unwrap();
    town.wait(MINUTE).await;
    assert_eq!(story(&mut events, void).await.last().unwrap().event, EventName::Discard);
    assert!(town.relay.queue().is_empty() && town.got().is_empty(), "SUCCESS was asked, and nobody is told");

    let busy = town.submit("alice@example.org", &["a@busy.example", "b@gone.example"]).await;
    town.wait(HOUR * 24 * 3).await;
    let story = story(&mut events, busy).await;
    let of = |name| story.iter().filter(move |event| event.event == name).collect::<Vec<_>>();
    assert_eq!(of(EventName::Fail)[0].reply.as_ref().unwrap().to_string(), "550 5.1.1 No such user");
    let deferrals = of(EventName::Defer);
    assert!(deferrals.len() > 10, "{}", deferrals.len());
    assert_eq!(deferrals[0].reply.as_ref().unwrap().to_string(), "450 4.2.1 Mailbox busy");
    assert_eq!(deferrals[0].destination.as_deref(), Some("error:450 4.2.1 Mailbox busy"));
    assert_eq!(of(EventName::Expire).len(), 1);
    let actions: Vec<&str> = of(EventName::Dsn).iter().map(|dsn| dsn.reason.as_deref().unwrap()).collect();
    assert_eq!(actions, ["failed", "delayed", "failed"]);
    assert!(of(EventName::Sleep).is_empty() && town.relay.queue().is_empty());
    let notices = town.upstreams[0].received();
    assert_eq!(notices.len(), 3);
    assert!(notices[0].content.contains("550 5.1.1 No such user"), "{}", notices[0].content);
    assert!(notices[2].content.contains("450 4.2.1 Mailbox busy"), "{}", notices[2].content);
}

#[tokio::test(start_paused = true)]
async fn redirected_mail_goes_once_to_the_one_address_and_its_sender_hears_of_all() {
    let staging: Address = "staging@example.net".parse().unwrap();
    let town = Town::with(vec![
        Route { redirect_to: Some(staging.clone()), ..to("example.com", upstream("other")) },
        to("example.info", upstream("other")),
        everything("main"),
    ])
    .await;
    let mut events = town.relay.events();
    let many: Vec<String> = (0..150).map(|n| format!("r{n}@example.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["plain@example.info"]).collect();
    let mut asking = envelope("alice@example.org", &many);
    asking.recipients[3].notify = Some(Notify { success: true, failure: false, delay: false });
    asking.recipients[0].notify = Some(Notify::NEVER);
    let id = town.relay.submit(asking, "Subject: x\r\n\r\nHello.\r\n").await.unwrap();
    town.wait(MINUTE).await;
    let mut got = town.got();
    let notice = got.remove(0);
    assert_eq!(notice, ("main", vec!["alice@example.org".to_owned()]), "relayed, since he asked for SUCCESS");
    got.sort();
    let expected = ["plain@example.info", "staging@example.net"].map(|to| ("other", vec![to.to_owned()]));
    assert_eq!(got, expected);
    let story = story(&mut events, id).await;
    let sent = story.iter().find(|event| event.recipients.len() == 150).expect("all of them in one event");
    assert_eq!(
        (sent.event, sent.reason.as_deref()),
        (EventName::Send, Some("redirected to staging@example.net"))
    );
    let received = town.upstreams[1].received();
    let redirected = received.iter().find(|r| r.envelope.recipients[0].address == staging).unwrap();
    let recipient = &redirected.envelope.recipients[0];
    assert_eq!(recipient.notify, Some(Notify::NEVER));
    assert_eq!(recipient.original.as_ref().unwrap().to_string(), "rfc822;r0@example.com");
    let relayed = &town.upstreams[0].received()[0].content;
    assert!(relayed.contains("r3@example.com") && relayed.contains("Action: relayed"), "{relayed}");
    assert!(!relayed.contains("r4@example.com"));

    // What the address is refused for counts for all.
    let busy: Address = "busy@example.net".parse().unwrap();
    town.reload(vec![Route { redirect_to: Some(busy), ..everything("other") }]).await;
    let id = town.submit("alice@example.org", &["c@example.com", "d@example.info"]).await;
    town.wait(MINUTE * 3).await;
    let listed = town.relay.queue().show(id).await.unwrap();
    for recipient in &listed.recipients {
        assert!(recipient.attempts > 0 && recipient.last.as_ref().unwrap().contains("451 4.2.1 busy"));
    }
    town.reload(vec![everything("spare")]).await;
    town.wait(HOUR).await;
    let spare: Vec<_> = town.got().into_iter().filter(|(name, _)| *name == "spare").collect();
    assert_eq!(spare, [("spare", vec!["c@example.com".to_owned(), "d@example.info".to_owned()])]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_follows_the_routes_by_every_selector() {
    let town = Town::with(vec![everything("main")]).await;
    town.memory.set_weather(HOSTS[0].parse().unwrap(), Some(Weather::Refused));
    town.submit("a@shop.example", &["one@example.com"]).await;
    town.submit("", &["two@example.com"]).await;
    let client = Client { user: Some("app".into()), listener_name: Some("inner".into()), ..Client::here() };
    for to in ["three@example.com", "four@example.net"] {
        town.relay.submit_from(&client, envelope("a@example.net", &[to]), "\r\n").await.unwrap();
    }
    town.submit("a@example.net", &["five@example.com", "six@example.net"]).await;
    town.wait(MINUTE).await;
    assert!(town.got().is_empty());
    let any = |via| Route::new([], via);
    town.reload(vec![
        Route { senders: vec!["shop.example".parse().unwrap()], ..any(upstream("other")) },
        Route { senders: vec!["<>".parse().unwrap()], ..any(Via::Discard) },
        Route {
            users: vec!["app".into()],
            domains: vec!["example.com".parse().unwrap()],
            ..any(upstream("spare"))
        },
        Route { listeners: vec!["inner".into()], ..any(Via::Hold) },
        to("example.net", Via::Hold),
        everything("spare"),
    ])
    .await;
    town.wait(MINUTE).await;
    let mut got = town.got();
    got.sort();
    let expected =
        [("other", "one@example.com"), ("spare", "five@example.com"), ("spare", "three@example.com")];
    assert_eq!(got, expected.map(|(name, to)| (name, vec![to.to_owned()])));
    let rows = town.relay.queue().list(&Matching::default()).await;
    let states: Vec<ListedState> = rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [ListedState::HeldByRoute; 2]);
    let lines: Vec<String> =
        town.relay.queue().destinations().into_iter().map(|row| row.destination).collect();
    assert_eq!(lines, ["hold"]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_group_is_used_while_no_host_of_the_group_can_be_and_left_again() {
    let mut settings = settings(vec![everything("main")]);
    settings.route.groups.get_mut("main").unwrap().fallback = Some("spare".into());
    let town = Town::built(settings).await;
    let mut events = town.relay.events();
    let used = |town: &Town| town.got().last().map(|(name, _)| *name);
    town.submit("", &["one@example.com"]).await;
    town.wait(MINUTE).await;
    assert_eq!(used(&town), Some("main"));
    // The connection that is kept is no sign of life.
    town.wait(HOUR).await;
    town.memory.set_weather(HOSTS[0].parse().unwrap(), Some(Weather::Refused));
    let id = town.submit("", &["two@example.com"]).await;
    town.wait(Duration::from_secs(5)).await;
    assert_eq!(used(&town), Some("spare"));
    let route =
        story(&mut events, id).await.into_iter().find(|event| event.event == EventName::Route).unwrap();
    let candidates: Vec<String> = route.candidates.iter().map(ToString::to_string).collect();
    let shown = ["0 192.0.2.10 (main) [192.0.2.10] chosen", "1 192.0.2.30 (spare) [192.0.2.30] chosen"];
    assert_eq!(candidates, shown);
    town.memory.set_weather(HOSTS[0].parse().unwrap(), None);
    town.wait(HOUR).await;
    town.submit("", &["three@example.com"]).await;
    town.wait(MINUTE).await;
    let main: Vec<_> = town.got().into_iter().filter(|(name, _)| *name == "main").collect();
    assert_eq!(main.len(), 2, "{:?}", town.got());
}

#[tokio::test]
async fn after_a_restart_mail_waits_in_the_line_of_its_sender_user_and_listener() {
    let bench = bench().await;
    let routes = || {
        let any = Route::new([], upstream("main"));
        vec![
            Route { senders: vec!["shop.example".parse().unwrap()], ..any.clone() },
            Route { users: vec!["app".into()], listeners: vec!["inner".into()], ..any },
            to("example.net", Via::Hold),
            everything("other"),
        ]
    };
    // Nothing moves between the stop and the look: both upstreams are away.
    for host in ["192.0.2.10:25", "192.0.2.20:25"] {
        bench.memory.set_weather(host.parse().unwrap(), Some(Weather::Unreachable));
    }
    let relay = bench.start_with(|settings| settings.routes.routes = routes()).await;
    let client = Client { user: Some("app".into()), listener_name: Some("inner".into()), ..Client::here() };
    let sent = [
        (Client::here(), "a@SHOP.example", "main"),
        (client.clone(), "a@example.org", "main"),
        (Client { user: None, ..client }, "a@example.org", "other"),
    ];
    for (client, from, _) in &sent {
        relay.submit_from(client, envelope(from, &["bob@example.com"]), "\r\n").await.unwrap();
    }
    let held = relay.submit(envelope("a@example.org", &["bob@example.net"]), "\r\n").await.unwrap();
    let lines = |relay: &Relay| {
        let rows = relay.queue().destinations();
        rows.into_iter()
            .map(|row| (row.destination, row.waiting + u64::from(row.delivering)))
            .collect::<Vec<_>>()
    };
    let expected = [("hold".to_owned(), 1), ("main".to_owned(), 2), ("other".to_owned(), 1)];
    assert_eq!(lines(&relay), expected);
    stop(&relay).await;
    let relay = bench.start_with(|settings| settings.routes.routes = routes()).await;
    assert_eq!(lines(&relay), expected);
    let loaded = bench.events().into_iter().filter(|event| event.event == EventName::Load);
    let loaded: Vec<_> =
        loaded.map(|event| (event.destination.unwrap(), event.next_attempt.is_some())).collect();
    assert_eq!(loaded, [("main".to_owned(), true), ("other".into(), true), ("hold".into(), false)]);
    assert_eq!(show(&relay, held).await.state, ListedState::HeldByRoute);
    for host in ["192.0.2.10:25", "192.0.2.20:25"] {
        bench.memory.set_weather(host.parse().unwrap(), None);
    }
    let mut open = bench.settings();
    open.routes.routes = vec![everything("main")];
    relay.reload(open).await.unwrap();
    relay.retry_all(None);
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.main.received().len(), 4);
}

#[tokio::test]
async fn mail_that_leaves_a_hold_keeps_its_new_age_over_a_restart() {
    let bench = bench().await;
    let relay = bench.start_with(|settings| settings.routes.routes = vec![to("*", Via::Hold)]).await;
    let id = submit(&relay, &["busy@example.com"]).await;
    let mut events = relay.events();
    // The hold must have lasted for a tick of the clock, or there is nothing that could have been counted.
    Clock::system().wait(Duration::from_millis(2)).await;
    relay.reload(bench.settings()).await.unwrap();
    assert_eq!(until(&mut events, EventName::Defer).await.id, Some(id));
    let expires = show(&relay, id).await.expires;
    stop(&relay).await;
    let relay = bench.start().await;
    assert_eq!(show(&relay, id).await.expires, expires);
    assert!(
        expires.unwrap() > show(&relay, id).await.arrived + HOUR * 48,
        "the time in the hold is not counted"
    );
    let other = deferred(&relay, &["busy.too@example.com"]).await;
    assert!(show(&relay, other).await.expires.is_some());
    stop(&relay).await;
}
