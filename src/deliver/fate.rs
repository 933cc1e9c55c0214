//! What becomes of each recipient at one host.
//!
//! Contract: a [`Fate`] is what the table (`ruling`) means for one recipient, with its words; the functions here sort the
//! fates of a transaction for the attempt that it is part of.
//! Not here: how a fate comes about (`classify`).

use std::sync::Arc;

use crate::mail::{Outcome, TlsUsed, Verdict};

/// What became of one recipient at one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Settled(Outcome),
    /// Another host tries at once; the outcome is that of this one.
    Elsewhere(Outcome),
    /// The host takes no more in one transaction; the outcome is for him to whom it says so again and again.
    Again(Outcome),
}

impl Fate {
    /// Where another host may take the message later, in that one's words: `before` is why it has not.
    pub fn in_earlier_words(self, before: Option<&Outcome>) -> Self {
        match (self, before) {
            (Self::Settled(outcome), Some(before)) if outcome.verdict == Verdict::Deferred => {
                Self::Settled(before.clone())
            }
            (fate, _) => fate,
        }
    }
}

/// Takes those who are settled out; who is left for the next host, and why: if this one may take some of them later, in
/// the words in which it said so.
pub(super) fn sort_out(
    fates: Vec<(u32, Fate)>,
    outcomes: &mut Vec<(u32, Outcome)>,
) -> (Vec<u32>, Option<Outcome>) {
    let (mut left, mut elsewhere) = (Vec::new(), None);
    for (recipient, fate) in fates {
        match fate {
            Fate::Settled(outcome) | Fate::Again(outcome) => outcomes.push((recipient, outcome)),
            Fate::Elsewhere(outcome) => {
                left.push(recipient);
                if elsewhere.as_ref().is_none_or(|known: &Outcome| known.verdict == Verdict::Bounced) {
                    elsewhere = Some(outcome);
                }
            }
        }
    }
    (left, elsewhere)
}

/// Those for whom the host has no room in this transaction are offered again at once: they are not named. Not when it has
/// no room for anybody: then they wait, or it would be asked for ever.
pub(super) fn once_more(mut fates: Vec<(u32, Fate)>) -> Vec<(u32, Fate)> {
    if fates.iter().any(|(_, fate)| !matches!(fate, Fate::Again(_))) {
        fates.retain(|(_, fate)| !matches!(fate, Fate::Again(_)));
    }
    fates
}

/// Those who were delivered went over this TLS.
pub(super) fn over(tls: Option<&Arc<TlsUsed>>, mut fates: Vec<Fate>) -> Vec<Fate> {
    for fate in &mut fates {
        if let Fate::Settled(outcome) = fate
            && matches!(outcome.verdict, Verdict::Delivered { .. })
        {
            outcome.tls = tls.cloned();
        }
    }
    fates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::EnhancedStatus;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome::local(verdict, EnhancedStatus::new(4, 3, 0), "said")
    }

    #[test]
    fn a_host_that_may_take_some_later_is_remembered_whomever_else_it_can_never_take() {
        for verdicts in [[Verdict::Deferred, Verdict::Bounced], [Verdict::Bounced, Verdict::Deferred]] {
            let fates = verdicts.map(|verdict| (0, Fate::Elsewhere(outcome(verdict)))).to_vec();
            let (left, why) = sort_out(fates, &mut Vec::new());
            assert_eq!((left.len(), why.unwrap().verdict), (2, Verdict::Deferred));
        }
    }

    #[test]
    fn an_earlier_hosts_words_take_the_place_of_a_deferral_and_never_of_a_final_word() {
        let before = Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 7, 1), "greylisted");
        let told = |verdict, before| match Fate::Settled(outcome(verdict)).in_earlier_words(before) {
            Fate::Settled(outcome) => outcome.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(Verdict::Deferred, Some(&before)), "greylisted");
        assert_eq!(told(Verdict::Deferred, None), "said");
        assert_eq!(told(Verdict::Bounced, Some(&before)), "said");
        let elsewhere = Fate::Elsewhere(outcome(Verdict::Deferred));
        assert_eq!(elsewhere.clone().in_earlier_words(Some(&before)), elsewhere);
    }

    #[test]
    fn whom_there_is_no_room_for_is_offered_again_only_while_somebody_else_gets_an_answer() {
        let (again, settled) =
            (Fate::Again(outcome(Verdict::Deferred)), Fate::Settled(outcome(Verdict::Bounced)));
        assert_eq!(once_more(vec![(0, settled.clone()), (1, again.clone())]), [(0, settled)]);
        let nobody = vec![(0, again.clone()), (1, again)];
        assert_eq!(once_more(nobody.clone()), nobody);
    }
}
