//! `posthouse outages`: from when to when nothing could be handed on, where, why, and what it cost.
//!
//! Contract: asks the running relay; where none runs, what it has remembered is read, and nothing there is changed.
//! JSON is for scripts, CSV for spreadsheets, the table for people and may change.
//! Not here: what an outage is (`posthouse::route`); every step of each, which is in the tracking log.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use posthouse::admin::{ClientError, Status};
use posthouse::clock::{Clock, Timestamp};
use posthouse::route::{Memory, Outage, OutageKind, WhichOutages};
use posthouse::tracking::write_csv_line;

use crate::failed::Failed;
use crate::place::Place;
use crate::print;
use crate::queue::{encoded, plural, rough};
use crate::table::Table;
use crate::track::moment;

/// List the outages of upstreams and MX hosts: when, where, why, and what waited
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse outages
  posthouse outages --since 2d
  posthouse outages --host smtp.example.org --format json
  posthouse outages --since 2026-11-01 --format csv > november.csv
  posthouse track --event HOSTDOWN,HOSTUP,SLEEP,WAKE    each step of each, from the log

A line for one host says what went to others meanwhile; a line for a whole destination (all), what
had to wait. The last thousand are remembered. Where no relay runs, they are read from its folder.")]
pub struct Outages {
    /// Those that ended after this, or go on: a moment (2026-11-22T03:33:07Z), a day (2026-11-22, in UTC), or how long ago
    /// (2h)
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Only those whose host, address or destination contains this
    #[arg(long, value_name = "TEXT")]
    host: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// A relay may have a clock of its own: how long ago counts from its now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Ago(Duration),
    At(Timestamp),
}

fn when(text: &str) -> Result<When, String> {
    match humantime::parse_duration(text) {
        Ok(ago) => Ok(When::Ago(ago)),
        Err(_) => moment(text).map(When::At),
    }
}

impl Outages {
    pub async fn run(self) -> Result<(), Failed> {
        let (mut outages, now) = self.outages().await?;
        outages.sort_by_key(|outage| outage.start);
        match self.format {
            Format::Json => print::json(&outages),
            Format::Csv => print::octets(&csv(&outages, now)?).map(|_| ()),
            Format::Table => print::text(&shown(&outages, now)),
        }
    }

    async fn outages(&self) -> Result<(Vec<Outage>, Timestamp), Failed> {
        let client = self.place.client()?;
        let status: Status = match client.get("/v1/status").await {
            Ok(status) => status,
            Err(ClientError::NotRunning { .. }) => return self.at_rest(),
            Err(error) => return Err(error.into()),
        };
        let WhichOutages { since, host } = self.which(status.now);
        let mut query = Vec::new();
        query.extend(since.map(|since| format!("since={}", encoded(&since.to_string()))));
        query.extend(host.map(|host| format!("host={}", encoded(&host))));
        let outages = client.get(&format!("/v1/outages?{}", query.join("&"))).await?;
        Ok((outages, status.now))
    }

    /// As the relay left them.
    fn at_rest(&self) -> Result<(Vec<Outage>, Timestamp), Failed> {
        let folder = self.place.places()?.memory();
        let now = Clock::system().now();
        match Memory::outages_at_rest(&folder, &self.which(now)) {
            Ok(outages) => {
                eprintln!(
                    "no posthouse runs here; these are the outages that it has remembered in {}",
                    folder.display()
                );
                Ok((outages, now))
            }
            Err(error) => Err(Failed::Message(format!(
                "no posthouse runs here, and no memory of outages can be read in {}: {error}; is --spool (or --config) the \
                 folder of a relay? The tracking log may tell: posthouse track --event HOSTDOWN,HOSTUP,SLEEP,WAKE",
                folder.display()
            ))),
        }
    }

    fn which(&self, now: Timestamp) -> WhichOutages {
        let since = self.since.map(|when| match when {
            When::Ago(ago) => now - ago,
            When::At(at) => at,
        });
        WhichOutages { since, host: self.host.clone() }
    }
}

fn shown(outages: &[Outage], now: Timestamp) -> String {
    if outages.is_empty() {
        return "No outage is remembered that matches.\n".to_owned();
    }
    let mut table = Table::new([
        "start",
        "end",
        "how long",
        "where",
        "stage",
        "failures",
        "diverted",
        "held",
        "longest delay",
        "cause",
    ]);
    for outage in outages {
        table.row([
            outage.start.to_string(),
            end(outage, now),
            rough(outage.duration(now)),
            place(outage),
            outage.stage.clone().unwrap_or_default(),
            outage.failures.to_string(),
            if outage.kind == OutageKind::Host { outage.diverted.to_string() } else { String::new() },
            if outage.kind == OutageKind::Destination { outage.held.to_string() } else { String::new() },
            outage.longest_delay_ms.map(|ms| rough(Duration::from_millis(ms))).unwrap_or_default(),
            outage.cause.clone(),
        ]);
    }
    let going_on = outages.iter().filter(|outage| outage.end.is_none()).count() as u64;
    let mut text = table.to_string();
    if going_on > 0 {
        let _ =
            writeln!(text, "\n{going_on} {}; see posthouse upstreams", plural(going_on, "goes on", "go on"));
    }
    text
}

