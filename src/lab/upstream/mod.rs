//! A server that does what its script says, and remembers.
//!
//! Contract: [`Upstream::start`] listens on any network; whatever the [`Script`] does not speak of, a good server does:
//! it takes every message and keeps it. What was asked and what was kept can be read at any time, and the script can be
//! changed while it runs.
//! Invariants: times of rules and of what is remembered are the clock's; delays and drips are network time. The last
//! [`REMEMBERED_MAX`] questions and messages are remembered, of messages no more than [`REMEMBERED_OCTETS_MAX`]; older ones are forgotten. On a real port `refuse` and
//! `unreachable` are a reset at once, since only the system refuses connections.
//! Not here: the rules (`script`).
//!
//! Somebody else's mailer against a mailbox that is greylisted:
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use posthouse::lab::Upstream;
//!
//! let upstream = Upstream::on_port(["rcpt bob@example.com attempt 1..2: 450 4.2.0 greylisted"]).await?;
//! println!("let your mailer send to {}", upstream.address());
//! // ... and look what it did:
//! assert!(upstream.received().is_empty());
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new()?.block_on(example())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod certificates;
mod deeds;
mod door;
mod octets;
mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::script::{Answer, Question, Rule, RuleError, Script, Stage, Standing};
use crate::clock::{Clock, Timestamp};
use crate::mail::{Address, Content, Envelope, ReversePath};
use crate::net::{BindError, Network};
use certificates::Certificates;

/// Questions, and messages, that an upstream remembers at most.
pub const REMEMBERED_MAX: usize = 100_000;

/// Octets of messages that an upstream remembers at most; one message more than that is remembered all the same.
pub const REMEMBERED_OCTETS_MAX: usize = 512 << 20;

/// A message that the upstream has kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// From 1 on.
    pub number: u64,
    pub at: Timestamp,
    pub envelope: Envelope,
    /// As it came, without dot-stuffing; octets that are no UTF-8 are replaced.
    pub content: String,
    /// The same octet for octet, where that is no UTF-8; in JSON as base64.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "octets")]
    pub octets: Option<Vec<u8>>,
}

impl Received {
    /// The content, octet for octet.
    pub fn to_octets(&self) -> &[u8] {
        self.octets.as_deref().unwrap_or(self.content.as_bytes())
    }
}

/// One question of the dialogue and what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub at: Timestamp,
    /// The how manieth session; 0 where the connection was refused.
    pub session: u64,
    pub stage: Stage,
    /// The sender at MAIL, the recipient at RCPT, all recipients later; empty before.
    pub about: String,
    /// `accept`, a reply, `close`, ..., as a script says it.
    pub did: String,
    /// The number of the rule that decided; none where nothing was out of the way or a magic address decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
}

/// What an upstream offers besides the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// The name in its greeting and in its certificate.
    pub hostname: String,
    /// STARTTLS, with a certificate of the lab's own. Without it, STARTTLS is offered while the script has a rule for it
    /// (`starttls: accept`), so that mailers which insist on a certificate that they trust are not turned away.
    pub starttls: bool,
    /// AUTH PLAIN and LOGIN, where every password is right.
    pub auth: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self { hostname: "upstream.example".into(), starttls: false, auth: true }
    }
}

