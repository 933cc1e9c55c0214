//! The breaker as a pure machine.

use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp::from_millis(1_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn trial(breaker: &mut Breaker, now: Timestamp) -> u64 {
    match breaker.admit(now) {
        Ok(Admission::Trial(trial)) => trial.number,
        other => panic!("no trial: {other:?}"),
    }
}

/// How long it waits after a failure at `now`.
fn fail(breaker: &mut Breaker, trial: Option<u64>, now: Timestamp) -> u64 {
    assert!(breaker.failed(trial, 0.0, now), "{breaker:?}");
    breaker.open().unwrap().retry_at.since(now).as_secs()
}

#[test]
fn a_trial_with_a_long_content_makes_way_for_the_next() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, None, T0);
    let now = T0 + FIRST_WAIT;
    let long = trial(&mut breaker, now);
    assert!(matches!(breaker.admit(now + SECOND * 100), Err(Shut::OnTrial(_))), "it has said nothing yet");
    let now = now + SECOND * 100;
    breaker.answered(long, now);
    assert!(matches!(breaker.admit(now + SECOND * 9), Err(Shut::OnTrial(_))));
    let now = now + CONTENT_PATIENCE;
    let next = trial(&mut breaker, now);
    assert!(matches!(breaker.admit(now), Err(Shut::OnTrial(_))), "one at a time");
    assert!(!breaker.failed(Some(long), 0.0, now), "the next one says how the host is");
    breaker.returned(long);
    assert!(matches!(breaker.admit(now), Err(Shut::OnTrial(_))), "it is not the one that ended");
    assert_eq!(fail(&mut breaker, Some(next), now), 20);
}

