//! One expectation: an optional time, and words that occur in the line in this order.
//!
//! Contract: a word of the pattern fits a word of the line when they are alike but for case and for punctuation
//! around them; other words may stand between. An enhanced status may leave numbers open: `4.4.x`. `...` alone is any
//! number of lines.
//! Not here: lists of them (`alignment`), where they are read (`read`).

use std::time::Duration;

use super::moment::{self, Moment};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Since the start; nothing for what is only true at the end.
    pub at: Option<Duration>,
    pub text: String,
    /// Of a notice: what its reader reads, on one line.
    pub body: Option<String>,
}

impl Line {
    pub fn new(at: impl Into<Option<Duration>>, text: impl Into<String>) -> Self {
        Self { at: at.into(), text: text.into(), body: None }
    }

    /// `5m 2s`, with milliseconds where they matter; empty where there is no time.
    pub fn time(&self, with_millis: bool) -> String {
        self.at.map(|at| moment::show(at, with_millis)).unwrap_or_default()
    }

    /// As it may stand in a list of expectations.
    pub fn written(&self) -> String {
        match self.at {
            Some(at) => format!("{} {}", moment::show(at, false), self.text).trim_end().to_owned(),
            None => self.text.clone(),
        }
    }
}

/// What one line shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    pub at: Option<Moment>,
    pub words: Vec<String>,
    /// Of a notice: what its text must say.
    pub says: Vec<String>,
}

/// A member of an ordered list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Line(Pattern),
    /// `...`: any number of lines.
    Any,
}

impl Step {
    pub const ANY: &str = "...";

    /// The error is a text that was meant to be a time.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == Self::ANY { Ok(Self::Any) } else { Pattern::parse(text).map(Self::Line) }
    }
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (at, taken) = match Moment::before(&words)? {
            Some((moment, taken)) => (Some(moment), taken),
            None => (None, 0),
        };
        // Amid a line it says nothing: other words may stand between any two.
        let words = words[taken..].iter().filter(|word| **word != Step::ANY);
        Ok(Self { at, words: words.map(|word| (*word).to_owned()).collect(), says: Vec::new() })
    }

    pub fn fits(&self, line: &Line) -> bool {
        self.time_fits(line) && self.words_fit(line) && self.unsaid(line).is_none()
    }

    pub fn time_fits(&self, line: &Line) -> bool {
        self.at.as_ref().is_none_or(|moment| line.at.is_some_and(|at| moment.fits(at)))
    }

    pub fn words_fit(&self, line: &Line) -> bool {
        let mut words = line.text.split_whitespace();
        self.words.iter().all(|wanted| words.any(|word| word_fits(bare(wanted), bare(word))))
    }

    /// What the line's text should say and does not.
    pub fn unsaid(&self, line: &Line) -> Option<&str> {
        let says = |words: &str| line.body.as_deref().is_some_and(|body| body.contains(words));
        self.says.iter().map(String::as_str).find(|words| !says(words))
    }

    pub fn time(&self) -> String {
        self.at.as_ref().map(Moment::show).unwrap_or_default()
    }

    /// All but the time.
    pub fn text(&self) -> String {
        let says = self.says.iter().map(|words| format!("saying {words:?}"));
        let parts: Vec<String> = self.words.iter().cloned().chain(says).collect();
        if parts.is_empty() { "(anything)".to_owned() } else { parts.join(" ") }
    }

    pub fn written(&self) -> String {
        match &self.at {
            Some(at) if self.words.is_empty() && self.says.is_empty() => at.show(),
            Some(at) => format!("{} {}", at.show(), self.text()),
            None => self.text(),
        }
    }
}

fn word_fits(wanted: &str, word: &str) -> bool {
    wanted.eq_ignore_ascii_case(word) || status_fits(wanted, word)
}

/// Whether `wanted` is an enhanced status with numbers left open, such as `4.4.x` or `5.x.x`, and `word` one of those.
fn status_fits(wanted: &str, word: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (wanted, word): (Vec<&str>, Vec<&str>) = (wanted.split('.').collect(), word.split('.').collect());
    wanted.len() == 3
        && word.len() == 3
        && number(wanted[0])
        && std::iter::zip(wanted, word)
            .all(|(wanted, part)| number(part) && (wanted == part || wanted.eq_ignore_ascii_case("x")))
}

/// Without the punctuation around it; a word of nothing else stays.
fn bare(word: &str) -> &str {
    let trimmed = word.trim_matches(|c: char| ",;:.!?()<>[]'\"".contains(c));
    if trimmed.is_empty() { word } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, line: &str) -> bool {
        Pattern::parse(pattern).unwrap().fits(&Line::new(Duration::from_secs(60), line))
    }

    #[test]
    fn words_must_occur_in_their_order_with_any_others_between() {
        let line = "DEFER bob@example.com main 450 4.2.0 greylisted, come back";
        for good in
            ["", "1m", "DEFER 450 4.2.0", "1m defer Main come", "450 greylisted come", "DEFER ... back"]
        {
            assert!(fits(good, line), "{good}");
        }
        for bad in ["SEND", "2m DEFER", "450 DEFER", "DEFER 45", "4.2", "450 450"] {
            assert!(!fits(bad, line), "{bad}");
        }
        assert!(fits("<> -> alice@example.org", "<> -> <alice@example.org>"));
    }

    #[test]
    fn numbers_of_a_status_may_be_left_open_but_not_its_class() {
        let line = "main 4.4.2 closed by 192.0.2.10";
        for good in ["4.4.x", "main 4.x.x closed", "4.4.2", "4.X.2"] {
            assert!(fits(good, line), "{good}");
        }
        for bad in ["5.x.x", "4.5.x", "x.x.x", "4.4", "4.x", "4.4.y"] {
            assert!(!fits(bad, line), "{bad}");
        }
    }

    #[test]
    fn a_time_does_not_fit_what_has_none() {
        assert!(!Pattern::parse("1m").unwrap().fits(&Line::new(None, "waiting")));
    }

    #[test]
    fn a_text_is_searched_for_each_of_its_words() {
        let mut line = Line::new(None, "alice@example.org delayed");
        let mut pattern = Pattern::parse("delayed").unwrap();
        pattern.says = vec!["keep trying".into(), "will be told".into()];
        assert_eq!(pattern.unsaid(&line), Some("keep trying"));
        line.body = Some("It will keep trying.".into());
        assert_eq!(pattern.unsaid(&line), Some("will be told"));
        line.body = Some("It will keep trying. You will be told.".into());
        assert!(pattern.fits(&line));
    }
}
