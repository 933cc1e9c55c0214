//! What the log tells stands in the spool, and stands in the log before what comes of it.
//!
//! Contract: tests only. The disk takes its time here, so that what runs beside a write is seen.
//! Not here: the same over hundreds of worlds (`lab::simulation`), for which these were found.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::schedule::{Preset, Retry};
use super::*;
use crate::clock::{Clock, Timestamp};
use crate::mail::{
    Address, Content, Destination, EnhancedStatus, Envelope, Host, Origin, Outcome, Recipient, Source,
    Verdict,
};
use crate::spool::{Site, Ways};
use crate::tracking::{Event, EventName};

/// For contents.
const MEMORY: u64 = 256 << 10;
const T0: Timestamp = Timestamp::from_millis(1_795_176_000_000);

struct Answers(WhenUncertain);

impl Rules for Answers {
    fn destination(&self, domain: &str, _: &Source<'_>) -> Destination {
        Destination::Upstream(domain.into())
    }
    fn when_uncertain(&self, _: &Destination) -> WhenUncertain {
        self.0
    }
    fn retry(&self) -> Arc<Retry> {
        Arc::new(Retry { jitter: 0.0, ..Preset::Default.retry() })
    }
    fn failure_owed(&self, _: &Envelope, _: &Recipient) -> bool {
        true
    }
    fn success_owed(&self, _: &Envelope, _: &Recipient, _: bool) -> bool {
        false
    }
    fn delay_owed(&self, _: &Envelope, _: &Recipient) -> bool {
        false
    }
}

struct World {
    site: Site,
    clock: Clock,
    policy: WhenUncertain,
    queue: Dispatch,
    events: mpsc::UnboundedReceiver<Arc<Event>>,
}

impl World {
    fn new(policy: WhenUncertain) -> Self {
        let company = Duration::from_millis(20);
        let site = Site::new(Ways { segment_target: 20_000, min_free: 1 << 20, company });
        let clock = Clock::simulated(T0, 1);
        let (queue, events) = start(&site, &clock, policy);
        Self { site, clock, policy, queue, events }
    }

    /// The relay was killed, and starts again.
    fn restart(&mut self) {
        self.site.after_kill();
        (self.queue, self.events) = start(&self.site, &self.clock, self.policy);
    }

    async fn accept(&self) -> QueueId {
        self.accept_for(1).await
    }

    async fn accept_for(&self, recipients: u32) -> QueueId {
        self.accept_all(recipients, Content::from("Subject: x\r\n\r\n")).await
    }

    async fn accept_all(&self, recipients: u32, content: Content) -> QueueId {
        let sender: Address = "alice@example.org".parse().unwrap();
        let recipients = (0..recipients).map(|n| format!("bob{n}@example.com").parse().unwrap());
        let envelope = Envelope::new(sender.into(), recipients);
        let incoming = Incoming { envelope, origin: Origin::default(), content, taken: None };
        self.queue.accept(self.queue.intake(), incoming).await.unwrap().id()
    }

    async fn deliver(&self) -> Delivery {
        match self.queue.next().await {
            Some(Work::Deliver(delivery)) => delivery,
            _ => panic!("a delivery was expected"),
        }
    }

    /// One attempt that ends so for all whom it is for. Tells how many that are.
    async fn attempt(&self, verdict: Verdict) -> usize {
        let mut delivery = self.deliver().await;
        let job = delivery.open().await.unwrap();
        let outcomes: Vec<_> = job.recipients.iter().map(|index| (*index, outcome(verdict))).collect();
        delivery.settle(&job, &outcomes, Duration::ZERO).await;
        outcomes.len()
    }

    /// A delivery that has sent all, and has not heard the answer.
    async fn amid(&self) -> Delivery {
        let mut delivery = self.deliver().await;
        delivery.open().await.unwrap();
        delivery.intend(&host(), vec![0]).await.unwrap();
        // What nobody waits for is written as well.
        self.clock.wait(Duration::from_millis(40)).await;
        delivery
    }

    async fn look(&self) {
        match self.queue.next().await {
            Some(Work::Expire(look)) => look.expire().await,
            _ => panic!("a look was expected"),
        }
    }

    /// When the last UNCERTAIN tells that the message goes again; the spool says the same.
    async fn goes_again(&mut self, id: QueueId) -> Timestamp {
        let uncertain = self.heard().into_iter().rfind(|event| event.event == EventName::Uncertain);
        let told = uncertain.expect("it is told").next_attempt;
        self.clock.wait(Duration::from_millis(40)).await;
        let stored = self.site.living().unwrap().into_iter().find(|stored| stored.id == id).unwrap();
        assert_eq!(told, stored.progress.recipients[0].next_attempt);
        told.expect("it goes again")
    }

    fn heard(&mut self) -> Vec<Arc<Event>> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    fn names(&mut self) -> Vec<EventName> {
        self.heard().iter().map(|event| event.event).collect()
    }
}

fn start(
    site: &Site,
    clock: &Clock,
    policy: WhenUncertain,
) -> (Dispatch, mpsc::UnboundedReceiver<Arc<Event>>) {
    let (sender, events) = mpsc::unbounded_channel();
    let tracking = Tracking::to_channel(sender, clock.clone());
    let safety_net =
        Some(SafetyNet { hold: Duration::from_secs(86_400), max_messages: None, max_bytes: None });
    let settings = Settings { safety_net, bytes_in_flight: MEMORY, ..Settings::default() };
    let mut recovery = Recovery::new(settings, Arc::new(Answers(policy)), tracking, clock.clone());
    let (spool, ..) = site.open(clock, &mut |outline| recovery.found(&outline)).unwrap();
    (recovery.start(spool), events)
}

