//! Expectations beside what came: whether they fit, and if not, which belongs to which around the first difference.
//!
//! Contract: [`find`] is exact: it finds a way in which every pattern has its line and every line its pattern, or
//! the first pattern that no way leads to. [`align`] is for the eye: it pairs what is most alike, within a window.
//! Not here: how a difference is said (`difference`).

use super::pattern::{Line, Pattern, Step};

/// How many steps and lines behind the first difference are looked at.
const WINDOW: usize = 12;

/// Where list and lines part: the first step that has no line, and the line that stood there. Each may be behind the
/// last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    pub step: usize,
    pub line: usize,
}

/// One row of the listing, as indexes into steps and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Same(usize),
    /// The step expects another line than the one that came.
    Other(usize, usize),
    Missing(usize),
    Extra(usize),
    /// A `...`, and how many lines it stands for.
    Any(usize),
}

/// `None`: everything is as expected.
pub(super) fn find(steps: &[Step], lines: &[Line]) -> Option<Parting> {
    // After each step, all the places among the lines at which it may have ended.
    let mut places = vec![0];
    for (index, step) in steps.iter().enumerate() {
        let next: Vec<usize> = match step {
            Step::Any => (places[0]..=lines.len()).collect(),
            Step::Line(pattern) => {
                let fits = |place: &&usize| lines.get(**place).is_some_and(|line| pattern.fits(line));
                places.iter().filter(fits).map(|place| place + 1).collect()
            }
        };
        if next.is_empty() {
            let line = nearest(step, &places, lines);
            return Some(Parting { step: index, line });
        }
        places = next;
    }
    let last = *places.last().expect("a step without a place ends the search");
    (last < lines.len()).then_some(Parting { step: steps.len(), line: last })
}

/// The place at which the line is most like what was expected.
fn nearest(step: &Step, places: &[usize], lines: &[Line]) -> usize {
    let unlike = |place: &&usize| match (step, lines.get(**place)) {
        (Step::Line(pattern), Some(line)) => cost(pattern, line),
        _ => u32::MAX,
    };
    places.iter().min_by_key(unlike).copied().unwrap_or(lines.len())
}

const LEFT_OUT: u32 = 4;

/// A pair that has nothing in common costs as much as one that is left out, so that what came instead stands beside what
/// was expected unless that shifts the rest.
fn cost(pattern: &Pattern, line: &Line) -> u32 {
    match (pattern.time_fits(line), pattern.words_fit(line)) {
        (true, true) if pattern.unsaid(line).is_none() => 0,
        (true, true) => 1,
        (false, true) => 2,
        (true, false) if pattern.at.is_some() => 3,
        _ => LEFT_OUT,
    }
}

/// Pairs steps and lines from the parting on.
pub(super) fn align(steps: &[Step], lines: &[Line], parting: Parting) -> Vec<Row> {
    let end = |start: usize, len: usize| len.min(start + WINDOW);
    let (steps_end, lines_end) = (end(parting.step, steps.len()), end(parting.line, lines.len()));
    let window = Window {
        steps: &steps[parting.step..steps_end],
        lines: &lines[parting.line..lines_end],
        goes_on: steps_end < steps.len() || lines_end < lines.len(),
    };
    let rows = window.rows().into_iter().map(|row| match row {
        Row::Same(line) => Row::Same(line + parting.line),
        Row::Other(step, line) => Row::Other(step + parting.step, line + parting.line),
        Row::Missing(step) => Row::Missing(step + parting.step),
        Row::Extra(line) => Row::Extra(line + parting.line),
        Row::Any(count) => Row::Any(count),
    });
    rows.collect()
}

struct Window<'a> {
    steps: &'a [Step],
    lines: &'a [Line],
    /// The lists are longer: it need not end at the end of both.
    goes_on: bool,
}

