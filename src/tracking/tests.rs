//! The log as a whole: what is reported stands in the files, reaches subscribers, and is found again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::mail::{
    Address, Destination, EnhancedStatus, Host, Origin, Outcome, QueueId, Reply, ReversePath, SessionId,
    Verdict,
};

const KEEP: Duration = Duration::from_secs(30 * 86_400);

fn clock_at(text: &str) -> Clock {
    Clock::simulated(text.parse().unwrap(), 1)
}

struct Sample {
    origin: Origin,
    reverse_path: ReversePath,
    recipient: Address,
    destination: Destination,
    outcome: Outcome,
}

impl Sample {
    fn new() -> Self {
        let host =
            Host { name: "relay-a.example".into(), address: Some("192.0.2.7".parse().unwrap()), port: None };
        Self {
            origin: Origin {
                session: Some(SessionId::from_chance(3)),
                client: Some("192.0.2.1".parse().unwrap()),
                message_id: Some("<m@example.org>".into()),
                user: None,
                listener: None,
            },
            reverse_path: ReversePath::from("alice@example.org".parse::<Address>().unwrap()),
            recipient: "bob@example.com".parse().unwrap(),
            destination: Destination::Upstream("main".into()),
            outcome: Outcome {
                verdict: Verdict::Deferred,
                status: EnhancedStatus::new(4, 7, 1),
                reason: "RCPT was refused for now".into(),
                reply: Some(Reply::new(451, Some(EnhancedStatus::new(4, 7, 1)), "try later")),
                host: Some(host),
                tls: None,
            },
        }
    }

    fn message(&self, id: u64) -> Message<'_> {
        Message { id: QueueId::from_u64(id), origin: &self.origin, reverse_path: &self.reverse_path }
    }

    fn receive(&self, tracking: &Tracking, id: u64) {
        let facts = Received {
            recipients: &[&self.recipient],
            size: 100,
            duration: Some(Duration::from_millis(12)),
            reference: None,
        };
        tracking.received(self.message(id), &facts);
    }

    fn defer(&self, tracking: &Tracking, id: u64, next_attempt: Timestamp) {
        let facts = Attempted {
            recipients: &[&self.recipient],
            destination: &self.destination,
            outcome: &self.outcome,
            attempt: 1,
            duration: Some(Duration::from_millis(40)),
            next_attempt: Some(next_attempt),
            expires: None,
        };
        tracking.deferred(self.message(id), &facts);
    }
}

