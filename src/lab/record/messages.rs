//! Which messages there were, from the tries to hand them over.
//!
//! Contract: tries that carry a message's own name are that message's. Without one, a try belongs to a message that is
//! still under way when the sender is the same, all recipients of the try still wait, and the sizes don't speak against
//! it; otherwise it is a new message. A try that was cut off amid the recipients says not all of them: a later one may
//! name more. Two messages alike in all that, under way at the same time, are seen as one.
//! A notice, which goes with the null reverse-path to a sender seen before, is the relay's own work and no message.
//! Not here: masks.

use std::collections::HashMap;

use super::observation::Transaction;
use crate::clock::Timestamp;

/// A message as a scenario submits it, with its real names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub at: Timestamp,
    pub sender: String,
    pub recipients: Vec<String>,
    pub size: Option<u64>,
}

struct UnderWay {
    message: Message,
    /// The recipients that wait.
    waiting: Vec<String>,
    /// All recipients are known.
    whole: bool,
}

/// The messages in the order of their first tries, and how many notices were left out.
pub(super) fn of_transactions(transactions: &[Transaction]) -> (Vec<Message>, usize) {
    let mut tries: Vec<&Transaction> = transactions.iter().collect();
    tries.sort_by_key(|transaction| transaction.at);
    let mut all: Vec<UnderWay> = Vec::new();
    // A log holds more messages than may be compared each with each.
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut notices = 0;
    for transaction in tries {
        if is_notice(transaction, &all) {
            notices += 1;
            continue;
        }
        let known = match transaction.message.as_deref() {
            Some(name) => by_name.get(name).copied(),
            None => all.iter().position(|known| belongs(transaction, known)),
        };
        let index = known.unwrap_or_else(|| {
            all.push(begin(transaction));
            by_name.extend(transaction.message.as_deref().map(|name| (name, all.len() - 1)));
            all.len() - 1
        });
        all[index].tried(transaction);
    }
    (all.into_iter().map(|known| known.message).collect(), notices)
}

fn is_notice(transaction: &Transaction, all: &[UnderWay]) -> bool {
    let sent = |recipient: &str| all.iter().any(|known| known.message.sender == recipient);
    transaction.sender.is_empty() && transaction.recipients.iter().any(|(recipient, _)| sent(recipient))
}

fn belongs(transaction: &Transaction, known: &UnderWay) -> bool {
    // A client that does not pipeline may have been stopped at MAIL, or amid the recipients: it begins anew with those.
    let is_named = |recipient: &String| transaction.recipients.iter().any(|(named, _)| named == recipient);
    let goes_on = !known.whole && known.waiting.iter().all(is_named);
    let waits = |(recipient, _): &(String, bool)| known.waiting.contains(recipient);
    // The relay's own field makes small differences.
    let same_size = match (transaction.size, known.message.size) {
        (Some(a), Some(b)) => a.abs_diff(b) < 64,
        _ => true,
    };
    known.message.sender == transaction.sender
        && same_size
        && (goes_on || !known.waiting.is_empty() && transaction.recipients.iter().all(waits))
}

fn begin(transaction: &Transaction) -> UnderWay {
    let message = Message {
        at: transaction.at,
        sender: transaction.sender.clone(),
        recipients: Vec::new(),
        size: transaction.size,
    };
    UnderWay { message, waiting: Vec::new(), whole: false }
}

impl UnderWay {
    fn tried(&mut self, transaction: &Transaction) {
        for (recipient, settled) in &transaction.recipients {
            if !self.message.recipients.contains(recipient) {
                self.message.recipients.push(recipient.clone());
                self.waiting.push(recipient.clone());
            }
            if *settled {
                self.waiting.retain(|waiting| waiting != recipient);
            }
        }
        self.whole |= transaction.whole;
        self.message.size = transaction.size.or(self.message.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(at: u64, sender: &str, recipients: &[(&str, bool)], size: Option<u64>) -> Transaction {
        let recipients = recipients.iter().map(|(name, settled)| ((*name).to_owned(), *settled)).collect();
        let at = Timestamp::from_millis(at);
        Transaction { at, sender: sender.to_owned(), recipients, whole: true, size, message: None }
    }

    fn found(transactions: &[Transaction]) -> Vec<String> {
        let (messages, _) = of_transactions(transactions);
        messages
            .iter()
            .map(|m| format!("{} {} {}", m.at.as_millis(), m.sender, m.recipients.join(",")))
            .collect()
    }

    #[test]
    fn the_tries_of_one_message_are_one_message() {
        let tries = [
            transaction(1, "a", &[("b", false), ("c", true)], None),
            transaction(2, "a", &[("b", false)], Some(100)),
            transaction(3, "a", &[("b", true)], Some(100)),
            transaction(4, "a", &[("b", true)], Some(100)),
        ];
        assert_eq!(found(&tries), ["1 a b,c", "4 a b"]);
    }

    #[test]
    fn other_sizes_senders_and_recipients_are_other_messages() {
        let tries = [
            transaction(1, "a", &[("b", false)], Some(100)),
            transaction(2, "a", &[("b", false)], Some(5000)),
            transaction(3, "x", &[("b", false)], Some(100)),
            transaction(4, "a", &[("z", false)], Some(100)),
            transaction(5, "a", &[("b", true)], Some(100)),
        ];
        assert_eq!(found(&tries), ["1 a b", "2 a b", "3 x b", "4 a z"]);
    }

    #[test]
    fn a_name_alone_says_which_message_a_try_belongs_to() {
        let named = |at, name: &str| Transaction {
            message: Some(name.to_owned()),
            ..transaction(at, "a", &[("b", false)], Some(at * 1000))
        };
        assert_eq!(found(&[named(1, "first"), named(2, "second"), named(3, "first")]), ["1 a b", "2 a b"]);
    }

    #[test]
    fn a_message_whose_sender_was_refused_gets_its_recipients_later() {
        let stopped = Transaction { whole: false, ..transaction(1, "a", &[], None) };
        let tries = [stopped, transaction(2, "a", &[("b", true)], Some(9))];
        assert_eq!(found(&tries), ["1 a b"]);
    }

    #[test]
    fn a_message_that_was_cut_off_amid_its_recipients_gets_the_others_later() {
        let cut_off = |at, recipients: &[(&str, bool)]| Transaction {
            whole: false,
            ..transaction(at, "a", recipients, None)
        };
        let tries = [
            cut_off(1, &[("b", false)]),
            cut_off(2, &[("b", true), ("c", false)]),
            transaction(3, "a", &[("c", true), ("d", true)], Some(9)),
            transaction(4, "a", &[("d", true)], Some(9)),
        ];
        assert_eq!(found(&tries), ["1 a b,c,d", "4 a d"]);
        let other = [cut_off(1, &[("b", false)]), transaction(2, "a", &[("c", true)], None)];
        assert_eq!(found(&other), ["1 a b", "2 a c"]);
    }

    #[test]
    fn a_notice_is_no_message() {
        let tries = [transaction(1, "a", &[("b", true)], None), transaction(2, "", &[("a", true)], None)];
        assert_eq!(found(&tries), ["1 a b"]);
        assert_eq!(of_transactions(&tries).1, 1);
    }
}
