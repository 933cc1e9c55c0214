//! What one attempt makes of hosts that refuse, limit, die and lie: fates of recipients over several hosts, and what nobody
//! knows.

mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::{Listed, ListedState, Matching, OperateError, RecipientStanding, WhenUncertain};
use posthouse::relay::{Keep, Relay, Settings, Track};
use posthouse::tracking::{Event, EventName};
use tokio::sync::mpsc::UnboundedReceiver;
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply, route};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const FIRST: &str = "192.0.2.1:25";
const NEXT: &str = "192.0.2.2:25";
/// The way back to senders.
const BACK: &str = "192.0.2.9:25";

/// A relay with two hosts for everybody's mail, and one for the notices.
struct Bench {
    relay: Relay,
    clock: Clock,
    first: Upstream,
    next: Upstream,
    back: Upstream,
    events: UnboundedReceiver<Arc<Event>>,
    told: Vec<Arc<Event>>,
}

fn settings() -> (Settings, UnboundedReceiver<Arc<Event>>) {
    let mut settings = world::settings(&[("main", &format!("{FIRST} {NEXT}")), ("back", BACK)]);
    settings.routes.routes.insert(0, route("example.org", "back"));
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    settings.track = Track::Channel(sender);
    (settings, events)
}

type Script = Box<dyn FnMut(&Asked, Timestamp) -> Say + Send>;

fn yes() -> Script {
    Box::new(|_, _| Say::Yes)
}

async fn bench(first: Script, next: Script, change: impl FnOnce(&mut Settings)) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    bench_by(clock, first, next, change).await
}

async fn bench_by(clock: Clock, first: Script, next: Script, change: impl FnOnce(&mut Settings)) -> Bench {
    let network = Network::Memory(MemoryNetwork::new());
    let first = Upstream::start(&network, FIRST, &clock, first).await;
    let next = Upstream::start(&network, NEXT, &clock, next).await;
    let back = Upstream::start(&network, BACK, &clock, |_, _| Say::Yes).await;
    let (mut settings, events) = settings();
    change(&mut settings);
    let relay = world::start(settings, &network, &clock).await;
    Bench { relay, clock, first, next, back, events, told: Vec::new() }
}

impl Bench {
    async fn submit(&self, recipients: &[&str]) -> QueueId {
        let sender: Address = "alice@example.org".parse().unwrap();
        let recipients = recipients.iter().map(|name| format!("{name}@example.com").parse().unwrap());
        let envelope = Envelope::new(sender.into(), recipients);
        self.relay.submit(envelope, "Subject: x\r\n\r\nx\r\n").await.unwrap()
    }

    /// The events of this name so far.
    fn told(&mut self, name: EventName) -> Vec<Arc<Event>> {
        while let Ok(event) = self.events.try_recv() {
            self.told.push(event);
        }
        self.told.iter().filter(|event| event.event == name).cloned().collect()
    }

    async fn uncertain(&self) -> Vec<Listed> {
        let matching = Matching { uncertain: true, ..Matching::default() };
        self.relay.queue().list(&matching).await
    }

    fn ends_of_content(&self) -> usize {
        self.first.asked().iter().filter(|(_, asked)| *asked == Asked::EndOfContent).count()
    }

    fn notice(&self) -> String {
        let notices = self.back.received();
        assert_eq!(notices.len(), 1, "{notices:?}");
        notices[0].content.replace("=\r\n", "").replace("\r\n", " ")
    }
}

/// Names of the recipients of each message that a host has taken.
fn taken(upstream: &Upstream) -> Vec<Vec<String>> {
    let names = |envelope: &Envelope| {
        let names = envelope.recipients.iter().map(|r| r.address.to_string());
        names.map(|address| address.split('@').next().unwrap().to_owned()).collect()
    };
    upstream.received().iter().map(|received| names(&received.envelope)).collect()
}

/// The first `times` messages are cut off when they are whole; after that all goes well.
fn cut_at_the_end(times: u32) -> Script {
    let mut left = times;
    Box::new(move |asked, _| match asked {
        Asked::EndOfContent if left > 0 => {
            left -= 1;
            Say::HangUp
        }
        _ => Say::Yes,
    })
}

