//! `[notices]`: what senders are told, in which language and how fast.
//!
//! Contract: a delay notice that would come after the end is a warning, because it never comes.
//! Not here: the words (`notice`).

use std::time::Duration;

use super::Retry;
use crate::config::quantity::{self, Mismatch};
use crate::config::section::Section;
use crate::notice::{Language, LanguageChoice};
use crate::queue::{self, Rate};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notices {
    /// After which age the sender is told of the delay; nothing: never. The preset's where it was not given.
    pub delay_after: Option<Duration>,
    pub language: LanguageChoice,
    /// How fast notices are written, and messages given up, whatever falls due at once.
    pub rate: Rate,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            delay_after: Retry::default().preset.retry().delay_after,
            language: LanguageChoice::default(),
            rate: queue::Settings::default().notices,
        }
    }
}

const LANGUAGES: [(&str, LanguageChoice); 3] = [
    ("en", LanguageChoice::Always(Language::English)),
    ("ja", LanguageChoice::Always(Language::Japanese)),
    ("auto", LanguageChoice::Auto),
];

impl Notices {
    pub(crate) fn read(mut section: Section<'_>, retry: &Retry) -> Self {
        let given = section.get("delay_after", |value| match value.text() {
            Some("never") => Ok(None),
            _ => quantity::duration(value).map(Some).map_err(|mismatch| Mismatch {
                expected: format!("{}, or \"never\"", mismatch.expected),
                ..mismatch
            }),
        });
        let delay_after = given.unwrap_or(retry.preset.retry().delay_after);
        let language = section.word("language", &LANGUAGES).unwrap_or_default();
        let rate = section.get("rate", quantity::rate).unwrap_or(Self::default().rate);
        if let Some(delay) = delay_after
            && delay >= retry.expire_after
        {
            let (delay, end) =
                (humantime::format_duration(delay), humantime::format_duration(retry.expire_after));
            let problem = format!(
                "no delay notice is ever sent: it is due after {delay}, and mail expires after {end}"
            );
            let hint = "shorten delay_after in [notices], or write delay_after = \"never\"";
            section.report.warn(section.place_of("delay_after"), problem, hint);
        }
        section.done();
        Self { delay_after, language, rate }
    }
}
