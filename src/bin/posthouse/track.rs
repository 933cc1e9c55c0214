//! `posthouse track`: what happened to a message, or in a session, read from the tracking log.
//!
//! Contract: needs no running relay; a damaged line is reported on standard error and passed over. JSON is the log's
//! own lines, CSV is for spreadsheets, the table is for people and may change.
//! Invariants: nothing that a stranger wrote reaches the terminal as a control character.
//! Not here: the log itself (`posthouse::tracking`), sessions (`session`), watching clients (`watch`).

mod session;
mod watch;

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use ipnet::IpNet;
use posthouse::admin::Client;
use posthouse::clock::{Clock, Timestamp};
use posthouse::config::Flags;
use posthouse::mail::{QueueId, SessionId};
use posthouse::tracking::{self, CsvWriter, Event, EventName, Filter, Records};

use crate::failed::{Failed, chain};
use crate::harmless::harmless;
use crate::settings::ConfigFile;

/// Show what happened to messages, from the tracking log
#[derive(Args)]
#[command(after_help = "\
Examples:
  posthouse track --recipient bob@example.com --since 2h
  posthouse track --sender @example.org --event DEFER,FAIL --since 2026-11-22
  posthouse track --id 06K2V9QH7R00 --format json
  posthouse track --text 'greylisted' --format csv > greylisted.csv
  posthouse track --session 5T0QK3ZN    all that was said in a session, and where to look
  posthouse track --sessions --client 192.0.2.0/24 --since 1h    the sessions that were kept
  posthouse track --watch 192.0.2.7 --for 30m    keep all sessions of this client

All conditions must hold. Addresses are compared without regard to case; @example.org stands for
everybody there, <> for the null reverse-path of notices.