/// Nobody asks a host without mail for it: then nobody knows whether its outage goes on.
fn end(outage: &Outage, now: Timestamp) -> String {
    const UNSEEN: Duration = Duration::from_secs(10 * 60);
    match outage.end {
        Some(end) => end.to_string(),
        None if now.since(outage.last_seen) > UNSEEN => format!("ongoing, last seen {}", outage.last_seen),
        None => "ongoing".to_owned(),
    }
}

fn place(outage: &Outage) -> String {
    let destination = outage.destination.as_deref();
    match outage.kind {
        OutageKind::Destination => format!("{} (all)", destination.unwrap_or_default()),
        OutageKind::Host => {
            let group = destination.map(|name| format!("{name}: ")).unwrap_or_default();
            let host = outage.host.as_deref().unwrap_or_default();
            match outage.address {
                Some(address) if address.ip().to_string() == host => {
                    format!("{group}[{host}]:{}", address.port())
                }
                Some(address) => format!("{group}{host} [{}]:{}", address.ip(), address.port()),
                None => format!("{group}{host}"),
            }
        }
    }
}

fn csv(outages: &[Outage], now: Timestamp) -> Result<Vec<u8>, Failed> {
    let mut text = Vec::new();
    let columns = [
        "id",
        "kind",
        "destination",
        "host",
        "address",
        "start",
        "end",
        "duration_ms",
        "stage",
        "cause",
        "last",
        "failures",
        "diverted",
        "held",
        "longest_delay_ms",
    ];
    write_csv_line(&mut text, &columns)?;
    for outage in outages {
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let cells = [
            outage.id.to_string(),
            match outage.kind {
                OutageKind::Host => "host".to_owned(),
                OutageKind::Destination => "destination".to_owned(),
            },
            said(&outage.destination),
            said(&outage.host),
            outage.address.map(|address| address.to_string()).unwrap_or_default(),
            outage.start.to_string(),
            outage.end.map(|end| end.to_string()).unwrap_or_default(),
            outage.duration(now).as_millis().to_string(),
            said(&outage.stage),
            outage.cause.clone(),
            outage.last.clone(),
            outage.failures.to_string(),
            outage.diverted.to_string(),
            outage.held.to_string(),
            outage.longest_delay_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        ];
        write_csv_line(&mut text, &cells)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn outages() -> Vec<Outage> {
        let of = |text: serde_json::Value| serde_json::from_value::<Outage>(text).unwrap();
        vec![
            of(serde_json::json!({
                "id": 1, "kind": "host", "destination": "main", "host": "mx.example.org", "address": "192.0.2.1:25",
                "start": NOW - MINUTE * 90, "end": NOW - MINUTE * 30, "last_seen": NOW - MINUTE * 30,
                "stage": "greeting", "cause": "=554 no, \u{1b}really", "last": "554 no", "failures": 15,
                "diverted": 40, "held": 0,
            })),
            of(serde_json::json!({
                "id": 2, "kind": "destination", "destination": "mx:example.com",
                "start": NOW - MINUTE * 2, "last_seen": NOW - MINUTE, "cause": "no answer", "last": "no answer",
                "failures": 3, "diverted": 0, "held": 12, "oldest": NOW - MINUTE * 3, "longest_delay_ms": 180_000,
            })),
        ]
    }

    #[test]
    fn a_table_says_from_when_to_when_where_why_and_what_it_cost() {
        let text = shown(&outages(), NOW);
        let lines: Vec<&str> = text.lines().collect();
        let cells = |line: &str| {
            line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(
            cells(lines[1]),
            "2026-11-18T09:36:40.000Z|2026-11-18T10:36:40.000Z|1 hour|main: mx.example.org [192.0.2.1]:25|greeting|15|40|=554 \
             no, ?really"
        );
        assert_eq!(
            cells(lines[2]),
            "2026-11-18T11:04:40.000Z|ongoing|2 minutes|mx:example.com (all)|3|12|3 minutes|no answer"
        );
        assert_eq!(lines[4], "1 goes on; see posthouse upstreams");
        assert!(shown(&outages(), NOW + MINUTE * 20).contains("ongoing, last seen 2026-11-18T11:05:40.000Z"));
        assert_eq!(shown(&[], NOW), "No outage is remembered that matches.\n");
    }

    #[test]
    fn a_spreadsheet_runs_nothing_that_a_server_said() {
        let text = String::from_utf8(csv(&outages(), NOW).unwrap_or_default()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("id,kind,destination,host,address,start,end,duration_ms,stage,cause"));
        assert!(lines[1].contains(",3600000,greeting,\"'=554 no, \u{1b}really\","), "{text}");
        assert!(lines[2].contains(",,120000,,no answer,"), "{text}");
    }

    #[test]
    fn how_long_ago_counts_from_the_relays_now() {
        assert_eq!(when("2h"), Ok(When::Ago(Duration::from_secs(7200))));
        assert_eq!(when("2026-11-22"), Ok(When::At("2026-11-22T00:00:00Z".parse().unwrap())));
        assert!(when("yesterday").is_err());
    }
}
