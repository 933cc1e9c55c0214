//! Times since the start of a story, as they are expected and as they are shown.
//!
//! Contract: `5m 2s` is compared to the second, rounded down; `4m..6m` holds from the first to the second, both
//! included; a time with a part of a second (`5m 2s 120ms`) is exact to the millisecond.
//! Not here: what happens at that time (`pattern`, `lines`).

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// When something is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub from: Duration,
    /// The same as `from` where it is no range.
    pub to: Duration,
}

impl Moment {
    /// The time that stands before all other words, and how many words it takes; nothing where none stands there.
    /// The error says what was meant to be a time.
    pub fn before(words: &[&str]) -> Result<Option<(Self, usize)>, String> {
        let taken = words.iter().take_while(|word| **word == ".." || looks_like(word)).count();
        if taken == 0 {
            return match words.first() {
                Some(word) if is_bare(word) => Err((*word).to_owned()),
                _ => Ok(None),
            };
        }
        let text = words[..taken].join(" ");
        Self::parse(&text).map(|moment| Some((moment, taken))).ok_or(text)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let time = |text: &str| humantime::parse_duration(text.trim()).ok();
        match text.split_once("..") {
            Some((from, to)) => {
                let (from, to) = (time(from)?, time(to)?);
                (from <= to).then_some(Self { from, to })
            }
            None => time(text).map(|at| Self { from: at, to: at }),
        }
    }

    /// Whether it says parts of a second.
    pub fn is_exact(&self) -> bool {
        self.from.subsec_nanos() != 0 || self.to.subsec_nanos() != 0
    }

    pub fn fits(&self, at: Duration) -> bool {
        let at = if self.is_exact() { at } else { Duration::from_secs(at.as_secs()) };
        (self.from..=self.to).contains(&at)
    }

    /// The last moment that fits.
    pub fn latest(&self) -> Duration {
        if self.is_exact() { self.to } else { self.to.saturating_add(SECOND - Duration::from_millis(1)) }
    }

    pub fn show(&self) -> String {
        if self.from == self.to {
            show(self.from, true)
        } else {
            format!("{}..{}", show(self.from, true), show(self.to, true))
        }
    }
}

/// `1d 20h`, `5m 2s`, `0s`; milliseconds only where they are asked for and there are any.
pub(super) fn show(at: Duration, with_millis: bool) -> String {
    let seconds = at.as_secs();
    let millis = if with_millis { u64::from(at.subsec_millis()) } else { 0 };
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (millis, "ms"),
    ];
    let shown: Vec<String> =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

/// `5m`, `4m..6m`, `2h30m..`: numbers, each with letters behind it.
fn looks_like(word: &str) -> bool {
    word.split("..").all(|side| {
        side.is_empty()
            || (side.starts_with(|c: char| c.is_ascii_digit())
                && side.ends_with(|c: char| c.is_ascii_alphabetic())
                && side.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }) && word.bytes().any(|byte| byte.is_ascii_digit())
}

/// A number without a unit that is no code of a reply either.
fn is_bare(word: &str) -> bool {
    word.parse::<u64>().is_ok_and(|number| !(200..600).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Moment, usize)>, String> {
        Moment::before(&text.split_whitespace().collect::<Vec<_>>())
    }

    fn fits(text: &str, millis: u64) -> bool {
        read(text).unwrap().unwrap().0.fits(Duration::from_millis(millis))
    }

    #[test]
    fn a_time_stands_before_the_words_and_takes_all_its_parts() {
        assert_eq!(read("5m 2s main 450").unwrap().unwrap().1, 2);
        assert_eq!(read("4m 30s..6m SEND").unwrap().unwrap().1, 2);
        assert_eq!(read("4m .. 6m SEND").unwrap().unwrap().1, 3);
        assert_eq!(read("main 5m"), Ok(None));
        assert_eq!(read("450 4.2.0"), Ok(None));
        assert_eq!(read(""), Ok(None));
    }

    #[test]
    fn what_was_meant_as_a_time_and_is_none_is_not_taken_for_a_word() {
        for bad in ["5x main", "30 main", "6m..4m SEND", "6m.. SEND"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_whole_second_holds_until_the_next() {
        assert!(fits("5m 2s", 302_000) && fits("5m 2s", 302_999));
        assert!(!fits("5m 2s", 301_999) && !fits("5m 2s", 303_000));
        assert!(fits("5m 2s 120ms", 302_120) && !fits("5m 2s 120ms", 302_121));
        assert!(fits("4m..6m", 240_000) && fits("4m..6m", 360_999) && !fits("4m..6m", 361_000));
    }

    #[test]
    fn times_are_shown_as_they_are_written() {
        for text in ["0s", "5m 2s", "1d 20h", "2d", "120ms", "4m..6m"] {
            assert_eq!(read(text).unwrap().unwrap().0.show(), text);
        }
        assert_eq!(show(Duration::from_millis(302_120), false), "5m 2s");
    }
}
