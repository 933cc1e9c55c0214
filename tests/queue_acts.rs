//! The operator's acts, a restart and a reload: on a real spool in a folder, with real time and a network in memory.
//!
//! Contract: what an act promises holds in the listing, in the log, at the upstream and after a restart. What needs
//! days runs on paused time and the spool in memory.
//! Not here: acts amid a delivery (`tests/queue_acts_amid.rs`), kill -9 under load, the schedule itself
//! (`tests/two_days.rs`).

mod bench;
mod world;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bench::{DAY, HOUR, bench, deferred, is_empty, letter, settings, show, stop, submit, until};
use posthouse::clock::Clock;
use posthouse::mail::{Destination, QueueId, RouteTable};
use posthouse::net::{MemoryNetwork, Network, Weather};
use posthouse::queue::{ListedState, Matching, OperateError, RecipientStanding};
use posthouse::relay::{Keep, Relay, ReloadError, Settings, Track};
use posthouse::spool::{self, Spool};
use posthouse::tracking::EventName;
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply};

#[tokio::test]
async fn a_held_message_is_not_tried_until_it_is_released() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = deferred(&relay, &["busy@example.com"]).await;
    relay.queue().hold(id).await.unwrap();
    let held = show(&relay, id).await;
    assert_eq!((held.state, held.expires, held.recipients[0].next_attempt), (ListedState::Held, None, None));
    assert!(matches!(relay.queue().hold(id).await, Err(OperateError::Held(of)) if of == id));

    bench.busy.store(false, Ordering::SeqCst);
    assert_eq!(relay.retry_all(None), 0, "held messages stay held");
    let error = relay.retry(id).await.unwrap_err();
    assert_eq!(error.to_string(), format!("message {id} is held; `posthouse queue release {id}` lets it go"));
    // Another message goes by.
    submit(&relay, &["bob@example.com"]).await;
    until(&mut events, EventName::Send).await;
    assert_eq!(show(&relay, id).await.recipients[0].attempts, 1);

    relay.queue().release(id).await.unwrap();
    let sent = until(&mut events, EventName::Send).await;
    assert_eq!((sent.id, sent.attempt), (Some(id), Some(2)));
    is_empty(&relay).await;
    assert!(matches!(relay.queue().release(id).await, Err(OperateError::Unknown(_))));
    stop(&relay).await;
    use EventName::*;
    assert_eq!(bench.names(id), [Receive, Defer, Hold, Release, Send]);
}

#[tokio::test]
async fn a_message_that_is_not_held_cannot_be_released() {
    let bench = bench().await;
    let relay = bench.start().await;
    let id = deferred(&relay, &["busy@example.com"]).await;
    let error = relay.queue().release(id).await.unwrap_err();
    assert_eq!(error.to_string(), format!("message {id} is not held"));
    assert_eq!(show(&relay, id).await.state, ListedState::Waiting);
    stop(&relay).await;
}

#[tokio::test]
async fn a_hold_and_a_release_survive_a_restart() {
    let bench = bench().await;
    let relay = bench.start().await;
    let id = deferred(&relay, &["busy@example.com"]).await;
    relay.queue().hold(id).await.unwrap();
    stop(&relay).await;

    bench.busy.store(false, Ordering::SeqCst);
    let relay = bench.start().await;
    let mut events = relay.events();
    let held = show(&relay, id).await;
    assert_eq!((held.state, held.expires, held.recipients[0].attempts), (ListedState::Held, None, 1));
    assert_eq!(relay.retry_all(None), 0);
    submit(&relay, &["bob@example.com"]).await;
    assert_ne!(until(&mut events, EventName::Send).await.id, Some(id));
    relay.queue().release(id).await.unwrap();
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    is_empty(&relay).await;
    stop(&relay).await;
}

