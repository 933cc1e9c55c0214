//! How the progress of a message moves: pure steps on the snapshot that the spool keeps.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Envelope, Outcome, Verdict};
use crate::spool::{Progress, RecipientProgress, RecipientState};

/// When a message may first be tried: at once, or when its sender wants it released (RFC 4865).
pub(super) fn released_at(arrived_at: Timestamp, hold_for: Option<Duration>) -> Timestamp {
    arrived_at + hold_for.unwrap_or_default()
}

/// What a message's age counts from: one that is held, or not yet released, does not age, and one that is sent again
/// begins anew.
pub(super) fn aged_from(arrived_at: Timestamp, envelope: &Envelope, progress: &Progress) -> Timestamp {
    let released = released_at(arrived_at, envelope.hold_for);
    released.max(progress.counts_from(arrived_at)) + Duration::from_millis(progress.held_for_ms)
}

/// The operator has held it since then, and lets it go. A hold before its release costs it no time.
pub(super) fn end_hold(
    arrived_at: Timestamp,
    envelope: &Envelope,
    progress: &mut Progress,
    since: Timestamp,
    now: Timestamp,
) {
    let since = since.max(released_at(arrived_at, envelope.hold_for));
    progress.held_for_ms += now.since(since).as_millis() as u64;
}

pub(super) fn is_waiting(recipient: &RecipientProgress) -> bool {
    recipient.state == RecipientState::Waiting
}

/// He waits for a time of his own no longer.
pub(super) fn make_due(recipient: &mut RecipientProgress, now: Timestamp) {
    recipient.next_attempt = recipient.next_attempt.map(|at| at.min(now));
}

/// Nobody knows whether he has it, and a person is to decide.
pub(super) fn is_uncertain(recipient: &RecipientProgress) -> bool {
    recipient.state == RecipientState::Uncertain
}

/// His mail has not come to an end.
pub(super) fn is_open(recipient: &RecipientProgress) -> bool {
    is_waiting(recipient) || is_uncertain(recipient)
}

/// Nothing is left to do for this message: no attempt, no notice, no hold.
pub(super) fn is_over(progress: &Progress) -> bool {
    progress.recipients.iter().all(|recipient| !is_open(recipient) && !recipient.owed)
}

pub(super) fn owes_report(progress: &Progress) -> bool {
    progress.recipients.iter().any(|recipient| recipient.owed)
}

/// The last outcome of a recipient, if he had one.
pub(super) fn last_outcome<'a>(progress: &'a Progress, recipient: &RecipientProgress) -> Option<&'a Outcome> {
    recipient.last.and_then(|index| progress.outcomes.get(usize::from(index)))
}

/// The place of an earlier outcome that stays worth knowing once `latest` has come.
///
/// That is one which may have delivered the message, whatever comes after it; or the last that his server really said,
/// until it says something again: a refused connection in the last hour must not hide two days of "mailbox full".
fn heard(progress: &Progress, recipient: &RecipientProgress, latest: &Outcome) -> Option<u16> {
    let outcome = |at: &u16| progress.outcomes.get(usize::from(*at));
    let may_have_delivered =
        |at: &u16| outcome(at).is_some_and(|outcome| outcome.verdict == Verdict::Uncertain);
    let was_said = |at: &u16| outcome(at).is_some_and(|outcome| outcome.reply.is_some());
    let earlier = [recipient.last, recipient.heard];
    let earlier = || earlier.into_iter().flatten();
    let said = || earlier().find(was_said).filter(|_| latest.reply.is_none());
    earlier().find(may_have_delivered).or_else(said)
}

/// The outcome with which a recipient's mail is given up: what came last, and what was worth more before it.
pub(super) fn last_words(progress: &Progress, recipient: &RecipientProgress, latest: &Outcome) -> Outcome {
    let heard = heard(progress, recipient, latest).and_then(|at| progress.outcomes.get(usize::from(at)));
    match heard {
        None => latest.clone(),
        Some(heard) if heard == latest => latest.clone(),
        Some(heard) if latest.reply.is_none() => {
            let uncertain = latest.verdict == Verdict::Uncertain;
            let verdict = if uncertain { Verdict::Uncertain } else { heard.verdict };
            Outcome { verdict, ..Outcome::with_later(heard, latest) }
        }
        // It has said something since; but the message may be there all the same.
        Some(_) => Outcome { verdict: Verdict::Uncertain, ..latest.clone() },
    }
}

