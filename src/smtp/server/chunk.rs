//! The argument of BDAT.
//!
//! Contract: [`read`] gives the command, or a refusal where the number of octets cannot be read; where only the rest is wrong
//! the number is given all the same, because the octets come.
//! Not here: when BDAT may come, and what its octets are (`session`).
//! RFC 3030 section 2.

use super::command::Command;
use super::replies::{self, Fixed};

/// `BDAT octets [LAST]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub octets: u64,
    pub last: bool,
}

/// The number is plain: 1 to 20 decimal digits whose value fits in 64 bits.
pub(super) fn read(argument: &[u8]) -> Result<Command, Fixed> {
    let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let digits = words.next().filter(|word| word.len() <= 20 && word.iter().all(u8::is_ascii_digit));
    let octets = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let octets = octets.ok_or(replies::BDAT_SIZE)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat(Chunk { octets, last: false })),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => {
            Ok(Command::Bdat(Chunk { octets, last: true }))
        }
        _ => Ok(Command::BadBdat(octets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_octets_is_plain_or_nothing() {
        for (argument, octets, last) in [
            ("0", 0, false),
            ("86 LAST", 86, true),
            ("86  last", 86, true),
            ("00000000000000000086", 86, false),
            ("18446744073709551615", u64::MAX, false),
        ] {
            assert_eq!(read(argument.as_bytes()), Ok(Command::Bdat(Chunk { octets, last })), "{argument}");
        }
        for argument in ["86 FIRST", "86 LAST LAST", "86 86"] {
            assert_eq!(read(argument.as_bytes()), Ok(Command::BadBdat(86)), "{argument}");
        }
        for bad in [
            "",
            "LAST",
            "-1",
            "+1",
            "0x10",
            "1e3",
            "1,000",
            "86LAST",
            "18446744073709551616",
            "000000000000000000086",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(replies::BDAT_SIZE), "{bad}");
        }
    }
}
