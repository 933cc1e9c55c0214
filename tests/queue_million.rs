//! A million messages behind one dead destination: what they cost in memory, what a failed probe costs, and how notices
//! and expiries go when all fall due at once.
//!
//! `cargo test --release --test queue_million -- --nocapture` prints the figures; without `--release` a tenth of a
//! million stands for it.

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::queue::*;
use posthouse::spool::{
    Accepted, Announcement, BoxFuture, Commit, Durability, LoadError, Memory, Outline, Progress, Quarantined,
    Spool, SpoolStatus, Stored, WaitingDomain,
};
use posthouse::tracking::Tracking;
use tokio::sync::Mutex;
use tokio::time::timeout;
use world::FRIDAY_NOON;
use world::answers::Answers;

const MILLION: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const HOUR: Duration = Duration::from_secs(3600);

/// The system's allocator, and what it has been asked for.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they look at the memory of the process.
static ALONE: Mutex<()> = Mutex::const_new(());

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

#[allow(clippy::disallowed_methods)] // measures real time
fn stopwatch() -> Instant {
    Instant::now() // tidy: measures real time
}

/// A spool of a million messages that takes no memory: each looks as its name says.
struct Endless {
    accepted: Memory,
}

fn stored(id: QueueId) -> Stored {
    let sender: Address = "alice@example.org".parse().unwrap();
    let envelope = Envelope::new(sender.into(), ["bob@example.com".parse().unwrap()]);
    let arrived_at = Timestamp::from_millis(id.millis());
    Stored { id, arrived_at, envelope, origin: Origin::default(), size: 0, progress: Progress::untried(1) }
}

impl Spool for Endless {
    fn next_id(&self, now: Timestamp) -> QueueId {
        self.accepted.next_id(now)
    }

    fn announce(&self) -> Announcement {
        self.accepted.announce()
    }

    fn accept(&self, message: Accepted, content: Content) -> Commit<Receipt> {
        self.accepted.accept(message, content)
    }

    fn settle(&self, id: QueueId, progress: &Progress, durability: Durability) -> Commit<()> {
        self.accepted.settle(id, progress, durability)
    }

    fn remove(&self, id: QueueId) {
        self.accepted.remove(id);
    }

    fn load(&self, id: QueueId) -> BoxFuture<'_, Result<Stored, LoadError>> {
        Box::pin(async move {
            match self.accepted.load(id).await {
                Err(LoadError::Unknown(_)) => Ok(stored(id)),
                loaded => loaded,
            }
        })
    }

    fn content(&self, _: QueueId) -> BoxFuture<'_, Result<Content, LoadError>> {
        Box::pin(async { Ok(Content::from("Subject: x\r\n\r\n")) })
    }

    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>> {
        self.accepted.quarantined()
    }

    fn status(&self) -> SpoolStatus {
        self.accepted.status()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.accepted.close()
    }
}

/// A relay that starts at `now` and finds this many messages, which arrived one after another within an hour before
/// `until`.
fn start(messages: usize, until: Timestamp, clock: &Clock, settings: Settings) -> Dispatch {
    let tracking = Tracking::in_memory(clock.clone());
    let main =
        |domain: &str| Destination::Upstream(if domain == "example.com" { "main" } else { "other" }.into());
    let rules = Answers { owes: true, ..Answers::to(main) };
    let mut recovery = Recovery::new(settings, Arc::new(rules), tracking, clock.clone());
    let domain: Arc<str> = "example.com".into();
    for n in 0..messages {
        let arrived_at = until - HOUR + HOUR.mul_f64(n as f64 / messages as f64);
        let first = QueueId::first_at(arrived_at.as_millis());
        let id = QueueId::from_u64(first.as_u64() + n as u64 % 100);
        recovery.found(&Outline {
            id,
            arrived_at,
            held_since: None,
            held_for_ms: 0,
            delay_told: false,
            hold_for: None,
            deliver_by: None,
            owes_report: false,
            size: 2000,
            kept_since: None,
            resubmitted: None,
            uncertain: false,
            cut_off: false,
            handed_over: false,
            source: Arc::default(),
            waiting: [WaitingDomain { domain: Arc::clone(&domain), next_attempt: None }]
                .into_iter()
                .collect(),
        });
    }
    recovery.start(Arc::new(Endless { accepted: Memory::new() }))
}

fn down() -> Outcome {
    Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "connection refused")
}

async fn fail(mut delivery: Delivery) {
    let job = delivery.open().await.expect("it can be read");
    delivery.unreachable(&job, down(), None, Duration::ZERO).await;
}

async fn next(queue: &Dispatch) -> Work {
    timeout(HOUR * 1000, queue.next()).await.expect("work comes").expect("the queue is open")
}

async fn accept(queue: &Dispatch, to: &str) -> Result<Receipt, AcceptError> {
    let sender: Address = "alice@example.org".parse().unwrap();
    let envelope = Envelope::new(sender.into(), [to.parse().unwrap()]);
    let content = Content::from("Subject: x\r\n\r\n");
    let incoming = Incoming { envelope, origin: Origin::default(), content, taken: None };
    queue.accept(queue.intake(), incoming).await
}