#[tokio::test]
async fn a_cancelled_message_is_gone_for_good_and_nobody_is_told() {
    let bench = bench().await;
    let relay = bench.start().await;
    let waiting = deferred(&relay, &["busy@example.com"]).await;
    let held = deferred(&relay, &["busy.too@example.com"]).await;
    relay.queue().hold(held).await.unwrap();
    for id in [waiting, held] {
        relay.queue().cancel(id).await.unwrap();
        let error = relay.queue().cancel(id).await.unwrap_err();
        let sentence = format!(
            "there is no message {id} in the queue; it may have been delivered or bounced: see `posthouse track --id {id}`"
        );
        assert_eq!(error.to_string(), sentence);
        assert!(matches!(relay.queue().show(id).await, Err(OperateError::Unknown(_))));
    }
    assert!(relay.queue().is_empty());
    bench.busy.store(false, Ordering::SeqCst);
    stop(&relay).await;

    let relay = bench.start().await;
    assert!(relay.queue().is_empty(), "it rose again");
    stop(&relay).await;
    assert!(bench.main.received().is_empty(), "neither the message nor a notice");
    use EventName::*;
    assert_eq!(bench.names(waiting), [Receive, Defer, Cancel]);
    assert_eq!(bench.names(held), [Receive, Defer, Hold, Cancel]);
}

#[tokio::test]
async fn a_cancel_that_a_crash_cut_short_is_finished_at_the_start() {
    let bench = bench().await;
    let Keep::Folder(settings) = bench.settings().keep else { unreachable!("it is kept in a folder") };
    // What a crash leaves between the two records of a cancel.
    let (log, _) = spool::Log::open(&settings, &mut |_| {}).unwrap();
    let now = Clock::system().now();
    let (id, envelope) = (log.next_id(now), letter(&["busy@example.com"]));
    let accepted =
        spool::Accepted { id, arrived_at: now, envelope, origin: Default::default(), strikes: None };
    let _receipt = log.accept(accepted, "Subject: x\r\n".into()).await.unwrap();
    let mut progress = log.load(id).await.unwrap().progress;
    progress.recipients[0].state = spool::RecipientState::Cancelled;
    log.settle(id, &progress, spool::Durability::Synced).await.unwrap();
    log.close().await;
    drop(log);

    let relay = bench.start().await;
    is_empty(&relay).await;
    stop(&relay).await;
}

#[tokio::test]
async fn cancelling_strikes_only_the_recipients_that_still_wait() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = submit(&relay, &["bob@example.com", "busy@example.com", "gone@example.com"]).await;
    until(&mut events, EventName::Dsn).await;
    let listed = show(&relay, id).await;
    let states: Vec<RecipientStanding> = listed.recipients.iter().map(|recipient| recipient.state).collect();
    use RecipientStanding::*;
    assert_eq!(states, [Delivered, Waiting, Bounced]);
    relay.queue().cancel(id).await.unwrap();
    assert_eq!(until(&mut events, EventName::Cancel).await.recipients, ["busy@example.com"]);
    is_empty(&relay).await;
    stop(&relay).await;
    let notices = bench.main.received().iter().filter(|got| got.envelope.reverse_path.is_null()).count();
    assert_eq!((bench.main.received().len(), notices), (2, 1), "the message to bob, and gone's notice");
}

#[tokio::test]
async fn retry_tries_one_message_now_and_retry_all_every_one() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let first = deferred(&relay, &["busy@example.com"]).await;
    let second = deferred(&relay, &["busy.too@example.com"]).await;
    for _ in 0..2 {
        until(&mut events, EventName::Defer).await;
    }
    relay.retry(first).await.unwrap();
    assert_eq!(until(&mut events, EventName::Retry).await.id, Some(first));
    let again = until(&mut events, EventName::Defer).await;
    assert_eq!((again.id, again.attempt), (Some(first), Some(2)));
    assert_eq!(show(&relay, second).await.recipients[0].attempts, 1, "the other keeps its time");

    assert_eq!(relay.retry_all(Some(&Destination::Upstream("other".into()))), 0);
    assert_eq!(relay.retry_all(Some(&Destination::Upstream("main".into()))), 2);
    let mut again: Vec<(Option<QueueId>, Option<u32>)> = Vec::new();
    for _ in 0..2 {
        let event = until(&mut events, EventName::Defer).await;
        again.push((event.id, event.attempt));
    }
    again.sort();
    assert_eq!(again, [(Some(first), Some(3)), (Some(second), Some(2))]);
    bench.busy.store(false, Ordering::SeqCst);
    assert_eq!(relay.retry_all(None), 2);
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.main.received().len(), 2);
}

