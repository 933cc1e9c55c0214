//! The first place where what came is not what was expected, and what came instead and when.
//!
//! Contract: a [`Difference`] is shown to people by `Display` and to programs as JSON; both say the same. Its rows begin
//! a few lines before the first difference and end a few lines behind it.
//! Not here: finding the place (`alignment`).

use std::fmt;

use serde::Serialize;

use super::alignment::{self, Parting, Row as Pair};
use super::pattern::{Line, Pattern, Step};

/// Lines that fit, before and behind what does not.
const CONTEXT: usize = 3;
/// Of a notice's text that does not say what it should, so many characters are shown.
const BODY_MAX: usize = 500;

/// Where one list of a story differs from what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What was compared: `attempts of bob@example.com`.
    pub subject: String,
    /// The first thing that differs: `the third is at 3m 2s, expected at 3m`.
    pub summary: String,
    /// Expected and come around that place, in order.
    pub rows: Vec<Row>,
}

/// One line of the listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub mark: Mark,
    /// Since the start of the story; empty where there is none.
    pub at: String,
    pub text: String,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It came as it was expected.
    Same,
    /// It was expected, and something else or nothing came; shown by `-`.
    Expected,
    /// It came, and something else or nothing was expected; shown by `+`.
    Came,
    /// Lines that are not shown.
    Dots,
}

/// Compares one list; `None` where all is as expected.
pub(super) fn difference(subject: &str, steps: &[Step], lines: &[Line]) -> Option<Difference> {
    let parting = alignment::find(steps, lines)?;
    let pairs = alignment::align(steps, lines, parting);
    let list = List { steps, lines };
    Some(Difference {
        subject: subject.to_owned(),
        summary: list.summary(parting, &pairs),
        rows: list.rows(parting, &pairs),
    })
}

struct List<'a> {
    steps: &'a [Step],
    lines: &'a [Line],
}

