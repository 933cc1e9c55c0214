//! What an upstream does, and where in the dialogue it can.
//!
//! Contract: a [`Deed`] is displayed as a rule writes it; [`Deed::stages`] says where it may stand.
//! Not here: how it is done (`upstream`), how it is read (`grammar`).

use std::fmt;

use super::stage::Stage;
use crate::mail::Reply;

/// What the upstream does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// As a good server would.
    Accept,
    /// This reply; one of 2yz (354 to DATA) also goes on.
    Reply(Reply),
    /// Never answers, the connection stays.
    Silence,
    /// The connection ends in order.
    Close,
    /// The connection is torn down.
    Reset,
    /// The connection is refused; at `connect` alone.
    Refuse,
    /// The connection meets no route; at `connect` alone.
    Unreachable,
    /// Octets that are no reply.
    Garbage,
    /// EHLO without these extensions, in upper case.
    Without(Vec<String>),
    /// STARTTLS with a certificate that nobody should trust.
    Certificate(BadCertificate),
    /// After the dot: the message is kept, the reply never comes, and the connection ends.
    KeepAndClose,
    /// After the dot: the message is kept, the reply never comes, and the connection stays.
    KeepAndSilence,
    /// After the dot: 250, and the message is thrown away.
    Lose,
}

impl Deed {
    /// Where it may stand.
    pub fn stages(&self) -> &'static [Stage] {
        match self {
            Self::Accept | Self::Silence | Self::Close | Self::Reset => &Stage::ALL,
            // Before there is a connection nothing can be sent over it.
            Self::Reply(_) | Self::Garbage => &Stage::ALL[1..],
            Self::Refuse | Self::Unreachable => &[Stage::Connect],
            Self::Without(_) => &[Stage::Ehlo],
            Self::Certificate(_) => &[Stage::StartTls],
            Self::KeepAndClose | Self::KeepAndSilence | Self::Lose => &[Stage::Dot],
        }
    }

    /// Whether the upstream sends anything by it, so that it can drip.
    pub(super) fn sends(&self, stage: Stage) -> bool {
        let mute = matches!(
            self,
            Self::Silence
                | Self::Close
                | Self::Reset
                | Self::Refuse
                | Self::Unreachable
                | Self::KeepAndClose
                | Self::KeepAndSilence
        );
        // Amid the content a good server says nothing.
        let nothing_to_say = stage == Stage::Content && *self == Self::Accept;
        stage != Stage::Connect && !mute && !nothing_to_say
    }
}

/// As a rule writes it: `451 4.7.1 try later`, `keep and close`.
impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Reply(reply) => {
                let text = reply.lines().join("\\n");
                write!(f, "{}", reply.code())?;
                if text.is_empty() { Ok(()) } else { write!(f, " {text}") }
            }
            Self::Silence => f.write_str("silence"),
            Self::Close => f.write_str("close"),
            Self::Reset => f.write_str("reset"),
            Self::Refuse => f.write_str("refuse"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Garbage => f.write_str("garbage"),
            Self::Without(extensions) => write!(f, "without {}", extensions.join(" ")),
            Self::Certificate(fault) => write!(f, "certificate {fault}"),
            Self::KeepAndClose => f.write_str("keep and close"),
            Self::KeepAndSilence => f.write_str("keep and silence"),
            Self::Lose => f.write_str("lose"),
        }
    }
}

/// Why nobody should trust a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// It is past its date.
    Expired,
    /// It names another host.
    WrongName,
    /// No authority has signed it.
    SelfSigned,
}

impl BadCertificate {
    /// Every kind.
    pub const ALL: [BadCertificate; 3] = [Self::Expired, Self::WrongName, Self::SelfSigned];

    /// How a rule writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::WrongName => "wrong-name",
            Self::SelfSigned => "self-signed",
        }
    }
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
