//! `posthouse queue list`: messages, destinations and what was set aside.
//!
//! Contract: rows are asked for in pages and printed as they come, so that neither this program nor the relay ever
//! holds a queue of a million. JSON output is one array all the same; when the relay goes away amid it, it is cut
//! short and the exit code is 1.
//! Not here: what a row says (`posthouse::queue`).

use std::fmt::Write;
use std::path::Path;

use clap::Args;
use posthouse::admin::{Client, Status};
use posthouse::clock::Timestamp;
use posthouse::queue::{DestinationState, Listed, ListedRecipient, RecipientStanding};
use posthouse::spool::Quarantined;

use super::{age, encoded, plural, restraint, size, standing, until};
use crate::failed::Failed;
use crate::place::{Format, Place};
use crate::print;
use crate::quarantine;
use crate::table::Table;

/// Rows of one request, at most.
const PAGE: usize = 1_000;

#[derive(Args, Debug)]
pub struct List {
    /// Only messages whose reverse-path contains this
    #[arg(long, value_name = "TEXT")]
    sender: Option<String>,
    /// Only messages with a recipient that contains this
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
    /// Only messages that wait for this destination, as the listing names it
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only messages that are held
    #[arg(long)]
    held: bool,
    /// What was delivered and is kept by the safety net, in place of what waits
    #[arg(long, conflicts_with_all = ["held", "uncertain"])]
    kept: bool,
    /// Only messages of which nobody knows whether a recipient has got them
    #[arg(long)]
    uncertain: bool,
    /// At most so many messages; 0 for all, which are printed as they come
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
    /// What was found damaged and set aside, in place of the queue
    #[arg(long, conflicts_with_all = ["sender", "recipient", "destination", "held", "uncertain", "kept", "most"])]
    quarantined: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl List {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.place.client()?;
        if self.quarantined {
            let pieces: Vec<Quarantined> = client.get("/v1/quarantine").await?;
            return match self.format {
                Format::Json => print::json(&pieces),
                Format::Table => print::text(&quarantine_told(&pieces, &self.place.places()?.spool)),
            };
        }
        match self.format {
            Format::Json => self.print_json(&client).await,
            Format::Table => self.print_table(&client).await,
        }
    }

    async fn print_json(&self, client: &Client) -> Result<(), Failed> {
        let mut pages = Pages::new(self, client);
        let mut text = "[".to_owned();
        let mut before = "\n";
        while let Some(rows) = pages.next().await? {
            for row in rows {
                let row = serde_json::to_string_pretty(&row)?;
                // No text in it holds a line end: JSON escapes them.
                let _ = write!(text, "{before}  {}", row.replace('\n', "\n  "));
                before = ",\n";
            }
            if !print::octets(text.as_bytes())? {
                return Ok(());
            }
            text.clear();
        }
        text.push_str(if pages.shown > 0 { "\n]\n" } else { "]\n" });
        print::text(&text)
    }

    async fn print_table(&self, client: &Client) -> Result<(), Failed> {
        let mut pages = Pages::new(self, client);
        let mut table =
            Table::new(["id", "state", "age", "size", "sender", "recipient", "next attempt", "last"]);
        let mut status: Status = client.get("/v1/status").await?;
        while let Some(rows) = pages.next().await? {
            for row in &rows {
                add_rows(&mut table, row, status.now, self.kept);
            }
            if !rows.is_empty() && !print::octets(table.page().as_bytes())? {
                return Ok(());
            }
            status = client.get("/v1/status").await?;
        }
        let destinations: Vec<DestinationState> = client.get("/v1/destinations").await?;
        let closing = match self.kept {
            true => closing_kept(pages.shown, &status),
            false => closing(pages.shown, &destinations, &status),
        };
        print::text(&closing)
    }

    fn query(&self) -> String {
        let (held, uncertain, kept) = (self.held, self.uncertain, self.kept);
        let mut query = format!("/v1/queue?held={held}&uncertain={uncertain}&kept={kept}");
        for (key, value) in
            [("sender", &self.sender), ("recipient", &self.recipient), ("destination", &self.destination)]
        {
            if let Some(value) = value {
                let _ = write!(query, "&{key}={}", encoded(value));
            }
        }
        query
    }
}

/// The rows of a listing, some at a time.
struct Pages<'a> {
    client: &'a Client,
    query: String,
    /// 0 is no limit.
    most: usize,
    shown: usize,
    after: String,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn new(list: &List, client: &'a Client) -> Self {
        Self { client, query: list.query(), most: list.most, shown: 0, after: String::new(), ended: false }
    }

    /// `None`: that was all.
    async fn next(&mut self) -> Result<Option<Vec<Listed>>, Failed> {
        if self.ended {
            return Ok(None);
        }
        let page = if self.most == 0 { PAGE } else { PAGE.min(self.most - self.shown) };
        let rows: Vec<Listed> = self.client.get(&format!("{}&most={page}{}", self.query, self.after)).await?;
        self.shown += rows.len();
        self.ended = rows.len() < page || self.shown == self.most;
        if let Some(last) = rows.last() {
            self.after = format!("&after={}", last.id);
        }
        Ok(Some(rows))
    }
}

