//! `posthouse track --session ID` and `--sessions`: what was said in a session, and what to think of it.
//!
//! Contract: read from the tracking folder; no relay need run. A session that is not there is no riddle: the answer says
//! what may be the reason.
//! Invariants: nothing that a stranger wrote reaches the terminal as a control character.
//! Not here: what is kept (`posthouse::accept`), the verdict (`posthouse::tracking`).

use std::fmt::Write;
use std::path::Path;

use ipnet::IpNet;
use posthouse::clock::Timestamp;
use posthouse::mail::SessionId;
use posthouse::tracking::{self, Event, Filter, SessionFilter, SessionRecord};
use serde::Serialize;

use super::{Format, complain, told};
use crate::failed::Failed;
use crate::harmless::harmless;
use crate::print;
use crate::table::Table;

/// Silence that is worth a line of its own.
const GAP_MS: u64 = 1000;

/// All that is known of one session.
#[derive(Serialize)]
struct Known<'a> {
    session: Option<&'a SessionRecord>,
    /// Whose side to look at, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    events: &'a [Event],
}

/// Prints one session.
pub fn show(folder: &Path, id: SessionId, format: Format) -> Result<(), Failed> {
    let kept = SessionFilter { id: Some(id), ..SessionFilter::default() };
    let mut records = tracking::sessions(folder, &kept).map_err(|error| unreadable(folder, &error))?;
    let record = records.find_map(|found| found.map_err(|damage| complain(&damage)).ok());
    let reported = Filter { session: Some(id), ..Filter::default() };
    let events = tracking::read(folder, &reported).map_err(|error| unreadable(folder, &error))?;
    let events: Vec<Event> =
        events.filter_map(|found| found.map_err(|damage| complain(&damage)).ok()).collect();
    if record.is_none() && events.is_empty() {
        return Err(Failed::Message(unknown(folder, id)));
    }
    if format == Format::Json {
        let verdict = record.as_ref().map(SessionRecord::verdict);
        let side = verdict.as_ref().map(|verdict| verdict.side.to_string());
        let verdict = verdict.map(|verdict| verdict.sentence);
        return print::json(&Known { session: record.as_ref(), side, verdict, events: &events });
    }
    let mut text = match &record {
        Some(record) => screen(record),
        None => format!("Session  {id}\n\nWhat was said in it is not kept. {}\n", reasons()),
    };
    if !events.is_empty() {
        text.push_str("\nWhat was reported of it\n");
        for event in &events {
            let _ = writeln!(text, "  {}  {}", event.time, told(event));
        }
    }
    print::text(&text)
}

/// Prints the sessions that were kept, one on each line.
pub fn list(folder: &Path, filter: &SessionFilter, format: Format) -> Result<(), Failed> {
    let records = tracking::sessions(folder, filter).map_err(|error| unreadable(folder, &error))?;
    let mut records = records.filter_map(|found| found.map_err(|damage| complain(&damage)).ok()).peekable();
    if records.peek().is_none() {
        eprintln!("no such session in {}", folder.display());
    }
    match format {
        Format::Json => {
            for record in records {
                if !print::octets(&[serde_json::to_vec(&record)?, b"\n".to_vec()].concat())? {
                    return Ok(());
                }
            }
            Ok(())
        }
        Format::Csv => as_csv(records),
        Format::Table => as_table(records),
    }
}

const COLUMNS: [&str; 9] =
    ["began", "session", "client", "took", "messages", "refusals", "stage", "ended", "look at"];

fn cells(record: &SessionRecord) -> [String; 9] {
    [
        record.began.to_string(),
        record.session.to_string(),
        record.client.to_string(),
        seconds(record.duration_ms),
        record.messages.to_string(),
        record.refusals.to_string(),
        record.stage.to_string(),
        record.ended.to_string(),
        record.verdict().side.to_string(),
    ]
}

/// None of these cells is anything that a stranger chose, so that none needs quotes.
fn as_csv(records: impl Iterator<Item = SessionRecord>) -> Result<(), Failed> {
    let line = |cells: [String; 9]| cells.join(",") + "\r\n";
    if !print::octets(line(COLUMNS.map(str::to_owned)).as_bytes())? {
        return Ok(());
    }
    for record in records {
        if !print::octets(line(cells(&record)).as_bytes())? {
            break;
        }
    }
    Ok(())
}

fn as_table(records: impl Iterator<Item = SessionRecord>) -> Result<(), Failed> {
    const PAGE: usize = 500;
    let mut table = Table::new(COLUMNS);
    let mut rows = 0;
    for record in records {
        table.row(cells(&record));
        rows += 1;
        if rows % PAGE == 0 && !print::octets(table.page().as_bytes())? {
            return Ok(());
        }
    }
    if rows == 0 { Ok(()) } else { print::text(&table.page()) }
}

fn unreadable(folder: &Path, error: &std::io::Error) -> Failed {
    Failed::Message(format!(
        "cannot read the tracking log in {}: {error}; name the relay's own configuration with --config, or its spool \
         with --spool",
        folder.display()
    ))
}

