//! The results of `lab run` for people, and as JSON.
//!
//! Contract: a line for each scenario, and below it what is not as it says; then how many. JSON field names are read by
//! scripts: add, never change; durations in it are those of the story, never real ones.
//! Invariants: nothing that a scenario says reaches the terminal as a control character but for line ends.

use std::fmt::Write;
use std::time::Duration;

use posthouse::lab::{Story, scenario};
use posthouse::tracking::Event;
use serde_json::{Value, json};

use super::run::{Outcome, Told};
use crate::track;

pub fn text(outcomes: &[Outcome], story: bool) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let file = outcome.path.display();
        let line = match &outcome.result {
            Ok(told) => format!("{:<5} {file}  {}", mark(outcome), summary(told, outcome.took)),
            Err(faults) => {
                format!("{:<5} {file}  not played: {} in it", mark(outcome), count(faults.0.len(), "fault"))
            }
        };
        push(&mut text, &line);
        let Ok(told) = &outcome.result else { continue };
        for failure in &told.played.failures {
            for line in failure.to_string().lines() {
                push(&mut text, &format!("        {line}"));
            }
        }
        if story {
            tell(&mut text, &told.played.story);
        }
    }
    push(&mut text, &total(outcomes));
    text
}

/// Scenarios that were not played: each file with its title.
pub fn list(listed: &[(String, String)]) -> String {
    let width = listed.iter().map(|(file, _)| file.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (file, title) in listed {
        push(&mut text, &format!("{file:<width$}  {title}"));
    }
    text
}

/// The same as JSON: a list of objects with `file` and `title`.
pub fn list_json(listed: &[(String, String)]) -> Result<String, serde_json::Error> {
    let rows: Vec<Value> =
        listed.iter().map(|(file, title)| json!({ "file": file, "title": title })).collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

fn push(text: &mut String, line: &str) {
    text.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
    text.push('\n');
}

fn mark(outcome: &Outcome) -> &'static str {
    match &outcome.result {
        Ok(told) if told.written => "wrote",
        Ok(_) if outcome.failed() => "FAIL",
        Ok(_) => "ok",
        Err(_) => "FAULT",
    }
}

/// `Greylisting: 5 attempts, 3h 2m in 12 ms`
fn summary(told: &Told, took: Duration) -> String {
    let attempts = count(told.played.attempts(), "attempt");
    let lasted = span(told.played.lasted());
    format!("{}: {attempts}, {lasted} in {} ms", told.scenario.title, took.as_millis())
}

fn total(outcomes: &[Outcome]) -> String {
    let (failed, faulty) = numbers(outcomes);
    let mut total = format!("{}: {} ok", count(outcomes.len(), "scenario"), outcomes.len() - failed - faulty);
    for (number, what) in [(failed, "failed"), (faulty, "faulty")] {
        if number > 0 {
            total += &format!(", {number} {what}");
        }
    }
    total
}

/// How many failed, and how many were faulty.
pub fn numbers(outcomes: &[Outcome]) -> (usize, usize) {
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).count();
    (failed, outcomes.iter().filter(|outcome| outcome.result.is_err()).count())
}

fn tell(text: &mut String, story: &Story) {
    for event in &story.events {
        let at = span(event.time.since(story.start));
        push(text, &format!("    {at:>12}  {}", track::told(event)));
    }
}

/// In whole seconds.
fn span(duration: Duration) -> String {
    scenario::span(Duration::from_secs(duration.as_secs()))
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

pub fn json(outcomes: &[Outcome], story: bool) -> serde_json::Result<String> {
    let (failed, faulty) = numbers(outcomes);
    let rows = outcomes.iter().map(|outcome| row(outcome, story)).collect::<serde_json::Result<Vec<_>>>()?;
    let all = json!({
        "scenarios": rows,
        "ok": outcomes.len() - failed - faulty,
        "failed": failed,
        "faulty": faulty,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

fn row(outcome: &Outcome, story: bool) -> serde_json::Result<Value> {
    let file = outcome.path.display().to_string();
    let told = match &outcome.result {
        Ok(told) => told,
        Err(faults) => {
            let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
            return Ok(json!({ "file": file, "result": "faulty", "faults": faults }));
        }
    };
    let mut failures = Vec::new();
    for failure in &told.played.failures {
        let mut value = serde_json::to_value(failure)?;
        value["text"] = failure.to_string().into();
        failures.push(value);
    }
    let mut row = json!({
        "file": file,
        "title": told.scenario.title,
        "result": if outcome.failed() { "failed" } else { "ok" },
        "seed": told.scenario.seed,
        "attempts": told.played.attempts(),
        "lasted_ms": u64::try_from(told.played.lasted().as_millis()).unwrap_or(u64::MAX),
        "failures": failures,
    });
    if story {
        let events: Vec<&Event> = told.played.story.events.iter().collect();
        row["events"] = serde_json::to_value(events)?;
    }
    Ok(row)
}

/// All failures of a scenario, one below the other.
pub fn failures(told: &Told) -> String {
    let mut text = String::new();
    for failure in &told.played.failures {
        writeln!(text, "{failure}").expect("a String takes everything");
    }
    text
}