Which sessions are kept says [tracking] sessions: by default those in which something was refused or
failed. Secrets and content are never kept. With other conditions, --session only picks events.")]
#[command(group = ArgGroup::new("what").args(["sessions", "watch", "unwatch", "watched"]))]
pub struct Track {
    #[command(flatten)]
    config: ConfigFile,
    /// The folder of the spool, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    spool: Option<String>,
    /// Queue id: of the message, or of what its notice is about
    #[arg(long)]
    id: Option<QueueId>,
    /// The Message-ID field, with or without angle brackets
    #[arg(long)]
    message_id: Option<String>,
    /// A session: its transcript, how it ended, and whose fault that may be
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// List the sessions that were kept
    #[arg(long)]
    sessions: bool,
    /// Of this client: an address or a network
    #[arg(long, value_name = "ADDRESS", value_parser = peer)]
    client: Option<IpNet>,
    /// Ask the running relay to keep all sessions of this client: an address or a network
    #[arg(long, value_name = "ADDRESS", value_parser = peer)]
    watch: Option<IpNet>,
    /// How long to watch, up to a day
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Watch this client no longer
    #[arg(long, value_name = "ADDRESS", value_parser = peer)]
    unwatch: Option<IpNet>,
    /// Say who is watched
    #[arg(long)]
    watched: bool,
    /// The reverse-path
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// One of the recipients
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Names of events, separated by commas: RECEIVE, DEFER, SEND, FAIL ...
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    event: Vec<EventName>,
    /// From then on: a moment (2026-11-22T03:33:07Z), a day (2026-11-22, in UTC), or how long ago (2h)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before then, written alike
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Timestamp>,
    /// Any field contains this text
    #[arg(long)]
    text: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

impl Track {
    pub fn run(&self) -> ExitCode {
        let flags = Flags { spool: self.spool.clone(), ..Flags::default() };
        let places = match self.config.places(&flags) {
            Ok(places) => places,
            Err(code) => return code,
        };
        let folder = places.tracking;
        if let Some(wish) = self.wish() {
            return ended(watch::run(Client::new(&places.spool), wish, self.format));
        }
        if self.sessions {
            let filter = session::filter(self.client, self.since, self.until);
            return ended(session::list(&folder, &filter, self.format));
        }
        match self.session {
            Some(id) if self.is_only_session() => return ended(session::show(&folder, id, self.format)),
            _ => {}
        }
        let records = match tracking::read(&folder, &self.filter()) {
            Ok(records) => records,
            Err(error) => {
                eprintln!("cannot read the tracking log in {}: {error}", folder.display());
                eprintln!("name the relay's own configuration with --config, or its spool with --spool");
                return ExitCode::FAILURE;
            }
        };
        match self.print(records) {
            Ok(0) => eprintln!("no such event in {}", folder.display()),
            Ok(_) => {}
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                eprintln!("cannot print the events: {error}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }

    fn wish(&self) -> Option<watch::Wish> {
        match (self.watch, self.unwatch, self.watched) {
            (Some(peer), _, _) => Some(watch::Wish::Watch(peer, self.time)),
            (_, Some(peer), _) => Some(watch::Wish::Unwatch(peer)),
            (_, _, true) => Some(watch::Wish::List),
            (None, None, false) => None,
        }
    }

    /// Nothing but a session is asked for, and not as rows for a spreadsheet.
    fn is_only_session(&self) -> bool {
        let filter = Filter { session: None, ..self.filter() };
        filter == Filter::default() && self.format != Format::Csv
    }

    fn filter(&self) -> Filter {
        Filter {
            id: self.id,
            message_id: self.message_id.clone(),
            session: self.session,
            client: self.client,
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            events: self.event.clone(),
            since: self.since,
            until: self.until,
            text: self.text.clone(),
        }
    }

    /// Prints all and says how many there were.
    fn print(&self, records: Records) -> io::Result<u64> {
        let mut out = BufWriter::new(io::stdout().lock());
        let events = records.filter_map(|found| found.map_err(|damage| complain(&damage)).ok());
        let mut count = 0;
        match self.format {
            Format::Csv => {
                let mut table = CsvWriter::new(&mut out)?;
                for event in events {
                    table.write(&event)?;
                    count += 1;
                }
            }
            Format::Json => {
                for event in events {
                    serde_json::to_writer(&mut out, &event)?;
                    out.write_all(b"\n")?;
                    count += 1;
                }
            }
            Format::Table => {
                for event in events {
                    writeln!(out, "{}", row(&event))?;
                    count += 1;
                }
            }
        }
        out.flush()?;
        Ok(count)
    }
}

fn ended(result: Result<(), Failed>) -> ExitCode {
    result.map_or_else(Failed::code, |()| ExitCode::SUCCESS)
}

/// An address, or a network.
fn peer(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse()
        .or(address)
        .map_err(|_| "expected an address such as 192.0.2.7, or a network such as 192.0.2.0/24".to_owned())
}

pub(crate) fn complain(damage: &tracking::Damage) {
    eprintln!("{}", chain(damage));
}

/// One event on one line: when, what, which message, from whom to whom, and then whatever there is to say.
fn row(event: &Event) -> String {
    format!("{}  {}", event.time, told(event))
}

/// The same without the time.
pub fn told(event: &Event) -> String {
    let id = event.id.map(|id| id.to_string()).unwrap_or_default();
    let mut row = format!("{:<11} {id:<12}", event.event);
    if let Some(sender) = &event.sender {
        row += &format!("  {sender}");
    }
    if !event.recipients.is_empty() {
        row += &format!(" -> {}", event.recipients.join(", "));
    }
    let details = details(event);
    if !details.is_empty() {
        row += &format!("  {}", details.join("; "));
    }
    harmless(&row)
}

fn details(event: &Event) -> Vec<String> {
    let mut details = Vec::new();
    let mut say = |label: &str, text: Option<String>| {
        details.extend(text.map(|text| if label.is_empty() { text } else { format!("{label} {text}") }));
    };
    say("client", event.client.map(|client| format!("[{client}]")));
    say("session", event.session.filter(|_| event.id.is_none()).map(|session| session.to_string()));
    say("as", event.user.clone());
    say("by", event.mechanism.clone());
    say("by way of", event.destination.clone());
    say("", event.host().map(|host| host.to_string()));
    say("", event.reason.clone());
    // What a route answers stands in its reason already.
    let said = event.reply.as_ref().map(ToString::to_string);
    let is_told = |said: &String| event.reason.as_ref().is_some_and(|reason| reason.contains(said));
    say("said:", said.filter(|said| !is_told(said)));
    say("over", over(event));
    say("then", event.next_host.clone());
    for candidate in &event.candidates {
        say("", Some(candidate.to_string()));
    }
    say("attempt", event.attempt.map(|attempt| attempt.to_string()));
    say("next at", event.next_attempt.map(|next| next.to_string()));
    say("gives up at", event.expires.map(|expires| expires.to_string()));
    say("since", event.since.map(|since| since.to_string()));
    say("messages waiting:", event.waiting.map(|waiting| waiting.to_string()));
    say("size", event.size.map(|size| size.to_string()));
    say("see", event.reference.map(|reference| reference.to_string()));
    details
}

/// `TLSv1.3 TLS_AES_256_GCM_SHA384, verified by ca`
pub(crate) fn over(event: &Event) -> Option<String> {
    let (version, cipher) = (event.tls_version.as_ref()?, event.tls_cipher.as_deref().unwrap_or_default());
    Some(match event.tls_verified_by.as_deref() {
        Some("none") | None => format!("{version} {cipher}, certificate not verified"),
        Some(by) => format!("{version} {cipher}, verified by {by}"),
    })
}

pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    if let Ok(day) = format!("{text}T00:00:00Z").parse() {
        return Ok(day);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "expected a moment such as 2026-11-22T03:33:07Z, a day such as 2026-11-22, or how long ago, such as 2h".to_owned()
    })?;
    Ok(Clock::system().now() - ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_the_story_and_lets_no_control_character_through() {
        let mut event = Event::new("2026-11-22T03:33:07Z".parse().unwrap(), EventName::Defer);
        event.id = Some(QueueId::from_u64(7));
        event.sender = Some("alice@example.org".into());
        event.recipients = vec!["bob@example.com".into()];
        event.host = Some("relay-a.example".into());
        event.reason = Some("\u{1b}[31mred".into());
        event.attempt = Some(2);
        assert_eq!(
            row(&event),
            "2026-11-22T03:33:07.000Z  DEFER       000000000007  alice@example.org -> bob@example.com  \
             relay-a.example; ?[31mred; attempt 2"
        );
    }

    #[test]
    fn what_a_route_answers_is_said_once() {
        let mut event = Event::new("2026-11-22T03:33:07Z".parse().unwrap(), EventName::Defer);
        event.reply = Some("452 4.2.2 Mailbox full".parse().unwrap());
        event.reason = Some("answered by a route: 452 4.2.2 Mailbox full".into());
        assert_eq!(told(&event).matches("452 4.2.2").count(), 1);
        event.reason = Some("the host refused RCPT".into());
        assert!(told(&event).ends_with("the host refused RCPT; said: 452 4.2.2 Mailbox full"));
    }

    #[test]
    fn a_moment_is_a_moment_a_day_or_how_long_ago() {
        assert_eq!(moment("2026-11-22").unwrap().to_string(), "2026-11-22T00:00:00.000Z");
        assert_eq!(moment("2026-11-22T03:33:07+01:00").unwrap().to_string(), "2026-11-22T02:33:07.000Z");
        let now = Clock::system().now();
        let ago = now.since(moment("2h").unwrap());
        assert!((7_190..=7_200).contains(&ago.as_secs()), "{ago:?}");
        assert!(moment("yesterday").is_err());
    }
}
