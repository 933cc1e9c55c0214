//! What happened to a recipient: a value, not an error, and kept whole into the log and the notice.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Address, EnhancedStatus, Reply};

/// The four ways an attempt can end for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The next hop took responsibility; `dsn` tells whether it also took over the DSN request (RFC 3461), and with it
    /// a deadline of which the sender wants to be told (RFC 2852 section 4.1.4.2).
    Delivered { dsn: bool },
    /// Not now: tried again by the schedule.
    Deferred,
    /// Never: the sender is told.
    Bounced,
    /// The connection died between the final dot and its reply: delivered or not, nobody knows. Tried again.
    Uncertain,
}

/// A server that took part, as it is shown to people and as `Remote-MTA` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Host {
    /// The name that led there, or the address where there was no name.
    pub name: String,
    pub address: Option<IpAddr>,
    /// Where it is not 25.
    pub port: Option<u16>,
}

impl Host {
    pub fn at(name: impl Into<String>, address: SocketAddr) -> Self {
        let port = Some(address.port()).filter(|port| *port != 25);
        Self { name: name.into(), address: Some(address.ip()), port }
    }
}

/// `mx.example.org [192.0.2.1]`, `[127.0.0.1]:1025`
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) if address.to_string() == self.name => write!(f, "[{address}]")?,
            Some(address) => write!(f, "{} [{address}]", self.name)?,
            None => f.write_str(&self.name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The TLS of the connection over which a message went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsUsed {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// How the server's certificate was verified: `none` (any would have done), `ca`, `dane` or `sts`.
    pub verified_by: &'static str,
}

/// The result of one attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: Verdict,
    pub status: EnhancedStatus,
    /// One sentence fragment in our words: what was being done and what went wrong ("connection refused").
    pub reason: String,
    /// The other side's own words, where it had any.
    pub reply: Option<Reply>,
    /// Who said it, or who could not be reached.
    pub host: Option<Host>,
    /// Of one that was delivered over TLS. For the tracking log; no part of what is kept with the message.
    #[serde(skip)]
    pub tls: Option<Arc<TlsUsed>>,
}

impl Outcome {
    /// An outcome of our own making: nobody else said anything.
    pub fn local(verdict: Verdict, status: EnhancedStatus, reason: impl Into<String>) -> Self {
        Self { verdict, status, reason: reason.into(), reply: None, host: None, tls: None }
    }

    /// What was heard, though something else came after it: the words that count are those of `heard`, and the reason
    /// tells of both.
    pub fn with_later(heard: &Self, later: &Self) -> Self {
        let before = if heard.reply.is_some() { String::new() } else { format!("{}; ", heard.reason) };
        Self { reason: format!("{before}{SINCE_THEN}{later}"), ..heard.clone() }
    }

    /// The same of a message that went to `address` in place of its recipients.
    pub fn redirected_to(self, address: &Address) -> Self {
        let reason = match self.verdict {
            Verdict::Delivered { .. } => format!("{REDIRECTED}{address}"),
            _ => format!("{}; {REDIRECTED}{address}", self.reason),
        };
        Self { reason, ..self }
    }

    /// What is worth reading of it: the reply where there is one, with what the reason tells beside it; the reason otherwise.
    pub fn words(&self) -> String {
        match (&self.reply, self.beside_the_reply()) {
            (Some(reply), Some(more)) => format!("{reply}; {more}"),
            (Some(reply), None) => reply.to_string(),
            (None, _) => self.reason.clone(),
        }
    }

    /// What the reason tells that the reply does not: what came after it, what to mend, who got the message instead.
    fn beside_the_reply(&self) -> Option<&str> {
        if BESIDE.iter().any(|words| self.reason.starts_with(words)) {
            return Some(&self.reason);
        }
        self.reason.rfind(REDIRECTED).map(|at| &self.reason[at..])
    }

    pub fn is_final(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered { .. } | Verdict::Bounced)
    }
}

/// By this a reason says what came after the reply.
const SINCE_THEN: &str = "since then: ";

/// By this a reason says that others than the recipient got the message.
const REDIRECTED: &str = "redirected to ";

/// By these a reason says more than the reply: what came after it; that it was to us, not to the sender or his message, and
/// what to mend.
const BESIDE: [&str; 3] = [SINCE_THEN, "authenticating: ", "the host wants AUTH"];

/// Who it was, and [words](Outcome::words).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.reply) {
            (Some(host), Some(_)) => write!(f, "{host} said: {}", self.words()),
            (Some(host), None) => write!(f, "{host}: {}", self.reason),
            (None, _) => f.write_str(&self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_reply_stands_what_it_leaves_open() {
        let reply = Some(Reply::new(535, None, "5.7.8 no"));
        let host = Some(Host { name: "mx.example.org".into(), address: None, port: None });
        let told = |reason: &str| {
            let status = EnhancedStatus::new(4, 7, 8);
            let outcome = Outcome::local(Verdict::Deferred, status, reason);
            Outcome { reply: reply.clone(), host: host.clone(), ..outcome }.to_string()
        };
        assert_eq!(told("the host refused RCPT"), "mx.example.org said: 535 5.7.8 no");
        assert_eq!(
            told("authenticating: it was refused: check the password"),
            "mx.example.org said: 535 5.7.8 no; authenticating: it was refused: check the password"
        );
        assert_eq!(
            told("since then: connecting: timed out"),
            "mx.example.org said: 535 5.7.8 no; since then: connecting: timed out"
        );
    }
}
