//! `posthouse lab inbox` and `posthouse lab asked`: what a running upstream has taken, and what it was asked.
//!
//! Contract: without `--raw`, control characters of what is shown become question marks, but for the ends of lines.
//! Not here: the requests (`posthouse::lab::api`).

use std::fmt::Write;

use clap::Args;
use posthouse::lab::api::InboxRow;
use posthouse::lab::{Asked, Received};

use super::Place;
use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::Format;
use crate::print;
use crate::table::Table;

/// Show what a running lab's upstream has taken, notices included
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab inbox
  posthouse lab inbox 2
  posthouse lab inbox 2 --raw > notice.eml
  posthouse lab inbox --format json")]
pub struct Inbox {
    /// The number of one message; all are listed without it
    number: Option<u64>,
    /// The content as it came; octets that are no UTF-8 are replaced
    #[arg(long, requires = "number", conflicts_with = "format")]
    raw: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// Show what a running lab's upstream was asked, and what it did
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab asked
  posthouse lab asked --most 0 --format json")]
pub struct AskedList {
    /// At most so many, the last ones; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl Inbox {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.place.client();
        let Some(number) = self.number else {
            let asked = client.get::<Vec<InboxRow>>("/v1/lab/inbox").await;
            let rows = asked.map_err(|error| self.place.failed(error))?;
            return match self.format {
                Format::Json => print::json(&rows),
                Format::Table if rows.is_empty() => print::text("the inbox is empty\n"),
                Format::Table => print::text(&listed(rows)),
            };
        };
        let asked = client.get::<Received>(&format!("/v1/lab/inbox/{number}")).await;
        let message = asked.map_err(|error| self.place.failed(error))?;
        match self.format {
            _ if self.raw => print::octets(message.to_octets()).map(|_| ()),
            Format::Json => print::json(&message),
            Format::Table => print::text(&shown(&message)),
        }
    }
}

impl AskedList {
    pub async fn run(self) -> Result<(), Failed> {
        let asked = self.place.client().get::<Vec<Asked>>(&format!("/v1/lab/asked?most={}", self.most)).await;
        let rows = asked.map_err(|error| self.place.failed(error))?;
        if self.format == Format::Json {
            return print::json(&rows);
        }
        if rows.is_empty() {
            return print::text("it was asked nothing yet\n");
        }
        let mut table = Table::new(["at", "session", "stage", "about", "rule", "did"]);
        for row in rows {
            let rule = row.rule.map(|rule| rule.to_string()).unwrap_or_default();
            let (at, session) = (row.at.to_string(), row.session.to_string());
            table.row([at, session, row.stage.to_string(), row.about, rule, row.did]);
        }
        print::text(&table.to_string())
    }
}

fn listed(rows: Vec<InboxRow>) -> String {
    let mut table = Table::new(["number", "at", "from", "to", "subject"]);
    for row in rows {
        let to = row.recipients.join(", ");
        table.row([row.number.to_string(), row.at.to_string(), row.sender, to, row.subject]);
    }
    table.to_string()
}

/// One message, envelope first.
fn shown(message: &Received) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Message {}, taken at {}", message.number, message.at);
    let _ = writeln!(text, "Envelope from {}", harmless(&message.envelope.reverse_path.to_string()));
    for recipient in &message.envelope.recipients {
        let _ = writeln!(text, "Envelope to   {}", harmless(recipient.address.as_str()));
    }
    text.push('\n');
    for line in message.content.lines() {
        let _ = writeln!(text, "{}", harmless(&line.replace('\t', "    ")));
    }
    text
}
