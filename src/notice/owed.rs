//! Is a notice owed: the one decision, for each recipient.
//!
//! | NOTIFY of the recipient | failure | delay | success |
//! |---|---|---|---|
//! | not given | yes | yes, by our custom | no |
//! | NEVER | no | no | no |
//! | a list | when FAILURE is in it | when DELAY is in it | when SUCCESS is in it and the next hop took no DSN request over |
//!
//! And for the null reverse-path nothing is ever owed: a message from there is a notice itself, or wants to be
//! treated as one.
//!
//! Without NOTIFY, RFC 3461 section 4.1 leaves the delay to the custom of the relay; ours is to tell, because a
//! sender who hears nothing sends again. A success is told as `relayed`, and only where the chain of hops that
//! understand DSN ends with us: a next hop that knows DSN has been handed the request and answers for itself. Who asked
//! for a trace of his deadline (BY with `T`, RFC 2852 section 4) is told of each relay on the way, but against NEVER;
//! and so is he who wanted to be told when it is late (mode N), where the next hop will not (section 4.1.4.2).
//!
//! Contract: pure functions of the envelope. Not here: when it is due, whether notices are switched off (`queue`).
//! RFC 3461 sections 4.1, 5.2 and 6; RFC 5321 section 4.5.5.

use crate::mail::{ByMode, DeliverBy, Envelope, Notify, Recipient};

/// Is the sender told that `recipient` failed for good?
pub fn failure_owed(envelope: &Envelope, recipient: &Recipient) -> bool {
    !envelope.reverse_path.is_null() && recipient.notify.is_none_or(|notify| notify.failure)
}

/// Is the sender told that `recipient` has to wait?
pub fn delay_owed(envelope: &Envelope, recipient: &Recipient) -> bool {
    !envelope.reverse_path.is_null() && recipient.notify.is_none_or(|notify| notify.delay)
}

/// Is the sender told that the message for `recipient` was relayed? `dsn_handed_on` is the `dsn` of
/// [`crate::mail::Verdict::Delivered`]: the next hop has taken the request over.
pub fn success_owed(envelope: &Envelope, recipient: &Recipient, dsn_handed_on: bool) -> bool {
    let asked = !dsn_handed_on && recipient.notify.is_some_and(|notify| notify.success);
    let last_word = |by: DeliverBy| by.trace || (by.mode == ByMode::Notify && !dsn_handed_on);
    let by = envelope.deliver_by.is_some_and(last_word) && recipient.notify != Some(Notify::NEVER);
    !envelope.reverse_path.is_null() && (asked || by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ReversePath;

    /// (failure, delay, success without DSN at the next hop, success with it)
    fn owed(reverse_path: ReversePath, notify: Option<Notify>) -> (bool, bool, bool, bool) {
        let mut envelope = Envelope::new(reverse_path, ["rose@example.net".parse().unwrap()]);
        envelope.recipients[0].notify = notify;
        let recipient = &envelope.recipients[0];
        (
            failure_owed(&envelope, recipient),
            delay_owed(&envelope, recipient),
            success_owed(&envelope, recipient, false),
            success_owed(&envelope, recipient, true),
        )
    }

    fn every_notify() -> impl Iterator<Item = Notify> {
        (0..8).map(|bits| Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 })
    }

    fn sender() -> ReversePath {
        ReversePath::from("anna@example.org".parse::<crate::mail::Address>().unwrap())
    }

    #[test]
    fn without_notify_failures_and_delays_are_told_and_successes_are_not() {
        assert_eq!(owed(sender(), None), (true, true, false, false));
    }

    #[test]
    fn against_never_nothing_is_told() {
        assert_eq!(owed(sender(), Some(Notify::NEVER)), (false, false, false, false));
    }

    #[test]
    fn a_list_means_what_it_names_and_nothing_else() {
        for notify in every_notify() {
            let expected = (notify.failure, notify.delay, notify.success, false);
            assert_eq!(owed(sender(), Some(notify)), expected, "{notify}");
        }
    }

    #[test]
    fn a_trace_is_told_of_every_relay_but_against_never() {
        let mut envelope = Envelope::new(sender(), ["rose@example.net".parse().unwrap()]);
        envelope.deliver_by = Some(DeliverBy { seconds: 60, mode: ByMode::Return, trace: true });
        for (notify, told) in [(None, true), (Some(Notify::NEVER), false)] {
            envelope.recipients[0].notify = notify;
            assert_eq!(success_owed(&envelope, &envelope.recipients[0], true), told);
        }
        envelope.deliver_by = Some(DeliverBy { trace: false, ..envelope.deliver_by.unwrap() });
        assert!(!success_owed(&envelope, &envelope.recipients[0], true));
    }

    #[test]
    fn who_wants_to_hear_of_lateness_is_told_that_he_will_not_but_against_never() {
        let mut envelope = Envelope::new(sender(), ["rose@example.net".parse().unwrap()]);
        envelope.deliver_by = Some(DeliverBy { seconds: 60, mode: ByMode::Notify, trace: false });
        let owed =
            |envelope: &Envelope, handed_on| success_owed(envelope, &envelope.recipients[0], handed_on);
        assert!(owed(&envelope, false) && !owed(&envelope, true));
        envelope.recipients[0].notify = Some(Notify::NEVER);
        assert!(!owed(&envelope, false));
    }

    #[test]
    fn nothing_is_ever_owed_to_the_null_reverse_path() {
        for notify in every_notify().map(Some).chain([None]) {
            assert_eq!(owed(ReversePath::NULL, notify), (false, false, false, false), "{notify:?}");
        }
    }

    #[test]
    fn recipients_of_one_message_are_told_each_by_his_own_wish() {
        let addresses = ["rose@example.net", "iris@example.net"].map(|text| text.parse().unwrap());
        let mut envelope = Envelope::new(sender(), addresses);
        envelope.recipients[1].notify = Some(Notify::NEVER);
        let told: Vec<bool> = envelope.recipients.iter().map(|r| failure_owed(&envelope, r)).collect();
        assert_eq!(told, [true, false]);
    }
}
