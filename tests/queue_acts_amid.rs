//! What the operator, a reload or a stop does to a message while it is being delivered.
//!
//! Contract: the upstream is in the hands of the test: it has taken the message up to its final dot, and answers when
//! it is told to. What an attempt brings counts, whatever was done meanwhile.
//! Not here: acts on messages that wait (`tests/queue_acts.rs`).

mod bench;
mod world;

use std::time::Duration;

use bench::{Bench, PATIENCE, bench, is_empty, show, stop, submit, until};
use posthouse::mail::{QueueId, Route, RouteTable, Via};
use posthouse::net::{Listener, Stream};
use posthouse::queue::ListedState;
use posthouse::relay::{Relay, Settings, ShutdownError};
use posthouse::tracking::{EventName, Events};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An upstream that has taken a message up to its final dot, and has not answered yet.
struct Amid(Stream);

/// A relay whose upstream `main` is in the hands of the test, and whose `other` takes everything.
async fn amid_a_delivery() -> (Bench, Relay, Events, QueueId, Amid) {
    amid_a_delivery_to(&["bob@example.com"], |_| {}).await
}

async fn amid_a_delivery_to(
    to: &[&str],
    change: impl FnOnce(&mut Settings),
) -> (Bench, Relay, Events, QueueId, Amid) {
    let (bench, mut listener, relay) = by_hand(change).await;
    let events = relay.events();
    let id = submit(&relay, to).await;
    let amid = Amid::accept(&mut listener).await;
    assert_eq!(show(&relay, id).await.state, ListedState::Active);
    (bench, relay, events, id, amid)
}

/// A relay whose upstream `main` is this listener.
async fn by_hand(change: impl FnOnce(&mut Settings)) -> (Bench, Listener, Relay) {
    let bench = bench().await;
    let listener = bench.network.bind("192.0.2.30:25".parse().unwrap()).await.unwrap();
    let by_hand = |settings: &mut Settings| {
        settings.route.groups.insert("main".into(), "smtp://192.0.2.30:25?tls=none".parse().unwrap());
        change(settings);
    };
    let relay = bench.start_with(by_hand).await;
    (bench, listener, relay)
}

/// The same, connected to, with its greeting still to come.
async fn amid_a_connection() -> (Bench, Relay, Events, QueueId, Stream) {
    let (bench, mut listener, relay) = by_hand(|_| {}).await;
    let events = relay.events();
    let id = submit(&relay, &["bob@example.com"]).await;
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(show(&relay, id).await.state, ListedState::Active);
    (bench, relay, events, id, stream)
}

/// Long before the destination is probed, which would help whoever still waits in its line.
async fn is_empty_at_once(relay: &Relay) {
    let emptied = tokio::time::timeout(Duration::from_secs(5), is_empty(relay)).await;
    emptied.expect("it still waits in the old line");
}

impl Amid {
    /// The next connection, up to the final dot of its message.
    async fn accept(listener: &mut Listener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Without PIPELINING each command waits for its reply.
        for (reply, end) in [
            ("220 upstream.example", "\r\n"),
            ("250 upstream.example", "\r\n"),
            ("250 sender", "\r\n"),
            ("250 recipient", "\r\n"),
            ("354 content", "\r\n.\r\n"),
        ] {
            stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(end.as_bytes()) {
                assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "the relay left after {reply}");
            }
        }
        Self(stream)
    }

    async fn say(mut self, reply: &str) {
        self.0.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
    }
}

const DELIVERED: &str = "250 2.0.0 taken";
const DEFERRED: &str = "451 4.3.0 not now";

#[tokio::test]
async fn a_message_cancelled_amid_its_delivery_is_not_tried_again() {
    for reply in [DELIVERED, DEFERRED] {
        let (bench, relay, mut events, id, amid) = amid_a_delivery().await;
        relay.queue().cancel(id).await.unwrap();
        amid.say(reply).await;
        let told = if reply == DELIVERED { EventName::Send } else { EventName::Defer };
        let event = until(&mut events, told).await;
        assert_eq!(event.id, Some(id), "what the attempt brought is told");
        assert_eq!((event.next_attempt, event.expires), (None, None), "and nothing follows");
        is_empty(&relay).await;
        assert_eq!(relay.retry_all(None), 0);
        stop(&relay).await;
        let relay = bench.start().await;
        assert!(relay.queue().is_empty(), "it rose again");
        stop(&relay).await;
        assert_eq!(bench.names(id), [EventName::Receive, EventName::Cancel, told]);
    }
}