#[tokio::test]
async fn retry_wakes_a_destination_that_could_not_be_reached() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let main = "192.0.2.10:25".parse().unwrap();
    bench.memory.set_weather(main, Some(Weather::Refused));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(submit(&relay, &["bob@example.com"]).await);
    }
    let asleep = until(&mut events, EventName::Sleep).await;
    assert_eq!(asleep.destination.as_deref(), Some("main"));
    let listed = show(&relay, ids[2]).await;
    assert_eq!((listed.state, listed.recipients[0].attempts), (ListedState::Asleep, 0));
    assert!(listed.recipients[0].last.as_ref().is_some_and(|last| last.contains("refused")), "{listed:?}");
    let destinations = relay.queue().destinations();
    assert_eq!(destinations.len(), 1);
    assert_eq!((destinations[0].destination.as_str(), destinations[0].waiting), ("main", 3));
    assert!(destinations[0].asleep_since.is_some() && destinations[0].next_probe.is_some());

    bench.memory.set_weather(main, None);
    relay.retry(ids[1]).await.unwrap();
    // Whichever goes first as the probe, the others were waiting for nothing else.
    assert!(ids.contains(&until(&mut events, EventName::Send).await.id.unwrap()));
    is_empty(&relay).await;
    assert!(relay.queue().sleeping().is_empty());
    stop(&relay).await;
    assert_eq!(bench.main.received().len(), 3);
}