/// Why an upstream on a port was not started.
#[derive(Debug, thiserror::Error)]
pub enum OnPortError {
    #[error("rule {0:?}")]
    Rule(String, #[source] RuleError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A server that does what its script says. Cheap to clone; clones share everything. It listens until the last clone
/// is dropped.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
    _door: Arc<Door>,
}

/// What sessions share.
struct Shared {
    address: SocketAddr,
    clock: Clock,
    offers: Offers,
    certificates: Certificates,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

struct State {
    script: Script,
    received: VecDeque<Received>,
    kept: u64,
    /// Octets of all that is remembered.
    kept_octets: usize,
    asked: VecDeque<Asked>,
    /// How many questions there were in all.
    questions: u64,
    sessions: u64,
    /// Answers that the gate of the network in memory has got, for connections that are about to arrive.
    at_the_gate: VecDeque<Answer>,
}

impl State {
    /// Forgets the oldest where there is too much.
    fn keep(&mut self, message: Received) {
        self.kept_octets += message.to_octets().len();
        self.received.push_back(message);
        let is_too_much =
            |state: &Self| state.received.len() > REMEMBERED_MAX || state.kept_octets > REMEMBERED_OCTETS_MAX;
        while self.received.len() > 1 && is_too_much(self) {
            let forgotten = self.received.pop_front().map_or(0, |message| message.to_octets().len());
            self.kept_octets -= forgotten;
        }
    }
}

/// Ends the listening when the last handle goes.
struct Door(JoinHandle<()>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    /// Listens at `address` of `network` (port 0 takes a free one).
    pub async fn start(
        network: &Network,
        address: SocketAddr,
        clock: &Clock,
        script: Script,
    ) -> Result<Self, BindError> {
        Self::start_with(network, address, clock, script, Offers::default()).await
    }

    /// The same with more to offer.
    pub async fn start_with(
        network: &Network,
        address: SocketAddr,
        clock: &Clock,
        script: Script,
        offers: Offers,
    ) -> Result<Self, BindError> {
        let listener = network.bind(address).await?;
        let address = listener.local_addr();
        let state = State {
            script,
            received: VecDeque::new(),
            kept: 0,
            kept_octets: 0,
            asked: VecDeque::new(),
            questions: 0,
            sessions: 0,
            at_the_gate: VecDeque::new(),
        };
        let shared = Arc::new(Shared {
            address,
            clock: clock.clone(),
            certificates: Certificates::new(&offers.hostname, address.ip()),
            offers,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        });
        door::guard(network, &shared);
        let task = tokio::spawn(door::keep(listener, Arc::clone(&shared)));
        Ok(Self { shared, _door: Arc::new(Door(task)) })
    }

    /// On real time, at a free port of 127.0.0.1: for other people's mailers. A script is rules, the
    /// first that fits decides.
    pub async fn on_port<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, OnPortError> {
        let clock = Clock::system();
        let mut script = Script::new(clock.now(), clock.chance());
        for text in rules {
            let rule = text.parse().map_err(|error| OnPortError::Rule(text.to_owned(), error))?;
            script.add(rule);
        }
        Ok(Self::start(&Network::System, SocketAddr::from(([127, 0, 0, 1], 0)), &clock, script).await?)
    }

    /// Where it listens, with the port that port 0 became.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// From now on, before all other rules. Gives the number by which it can be forgotten.
    pub fn say(&self, rule: Rule) -> u32 {
        let now = self.shared.clock.now();
        self.shared.state().script.say(rule, now)
    }

    /// Takes a rule out of the script; false when there is none of this number.
    pub fn forget(&self, rule: u32) -> bool {
        self.shared.state().script.forget(rule)
    }

    /// The rules with their numbers and how often each has decided, in the order in which they are asked.
    pub fn rules(&self) -> Vec<Standing> {
        self.shared.state().script.rules().to_vec()
    }

    /// What it has kept, the oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.state().received.iter().cloned().collect()
    }

    /// What it was asked, the oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.iter().cloned().collect()
    }

    /// The newest of its messages that is `wanted`.
    pub fn newest(&self, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        self.shared.state().received.iter().rev().find(|message| wanted(message)).cloned()
    }

    /// What it has kept behind message `number`, as far as it is remembered.
    pub fn received_since(&self, number: u64) -> Vec<Received> {
        let state = self.shared.state();
        let first = state.received.partition_point(|message| message.number <= number);
        state.received.range(first..).cloned().collect()
    }

    /// How many questions there were in all, and those behind the first `known`, as far as they are remembered.
    pub fn asked_since(&self, known: u64) -> (u64, Vec<Asked>) {
        let state = self.shared.state();
        let new = usize::try_from(state.questions.saturating_sub(known)).unwrap_or(usize::MAX);
        let first = state.asked.len().saturating_sub(new);
        (state.questions, state.asked.range(first..).cloned().collect())
    }

    /// Changes with every question and every message that is kept.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The authority that has signed the certificate with which STARTTLS is answered, in DER: for a client that shall
    /// trust it.
    pub fn authority(&self) -> Vec<u8> {
        self.shared.certificates.authority_der()
    }
}

impl Shared {
    /// Whether a session that begins now offers STARTTLS.
    fn offers_starttls(&self) -> bool {
        let in_script = |standing: &Standing| standing.rule.stage() == Stage::StartTls;
        self.offers.starttls || self.state().script.rules().iter().any(in_script)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of an upstream's state panics")
    }

    /// Asks the script, and remembers.
    fn ask(
        &self,
        session: u64,
        nth: u64,
        stage: Stage,
        sender: Option<&ReversePath>,
        recipients: &[Address],
    ) -> Answer {
        let at = self.clock.now();
        let mut state = self.state();
        let (answer, rule) = state.script.decide(&Question { stage, at, nth, sender, recipients });
        let about = match (stage, sender) {
            (Stage::Mail, Some(sender)) => sender.to_string(),
            _ => recipients.iter().map(Address::as_str).collect::<Vec<_>>().join(", "),
        };
        let did = answer.to_string();
        if state.asked.len() == REMEMBERED_MAX {
            state.asked.pop_front();
        }
        state.questions += 1;
        state.asked.push_back(Asked { at, session, stage, about, did, rule });
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        answer
    }

    /// Keeps a message, or only remembers that it was taken.
    fn take(&self, envelope: Envelope, content: &Content, keep: bool) {
        let at = self.clock.now();
        let mut state = self.state();
        let recipients: Vec<Address> = envelope.recipients.iter().map(|r| r.address.clone()).collect();
        state.script.taken(&envelope.reverse_path, &recipients);
        if keep {
            state.kept += 1;
            let number = state.kept;
            let octets = content.to_bytes();
            let text = String::from_utf8_lossy(&octets).into_owned();
            let octets = std::str::from_utf8(&octets).is_err().then(|| octets.to_vec());
            state.keep(Received { number, at, envelope, content: text, octets });
        }
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }
}
