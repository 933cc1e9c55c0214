//! Rules from the command line and from script files.
//!
//! Contract: every faulty rule is shown with the place, what was expected and how to mend it, all of them at once; the
//! exit code is then 2. A script file is a rule a line; empty lines and those that begin with `#` say nothing.
//! Not here: what a rule means (`posthouse::lab::script`).

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use posthouse::lab::Rule;
use posthouse::lab::script::RuleError;

use crate::failed::Failed;
use crate::harmless::harmless;

/// Where the upstream's rules come from.
#[derive(Args, Debug, Default)]
pub struct Rules {
    /// A rule for the upstream, such as 'rcpt *@example.com: 451 4.7.1 try later, 3 times'; may be given several times
    #[arg(long, value_name = "RULE")]
    say: Vec<String>,
    /// A file with more rules, a line each; the first rule that fits decides, those of --say before those of the file
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

impl Rules {
    /// All rules; faults are printed.
    pub fn read(&self) -> Result<Vec<Rule>, Failed> {
        let mut faults = String::new();
        let mut rules = Vec::new();
        let mut take = |text: &str, place: &str| match text.parse::<Rule>() {
            Ok(rule) => rules.push(rule),
            Err(error) => faults += &shown(text, &error, place),
        };
        for text in &self.say {
            take(text, "--say");
        }
        if let Some(path) = &self.script {
            for (number, line) in script(path)?.lines().enumerate() {
                let line = line.trim_end();
                if !line.trim_start().is_empty() && !line.trim_start().starts_with('#') {
                    take(line, &format!("{}:{}", path.display(), number + 1));
                }
            }
        }
        if faults.is_empty() { Ok(rules) } else { Err(said(&faults)) }
    }
}

/// One rule; a fault is printed.
pub fn rule(text: &str) -> Result<Rule, Failed> {
    text.parse().map_err(|error| said(&shown(text, &error, "rule")))
}

fn script(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path)
        .map_err(|error| Failed::Message(format!("cannot read {}: {error}", path.display())))
}

fn said(faults: &str) -> Failed {
    eprint!("{faults}");
    Failed::Said(ExitCode::from(crate::WRONG_CONFIGURATION))
}

/// The rule with a mark under what is wrong.
fn shown(text: &str, error: &RuleError, place: &str) -> String {
    let start = text.floor_char_boundary(error.at.start.min(text.len()));
    let end = text.ceil_char_boundary(error.at.end.clamp(start, text.len()));
    let before = console::measure_text_width(&harmless(&text[..start]));
    let width = console::measure_text_width(&harmless(&text[start..end])).max(1);
    let mut told = String::new();
    let _ = writeln!(told, "{}: {}", harmless(place), harmless(&error.problem));
    let _ = writeln!(told, "    | {}", harmless(text));
    let _ = writeln!(told, "    | {}{}", " ".repeat(before), "^".repeat(width));
    for (label, text) in [("expected", &error.expected), ("hint", &error.hint)] {
        if let Some(text) = text {
            let _ = writeln!(told, "    = {label}: {}", harmless(text));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_what_is_wrong_also_behind_wide_characters() {
        let error = RuleError {
            at: 5..9,
            problem: "there is no stage by this name".into(),
            expected: Some("connect, mail, rcpt ...".into()),
            hint: Some("rcpt".into()),
        };
        assert_eq!(
            shown("rcpt rctp: 451", &error, "--say"),
            "--say: there is no stage by this name\n    | rcpt rctp: 451\n    |      ^^^^\n    \
             = expected: connect, mail, rcpt ...\n    = hint: rcpt\n"
        );
        // At the end of the text, and beyond it, a single mark.
        for at in [6..6, 90..99] {
            let error = RuleError { at, problem: "more was expected".into(), expected: None, hint: None };
            assert!(shown("日本", &error, "rule").ends_with("    | 日本\n    |     ^\n"));
        }
    }
}
