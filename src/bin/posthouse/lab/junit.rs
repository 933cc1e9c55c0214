//! The results of `lab run` as JUnit XML, as CI servers read it.
//!
//! Contract: one suite; a test case for each file, a failure where something is not as it says, an error where the file
//! is faulty. No times: the same files give the same bytes.
//! Invariants: well-formed XML 1.0, whatever a scenario says.

use super::report::{failures, numbers};
use super::run::Outcome;

pub fn xml(outcomes: &[Outcome]) -> String {
    let (failed, faulty) = numbers(outcomes);
    let counts = format!("tests=\"{}\" failures=\"{failed}\" errors=\"{faulty}\"", outcomes.len());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml += &format!("<testsuites {counts}>\n  <testsuite name=\"posthouse lab run\" {counts}>\n");
    for outcome in outcomes {
        let file = escaped(&outcome.path.display().to_string());
        let (title, problem) = match &outcome.result {
            Ok(told) if outcome.failed() => (&told.scenario.title, Some(("failure", failures(told)))),
            Ok(told) => (&told.scenario.title, None),
            Err(faults) => (&String::new(), Some(("error", faults.to_string()))),
        };
        let name = if title.is_empty() { file.clone() } else { escaped(title) };
        xml += &format!("    <testcase classname=\"{file}\" name=\"{name}\"");
        xml += &match problem {
            None => "/>\n".to_owned(),
            Some((element, text)) => {
                let message = escaped(text.lines().next().unwrap_or_default());
                format!(
                    ">\n      <{element} message=\"{message}\">{}</{element}>\n    </testcase>\n",
                    escaped(&text)
                )
            }
        };
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// As it may stand in an attribute or between tags. What XML can't hold at all becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_is_said_stays_well_formed() {
        let text = "a <b> & \"c\"\n\u{1b}[31m\u{0}";
        assert_eq!(super::escaped(text), "a &lt;b&gt; &amp; &quot;c&quot;\n\u{fffd}[31m\u{fffd}");
    }
}