#[tokio::test]
async fn a_message_cancelled_amid_a_delivery_that_is_cut_off_is_told_to_be_uncertain() {
    let (_bench, relay, mut events, id, amid) = amid_a_delivery().await;
    relay.queue().cancel(id).await.unwrap();
    drop(amid);
    let event = until(&mut events, EventName::Uncertain).await;
    assert_eq!((event.id, event.next_attempt, event.expires), (Some(id), None, None));
    let said = event.reason.as_deref().unwrap_or_default();
    assert!(said.ends_with("it may have been delivered; it was cancelled, and is not sent again"), "{said}");
    assert_eq!(relay.queue().uncertain(), 1);
    is_empty(&relay).await;
    stop(&relay).await;
}

/// example.com goes to `main`, all else to `second`, which is `main` of the bench.
fn two_ways(settings: &mut Settings) {
    let com = Route::new(["example.com".parse().unwrap()], Via::Upstream("main".into()));
    settings.routes.routes = vec![com];
    settings.routes.routes.extend(RouteTable::all_via("second").routes);
    settings.route.groups.insert("second".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
}

#[tokio::test]
async fn a_message_cancelled_amid_one_of_its_deliveries_brings_no_notice() {
    for reply in [DELIVERED, DEFERRED, "554 5.7.1 never"] {
        let to = ["bob@example.com", "busy@example.net"];
        let (bench, relay, mut events, id, amid) = amid_a_delivery_to(&to, two_ways).await;
        let busy = until(&mut events, EventName::Defer).await;
        assert_eq!(busy.recipients, ["busy@example.net"]);
        relay.queue().cancel(id).await.unwrap();
        amid.say(reply).await;
        is_empty(&relay).await;
        stop(&relay).await;
        assert!(bench.main.received().is_empty(), "after {reply}: {:?}", bench.main.received());
        assert!(!bench.names(id).contains(&EventName::Dsn), "after {reply}");
    }
}

#[tokio::test]
async fn every_part_of_a_message_follows_new_routes_when_one_is_being_delivered() {
    let to = ["bob@example.com", "busy@example.net"];
    let (bench, relay, mut events, id, amid) = amid_a_delivery_to(&to, two_ways).await;
    let busy = until(&mut events, EventName::Defer).await;
    assert_eq!(busy.recipients, ["busy@example.net"]);
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    amid.say(DEFERRED).await;
    until(&mut events, EventName::Defer).await;
    relay.retry(id).await.unwrap();
    is_empty(&relay).await;
    stop(&relay).await;
    let received = bench.other.received();
    let recipients = received.iter().map(|got| got.envelope.recipients.len()).sum::<usize>();
    assert_eq!(recipients, 2, "{received:?}");
}

#[tokio::test]
async fn a_message_held_amid_its_delivery_is_held_when_that_has_failed() {
    let (_bench, relay, mut events, id, amid) = amid_a_delivery().await;
    relay.queue().hold(id).await.unwrap();
    amid.say(DEFERRED).await;
    until(&mut events, EventName::Defer).await;
    let listed = show(&relay, id).await;
    assert_eq!((listed.state, listed.recipients[0].attempts), (ListedState::Held, 1));
    assert_eq!(relay.retry_all(None), 0);
    stop(&relay).await;
}

#[tokio::test]
async fn a_message_held_amid_its_delivery_is_gone_when_that_has_succeeded() {
    let (_bench, relay, mut events, id, amid) = amid_a_delivery().await;
    relay.queue().hold(id).await.unwrap();
    amid.say(DELIVERED).await;
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    is_empty(&relay).await;
    stop(&relay).await;
}

#[tokio::test]
async fn a_message_held_and_released_amid_its_delivery_is_not_delivered_twice() {
    let (bench, relay, mut events, id, amid) = amid_a_delivery().await;
    relay.queue().hold(id).await.unwrap();
    relay.queue().release(id).await.unwrap();
    amid.say(DELIVERED).await;
    until(&mut events, EventName::Send).await;
    is_empty(&relay).await;
    stop(&relay).await;
    use EventName::*;
    assert_eq!(bench.names(id), [Receive, Hold, Release, Send]);
}

#[tokio::test]
async fn mail_that_is_routed_elsewhere_amid_its_delivery_goes_there_when_that_has_failed() {
    let (bench, relay, mut events, id, amid) = amid_a_delivery().await;
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    amid.say(DEFERRED).await;
    until(&mut events, EventName::Defer).await;
    let listed = show(&relay, id).await;
    let recipient = &listed.recipients[0];
    assert_eq!((listed.state, recipient.destination.as_str()), (ListedState::Waiting, "other"), "{listed:?}");
    relay.retry(id).await.unwrap();
    until(&mut events, EventName::Send).await;
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.other.received().len(), 1);
}