#[tokio::test(start_paused = true)]
async fn a_million_waiting_messages_cost_a_hundred_octets_each_and_nothing_for_each_probe() {
    let _alone = ALONE.lock().await;
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let before = live();
    PEAK.store(before, Ordering::Relaxed);
    let watch = stopwatch();
    let queue = start(MILLION, FRIDAY_NOON, &clock, Settings::default());
    let steady = (live() - before) as f64 / MILLION as f64;
    let peak = (PEAK.load(Ordering::Relaxed) - before) as f64 / MILLION as f64;
    println!("{MILLION} found in {:?}: {steady:.1} octets each, {peak:.1} at the peak", watch.elapsed());
    assert_eq!(queue.len(), MILLION);
    assert!(peak <= 100.0, "{peak}");

    // The first attempt, and 100 probes of the dead destination.
    let watch = stopwatch();
    let Work::Deliver(delivery) = next(&queue).await else { panic!("a delivery was expected") };
    println!("the first attempt after {:?}", watch.elapsed());
    fail(delivery).await;
    let (began, held, watch) = (calls(), live(), stopwatch());
    for _ in 0..25 {
        let Work::Deliver(delivery) = next(&queue).await else { panic!("a delivery was expected") };
        fail(delivery).await;
    }
    let each = (calls() - began) / 25;
    println!("a failed probe: {each} allocations, {:?}", watch.elapsed() / 25);
    assert!(each < 200, "{each} allocations for one probe");
    assert!(live().abs_diff(held) < 100_000, "probes leave nothing behind: {held} octets, then {}", live());

    // Everything now: the destination and its million.
    let watch = stopwatch();
    assert_eq!(queue.retry_all(None), MILLION);
    println!("all of them now: {:?}", watch.elapsed());
    let watch = stopwatch();
    let Work::Deliver(delivery) = next(&queue).await else { panic!("a delivery was expected") };
    println!("the probe after that: {:?}", watch.elapsed());
    fail(delivery).await;
    let steady = (live() - before) as f64 / MILLION as f64;
    println!("then {steady:.1} octets each");
    assert!(steady <= 100.0, "{steady}");
}

/// How many notices and expiries are handed out within a time, and how many deliveries; each ends at once.
async fn count(queue: &Dispatch, clock: &Clock, time: Duration) -> (usize, usize, usize) {
    let until = clock.now() + time;
    let (mut notices, mut expiries, mut deliveries) = (0, 0, 0);
    while let Ok(work) = timeout(until.since(clock.now()), queue.next()).await {
        match work.expect("the queue is open") {
            Work::Notify(_) => notices += 1,
            Work::Expire(expiry) => {
                expiries += 1;
                expiry.expire().await;
            }
            Work::Deliver(delivery) => {
                deliveries += 1;
                fail(delivery).await;
            }
            Work::Tell(parked) => parked.tell().await,
        }
    }
    (notices, expiries, deliveries)
}

#[tokio::test(start_paused = true)]
async fn a_million_delay_notices_at_once_go_at_their_pace_and_new_mail_goes_on() {
    let _alone = ALONE.lock().await;
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let queue = start(MILLION, FRIDAY_NOON - HOUR * 5, &clock, Settings::default());
    let held = live();
    let (notices, expiries, deliveries) = count(&queue, &clock, Duration::from_secs(60)).await;
    println!("a minute: {notices} notices, {expiries} expiries, {deliveries} deliveries");
    assert!((6000..=6100).contains(&notices), "100 a second and one second's worth: {notices}");
    assert_eq!(expiries, 0);
    assert!(live().saturating_sub(held) < 1_000_000, "what waits for its turn costs nothing");
    // A new message for another destination goes before all that.
    let _receipt = accept(&queue, "carol@example.net").await.unwrap();
    let (before, mut work) = (clock.now(), next(&queue).await);
    while !matches!(&work, Work::Deliver(delivery) if delivery.destination() == &Destination::Upstream("other".into()))
    {
        work = next(&queue).await;
    }
    assert!(clock.now().since(before) < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_million_that_are_over_at_once_end_at_the_pace_and_reports_go_first() {
    let _alone = ALONE.lock().await;
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let before = live();
    let queue = start(MILLION, FRIDAY_NOON - HOUR * 72, &clock, Settings::default());
    let (notices, expiries, deliveries) = count(&queue, &clock, Duration::from_secs(60)).await;
    println!("a minute: {notices} reports, {expiries} expiries, {deliveries} deliveries");
    assert!((6000..=6100).contains(&(notices + expiries)), "together at the pace: {notices} and {expiries}");
    assert!(notices.abs_diff(expiries) <= 100, "a report follows each expiry: {notices} and {expiries}");
    let each = (live() - before) as f64 / MILLION as f64;
    println!("{each:.1} octets each");
    assert!(each <= 100.0, "{each}");
}

#[tokio::test(start_paused = true)]
async fn when_too_many_wait_new_mail_is_refused_and_taken_again_when_there_is_room() {
    let _alone = ALONE.lock().await;
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let queue = start(10, FRIDAY_NOON, &clock, Settings { messages: 11, ..Settings::default() });
    assert!(queue.refusal().is_none());
    let id = accept(&queue, "bob@example.com").await.expect("there is room for one").id();
    assert!(matches!(queue.refusal(), Some(AcceptError::TooMany)));
    assert!(matches!(accept(&queue, "bob@example.com").await, Err(AcceptError::TooMany)));
    queue.cancel(id).await.unwrap();
    assert!(queue.refusal().is_none());
    assert!(accept(&queue, "bob@example.com").await.is_ok());
}
