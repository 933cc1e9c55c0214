//! Where the story is shown: colours and a live table on a terminal, plain lines elsewhere.
//!
//! Contract: lines scroll by; below them stands the table of what waits, drawn anew each time. Plain when standard
//! output is no terminal, or NO_COLOR is set (to anything but nothing), or TERM is `dumb`.
//! Invariants: a row of the table never takes more than one line of the terminal, so that it can be taken back.
//! Not here: what is told (`narrate`).

use std::io::{self, IsTerminal, Write};

use console::{Term, style};
use posthouse::clock::Timestamp;
use posthouse::queue::{Listed, ListedState, RecipientStanding};

use super::narrate::{Line, Tone};
use crate::harmless::harmless;
use crate::queue::until;
use crate::table::Table;

/// Rows of the table; more are counted.
const ROWS_MAX: usize = 8;
/// Characters of the last reply in the table.
const LAST_MAX: usize = 44;

/// Standard output.
pub enum Screen {
    Plain,
    Live {
        term: Term,
        /// The table as it stands there now.
        table: Vec<String>,
    },
}

impl Screen {
    pub fn new() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if !io::stdout().is_terminal() || is_set("NO_COLOR") || dumb {
            return Self::Plain;
        }
        Self::Live { term: Term::buffered_stdout(), table: Vec::new() }
    }

    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Shows lines, above the table.
    pub fn say(&mut self, lines: &[Line]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        match self {
            Self::Plain => {
                let mut out = io::stdout().lock();
                for line in lines {
                    writeln!(out, "{}", line.text)?;
                }
                out.flush()
            }
            Self::Live { term, table } => {
                term.clear_last_lines(table.len())?;
                for line in lines {
                    term.write_line(&coloured(line))?;
                }
                draw(term, table)
            }
        }
    }

    /// Shows the table anew; nothing where lines are plain.
    pub fn show(&mut self, waiting: &[Listed], now: Timestamp) -> io::Result<()> {
        let Self::Live { term, table } = self else { return Ok(()) };
        term.clear_last_lines(table.len())?;
        let (height, width) = term.size();
        // A line that reaches the edge would take two.
        let width = usize::from(width).saturating_sub(1);
        let rows = table_lines(waiting, now, ROWS_MAX.min(usize::from(height) / 3));
        *table = rows.iter().map(|row| console::truncate_str(row, width, "…").into_owned()).collect();
        draw(term, table)
    }

    /// Takes the table away.
    pub fn close(&mut self) -> io::Result<()> {
        let Self::Live { term, table } = self else { return Ok(()) };
        term.clear_last_lines(std::mem::take(table).len())?;
        term.flush()
    }
}

fn draw(term: &Term, table: &[String]) -> io::Result<()> {
    for row in table {
        term.write_line(&style(row).dim().force_styling(true).to_string())?;
    }
    term.flush()
}

fn coloured(line: &Line) -> String {
    let text = style(line.text.as_str()).force_styling(true);
    match line.tone {
        Tone::Plain => text,
        Tone::Aside => text.dim(),
        Tone::Good => text.green(),
        Tone::Wait => text.yellow(),
        Tone::Bad => text.red(),
        Tone::Quote => text.cyan(),
    }
    .to_string()
}

/// The recipients that wait, as lines; none when nobody does.
fn table_lines(waiting: &[Listed], now: Timestamp, rows: usize) -> Vec<String> {
    let is_open = |standing| matches!(standing, RecipientStanding::Waiting | RecipientStanding::Uncertain);
    let open: Vec<_> = waiting
        .iter()
        .flat_map(|message| message.recipients.iter().map(move |recipient| (message, recipient)))
        .filter(|(_, recipient)| is_open(recipient.state))
        .collect();
    if open.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(["waits", "attempts", "next try", "gives up", "last"]);
    for (message, recipient) in open.iter().take(rows) {
        let next = match (message.state, recipient.next_attempt) {
            (ListedState::Active, _) => "under way".into(),
            (ListedState::Held | ListedState::HeldByRoute, _) => "held".into(),
            (ListedState::Asleep, _) => "when it wakes".into(),
            (_, Some(next)) => until(now, next),
            (_, None) => "now".into(),
        };
        let ends = message.expires.map(|expires| until(now, expires)).unwrap_or_else(|| "never".into());
        let last = recipient.last.as_deref().unwrap_or("not tried yet");
        // The name of the one upstream tells nothing here.
        let last = last.split_once(" said: ").map_or(last, |(_, reply)| reply);
        let last = console::truncate_str(&harmless(last), LAST_MAX, "…").into_owned();
        table.row([recipient.address.clone(), recipient.attempts.to_string(), next, ends, last]);
    }
    let mut lines = vec![String::new()];
    lines.extend(table.to_string().lines().map(str::to_owned));
    if open.len() > rows {
        lines.push(format!("and {} more", open.len() - rows));
    }
    lines
}

#[cfg(test)]
mod tests {
    use posthouse::mail::QueueId;
    use posthouse::queue::ListedRecipient;

    use super::*;

    fn waiting(recipients: usize) -> Listed {
        let recipient = |number: usize| ListedRecipient {
            address: format!("user{number}@example.com"),
            state: if number == 0 { RecipientStanding::Delivered } else { RecipientStanding::Waiting },
            destination: "upstream".into(),
            redirect_to: None,
            attempts: 3,
            unreached: None,
            next_attempt: Some(Timestamp::from_millis(60_000)),
            status: None,
            last: Some("[127.0.0.1]:2526 said: 451 4.7.1 \u{1b}[31mbusy".into()),
        };
        Listed {
            id: QueueId::from_u64(7),
            state: ListedState::Waiting,
            arrived: Timestamp::from_millis(0),
            size: 10,
            sender: "alice@example.org".into(),
            message_id: None,
            expires: Some(Timestamp::from_millis(7_200_000)),
            release: None,
            deliver_by: None,
            sent_again: None,
            kept_until: None,
            recipients: (0..recipients).map(recipient).collect(),
        }
    }

    #[test]
    fn the_table_has_those_who_wait_and_counts_the_rest() {
        let lines = table_lines(&[waiting(5)], Timestamp::from_millis(0), 2);
        let text = lines.join("\n");
        assert_eq!(lines.len(), 5, "{text}");
        assert!(
            lines[2].starts_with("user1@example.com  3         in 1 minute  in 2 hours  451 4.7.1 ?[31mbusy"),
            "{text}"
        );
        assert_eq!(lines[4], "and 2 more");
        assert!(!text.contains("user0"), "he has it already");
    }

    #[test]
    fn there_is_no_table_when_nobody_waits() {
        assert!(table_lines(&[waiting(1)], Timestamp::from_millis(0), 8).is_empty());
        assert!(table_lines(&[], Timestamp::from_millis(0), 8).is_empty());
    }
}