fn hold(settings: &mut Settings) {
    settings.uncertain.groups.insert("main".into(), WhenUncertain::Hold);
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_the_fate_that_his_own_reply_means() {
    let first: Script = Box::new(|asked, _| match asked {
        Asked::Recipient(to) if to.starts_with("never") => Say::No(reply("550 4.1.1 no such user")),
        Asked::Recipient(to) if to.starts_with("disk") => Say::No(reply("452 4.3.1 disk full")),
        Asked::Recipient(to) if to.starts_with("later") => Say::No(reply("450 5.2.1 greylisted")),
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    bench.submit(&["taken", "never", "disk", "later"]).await;
    bench.clock.wait(5 * SECOND).await;
    assert_eq!(taken(&bench.first), [["taken"]]);
    assert_eq!(taken(&bench.next), [["disk"]], "only the failure of the mail system goes to another host");
    let failed = &bench.told(EventName::Fail)[0];
    assert_eq!(failed.recipients, ["never@example.com"]);
    assert_eq!(failed.status.unwrap().to_string(), "5.1.1", "the basic code decides");
    let deferred = &bench.told(EventName::Defer)[0];
    assert_eq!(deferred.recipients, ["later@example.com"]);
    assert_eq!(deferred.status.unwrap().to_string(), "4.2.1");
}

#[tokio::test(start_paused = true)]
async fn whom_a_host_has_no_room_for_is_offered_again_at_once() {
    let mut room = 0;
    let first: Script = Box::new(move |asked, _| match asked {
        Asked::Mail(_) => {
            room = 2;
            Say::Yes
        }
        Asked::Recipient(_) if room == 0 => Say::No(reply("452 4.5.3 too many recipients")),
        Asked::Recipient(_) => {
            room -= 1;
            Say::Yes
        }
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    bench.submit(&["a", "b", "c", "d", "e"]).await;
    bench.clock.wait(SECOND).await;
    let taken: Vec<usize> = taken(&bench.first).iter().map(Vec::len).collect();
    assert_eq!(taken, [2, 2, 1]);
    assert!(bench.relay.queue().is_empty() && bench.told(EventName::Defer).is_empty());
    let greetings = bench.first.asked().iter().filter(|(_, asked)| *asked == Asked::Greeting).count();
    assert_eq!(greetings, 1, "over the same connection");
}

#[tokio::test(start_paused = true)]
async fn how_many_recipients_a_host_has_room_for_is_known_over_the_next_connections_too() {
    let mut room = 0;
    let first: Script = Box::new(move |asked, _| match asked {
        Asked::Recipient(_) if room == 0 => Say::No(reply("452 4.5.3 too many recipients")),
        Asked::Recipient(_) => {
            room -= 1;
            Say::Yes
        }
        _ => {
            room = 2;
            Say::Yes
        }
    });
    let bench = bench(first, yes(), |_| {}).await;
    let asked =
        |what: fn(&Asked) -> bool| bench.first.asked().iter().filter(|(_, asked)| what(asked)).count();
    for (offered, connections) in [(5 + 2 + 1, 1), (8 + 2 + 2 + 1, 2)] {
        bench.submit(&["a", "b", "c", "d", "e"]).await;
        bench.clock.wait(MINUTE).await;
        assert_eq!(asked(|asked| *asked == Asked::Greeting), connections);
        assert_eq!(asked(|asked| matches!(asked, Asked::Recipient(_))), offered);
    }
    let taken: Vec<usize> = taken(&bench.first).iter().map(Vec::len).collect();
    assert_eq!(taken, [2, 2, 1, 2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn how_many_messages_a_host_takes_over_a_connection_is_found_out_once() {
    let mut carried = 0;
    let first: Script = Box::new(move |asked, _| match asked {
        Asked::Greeting => {
            carried = 0;
            Say::Yes
        }
        Asked::Mail(_) if carried == 3 => Say::No(reply("421 4.7.0 too many messages in this session")),
        Asked::Mail(_) => {
            carried += 1;
            Say::Yes
        }
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    // As MAIL is asked once more for each message that paid for it.
    for (messages, paid) in [(12, 1), (12, 1), (12, 2)] {
        if paid == 2 {
            bench.clock.wait(10 * MINUTE).await;
        }
        for _ in 0..messages {
            bench.submit(&["bob"]).await;
            bench.clock.wait(SECOND / 10).await;
        }
        let mails = bench.first.asked().iter().filter(|(_, asked)| matches!(asked, Asked::Mail(_))).count();
        assert_eq!(mails - bench.first.received().len(), paid);
    }
    assert_eq!(bench.first.received().len(), 36);
    assert!(bench.told(EventName::Defer).is_empty() && bench.told(EventName::Failover).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_has_room_for_nobody_is_not_asked_for_ever() {
    let first: Script = Box::new(|asked, _| match asked {
        Asked::Recipient(_) => Say::No(reply("452 4.5.3 too many recipients")),
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    bench.submit(&["a", "b"]).await;
    bench.clock.wait(5 * SECOND).await;
    assert_eq!(bench.first.asked().iter().filter(|(_, asked)| matches!(asked, Asked::Mail(_))).count(), 1);
    assert_eq!(bench.told(EventName::Defer).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_hundred_recipients_go_in_transactions_one_after_the_other() {
    let mut bench = bench(yes(), yes(), |_| {}).await;
    let names: Vec<String> = (0..250).map(|n| format!("r{n}")).collect();
    bench.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bench.clock.wait(SECOND).await;
    let taken: Vec<usize> = taken(&bench.first).iter().map(Vec::len).collect();
    assert_eq!(taken, [100, 100, 50]);
    assert!(bench.relay.queue().is_empty() && bench.told(EventName::Defer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_message_is_told_counted_and_sent_again_and_to_no_other_host_at_once() {
    let mut bench = bench(cut_at_the_end(1), yes(), |_| {}).await;
    bench.submit(&["bob"]).await;
    bench.clock.wait(10 * SECOND).await;
    assert!(bench.next.received().is_empty(), "it may have been delivered");
    let row = bench.uncertain().await.remove(0);
    assert_eq!((row.state, row.recipients[0].state), (ListedState::Waiting, RecipientStanding::Uncertain));
    let told = bench.told(EventName::Uncertain);
    assert_eq!((told.len(), bench.relay.queue().uncertain()), (1, 1));
    assert!(told[0].next_attempt.is_some() && told[0].host.is_some(), "{told:?}");
    assert!(told[0].reason.as_ref().unwrap().ends_with("; it is sent again, and may come twice"), "{told:?}");
    bench.clock.wait(HOUR).await;
    assert_eq!(bench.first.received().len(), 1);
    assert!(bench.relay.queue().is_empty() && bench.back.received().is_empty());
}

/// Servers end connections that were idle, and a new one is opened without a word. Not when the content was out.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_before_makes_nothing_certain() {
    let mut ends = 0;
    let first: Script = Box::new(move |asked, _| match asked {
        Asked::EndOfContent => {
            ends += 1;
            if ends == 2 { Say::HangUp } else { Say::Yes }
        }
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    for _ in 0..2 {
        bench.submit(&["bob"]).await;
        bench.clock.wait(SECOND).await;
    }
    let greetings = bench.first.asked().iter().filter(|(_, asked)| *asked == Asked::Greeting).count();
    assert_eq!(
        (greetings, bench.ends_of_content()),
        (1, 2),
        "both over one connection, and none at once again"
    );
    assert_eq!(bench.told(EventName::Uncertain).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_refused_behind_the_content_is_in_no_doubt_when_he_is_tried_again() {
    let mut ends = 0;
    let first: Script = Box::new(move |asked, _| match asked {
        Asked::EndOfContent => {
            ends += 1;
            if ends == 1 { Say::No(reply("451 4.7.1 later")) } else { Say::Yes }
        }
        _ => Say::Yes,
    });
    let mut bench = bench(first, yes(), |_| {}).await;
    bench.submit(&["bob"]).await;
    bench.clock.wait(HOUR).await;
    assert_eq!((bench.first.received().len(), bench.told(EventName::Defer).len()), (1, 1));
    assert_eq!((bench.told(EventName::Uncertain).len(), bench.relay.queue().uncertain()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn under_hold_a_person_decides_that_it_goes_again() {
    let mut bench = bench(cut_at_the_end(1), yes(), hold).await;
    let id = bench.submit(&["bob"]).await;
    bench.clock.wait(2 * HOUR).await;
    assert_eq!(bench.ends_of_content(), 1, "nothing is tried by itself");
    let row = bench.uncertain().await.remove(0);
    assert_eq!((row.state, row.recipients[0].state), (ListedState::Uncertain, RecipientStanding::Uncertain));
    assert!(row.recipients[0].next_attempt.is_none() && row.expires.is_some());
    let told = bench.told(EventName::Uncertain).remove(0);
    let said = told.reason.as_deref().unwrap_or_default();
    assert!(told.next_attempt.is_none() && said.contains("; it waits until a person decides"), "{said}");
    assert!(matches!(bench.relay.queue().hold(id).await, Err(OperateError::Uncertain(_))));
    bench.relay.retry_all(None);
    bench.clock.wait(HOUR).await;
    assert_eq!(bench.ends_of_content(), 1, "that is for one message at a time");
    bench.relay.retry(id).await.unwrap();
    bench.clock.wait(SECOND).await;
    assert_eq!(bench.first.received().len(), 1);
    assert!(bench.relay.queue().is_empty() && bench.back.received().is_empty());
}

#[tokio::test(start_paused = true)]
async fn under_hold_a_person_decides_that_it_has_arrived() {
    let mut bench = bench(cut_at_the_end(1), yes(), hold).await;
    let id = bench.submit(&["bob"]).await;
    bench.clock.wait(HOUR).await;
    bench.relay.queue().cancel(id).await.unwrap();
    bench.clock.wait(72 * HOUR).await;
    assert!(bench.relay.queue().is_empty() && bench.back.received().is_empty());
    assert_eq!((bench.ends_of_content(), bench.told(EventName::Cancel).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn under_hold_a_sender_is_told_when_nobody_decides() {
    let mut bench = bench(cut_at_the_end(1), yes(), hold).await;
    bench.submit(&["bob"]).await;
    bench.clock.wait(47 * HOUR).await;
    let notice = bench.notice();
    assert!(
        notice.contains("Delivery is delayed") && notice.contains("does not try again by itself"),
        "{notice}"
    );
    assert!(bench.told(EventName::Expire).is_empty());
    bench.clock.wait(2 * HOUR).await;
    assert_eq!((bench.told(EventName::Expire).len(), bench.ends_of_content()), (1, 1));
    let notices = bench.back.received();
    let last = notices[1].content.replace("=\r\n", "").replace("\r\n", " ");
    assert!(notices.len() == 2 && last.contains("It may have arrived all the same"), "{last}");
    assert!(bench.relay.queue().is_empty());
}

#[tokio::test(start_paused = true)]
async fn under_hold_only_he_is_held_of_whom_nobody_knows() {
    let first: Script = {
        let mut cut = cut_at_the_end(1);
        Box::new(move |asked, now| match asked {
            Asked::Recipient(to) if to.starts_with("later") && now < FRIDAY_NOON + SECOND => {
                Say::No(reply("451 4.2.1 greylisted"))
            }
            asked => cut(asked, now),
        })
    };
    let bench = bench(first, yes(), hold).await;
    bench.submit(&["bob", "later"]).await;
    bench.clock.wait(HOUR).await;
    assert_eq!(taken(&bench.first), [["later"]]);
    let row = bench.uncertain().await.remove(0);
    let standings: Vec<RecipientStanding> = row.recipients.iter().map(|recipient| recipient.state).collect();
    assert_eq!(standings, [RecipientStanding::Uncertain, RecipientStanding::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn under_hold_what_an_operator_holds_does_not_end_and_what_has_a_deadline_ends_with_it() {
    let first: Script = {
        let mut cut = cut_at_the_end(2);
        Box::new(move |asked, now| match asked {
            Asked::Recipient(to) if to.starts_with("later") => Say::No(reply("451 4.2.1 greylisted")),
            asked => cut(asked, now),
        })
    };
    let mut bench = bench(first, yes(), hold).await;
    let held = bench.submit(&["bob", "later"]).await;
    let by = DeliverBy { seconds: 7200, mode: ByMode::Return, trace: false };
    let sender: Address = "alice@example.org".parse().unwrap();
    let envelope = Envelope::new(sender.into(), ["carol@example.com".parse().unwrap()]);
    let envelope = Envelope { deliver_by: Some(by), ..envelope };
    bench.relay.submit(envelope, "Subject: x\r\n\r\nx\r\n").await.unwrap();
    bench.clock.wait(SECOND).await;
    bench.relay.queue().hold(held).await.unwrap();
    bench.clock.wait(3 * HOUR).await;
    let expired = bench.told(EventName::Expire);
    assert_eq!((expired.len(), &*expired[0].recipients), (1, &["carol@example.com".to_owned()][..]));
    bench.clock.wait(100 * HOUR).await;
    assert_eq!((bench.told(EventName::Expire).len(), bench.relay.queue().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_expires_quotes_the_last_that_was_really_heard() {
    let first: Script = Box::new(|asked, now| match asked {
        _ if now > FRIDAY_NOON + HOUR => Say::HangUp,
        Asked::Recipient(_) => Say::No(reply("452 4.2.2 mailbox full")),
        _ => Say::Yes,
    });
    let next: Script = Box::new(|_, now| match now > FRIDAY_NOON + HOUR {
        true => Say::HangUp,
        false => Say::Yes,
    });
    let change = |settings: &mut Settings| settings.retry.delay_after = None;
    let mut bench = bench(first, next, change).await;
    bench.submit(&["bob"]).await;
    bench.clock.wait(60 * HOUR).await;
    let expired = &bench.told(EventName::Expire)[0];
    assert_eq!(expired.reply.as_ref().unwrap().to_string(), "452 4.2.2 mailbox full");
    assert!(expired.host.as_ref().unwrap().to_string().contains("192.0.2.1"), "{expired:?}");
    let reason = expired.reason.as_ref().unwrap();
    assert!(reason.starts_with("since then: ") && reason.contains("closed the connection"), "{reason}");
    let notice = bench.notice();
    assert!(notice.contains("said: 452 4.2.2 mailbox full; since then: "), "{notice}");
    assert!(notice.contains("Diagnostic-Code: smtp; 452 4.2.2 mailbox full"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_while_it_is_young_and_wanted() {
    let change = |settings: &mut Settings| {
        settings.deliver.idle_connection = 30 * SECOND;
        settings.deliver.connection_age = 60 * SECOND;
    };
    let bench = bench(yes(), yes(), change).await;
    // 20, 40: reused. 60 seconds: too old. 91: waited too long.
    for wait in [20, 20, 20, 31, 0] {
        bench.submit(&["bob"]).await;
        bench.clock.wait(wait * SECOND).await;
    }
    bench.clock.wait(SECOND).await;
    let greetings = bench.first.asked().into_iter().filter(|(_, asked)| *asked == Asked::Greeting);
    let greetings: Vec<u64> = greetings.map(|(at, _)| at.since(FRIDAY_NOON).as_secs()).collect();
    assert_eq!((bench.first.received().len(), greetings), (5, vec![0, 60, 91]));
}

/// A relay whose spool is on disk, by the real clock.
async fn on_disk(folder: &Path, first: Script, change: impl FnOnce(&mut Settings)) -> Bench {
    let keep = |settings: &mut Settings| {
        let mut spool = posthouse::spool::Settings::new(folder);
        spool.min_free = 0;
        settings.keep = Keep::Folder(spool);
        change(settings);
    };
    bench_by(Clock::system(), first, yes(), keep).await
}

/// The relay ends while the host has the whole message and has not answered.
async fn stop_in_the_midst(folder: &Path, change: impl FnOnce(&mut Settings)) {
    let (reached, is_there) = std::sync::mpsc::channel();
    let (gone, until_gone) = std::sync::mpsc::channel::<()>();
    let first: Script = Box::new(move |asked, _| {
        if *asked == Asked::EndOfContent {
            reached.send(()).unwrap();
            // The connection stays without an answer until the relay is gone.
            let _ = until_gone.recv();
        }
        Say::Yes
    });
    let mut bench = on_disk(folder, first, change).await;
    bench.submit(&["bob"]).await;
    tokio::task::spawn_blocking(move || is_there.recv_timeout(60 * SECOND)).await.unwrap().unwrap();
    bench.relay.shutdown(Duration::ZERO).await.unwrap_err();
    drop(gone);
    assert!(bench.told(EventName::Send).is_empty() && bench.told(EventName::Uncertain).is_empty());
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_relay_that_stopped_in_the_midst_of_a_delivery_knows_it_and_sends_again() {
    let folder = tempfile::tempdir().unwrap();
    stop_in_the_midst(folder.path(), |_| {}).await;
    let mut bench = on_disk(folder.path(), yes(), |_| {}).await;
    // The queue is empty a moment before the log says why.
    until("the message is sent", async || !bench.told(EventName::Send).is_empty()).await;
    let told = bench.told(EventName::Uncertain);
    assert_eq!((told.len(), bench.relay.queue().uncertain()), (1, 1), "{told:?}");
    assert!(told[0].reason.as_ref().unwrap().contains("the relay stopped"), "{told:?}");
    assert!(told[0].host.as_ref().unwrap().to_string().contains("192.0.2.1"), "{told:?}");
    let sent = bench.told(EventName::Send);
    assert_eq!((sent.len(), sent[0].attempt, bench.first.received().len()), (1, Some(2), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_relay_that_stopped_in_the_midst_of_a_delivery_leaves_it_to_a_person_under_hold() {
    let folder = tempfile::tempdir().unwrap();
    stop_in_the_midst(folder.path(), hold).await;
    for run in 0..2 {
        let mut bench = on_disk(folder.path(), yes(), hold).await;
        let waits = async || bench.uncertain().await.iter().any(|row| row.state == ListedState::Uncertain);
        until("it waits for a person", waits).await;
        let row = bench.uncertain().await.remove(0);
        // Told once, and known ever after.
        assert_eq!(bench.told(EventName::Uncertain).len(), 1 - run);
        assert!(bench.first.asked().is_empty(), "run {run}");
        if run == 1 {
            bench.relay.retry(row.id).await.unwrap();
            until("the message is sent", async || bench.relay.queue().is_empty()).await;
            assert_eq!(bench.first.received().len(), 1);
        }
        bench.relay.shutdown(10 * SECOND).await.unwrap();
    }
}
