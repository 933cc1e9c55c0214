//! Races and edges that once broke a promise, at the queue's public interface. Each was found by a review and is told by
//! its name.
mod world;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::Clock;
use posthouse::mail::*;
use posthouse::queue::schedule::{Preset, Retry};
use posthouse::queue::*;
use posthouse::spool::{Memory, Spool};
use posthouse::tracking::Tracking;
use tokio::time::timeout;
use world::FRIDAY_NOON;

struct Answers {
    moved: AtomicBool,
    retry: Mutex<Retry>,
    by_domain: bool,
    when_uncertain: WhenUncertain,
    /// The question, from now on, that makes the relay panic; 0 for none.
    panics_at: AtomicU32,
}
impl Answers {
    fn is_asked(&self) {
        let before = self.panics_at.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(before != Ok(1), "a panic for the test");
    }
}
impl Rules for Answers {
    fn destination(&self, domain: &str, _: &posthouse::mail::Source<'_>) -> Destination {
        self.is_asked();
        if self.moved.load(Ordering::SeqCst) {
            return Destination::Upstream("new".into());
        }
        Destination::Upstream(if self.by_domain { domain.into() } else { "old".into() })
    }
    fn when_uncertain(&self, _: &Destination) -> WhenUncertain {
        self.when_uncertain
    }
    fn retry(&self) -> Arc<Retry> {
        self.is_asked();
        Arc::new(self.retry.lock().unwrap().clone())
    }
    fn failure_owed(&self, e: &Envelope, _: &Recipient) -> bool {
        self.is_asked();
        !e.reverse_path.is_null()
    }
    fn success_owed(&self, _: &Envelope, _: &Recipient, _: bool) -> bool {
        self.is_asked();
        false
    }
    fn delay_owed(&self, e: &Envelope, _: &Recipient) -> bool {
        !e.reverse_path.is_null()
    }
}
struct Bench {
    q: Dispatch,
    clock: Clock,
    rules: Arc<Answers>,
    spool: Arc<Memory>,
}
fn bench(settings: Settings) -> Bench {
    bench_under(WhenUncertain::Retry, settings)
}
fn bench_under(when_uncertain: WhenUncertain, settings: Settings) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let mut retry = Preset::Default.retry();
    retry.jitter = 0.0;
    let retry = Mutex::new(retry);
    let rules = Arc::new(Answers {
        moved: false.into(),
        retry,
        by_domain: true,
        when_uncertain,
        panics_at: 0.into(),
    });
    let spool = Arc::new(Memory::new());
    let recovery = Recovery::new(settings, rules.clone(), Tracking::in_memory(clock.clone()), clock.clone());
    Bench { q: recovery.start(spool.clone()), clock, rules, spool }
}
fn incoming(to: &[&str]) -> Incoming {
    let from: Address = "alice@example.org".parse().unwrap();
    Incoming {
        envelope: Envelope::new(from.into(), to.iter().map(|a| a.parse().unwrap())),
        origin: Origin::default(),
        content: Content::from("Subject: x\r\n\r\n"),
        taken: None,
    }
}
fn notice() -> Incoming {
    let mut n = incoming(&["alice@example.org"]);
    n.envelope.reverse_path = ReversePath::NULL;
    n
}
fn outcome(verdict: Verdict) -> Outcome {
    let class = match verdict {
        Verdict::Delivered { .. } => 2,
        Verdict::Bounced => 5,
        _ => 4,
    };
    Outcome::local(verdict, EnhancedStatus::new(class, 0, 0), "said")
}
impl Bench {
    async fn accept(&self, to: &[&str]) -> QueueId {
        self.q.accept(self.q.intake(), incoming(to)).await.unwrap().id()
    }
    async fn next(&self) -> Work {
        timeout(Duration::from_secs(30 * 86400), self.q.next()).await.expect("work comes").unwrap()
    }
    async fn deliver(&self) -> Delivery {
        match self.next().await {
            Work::Deliver(d) => d,
            _ => panic!("a delivery was expected"),
        }
    }
    /// What a panic has left behind is looked at before anything else.
    async fn look(&self) {
        match self.next().await {
            Work::Expire(look) => look.expire().await,
            _ => panic!("a look was expected"),
        }
    }
    async fn owed(&self) -> Owed {
        match self.next().await {
            Work::Notify(o) => o,
            _ => panic!("a notice was expected"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_an_attempt_leaves_the_queue_alive() {
    let b = bench(Settings::default());
    let id = b.accept(&["bob@example.com"]).await;
    let mut d = b.deliver().await;
    let job = d.open().await.unwrap();
    b.q.cancel(id).await.unwrap();
    let settled = tokio::spawn(async move {
        d.settle(&job, &[(0, outcome(Verdict::Deferred))], Duration::ZERO).await;
    })
    .await;
    assert!(settled.is_ok());
    assert_eq!(b.q.len(), 0);
}

/// Whatever question of the queue its rules answer with a panic.
#[tokio::test(start_paused = true)]
async fn a_panic_amid_a_settle_leaves_nothing_stuck() {
    const TO: [&str; 3] = ["bob@example.com", "carol@example.com", "dave@example.com"];
    let delivered = || outcome(Verdict::Delivered { dsn: false });
    for (case, reachable) in [(0, true), (1, true), (2, true), (3, false)] {
        for question in 1.. {
            let b = bench(Settings::default());
            let mut incoming = incoming(&TO);
            incoming.envelope.reverse_path = ReversePath::NULL;
            let _ = b.q.accept(b.q.intake(), incoming).await.unwrap();
            let mut d = b.deliver().await;
            let job = d.open().await.unwrap();
            let outcomes = match case {
                0 => vec![(0, delivered()), (1, outcome(Verdict::Bounced)), (2, outcome(Verdict::Deferred))],
                1 => vec![(0, delivered()), (1, delivered()), (2, outcome(Verdict::Bounced))],
                _ => vec![(0, delivered())],
            };
            // The routes have changed meanwhile.
            b.rules.moved.store(case == 2, Ordering::SeqCst);
            b.rules.panics_at.store(question, Ordering::SeqCst);
            let settled = tokio::spawn(async move {
                if reachable {
                    d.settle(&job, &outcomes, Duration::ZERO).await;
                } else {
                    d.unreachable(&job, outcome(Verdict::Deferred), None, Duration::ZERO).await;
                }
            });
            let panicked = settled.await.is_err();
            b.rules.panics_at.store(0, Ordering::SeqCst);
            while !b.q.is_empty() {
                let next = timeout(Duration::from_secs(3600), b.q.next()).await;
                match next.unwrap_or_else(|_| panic!("stuck: {case}, {question}")).unwrap() {
                    Work::Deliver(mut d) => {
                        let Some(job) = d.open().await else { continue };
                        let all: Vec<_> = job.recipients.iter().map(|index| (*index, delivered())).collect();
                        d.settle(&job, &all, Duration::ZERO).await;
                    }
                    Work::Expire(expiry) => expiry.expire().await,
                    Work::Tell(parked) => parked.tell().await,
                    Work::Notify(_) => panic!("nobody is owed a notice"),
                }
            }
            assert!(b.q.destinations().is_empty(), "{case}, {question}: {:?}", b.q.destinations());
            if !panicked {
                assert!(question > 1, "{case}: the rules are asked");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_notice_may_be_committed_while_its_message_is_delivered() {
    let b = bench(Settings::default());
    b.accept(&["bob@example.com"]).await;
    b.clock.wait(Duration::from_secs(5 * 3600)).await; // the relay was down, say
    let mut owed = b.owed().await;
    let mut d = b.deliver().await;
    let message = owed.open().await.unwrap();
    let job = d.open().await.unwrap();
    d.settle(&job, &[(0, outcome(Verdict::Delivered { dsn: false }))], Duration::ZERO).await;
    let paid = tokio::spawn(async move { owed.pay(&message.debts[0], notice()).await.is_ok() }).await;
    assert!(paid.is_ok());
    assert_eq!(b.q.len(), 0, "nobody is told of a delay that is over");
}

#[tokio::test(start_paused = true)]
async fn a_reload_during_an_attempt_leaves_the_message_in_a_line() {
    let b = bench(Settings::default());
    let id = b.accept(&["bob@example.com"]).await;
    let mut d = b.deliver().await;
    let job = d.open().await.unwrap();
    b.rules.moved.store(true, Ordering::SeqCst);
    b.q.reload(Settings::default()).await;
    d.settle(&job, &[(0, outcome(Verdict::Deferred))], Duration::ZERO).await;
    let row = b.q.show(id).await.unwrap();
    println!("{:?} {:?}", row.state, b.q.destinations());
    assert_eq!(b.q.retry_all(None), 1, "it waits somewhere");
}

#[tokio::test(start_paused = true)]
async fn more_than_100_recipients_that_are_deferred_are_each_tried_by_the_schedule() {
    let b = bench(Settings::default());
    let to: Vec<String> = (0..150).map(|n| format!("r{n}@example.com")).collect();
    b.accept(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tried = Vec::new();
    for _ in 0..20 {
        let Ok(Some(Work::Deliver(mut d))) = timeout(Duration::from_secs(30), b.q.next()).await else {
            break;
        };
        let job = d.open().await.unwrap();
        tried.push((b.clock.now().since(FRIDAY_NOON), job.attempt, job.recipients[0]));
        let outcomes: Vec<_> = job.recipients.iter().map(|r| (*r, outcome(Verdict::Deferred))).collect();
        d.settle(&job, &outcomes, Duration::ZERO).await;
    }
    println!("{tried:?}");
    assert_eq!(tried.len(), 2, "attempts in the first 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once() {
    let b = bench(Settings::default());
    b.accept(&["gone@example.com", "busy@example.net"]).await;
    let (mut d1, mut d2) = (b.deliver().await, b.deliver().await);
    let (j1, j2) = (d1.open().await.unwrap(), d2.open().await.unwrap());
    d1.settle(&j1, &[(j1.recipients[0], outcome(Verdict::Bounced))], Duration::ZERO).await;
    let mut first = b.owed().await;
    let m1 = first.open().await.unwrap(); // its notice is being written and synced
    d2.settle(&j2, &[(j2.recipients[0], outcome(Verdict::Deferred))], Duration::ZERO).await;
    let mut told = m1.debts.len();
    if let Ok(Some(Work::Notify(mut second))) = timeout(Duration::from_secs(1), b.q.next()).await {
        let m2 = second.open().await;
        first.pay(&m1.debts[0], notice()).await.unwrap();
        if let Some(m2) = m2 {
            second.pay(&m2.debts[0], notice()).await.unwrap();
            told += m2.debts.len();
        }
    }
    assert_eq!(told, 1, "notices about the same failure");
}

#[tokio::test(start_paused = true)]
async fn notices_that_a_full_disk_keeps_back_do_not_stop_deliveries() {
    let settings = Settings { total: 4, ..Settings::default() };
    let b = bench(settings);
    for n in 0..8 {
        b.accept(&[&format!("gone{n}@example.com")]).await;
    }
    let late = b.accept(&["good@example.net"]).await;
    b.spool.refuse(Some(posthouse::spool::CommitError::Full));
    let q = b.q.clone();
    let runner = tokio::spawn(async move {
        while let Some(work) = q.next().await {
            match work {
                Work::Deliver(mut d) => {
                    let Some(job) = d.open().await else { continue };
                    if job.message.id == late && job.message.arrived_at != FRIDAY_NOON {
                        return;
                    }
                    let bounced = job.destination.to_string() == "example.com";
                    if !bounced && job.attempt > 3 {
                        return; // delivered in the end
                    }
                    let v = if bounced { Verdict::Bounced } else { Verdict::Deferred };
                    let o: Vec<_> = job.recipients.iter().map(|r| (*r, outcome(v))).collect();
                    d.settle(&job, &o, Duration::ZERO).await;
                }
                Work::Notify(mut owed) => {
                    tokio::spawn(async move {
                        let Some(m) = owed.open().await else { return };
                        if let Err(e) = owed.pay(&m.debts[0], notice()).await {
                            owed.postpone(&e);
                        }
                    });
                }
                Work::Tell(parked) => parked.tell().await,
                Work::Expire(_) => {}
            }
        }
    });
    // Attempts 2..4 of the good one are due within 7 minutes.
    b.clock.wait(Duration::from_secs(1800)).await;
    assert!(
        runner.is_finished(),
        "half an hour, and the good one had no attempt: {:?}",
        b.q.show(late).await.unwrap().recipients
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_over_does_not_live_for_ever_after_a_restart() {
    let b = bench(Settings::default());
    let id = b.accept(&["bob@example.com"]).await;
    // What a crash (or a dropped future, or a full disk) between the two steps of `cancel` leaves.
    let mut stored = b.spool.load(id).await.unwrap();
    stored.progress.recipients[0].state = posthouse::spool::RecipientState::Cancelled;
    b.spool.settle(id, &stored.progress, posthouse::spool::Durability::Synced).await.unwrap();
    b.spool.close().await;
    let mut again = Recovery::new(
        Settings::default(),
        b.rules.clone(),
        Tracking::in_memory(b.clock.clone()),
        b.clock.clone(),
    );
    b.spool.recover(&mut |stored| again.found(&stored));
    let q = again.start(b.spool.clone());
    let _ = timeout(Duration::from_secs(86400 * 10), q.next()).await;
    assert_eq!(q.len(), 0, "{:?}", q.cancel(id).await);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_many_messages_lets_others_have_their_turn() {
    let b = bench(Settings::default());
    for _ in 0..2000 {
        b.accept(&["bob@example.com"]).await;
    }
    tokio::select! {
        biased;
        () = b.q.reload(Settings::default()) => panic!("it asked all in one go"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(b.q.len(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_a_reload_lengthens_counts_for_what_is_under_way_too() {
    let b = bench(Settings::default());
    // A null reverse-path: no delay notice is ever due, so that the agenda has its expiry from the start.
    let mut message = incoming(&["bob@example.com"]);
    message.envelope.reverse_path = ReversePath::NULL;
    let _receipt = b.q.accept(b.q.intake(), message).await.unwrap();
    for _ in 0..5 {
        let mut other = incoming(&["carol@example.com"]);
        other.envelope.reverse_path = ReversePath::NULL;
        let _receipt = b.q.accept(b.q.intake(), other).await.unwrap();
    }
    let mut d = b.deliver().await;
    let job = d.open().await.unwrap();
    b.rules.retry.lock().unwrap().expire_after = Duration::from_secs(5 * 86400);
    b.q.reload(Settings::default()).await;
    d.unreachable(&job, outcome(Verdict::Deferred), None, Duration::ZERO).await;
    let at = loop {
        match b.next().await {
            Work::Deliver(mut d) => {
                let job = d.open().await.unwrap();
                d.unreachable(&job, outcome(Verdict::Deferred), None, Duration::ZERO).await;
            }
            Work::Notify(mut o) => {
                let m = o.open().await;
                assert!(m.is_some());
                drop(o);
            }
            Work::Tell(parked) => parked.tell().await,
            Work::Expire(_) => break b.clock.now(),
        }
    };
    assert_eq!(at.since(FRIDAY_NOON).as_secs() / 86400, 5);
}

impl Bench {
    /// A message whose time is up, and that somebody has on lease to give it up.
    async fn given_up(&self) -> (QueueId, Expiry) {
        let id = self.accept(&["bob@example.com"]).await;
        loop {
            match self.next().await {
                Work::Deliver(mut d) => {
                    let job = d.open().await.unwrap();
                    d.unreachable(&job, outcome(Verdict::Deferred), None, Duration::ZERO).await;
                    // The probes between would only take time.
                    self.clock.wait(Duration::from_secs(12 * 3600)).await;
                }
                Work::Expire(expiry) => return (id, expiry),
                Work::Notify(_) => {}
                Work::Tell(parked) => parked.tell().await,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_back_in_line_is_not_given_up_beside_its_delivery() {
    let b = bench(Settings::default());
    let (id, expiry) = b.given_up().await;
    b.q.hold(id).await.unwrap();
    b.q.release(id).await.unwrap();
    let mut d = b.deliver().await;
    let job = d.open().await.unwrap();
    expiry.expire().await;
    assert_eq!(b.q.show(id).await.unwrap().recipients[0].state, RecipientStanding::Waiting);
    d.settle(&job, &[(0, outcome(Verdict::Delivered { dsn: false }))], Duration::ZERO).await;
    assert_eq!(b.q.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_held_just_before_it_is_given_up_is_held() {
    let b = bench(Settings::default());
    let (id, expiry) = b.given_up().await;
    b.q.hold(id).await.unwrap();
    expiry.expire().await;
    let held = b.q.show(id).await.unwrap();
    assert_eq!((held.state, held.recipients[0].state), (ListedState::Held, RecipientStanding::Waiting));
    b.q.release(id).await.unwrap();
    let mut d = b.deliver().await;
    let job = d.open().await.unwrap();
    assert_eq!(job.message.id, id);
    d.settle(&job, &[(0, outcome(Verdict::Delivered { dsn: false }))], Duration::ZERO).await;
    assert_eq!(b.q.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn notices_that_a_full_disk_keeps_back_do_not_fill_it_further() {
    let b = bench(Settings::default());
    for n in 0..8 {
        b.accept(&[&format!("gone{n}@example.com")]).await;
    }
    b.spool.refuse(Some(posthouse::spool::CommitError::Full));
    let until = b.clock.now() + Duration::from_secs(3600);
    let mut bounced = 0;
    let mut written = None;
    while let Ok(work) = timeout(until.since(b.clock.now()), b.q.next()).await {
        match work.unwrap() {
            Work::Deliver(mut d) => {
                let job = d.open().await.unwrap();
                d.settle(&job, &[(0, outcome(Verdict::Bounced))], Duration::ZERO).await;
                bounced += 1;
                written = Some(b.spool.status().batches);
            }
            Work::Notify(mut owed) => {
                let Some(m) = owed.open().await else { continue };
                if let Err(e) = owed.pay(&m.debts[0], notice()).await {
                    owed.postpone(&e);
                }
            }
            _ => panic!("a delivery or a notice was expected"),
        }
    }
    assert_eq!((bounced, Some(b.spool.status().batches)), (8, written), "nothing written for an hour");
    b.spool.refuse(None);
    for _ in 0..8 {
        let mut owed = b.owed().await;
        let m = owed.open().await.unwrap();
        owed.pay(&m.debts[0], notice()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whom_one_delivery_has_in_hand_no_other_takes_by_a_new_route() {
    let b = bench(Settings::default());
    b.accept(&["bob@one.example", "busy@two.example"]).await;
    let mut first = b.deliver().await;
    let job = first.open().await.unwrap();
    let mut second = b.deliver().await;
    let other = second.open().await.unwrap();
    b.rules.moved.store(true, Ordering::SeqCst);
    // What is written down moves whoever waits into the lines of now.
    second.settle(&other, &[(other.recipients[0], outcome(Verdict::Deferred))], Duration::ZERO).await;
    let mut moved = b.deliver().await;
    assert_eq!(moved.open().await.unwrap().recipients, other.recipients, "the first is still under way");
    first.settle(&job, &[(job.recipients[0], outcome(Verdict::Deferred))], Duration::ZERO).await;
    drop(moved);
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut delivery = b.deliver().await;
        let job = delivery.open().await.unwrap();
        assert_eq!(job.destination.to_string(), "new");
        let delivered = outcome(Verdict::Delivered { dsn: false });
        both.extend(job.recipients.iter().copied());
        delivery.settle(&job, &[(job.recipients[0], delivered)], Duration::ZERO).await;
    }
    both.sort_unstable();
    assert_eq!((both, b.q.len()), (vec![0, 1], 0));
}

fn upstream() -> Host {
    Host { name: "mx.example.org".into(), address: None, port: None }
}

async fn panic_over(delivery: Delivery) {
    let panicked = tokio::spawn(async move {
        let _delivery = delivery;
        panic!("as a worker might");
    });
    assert!(panicked.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn under_hold_a_panic_amid_a_delivery_sends_nothing_again_though_another_has_the_message_open() {
    let b = bench_under(WhenUncertain::Hold, Settings::default());
    let id = b.accept(&["bob@one.example", "busy@two.example"]).await;
    let mut first = b.deliver().await;
    let job = first.open().await.unwrap();
    let mut second = b.deliver().await;
    let other = second.open().await.unwrap();
    first.intend(&upstream(), job.recipients.clone()).await.unwrap();
    panic_over(first).await;
    b.look().await;
    let shown = b.q.show(id).await.unwrap();
    assert_eq!(shown.recipients[job.recipients[0] as usize].state, RecipientStanding::Uncertain);
    assert_eq!(b.q.uncertain(), 1);
    let delivered = outcome(Verdict::Delivered { dsn: false });
    second.settle(&other, &[(other.recipients[0], delivered)], Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_have_it_from_the_first_host_stays_uncertain_while_a_second_has_the_others() {
    let b = bench_under(WhenUncertain::Hold, Settings::default());
    let id = b.accept(&["bob@one.example", "eve@one.example"]).await;
    let mut delivery = b.deliver().await;
    delivery.open().await.unwrap();
    // By LMTP a host answers for each: the second host is asked for one of them only.
    delivery.intend(&upstream(), vec![0, 1]).await.unwrap();
    delivery.intend(&upstream(), vec![0]).await.unwrap();
    panic_over(delivery).await;
    b.look().await;
    let shown = b.q.show(id).await.unwrap();
    let states: Vec<RecipientStanding> = shown.recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [RecipientStanding::Uncertain, RecipientStanding::Uncertain]);
}

/// A first host said no to the whole message, a second one has it now: one doubt, not two.
#[tokio::test(start_paused = true)]
async fn whoever_was_sent_to_two_hosts_is_in_doubt_once() {
    let b = bench(Settings::default());
    b.accept(&["bob@one.example"]).await;
    let mut delivery = b.deliver().await;
    delivery.open().await.unwrap();
    delivery.intend(&upstream(), vec![0]).await.unwrap();
    delivery.intend(&upstream(), vec![0]).await.unwrap();
    panic_over(delivery).await;
    b.look().await;
    let mut again = b.deliver().await;
    assert_eq!(again.open().await.unwrap().attempt, 2);
    assert_eq!(b.q.uncertain(), 1);
}

#[tokio::test(start_paused = true)]
async fn under_hold_nothing_goes_out_of_which_the_disk_does_not_know() {
    for (policy, goes_out) in [(WhenUncertain::Hold, false), (WhenUncertain::Retry, true)] {
        let b = bench_under(policy, Settings::default());
        b.accept(&["bob@one.example"]).await;
        let mut delivery = b.deliver().await;
        let job = delivery.open().await.unwrap();
        b.spool.refuse(Some(posthouse::spool::CommitError::Full));
        let intended = delivery.intend(&upstream(), job.recipients.clone()).await;
        assert_eq!(intended.is_ok(), goes_out, "{policy:?}");
        delivery.settle(&job, &[(0, outcome(Verdict::Deferred))], Duration::ZERO).await;
    }
}