#[tokio::test]
async fn a_stop_waits_for_a_delivery_and_the_restart_does_not_repeat_it() {
    let (bench, relay, mut events, id, amid) = amid_a_delivery().await;
    let stopping = relay.clone();
    let stopped = tokio::spawn(async move { stopping.shutdown(PATIENCE).await });
    tokio::task::yield_now().await;
    amid.say(DELIVERED).await;
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    stopped.await.unwrap().unwrap();
    let relay = bench.start().await;
    assert!(relay.queue().is_empty());
    stop(&relay).await;
}

#[tokio::test]
async fn a_delivery_cut_short_by_the_deadline_of_a_stop_is_done_again() {
    let (bench, relay, _events, id, amid) = amid_a_delivery().await;
    let error = relay.shutdown(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ShutdownError::Deadline), "{error}");
    drop(amid);
    let relay = bench.start().await;
    let mut events = relay.events();
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.main.received().len(), 1);
}

#[tokio::test]
async fn mail_that_is_routed_elsewhere_amid_a_connection_that_fails_goes_there_at_once() {
    let (bench, relay, mut events, id, stream) = amid_a_connection().await;
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    drop(stream);
    assert_eq!(until(&mut events, EventName::Defer).await.id, Some(id));
    is_empty_at_once(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.other.received().len(), 1);
}

#[tokio::test]
async fn a_message_cancelled_amid_a_connection_that_fails_is_gone() {
    let (bench, relay, mut events, id, stream) = amid_a_connection().await;
    relay.queue().cancel(id).await.unwrap();
    drop(stream);
    assert_eq!(until(&mut events, EventName::Defer).await.id, Some(id));
    is_empty_at_once(&relay).await;
    stop(&relay).await;
    assert!(bench.main.received().is_empty() && bench.other.received().is_empty());
}

/// Two deliveries under way, cancelled, the one ends, then the other is delivered: NOTIFY=SUCCESS.
#[tokio::test]
async fn success_asked_for_is_told_though_another_part_was_cancelled_and_ended_before() {
    let bench = bench().await;
    let mut one = bench.network.bind("192.0.2.30:25".parse().unwrap()).await.unwrap();
    let mut two = bench.network.bind("192.0.2.31:25".parse().unwrap()).await.unwrap();
    let relay = bench
        .start_with(|settings| {
            two_ways(settings);
            let to_sender = Route::new(["example.org".parse().unwrap()], Via::Upstream("other".into()));
            settings.routes.routes.insert(0, to_sender);
            settings.route.groups.insert("main".into(), "smtp://192.0.2.30:25?tls=none".parse().unwrap());
            settings.route.groups.insert("second".into(), "smtp://192.0.2.31:25?tls=none".parse().unwrap());
        })
        .await;
    let mut events = relay.events();
    let mut envelope = bench::letter(&["bob@example.com", "carol@example.net"]);
    for r in &mut envelope.recipients {
        r.notify = Some(posthouse::mail::Notify { success: true, failure: true, delay: false });
    }
    let id = relay.submit(envelope, "Subject: x\r\n\r\nHello.\r\n").await.unwrap();
    let (first, second) = (Amid::accept(&mut one).await, Amid::accept(&mut two).await);
    relay.queue().cancel(id).await.unwrap();
    first.say(DEFERRED).await;
    until(&mut events, EventName::Defer).await;
    assert_eq!(show(&relay, id).await.state, ListedState::Active, "the other part is still under way");
    second.say(DELIVERED).await;
    until(&mut events, EventName::Send).await;
    is_empty(&relay).await;
    stop(&relay).await;
    assert!(bench.names(id).contains(&EventName::Dsn));
}

#[tokio::test]
async fn a_backup_that_cannot_take_it_does_not_bounce_what_the_first_host_may_take_later() {
    let (_bench, mut listener, relay) = by_hand(|settings| {
        let group = "smtp://192.0.2.99:25?tls=none smtp://192.0.2.30:25?tls=none";
        settings.route.groups.insert("main".into(), group.parse().unwrap());
    })
    .await;
    let mut events = relay.events();
    let mut envelope = bench::letter(&["bob@example.com"]);
    envelope.body = posthouse::mail::BodyType::EightBitMime;
    let id = relay.submit(envelope, "Subject: x\r\n\r\nHällo.\r\n").await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    for reply in ["220 u", "250 u"] {
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n") && reply.starts_with("220") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
    }
    let ended = async {
        loop {
            let e = events.next().await.unwrap().unwrap();
            if e.id == Some(id) && matches!(e.event, EventName::Fail | EventName::Defer) {
                return (*e).clone();
            }
        }
    };
    let e = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(e.event, EventName::Defer, "{:?}", e.reason);
}
