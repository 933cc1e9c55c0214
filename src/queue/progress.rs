//! How the progress of a message moves: pure steps on the snapshot that the spool keeps.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Envelope, Outcome};
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

/// Nothing is left to do for this message: no attempt, no notice, no hold.
pub(super) fn is_over(progress: &Progress) -> bool {
    progress.recipients.iter().all(|recipient| {
        !matches!(recipient.state, RecipientState::Waiting | RecipientState::Uncertain) && !recipient.owed
    })
}

pub(super) fn owes_report(progress: &Progress) -> bool {
    progress.recipients.iter().any(|recipient| recipient.owed)
}

/// The last outcome of a recipient, if he had one.
pub(super) fn last_outcome<'a>(progress: &'a Progress, recipient: &RecipientProgress) -> Option<&'a Outcome> {
    recipient.last.and_then(|index| progress.outcomes.get(usize::from(index)))
}

/// Writes down what happened to one recipient.
pub(super) fn record(progress: &mut Progress, index: u32, change: RecipientProgress, outcome: &Outcome) {
    let known = progress.outcomes.iter().position(|known| known == outcome);
    let at = known.unwrap_or_else(|| {
        progress.outcomes.push(outcome.clone());
        progress.outcomes.len() - 1
    });
    // More different outcomes than u16 holds can't be: a message has fewer recipients (limit: 65,535).
    let last = u16::try_from(at).ok();
    progress.recipients[index as usize] = RecipientProgress { last, ..change };
}

/// Forgets outcomes that no recipient refers to any more.
pub(super) fn tidy(progress: &mut Progress) {
    let mut kept = Vec::new();
    let mut moved: Vec<Option<u16>> = vec![None; progress.outcomes.len()];
    for recipient in &mut progress.recipients {
        let Some(last) = recipient.last else { continue };
        let slot = &mut moved[usize::from(last)];
        recipient.last = Some(*slot.get_or_insert_with(|| {
            kept.push(progress.outcomes[usize::from(last)].clone());
            (kept.len() - 1) as u16
        }));
    }
    progress.outcomes = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnhancedStatus, Verdict};

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
}
