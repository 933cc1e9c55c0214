//! What was seen of upstreams: plain values, wherever they come from.
//!
//! Contract: a question is kept with what was done about it, good or bad, because attempts are counted over both.
//! Invariants: nothing of a message's content and nothing of a client's credentials has a place in here.
//! Not here: how it is seen (`dialogue`, `log`), what is made of it (`rules`, `messages`, `scenario`).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::lab::script::Stage;
use crate::mail::Reply;

/// Everything that a recording holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Where they come from, for the comment: "between a relay and its upstream".
    pub source: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// In the order of their first question.
    pub upstreams: Vec<ObservedUpstream>,
    pub transactions: Vec<Transaction>,
    /// What was left out or could not be known, a sentence each; no names of real life in them.
    pub notes: Vec<String>,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedUpstream {
    /// Its real names, which are masked: the configured one first.
    pub names: Vec<String>,
    /// In the order in which they were asked.
    pub questions: Vec<Observed>,
}

/// One question of a dialogue and what the upstream did about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub at: Timestamp,
    /// The how manieth connection to this upstream, beginning with 1.
    pub connection: u64,
    pub stage: Stage,
    /// From MAIL on; empty for the null reverse-path.
    pub sender: String,
    /// At RCPT the one that is asked about, later all that were accepted.
    pub recipients: Vec<String>,
    /// From the question to the first octet of its answer.
    pub waited: Duration,
    pub did: Did,
}

/// What an upstream did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// What a good server does; at the final dot it took the message.
    Accept,
    /// EHLO was accepted, without these of the extensions that every good server has.
    Without(Vec<&'static str>),
    Reply(Reply),
    Silence,
    Close,
    Reset,
    Refuse,
    Unreachable,
    Garbage,
}

impl Did {
    /// What needs no rule.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Accept)
    }
}

/// One try to hand over a message, as far as the client said what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub at: Timestamp,
    pub sender: String,
    /// Everyone who was named, with whether no further try is to be expected: taken, or refused for good.
    pub recipients: Vec<(String, bool)>,
    /// Whether nobody else would have been named: the client went on to DATA, or gave it up by itself.
    pub whole: bool,
    /// Octets of content: as they came, or as MAIL declared them.
    pub size: Option<u64>,
    /// The message's own name where the source has one, so that its tries are known to be one message's.
    pub message: Option<String>,
}