fn unknown(folder: &Path, id: SessionId) -> String {
    format!("no session {id} in {}. {}", folder.display(), reasons())
}

fn reasons() -> &'static str {
    "It went well, and [tracking] sessions = \"failed\" keeps only the others; or sessions = \"none\"; or it is still \
     open; or it is older than [tracking] keep; or there were so many like it that they were only counted.\n\
     `posthouse track --watch ADDRESS` keeps all that a client says from now on."
}

/// The whole session on one screen.
fn screen(record: &SessionRecord) -> String {
    let mut text = String::new();
    let mut say = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<9}{value}");
    };
    say("Session", record.session.to_string());
    let name = record.hello.as_ref().map(|hello| format!(", says it is {hello}")).unwrap_or_default();
    let proxy = record.proxy.map(|proxy| format!(", by way of the proxy {proxy}")).unwrap_or_default();
    say("Client", format!("{}{name}{proxy}", record.client));
    if let Some(user) = &record.user {
        say("User", user.clone());
    }
    let listener = record.listener.map(|listener| format!(", at {listener}")).unwrap_or_default();
    say("Began", format!("{}{listener}, took {}", record.began, seconds(record.duration_ms)));
    say("TLS", record.tls.clone().unwrap_or_else(|| "none".to_owned()));
    let count = |count: u32, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    say(
        "Said",
        format!(
            "{}, {}, {}; {} octets in, {} out",
            count(record.commands, "command"),
            count(record.refusals, "refusal"),
            count(record.messages, "message"),
            record.octets_in,
            record.octets_out
        ),
    );
    say("Ended", format!("{} ({})", record.ended, record.stage));
    let verdict = record.verdict();
    say("Look at", format!("{}. {}", verdict.side, verdict.sentence));
    if !record.transcript.is_empty() {
        text.push_str("\nWhat was said (seconds since it began; C the client, S posthouse)\n");
    }
    let mut before = 0;
    for line in &record.transcript {
        if line.ms >= before + GAP_MS {
            let _ = writeln!(text, "            ... {} later", seconds(line.ms - before));
        }
        before = line.ms;
        let _ = writeln!(text, "{:>6}.{:03}  {}  {}", line.ms / 1000, line.ms % 1000, line.by, line.text);
    }
    if record.duration_ms >= before + GAP_MS && !record.transcript.is_empty() {
        let _ = writeln!(text, "            ... {} later it ended", seconds(record.duration_ms - before));
    }
    text.lines().map(|line| harmless(line) + "\n").collect()
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// Which sessions `--client`, `--since` and `--until` mean.
pub fn filter(client: Option<IpNet>, since: Option<Timestamp>, until: Option<Timestamp>) -> SessionFilter {
    SessionFilter { id: None, client, since, until }
}

#[cfg(test)]
mod tests {
    use posthouse::tracking::{By, Ended, Spoken, Stage};

    use super::*;

    #[test]
    fn a_screen_tells_who_when_how_it_ended_where_to_look_and_what_was_said() {
        let spoken = |ms, by, text: &str| Spoken { ms, by, text: text.into() };
        let record = SessionRecord {
            session: SessionId::from_chance(7),
            began: "2026-11-22T03:33:07Z".parse().unwrap(),
            duration_ms: 13_010,
            client: "192.0.2.7".parse().unwrap(),
            proxy: Some("198.51.100.1".parse().unwrap()),
            listener: Some("192.0.2.1:25".parse().unwrap()),
            hello: Some("client.example.org\u{1b}[31m\u{202e}\u{61c}".into()),
            user: None,
            tls: None,
            commands: 1,
            refusals: 0,
            transactions: 1,
            messages: 0,
            octets_in: 100,
            octets_out: 200,
            stage: Stage::Content,
            ended: Ended::Closed,
            detail: None,
            silence_ms: Some(12_000),
            transcript: vec![
                spoken(0, By::Server, "220 relay.example.org ESMTP posthouse"),
                spoken(1010, By::Client, "DATA"),
            ],
        };
        assert_eq!(
            screen(&record),
            "Session  00000007\n\
             Client   192.0.2.7, says it is client.example.org?[31m??, by way of the proxy 198.51.100.1\n\
             Began    2026-11-22T03:33:07.000Z, at 192.0.2.1:25, took 13.010 s\n\
             TLS      none\n\
             Said     1 command, 0 refusals, 0 messages; 100 octets in, 200 out\n\
             Ended    closed (content)\n\
             Look at  client or network. The client closed the connection in the middle of content, 12.0 s after the \
             last octets: look at the client, or at a proxy or firewall between.\n\
             \n\
             What was said (seconds since it began; C the client, S posthouse)\n     \
                  0.000  S  220 relay.example.org ESMTP posthouse\n            \
                  ... 1.010 s later\n     \
                  1.010  C  DATA\n            \
                  ... 12.000 s later it ended\n"
        );
    }
}
