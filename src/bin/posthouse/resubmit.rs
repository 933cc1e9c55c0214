//! `posthouse resubmit`: what an upstream took and lost is sent again.
//!
//! Contract: shows what would be sent, asks a person whether it is meant, and sends just that. Without a person to ask,
//! --yes stands for the answer.
//! Not here: which messages are found (`posthouse::relay`), how long they are kept (`[safety_net]`).

use std::fmt::Write;
use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use posthouse::admin::{Client, Status};
use posthouse::clock::Timestamp;
use posthouse::mail::QueueId;
use posthouse::queue::{KeptMessage, PassedOver};
use posthouse::relay::{Resubmission, SentAgain};

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;
use crate::queue::{plural, rough};
use crate::table::Table;
use crate::when::{When, when};

/// Messages of one request: a request that is cut off has sent these at most.
const AT_ONCE: usize = 500;

/// Send again what an upstream took and lost, as far as the safety net has kept it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  posthouse resubmit --upstream main --since 2h --dry-run
  posthouse resubmit --upstream main --since 2026-11-22T09:00:00Z --via backup
  posthouse resubmit --upstream main --since 1d --message-id a1@example.org
  posthouse resubmit --upstream mx:example.com --since 30m --yes --format json

Messages keep their queue ids, and RESUBMIT in the tracking log tells of each. What waits again is
not found a second time, and what was delivered by another group meanwhile counts as that group's.
What still waits for other recipients is sent again to those who had it, with --via only if the
others wait for the same upstream. What was sent again by the same one is shown, and passed over
without --again.")]
pub struct Resubmit {
    /// The upstream group that took them; "mx:DOMAIN" for a domain by its MX records, "mx" for all of these
    #[arg(long, value_name = "NAME")]
    upstream: String,
    /// Delivered since then: a time, or how long ago
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: When,
    /// Only messages with this Message-ID; may be given several times
    #[arg(long = "message-id", value_name = "ID")]
    message_ids: Vec<String>,
    /// Only the message with this queue id; may be given several times
    #[arg(long = "id", value_name = "QUEUEID")]
    ids: Vec<QueueId>,
    /// The upstream group that they go by now [default: as the routes say]
    #[arg(long, value_name = "GROUP")]
    via: Option<String>,
    /// Also those that were sent again before
    #[arg(long)]
    again: bool,
    /// Only show what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl Resubmit {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.place.client()?;
        let status: Status = client.get("/v1/status").await?;
        let asked = Resubmission {
            upstream: self.upstream.clone(),
            since: self.since.by(status.now),
            ids: self.ids.clone(),
            message_ids: self.message_ids.clone(),
            via: self.via.clone(),
            again: self.again,
            dry_run: true,
        };
        let found: SentAgain = client.post_json("/v1/resubmit", &asked).await?;
        let selected: Vec<QueueId> =
            found.messages.iter().filter(|row| row.selected).map(|row| row.id).collect();
        if self.format == Format::Table {
            print::text(&shown(&found, &self.upstream, status.now))?;
        }
        if self.dry_run || selected.is_empty() {
            return if self.format == Format::Json { print::json(&found) } else { Ok(()) };
        }
        if !self.yes && !self.is_meant(selected.len())? {
            return print::text("Nothing was sent.\n");
        }
        let sent = send(&client, &asked, &selected, found.more).await?;
        match self.format {
            Format::Json => print::json(&sent),
            Format::Table => print::text(&closing(sent.messages.len(), found.more)),
        }
    }

    /// Asks whoever sits there.
    fn is_meant(&self, count: usize) -> Result<bool, Failed> {
        if !io::stdin().is_terminal() {
            let problem = "nobody is there to be asked; look at it with --dry-run, and say --yes";
            return Err(Failed::Message(problem.into()));
        }
        let way = self.via.as_ref().map_or("as the routes say".to_owned(), |via| format!("by way of {via}"));
        let messages = plural(count as u64, "message", "messages");
        eprint!("\nSend {count} {messages} again, {way}? Whoever has them already gets them twice. [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Sends just what was shown.
async fn send(
    client: &Client,
    asked: &Resubmission,
    selected: &[QueueId],
    more: bool,
) -> Result<SentAgain, Failed> {
    let mut sent = SentAgain { messages: Vec::new(), more };
    for ids in selected.chunks(AT_ONCE) {
        let these = Resubmission { ids: ids.to_vec(), dry_run: false, ..asked.clone() };
        let answer: SentAgain = client.post_json("/v1/resubmit", &these).await?;
        sent.messages.extend(answer.messages);
    }
    Ok(sent)
}

/// What was found, one line for each recipient.
fn shown(found: &SentAgain, upstream: &str, now: Timestamp) -> String {
    if found.messages.is_empty() {
        return format!(
            "Nothing that is kept matches: --upstream is the group that took it ({}), --via the one that it goes by now.\n\
             What is kept, and who took it: posthouse queue list --kept\n",
            harmless(upstream)
        );
    }
    let mut table = Table::new(["id", "delivered", "by", "recipient", "message-id", ""]);
    for row in &found.messages {
        for (index, recipient) in row.recipients.iter().enumerate() {
            let first = |cell: String| if index == 0 { cell } else { String::new() };
            table.row([
                first(row.id.to_string()),
                recipient.delivered.to_string(),
                recipient.host.clone().unwrap_or_default(),
                recipient.address.clone(),
                first(row.message_id.clone().unwrap_or_default()),
                first(note(row, now)),
            ]);
        }
    }
    let mut text = table.page();
    let count = found.messages.iter().filter(|row| row.selected).count() as u64;
    let _ = writeln!(text, "\n{count} {} to be sent again", plural(count, "message is", "messages are"));
    let why =
        |why: PassedOver| found.messages.iter().filter(|row| row.passed_over == Some(why)).count() as u64;
    let (passed, others) = (why(PassedOver::SentBefore), why(PassedOver::OthersWait));
    if passed > 0 {
        let _ = writeln!(
            text,
            "{passed} {} sent again before, and {} not selected; --again to insist",
            plural(passed, "was", "were"),
            plural(passed, "is", "are"),
        );
    }
    if others > 0 {
        let _ = writeln!(
            text,
            "{others} {} for other recipients elsewhere, and {} not selected: without --via, or once {} done",
            plural(others, "waits", "wait"),
            plural(others, "is", "are"),
            plural(others, "it is", "they are"),
        );
    }
    if found.more {
        text.push_str("There are more: run this again for them.\n");
    }
    text
}

fn note(row: &KeptMessage, now: Timestamp) -> String {
    let sent_again = row.sent_again.map(|at| format!("sent again {} ago", rough(now.since(at))));
    let passed_over = row.passed_over.map(|why| match why {
        PassedOver::SentBefore => "not selected",
        PassedOver::Held => "held by the operator, not selected",
        PassedOver::OthersWait => "other recipients wait elsewhere, not selected",
    });
    let notes: Vec<&str> = sent_again.iter().map(String::as_str).chain(passed_over).collect();
    notes.join(", ")
}

fn closing(sent: usize, more: bool) -> String {
    let messages = plural(sent as u64, "message is", "messages are");
    let more = if more { "There are more: run this again for them.\n" } else { "" };
    format!(
        "{sent} {messages} on the way again; see posthouse queue list, posthouse track --event RESUBMIT\n{more}"
    )
}

#[cfg(test)]
mod tests {
    use posthouse::queue::KeptRecipient;

    use super::*;

    #[test]
    fn what_would_be_sent_is_told_with_what_is_passed_over() {
        let at = Timestamp::from_millis(1_795_176_000_000);
        let row = KeptMessage {
            id: "38G1V25TJ000".parse().unwrap(),
            arrived: at,
            kept_since: at,
            kept_until: None,
            size: 10,
            sender: "a@example.org".into(),
            message_id: Some("<1@example.org>".into()),
            sent_again: None,
            selected: true,
            passed_over: None,
            recipients: vec![KeptRecipient {
                address: "b@example.com".into(),
                delivered: at,
                destination: "main".into(),
                host: Some("relay.example [192.0.2.1]".into()),
            }],
        };
        let before = KeptMessage {
            sent_again: Some(at),
            selected: false,
            passed_over: Some(PassedOver::SentBefore),
            ..row.clone()
        };
        let minute = std::time::Duration::from_secs(60);
        let said = shown(&SentAgain { messages: vec![row, before], more: false }, "main", at + minute);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "ID            DELIVERED                 BY                         RECIPIENT      MESSAGE-ID",
                "38G1V25TJ000  2026-11-20T12:00:00.000Z  relay.example [192.0.2.1]  b@example.com  <1@example.org>",
                "38G1V25TJ000  2026-11-20T12:00:00.000Z  relay.example [192.0.2.1]  b@example.com  <1@example.org>  sent again 1 minute ago, not selected",
                "",
                "1 message is to be sent again",
                "1 was sent again before, and is not selected; --again to insist",
            ]
        );
        let nothing = shown(&SentAgain { messages: Vec::new(), more: false }, "main", at);
        let first = "Nothing that is kept matches: --upstream is the group that took it (main), --via the one that it goes by now.";
        assert_eq!(nothing.lines().next(), Some(first));
    }
}
