//! What senders ask of the clock: releases and deadlines in the ledger.

use super::super::deadlines::Deadline;
use super::*;
use crate::mail::{ByMode, EnhancedStatus, Verdict};

const T0: Timestamp = Timestamp::from_millis(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn ledger() -> Ledger {
    ledger_that_tells_after(Some(HOUR * 4))
}

fn ledger_that_tells_after(delay_after: Option<Duration>) -> Ledger {
    Ledger::new(Limits::for_two_days(delay_after))
}

fn enter(
    ledger: &mut Ledger,
    aged_from: Timestamp,
    asked: Asked,
    groups: &[&str],
    now: Timestamp,
) -> QueueId {
    let id = QueueId::first_at(T0.as_millis());
    let shares = groups.iter().map(|group| (Destination::Upstream((*group).into()), now)).collect();
    ledger.enter(Entrant { asked, ..Entrant::waiting(id, aged_from, shares) }, now);
    id
}

fn by(after: Duration, mode: ByMode) -> Asked {
    Asked { release: false, deadline: Some(Deadline { at: T0 + after, mode }) }
}

fn down() -> Outcome {
    Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "connection refused")
}

fn deliver(ledger: &mut Ledger, now: Timestamp) -> (QueueId, LineId) {
    match ledger.take(now) {
        Taken::Task(Task::Deliver { id, line, .. }) => (id, line),
        other => panic!("expected a delivery, got {other:?}"),
    }
}

/// The moment of the next task, which is not a delivery, while every delivery fails to connect.
fn next_by_age(ledger: &mut Ledger, mut now: Timestamp) -> (Timestamp, Task) {
    for _ in 0..10_000 {
        match ledger.take(now) {
            Taken::Wait(Some(moment)) => now = moment,
            Taken::Task(Task::Deliver { id, line, .. }) => {
                ledger.unreachable(id, line, true, down(), None, now);
                ledger.end_work(Duty::Plain);
            }
            Taken::Task(task) => {
                ledger.end_work(Duty::ByAge);
                return (now, task);
            }
            other => panic!("nothing more comes: {other:?}"),
        }
    }
    panic!("nothing falls due")
}

#[test]
fn nothing_is_tried_before_its_release_and_its_age_counts_from_there() {
    let mut ledger = ledger();
    let asked = Asked { release: true, deadline: None };
    let id = enter(&mut ledger, T0 + DAY, asked, &["main"], T0);
    assert_eq!(ledger.take(T0), Taken::Wait(Some(T0 + HOUR * 4)), "a look at its age finds nothing");
    assert_eq!(ledger.take(T0 + HOUR * 4), Taken::Wait(Some(T0 + DAY)));
    assert_eq!(ledger.deadline(id), Some(T0 + DAY + HOUR * 48));
    let (at, task) = next_by_age(&mut ledger, T0 + DAY);
    assert_eq!((at, task), (T0 + DAY + HOUR * 4, Task::Delay { id }));
    ledger.delay_ended(id, None);
    let (at, task) = next_by_age(&mut ledger, at);
    assert!(matches!(task, Task::Expire { outcome: Some(_), .. }), "by the schedule");
    let after = at.since(T0 + DAY);
    assert!((HOUR * 48..HOUR * 48 + MINUTE * 6).contains(&after), "by the next failure: {after:?}");
}

#[test]
fn an_operator_can_try_one_before_its_release_and_then_it_waits_again() {
    let mut ledger = ledger();
    let asked = Asked { release: true, deadline: None };
    let id = enter(&mut ledger, T0 + DAY, asked, &["main"], T0);
    ledger.wake(None, T0);
    assert_eq!(ledger.count_some(None, None, T0).0, 0, "not with all others");
    ledger.hasten_some(None, None, T0);
    ledger.hasten(id, T0);
    let (tried, line) = deliver(&mut ledger, T0);
    assert_eq!(tried, id);
    ledger.unreachable(id, line, true, down(), None, T0);
    ledger.end_work(Duty::Plain);
    assert_eq!(ledger.shares(id)[0].1, Some(T0 + DAY));
    assert_eq!(ledger.count_some(None, None, T0 + DAY).0, 1);
    ledger.hasten_some(None, None, T0 + DAY);
}

