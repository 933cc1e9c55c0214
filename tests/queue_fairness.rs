//! A thousand destinations, a third of them dead: those that live are not held up longer than the bound that stands in
//! `posthouse::queue`.

mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::queue::*;
use posthouse::spool::Memory;
use posthouse::tracking::Tracking;
use world::FRIDAY_NOON;
use world::answers::Answers;

const DESTINATIONS: usize = 1000;
/// What a connect to a dead destination takes.
const HANGS: Duration = Duration::from_secs(30);
/// What a delivery to a live one takes.
const ANSWERS: Duration = Duration::from_millis(200);

/// Every third is dead.
fn is_dead(destination: &Destination) -> bool {
    let number: usize = destination.to_string()["mx:d".len()..].split('.').next().unwrap().parse().unwrap();
    number.is_multiple_of(3)
}

struct Bench {
    queue: Dispatch,
    clock: Clock,
    /// How long the messages of live destinations waited, by destination.
    waited: Arc<Mutex<HashMap<Destination, Vec<Duration>>>>,
}

/// A queue whose workers have a world of their own: dead destinations hang, live ones answer.
fn bench(settings: Settings) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let tracking = Tracking::in_memory(clock.clone());
    let rules = Answers::to(|domain| Destination::Mx(domain.into()));
    let recovery = Recovery::new(settings, Arc::new(rules), tracking, clock.clone());
    let queue = recovery.start(Arc::new(Memory::new()));
    let waited = Arc::new(Mutex::new(HashMap::new()));
    let bench = Bench { queue: queue.clone(), clock: clock.clone(), waited: Arc::clone(&waited) };
    tokio::spawn(async move {
        while let Some(work) = queue.next().await {
            let (clock, waited) = (clock.clone(), Arc::clone(&waited));
            tokio::spawn(async move {
                match work {
                    Work::Deliver(delivery) => deliver(delivery, &clock, &waited).await,
                    Work::Tell(parked) => parked.tell().await,
                    Work::Notify(_) | Work::Expire(_) => panic!("nothing falls due by age"),
                }
            });
        }
    });
    bench
}

async fn deliver(mut delivery: Delivery, clock: &Clock, waited: &Mutex<HashMap<Destination, Vec<Duration>>>) {
    let Some(job) = delivery.open().await else { return };
    if is_dead(&job.destination) {
        clock.wait(HANGS).await;
        let outcome = outcome(Verdict::Deferred);
        delivery.unreachable(&job, outcome, None, HANGS).await;
        return;
    }
    let waits = clock.now().since(job.message.arrived_at);
    waited.lock().unwrap().entry(job.destination.clone()).or_default().push(waits);
    clock.wait(ANSWERS).await;
    let outcomes: Vec<_> =
        job.recipients.iter().map(|index| (*index, outcome(Verdict::Delivered { dsn: false }))).collect();
    delivery.settle(&job, &outcomes, ANSWERS).await;
}

fn outcome(verdict: Verdict) -> Outcome {
    Outcome::local(verdict, EnhancedStatus::new(4, 4, 1), "said")
}

impl Bench {
    async fn accept(&self, destination: usize) {
        let sender: Address = "alice@example.org".parse().unwrap();
        let to: Address = format!("bob@d{destination}.example.com").parse().unwrap();
        let incoming = Incoming {
            envelope: Envelope::new(sender.into(), [to]),
            origin: Origin::default(),
            content: Content::from("Subject: x\r\n\r\n"),
            taken: None,
        };
        let _receipt = self.queue.accept(self.queue.intake(), incoming).await.unwrap();
    }

    /// The longest wait of a message for a live destination since the last call, and how many there were.
    fn longest(&self) -> (Duration, usize) {
        let waited = std::mem::take(&mut *self.waited.lock().unwrap());
        let all: Vec<Duration> = waited.into_values().flatten().collect();
        (all.iter().copied().max().unwrap_or_default(), all.len())
    }
}

#[tokio::test(start_paused = true)]
async fn dead_destinations_do_not_hold_up_the_live_ones_longer_than_stated() {
    let settings = Settings { total: 200, ..Settings::default() };
    let bench = bench(settings.clone());
    let dead = (0..DESTINATIONS).filter(|n| n % 3 == 0).count();
    let live = DESTINATIONS - dead;
    let most_that_hang = settings.total * 7 / 8;
    let bound = HANGS.mul_f64(dead as f64 / most_that_hang as f64) + Duration::from_secs(10);

    // A flood: five for each, all at once.
    for _ in 0..5 {
        for destination in 0..DESTINATIONS {
            bench.accept(destination).await;
        }
    }
    bench.clock.wait(bound + HANGS).await;
    let (longest, count) = bench.longest();
    println!("the flood: the longest wait of a live one is {longest:?}, stated {bound:?}");
    assert_eq!(count, live * 5, "all of them are delivered");
    assert!(longest <= bound, "{longest:?}");

    // The dead are probed now and then; whoever comes by day waits for them no longer than that either.
    let mut longest = Duration::ZERO;
    let mut count = 0;
    for minute in 0..60 {
        for destination in (0..DESTINATIONS).filter(|n| n % 60 == minute) {
            bench.accept(destination).await;
        }
        bench.clock.wait(Duration::from_secs(60)).await;
        let (wait, delivered) = bench.longest();
        longest = longest.max(wait);
        count += delivered;
    }
    println!("an hour of trickle: the longest wait of a live one is {longest:?}");
    assert_eq!(count, live);
    assert!(longest <= bound, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn destinations_that_answer_keep_an_eighth_of_the_places_whatever_hangs() {
    let settings = Settings { total: 20, ..Settings::default() };
    let bench = bench(settings);
    // One that lives and has a lot to do, proven before the dead come.
    for _ in 0..10 {
        bench.accept(1).await;
    }
    bench.clock.wait(Duration::from_secs(10)).await;
    for _ in 0..2000 {
        bench.accept(1).await;
    }
    for destination in (0..DESTINATIONS).filter(|n| n % 3 == 0) {
        bench.accept(destination).await;
    }
    let began: Timestamp = bench.clock.now();
    while bench.waited.lock().unwrap().values().map(Vec::len).sum::<usize>() < 2010 {
        bench.clock.wait(Duration::from_secs(1)).await;
    }
    // Of 20 places 10 go to trials and 7 more to those that hang: 2000 messages of 0.2 s by three at a time are 133 s.
    let took = bench.clock.now().since(began);
    println!("2000 deliveries by three of 20 places: {took:?}");
    assert!(took <= Duration::from_secs(140), "{took:?}");
}
