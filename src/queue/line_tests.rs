//! The window of a line, its sleep and its reins.

use super::*;
use crate::mail::{EnhancedStatus, Verdict};

const T0: Timestamp = Timestamp::from_millis(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const LIMITS: LineLimits =
    LineLimits { window_max: 20, expire_after: MINUTE, messages: None, connections: None };

fn line(messages: u64) -> Line {
    let mut line = Line::new(Destination::Upstream("main".into()), LIMITS);
    for n in 0..messages {
        line.join(QueueId::from_u64(n), T0);
    }
    line
}

fn take(line: &mut Line) -> QueueId {
    line.take(T0, |_| T0).expect("somebody waits")
}

fn down() -> Outcome {
    Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "connection refused")
}

#[test]
fn a_dead_destination_has_one_timer_and_its_probes_slow_down() {
    let mut line = line(1000);
    let mut now = T0;
    let mut waits = Vec::new();
    for _ in 0..7 {
        assert_eq!(line.wakes(now), Wakes::Now);
        let id = take(&mut line);
        assert_eq!(line.wakes(now), Wakes::Never, "nobody knows yet whether it answers");
        line.unreachable(down(), None, now);
        line.join(id, now);
        let Wakes::At(next) = line.wakes(now) else { panic!("a sleeping line has a time to wake") };
        waits.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn the_probe_goes_when_the_first_host_may_be_tried_and_neither_before_nor_after() {
    let mut line = line(1);
    let mut now = T0;
    for (wait, expected) in [(3, 3), (290, 290), (0, 1), (3600, 3600)] {
        let id = take(&mut line);
        line.unreachable(down(), Some(now + Duration::from_secs(wait)), now);
        line.join(id, now);
        assert_eq!(line.wakes(now), Wakes::At(now + Duration::from_secs(expected)));
        now = now + Duration::from_secs(expected);
    }
}

#[test]
fn a_line_that_a_route_holds_never_wakes_and_ends_nothing() {
    let mut line = Line::new(Destination::Hold, line(0).limits);
    line.join(QueueId::MIN, T0);
    line.may_end(QueueId::MIN, T0);
    line.is_untold(QueueId::MIN);
    line.wake(T0);
    assert_eq!(line.wakes(T0 + MINUTE * 1000), Wakes::Never);
    assert_eq!((line.ended(), line.to_tell(), line.waiting()), (None, None, 1));
    line.leave(QueueId::MIN, T0, T0);
    assert!(line.is_empty(T0));
}

#[test]
fn successive_probes_take_different_messages() {
    let mut line = line(3);
    let mut probed = Vec::new();
    let mut now = T0;
    for _ in 0..3 {
        let id = take(&mut line);
        probed.push(id.as_u64());
        line.unreachable(down(), None, now);
        line.join(id, now + Duration::from_millis(1));
        now = now + LAST_PROBE;
    }
    assert_eq!(probed, [0, 1, 2]);
}

#[test]
fn deliveries_that_fail_together_count_once() {
    let mut line = line(6);
    take(&mut line);
    line.answered();
    for _ in 0..5 {
        assert_eq!(line.wakes(T0), Wakes::Now);
        take(&mut line);
    }
    for _ in 0..5 {
        line.unreachable(down(), None, T0);
    }
    let sleep = line.sleep().unwrap();
    assert_eq!((sleep.failures, sleep.until), (1, T0 + FIRST_PROBE));
}

#[test]
fn after_a_probe_the_window_opens_step_by_step() {
    let mut line = line(100);
    take(&mut line);
    line.unreachable(down(), None, T0);
    let later = T0 + FIRST_PROBE;
    assert_eq!(line.wakes(later), Wakes::Now);
    take(&mut line);
    assert_eq!(line.wakes(later), Wakes::Never, "the probe goes alone");
    assert!(line.answered().is_some());
    assert_eq!(line.window(), 1);
    for expected in 2..=4 {
        take(&mut line);
        line.answered();
        assert_eq!(line.window(), expected);
    }
}

/// A line with so many deliveries under way, and more that wait.
fn busy(deliveries: u32) -> Line {
    let mut line = line(1000);
    take(&mut line);
    line.answered();
    while line.window() < deliveries {
        take(&mut line);
        line.answered();
    }
    while line.in_flight() < deliveries {
        take(&mut line);
    }
    line
}

#[test]
fn one_failure_among_several_closes_the_window_to_half_and_it_is_felt_for_from_there() {
    let mut line = busy(12);
    line.unreachable(down(), None, T0);
    assert_eq!(line.wakes(T0 + FIRST_PROBE * 2), Wakes::Never, "those that ran beside it will tell");
    assert!(line.answered().is_some(), "it was not the destination's failure");
    assert_eq!((line.window(), line.is_proven()), (6, true));
    while line.in_flight() > 0 {
        line.answered();
    }
    assert_eq!(line.window(), 7, "ten answers more");
    // Another that fails alone: half of what ran.
    for _ in 0..7 {
        take(&mut line);
    }
    line.unreachable(down(), None, T0);
    line.answered();
    assert_eq!(line.window(), 3);
}

#[test]
fn when_all_that_ran_side_by_side_fail_the_line_begins_again_with_one() {
    let mut line = busy(12);
    for _ in 0..12 {
        line.unreachable(down(), None, T0);
    }
    let later = T0 + FIRST_PROBE;
    assert_eq!((line.wakes(T0), line.wakes(later)), (Wakes::At(later), Wakes::Now));
    take(&mut line);
    assert_eq!(line.wakes(later), Wakes::Never, "the probe goes alone");
    line.answered();
    assert_eq!(line.window(), 1);
    for expected in [2, 3, 4, 5, 6, 6] {
        take(&mut line);
        line.answered();
        assert_eq!(line.window(), expected, "and slowly from half of where it failed");
    }
}

#[test]
fn who_asks_for_less_gets_half_at_once_and_a_pause() {
    let mut line = busy(8);
    let (_, learned) = line.complained(&down(), T0);
    let until = learned.expect("it is the first complaint").until;
    assert!(line.complained(&down(), T0).1.is_none(), "of one that ran beside it");
    assert_eq!((line.window(), line.wakes(T0)), (4, Wakes::Never));
    while line.in_flight() > 0 {
        line.answered();
    }
    assert_eq!(line.wakes(T0), Wakes::At(until));
    assert_eq!(line.wakes(until), Wakes::Now);
    line.take(until, |_| T0);
    assert_eq!(line.wakes(until), Wakes::At(until + Duration::from_millis(250)), "not at once");
    line.wake(until);
    assert_eq!(line.wakes(until), Wakes::Now, "but when an operator says so");
}

#[test]
fn a_rate_outlives_the_last_message() {
    let rate = Rate { count: 6, per: MINUTE };
    let mut line = line(1);
    line.set_limits(LineLimits { messages: Some(rate), ..LIMITS });
    take(&mut line);
    line.answered();
    let next = T0 + Duration::from_secs(10);
    assert_eq!((line.is_empty(T0), line.wakes(T0)), (false, Wakes::At(next)));
    line.join(QueueId::from_u64(7), T0);
    assert_eq!((line.wakes(T0), line.wakes(next)), (Wakes::At(next), Wakes::Now));
    line.leave(QueueId::from_u64(7), T0, T0);
    assert!(line.is_empty(next));
}

#[test]
fn a_delivery_without_a_connection_waits_while_those_that_have_one_go_on() {
    let mut line = busy(5);
    line.set_limits(LineLimits { connections: Some(Rate { count: 6, per: MINUTE }), ..LIMITS });
    assert_eq!(line.may_connect(T0), Ok(()));
    let until = line.may_connect(T0).unwrap_err();
    line.put_off(until);
    assert_eq!((line.in_flight(), line.wakes(T0)), (4, Wakes::At(until)));
    line.answered();
    assert_eq!(line.wakes(T0), Wakes::Now, "there is a connection that nobody uses");
}

#[test]
fn a_line_that_has_not_failed_opens_when_it_is_answered_first() {
    let mut line = line(100);
    take(&mut line);
    assert_eq!((line.wakes(T0), line.unproven_in_flight()), (Wakes::Never, 1));
    line.answered();
    assert_eq!((line.window(), line.unproven_in_flight()), (WINDOW_AT_START, 0));
}

#[test]
fn only_a_failure_after_the_deadline_ends_a_message_that_was_not_tried() {
    let mut line = line(2);
    let id = QueueId::from_u64(1);
    take(&mut line);
    // Its deadline is T0.
    let aged_from = T0 - MINUTE;
    line.unreachable(down(), None, T0 - Duration::from_millis(1));
    line.may_end(id, aged_from);
    assert_eq!(line.ended(), None, "the failure was before its deadline");
    take(&mut line);
    line.join(id, T0);
    line.may_end(id, aged_from);
    line.unreachable(down(), None, T0);
    assert_eq!(line.ended(), Some(id));
    line.set_limits(LineLimits { expire_after: MINUTE * 2, ..LIMITS });
    assert_eq!(line.ended(), None, "the schedule was lengthened");
    line.set_limits(LIMITS);
    line.leave(id, T0, aged_from);
    assert_eq!(line.ended(), None);
}

#[test]
fn who_was_not_told_of_is_told_of_while_the_line_sleeps() {
    let mut line = line(2);
    line.is_untold(QueueId::from_u64(0));
    line.is_untold(QueueId::from_u64(1));
    assert_eq!(line.to_tell(), None, "it does not sleep");
    take(&mut line);
    line.unreachable(down(), None, T0);
    assert_eq!(line.to_tell(), Some(QueueId::from_u64(1)), "the first was tried");
    line.is_told(QueueId::from_u64(1));
    assert_eq!(line.to_tell(), None);
}