#[tokio::test]
async fn the_listing_shows_what_was_said_and_finds_by_every_field() {
    let bench = bench().await;
    let relay = bench.start().await;
    let first = deferred(&relay, &["busy@example.com"]).await;
    let second = deferred(&relay, &["busy@example.net", "busy.too@example.net"]).await;
    relay.queue().hold(second).await.unwrap();

    let listed = show(&relay, first).await;
    assert_eq!((listed.state, listed.sender.as_str()), (ListedState::Waiting, "alice@example.org"));
    assert_eq!(listed.size, "Subject: the plan\r\n\r\nHello.\r\n".len() as u64);
    assert_eq!(listed.expires, Some(listed.arrived + 2 * DAY));
    let recipient = &listed.recipients[0];
    assert_eq!((recipient.attempts, recipient.destination.as_str()), (1, "main"));
    assert_eq!(recipient.status.unwrap().to_string(), "4.2.1");
    let last = recipient.last.as_deref().unwrap();
    assert!(last.contains("192.0.2.10") && last.ends_with("said: 451 4.2.1 the mailbox is busy"), "{last}");
    let wait = recipient.next_attempt.unwrap().since(listed.arrived).as_secs();
    assert!((50..=70).contains(&wait), "{wait} s");

    let find = async |matching: Matching| -> Vec<QueueId> {
        relay.queue().list(&matching).await.iter().map(|row| row.id).collect()
    };
    let any = Matching::default;
    assert_eq!(find(any()).await, [first, second], "the oldest first");
    assert_eq!(find(Matching { recipient: Some("EXAMPLE.NET".into()), ..any() }).await, [second]);
    assert_eq!(find(Matching { sender: Some("alice".into()), ..any() }).await, [first, second]);
    assert_eq!(find(Matching { sender: Some("bob".into()), ..any() }).await, []);
    assert_eq!(find(Matching { held: true, ..any() }).await, [second]);
    assert_eq!(find(Matching { destination: Some("main".into()), ..any() }).await, [first, second]);
    assert_eq!(find(Matching { destination: Some("other".into()), ..any() }).await, []);
    assert_eq!(find(Matching { most: 1, ..any() }).await, [first]);
    stop(&relay).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_relay_stopped() {
    let bench = bench().await;
    let relay = bench.start().await;
    let id = deferred(&relay, &["bob@example.com", "busy@example.com"]).await;
    let before = show(&relay, id).await;
    stop(&relay).await;
    assert!(
        matches!(relay.queue().hold(id).await, Err(OperateError::Stopping)),
        "a stopped relay acts no more"
    );

    let relay = bench.start().await;
    let mut events = relay.events();
    let after = show(&relay, id).await;
    assert_eq!(after, before, "attempts, outcomes, and the time of the next attempt");
    assert_eq!(after.recipients[1].attempts, 1);
    relay.retry(id).await.unwrap();
    let again = until(&mut events, EventName::Defer).await;
    assert_eq!((again.attempt, again.recipients.as_slice()), (Some(2), &["busy@example.com".to_owned()][..]));
    stop(&relay).await;

    bench.busy.store(false, Ordering::SeqCst);
    let relay = bench.start().await;
    let mut events = relay.events();
    assert_eq!(show(&relay, id).await.recipients[1].attempts, 2);
    relay.retry(id).await.unwrap();
    assert_eq!(until(&mut events, EventName::Send).await.attempt, Some(3));
    is_empty(&relay).await;
    stop(&relay).await;

    let relay = bench.start().await;
    assert!(relay.queue().is_empty());
    stop(&relay).await;
    let received = bench.main.received();
    let to: Vec<&str> = received.iter().map(|got| got.envelope.recipients[0].address.as_str()).collect();
    assert_eq!(to, ["bob@example.com", "busy@example.com"], "each once");
    assert!(received.iter().all(|got| got.content == "Subject: the plan\r\n\r\nHello.\r\n"));

    let story = bench.story(id);
    let count = |name| story.iter().filter(|event| event.event == name).count();
    use EventName::*;
    assert_eq!((count(Receive), count(Defer), count(Send)), (1, 2, 2));
    let all = bench.events();
    let load = all.iter().find(|event| event.event == Load).unwrap();
    assert_eq!((load.destination.as_deref(), load.waiting), (Some("main"), Some(1)));
    assert_eq!(load.next_attempt, before.recipients[1].next_attempt);
}

#[tokio::test]
async fn a_restart_brings_no_notice_twice_and_loses_none() {
    let bench = bench().await;
    let soon = |settings: &mut Settings| settings.retry.delay_after = Some(Duration::from_millis(300));
    let relay = bench.start_with(soon).await;
    let mut events = relay.events();
    let id = submit(&relay, &["gone@example.com", "busy@example.com"]).await;
    for _ in 0..2 {
        assert_eq!(until(&mut events, EventName::Dsn).await.id, Some(id));
    }
    while relay.queue().len() > 1 {
        until(&mut events, EventName::Send).await;
        relay.clock().wait(Duration::from_millis(1)).await;
    }
    stop(&relay).await;
    // While it stands still, this one comes of the age for its notice.
    let late_relay = bench.start_with(soon).await;
    let late = deferred(&late_relay, &["busy.late@example.com"]).await;
    stop(&late_relay).await;

    let relay = bench.start_with(soon).await;
    let mut events = relay.events();
    // A younger message has its delay notice: a second one for the older would have come before.
    let canary = submit(&relay, &["busy.canary@example.com"]).await;
    while until(&mut events, EventName::Dsn).await.id != Some(canary) {}
    bench.busy.store(false, Ordering::SeqCst);
    relay.retry_all(None);
    is_empty(&relay).await;
    stop(&relay).await;

    let actions = |of: &str| -> Vec<String> {
        let about = |content: &str| {
            content.contains(&format!("Final-Recipient: rfc822;{of}"))
                || content.contains(&format!("Final-Recipient: rfc822; {of}"))
        };
        let received = bench.main.received();
        let notices =
            received.iter().filter(|got| got.envelope.reverse_path.is_null() && about(&got.content));
        let actions = notices.filter_map(|got| got.content.split_once("\r\nAction: "));
        actions.map(|(_, action)| action.split("\r\n").next().unwrap().to_owned()).collect()
    };
    // Where the first attempt takes longer than delay_after, the delay is told before.
    let gone = actions("gone@example.com");
    assert!(gone == ["failed"] || gone == ["delayed", "failed"], "{gone:?}");
    assert_eq!(actions("busy@example.com"), ["delayed"]);
    assert_eq!(actions("busy.late@example.com"), ["delayed"]);
    assert_eq!(actions("busy.canary@example.com"), ["delayed"]);
    let notices = |id| bench.names(id).into_iter().filter(|name| *name == EventName::Dsn).count();
    assert_eq!((notices(id), notices(late), notices(canary)), (2, 1, 1));
}

#[tokio::test]
async fn new_routes_move_queued_mail_to_another_upstream() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = deferred(&relay, &["busy@example.com"]).await;
    let before = show(&relay, id).await;
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    let listed = show(&relay, id).await;
    assert_eq!((listed.state, listed.recipients[0].destination.as_str()), (ListedState::Waiting, "other"));
    assert_eq!(listed.recipients[0].next_attempt, before.recipients[0].next_attempt, "it keeps its time");
    relay.retry(id).await.unwrap();
    let sent = until(&mut events, EventName::Send).await;
    assert_eq!((sent.destination.as_deref(), sent.attempt), (Some("other"), Some(2)));
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!((bench.main.received().len(), bench.other.received().len()), (0, 1));
}