fn host() -> Host {
    Host { name: "mx.example.org".into(), address: None, port: None }
}

fn outcome(verdict: Verdict) -> Outcome {
    Outcome::local(verdict, EnhancedStatus::new(4, 0, 0), "said")
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_a_kill_cut_off_goes_when_the_log_and_the_spool_say() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept().await;
    drop(world.amid().await);
    world.restart();
    let now = world.clock.now();
    world.look().await;
    assert_eq!(world.goes_again(id).await, now, "it was never deferred");
    // It has a time of its own now; that has come, and the next attempt is cut off as well.
    world.attempt(Verdict::Deferred).await;
    drop(world.amid().await);
    world.restart();
    let now = world.clock.now();
    world.look().await;
    assert_eq!(world.goes_again(id).await, now, "its time had come");
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_when_a_person_had_hastened_it_goes_by_its_schedule() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept().await;
    world.attempt(Verdict::Deferred).await;
    let next = world.heard().last().unwrap().next_attempt.unwrap();
    world.queue.retry(id).await.unwrap();
    drop(world.amid().await);
    world.restart();
    world.look().await;
    assert_eq!(world.goes_again(id).await, next);
    world.deliver().await;
    assert_eq!(world.clock.now(), next);
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_cut_off_goes_when_the_log_and_the_spool_say() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept().await;
    let delivery = world.amid().await;
    let panicked = tokio::spawn(async move {
        let _delivery = delivery;
        panic!("as a worker might");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    world.look().await;
    let next = world.goes_again(id).await;
    assert!(next > world.clock.now() + Duration::from_secs(60), "whoever panicked would do so again");
    world.deliver().await;
    assert_eq!(world.clock.now(), next);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_told_no_by_a_host_that_is_then_out_of_reach_is_in_no_doubt() {
    for policy in [WhenUncertain::Retry, WhenUncertain::Hold] {
        let mut world = World::new(policy);
        world.accept().await;
        let mut delivery = world.deliver().await;
        let job = delivery.open().await.unwrap();
        delivery.intend(&host(), job.recipients.clone()).await.unwrap();
        delivery.unreachable(&job, outcome(Verdict::Deferred), None, Duration::ZERO).await;
        drop(job);
        world.restart();
        world.attempt(Verdict::Delivered { dsn: false }).await;
        assert!(!world.names().contains(&EventName::Uncertain), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_tries_all_recipients_however_few_one_transaction_takes() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept_for(250).await;
    for many in [100, 100, 50] {
        assert_eq!(world.attempt(Verdict::Deferred).await, many);
    }
    world.heard();
    let now = world.clock.now();
    world.queue.retry(id).await.unwrap();
    for many in [100, 100, 50] {
        assert_eq!(world.attempt(Verdict::Deferred).await, many);
        assert!(world.clock.now() < now + Duration::from_secs(1), "what takes time is the writing");
    }
    assert_eq!(world.names().len(), 4, "a RETRY, and a DEFER for each transaction");
    world.deliver().await;
    assert!(world.clock.now() > now + Duration::from_secs(60), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn notices_about_large_messages_wait_for_memory_as_deliveries_do() {
    let world = World::new(WhenUncertain::Retry);
    let large = Content::from(vec![b'x'; MEMORY as usize * 2 / 3]);
    let mut owed = Vec::new();
    for _ in 0..2 {
        world.accept_all(1, large.clone()).await;
        world.attempt(Verdict::Bounced).await;
        match world.queue.next().await {
            Some(Work::Notify(notice)) => owed.push(notice),
            _ => panic!("a notice was expected"),
        }
    }
    let (mut second, mut first) = (owed.pop().unwrap(), owed.pop().unwrap());
    assert!(first.open().await.is_some());
    let waits = tokio::time::timeout(Duration::from_secs(1), second.open()).await;
    assert!(waits.is_err(), "there is no memory for both");
    drop(first);
    assert!(second.open().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_release_is_told_before_the_message_goes() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept().await;
    world.queue.hold(id).await.unwrap();
    world.heard();
    let queue = world.queue.clone();
    let (released, told) = tokio::join!(queue.release(id), async {
        world.deliver().await;
        world.names()
    });
    released.unwrap();
    assert_eq!(told, [EventName::Release]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_told_before_the_message_goes() {
    let mut world = World::new(WhenUncertain::Hold);
    let id = world.accept().await;
    world.attempt(Verdict::Uncertain).await;
    world.heard();
    let queue = world.queue.clone();
    let (retried, told) = tokio::join!(queue.retry(id), async {
        world.deliver().await;
        world.names()
    });
    retried.unwrap();
    assert_eq!(told, [EventName::Retry]);
}

#[tokio::test(start_paused = true)]
async fn a_resubmission_is_told_before_the_message_goes() {
    let mut world = World::new(WhenUncertain::Retry);
    let id = world.accept().await;
    world.attempt(Verdict::Delivered { dsn: false }).await;
    world.heard();
    let queue = world.queue.clone();
    let selection = Selection::default();
    let (sent_again, told) = tokio::join!(queue.resubmit(id, &selection, &|_, _| true, "main"), async {
        world.deliver().await;
        world.names()
    });
    assert_eq!(sent_again.unwrap().id, id);
    assert_eq!(told, [EventName::Resubmit]);
}
