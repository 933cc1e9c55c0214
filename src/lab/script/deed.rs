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
    /// These octets as they are; what begins as a reply of 2yz (354 to DATA) also goes on.
    Raw(Vec<u8>),
    /// A reply that never ends, up to 16 MiB of it.
    Flood(Flood),
    /// The sending side ends; what the client still says is read and thrown away.
    HalfClose,
    /// Reads nothing more, and says nothing; the connection stays.
    Stall,
    /// STARTTLS with a certificate that nobody should trust.
    Certificate(BadCertificate),
    /// STARTTLS is gone ahead with, and then no handshake comes about.
    Handshake(BadHandshake),
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
            Self::Reply(_) | Self::Garbage | Self::Raw(_) | Self::Flood(_) => &Stage::ALL[1..],
            Self::HalfClose | Self::Stall => &Stage::ALL[1..],
            Self::Refuse | Self::Unreachable => &[Stage::Connect],
            Self::Without(_) => &[Stage::Ehlo],
            Self::Certificate(_) | Self::Handshake(_) => &[Stage::StartTls],
            Self::KeepAndClose | Self::KeepAndSilence | Self::Lose => &[Stage::Dot],
        }
    }

    /// Whether the upstream sends anything by it, so that it can drip, and close behind it.
    pub(super) fn sends(&self, stage: Stage) -> bool {
        let mute = matches!(
            self,
            Self::Silence
                | Self::Close
                | Self::Reset
                | Self::Refuse
                | Self::Unreachable
                | Self::HalfClose
                | Self::Stall
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
            Self::Raw(octets) => write!(f, "raw {}", escaped(octets)),
            Self::Flood(flood) => write!(f, "flood {}", flood.word()),
            Self::HalfClose => f.write_str("half-close"),
            Self::Stall => f.write_str("stall"),
            Self::Certificate(fault) => write!(f, "certificate {fault}"),
            Self::Handshake(fault) => write!(f, "handshake {}", fault.word()),
            Self::KeepAndClose => f.write_str("keep and close"),
            Self::KeepAndSilence => f.write_str("keep and silence"),
            Self::Lose => f.write_str("lose"),
        }
    }
}

/// Octets as `raw` writes them: printable US-ASCII as it is, the others as `\r`, `\n` or `\xNN`. A blank at either end
/// would be lost, and is written so as well.
fn escaped(octets: &[u8]) -> String {
    let last = octets.len().saturating_sub(1);
    let escape = |(at, octet): (usize, &u8)| match octet {
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b' ' if at == 0 || at == last => "\\x20".to_owned(),
        // A comma might begin a limit.
        b' '..=b'~' if *octet != b',' => char::from(*octet).to_string(),
        _ => format!("\\x{octet:02x}"),
    };
    octets.iter().enumerate().map(escape).collect()
}

/// What never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// One line.
    Line,
    /// A reply of one line after the other.
    Lines,
}

impl Flood {
    /// Every kind.
    pub const ALL: [Flood; 2] = [Self::Line, Self::Lines];

    /// How a rule writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Lines => "lines",
        }
    }
}

/// What comes in place of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHandshake {
    /// Octets that are no TLS.
    Garbage,
    /// The end of the connection.
    Close,
    /// The connection is torn down.
    Reset,
    /// Nothing.
    Silence,
}

impl BadHandshake {
    /// Every kind.
    pub const ALL: [BadHandshake; 4] = [Self::Garbage, Self::Close, Self::Reset, Self::Silence];

    /// How a rule writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Close => "close",
            Self::Reset => "reset",
            Self::Silence => "silence",
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
