//! In which language a notice speaks.
//!
//! Contract: `en` and `ja` are fixed; `auto` decides from the original. The first of these that says something
//! decides: Content-Language (the language the sender wrote in), Accept-Language (the languages he reads, by their
//! weights), a Japanese charset in Content-Type or Subject, a sender under `.jp`. Otherwise English, which most
//! administrators can read.
//! Not here: the words (`wording`). RFC 3282 (the two fields), RFC 5646 (tags).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::original::Original;
use super::wording;
use crate::clock::Timestamp;
use crate::mail::ReversePath;

/// A language that notices are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Japanese,
}

impl Language {
    /// The language tag: `en`, `ja`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// `1 day 19 hours 57 minutes`: units of zero are left out, seconds are not counted; below a minute
    /// `less than a minute`.
    pub fn duration(self, duration: Duration) -> String {
        let minutes = duration.as_secs() / 60;
        let units = [minutes / (24 * 60), minutes / 60 % 24, minutes % 60];
        match self {
            Self::English => wording::english::duration(units),
            Self::Japanese => wording::japanese::duration(units),
        }
    }

    /// A moment in UTC to the minute, as people write it: `Tue, 24 Nov 2026 23:30 UTC`.
    pub fn moment(self, moment: Timestamp) -> String {
        match self {
            Self::English => wording::english::moment(moment),
            Self::Japanese => wording::japanese::moment(moment),
        }
    }

    /// The first subtag decides: `ja-JP` is Japanese.
    fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split('-').next().unwrap_or_default();
        [Self::English, Self::Japanese]
            .into_iter()
            .find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }
}

/// The `language` of `[notices]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanguageChoice {
    Always(Language),
    /// From the original; see the head of this file.
    Auto,
}

/// English.
impl Default for LanguageChoice {
    fn default() -> Self {
        Self::Always(Language::English)
    }
}

/// A text that names no language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of en, ja, auto")]
pub struct LanguageChoiceError;

impl FromStr for LanguageChoice {
    type Err = LanguageChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "en" => Ok(Self::Always(Language::English)),
            "ja" => Ok(Self::Always(Language::Japanese)),
            "auto" => Ok(Self::Auto),
            _ => Err(LanguageChoiceError),
        }
    }
}

/// As it stands in the configuration.
impl fmt::Display for LanguageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(language) => f.write_str(language.tag()),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl LanguageChoice {
    /// The language of a notice about `original`, which came from `sender`.
    pub(super) fn decide(self, original: &Original<'_>, sender: &ReversePath) -> Language {
        match self {
            Self::Always(language) => language,
            Self::Auto => written(original)
                .or_else(|| read(original))
                .or_else(|| {
                    (has_japanese_charset(original) || is_under_jp(sender)).then_some(Language::Japanese)
                })
                .unwrap_or(Language::English),
        }
    }
}

fn written(original: &Original<'_>) -> Option<Language> {
    original.text_field("Content-Language")?.split(',').find_map(Language::of_tag)
}

fn read(original: &Original<'_>) -> Option<Language> {
    let field = original.text_field("Accept-Language")?;
    let mut best: Option<(Language, f32)> = None;
    for range in field.split(',') {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let weight = parameters.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).unwrap_or(1.0);
        let Some(language) = Language::of_tag(tag) else { continue };
        // Of equal weights the first one stands.
        if weight > 0.0 && best.is_none_or(|(_, so_far)| weight > so_far) {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

fn has_japanese_charset(original: &Original<'_>) -> bool {
    const CHARSETS: [&str; 3] = ["iso-2022-jp", "shift_jis", "euc-jp"];
    ["Content-Type", "Subject"].into_iter().filter_map(|name| original.text_field(name)).any(|value| {
        let value = value.to_ascii_lowercase();
        CHARSETS.iter().any(|charset| {
            value.contains(&format!("charset={charset}"))
                || value.contains(&format!("charset=\"{charset}"))
                || value.contains(&format!("=?{charset}"))
        })
    })
}

fn is_under_jp(sender: &ReversePath) -> bool {
    sender.address().is_some_and(|address| address.ascii_domain().to_ascii_lowercase().ends_with(".jp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    fn decided(header: &str, sender: &str) -> Language {
        let content = format!("{header}\r\n\r\nbody\r\n");
        let sender = ReversePath::from(sender.parse::<Address>().unwrap());
        LanguageChoice::Auto.decide(&Original::whole(content.as_bytes()), &sender)
    }

    #[test]
    fn auto_takes_the_first_sign_that_says_something() {
        use Language::{English, Japanese};
        for (header, sender, language) in [
            ("Subject: a", "a@example.org", English),
            ("Subject: a", "a@example.co.JP", Japanese),
            ("Content-Language: ja-JP", "a@example.org", Japanese),
            ("Content-Language: en", "a@example.co.jp", English),
            ("Content-Language: fr, ja", "a@example.org", Japanese),
            ("Content-Language: fr", "a@example.org", English),
            ("Accept-Language: en;q=0.5, ja", "a@example.org", Japanese),
            ("Accept-Language: ja;q=0.5, en;q=0.8", "a@example.co.jp", English),
            ("Accept-Language: ja;q=0", "a@example.org", English),
            ("Content-Language: en\r\nAccept-Language: ja", "a@example.org", English),
            ("Content-Type: text/plain; charset=ISO-2022-JP", "a@example.org", Japanese),
            ("Content-Type: text/plain;\r\n charset=\"shift_jis\"", "a@example.org", Japanese),
            ("Subject: =?iso-2022-jp?B?GyRCO003bhsoQg==?=", "a@example.org", Japanese),
            ("Content-Type: text/plain; charset=utf-8", "a@example.org", English),
            ("Subject: a", "a@jp.example.org", English),
        ] {
            assert_eq!(decided(header, sender), language, "{header:?} from {sender}");
        }
    }

    #[test]
    fn a_fixed_language_asks_nobody() {
        let original = Original::whole(b"Content-Language: ja\r\n\r\n");
        let english: LanguageChoice = "en".parse().unwrap();
        assert_eq!(english.decide(&original, &ReversePath::NULL), Language::English);
        assert!("fr".parse::<LanguageChoice>().is_err());
    }

    #[test]
    fn durations_have_right_plurals_and_no_zeros() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (duration, english, japanese) in [
            (minutes(43 * 60 + 57), "1 day 19 hours 57 minutes", "1 日 19 時間 57 分"),
            (minutes(2 * 24 * 60), "2 days", "2 日"),
            (minutes(24 * 60 + 1), "1 day 1 minute", "1 日 1 分"),
            (minutes(60), "1 hour", "1 時間"),
            (minutes(120) - Duration::from_millis(1), "1 hour 59 minutes", "1 時間 59 分"),
            (Duration::from_secs(59), "less than a minute", "1 分未満"),
            (Duration::ZERO, "less than a minute", "1 分未満"),
        ] {
            assert_eq!(Language::English.duration(duration), english);
            assert_eq!(Language::Japanese.duration(duration), japanese);
        }
    }

    #[test]
    fn moments_are_written_to_the_minute_in_utc() {
        let moment: Timestamp = "2026-11-24T23:30:59.999Z".parse().unwrap();
        assert_eq!(Language::English.moment(moment), "Tue, 24 Nov 2026 23:30 UTC");
        assert_eq!(Language::Japanese.moment(moment), "2026年11月24日(火) 23:30 UTC");
    }
}
