//! Words of a rule with their places, and the values that are written in one or a few of them.
//!
//! Contract: every fault names the bytes of the rule's text that are wrong.
//! Not here: which words follow each other (`head`, `tail`).

use std::ops::Range;
use std::time::Duration;

use super::super::rule::RuleError;

/// A word and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Word<'a> {
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    pub fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    pub fn begins_with_digit(&self) -> bool {
        self.text.starts_with(|first: char| first.is_ascii_digit())
    }

    pub fn fault(&self, problem: impl Into<String>) -> RuleError {
        RuleError::new(self.range(), problem)
    }

    /// Without the blanks around it.
    pub fn trim(&self) -> Word<'a> {
        let text = self.text.trim_start();
        Word { text: text.trim_end(), at: self.at + self.text.len() - text.len() }
    }

    /// What stands before and behind the byte `offset` of this text, that byte left out.
    pub fn split_around(&self, offset: usize) -> (Word<'a>, Word<'a>) {
        let behind = offset + 1;
        (
            Word { text: &self.text[..offset], at: self.at },
            Word { text: &self.text[behind..], at: self.at + behind },
        )
    }

    /// The first `length` bytes, and the rest.
    pub fn split_at(&self, length: usize) -> (Word<'a>, Word<'a>) {
        let (before, behind) = self.text.split_at(length);
        (Word { text: before, at: self.at }, Word { text: behind, at: self.at + length })
    }

    /// The words of this text; blanks within quotes separate none.
    pub fn words(&self) -> Vec<Word<'a>> {
        let mut words = Vec::new();
        let (mut start, mut quoted) = (None, false);
        for (offset, character) in self.text.char_indices() {
            quoted ^= character == '"';
            match (start, character.is_whitespace() && !quoted) {
                (None, false) => start = Some(offset),
                (Some(from), true) => {
                    words.push(Word { text: &self.text[from..offset], at: self.at + from });
                    start = None;
                }
                _ => {}
            }
        }
        words.extend(start.map(|from| Word { text: &self.text[from..], at: self.at + from }));
        words
    }

    /// A whole number from 1 on.
    pub fn number(&self) -> Result<u64, RuleError> {
        let digits = !self.text.is_empty() && self.text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(self
                .fault(format!("\"{}\" is no number", self.text))
                .expected("a whole number from 1 on"));
        }
        match self.text.parse() {
            Ok(0) => Err(self.fault("0 would be never, or always").expected("a whole number from 1 on")),
            Ok(number) => Ok(number),
            Err(_) => Err(self.fault("the number is too large").expected(format!("at most {}", u64::MAX))),
        }
    }

    /// A span of time as people write it: `5m`, `2h 30m`.
    pub fn duration(&self) -> Result<Duration, RuleError> {
        const EXPECTED: &str = "a duration such as 30s, 5m or \"2h 30m\"";
        use humantime::DurationError::*;
        let wrong = |from: usize, to: usize, problem: String| {
            RuleError::new(self.at + from..self.at + to, problem).expected(EXPECTED)
        };
        let all = self.text.len();
        match humantime::parse_duration(self.text) {
            Ok(duration) if duration.is_zero() => {
                Err(self.fault("the duration is zero").expected("a duration above zero"))
            }
            Ok(duration) => Ok(duration),
            Err(Empty) => Err(wrong(0, all, "a duration is missing".into())),
            Err(UnknownUnit { unit, value, .. }) if unit.is_empty() => {
                Err(wrong(0, all, format!("\"{}\" has no unit of time", self.text))
                    .hint(format!("write \"{value}s\" or \"{value}m\"")))
            }
            Err(UnknownUnit { start, end, unit, .. }) => {
                Err(wrong(start, end, format!("\"{unit}\" is no unit of time"))
                    .hint("units are ms, s, m, h, days, weeks"))
            }
            Err(NumberOverflow) => Err(wrong(0, all, "the duration is too long or too fine".into())),
            Err(NumberExpected(_) | InvalidCharacter(_)) => {
                Err(wrong(0, all, format!("\"{}\" is no duration", self.text)))
            }
        }
    }
}

/// As a list in a sentence: `"a", "b"`.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// The word that was probably meant.
pub(in super::super) fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let nearness = |known: &str| {
        let known = known.to_ascii_lowercase();
        // Two letters that changed places make a short word look like another.
        let one_slip = word.len() > 2 && strsim::damerau_levenshtein(&word, &known) <= 1;
        strsim::jaro_winkler(&word, &known).max(if one_slip { 0.9 } else { 0.0 })
    };
    let near = words.iter().map(|known| (nearness(known), *known));
    near.filter(|(nearness, _)| *nearness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
