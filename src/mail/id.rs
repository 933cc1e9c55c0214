//! The names of messages and sessions, and the receipt of a commit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The digits of Crockford's base 32: no I, L, O or U to misread over the telephone.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The name of a message in one relay: twelve characters, growing with time, never used twice in a spool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// Bits that twelve digits hold.
    const BITS: u32 = 60;
    /// Low bits that count messages of the same millisecond.
    const SEQUENCE_BITS: u32 = 16;

    pub const MIN: QueueId = QueueId(0);
    pub const MAX: QueueId = QueueId((1 << Self::BITS) - 1);

    /// The first name of the millisecond `millis`; the caller takes the larger of this and [`QueueId::next`].
    pub const fn first_at(millis: u64) -> Self {
        Self((millis << Self::SEQUENCE_BITS) & Self::MAX.0)
    }

    pub const fn next(self) -> Self {
        Self((self.0 + 1) & Self::MAX.0)
    }

    /// The millisecond of its making, as its maker's clock stood: what [`QueueId::first_at`] was given, or later when
    /// that one had more messages than it has names.
    pub const fn millis(self) -> u64 {
        self.0 >> Self::SEQUENCE_BITS
    }

    pub const fn from_u64(raw: u64) -> Self {
        Self(raw & Self::MAX.0)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// The name of a session: eight characters by chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl SessionId {
    const BITS: u32 = 40;

    /// Takes the low 40 bits of `chance`.
    pub const fn from_chance(chance: u64) -> Self {
        Self(chance & ((1 << Self::BITS) - 1))
    }
}

/// A text that is no queue id or session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} characters of 0-9 and A-Z without I, L, O, U")]
pub struct ParseIdError {
    expected: usize,
}

fn write_digits(f: &mut fmt::Formatter<'_>, value: u64, bits: u32) -> fmt::Result {
    let mut shift = bits;
    while shift > 0 {
        shift -= 5;
        fmt::Write::write_char(f, DIGITS[(value >> shift) as usize & 31] as char)?;
    }
    Ok(())
}

fn read_digits(text: &str, bits: u32) -> Result<u64, ParseIdError> {
    let error = ParseIdError { expected: (bits / 5) as usize };
    if text.len() != error.expected {
        return Err(error);
    }
    text.bytes().try_fold(0, |value, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_uppercase()).ok_or(error)?;
        Ok(value << 5 | digit as u64)
    })
}

macro_rules! id_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_digits(f, self.0, Self::BITS)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                read_digits(text, Self::BITS).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_u64(self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    u64::deserialize(deserializer).map(|raw| Self(raw & ((1 << Self::BITS) - 1)))
                }
            }
        }
    };
}

id_text!(QueueId);
id_text!(SessionId);

/// Proof that a message is durable. Only a commit of the spool makes one, and only with one in hand may a session
/// answer 250 to the end of content; so it can be neither copied nor made up.
#[derive(Debug)]
#[must_use = "a receipt is what permits the 250"]
pub struct Receipt {
    id: QueueId,
}

impl Receipt {
    /// Called by the spool after the sync that covers `id`, and by nobody else (`tests/tidy.rs` looks).
    pub(crate) fn of_commit(id: QueueId) -> Self {
        Self { id }
    }

    pub fn id(&self) -> QueueId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_with_time_and_survive_their_text() {
        let first = QueueId::first_at(1_795_318_387_120);
        let later = QueueId::first_at(1_795_318_387_121);
        assert!(first < first.next() && first.next() < later);
        assert_eq!((first.next().millis(), later.millis()), (1_795_318_387_120, 1_795_318_387_121));
        assert!(first.to_string() < later.to_string());
        assert_eq!(first.to_string().len(), 12);
        assert_eq!(first.to_string().to_lowercase().parse(), Ok(first));
        assert!("tooshort".parse::<QueueId>().is_err());
        assert!("IIIIIIIIIIII".parse::<QueueId>().is_err());
        assert_eq!(SessionId::from_chance(u64::MAX).to_string(), "ZZZZZZZZ");
    }
}