/// Writes down what happened to one recipient.
pub(super) fn record(progress: &mut Progress, index: u32, change: RecipientProgress, outcome: &Outcome) {
    let heard = heard(progress, &progress.recipients[index as usize], outcome);
    let known = progress.outcomes.iter().position(|known| known == outcome);
    let at = known.unwrap_or_else(|| {
        progress.outcomes.push(outcome.clone());
        progress.outcomes.len() - 1
    });
    // More different outcomes than u16 holds can't be: a message has fewer recipients (limit: 65,535).
    let last = u16::try_from(at).ok();
    progress.recipients[index as usize] = RecipientProgress { last, heard, ..change };
}

/// Forgets outcomes that no recipient refers to any more.
pub(super) fn tidy(progress: &mut Progress) {
    let mut kept = Vec::new();
    let mut moved: Vec<Option<u16>> = vec![None; progress.outcomes.len()];
    for recipient in &mut progress.recipients {
        for reference in [&mut recipient.last, &mut recipient.heard] {
            let Some(at) = *reference else { continue };
            let slot = &mut moved[usize::from(at)];
            *reference = Some(*slot.get_or_insert_with(|| {
                kept.push(progress.outcomes[usize::from(at)].clone());
                (kept.len() - 1) as u16
            }));
        }
    }
    progress.outcomes = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnhancedStatus, Reply};

    fn outcome(reason: &str) -> Outcome {
        Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 7, 1), reason)
    }

    #[test]
    fn equal_outcomes_are_kept_once_and_forgotten_when_replaced() {
        let mut progress = Progress::untried(3);
        for index in 0..3 {
            let change = RecipientProgress { attempts: 1, ..progress.recipients[index as usize].clone() };
            record(&mut progress, index, change, &outcome("greylisted"));
        }
        assert_eq!(progress.outcomes.len(), 1);
        for index in 0..2 {
            let change = RecipientProgress { attempts: 2, ..progress.recipients[index as usize].clone() };
            record(&mut progress, index, change, &outcome("mailbox full"));
        }
        let change = RecipientProgress { attempts: 2, ..progress.recipients[2].clone() };
        record(&mut progress, 2, change, &outcome("busy"));
        tidy(&mut progress);
        assert_eq!(progress.outcomes, [outcome("mailbox full"), outcome("busy")]);
        assert_eq!(last_outcome(&progress, &progress.recipients[2]), Some(&outcome("busy")));
    }

    #[test]
    fn what_was_really_heard_is_kept_until_something_else_is() {
        let deferred = |reason: &str, reply: Option<&str>| Outcome {
            reply: reply.map(|text| Reply::new(451, None, text)),
            ..outcome(reason)
        };
        let mut progress = Progress::untried(1);
        let mut hear = |outcome: &Outcome| {
            let words = last_words(&progress, &progress.recipients[0], outcome);
            let change = progress.recipients[0].clone();
            record(&mut progress, 0, change, outcome);
            tidy(&mut progress);
            (words.verdict, words.reply.is_some(), words.reason, progress.outcomes.len())
        };
        use Verdict::{Deferred, Uncertain};
        let refused = deferred("connecting: refused", None);
        let told = |verdict, reply, reason: &str, kept| (verdict, reply, reason.to_owned(), kept);
        assert_eq!(hear(&refused), told(Deferred, false, "connecting: refused", 1));
        assert_eq!(hear(&deferred("RCPT", Some("full"))), told(Deferred, true, "RCPT", 1));
        for _ in 0..3 {
            assert_eq!(hear(&refused), told(Deferred, true, "since then: connecting: refused", 2));
        }
        assert_eq!(hear(&deferred("RCPT", Some("still full"))), told(Deferred, true, "RCPT", 1));
        let cut = Outcome { verdict: Uncertain, ..deferred("cut", None) };
        assert_eq!(hear(&cut).0, Uncertain);
        assert_eq!(hear(&refused), told(Uncertain, false, "cut; since then: connecting: refused", 2));
        assert_eq!(hear(&deferred("RCPT", Some("full"))), told(Uncertain, true, "RCPT", 2));
        assert_eq!(hear(&refused).0, Uncertain, "it may have been delivered all the same");
    }
}
