//! HOLDFOR and HOLDUNTIL: when a message is to be released.
//!
//! Contract: what the client said, checked in its form. [`Hold::left`] tells what is left of it at a moment.
//! Not here: what is offered (`settings`), what time it is (the driver).
//! RFC 4865, with erratum 2040: HOLDUNTIL is a date-time of RFC 3339 section 5.6.

use std::time::Duration;

use super::parameter::nine_digits;
use super::replies::{self, Fixed};
use crate::clock::Timestamp;

/// When a message is to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: counted from the arrival of the message, in whole seconds.
    For(Duration),
    /// HOLDUNTIL.
    Until(Timestamp),
}

impl Hold {
    pub(super) fn read_for(value: Option<&str>) -> Result<Self, Fixed> {
        let seconds = value.and_then(nine_digits).ok_or(replies::HOLDFOR_VALUE)?;
        Ok(Self::For(Duration::from_secs(seconds.into())))
    }

    pub(super) fn read_until(value: Option<&str>) -> Result<Self, Fixed> {
        let moment = value.filter(|text| is_date_time(text)).and_then(|text| text.parse().ok());
        moment.map(Self::Until).ok_or(replies::HOLDUNTIL_VALUE)
    }

    /// What is left of it for a message that arrives at `arrival`, in whole seconds, rounded up; nothing when the moment is over.
    pub fn left(self, arrival: Timestamp) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Until(moment) => {
                let left = moment.since(arrival).as_millis().div_ceil(1000);
                (moment >= arrival).then(|| Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX)))
            }
        }
    }
}

/// The form of RFC 3339 section 5.6, which is narrower than what date parsers take.
fn is_date_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let fits = |(octet, form): (u8, &u8)| match form {
        b'0' => octet.is_ascii_digit(),
        form => octet.eq_ignore_ascii_case(form),
    };
    let Some((moment, rest)) = text.as_bytes().split_at_checked(FORM.len()) else { return false };
    let rest = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|octet| octet.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let is_zone = match rest {
        b"Z" | b"z" => true,
        [b'+' | b'-', zone @ ..] => zone.len() == 5 && zone.iter().copied().zip(b"00:00").all(fits),
        _ => false,
    };
    is_zone && moment.iter().copied().zip(FORM).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holdfor_is_a_plain_number() {
        let read = |text| Hold::read_for(Some(text));
        assert_eq!(read("86400"), Ok(Hold::For(Duration::from_secs(86_400))));
        for bad in ["", "-1", "+1", "1.5", "1d", "1000000000"] {
            assert_eq!(read(bad), Err(replies::HOLDFOR_VALUE), "{bad}");
        }
        assert_eq!(Hold::read_for(None), Err(replies::HOLDFOR_VALUE));
    }

    #[test]
    fn holduntil_is_a_moment_of_rfc_3339() {
        let moment = Hold::Until(Timestamp::from_millis(1_795_318_387_000));
        for good in [
            "2026-11-22T03:33:07Z",
            "2026-11-22t03:33:07z",
            "2026-11-22T04:33:07+01:00",
            "2026-11-22T03:33:07.000Z",
        ] {
            assert_eq!(Hold::read_until(Some(good)), Ok(moment), "{good}");
        }
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22T03:33Z",
            "2026-11-22T03:33:07",
            "2026-11-22_03:33:07Z",
            "2026-13-22T03:33:07Z",
            "2026-11-22T03:33:07.Z",
            "2026-11-22T03:33:07Z[UTC]",
            "2026-11-22T03:33:07+0100",
            "1969-12-31T23:59:59Z",
            "tomorrow",
        ] {
            assert_eq!(Hold::read_until(Some(bad)), Err(replies::HOLDUNTIL_VALUE), "{bad}");
        }
    }

    #[test]
    fn what_is_left_is_counted_from_the_arrival() {
        let (minute, noon) = (Duration::from_secs(60), Timestamp::from_millis(1_000_000));
        assert_eq!(Hold::For(minute).left(noon), Some(minute));
        assert_eq!(Hold::Until(noon + minute).left(noon), Some(minute));
        assert_eq!(Hold::Until(noon + Duration::from_millis(1)).left(noon), Some(Duration::from_secs(1)));
        assert_eq!(Hold::Until(noon).left(noon), Some(Duration::ZERO));
        assert_eq!(Hold::Until(noon).left(noon + Duration::from_millis(1)), None);
    }
}
