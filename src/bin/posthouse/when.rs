//! Moments on the command line, for commands that ask a running relay.
//!
//! Contract: a moment, a day, or how long ago; a relay may have a clock of its own, so that how long ago counts from its now.
//! Not here: the tracking log, which is read without its relay (`track`).

use std::time::Duration;

use posthouse::clock::Timestamp;

use crate::track::moment;

/// As it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Ago(Duration),
    At(Timestamp),
}

pub fn when(text: &str) -> Result<When, String> {
    match humantime::parse_duration(text) {
        Ok(ago) => Ok(When::Ago(ago)),
        Err(_) => moment(text).map(When::At),
    }
}

impl When {
    /// By a clock that says that it is `now`.
    pub fn by(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now - ago,
            Self::At(at) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_counts_from_the_relays_now() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        assert_eq!(when("2h").unwrap().by(now), now - Duration::from_secs(7200));
        assert_eq!(when("2026-11-22").unwrap().by(now), "2026-11-22T00:00:00Z".parse().unwrap());
        assert!(when("yesterday").is_err());
    }
}
