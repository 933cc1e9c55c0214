//! `posthouse lab upstream`: the flaky upstream alone, for any mailer to be tested against.
//!
//! Contract: a line for each question that a rule has decided, and for each message that was taken; `lab say`, `lab
//! inbox` and `lab asked` reach it as they reach a whole lab. Ends on SIGINT, SIGTERM and SIGHUP, with exit code 0.
//! Not here: what rules do (`posthouse::lab`).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use posthouse::admin::Control;
use posthouse::clock::Timestamp;
use posthouse::lab::api::{self, InboxRow};
use posthouse::lab::{Asked, Script, Upstream};
use posthouse::net::Network;

use super::dir_flag;
use super::folder::{self, LabFolder};
use super::rules::Rules;
use super::story::end_signal;
use crate::failed::Failed;
use crate::harmless::harmless;
use crate::queue::plural;

/// Start the misbehaving upstream alone, to test other mailers against
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab upstream --listen 127.0.0.1:2526
  posthouse lab upstream --listen 127.0.0.1:2526 --say 'dot: keep and close, once'
  posthouse lab upstream --listen 127.0.0.1:2526 --script monday.rules --speed 60
  posthouse lab upstream --listen 127.0.0.1:2526 --say 'starttls: accept'

STARTTLS is offered while a rule speaks of it, with a certificate of the lab's own.")]
pub struct Alone {
    /// Where it takes mail; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Seconds that pass for its rules (first, after, until, for) for each real one
    #[arg(long, value_name = "N", default_value = "1", value_parser = super::speed)]
    speed: f64,
    #[command(flatten)]
    rules: Rules,
    /// The folder of its control socket; the well-known one of labs without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Alone {
    pub async fn run(self) -> Result<(), Failed> {
        let ended = end_signal()?;
        let rules = self.rules.read()?;
        let path = self.dir.clone().unwrap_or_else(folder::well_known);
        // What a whole lab may have kept there stays.
        let folder = LabFolder::claim(&path, false)?;
        let clock = super::clock(self.speed);
        let mut script = Script::new(clock.now(), clock.chance());
        for rule in rules {
            script.add(rule);
        }
        let upstream = Upstream::start(&Network::System, self.listen, &clock, script).await?;
        let _control = Control::serve(folder.path(), api::routes_alone(upstream.clone()))?;
        let dir = dir_flag(folder.path());
        let mut log = Log { start: clock.now(), questions: 0, number: 0 };
        say(&[
            format!("listening on {}", upstream.address()),
            format!(
                "`posthouse lab say{dir} RULE` changes what it does, `posthouse lab inbox{dir}` shows what it took"
            ),
        ])?;
        let mut ended = std::pin::pin!(ended);
        let mut changes = upstream.changes();
        loop {
            tokio::select! {
                () = &mut ended => break,
                Ok(()) = changes.changed() => match say(&log.news(&upstream)) {
                    // Whoever reads has seen enough; the upstream is there for others too.
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
                    _ => {}
                },
            }
        }
        let taken = log.number;
        let closing = format!("{taken} {} taken", plural(taken, "message was", "messages were"));
        match say(&[closing]) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// What was told already.
struct Log {
    start: Timestamp,
    /// So many questions.
    questions: u64,
    /// Messages up to this number.
    number: u64,
}

impl Log {
    /// The lines since the last time, in order of time.
    fn news(&mut self, upstream: &Upstream) -> Vec<String> {
        let (questions, asked) = upstream.asked_since(self.questions);
        let received = upstream.received_since(self.number);
        let decided = asked.iter().filter(|asked| asked.rule.is_some());
        let mut news: Vec<(Timestamp, String)> = decided.map(|row| (row.at, self.asked_line(row))).collect();
        let taken = received.iter().map(InboxRow::from);
        news.extend(taken.map(|row| (row.at, self.taken_line(&row))));
        news.sort_by_key(|(at, _)| *at);
        self.questions = questions;
        self.number = received.last().map_or(self.number, |message| message.number);
        news.into_iter().map(|(_, line)| harmless(&line)).collect()
    }

    fn asked_line(&self, row: &Asked) -> String {
        let rule = row.rule.map(|rule| format!(" (rule {rule})")).unwrap_or_default();
        let about = if row.about.is_empty() { String::new() } else { format!(" {}", row.about) };
        format!("{} {}{about}: {}{rule}", self.time(row.at), row.stage, row.did)
    }

    fn taken_line(&self, row: &InboxRow) -> String {
        let to = row.recipients.join(", ");
        format!(
            "{} took message {} from {} to {to}: {}",
            self.time(row.at),
            row.number,
            row.sender,
            row.subject
        )
    }

    fn time(&self, at: Timestamp) -> String {
        let seconds = at.since(self.start).as_secs();
        format!("+{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

fn say(lines: &[String]) -> io::Result<()> {
    use std::io::Write;
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}
