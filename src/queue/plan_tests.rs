//! Every preset minute by minute, against what its source documents, and the faults a plan finds.

use super::super::schedule::Preset;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn seconds_of(plan: &Plan) -> Vec<u64> {
    plan.attempts.iter().map(|attempt| attempt.after.as_secs()).collect()
}

fn minutes_of(plan: &Plan) -> Vec<u64> {
    seconds_of(plan).into_iter().map(|seconds| seconds / 60).collect()
}

fn faults(plan: &Plan) -> Vec<Warning> {
    plan.warnings.iter().copied().filter(|warning| warning.weight() == Weight::Warning).collect()
}

fn growing(first: Duration, factor: f64, max: Duration, expire_after: Duration) -> Retry {
    let steps = Steps::Exponential { first, factor, max };
    Retry { steps, jitter: 0.0, expire_after, delay_after: Some(4 * HOUR) }
}

#[test]
fn default_doubles_from_a_minute_to_an_hour_and_ends_after_two_days() {
    let plan = Plan::of(&Preset::Default.retry());
    let minutes = minutes_of(&plan);
    assert_eq!(minutes[..10], [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    assert_eq!(minutes[minutes.len() - 2..], [63 + 46 * 60, 48 * 60]);
    assert_eq!(minutes.len(), 7 + 46 + 1);
    assert_eq!(plan.delay_notice_after, Some(4 * HOUR));
    assert_eq!(faults(&plan), []);
}

#[test]
fn rfc5321_tries_twice_in_the_first_hour_and_goes_on_for_five_days() {
    let plan = Plan::of(&Preset::Rfc5321.retry());
    let minutes = minutes_of(&plan);
    assert_eq!(minutes[..6], [0, 30, 90, 210, 390, 570]);
    assert_eq!(*minutes.last().unwrap(), 5 * 24 * 60);
    assert!(plan.attempts[1..].iter().all(|a| a.wait >= 30 * MINUTE || a.after == plan.expires_after));
    assert_eq!(plan.warnings, []);
}

#[test]
fn exchange_makes_ten_retries_in_34_minutes_and_then_one_every_ten() {
    let plan = Plan::of(&Preset::Exchange.retry());
    let minutes = minutes_of(&plan);
    assert_eq!(minutes[..13], [0, 1, 2, 3, 4, 9, 14, 19, 24, 29, 34, 44, 54]);
    // Exchange itself makes 295; the last one, at the expiry itself, is ours.
    assert_eq!(minutes.len(), 296);
    assert_eq!(minutes[294..], [34 + 284 * 10, 48 * 60]);
    assert_eq!(plan.delay_notice_after, Some(4 * HOUR));
    assert_eq!(faults(&plan), []);
}

#[test]
fn postfix_doubles_the_age_and_then_keeps_to_4000_seconds() {
    let plan = Plan::of(&Preset::Postfix.retry());
    let seconds = seconds_of(&plan);
    assert_eq!(seconds[..9], [0, 300, 600, 1_200, 2_400, 4_800, 8_800, 12_800, 16_800]);
    assert_eq!(minutes_of(&plan)[..8], [0, 5, 10, 20, 40, 80, 146, 213]);
    assert_eq!(*seconds.last().unwrap(), 5 * 86_400);
    assert!((110..=115).contains(&seconds.len()), "{}", seconds.len());
    assert_eq!(plan.delay_notice_after, None);
    assert_eq!(plan.warnings, [Warning::NoDelayNotice]);
}

#[test]
fn transactional_is_over_within_the_hour() {
    let plan = Plan::of(&Preset::Transactional.retry());
    assert_eq!(seconds_of(&plan), [0, 10, 40, 100, 220, 460, 940, 1_540, 2_140, 2_740, 3_340, 3_600]);
    assert_eq!(plan.delay_notice_after, Some(5 * MINUTE));
    assert_eq!(plan.warnings, [Warning::ShorterThanRfc5321]);
}

#[test]
fn names_the_hole_that_a_table_leaves_before_its_expiry() {
    // A list of steps up to a day, as relays in the field ship it: daily, and nothing is lost before the end.
    let runs = [2, 5, 10, 15, 30, 60, 120].map(|minutes| (1, minutes * MINUTE)).to_vec();
    let steps = Steps::Table { runs, then: DAY };
    let retry = Retry { steps, jitter: 0.0, expire_after: 3 * DAY, delay_after: Some(DAY) };
    assert_eq!(minutes_of(&Plan::of(&retry))[7..], [242, 1_682, 3_122, 4_320]);

    let steps = Steps::Table { runs: vec![(1, HOUR), (2, 10 * HOUR)], then: 3 * DAY };
    let plan = Plan::of(&Retry { steps, ..retry });
    let hole = 3 * DAY - 21 * HOUR;
    assert_eq!(faults(&plan), [Warning::WaitAboveADay { wait: hole }, Warning::HoleBeforeExpiry { hole }]);
    assert!(plan.table().contains("warning: no attempt in the last 2 days 3 hours before expiry\n"));
}

#[test]
fn a_doubling_without_a_cap_is_seen_though_its_expiry_is_reached() {
    // Twenty minutes doubling for seven days, as a relay in the field ships it: its last try before the end is at
    // 3 days 13 hours.
    let plan = Plan::of(&growing(20 * MINUTE, 2.0, 365 * DAY, 7 * DAY));
    let last = &plan.attempts[plan.attempts.len() - 2..];
    assert_eq!((last[0].after, last[1].after), (3 * DAY + 13 * HOUR, 7 * DAY));
    assert!(plan.warnings.contains(&Warning::HoleBeforeExpiry { hole: 3 * DAY + 11 * HOUR }));
}

#[test]
fn lints_what_cannot_be_meant() {
    let of = |retry: Retry| faults(&Plan::of(&retry));
    let good = growing(MINUTE, 2.0, HOUR, 5 * DAY);
    assert_eq!(of(good.clone()), []);
    assert_eq!(
        of(growing(HOUR, 0.5, 2 * HOUR, DAY))[0],
        Warning::FactorBelowOne { factor: 0.5 },
        "and the waits that shrink to nothing end in a second, not in a spin"
    );
    assert_eq!(of(growing(2 * HOUR, 2.0, HOUR, 5 * DAY)), [Warning::FirstAboveMax]);
    assert_eq!(of(Retry { jitter: 1.5, ..good.clone() }), [Warning::JitterOutOfRange { jitter: 1.5 }]);
    let early = Retry { delay_after: Some(2 * MINUTE), ..good.clone() };
    assert_eq!(of(early), [Warning::NoticeBeforeThirdTry { attempts: 2 }]);
    let third = Retry { delay_after: Some(3 * MINUTE), ..good.clone() };
    assert_eq!(of(third), []);
    let never = Retry { delay_after: Some(5 * DAY), ..good.clone() };
    assert_eq!(of(never.clone()), [Warning::NoticeAfterExpiry]);
    assert_eq!(Plan::of(&never).delay_notice_after, None);
    let at_once = Retry { expire_after: Duration::ZERO, delay_after: None, ..good };
    assert_eq!(of(at_once), [Warning::ExpiresAtOnce]);
}

#[test]
fn a_schedule_without_end_is_cut_and_says_so() {
    let plan = Plan::of(&growing(SECOND, 1.0, SECOND, 30 * DAY));
    assert_eq!(plan.attempts.len(), Plan::ATTEMPTS_MAX);
    assert!(plan.cut && plan.warnings.contains(&Warning::TooManyAttempts));
    assert!(!plan.table().contains("given up"));
}

#[test]
fn the_table_has_a_line_for_each_thing_that_happens() {
    let table = Plan::of(&Preset::Default.retry()).table();
    assert_eq!(
        table,
        "\
attempt  wait                                 since arrival
1        none                                 at once
2        1 minute +- 6 seconds                1 minute
3        2 minutes +- 12 seconds              3 minutes
4        4 minutes +- 24 seconds              7 minutes
5        8 minutes +- 48 seconds              15 minutes
6        16 minutes +- 1 minute 36 seconds    31 minutes
7        32 minutes +- 3 minutes 12 seconds   1 hour 3 minutes
8        1 hour +- 6 minutes                  2 hours 3 minutes
9        1 hour +- 6 minutes                  3 hours 3 minutes
         delay notice to the sender           4 hours
10-53    every 1 hour +- 6 minutes, 44 times  4 hours 3 minutes to 1 day 23 hours 3 minutes
54       57 minutes                           2 days
         given up, failure notice             2 days
note: gives up sooner than the 4 to 5 days of RFC 5321 section 4.5.4.1
"
    );
}

#[test]
fn programs_get_seconds_with_the_unit_in_the_name() {
    let plan = Plan::of(&Preset::Postfix.retry());
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        json["attempts"][1],
        serde_json::json!({"number": 2, "wait_seconds": 300.0, "after_seconds": 300.0})
    );
    assert_eq!(json["delay_notice_after_seconds"], serde_json::Value::Null);
    assert_eq!(json["expires_after_seconds"], 432_000.0);
    assert_eq!(json["warnings"][0]["warning"], "no-delay-notice");
}
