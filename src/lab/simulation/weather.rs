//! What the upstreams do, by chance: rules of the lab's scripts.
//!
//! Contract: [`customs`] are habits of a whole life, [`turn`] is trouble that passes by itself. Some lie: they answer 250
//! and lose what they took. No reply takes longer than the relay waits for one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::lab::script::Rule;

/// Rules that stand from beginning to end.
pub(super) fn customs(chance: &mut fastrand::Rng) -> Vec<String> {
    let all = [
        "rcpt * first 3m: 450 4.2.0 greylisted",
        "rcpt * chance 10%: 451 4.7.1 try later",
        "rcpt * chance 4%: 550 5.1.1 no such user",
        "dot * chance 5%: keep and close",
        "dot * chance 8%: delay 3s, accept",
        "ehlo: without DSN PIPELINING",
        "ehlo: without CHUNKING 8BITMIME",
        "mail * chance 5%: 421 4.3.2 closing",
        "data * chance 5%: 452 4.3.1 no space",
    ];
    all.iter().filter(|_| chance.u8(..4) == 0).map(|rule| (*rule).to_owned()).collect()
}

/// Trouble for a while.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub upstream: usize,
    rule: &'static str,
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Times(u64),
    Until(Timestamp),
}

impl Turn {
    /// As a rule; none once it is over, and none in another life when it was counted.
    pub fn rule(&self, now: Timestamp, is_new: bool) -> Option<Rule> {
        let limit = match self.limit {
            Limit::Times(times) if is_new => format!("{times} times"),
            Limit::Until(end) if end > now => format!("for {}s", end.since(now).as_secs().max(1)),
            _ => return None,
        };
        let text = format!("{}, {limit}", self.rule);
        Some(text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
    }
}

pub(super) fn turn(chance: &mut fastrand::Rng, upstreams: usize, now: Timestamp) -> Turn {
    let rules = [
        "connect: refuse",
        "connect: unreachable",
        "connect: silence",
        "connect: close",
        "connect: reset",
        "greeting: 554 5.3.2 no service",
        "greeting: 421 4.3.2 too busy",
        "greeting: silence",
        "greeting: garbage",
        "ehlo: 502 5.5.1 not here",
        "ehlo: close",
        "ehlo: 421 4.3.2 later",
        "mail *: 451 4.3.0 try later",
        "mail *: 421 4.3.2 closing",
        "mail *: close",
        "mail *: 550 5.7.1 not from you",
        "mail *: silence",
        "rcpt *: 451 4.7.1 try later",
        "rcpt *: 452 4.2.2 mailbox full",
        "rcpt * chance 50%: 450 4.2.1 perhaps",
        "rcpt * chance 50%: 550 5.1.1 no such user",
        "rcpt *: close",
        "rcpt *: 421 4.3.2 closing",
        "data *: 451 4.3.0 try later",
        "data *: 554 5.6.0 no",
        "data *: close",
        "data *: 421 4.3.2 closing",
        "content *: close",
        "content *: reset",
        "content *: 451 4.3.0 enough",
        "dot *: 451 4.3.0 try later",
        "dot *: 452 4.3.1 no space",
        "dot *: 554 5.6.0 refused",
        "dot *: 421 4.3.2 closing",
        "dot *: close",
        "dot *: reset",
        "dot *: silence",
        "dot *: garbage",
        "dot *: keep and close",
        "dot *: keep and silence",
        "dot *: delay 9s, accept",
        "dot *: lose",
        "dot *: closing, accept",
        "dot *: closing, 451 4.3.0 try later",
        "dot *: flood line",
        "greeting: closing, accept",
        "greeting: flood lines",
        "ehlo: half-close",
        "mail nth 3..: 421 4.7.0 enough on this connection",
        "rcpt nth 2..: 452 4.5.3 too many recipients",
        "content *: half-close",
        "quit: silence",
        "quit: close",
    ];
    let limit = match chance.u8(..7) {
        0 => Limit::Times(1),
        1 => Limit::Times(3),
        2 => Limit::Times(12),
        hours => {
            Limit::Until(now + Duration::from_secs([120, 2400, 6 * 3600, 30 * 3600][usize::from(hours) - 3]))
        }
    };
    Turn { upstream: chance.usize(..upstreams), rule: rules[chance.usize(..rules.len())], limit }
}
