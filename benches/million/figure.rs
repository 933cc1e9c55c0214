//! Figures, and the one table that shows them.
//!
//! Contract: a [`Figure`] that misses its goal is marked in the table and counted; one without a goal is for reading.
//! Not here: how anything is measured.

use std::fmt;

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for what it is.
    None,
}

struct Figure {
    part: &'static str,
    what: String,
    unit: &'static str,
    reached: f64,
    goal: Goal,
    /// What the same run gave to compare with, in words.
    baseline: String,
}

/// All figures of one run.
#[derive(Default)]
pub struct Report {
    part: &'static str,
    figures: Vec<Figure>,
    failures: Vec<(&'static str, String)>,
}

impl Report {
    /// What follows belongs to this part.
    pub fn part(&mut self, name: &'static str) {
        self.part = name;
    }

    pub fn add(
        &mut self,
        what: impl Into<String>,
        reached: f64,
        unit: &'static str,
        goal: Goal,
        baseline: impl Into<String>,
    ) {
        let (what, baseline) = (what.into(), baseline.into());
        let figure = Figure { part: self.part, what, unit, reached, goal, baseline };
        eprintln!("  {}: {} {}", figure.what, number(reached), figure.baseline);
        self.figures.push(figure);
    }

    pub fn failed(&mut self, failure: &dyn std::error::Error) {
        self.failures.push((self.part, failure.to_string()));
    }

    pub fn all_reached(&self) -> bool {
        self.failures.is_empty() && self.figures.iter().all(Figure::is_reached)
    }

    pub fn json(&self, messages: u64, scale: f64) -> String {
        let figure = |figure: &Figure| -> Value {
            let goal = match figure.goal {
                Goal::AtLeast(goal) => json!({ "at_least": goal }),
                Goal::AtMost(goal) => json!({ "at_most": goal }),
                Goal::None => Value::Null,
            };
            json!({
                "part": figure.part, "what": figure.what, "unit": figure.unit, "reached": figure.reached,
                "goal": goal, "missed": !figure.is_reached(), "baseline": figure.baseline,
            })
        };
        let figures: Vec<Value> = self.figures.iter().map(figure).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = json!({
            "messages": messages, "scale": scale, "cores": cores, "figures": figures,
            "failed": self.failures.iter().map(|(part, why)| json!({ "part": part, "why": why })).collect::<Vec<_>>(),
        });
        format!("{all:#}\n")
    }
}

impl Figure {
    fn is_reached(&self) -> bool {
        match self.goal {
            Goal::AtLeast(goal) => self.reached >= goal,
            Goal::AtMost(goal) => self.reached <= goal,
            Goal::None => true,
        }
    }

    fn cells(&self) -> [String; 5] {
        let goal = match self.goal {
            Goal::AtLeast(goal) => format!(">= {}", number(goal)),
            Goal::AtMost(goal) => format!("<= {}", number(goal)),
            Goal::None => String::new(),
        };
        let mark = if self.is_reached() { "" } else { "MISSED" };
        let what = format!("{}: {}", self.part, self.what);
        let reached = format!("{} {}", number(self.reached), self.unit);
        [what, reached.trim_end().to_owned(), goal, self.baseline.clone(), mark.to_owned()]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["what", "reached", "goal", "baseline in the same run", ""].map(str::to_owned)];
        rows.extend(self.figures.iter().map(Figure::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for [what, reached, goal, baseline, mark] in &rows {
            let [a, b, c, d] = widths;
            let line = format!("{what:<a$}  {reached:>b$}  {goal:>c$}  {baseline:<d$}  {mark}");
            writeln!(f, "{}", line.trim_end())?;
        }
        for (part, why) in &self.failures {
            writeln!(f, "{part} FAILED: {why}")?;
        }
        Ok(())
    }
}

/// With as many places as tell something.
fn number(value: f64) -> String {
    match value.abs() {
        none if none.is_nan() => "none".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
