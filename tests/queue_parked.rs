//! Messages behind a destination that sleeps: each says so in its own log once, and only then.

mod world;

use std::sync::Arc;
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::queue::schedule::{Preset, Retry};
use posthouse::queue::*;
use posthouse::spool::Memory;
use posthouse::tracking::{Event, EventName, Events, Tracking};
use tokio::time::timeout;
use world::FRIDAY_NOON;
use world::answers::Answers;

/// Without jitter.
fn rules() -> Arc<Answers> {
    Arc::new(Answers { retry: Retry { jitter: 0.0, ..Preset::Default.retry() }, ..Answers::by_domain() })
}

struct Bench {
    queue: Dispatch,
    clock: Clock,
    spool: Arc<Memory>,
    events: Events,
}

fn bench() -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let spool = Arc::new(Memory::new());
    let tracking = Tracking::in_memory(clock.clone());
    let events = tracking.subscribe();
    let recovery = Recovery::new(Settings::default(), rules(), tracking, clock.clone());
    Bench { queue: recovery.start(spool.clone()), clock, spool, events }
}

impl Bench {
    async fn accept(&self, to: &[&str]) -> QueueId {
        let sender: Address = "alice@example.org".parse().unwrap();
        let incoming = Incoming {
            envelope: Envelope::new(sender.into(), to.iter().map(|to| to.parse().unwrap())),
            origin: Origin::default(),
            content: Content::from("Subject: x\r\n\r\n"),
            taken: None,
        };
        self.queue.accept(self.queue.intake(), incoming).await.unwrap().id()
    }

    /// Carries out what there is until the clock says `until`; no destination can be reached.
    async fn run_dead(&self, until: Timestamp) {
        while let Ok(work) = timeout(until.since(self.clock.now()), self.queue.next()).await {
            match work.expect("the queue is open") {
                Work::Deliver(delivery) => fail(delivery).await,
                Work::Tell(parked) => parked.tell().await,
                // A start can't know that nobody is owed a delay notice.
                Work::Notify(mut owed) => assert!(owed.open().await.is_none()),
                Work::Expire(_) => panic!("nobody's time is up"),
            }
        }
    }

    /// The events since the last call.
    fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_next())
            .map(|event| (*event.expect("none is missed")).clone())
            .collect()
    }
}

async fn fail(mut delivery: Delivery) {
    let job = delivery.open().await.expect("it can be read");
    let down = Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "connection refused");
    delivery.unreachable(&job, down, None, Duration::ZERO).await;
}

fn deferrals_of(told: &[Event], id: QueueId) -> Vec<&Event> {
    told.iter().filter(|event| event.event == EventName::Defer && event.id == Some(id)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_for_a_destination_that_sleeps_is_deferred_as_soon_as_it_is_received() {
    let mut bench = bench();
    let first = bench.accept(&["bob@example.com"]).await;
    bench.run_dead(FRIDAY_NOON + Duration::from_secs(1)).await;
    let told = bench.told();
    let found_out = deferrals_of(&told, first)[0];
    assert!(found_out.attempt.is_none() && found_out.tells_of_a_try(), "it counts no attempt of its own");
    let row = bench.queue.show(first).await.unwrap().recipients.remove(0);
    assert_eq!((row.attempts, row.unreached), (0, Some(1)), "a listing says the same");
    let id = bench.accept(&["carol@example.com", "dave@example.net", "erin@example.com"]).await;
    let told = bench.told();
    let names: Vec<EventName> = told.iter().map(|event| event.event).collect();
    assert_eq!(names, [EventName::Receive, EventName::Defer]);
    let deferred = &told[1];
    assert_eq!(deferred.id, Some(id));
    assert_eq!(
        deferred.recipients,
        ["carol@example.com", "erin@example.com"],
        "the other destination is not tried yet"
    );
    assert_eq!(deferred.reason.as_deref(), Some("connection refused"));
    assert!(deferred.attempt.is_none() && !deferred.tells_of_a_try(), "none was made");
    assert_eq!(deferred.next_attempt, Some(FRIDAY_NOON + Duration::from_secs(10)), "the next probe");
    assert_eq!(deferred.expires, Some(bench.clock.now() + Preset::Default.retry().expire_after));
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_its_destination_falls_asleep_is_told_of_once() {
    let mut bench = bench();
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(bench.accept(&["bob@example.com"]).await);
    }
    // Long enough for each to be a probe.
    bench.run_dead(FRIDAY_NOON + Duration::from_secs(6 * 3600)).await;
    let told = bench.told();
    for id in &ids {
        assert_eq!(deferrals_of(&told, *id).len(), 1, "{id}");
    }
    let at_once = told.iter().filter(|event| event.event == EventName::Defer && event.time == FRIDAY_NOON);
    assert_eq!(at_once.count(), 50);

    // A new start tells nobody again.
    bench.spool.clone().recover(&mut |_| {});
    let tracking = Tracking::in_memory(bench.clock.clone());
    bench.events = tracking.subscribe();
    let mut recovery = Recovery::new(Settings::default(), rules(), tracking, bench.clock.clone());
    bench.spool.recover(&mut |outline| recovery.found(&outline));
    bench.queue = recovery.start(bench.spool.clone());
    bench.run_dead(bench.clock.now() + Duration::from_secs(3600)).await;
    let told = bench.told();
    let deferred = told.iter().filter(|event| event.event == EventName::Defer).count();
    assert_eq!(deferred, 1, "only of the one that found out");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_deferred_by_an_answer_is_not_told_of_again() {
    let mut bench = bench();
    let first = bench.accept(&["bob@example.com"]).await;
    let Some(Work::Deliver(mut delivery)) = bench.queue.next().await else { panic!("a delivery") };
    let job = delivery.open().await.unwrap();
    let later = Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 2, 1), "greylisted");
    delivery.settle(&job, &[(0, later)], Duration::ZERO).await;
    let second = bench.accept(&["carol@example.com"]).await;
    bench.run_dead(FRIDAY_NOON + Duration::from_secs(3600)).await;
    let told = bench.told();
    let of =
        |id| deferrals_of(&told, id).iter().map(|event| event.reason.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(of(first), ["greylisted"]);
    assert_eq!(of(second), ["connection refused"]);
}
