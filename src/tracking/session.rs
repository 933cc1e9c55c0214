//! One session that was kept: who, when, how it ended, and what was said.
//!
//! Contract: this is what stands on one line of `sessions-2026-11-22.jsonl`; scripts read its field names, so names may
//! be added but never changed. What does not apply is left out.
//! Invariants: it holds no secret and no content; whoever makes it has left them out (`smtp::server::Tape`).
//! Not here: which sessions are kept (`accept`), what is to be thought of one (`verdict`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::verdict::{self, Verdict};
use crate::clock::Timestamp;
use crate::mail::SessionId;

/// A session from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    pub session: SessionId,
    /// When it began, by the relay's clock. All that is counted in milliseconds is real time.
    pub began: Timestamp,
    pub duration_ms: u64,
    /// The client's address; where a proxy stood in between, the one that the proxy named.
    pub client: IpAddr,
    /// The proxy's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<IpAddr>,
    /// Where the client came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<SocketAddr>,
    /// What it called itself in EHLO or HELO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What TLS agreed on: `TLSv1.3, TLS_AES_256_GCM_SHA384`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Lines that came as commands.
    pub commands: u32,
    /// Replies of 4yz and 5yz.
    pub refusals: u32,
    /// MAIL commands that were accepted.
    pub transactions: u32,
    /// Messages that got their 250.
    pub messages: u32,
    /// Octets on the connection, within TLS.
    pub octets_in: u64,
    pub octets_out: u64,
    /// How far it had come when it ended.
    pub stage: Stage,
    pub ended: Ended,
    /// Why, in the words of whoever saw it: the system's error, our last reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// From the last octets of the client to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<Spoken>,
}

/// One line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Milliseconds since the session began.
    pub ms: u64,
    pub by: By,
    pub text: String,
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    #[serde(rename = "C")]
    Client,
    #[serde(rename = "S")]
    Server,
    /// What happened without a word.
    #[serde(rename = "-")]
    Nobody,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Client => "C",
            Self::Server => "S",
            Self::Nobody => "-",
        })
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// How far a session had come.
    Stage {
        /// Before anything was said: the header of a PROXY protocol is due.
        Proxy = "proxy-header",
        /// In a TLS handshake.
        Tls = "tls-handshake",
        /// It has been greeted, and has not said a line.
        Greeted = "greeted",
        /// It has spoken, but not said EHLO or HELO with success.
        BeforeHello = "before-ehlo",
        /// It owes the response to a challenge of AUTH.
        Auth = "auth",
        /// Between transactions.
        Between = "between-transactions",
        /// Between MAIL and content.
        Envelope = "envelope",
        /// Between 354 and the final dot, or in a chunk.
        Content = "content",
    }
}

words! {
    /// How a session ended.
    Ended {
        /// The client said QUIT.
        Quit = "quit",
        /// The client closed the connection in order, without QUIT.
        Closed = "closed",
        /// The connection broke.
        Broken = "broken",
        /// The client did not take our replies for too long.
        NotTaken = "replies-not-taken",
        /// The client was silent for too long, and got a 421.
        Idle = "idle",
        /// We ended it by a 421.
        SentAway = "sent-away",
        /// The relay stopped.
        Stopped = "stopped",
        /// The TLS handshake failed.
        TlsFailed = "tls-failed",
        /// There was no valid PROXY header.
        NoProxyHeader = "no-proxy-header",
    }
}

impl SessionRecord {
    /// Whose side to look at, and why.
    pub fn verdict(&self) -> Verdict {
        verdict::of(self)
    }

    /// Whether the client never came as far as EHLO.
    pub fn never_said_hello(&self) -> bool {
        matches!(self.stage, Stage::Proxy | Stage::Greeted | Stage::BeforeHello)
            || (self.stage == Stage::Tls && self.hello.is_none())
    }

    /// Whether it is worth keeping for its own sake: something was refused or failed, it ended otherwise than in order,
    /// or a message that was begun did not come.
    pub fn went_wrong(&self) -> bool {
        let came_to_nothing = self.transactions > 0 && self.messages == 0;
        let in_order = match self.ended {
            Ended::Quit => true,
            // Many programs close after their last message and mean no harm.
            Ended::Closed => self.stage == Stage::Between && self.messages > 0,
            _ => false,
        };
        self.refusals > 0 || came_to_nothing || !in_order
    }
}
