//! The moves of a message through the ledger.

use super::*;
use crate::mail::{EnhancedStatus, Verdict};
use crate::queue::pace::Rate;

const T0: Timestamp = Timestamp::from_millis(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn ledger() -> Ledger {
    Ledger::new(Limits::for_two_days(Some(HOUR * 4)))
}

/// The name of a message that arrived at T0.
fn id(n: u64) -> QueueId {
    QueueId::from_u64(QueueId::first_at(T0.as_millis()).as_u64() + n)
}

fn number(id: QueueId) -> u64 {
    id.as_u64() & 0xFFFF
}

fn enter(ledger: &mut Ledger, n: u64, group: &str, now: Timestamp) -> QueueId {
    let id = id(n);
    let shares = vec![(Destination::Upstream(group.into()), now)];
    let entrant = Entrant::waiting(id, now, shares);
    ledger.enter(entrant, now);
    id
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

fn wait(ledger: &mut Ledger, now: Timestamp) -> Timestamp {
    match ledger.take(now) {
        Taken::Wait(Some(moment)) => moment,
        other => panic!("expected a wait, got {other:?}"),
    }
}

/// Runs a dead destination until `until` and gives what else fell due, with its hour.
fn run_dead(ledger: &mut Ledger, mut now: Timestamp, until: Timestamp) -> Vec<(u64, String)> {
    let mut fell_due = Vec::new();
    while now < until {
        let hour = now.since(T0).as_secs() / 3600;
        match ledger.take(now) {
            Taken::Wait(Some(moment)) => now = moment,
            Taken::Wait(None) => break,
            Taken::Task(Task::Deliver { id, line, .. }) => {
                ledger.unreachable(id, line, true, down(), None, now);
                ledger.end_work(Duty::Plain);
            }
            Taken::Task(Task::Delay { id }) => {
                ledger.delay_ended(id, None);
                fell_due.push((hour, format!("delay {}", number(id))));
                ledger.end_work(Duty::ByAge);
            }
            Taken::Task(Task::Expire { id, .. }) => {
                fell_due.push((hour, format!("expire {}", number(id))));
                ledger.forget(id, now);
                ledger.end_work(Duty::ByAge);
            }
            Taken::Again => {}
            Taken::Task(other) => panic!("nobody asked for {other:?}"),
        }
    }
    fell_due
}

#[test]
fn notices_and_expiry_fall_due_by_age_while_the_destination_sleeps() {
    let mut ledger = ledger();
    enter(&mut ledger, 1, "main", T0);
    enter(&mut ledger, 2, "main", T0);
    let mut fell_due = run_dead(&mut ledger, T0, T0 + HOUR * 100);
    // Which of two goes first when both are due is nobody's business.
    fell_due.sort();
    let expected = ["delay 1", "delay 2", "expire 1", "expire 2"];
    assert_eq!(fell_due.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(fell_due.iter().map(|(hour, _)| *hour).collect::<Vec<_>>(), [4, 4, 48, 48]);
    assert_eq!(ledger.len(), 0);
    assert!(ledger.lines().next().is_none() && ledger.delays.is_idle() && ledger.expiries.is_idle());
}

#[test]
fn nothing_expires_without_an_attempt_that_failed_after_its_deadline() {
    let mut ledger = ledger();
    let monday = T0 + HOUR * 72;
    let id = id(1);
    let shares = vec![(Destination::Upstream("main".into()), T0)];
    // Found at a start on Monday: its deadline passed at the weekend.
    let entrant = Entrant::waiting(id, T0, shares);
    ledger.enter(entrant, monday);
    let (tried, line) = deliver(&mut ledger, monday);
    assert_eq!(tried, id);
    ledger.unreachable(id, line, true, down(), None, monday);
    ledger.end_work(Duty::Plain);
    assert!(matches!(ledger.take(monday), Taken::Task(Task::Expire { .. })), "now it has been tried");
}

#[test]
fn what_is_held_does_not_run_and_does_not_age() {
    let mut ledger = ledger();
    let id = enter(&mut ledger, 1, "main", T0);
    ledger.begin_work(Duty::Plain);
    ledger.withdraw(id, true, T0);
    ledger.end_work(Duty::Plain);
    assert_eq!(ledger.take(T0 + HOUR * 1000), Taken::Wait(None));
    assert!(ledger.is_held(id) && ledger.contains(id));
}

#[test]
fn a_hold_during_an_attempt_lets_it_end_and_a_release_does_not_double_it() {
    let mut ledger = ledger();
    let id = enter(&mut ledger, 1, "main", T0);
    let (_, line) = deliver(&mut ledger, T0);
    ledger.withdraw(id, true, T0);
    // Released while the attempt still runs: the share on lease stays the only one.
    let shares = vec![(Destination::Upstream("main".into()), T0)];
    ledger.withdraw(id, false, T0);
    ledger.enter(Entrant::waiting(id, T0, shares), T0);
    ledger.set_limits(Limits { delay_after: None, ..ledger.limits.clone() }, T0);
    assert_eq!(wait(&mut ledger, T0), T0 + HOUR * 48);
    ledger.settle_share(id, line, Some(T0 + HOUR), T0);
    ledger.end_work(Duty::Plain);
    assert_eq!(wait(&mut ledger, T0), T0 + HOUR);
}

#[test]
fn no_more_runs_at_once_than_the_limits_allow() {
    let mut ledger = ledger();
    ledger.set_limits(
        Limits {
            expire_after: HOUR,
            delay_after: None,
            per_destination: 3,
            total: 4,
            ..ledger.limits.clone()
        },
        T0,
    );
    for n in 0..10 {
        enter(&mut ledger, n, if n < 5 { "a" } else { "b" }, T0);
    }
    for _ in 0..2 {
        let (id, line) = deliver(&mut ledger, T0);
        ledger.settle_share(id, line, None, T0);
        ledger.end_work(Duty::Plain);
    }
    for _ in 0..4 {
        deliver(&mut ledger, T0);
    }
    assert_eq!(ledger.take(T0), Taken::Wait(None));
}

#[test]
fn now_means_now_also_for_a_sleeping_destination() {
    let mut ledger = ledger();
    let id = enter(&mut ledger, 1, "main", T0);
    let (_, line) = deliver(&mut ledger, T0);
    ledger.unreachable(id, line, true, down(), Some(T0 + HOUR), T0);
    ledger.end_work(Duty::Plain);
    let soon = T0 + Duration::from_secs(1);
    assert_eq!(wait(&mut ledger, soon), T0 + HOUR);
    ledger.wake(None, soon);
    assert_eq!(ledger.count_some(None, None, soon).0, 1);
    ledger.hasten_some(None, None, soon);
    assert_eq!(deliver(&mut ledger, soon).0, id);
}

#[test]
fn an_expiry_that_comes_back_respects_a_hold_and_stands_in_line_once() {
    for held in [true, false] {
        let mut ledger = ledger();
        let monday = T0 + HOUR * 72;
        let id = enter(&mut ledger, 1, "main", T0);
        enter(&mut ledger, 2, "main", monday);
        let (_, line) = deliver(&mut ledger, monday);
        ledger.unreachable(id, line, true, down(), None, monday);
        ledger.end_work(Duty::Plain);
        let Taken::Task(Task::Expire { destination, .. }) = ledger.take(monday) else { panic!("an expiry") };
        // meanwhile: hold, or a reload / write_down that enters it anew
        ledger.withdraw(id, held, monday);
        if !held {
            let shares = vec![(destination.clone(), monday)];
            ledger.enter(Entrant::waiting(id, T0, shares), monday);
        }
        ledger.put_back_expired(id, &destination, monday + HOUR, monday);
        ledger.end_work(Duty::ByAge);
        assert!(ledger.shares(id).len() <= usize::from(!held), "held {held}");
    }
}

#[test]
fn an_expiry_is_asked_again_after_a_release() {
    let mut ledger = ledger();
    ledger.set_limits(
        Limits {
            expire_after: HOUR * 48,
            delay_after: None,
            per_destination: 3,
            total: 2,
            ..ledger.limits.clone()
        },
        T0,
    );
    let monday = T0 + HOUR * 72;
    let id = enter(&mut ledger, 1, "main", T0);
    let (_, line) = deliver(&mut ledger, monday);
    ledger.unreachable(id, line, true, down(), None, monday);
    // hold and release before anybody takes it; it was held for a day, say
    ledger.withdraw(id, true, monday);
    ledger.withdraw(id, false, monday);
    let shares = vec![(Destination::Upstream("main".into()), monday)];
    ledger.enter(Entrant::waiting(id, monday, shares), monday);
    ledger.end_work(Duty::Plain);
    let next = ledger.take(monday);
    assert!(!matches!(next, Taken::Task(Task::Expire { .. })), "{next:?}");
}

#[test]
fn now_for_one_destination_leaves_the_others_alone() {
    let mut ledger = ledger();
    let id = id(1);
    let a = Destination::Upstream("a".into());
    let b = Destination::Upstream("b".into());
    let shares = vec![(a.clone(), T0 + HOUR), (b.clone(), T0 + HOUR)];
    ledger.enter(Entrant::waiting(id, T0, shares), T0);
    ledger.wake(Some(&a), T0);
    ledger.hasten_some(Some(&a), None, T0);
    let (_, line) = deliver(&mut ledger, T0);
    ledger.settle_share(id, line, None, T0);
    ledger.end_work(Duty::Plain);
    let n = ledger.take(T0);
    assert_eq!(n, Taken::Wait(Some(T0 + HOUR)));
}

/// A ledger with `total` places and one notice or expiry in a time of `each`.
fn slow(total: usize, each: Duration) -> Ledger {
    let mut ledger = ledger();
    let notices = Rate { count: 1, per: each };
    ledger.set_limits(Limits { total, notices, ..ledger.limits.clone() }, T0);
    ledger
}

fn task(ledger: &mut Ledger, now: Timestamp) -> Task {
    match ledger.take(now) {
        Taken::Task(task) => task,
        other => panic!("expected a task, got {other:?}"),
    }
}

#[test]
fn what_falls_due_by_age_takes_a_quarter_of_the_places_and_deliveries_go_on() {
    let mut ledger = ledger();
    ledger.set_limits(Limits { total: 8, ..ledger.limits.clone() }, T0);
    for n in 0..10 {
        enter(&mut ledger, n, "main", T0);
    }
    let later = T0 + HOUR * 5;
    for _ in 0..2 {
        assert!(matches!(task(&mut ledger, later), Task::Delay { .. }));
    }
    deliver(&mut ledger, later);
    assert_eq!(ledger.take(later), Taken::Wait(Some(T0 + HOUR * 48)), "until a place is free, or an expiry");
    ledger.delay_ended(id(0), None);
    ledger.end_work(Duty::ByAge);
    assert!(matches!(task(&mut ledger, later), Task::Delay { .. }));
}

#[test]
fn reports_go_before_expiries_and_expiries_before_delay_notices() {
    let mut ledger = slow(200, HOUR);
    let monday = T0 + HOUR * 72;
    // One of Friday, which ends, and one of this morning.
    let old = enter(&mut ledger, 1, "main", T0);
    let entrant = |n: u64, at: Timestamp, group: &str| {
        Entrant::waiting(
            QueueId::from_u64(QueueId::first_at(at.as_millis()).as_u64() + n),
            at,
            vec![(Destination::Upstream(group.into()), monday + HOUR * 9)],
        )
    };
    let young = entrant(2, monday - HOUR * 5, "other");
    let young_id = young.id;
    ledger.enter(young, monday);
    let reported = entrant(3, monday, "other");
    let reported_id = reported.id;
    ledger.enter(reported, monday);
    // Before anything goes by the pace.
    while ledger.pace.take(monday) {}
    let (_, line) = deliver(&mut ledger, monday);
    ledger.unreachable(old, line, true, down(), None, monday);
    ledger.owes_report(reported_id);
    let at = |hours: u32| monday + HOUR * hours;
    assert_eq!(task(&mut ledger, at(1)), Task::Report { id: reported_id });
    assert!(matches!(task(&mut ledger, at(2)), Task::Expire { id, .. } if id == old));
    assert_eq!(task(&mut ledger, at(3)), Task::Delay { id: young_id });
}

#[test]
fn a_destination_that_answers_before_their_turn_to_end_gets_its_messages() {
    let mut ledger = slow(200, HOUR);
    let monday = T0 + HOUR * 72;
    for n in 0..3 {
        enter(&mut ledger, n, "main", T0);
    }
    let (first, line) = deliver(&mut ledger, monday);
    ledger.unreachable(first, line, true, down(), None, monday);
    ledger.end_work(Duty::Plain);
    assert!(matches!(task(&mut ledger, monday), Task::Expire { id: ended, .. } if ended == id(0)));
    ledger.forget(id(0), monday);
    let Taken::Wait(Some(probe)) = ledger.take(monday) else { panic!("the pace lets nobody go") };
    let (second, line) = deliver(&mut ledger, probe);
    ledger.settle_share(second, line, None, probe);
    let (third, line) = deliver(&mut ledger, probe + HOUR * 2);
    assert_eq!((second, third), (id(1), id(2)), "what waits is delivered");
    ledger.settle_share(third, line, None, probe);
}

#[test]
fn a_million_that_fall_due_at_once_are_looked_at_by_and_by() {
    let mut ledger = ledger();
    for n in 0..2500 {
        enter(&mut ledger, n, "main", T0);
    }
    let (_, line) = deliver(&mut ledger, T0);
    ledger.unreachable(id(0), line, true, down(), Some(T0 + HOUR * 100), T0);
    let monday = T0 + HOUR * 72;
    assert_eq!((ledger.take(monday), ledger.take(monday)), (Taken::Again, Taken::Again));
    assert!(matches!(ledger.take(monday), Taken::Again | Taken::Wait(_)));
}

#[test]
fn a_release_after_its_time_was_looked_at_is_not_missed() {
    let mut ledger = ledger();
    let held = enter(&mut ledger, 1, "main", T0);
    enter(&mut ledger, 2, "main", T0);
    ledger.withdraw(held, true, T0);
    assert_eq!(run_dead(&mut ledger, T0, T0 + HOUR * 10), [(4, "delay 2".to_owned())]);
    // It did not age for ten hours.
    let released = T0 + HOUR * 10;
    ledger.withdraw(held, false, released);
    let shares = vec![(Destination::Upstream("main".into()), released)];
    ledger.enter(Entrant::waiting(held, released, shares), released);
    let fell_due = run_dead(&mut ledger, released, T0 + HOUR * 70);
    let expected = [(14, "delay 1"), (48, "expire 2"), (58, "expire 1")];
    assert_eq!(fell_due, expected.map(|(hour, what)| (hour, what.to_owned())));
}