impl List<'_> {
    fn pattern(&self, step: usize) -> &Pattern {
        match &self.steps[step] {
            Step::Line(pattern) => pattern,
            Step::Any => unreachable!("any lines fit dots"),
        }
    }

    fn summary(&self, parting: Parting, pairs: &[Pair]) -> String {
        let behind_dots = parting.step > 0 && self.steps.get(parting.step - 1) == Some(&Step::Any);
        let first = pairs.iter().find(|pair| !matches!(pair, Pair::Same(_) | Pair::Any(_)));
        match first {
            Some(Pair::Other(step, line)) => {
                let (pattern, came) = (self.pattern(*step), &self.lines[*line]);
                let nearest = if behind_dots { "nothing behind the \"...\" fits; the nearest: " } else { "" };
                format!("{nearest}{}", other(pattern, came, *line))
            }
            Some(Pair::Missing(step)) => {
                let pattern = self.pattern(*step);
                let before = pairs.iter().take_while(|pair| *pair != &Pair::Missing(*step));
                let last =
                    before.filter_map(|pair| if let Pair::Same(line) = pair { Some(*line) } else { None });
                let last = last.last().or_else(|| parting.line.checked_sub(1));
                self.missing(pattern, last)
            }
            Some(Pair::Extra(line)) => {
                let came = &self.lines[*line];
                format!("the {} is not expected: {:?}", ordinal(*line), came.written())
            }
            _ => "it ends otherwise".to_owned(),
        }
    }

    fn missing(&self, pattern: &Pattern, last: Option<usize>) -> String {
        let expected = pattern.written();
        match last {
            _ if self.lines.is_empty() => format!("nothing came, expected {expected:?}"),
            Some(last) => {
                let at = Some(self.lines[last].time(false)).filter(|at| !at.is_empty());
                let at = at.map(|at| format!(", at {at}")).unwrap_or_default();
                format!("behind the {}{at}, there is no {expected:?}", ordinal(last))
            }
            None => format!("it does not begin with {expected:?}"),
        }
    }

    fn rows(&self, parting: Parting, pairs: &[Pair]) -> Vec<Row> {
        let first = parting.line.saturating_sub(CONTEXT);
        let mut rows: Vec<Row> = Vec::new();
        if first > 0 {
            rows.push(dots(first));
        }
        rows.extend(self.lines[first..parting.line].iter().map(|line| came(Mark::Same, line, false)));
        // The nearest line behind dots may lie far behind what was found before it.
        let mut same = 0;
        let mut shown = 0;
        for pair in pairs {
            same = if matches!(pair, Pair::Same(_)) { same + 1 } else { 0 };
            let differs = rows.iter().any(|row| matches!(row.mark, Mark::Expected | Mark::Came));
            if differs && same > CONTEXT {
                break;
            }
            self.show(pair, &mut rows);
            shown += match pair {
                Pair::Any(count) => *count,
                Pair::Missing(_) => 0,
                _ => 1,
            };
        }
        let rest = self.lines.len() - parting.line - shown;
        if rest > 0 {
            rows.push(dots(rest));
        }
        rows
    }

    fn show(&self, pair: &Pair, rows: &mut Vec<Row>) {
        match *pair {
            Pair::Same(line) => rows.push(came(Mark::Same, &self.lines[line], false)),
            Pair::Any(count) => rows.extend((count > 0).then(|| dots(count))),
            Pair::Missing(step) => rows.push(expected(self.pattern(step))),
            Pair::Extra(line) => rows.push(came(Mark::Came, &self.lines[line], false)),
            Pair::Other(step, line) => {
                let (pattern, line) = (self.pattern(step), &self.lines[line]);
                rows.push(expected(pattern));
                rows.push(came(Mark::Came, line, pattern.at.as_ref().is_some_and(|at| at.is_exact())));
                if let Some(body) = line.body.as_ref().filter(|_| pattern.unsaid(line).is_some()) {
                    let text = format!("saying {:?}", shortened(body));
                    rows.push(Row { mark: Mark::Came, at: String::new(), text });
                }
            }
        }
    }
}

/// What is wrong with the line that came.
fn other(pattern: &Pattern, came: &Line, index: usize) -> String {
    let exact = pattern.at.as_ref().is_some_and(|at| at.is_exact());
    let (ordinal, at) = (ordinal(index), came.time(exact));
    if !pattern.words_fit(came) {
        let at = if at.is_empty() { at } else { format!(", at {at},") };
        return format!("the {ordinal}{at} is {:?}, expected {:?}", came.text, pattern.written());
    }
    if !pattern.time_fits(came) {
        let at = if at.is_empty() { "without a time".to_owned() } else { format!("at {at}") };
        return format!("the {ordinal} is {at}, expected at {}", pattern.time());
    }
    match (pattern.unsaid(came), &came.body) {
        (Some(words), Some(_)) => format!("the {ordinal}, at {at}, does not say {words:?}"),
        _ => format!("the text of the {ordinal}, at {at}, is not known, as no upstream has kept it"),
    }
}

fn expected(pattern: &Pattern) -> Row {
    Row { mark: Mark::Expected, at: pattern.time(), text: pattern.text() }
}

fn came(mark: Mark, line: &Line, exact: bool) -> Row {
    Row { mark, at: line.time(exact), text: line.text.clone() }
}