fn events(folder: &Path, filter: &Filter) -> Vec<Event> {
    read(folder, filter).unwrap().map(|found| found.expect("nothing is damaged")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_reported_is_written_told_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at("2026-11-22T03:33:07Z");
    let tracking = Tracking::to_folder(dir.path().join("tracking"), KEEP, clock.clone()).unwrap();
    let mut subscriber = tracking.subscribe();
    let sample = Sample::new();
    sample.receive(&tracking, 1);
    clock.wait(Duration::from_secs(1)).await;
    sample.defer(&tracking, 1, clock.now() + Duration::from_secs(60));
    sample.receive(&tracking, 2);
    tracking.flush().await;

    let found =
        events(&dir.path().join("tracking"), &Filter { id: Some(QueueId::from_u64(1)), ..Filter::default() });
    let names: Vec<EventName> = found.iter().map(|event| event.event).collect();
    assert_eq!(names, [EventName::Receive, EventName::Defer]);
    let deferred = &found[1];
    assert_eq!(deferred.time.to_string(), "2026-11-22T03:33:08.000Z");
    assert_eq!(deferred.next_attempt.unwrap().to_string(), "2026-11-22T03:34:08.000Z");
    assert_eq!(deferred.host().unwrap().to_string(), "relay-a.example [192.0.2.7]");
    assert_eq!(deferred.reply, sample.outcome.reply);
    assert_eq!(deferred.status, Some(EnhancedStatus::new(4, 7, 1)));
    assert_eq!(deferred.destination.as_deref(), Some("main"));
    for event in &found {
        assert_eq!(*subscriber.next().await.unwrap().unwrap(), *event);
    }
    assert_eq!(tracking.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_day_has_its_file_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at("2026-11-22T23:59:59Z");
    let tracking = Tracking::to_folder(dir.path(), Duration::from_secs(86_400), clock.clone()).unwrap();
    let sample = Sample::new();
    for id in 1..=4 {
        sample.receive(&tracking, id);
        // Not flushed each time: one batch may hold several days.
        if id == 2 {
            tracking.flush().await;
        }
        clock.wait(Duration::from_secs(86_400)).await;
    }
    drop(tracking);
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["posthouse-2026-11-24.jsonl", "posthouse-2026-11-25.jsonl"]);
    let found =
        events(dir.path(), &Filter { until: "2026-11-25T00:00:00Z".parse().ok(), ..Filter::default() });
    assert_eq!(found.iter().map(|event| event.id.unwrap().as_u64()).collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn all_that_many_reported_at_once_is_there_and_files_and_subscribers_have_it_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let tracking = Tracking::to_folder(dir.path(), KEEP, clock_at("2026-11-22T03:33:07Z")).unwrap();
    let mut subscriber = tracking.subscribe();
    std::thread::scope(|scope| {
        for reporter in 0..4_u64 {
            let tracking = tracking.clone();
            scope.spawn(move || {
                let sample = Sample::new();
                (0..500).for_each(|count| sample.receive(&tracking, reporter * 1_000 + count));
            });
        }
    });
    drop(tracking); // the last clone: everything is handed over
    let ids: Vec<u64> =
        events(dir.path(), &Filter::default()).iter().map(|e| e.id.unwrap().as_u64()).collect();
    assert_eq!(ids.len(), 2_000);
    let seen = std::iter::from_fn(|| subscriber.try_next()).map(|event| event.unwrap().id.unwrap().as_u64());
    assert_eq!(seen.collect::<Vec<_>>(), ids);
    for reporter in 0..4 {
        let own: Vec<u64> = ids.iter().copied().filter(|id| id / 1_000 == reporter).collect();
        assert!(own.is_sorted() && own.len() == 500);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_line_is_reported_with_its_place_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("posthouse-2026-11-22.jsonl");
    let good = r#"{"time":"2026-11-22T01:00:00.000Z","event":"WAKE","destination":"main"}"#;
    fs::write(&path, format!("{good}\n{{\"time\":\n\n{good}\n{{\"time\":\"20")).unwrap();
    let found: Vec<_> = read(dir.path(), &Filter::default()).unwrap().collect();
    assert_eq!(found.len(), 3, "{found:?}");
    let damage = found[1].as_ref().unwrap_err();
    assert_eq!(damage.to_string(), format!("{}:2", path.display()));
    assert!(matches!(damage.reason, DamageReason::Line(_)));
    assert!(found[0].is_ok() && found[2].is_ok());
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_written_are_counted_and_reporting_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock_at("2026-11-22T12:00:00Z");
    let tracking = Tracking::to_folder(dir.path(), KEEP, clock.clone()).unwrap();
    let sample = Sample::new();
    // Tomorrow's file cannot be opened: a folder has its name.
    let obstacle = dir.path().join("posthouse-2026-11-23.jsonl");
    fs::create_dir(&obstacle).unwrap();
    clock.wait(Duration::from_secs(86_400)).await;
    sample.receive(&tracking, 1);
    tracking.flush().await;
    sample.receive(&tracking, 2);
    tracking.flush().await;
    assert_eq!(tracking.lost(), 2);
    fs::remove_dir(&obstacle).unwrap();
    sample.receive(&tracking, 3);
    tracking.flush().await;
    assert_eq!(tracking.lost(), 2);
    assert_eq!(events(dir.path(), &Filter::default()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_how_much_it_missed() {
    let tracking = Tracking::in_memory(clock_at("2026-11-22T03:33:07Z"));
    let mut subscriber = tracking.subscribe();
    let sample = Sample::new();
    (0..10_000).for_each(|id| sample.receive(&tracking, id));
    let missed = subscriber.next().await.unwrap().unwrap_err().missed;
    let mut seen = 0;
    while let Some(event) = subscriber.try_next() {
        event.unwrap();
        seen += 1;
    }
    assert_eq!(missed + seen, 10_000);
    assert!(missed > 0);
    drop(tracking);
    assert!(subscriber.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_made_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error =
        Tracking::to_folder(file.join("tracking"), KEEP, clock_at("2026-11-22T03:33:07Z")).err().unwrap();
    assert!(error.to_string().contains("name another as [tracking] path"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn routing_failover_and_sleep_can_be_read_afterwards() {
    let clock = clock_at("2026-11-22T03:33:07Z");
    let tracking = Tracking::in_memory(clock.clone());
    let mut subscriber = tracking.subscribe();
    let sample = Sample::new();
    let host = sample.outcome.host.clone().unwrap();
    let next =
        Host { name: "relay-b.example".into(), address: Some("192.0.2.8".parse().unwrap()), port: None };
    let candidates = vec![Candidate {
        host: "relay-a.example".into(),
        group: Some("main".into()),
        addresses: vec!["192.0.2.7".parse().unwrap()],
        port: Some(587),
        preference: Some(10),
        decision: "chosen".into(),
    }];
    let routed = Routed {
        destination: &sample.destination,
        candidates: candidates.clone(),
        reason: None,
        duration: None,
    };
    tracking.routed(Some(sample.message(1)), routed);
    let failed_over = FailedOver {
        destination: &sample.destination,
        from: &host,
        reply: None,
        reason: "connection refused",
        to: &next,
        candidates: &candidates,
        duration: Duration::from_millis(30),
    };
    tracking.failed_over(Some(sample.message(1)), &failed_over);
    let since = clock.now();
    tracking.slept(&Slept {
        destination: &sample.destination,
        outcome: &sample.outcome,
        since,
        next_attempt: since + Duration::from_secs(10),
        waiting: 3,
    });
    clock.wait(Duration::from_secs(10)).await;
    tracking.woke(&Woke { destination: &sample.destination, host: Some(&next), since, waiting: 3 });

    let mut next_event = || subscriber.try_next().unwrap().unwrap();
    assert_eq!(next_event().candidates[0].to_string(), "10 relay-a.example:587 (main) [192.0.2.7] chosen");
    let failover = next_event();
    assert_eq!(failover.event, EventName::Failover);
    assert_eq!(failover.next_host.as_deref(), Some("relay-b.example [192.0.2.8]"));
    assert_eq!(failover.reason.as_deref(), Some("connection refused"));
    assert_eq!(
        (&failover.candidates, failover.duration_ms),
        (&candidates, Some(30)),
        "what was there, what it cost"
    );
    assert_eq!(next_event().waiting, Some(3));
    assert_eq!(next_event().duration_ms, Some(10_000));
}