#[test]
fn a_host_that_is_down_is_tried_ever_more_rarely_by_one_delivery_at_a_time() {
    let mut breaker = Breaker::default();
    let mut waits = vec![fail(&mut breaker, None, T0)];
    let mut now = T0;
    for _ in 0..6 {
        assert!(!breaker.failed(None, 0.0, now), "a delivery that ran beside it");
        assert!(matches!(breaker.admit(now), Err(Shut::Waits(_))));
        now = breaker.open().unwrap().retry_at;
        let number = trial(&mut breaker, now);
        assert!(matches!(breaker.admit(now), Err(Shut::OnTrial(_))), "one at a time");
        assert!(!breaker.failed(None, 0.0, now), "nobody else ends it");
        waits.push(fail(&mut breaker, Some(number), now));
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(breaker.open().map(|open| (open.since, open.failures)), Some((T0, 7)));
    now = breaker.open().unwrap().retry_at;
    trial(&mut breaker, now);
    assert!(matches!(breaker.succeeded(now), Recovery::Over(open, end) if open.failures == 7 && end == now));
    assert_eq!(breaker.admit(now), Ok(Admission::Free));
    assert_eq!(breaker.succeeded(now), Recovery::None);
}

/// Down, and back again at its trial.
fn fall_and_come_back(breaker: &mut Breaker, now: Timestamp) -> (Timestamp, Recovery) {
    fail(breaker, None, now);
    let now = breaker.open().unwrap().retry_at;
    trial(breaker, now);
    (now, breaker.succeeded(now))
}

#[test]
fn one_that_comes_and_goes_is_the_last_choice_for_ever_longer_though_it_may_be_tried_soon() {
    let mut breaker = Breaker::default();
    let (mut now, recovery) = fall_and_come_back(&mut breaker, T0);
    assert!(matches!(recovery, Recovery::Over(..)), "once is none");
    assert!(!breaker.is_last_choice(true, now));
    for (relapses, last_for) in (1..).zip([20, 40, 80, 160, 300, 300]) {
        let fell_at = now + SECOND;
        let recovery;
        (now, recovery) = fall_and_come_back(&mut breaker, fell_at);
        assert_eq!(now.since(fell_at), FIRST_WAIT, "each success has its waits begin anew");
        assert_eq!(recovery, Recovery::Unproven, "it is the same outage");
        let back = breaker.unproven(now).unwrap();
        assert_eq!((back.after.since, back.after.relapses), (T0, relapses));
        assert_eq!(back.after.preferred_at.since(fell_at).as_secs(), last_for);
        assert!(breaker.is_last_choice(false, now));
        assert!(!breaker.is_last_choice(false, fell_at + LONGEST_WAIT) && breaker.is_last_choice(true, now));
    }
}

#[test]
fn one_that_came_and_went_is_proven_by_time_and_by_transactions_and_then_its_past_is_forgotten() {
    let mut breaker = Breaker::default();
    let (now, _) = fall_and_come_back(&mut breaker, T0);
    let (back_at, _) = fall_and_come_back(&mut breaker, now + SECOND);
    let later = back_at + STEADY;
    for _ in 0..PROOF - 2 {
        assert_eq!(breaker.succeeded(later), Recovery::None, "too few transactions");
    }
    let mut early = breaker.clone();
    assert_eq!(early.succeeded(later - SECOND), Recovery::None, "too early");
    assert!(breaker.is_last_choice(true, later) && breaker.is_remarkable(later));
    assert!(matches!(breaker.succeeded(later), Recovery::Over(_, end) if end == back_at));
    assert!(!breaker.is_last_choice(true, later) && !breaker.is_remarkable(later));
    assert_eq!(fail(&mut breaker, None, later), 10);
    assert_eq!(breaker.open().map(|open| (open.since, open.relapses)), Some((later, 0)));
}

#[test]
fn a_transaction_that_breaks_off_has_the_proof_begin_anew() {
    let mut breaker = Breaker::default();
    let (now, _) = fall_and_come_back(&mut breaker, T0);
    let (now, _) = fall_and_come_back(&mut breaker, now + SECOND);
    let struck_at = now + STEADY;
    (0..PROOF - 2).for_each(|_| assert_eq!(breaker.succeeded(struck_at), Recovery::None));
    assert!(!breaker.struck(None, 0.0, struck_at));
    let later = struck_at + STEADY;
    (0..PROOF - 1).for_each(|_| assert_eq!(breaker.succeeded(later), Recovery::None));
    assert!(matches!(breaker.succeeded(later), Recovery::Over(_, end) if end == struck_at));
}

#[test]
fn what_was_a_day_ago_is_not_held_against_it_however_little_it_was_used() {
    let mut breaker = Breaker::default();
    let (back_at, _) = fall_and_come_back(&mut breaker, T0);
    let mut relapsed = breaker.clone();
    fail(&mut relapsed, None, back_at + FORGIVEN - SECOND);
    assert_eq!(relapsed.open().unwrap().relapses, 1);
    fail(&mut breaker, None, back_at + FORGIVEN);
    assert_eq!(breaker.open().unwrap().relapses, 0);
    assert!(!breaker.is_remarkable(back_at + FORGIVEN * 3), "nobody has asked for it any more");
}

#[test]
fn a_transaction_that_breaks_off_counts_only_with_others_or_on_trial() {
    let mut breaker = Breaker::default();
    assert!(!breaker.struck(None, 0.0, T0) && !breaker.struck(None, 0.0, T0));
    breaker.succeeded(T0);
    assert!(!breaker.struck(None, 0.0, T0) && !breaker.struck(None, 0.0, T0), "not in a row");
    assert!(breaker.struck(None, 0.0, T0));
    let now = breaker.open().unwrap().retry_at;
    let number = trial(&mut breaker, now);
    assert!(breaker.struck(Some(number), 0.0, now), "one is enough on trial");
}

#[test]
fn the_operator_has_it_tried_at_once_and_its_waits_begin_anew() {
    let mut breaker = Breaker::default();
    assert!(!breaker.forgive(T0));
    fail(&mut breaker, None, T0);
    let mut now = T0 + FIRST_WAIT;
    let number = trial(&mut breaker, now);
    assert_eq!(fail(&mut breaker, Some(number), now), 20);
    now = now + SECOND;
    assert!(breaker.forgive(now));
    let number = trial(&mut breaker, now);
    assert_eq!(fail(&mut breaker, Some(number), now), 10);
    assert_eq!(breaker.open().unwrap().since, T0, "it is the same outage");
}

#[test]
fn a_trial_that_has_told_its_verdict_gives_nobody_elses_back() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, None, T0);
    let first = trial(&mut breaker, T0 + FIRST_WAIT);
    fail(&mut breaker, Some(first), T0 + FIRST_WAIT);
    let now = breaker.open().unwrap().retry_at;
    let second = trial(&mut breaker, now);
    breaker.returned(first);
    assert!(matches!(breaker.admit(now), Err(Shut::OnTrial(_))), "the second one is under way");
    breaker.returned(second);
    assert!(matches!(breaker.admit(now), Ok(Admission::Trial(_))));
}

#[test]
fn a_clock_that_is_set_back_keeps_no_host_shut() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, None, T0 + Duration::from_secs(3600));
    assert!(matches!(breaker.admit(T0), Ok(Admission::Trial(_))));
}