fn dots(count: usize) -> Row {
    let lines = if count == 1 { "line" } else { "lines" };
    Row { mark: Mark::Dots, at: "...".to_owned(), text: format!("({count} {lines})") }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(BODY_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// From 0 on: `first`, `13th`.
fn ordinal(index: usize) -> String {
    const WORDS: [&str; 12] = [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
        "eleventh", "twelfth",
    ];
    if let Some(word) = WORDS.get(index) {
        return (*word).to_owned();
    }
    let number = index + 1;
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.summary)?;
        let width = self.rows.iter().map(|row| row.at.len()).max().unwrap_or(0);
        for row in &self.rows {
            let mark = match row.mark {
                Mark::Same | Mark::Dots => ' ',
                Mark::Expected => '-',
                Mark::Came => '+',
            };
            let line = format!("  {mark} {:width$}  {}", row.at, row.text);
            write!(f, "\n{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn compare(expected: &[&str], came: &[(u64, &str)]) -> Difference {
        let steps: Vec<Step> = expected.iter().map(|text| Step::parse(text).unwrap()).collect();
        let lines: Vec<Line> =
            came.iter().map(|(at, text)| Line::new(Duration::from_secs(*at), *text)).collect();
        difference("attempts of bob@example.com", &steps, &lines).expect("they differ")
    }

    #[test]
    fn another_time_is_shown_beside_the_one_expected() {
        let difference = compare(
            &["0s main 450", "1m", "3m", "7m"],
            &[(0, "main 450 4.2.0 later"), (60, "main 450"), (182, "main 450"), (420, "main 250 ok")],
        );
        let text = "\
attempts of bob@example.com: the third is at 3m 2s, expected at 3m
    0s     main 450 4.2.0 later
    1m     main 450
  - 3m     (anything)
  + 3m 2s  main 450
    7m     main 250 ok";
        assert_eq!(difference.to_string(), text);
    }

    #[test]
    fn the_summary_says_what_leads_to_the_cause() {
        let came = [(0, "main 450"), (60, "main 250")];
        for (expected, summary) in [
            (
                &["0s main 450", "1m main 550"][..],
                "the second, at 1m, is \"main 250\", expected \"1m main 550\"",
            ),
            (&["0s", "1m", "2m main"], "behind the second, at 1m, there is no \"2m main\""),
            (&["0s", "30s spare", "1m main"], "behind the first, at 0s, there is no \"30s spare\""),
            (&["0s"], "the second is not expected: \"1m main 250\""),
            (&[], "the first is not expected: \"0s main 450\""),
            (
                &["...", "5m 250"],
                "nothing behind the \"...\" fits; the nearest: the second is at 1m, expected at 5m",
            ),
            (&["1s..59s 450", "1m"], "the first is at 0s, expected at 1s..59s"),
            (&["0s", "1m 120ms"], "the second is at 1m, expected at 1m 120ms"),
        ] {
            assert_eq!(compare(expected, &came).summary, summary);
        }
        assert_eq!(compare(&["0s 450"], &[]).summary, "nothing came, expected \"0s 450\"");
    }

    #[test]
    fn a_long_list_is_shown_around_the_place_only() {
        let came: Vec<(u64, &str)> = (0..100).map(|at| (at, "main 450")).collect();
        let mut expected = vec!["450"; 100];
        expected[50] = "250";
        let difference = compare(&expected, &came);
        let marks: Vec<Mark> = difference.rows.iter().map(|row| row.mark).collect();
        use Mark::{Came, Dots, Expected, Same};
        assert_eq!(marks, [Dots, Same, Same, Same, Expected, Came, Same, Same, Same, Dots]);
        assert_eq!(difference.rows[0].text, "(47 lines)");
        assert_eq!(difference.rows[9].text, "(46 lines)");
        assert!(difference.summary.starts_with("the 51st, at 50s, is"), "{}", difference.summary);
    }

    #[test]
    fn programs_are_told_the_same() {
        let difference = compare(&["0s"], &[(1, "main")]);
        assert_eq!(
            serde_json::to_string(&difference).unwrap(),
            "{\"subject\":\"attempts of bob@example.com\",\"summary\":\"the first is at 1s, expected at 0s\",\
             \"rows\":[{\"mark\":\"expected\",\"at\":\"0s\",\"text\":\"(anything)\"},\
             {\"mark\":\"came\",\"at\":\"1s\",\"text\":\"main\"}]}"
        );
    }
}
