//! How much went to each destination at once and in a time, as the upstreams have seen it.
//!
//! Contract: [`Traffic::note`] takes every question in the order of its upstream; [`Traffic::judge`] finds more
//! transactions of one destination under way at one moment than its window allows, and more messages begun in a time
//! than its rate allows.
//! Invariants: a transaction is under way from its MAIL to the answer to its last question, so that what is found is so; a
//! delivery that goes on to another host, or over another connection, counts once.
//! Not here: who got what (`witness`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{BY_MX, DOMAINS};
use crate::clock::Timestamp;
use crate::lab::script::Stage;
use crate::lab::upstream::Asked;
use crate::queue::Rate;

/// A transaction at an upstream.
#[derive(Clone, Debug)]
struct Transaction {
    sender: String,
    /// Known from the first RCPT on.
    destination: Option<&'static str>,
    began: Timestamp,
    last: Timestamp,
}

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub at_once: u32,
    /// Of messages to [`DOMAINS`]'s second, which has a group of its own.
    pub rate: Option<Rate>,
}

/// All transactions of one life.
#[derive(Default)]
pub(super) struct Traffic {
    /// By upstream and session: the one that is under way there.
    open: BTreeMap<(usize, u64), Transaction>,
    over: Vec<Transaction>,
}

impl Traffic {
    /// What upstream number `upstream` was asked.
    pub fn note(&mut self, upstream: usize, asked: &Asked) {
        let key = (upstream, asked.session);
        match asked.stage {
            Stage::Mail => {
                let (began, last) = (asked.at, asked.at);
                let new = Transaction { sender: asked.about.clone(), destination: None, began, last };
                self.over.extend(self.open.insert(key, new));
            }
            Stage::Rcpt | Stage::Data | Stage::Content | Stage::Dot => {
                let Some(transaction) = self.open.get_mut(&key) else { return };
                // Until it is answered it is under way.
                transaction.last = asked.at + delay(&asked.did);
                transaction.destination = transaction.destination.or_else(|| destination(&asked.about));
                if asked.stage == Stage::Dot {
                    self.over.extend(self.open.remove(&key));
                }
            }
            _ => {}
        }
    }

    pub fn judge(&mut self, allowed: Allowed) -> Result<(), String> {
        let mut by_destination: BTreeMap<&str, Vec<&Transaction>> = BTreeMap::new();
        for transaction in self.over.iter().chain(self.open.values()) {
            if let Some(destination) = transaction.destination {
                by_destination.entry(destination).or_default().push(transaction);
            }
        }
        for (destination, transactions) in &mut by_destination {
            transactions.sort_by_key(|transaction| transaction.began);
            window(destination, transactions, allowed.at_once)?;
            if let Some(rate) = allowed.rate.filter(|_| *destination == DOMAINS[1]) {
                pace(destination, transactions, rate)?;
            }
        }
        Ok(())
    }
}

/// How long an upstream takes to answer.
fn delay(did: &str) -> Duration {
    let delay = did.strip_prefix("delay ").and_then(|rest| rest.split_once(", "));
    delay.and_then(|(text, _)| humantime::parse_duration(text).ok()).unwrap_or_default()
}

/// The line in which mail for these recipients waits; each transaction is of one.
fn destination(recipients: &str) -> Option<&'static str> {
    let domain = recipients.split(", ").next()?.rsplit('@').next()?;
    // Senders get their notices by way of the first group, too.
    let own = [DOMAINS[1], BY_MX[0], BY_MX[1]].into_iter().find(|own| *own == domain);
    Some(own.unwrap_or(DOMAINS[0]))
}

/// Never more than `at_once` under way at one moment; `transactions` are in the order of their beginning.
fn window(destination: &str, transactions: &[&Transaction], at_once: u32) -> Result<(), String> {
    for (index, transaction) in transactions.iter().enumerate() {
        // Those that began before it, or with it, and go on behind its beginning.
        let others = transactions[..index].iter().filter(|other| other.last > transaction.began).count();
        if transaction.last > transaction.began && others >= at_once as usize {
            return Err(format!(
                "{} transactions to {destination} at {}, and {at_once} are allowed",
                others + 1,
                transaction.began
            ));
        }
    }
    Ok(())
}

/// Never more messages begun within the rate's time than twice its count: that is a burst, and all that follows it.
fn pace(destination: &str, transactions: &[&Transaction], rate: Rate) -> Result<(), String> {
    for (index, first) in transactions.iter().enumerate() {
        let within =
            transactions[index..].iter().take_while(|other| other.began.since(first.began) < rate.per);
        let begun: BTreeSet<&str> = within.map(|transaction| transaction.sender.as_str()).collect();
        if begun.len() > 2 * rate.count as usize {
            let (count, at) = (begun.len(), first.began);
            return Err(format!("{count} messages to {destination} from {at} on, and the rate is {rate}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::FRIDAY_NOON;

    fn ask(traffic: &mut Traffic, session: u64, second: u64, stage: Stage, about: &str) {
        let at = FRIDAY_NOON + Duration::from_secs(second);
        let asked = Asked { at, session, stage, about: about.into(), did: "accept".into(), rule: None };
        traffic.note(0, &asked);
    }

    fn transaction(traffic: &mut Traffic, session: u64, began: u64, ended: u64) {
        ask(traffic, session, began, Stage::Mail, &format!("s{session}@senders.test"));
        ask(traffic, session, began, Stage::Rcpt, &format!("r{session}@{}", DOMAINS[1]));
        ask(traffic, session, ended, Stage::Dot, &format!("r{session}@{}", DOMAINS[1]));
    }

    #[test]
    fn more_at_once_than_the_window_is_noticed_and_one_after_the_other_is_not() {
        let allowed = Allowed { at_once: 2, rate: None };
        let mut traffic = Traffic::default();
        for (session, began, ended) in [(1, 0, 10), (2, 5, 15), (3, 10, 20), (4, 15, 30)] {
            transaction(&mut traffic, session, began, ended);
        }
        assert_eq!(traffic.judge(allowed), Ok(()));
        transaction(&mut traffic, 5, 16, 17);
        assert!(traffic.judge(allowed).unwrap_err().contains("3 transactions to"));
    }

    #[test]
    fn a_rate_that_is_not_kept_is_noticed() {
        let rate = Rate { count: 2, per: Duration::from_secs(60) };
        let allowed = Allowed { at_once: 20, rate: Some(rate) };
        let mut traffic = Traffic::default();
        for session in 1..=4 {
            transaction(&mut traffic, session, session * 10, session * 10 + 1);
        }
        // The same message once more, at another host.
        transaction(&mut traffic, 1, 55, 56);
        assert_eq!(traffic.judge(allowed), Ok(()));
        transaction(&mut traffic, 5, 57, 58);
        assert!(traffic.judge(allowed).unwrap_err().contains("5 messages to"));
    }
}