impl Window<'_> {
    /// The least cost from each pair of places to the end, for which rows are then taken from the start.
    fn rows(&self) -> Vec<Row> {
        let (steps, lines) = (self.steps.len(), self.lines.len());
        let mut costs = vec![vec![0_u32; lines + 1]; steps + 1];
        for step in (0..=steps).rev() {
            for line in (0..=lines).rev() {
                costs[step][line] = self.moves(&costs, step, line).map(|(cost, ..)| cost).min().unwrap_or(0);
            }
        }
        let (mut step, mut line) = (0, 0);
        let mut rows = Vec::new();
        while let Some((_, row, next_step, next_line)) =
            self.moves(&costs, step, line).min_by_key(|(cost, ..)| *cost)
        {
            match (row, rows.last_mut()) {
                (Row::Any(more), Some(Row::Any(count))) if next_step == step => *count += more,
                (Row::Any(0), Some(Row::Any(_))) => {}
                _ => rows.push(row),
            }
            (step, line) = (next_step, next_line);
        }
        rows
    }

    /// What may come next, the best first where they cost the same: cost to the end, row, and the places after it.
    fn moves<'c>(
        &self,
        costs: &'c [Vec<u32>],
        step: usize,
        line: usize,
    ) -> impl Iterator<Item = (u32, Row, usize, usize)> + use<'c> {
        let (here, came) = (self.steps.get(step), self.lines.get(line));
        let mut moves = Vec::with_capacity(3);
        let at_the_edge = here.is_none() || came.is_none();
        if at_the_edge && self.goes_on {
            return moves.into_iter();
        }
        let mut add = |cost: u32, row, step: usize, line: usize| {
            moves.push((cost + costs[step][line], row, step, line));
        };
        match (here, came) {
            (Some(Step::Any), Some(_)) => {
                add(0, Row::Any(1), step, line + 1);
                add(0, Row::Any(0), step + 1, line);
            }
            (Some(Step::Any), None) => add(0, Row::Any(0), step + 1, line),
            (Some(Step::Line(pattern)), Some(came)) => {
                let cost = cost(pattern, came);
                let row = if cost == 0 { Row::Same(line) } else { Row::Other(step, line) };
                add(cost, row, step + 1, line + 1);
                add(LEFT_OUT, Row::Missing(step), step + 1, line);
                add(LEFT_OUT, Row::Extra(line), step, line + 1);
            }
            (Some(Step::Line(_)), None) => add(LEFT_OUT, Row::Missing(step), step + 1, line),
            (None, Some(_)) => add(LEFT_OUT, Row::Extra(line), step, line + 1),
            (None, None) => {}
        }
        moves.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.split('|').filter(|step| !step.is_empty()).map(|step| Step::parse(step).unwrap()).collect()
    }

    /// Of words, one for each second.
    fn lines(text: &str) -> Vec<Line> {
        let words = text.split_whitespace().enumerate();
        words.map(|(second, word)| Line::new(Duration::from_secs(second as u64), word)).collect()
    }

    fn parting(expected: &str, came: &str) -> Option<(usize, usize)> {
        find(&steps(expected), &lines(came)).map(|parting| (parting.step, parting.line))
    }

    fn rows(expected: &str, came: &str) -> Vec<Row> {
        let (steps, lines) = (steps(expected), lines(came));
        align(&steps, &lines, find(&steps, &lines).unwrap())
    }

    #[test]
    fn every_line_needs_its_pattern_and_every_pattern_its_line() {
        assert_eq!(parting("a|b", "a b"), None);
        assert_eq!(parting("a|b", "a"), Some((1, 1)));
        assert_eq!(parting("a|b", "a b c"), Some((2, 2)));
        assert_eq!(parting("", ""), None);
        assert_eq!(parting("", "a"), Some((0, 0)));
    }

    #[test]
    fn dots_stand_for_as_many_lines_as_it_takes_and_no_more() {
        for good in ["...", "...|c|d", "a|...", "a|...|d", "a|...|b|...|d", "...|a|b|c|d|..."] {
            assert_eq!(parting(good, "a b c d"), None, "{good}");
        }
        // The first "b" is not the one that "...|b|c" needs.
        assert_eq!(parting("a|...|b|c", "a b x b c"), None);
        assert_eq!(parting("...|b", "a b c").map(|(step, _)| step), Some(2));
        assert_eq!(parting("...", ""), None);
    }

    #[test]
    fn what_is_missing_does_not_shift_what_follows() {
        assert_eq!(rows("a|b|c", "a c"), [Row::Missing(1), Row::Same(1)]);
        assert_eq!(rows("a|c", "a b c"), [Row::Extra(1), Row::Same(2)]);
        assert_eq!(rows("a|9s b|c", "a b c"), [Row::Other(1, 1), Row::Same(2)]);
        assert_eq!(rows("a|b|...|e", "a x c d e"), [Row::Other(1, 1), Row::Any(2), Row::Same(4)]);
    }

    #[test]
    fn behind_dots_the_line_that_is_most_alike_is_shown() {
        assert_eq!(parting("a|...|9s c", "a b c d"), Some((2, 2)));
    }

    #[test]
    fn a_long_list_is_compared_quickly_and_shown_in_part() {
        let came = "a ".repeat(30_000);
        let expected = format!("{}b|{}", "a|".repeat(15_000), "a|".repeat(14_999));
        assert_eq!(parting(&expected, &came), Some((15_000, 15_000)));
        assert!(rows(&expected, &came).len() <= 2 * WINDOW);
    }
}