/// One line for each recipient, or for each for whom something is still to happen.
fn add_rows(table: &mut Table, row: &Listed, now: Timestamp, all: bool) {
    for (index, recipient) in row.recipients.iter().filter(|r| all || is_open(r)).enumerate() {
        let first = |cell: String| if index == 0 { cell } else { String::new() };
        table.row([
            first(row.id.to_string()),
            standing(row.state, recipient.state).into(),
            first(age(now, row.arrived)),
            first(size(row.size)),
            first(row.sender.clone()),
            recipient.address.clone(),
            recipient.next_attempt.map(|at| until(now, at)).unwrap_or_default(),
            recipient.last.clone().unwrap_or_default(),
        ]);
    }
}

fn is_open(recipient: &ListedRecipient) -> bool {
    recipient.state != RecipientStanding::Delivered
}

/// What stands below the rows of what is kept.
fn closing_kept(shown: usize, status: &Status) -> String {
    let all = status.kept;
    match shown {
        0 if all == 0 => "Nothing is kept; see [safety_net] in the configuration.\n".to_owned(),
        0 => "No message matches.\n".to_owned(),
        _ => format!(
            "\n{shown} of {} {}; `posthouse resubmit` sends again what an upstream has lost\n",
            all.max(shown as u64),
            plural(all, "kept message", "kept messages"),
        ),
    }
}

/// What stands below the rows.
fn closing(shown: usize, destinations: &[DestinationState], status: &Status) -> String {
    let (now, all) = (status.now, status.messages);
    let mut text = match shown {
        0 if all == 0 => "The queue is empty.\n".to_owned(),
        0 => "No message matches.\n".to_owned(),
        // Those that came and went meanwhile are in one of the numbers only.
        _ => format!("\n{shown} of {} {}\n", all.max(shown as u64), plural(all, "message", "messages")),
    };
    for restraint in destinations.iter().filter_map(|destination| restraint::told(destination, now)) {
        let _ = writeln!(text, "\n{restraint}");
    }
    for destination in destinations {
        let (Some(since), Some(next)) = (destination.asleep_since, destination.next_probe) else { continue };
        let _ = writeln!(
            text,
            "\n{} takes no mail since {since}: {}\n  {} {} for it; next probe {}; now: posthouse queue retry --destination {}",
            destination.destination,
            destination.reason.as_deref().unwrap_or_default(),
            destination.waiting,
            plural(destination.waiting, "message waits", "messages wait"),
            until(now, next),
            destination.destination,
        );
    }
    if let Some(why) = &status.not_accepting {
        let _ = writeln!(text, "\nNew mail is not accepted now: {why}");
    }
    if status.quarantined > 0 {
        let pieces = plural(status.quarantined, "damaged piece", "damaged pieces");
        let were = plural(status.quarantined, "was", "were");
        let _ = writeln!(
            text,
            "\n{} {pieces} of the spool {were} set aside; see posthouse queue list --quarantined",
            status.quarantined
        );
    }
    text
}

/// What was set aside, for people.
fn quarantine_told(pieces: &[Quarantined], spool: &Path) -> String {
    if pieces.is_empty() {
        return "Nothing is quarantined.\n".to_owned();
    }
    let table = quarantine::table(pieces);
    let count = pieces.len() as u64;
    format!(
        "{table}\n{count} {} in {}; the queue does without.\nA message that is named here and still waits can be \
         saved by `posthouse spool export ID`; of one\nthat does not, the file holds what is left. When you have \
         looked, delete the file and its .json.\n",
        plural(count, "piece lies", "pieces lie"),
        spool.join("quarantine").display(),
    )
}

#[cfg(test)]
mod tests {
    use posthouse::spool::QuarantinedKind;

    use super::*;

    #[test]
    fn a_quarantine_is_told_with_its_folder_and_what_to_do() {
        assert_eq!(quarantine_told(&[], Path::new("/spool")), "Nothing is quarantined.\n");
        let piece = Quarantined {
            file: "0000000003-0000001204.damaged".into(),
            kind: QuarantinedKind::Record,
            id: Some("38G1V25TJ000".parse().unwrap()),
            octets: 4_000,
            reason: "a wrong checksum".into(),
            found: Some(Timestamp::from_millis(1_795_000_000_000)),
        };
        let bare = Quarantined { id: None, found: None, kind: QuarantinedKind::Hint, ..piece.clone() };
        let said = quarantine_told(&[piece, bare], Path::new("/spool"));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "FOUND                     KIND    ID            SIZE     FILE                           REASON",
                "2026-11-18T11:06:40.000Z  record  38G1V25TJ000  3.9 KiB  0000000003-0000001204.damaged  a wrong checksum",
                "                          hint                  3.9 KiB  0000000003-0000001204.damaged  a wrong checksum",
                "",
                "2 pieces lie in /spool/quarantine; the queue does without.",
            ]
        );
    }

    #[test]
    fn a_listing_says_that_something_was_set_aside_and_where_it_is_told() {
        let status = |quarantined| Status {
            version: String::new(),
            hostname: String::new(),
            now: Timestamp::from_millis(0),
            speed: 1.0,
            messages: 0,
            kept: 0,
            sessions: 0,
            accepting: true,
            not_accepting: None,
            uncertain: 0,
            quarantined,
            live_bytes: 0,
            written_bytes: 0,
            syncs: 0,
        };
        assert_eq!(closing(0, &[], &status(0)), "The queue is empty.\n");
        let said = closing(0, &[], &status(1));
        let last = "1 damaged piece of the spool was set aside; see posthouse queue list --quarantined";
        assert_eq!(said.lines().last(), Some(last));
        assert!(closing(0, &[], &status(2)).contains("2 damaged pieces of the spool were set aside"));
    }
}