#[tokio::test]
async fn mail_behind_a_dead_upstream_goes_at_once_when_the_routes_lead_elsewhere() {
    let bench = bench().await;
    bench.memory.set_weather("192.0.2.10:25".parse().unwrap(), Some(Weather::Unreachable));
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = submit(&relay, &["bob@example.com"]).await;
    until(&mut events, EventName::Sleep).await;
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    is_empty(&relay).await;
    assert!(relay.queue().destinations().is_empty(), "nothing is left of the old line");
    stop(&relay).await;
    assert_eq!(bench.other.received().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_gets_another_address_is_tried_there() {
    let bench = bench().await;
    bench.memory.set_weather("192.0.2.10:25".parse().unwrap(), Some(Weather::Unreachable));
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = submit(&relay, &["bob@example.com"]).await;
    until(&mut events, EventName::Sleep).await;
    let mut moved = bench.settings();
    moved.route.groups.insert("main".into(), "smtp://192.0.2.20:25?tls=none".parse().unwrap());
    relay.reload(moved).await.unwrap();
    relay.retry(id).await.unwrap();
    assert_eq!(until(&mut events, EventName::Send).await.id, Some(id));
    is_empty(&relay).await;
    stop(&relay).await;
    assert_eq!(bench.other.received().len(), 1);
}

#[tokio::test]
async fn mail_that_lost_its_route_waits_and_says_so_until_it_has_one_again() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = deferred(&relay, &["busy@example.com"]).await;
    let mut none = bench.settings();
    none.routes = RouteTable::default();
    relay.reload(none).await.unwrap();
    let error = relay.submit(letter(&["bob@example.com"]), "\r\n").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "bob@example.com: 550 5.4.4 no route to this domain is configured here (no [[route]] is for the recipient's domain)"
    );
    relay.retry(id).await.unwrap();
    let asleep = until(&mut events, EventName::Sleep).await;
    let said = "no [[route]] is for this mail any more; add one, and reload";
    assert_eq!(asleep.reason.as_deref(), Some(said));
    let listed = show(&relay, id).await;
    assert_eq!(listed.state, ListedState::Asleep);
    assert_eq!(listed.recipients[0].last.as_deref(), Some(said));

    bench.busy.store(false, Ordering::SeqCst);
    relay.reload(bench.settings()).await.unwrap();
    relay.retry(id).await.unwrap();
    until(&mut events, EventName::Send).await;
    is_empty(&relay).await;
    let mut renamed = bench.settings();
    renamed.hostname = "another.example.org".into();
    let error = relay.reload(renamed).await.unwrap_err();
    assert!(matches!(error, ReloadError::NeedsRestart("hostname")), "{error}");
    stop(&relay).await;
}

#[tokio::test]
async fn a_held_message_stays_held_over_a_reload() {
    let bench = bench().await;
    let relay = bench.start().await;
    let mut events = relay.events();
    let id = deferred(&relay, &["busy@example.com"]).await;
    relay.queue().hold(id).await.unwrap();
    let mut moved = bench.settings();
    moved.routes = RouteTable::all_via("other");
    relay.reload(moved).await.unwrap();
    assert_eq!(show(&relay, id).await.state, ListedState::Held);
    relay.queue().release(id).await.unwrap();
    let sent = until(&mut events, EventName::Send).await;
    assert_eq!((sent.id, sent.destination.as_deref()), (Some(id), Some("other")));
    stop(&relay).await;
}

#[tokio::test]
async fn a_folder_belongs_to_one_relay_and_the_second_is_told_so() {
    let bench = bench().await;
    let first = bench.start().await;
    let id = deferred(&first, &["busy@example.com"]).await;
    let mut second = bench.settings();
    second.track = Track::Subscribers;
    let Err(error) = bench.try_start(second).await else { panic!("a second relay took the folder") };
    let path = bench.folder.path().join("spool");
    let sentence = error.to_string();
    let (owner, rest) = (
        format!("the spool folder {} belongs to ", path.display()),
        ", which is still running; stop it, or use another folder",
    );
    assert!(sentence.starts_with(&owner) && sentence.ends_with(rest), "{sentence}");
    assert!(sentence.contains(&std::process::id().to_string()), "{sentence}");

    // The first is none the worse for it.
    bench.busy.store(false, Ordering::SeqCst);
    first.retry(id).await.unwrap();
    is_empty(&first).await;
    stop(&first).await;
    let third = bench.start().await;
    stop(&third).await;
}