#[test]
fn a_message_comes_back_at_its_own_deadline_though_it_was_never_tried() {
    let mut ledger = ledger();
    let start = T0 + HOUR;
    // Found at a start, after its time.
    let id = enter(&mut ledger, T0, by(MINUTE * 10, ByMode::Return), &["a", "b"], start);
    for _ in 0..2 {
        let Taken::Task(task) = ledger.take(start) else { panic!("its time is over") };
        let Task::Expire { id: expired, destination, outcome: None } = task else { panic!("{task:?}") };
        assert!(expired == id && ledger.may_expire(id, &destination));
        ledger.end_work(Duty::ByAge);
    }
    assert!(matches!(ledger.take(start), Taken::Wait(_)), "no attempt any more");
    assert!(ledger.shares(id).is_empty());
    ledger.forget(id, start);
    assert!(ledger.deadlines.is_idle());
}

#[test]
fn an_attempt_that_is_under_way_at_the_deadline_is_not_cut_short() {
    let mut ledger = ledger();
    let deadline = T0 + MINUTE * 10;
    let id = enter(&mut ledger, T0, by(MINUTE * 10, ByMode::Return), &["main"], T0);
    let (_, line) = deliver(&mut ledger, T0);
    assert!(matches!(ledger.take(deadline), Taken::Wait(_)));
    ledger.unreachable(id, line, true, down(), None, deadline + Duration::from_secs(5));
    ledger.end_work(Duty::Plain);
    let (at, task) = next_by_age(&mut ledger, deadline + Duration::from_secs(5));
    assert!(
        matches!(task, Task::Expire { outcome: None, .. }) && at <= deadline + ATTEMPT_UNDER_WAY,
        "{task:?}"
    );
}

#[test]
fn one_that_could_not_be_brought_back_is_tried_again_and_one_that_is_held_waits() {
    let mut ledger = ledger();
    let deadline = T0 + MINUTE * 10;
    let id = enter(&mut ledger, T0, by(MINUTE * 10, ByMode::Return), &["main"], T0);
    ledger.withdraw(id, true, T0);
    assert!(matches!(ledger.take(deadline), Taken::Wait(_)), "held");
    ledger.withdraw(id, false, deadline);
    enter(&mut ledger, T0, by(MINUTE * 10, ByMode::Return), &["main"], deadline + HOUR);
    let Taken::Task(Task::Expire { destination, .. }) = ledger.take(deadline + HOUR) else { panic!("late") };
    let again = deadline + HOUR * 2;
    ledger.put_back_expired(id, &destination, again, deadline + HOUR);
    ledger.end_work(Duty::ByAge);
    assert_eq!(ledger.take(deadline + HOUR), Taken::Wait(Some(again)));
    assert!(matches!(ledger.take(again), Taken::Task(Task::Expire { outcome: None, .. })));
}

#[test]
fn in_mode_n_the_delay_notice_comes_at_the_deadline_once_and_attempts_go_on() {
    for delay_after in [Some(MINUTE), Some(HOUR * 4), None] {
        let mut ledger = ledger_that_tells_after(delay_after);
        let id = enter(&mut ledger, T0, by(MINUTE * 10, ByMode::Notify), &["main"], T0);
        let (at, task) = next_by_age(&mut ledger, T0);
        assert_eq!((at, task), (T0 + MINUTE * 10, Task::Delay { id }), "{delay_after:?}");
        ledger.delay_ended(id, Some(at + MINUTE));
        assert_eq!(
            next_by_age(&mut ledger, at),
            (at + MINUTE, Task::Delay { id }),
            "it could not be written"
        );
        ledger.delay_ended(id, None);
        let (at, task) = next_by_age(&mut ledger, at);
        assert!(matches!(task, Task::Expire { outcome: Some(_), .. }) && at >= T0 + HOUR * 48, "{task:?}");
    }
}
