//! What was delivered is kept for a while, and can be sent again when whoever took it has lost it: once, by another way,
//! for those whom it took.

mod world;

use std::path::Path;
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::{ListedState, Matching, PassedOver, RecipientStanding, SafetyNet};
use posthouse::relay::{Keep, Relay, Resubmission, ResubmitError, SentAgain, Settings};
use posthouse::tracking::{EventName, Events};
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply, route};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A relay with the groups `main` (for everybody), `backup`, and `other` (for other.example).
struct Bench {
    clock: Clock,
    relay: Relay,
    main: Upstream,
    backup: Upstream,
    other: Upstream,
}

async fn bench(start: Timestamp, backup_works: bool, change: impl FnOnce(&mut Settings)) -> Bench {
    let clock = Clock::simulated(start, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let groups = [("main", "192.0.2.10:25"), ("backup", "192.0.2.11:25"), ("other", "192.0.2.12:25")];
    let mut settings = world::settings(&groups);
    settings.routes.routes.insert(0, route("other.example", "other"));
    settings.queue.safety_net = Some(SafetyNet { hold: HOUR * 2, max_messages: None, max_bytes: None });
    change(&mut settings);
    let main = Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let backup = Upstream::start(&network, "192.0.2.11:25", &clock, move |asked, _| match asked {
        Asked::Mail(_) if !backup_works => Say::No(reply("451 4.3.0 not now")),
        _ => Say::Yes,
    })
    .await;
    let other = Upstream::start(&network, "192.0.2.12:25", &clock, |asked, _| match asked {
        Asked::Recipient(address) if address.starts_with("gone@") => Say::No(reply("550 5.1.1 gone")),
        Asked::Recipient(address) if address.starts_with("busy@") => Say::No(reply("451 4.3.0 later")),
        _ => Say::Yes,
    })
    .await;
    Bench { relay: world::start(settings, &network, &clock).await, clock, main, backup, other }
}

impl Bench {
    async fn submit(&self, to: &[&str]) -> QueueId {
        let from = "sender@example.org".parse::<Address>().unwrap().into();
        let to: Vec<Address> = to.iter().map(|to| to.parse().unwrap()).collect();
        let content = "Message-ID: <m@example.org>\r\nSubject: x\r\n\r\nkept\r\n";
        self.relay.submit(Envelope::new(from, to), content).await.unwrap()
    }

    /// What `main` has taken goes by way of `backup`.
    fn by_backup(&self) -> Resubmission {
        Resubmission { upstream: "main".into(), via: Some("backup".into()), ..Resubmission::default() }
    }

    async fn resubmit(&self, asked: &Resubmission) -> SentAgain {
        self.relay.resubmit(asked).await.unwrap()
    }

    /// Until nothing waits.
    async fn run_dry(&self) {
        for _ in 0..1000 {
            if self.relay.queue().is_empty() {
                return;
            }
            self.clock.wait(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.relay.queue().destinations());
    }

    async fn kept(&self) -> Vec<QueueId> {
        let rows = self.relay.queue().list(&Matching { kept: true, ..Matching::default() }).await;
        assert!(
            rows.iter().all(|row| row.state == ListedState::Kept && row.kept_until.is_some()),
            "{rows:?}"
        );
        rows.into_iter().map(|row| row.id).collect()
    }
}

fn selected(answer: &SentAgain) -> Vec<QueueId> {
    answer.messages.iter().filter(|row| row.selected).map(|row| row.id).collect()
}

fn resubmits(events: &mut Events) -> usize {
    let mut count = 0;
    while let Some(event) = events.try_next() {
        count += usize::from(event.unwrap().event == EventName::Resubmit);
    }
    count
}

#[tokio::test(start_paused = true)]
async fn what_an_upstream_has_lost_is_sent_again_once_by_another_way() {
    let bench = bench(FRIDAY_NOON, true, |_| {}).await;
    let mut events = bench.relay.events();
    let ids = [bench.submit(&["a@example.com"]).await, bench.submit(&["b@example.com"]).await];
    let elsewhere = bench.submit(&["c@other.example"]).await;
    bench.run_dry().await;
    assert_eq!(bench.relay.queue().list(&Matching::default()).await, [], "nothing waits");
    assert_eq!(bench.kept().await, [ids[0], ids[1], elsewhere]);

    let asked = Resubmission { dry_run: true, ..bench.by_backup() };
    let shown = bench.resubmit(&asked).await;
    assert_eq!(selected(&shown), ids, "what another took is not meant");
    let row = &shown.messages[0];
    assert_eq!(row.message_id.as_deref(), Some("<m@example.org>"));
    assert_eq!(row.recipients[0].host.as_deref(), Some("[192.0.2.10]"));
    assert_eq!((bench.backup.received().len(), resubmits(&mut events)), (0, 0), "it was only a question");

    assert_eq!(selected(&bench.resubmit(&bench.by_backup()).await), ids);
    assert_eq!(bench.resubmit(&bench.by_backup()).await.messages, [], "they wait again, and are not kept");
    bench.run_dry().await;
    let again = bench.backup.received();
    assert_eq!((again.len(), bench.main.received().len(), bench.other.received().len()), (2, 2, 1));
    assert!(again[0].content.ends_with("Subject: x\r\n\r\nkept\r\n"), "{}", again[0].content);
    assert_eq!(resubmits(&mut events), 2);

    // Delivered again, they are kept again, as the backup's.
    assert_eq!(bench.resubmit(&bench.by_backup()).await.messages, [], "main has nothing to do with them");
    let backups = Resubmission { upstream: "backup".into(), ..Resubmission::default() };
    let passed_over = bench.resubmit(&backups).await;
    assert_eq!((passed_over.messages.len(), selected(&passed_over).len()), (2, 0), "not twice by accident");
    let insisted = bench.resubmit(&Resubmission { again: true, ids: vec![ids[1]], ..backups }).await;
    assert_eq!(selected(&insisted), [ids[1]]);
    bench.run_dry().await;
    assert_eq!(bench.main.received().len(), 3, "as the routes say");
}

#[tokio::test(start_paused = true)]
async fn staging_mails_no_customer_by_another_way_either() {
    let staging: Address = "staging@example.net".parse().unwrap();
    let bench = bench(FRIDAY_NOON, true, |settings| {
        let routes = &mut settings.routes.routes;
        routes.last_mut().expect("everybody's").redirect_to = Some(staging.clone());
    })
    .await;
    let id = bench.submit(&["customer@example.com"]).await;
    bench.run_dry().await;
    assert_eq!(selected(&bench.resubmit(&bench.by_backup()).await), [id]);
    let waits = bench.relay.queue().show(id).await.unwrap();
    assert_eq!(waits.recipients[0].redirect_to.as_deref(), Some("staging@example.net"), "{waits:?}");
    bench.run_dry().await;
    for upstream in [&bench.main, &bench.backup] {
        let received = upstream.received();
        let [recipient] = &received[0].envelope.recipients[..] else { panic!("{received:?}") };
        assert_eq!(recipient.address, staging);
    }
    let told = bench.relay.queue().show(id).await.unwrap().recipients.remove(0);
    let last = told.last.unwrap();
    assert!(
        last.starts_with("[192.0.2.11] said: 250 ") && last.ends_with("; redirected to staging@example.net"),
        "{last}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_is_named_is_sent_again() {
    let bench = bench(FRIDAY_NOON, true, |_| {}).await;
    let early = bench.submit(&["a@example.com"]).await;
    bench.clock.wait(MINUTE).await;
    let since = bench.clock.now();
    let late = bench.submit(&["b@example.com", "c@other.example"]).await;
    bench.run_dry().await;
    let dry = Resubmission { dry_run: true, ..bench.by_backup() };
    for (asked, expected) in [
        (Resubmission { since, ..dry.clone() }, vec![late]),
        (Resubmission { ids: vec![early], ..dry.clone() }, vec![early]),
        (Resubmission { message_ids: vec!["m@example.org".into()], ..dry.clone() }, vec![early, late]),
        (Resubmission { message_ids: vec!["<none@example.org>".into()], ..dry.clone() }, vec![]),
    ] {
        assert_eq!(selected(&bench.resubmit(&asked).await), expected, "{asked:?}");
    }
    bench.resubmit(&Resubmission { since, ..bench.by_backup() }).await;
    bench.run_dry().await;
    let again = bench.backup.received();
    let to: Vec<String> = again[0].envelope.recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!((again.len(), to), (1, vec!["b@example.com".to_owned()]), "only whom it took");
    for (asked, says) in [
        (Resubmission { upstream: "mian".into(), ..dry.clone() }, "no upstream group called \"mian\""),
        (Resubmission { via: Some("bakcup".into()), ..dry }, "no upstream group called \"bakcup\""),
    ] {
        let error = bench.relay.resubmit(&asked).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_some_still_wait_for_is_sent_again_to_those_who_had_it() {
    const BUSY: &str = "busy@other.example";
    let bench = bench(FRIDAY_NOON, true, |_| {}).await;
    let id = bench.submit(&["a@example.com", BUSY]).await;
    let bounced = bench.submit(&["gone@other.example", BUSY]).await;
    bench.clock.wait(MINUTE).await;
    assert_eq!((bench.relay.queue().len(), bench.relay.queue().kept_len()), (2, 1), "and a notice is kept");
    let dry = Resubmission { dry_run: true, ids: vec![id, bounced], ..bench.by_backup() };
    let shown = bench.resubmit(&dry).await;
    assert_eq!(shown.messages.len(), 1, "nobody took the other: {shown:?}");
    let row = &shown.messages[0];
    assert_eq!((row.id, row.passed_over), (id, Some(PassedOver::OthersWait)), "busy would go by backup too");
    assert_eq!(bench.resubmit(&Resubmission { dry_run: false, ..dry.clone() }).await.messages.len(), 1);
    assert_eq!(bench.backup.received().len(), 0, "it was passed over");
    bench.relay.queue().hold(id).await.unwrap();
    let as_routed = Resubmission { via: None, dry_run: false, ..dry };
    assert_eq!(bench.resubmit(&as_routed).await.messages[0].passed_over, Some(PassedOver::Held));
    bench.relay.queue().release(id).await.unwrap();
    assert_eq!(selected(&bench.resubmit(&as_routed).await), [id]);
    assert_eq!(selected(&bench.resubmit(&as_routed).await), [], "he waits, and is not found");
    bench.clock.wait(MINUTE).await;
    let to: Vec<_> =
        bench.main.received().iter().map(|m| m.envelope.recipients[0].address.to_string()).collect();
    assert_eq!(to.iter().filter(|to| *to == "a@example.com").count(), 2, "{to:?}");
    let shown = bench.relay.queue().show(id).await.unwrap();
    assert_eq!(shown.recipients[1].state, RecipientStanding::Waiting);
    assert!(shown.recipients[1].attempts > 0, "his own story goes on");
    assert_eq!(selected(&bench.resubmit(&as_routed).await), [], "not twice by accident");
    assert_eq!(selected(&bench.resubmit(&Resubmission { again: true, ..as_routed }).await), [id]);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_when_its_time_is_over() {
    let bench = bench(FRIDAY_NOON, true, |_| {}).await;
    bench.submit(&["a@example.com"]).await;
    bench.clock.wait(HOUR).await;
    bench.submit(&["b@example.com"]).await;
    bench.clock.wait(HOUR + MINUTE).await;
    assert_eq!((bench.relay.queue().kept_len(), bench.relay.spool_status().messages), (1, 1));
    bench.clock.wait(HOUR).await;
    assert_eq!((bench.relay.queue().kept_len(), bench.relay.spool_status().messages), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_safety_net_nothing_is_kept_and_one_that_is_taken_away_keeps_nothing() {
    let bench = bench(FRIDAY_NOON, true, |settings| settings.queue.safety_net = None).await;
    bench.submit(&["a@example.com"]).await;
    bench.run_dry().await;
    assert_eq!(bench.relay.spool_status().messages, 0);
    let refused = bench.relay.resubmit(&bench.by_backup()).await;
    assert!(matches!(refused, Err(ResubmitError::NoSafetyNet)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_bounced_is_not_kept_and_what_a_notice_is_owed_for_is_kept_once_that_is_written() {
    let bench = bench(FRIDAY_NOON, true, |_| {}).await;
    let only_bounced = bench.submit(&["gone@other.example"]).await;
    let mixed = bench.submit(&["a@example.com", "gone@other.example"]).await;
    bench.run_dry().await;
    assert_eq!(bench.main.received().len(), 3, "one message and two notices");
    let kept = bench.kept().await;
    assert!(kept.contains(&mixed) && !kept.contains(&only_bounced), "{kept:?}");
    assert_eq!(kept.len(), 3, "notices are kept like any other message");
    let again = bench.resubmit(&Resubmission { ids: vec![mixed], ..bench.by_backup() }).await;
    assert_eq!(again.messages[0].recipients.len(), 1);
    bench.run_dry().await;
    assert_eq!((bench.backup.received().len(), bench.main.received().len()), (1, 3), "and no notice twice");
}

#[tokio::test(start_paused = true)]
async fn what_a_route_throws_away_is_not_kept() {
    let bench = bench(FRIDAY_NOON, true, |settings| {
        settings.routes.routes.insert(0, Route::new(["void.example".parse().unwrap()], Via::Discard));
    })
    .await;
    bench.submit(&["a@void.example"]).await;
    let kept = bench.submit(&["a@example.com"]).await;
    bench.run_dry().await;
    assert_eq!(bench.kept().await, [kept]);
}

fn on_disk(settings: &mut Settings, folder: &Path) {
    let mut spool = posthouse::spool::Settings::new(folder);
    spool.min_free = 0;
    settings.keep = Keep::Folder(spool);
    let net = SafetyNet { hold: HOUR * 24 * 7, max_messages: None, max_bytes: None };
    settings.queue.safety_net = Some(net);
}

/// On a real disk, in real time.
#[tokio::test]
async fn what_is_kept_and_what_is_sent_again_outlives_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = bench(FRIDAY_NOON, true, |settings| on_disk(settings, folder.path())).await;
    let id = first.submit(&["a@example.com"]).await;
    first.run_dry().await;
    first.relay.shutdown(MINUTE).await.unwrap();

    // Three days later it would long be too old to wait.
    let late = FRIDAY_NOON + HOUR * 24 * 3;
    let second = bench(late, false, |settings| on_disk(settings, folder.path())).await;
    assert_eq!((second.kept().await, second.relay.queue().len()), (vec![id], 0));
    second.resubmit(&second.by_backup()).await;
    while second.backup.asked().is_empty() {
        second.clock.wait(Duration::from_millis(10)).await;
    }
    second.relay.shutdown(MINUTE).await.unwrap();
    let of_main = second.main.received();
    assert_eq!((second.relay.queue().len(), second.relay.queue().kept_len()), (1, 0), "{of_main:?}");

    let third = bench(late + HOUR * 2, true, |settings| on_disk(settings, folder.path())).await;
    let rows = third.relay.queue().list(&Matching::default()).await;
    if let Some(row) = rows.first() {
        assert_eq!((row.id, row.recipients[0].destination.as_str()), (id, "backup"));
        assert!(row.sent_again.is_some());
    }
    third.run_dry().await;
    assert_eq!((third.backup.received().len(), third.main.received().len()), (1, 0));
    assert_eq!(third.kept().await, [id]);
    third.relay.shutdown(MINUTE).await.unwrap();

    let fourth = bench(late + HOUR * 3, true, |settings| {
        on_disk(settings, folder.path());
        settings.queue.safety_net = None;
    })
    .await;
    while fourth.relay.spool_status().messages > 0 {
        fourth.clock.wait(Duration::from_millis(10)).await;
    }
}

fn octets_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(|file| file.is_file()).map(|file| file.len()).sum()
}

/// On a real disk, in real time; a relay that keeps house a hundred times as often.
#[tokio::test]
async fn the_disk_gets_back_what_was_kept_also_when_the_relay_was_stopped_in_between() {
    const MESSAGES: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let quick = |settings: &mut Settings| {
        on_disk(settings, folder.path());
        let Keep::Folder(spool) = &mut settings.keep else { panic!("it lies on disk") };
        spool.speed = 100.0;
    };
    let large = format!("Subject: x\r\n\r\n{}", "0123456789abcdef\r\n".repeat(2000));
    let submit = async |bench: &Bench| {
        let from = "sender@example.org".parse::<Address>().unwrap();
        let to = ["a@example.com".parse::<Address>().unwrap()];
        bench.relay.submit(Envelope::new(from.into(), to), large.clone()).await.unwrap()
    };
    let octets = (large.len() * MESSAGES) as u64;
    let first = bench(FRIDAY_NOON, true, quick).await;
    for _ in 0..MESSAGES {
        submit(&first).await;
    }
    first.run_dry().await;
    assert_eq!((first.kept().await.len(), first.relay.queue().len()), (MESSAGES, 0));
    first.relay.shutdown(MINUTE).await.unwrap();
    assert!(octets_of(folder.path()) > octets, "they lie there");

    // Some are still kept, and stand among those that go.
    let second = bench(FRIDAY_NOON + HOUR * 24 * 6, true, quick).await;
    let late = submit(&second).await;
    second.run_dry().await;
    assert_eq!(second.kept().await.len(), MESSAGES + 1);
    second.relay.shutdown(MINUTE).await.unwrap();

    let third = bench(FRIDAY_NOON + HOUR * (24 * 7 + 1), true, quick).await;
    for _ in 0..2000 {
        if octets_of(folder.path()) < octets / 8 {
            break;
        }
        third.clock.wait(Duration::from_millis(10)).await;
    }
    assert!(octets_of(folder.path()) < octets / 8, "{} of {octets}", octets_of(folder.path()));
    assert_eq!(third.kept().await, [late]);
    let again = third.resubmit(&third.by_backup()).await;
    assert_eq!(selected(&again), [late], "what is kept can be read after it was moved");
    third.run_dry().await;
    assert!(third.backup.received()[0].content.ends_with(&large));
    third.relay.shutdown(MINUTE).await.unwrap();
}