/// A relay on paused time, whose upstream is busy for ever.
async fn on_paused_time() -> (Relay, Upstream, Clock) {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let script = |asked: &Asked, _| match asked {
        Asked::Recipient(to) if to.starts_with("busy") => Say::No(reply("451 4.2.1 the mailbox is busy")),
        _ => Say::Yes,
    };
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, script).await;
    let mut settings = settings(Path::new(""));
    (settings.keep, settings.track) = (Keep::Memory, Track::Subscribers);
    (world::start(settings, &network, &clock).await, upstream, clock)
}

#[tokio::test(start_paused = true)]
async fn a_message_does_not_age_while_it_is_held() {
    let (relay, upstream, clock) = on_paused_time().await;
    let id = submit(&relay, &["busy@example.com"]).await;
    clock.wait(HOUR).await;
    relay.queue().hold(id).await.unwrap();
    let attempts = show(&relay, id).await.recipients[0].attempts;
    clock.wait(5 * DAY).await;
    let held = show(&relay, id).await;
    assert_eq!((held.state, held.recipients[0].attempts), (ListedState::Held, attempts));
    assert!(upstream.received().is_empty(), "no delay notice, and no bounce");

    relay.queue().release(id).await.unwrap();
    let released = show(&relay, id).await;
    assert_eq!(released.expires, Some(released.arrived + 5 * DAY + 2 * DAY));
    // It is one hour old. The delay notice comes when it is four, the bounce when it is two days old.
    clock.wait(3 * HOUR - Duration::from_secs(60)).await;
    assert!(upstream.received().is_empty(), "the delay notice came too early");
    clock.wait(Duration::from_secs(180)).await;
    let delay = upstream.received();
    assert_eq!(delay.len(), 1);
    assert!(delay[0].content.contains("Action: delayed"), "{}", delay[0].content);
    clock.wait(2 * DAY - 4 * HOUR - Duration::from_secs(300)).await;
    assert_eq!(upstream.received().len(), 1, "the bounce came too early");
    clock.wait(Duration::from_secs(600)).await;
    let bounce = upstream.received();
    assert_eq!(bounce.len(), 2);
    assert!(bounce[1].content.contains("Action: failed"), "{}", bounce[1].content);
    assert!(bounce[1].content.contains("tried for 2 days"), "{}", bounce[1].content);
    assert!(relay.queue().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_holds_add_up_and_a_message_past_its_time_is_tried_before_it_bounces() {
    let (relay, upstream, clock) = on_paused_time().await;
    let id = submit(&relay, &["busy@example.com"]).await;
    for _ in 0..2 {
        clock.wait(HOUR).await;
        relay.queue().hold(id).await.unwrap();
        clock.wait(DAY).await;
        relay.queue().release(id).await.unwrap();
    }
    clock.wait(Duration::from_secs(1)).await;
    let listed = show(&relay, id).await;
    assert_eq!(listed.expires, Some(listed.arrived + 2 * DAY + 2 * DAY));
    assert!(listed.recipients[0].next_attempt.is_some_and(|next| next > clock.now()));
    assert!(upstream.received().is_empty());
    clock.wait(3 * DAY).await;
    assert!(relay.queue().is_empty());
    assert_eq!(upstream.received().len(), 2, "one delay notice and one bounce");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_cancelled_leaves_no_timer_behind() {
    let (relay, upstream, clock) = on_paused_time().await;
    let id = submit(&relay, &["busy@example.com"]).await;
    clock.wait(HOUR).await;
    relay.queue().cancel(id).await.unwrap();
    let asked = upstream.asked().len();
    clock.wait(5 * DAY).await;
    assert_eq!(upstream.asked().len(), asked, "the upstream was asked again");
    assert!(relay.queue().is_empty() && relay.queue().destinations().is_empty());
}