#[test]
fn whoever_has_no_other_host_asks_again_the_later_the_longer_the_trial_takes() {
    let mut breaker = Breaker::default();
    fail(&mut breaker, None, T0);
    let began = T0 + FIRST_WAIT;
    trial(&mut breaker, began);
    for (after, expected) in [(0, 1), (1, 1), (4, 4), (300, 30)] {
        let now = began + SECOND * after;
        assert_eq!(breaker.shut(now).unwrap().ask_at(), now + SECOND * expected);
    }
}

/// What may come to a breaker; times in milliseconds since the last.
#[derive(Clone, Debug)]
enum Act {
    Admit,
    Fail { chance: f64 },
    FailLate { chance: f64 },
    Strike { chance: f64 },
    Succeed,
    Return,
    Forgive,
    Restart,
    Pass { millis: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let chance = 0.0..0.1;
    prop_oneof![
        4 => Just(Act::Admit),
        3 => chance.clone().prop_map(|chance| Act::Fail { chance }),
        1 => chance.clone().prop_map(|chance| Act::FailLate { chance }),
        1 => chance.prop_map(|chance| Act::Strike { chance }),
        1 => Just(Act::Succeed),
        1 => Just(Act::Return),
        1 => Just(Act::Forgive),
        1 => Just(Act::Restart),
        3 => (0_u64..400_000).prop_map(|millis| Act::Pass { millis }),
    ]
}

proptest! {
    #[test]
    fn never_two_trials_at_once_none_before_its_time_and_no_wait_out_of_bounds(
        acts in prop::collection::vec(act(), 1..200)
    ) {
        let mut breaker = Breaker::default();
        let mut now = T0;
        // The model: who is on trial, and until when it is shut.
        let (mut on_trial, mut shut_until) = (None, None);
        for act in acts {
            let was_down = breaker.open().is_some();
            let failed = match act {
                Act::Admit => {
                    match breaker.admit(now) {
                        Ok(Admission::Trial(trial)) => {
                            prop_assert!(on_trial.is_none(), "two trials at once");
                            prop_assert!(shut_until.is_some_and(|until| until <= now), "before its time");
                            on_trial = Some(trial.number);
                        }
                        Ok(Admission::Free) => prop_assert!(shut_until.is_none()),
                        Err(shut) => {
                            prop_assert!(shut_until.is_some());
                            prop_assert!(shut.ask_at() > now && shut.ask_at() <= now + LONGEST_WAIT);
                        }
                    }
                    false
                }
                Act::Fail { chance } => breaker.failed(on_trial, chance, now),
                Act::FailLate { chance } => {
                    let failed = breaker.failed(None, chance, now);
                    prop_assert!(on_trial.is_none() || !failed, "somebody else ended the trial");
                    failed
                }
                Act::Strike { chance } => breaker.struck(on_trial, chance, now),
                Act::Succeed => {
                    let recovery = breaker.succeeded(now);
                    prop_assert!(!was_down || recovery != Recovery::None);
                    prop_assert!(was_down || recovery != Recovery::Unproven);
                    (on_trial, shut_until) = (None, None);
                    false
                }
                Act::Return => {
                    if let Some(number) = on_trial.take() {
                        breaker.returned(number);
                    }
                    false
                }
                Act::Forgive => {
                    if breaker.forgive(now) {
                        shut_until = Some(now);
                    }
                    false
                }
                Act::Restart => {
                    let kept = serde_json::to_string(&breaker).unwrap();
                    breaker = serde_json::from_str(&kept).unwrap();
                    on_trial = None;
                    false
                }
                Act::Pass { millis } => {
                    now = now + Duration::from_millis(millis);
                    false
                }
            };
            if failed {
                let open = breaker.open().unwrap();
                let wait = open.retry_at.since(now);
                prop_assert!(wait >= FIRST_WAIT.mul_f64(0.9) && wait <= LONGEST_WAIT, "{:?}", wait);
                prop_assert!(open.trial.is_none() && open.preferred_at >= open.retry_at);
                (on_trial, shut_until) = (None, Some(open.retry_at));
            }
        }
    }
}

#[test]
fn a_relapse_after_a_long_time_with_few_transactions_is_still_the_same_outage() {
    let mut breaker = Breaker::default();
    let (now, _) = fall_and_come_back(&mut breaker, T0);
    let (back_at, _) = fall_and_come_back(&mut breaker, now + SECOND);
    for _ in 0..PROOF {
        breaker.succeeded(back_at);
    }
    fail(&mut breaker, None, back_at + STEADY);
    let open = breaker.open().unwrap();
    assert_eq!((open.since, open.relapses), (T0, 2), "no success has ended it");
}
