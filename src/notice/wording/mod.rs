//! The text of a notice: what is said in it, laid out for a plain reader.
//!
//! Contract: each language has a file with the same functions; this one chooses it, decides what a sender is advised
//! to do, and lays the blocks out. A new language is a new file and a new arm in each `match` on [`Language`].
//! Invariants: words of strangers arrive here printable and bounded, and stand indented in lines of their own.
//! Not here: encodings (`encoding`), the part for machines (`status`).

pub(super) mod english;
pub(super) mod japanese;

use super::encoding::{printable, shortened};
use super::report::{Kind, Report};
use super::{Language, Reported};
use crate::mail::{Outcome, Verdict};

/// A piece of the text.
pub(super) enum Block {
    Prose(String),
    /// A recipient, his server's last words, and what he and we can do about it.
    Recipient {
        address: String,
        words: String,
        advice: Option<String>,
    },
}

/// What a sender can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// We gave up on a temporary trouble: it may be over one day.
    SendAgainLater,
    /// Given up, and at least one attempt ended without anybody knowing how.
    AskWhetherItArrived,
    CheckAddress,
    MailboxFull,
    MakeSmaller,
    RefusedByPolicy,
    AskRecipientOrPostmaster,
}

impl Advice {
    fn of(outcome: Option<&Outcome>) -> Self {
        let Some(outcome) = outcome else { return Self::SendAgainLater };
        match outcome.verdict {
            Verdict::Uncertain => return Self::AskWhetherItArrived,
            Verdict::Deferred => return Self::SendAgainLater,
            Verdict::Bounced | Verdict::Delivered { .. } => {}
        }
        let status = outcome.status.to_string();
        // RFC 3463 sections 3.2 to 3.8; 5.1.10 is RFC 7505 (the domain takes no mail).
        match status.split_once('.').map_or("", |(_, rest)| rest) {
            "1.0" | "1.1" | "1.2" | "1.3" | "1.6" | "1.10" | "2.1" => Self::CheckAddress,
            "2.2" => Self::MailboxFull,
            "2.3" | "3.4" => Self::MakeSmaller,
            rest if rest.starts_with("7.") => Self::RefusedByPolicy,
            _ => Self::AskRecipientOrPostmaster,
        }
    }
}

/// Characters of a server's last words in the text; the part for machines has more of them.
const WORDS_MAX: usize = 500;
/// Columns of a line, where a blank permits to end it.
const WIDTH: usize = 76;

impl Language {
    /// The display name in From.
    pub(super) fn sender_name(self) -> &'static str {
        match self {
            Self::English => english::SENDER_NAME,
            Self::Japanese => japanese::SENDER_NAME,
        }
    }

    /// What stands before the original's subject.
    pub(super) fn subject_prefix(self, kind: Kind) -> &'static str {
        match self {
            Self::English => english::subject_prefix(kind),
            Self::Japanese => japanese::subject_prefix(kind),
        }
    }

    /// The text for people, its lines ending in CRLF. `subject` is the original's, as people read it.
    pub(super) fn text(self, report: &Report<'_>, subject: Option<&str>) -> String {
        let blocks = match self {
            Self::English => english::blocks(report, subject),
            Self::Japanese => japanese::blocks(report, subject),
        };
        blocks.iter().map(|block| self.laid_out(block)).collect::<Vec<_>>().join("\r\n")
    }

    fn laid_out(self, block: &Block) -> String {
        match block {
            Block::Prose(prose) => self.lines("", prose),
            Block::Recipient { address, words, advice } => {
                let mut text = self.lines("    ", address) + &self.lines("        ", words);
                if let Some(advice) = advice {
                    text.push_str("\r\n");
                    text.push_str(&self.lines("    ", advice));
                }
                text
            }
        }
    }

    /// Japanese has no blanks to break lines at that would not tear a date or a number: its lines stay whole.
    fn lines(self, indent: &str, text: &str) -> String {
        if self == Self::Japanese {
            return format!("{indent}{text}\r\n");
        }
        let mut lines = String::new();
        let mut line = indent.to_owned();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let empty = line.len() == indent.len();
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push_str(&line);
                lines.push_str("\r\n");
                line = indent.to_owned();
            } else if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines + &line + "\r\n"
    }
}

/// A block for each recipient: `words` says an outcome in a language, `advice` what to do.
fn recipients(
    report: &Report<'_>,
    words: impl Fn(Option<&Outcome>) -> String,
    advice: impl Fn(&Reported<'_>, Advice) -> Option<String>,
) -> impl Iterator<Item = Block> {
    report.recipients.iter().map(move |reported| Block::Recipient {
        address: printable(reported.recipient.address.as_str()),
        words: shortened(&printable(&words(reported.outcome)), WORDS_MAX),
        advice: advice(reported, Advice::of(reported.outcome)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::EnhancedStatus;

    #[test]
    fn advice_follows_the_enhanced_status_and_the_verdict() {
        let of = |verdict, status: &str| {
            let status: EnhancedStatus = status.parse().unwrap();
            Advice::of(Some(&Outcome::local(verdict, status, "reason")))
        };
        for (status, advice) in [
            ("5.1.1", Advice::CheckAddress),
            ("5.1.10", Advice::CheckAddress),
            ("5.2.2", Advice::MailboxFull),
            ("5.3.4", Advice::MakeSmaller),
            ("5.7.1", Advice::RefusedByPolicy),
            ("5.7.26", Advice::RefusedByPolicy),
            ("5.0.0", Advice::AskRecipientOrPostmaster),
            ("5.1.7", Advice::AskRecipientOrPostmaster),
        ] {
            assert_eq!(of(Verdict::Bounced, status), advice, "{status}");
        }
        assert_eq!(of(Verdict::Deferred, "4.7.1"), Advice::SendAgainLater);
        assert_eq!(of(Verdict::Uncertain, "4.4.2"), Advice::AskWhetherItArrived);
        assert_eq!(Advice::of(None), Advice::SendAgainLater);
    }

    #[test]
    fn english_lines_break_at_blanks_and_japanese_ones_stay_whole() {
        let prose = "word ".repeat(60);
        let english = Language::English.lines("    ", &prose);
        assert!(english.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
        assert_eq!(Language::Japanese.lines("", "配信 を").lines().count(), 1);
    }
}
