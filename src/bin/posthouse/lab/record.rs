//! `posthouse lab record`: writes down what a real upstream did, as a scenario.
//!
//! Contract: with --upstream it sits between a relay and that server until it is stopped; with --tracking it reads a
//! tracking log. The scenario goes to --output or to standard output, and what was left out is said on standard error.
//! With --output it is written while it is recorded, too, so that a recording that is killed is not lost.
//! Not here: what is understood of either, and the masks (`posthouse::lab::record`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use posthouse::clock::{Clock, Timestamp};
use posthouse::config::Flags;
use posthouse::lab::record::{ForwardTo, Observations, Recorder, SoFar, from_tracking};
use posthouse::net::Network;
use posthouse::tracking::{self, Filter};
use tokio::signal::unix::{SignalKind, signal};

use super::replace::replace;
use crate::failed::Failed;
use crate::print;
use crate::settings::ConfigFile;

/// Write down what a real upstream did, as a scenario for `lab run`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab record --upstream mail.example.net:25 --output flaky.toml
  posthouse lab record --upstream 192.0.2.10:25 --listen 127.0.0.1:2600 --for 2h > flaky.toml
  posthouse lab record --tracking posthouse-spool --since 2d --output outage.toml

Point the relay at the address of --listen; Ctrl-C ends the recording and writes the scenario.
Content is never kept; addresses and names are masked. STARTTLS is taken out of what the
upstream offers, so record over a network that you trust. Then: posthouse lab run --write FILE")]
pub struct Record {
    /// The server whose behaviour is recorded, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "tracking", conflicts_with = "tracking")]
    upstream: Option<String>,
    /// Where the relay connects to
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2600")]
    listen: SocketAddr,
    /// End after so many sessions
    #[arg(long, value_name = "N", conflicts_with = "tracking")]
    sessions: Option<u64>,
    /// End after so long, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "tracking")]
    duration: Option<Duration>,
    /// Read a tracking log in place of a dialogue: its folder, or a spool
    #[arg(long, value_name = "DIR")]
    tracking: Option<PathBuf>,
    /// From then on: a moment, a day, or how long ago (2h)
    #[arg(long, value_name = "WHEN", value_parser = crate::track::moment, requires = "tracking")]
    since: Option<Timestamp>,
    /// Before then, written alike
    #[arg(long, value_name = "WHEN", value_parser = crate::track::moment, requires = "tracking")]
    until: Option<Timestamp>,
    /// Only this host, by name or address
    #[arg(long, value_name = "NAME", requires = "tracking")]
    host: Option<String>,
    /// What the scenario is about
    #[arg(long, default_value = "recorded")]
    title: String,
    /// The file to write; standard output without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How often the file is written anew while the recording goes on.
const OFTEN: Duration = Duration::from_secs(3);
const SELDOM: Duration = Duration::from_secs(60);
/// From so many answers on it is a matter of time.
const MANY_ANSWERS: usize = 10_000;

/// Makes the file that will be written, so that nobody records for nothing; false if it is there and empty, or no file
/// that could be lost, such as a pipe.
fn claim(output: &Path) -> Result<bool, Failed> {
    let cannot = |why: String| Failed::Message(format!("cannot write {}: {why}", output.display()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(output);
    match made {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let known = std::fs::metadata(output).map_err(|error| cannot(error.to_string()))?;
            if known.is_file() && known.len() > 0 {
                return Err(cannot("it exists; name another file, or move this one away".to_owned()));
            }
            if known.is_file() {
                let open = std::fs::OpenOptions::new().append(true).open(output);
                open.map_err(|error| cannot(error.to_string()))?;
            } else if known.is_dir() {
                return Err(cannot("it is a folder".to_owned()));
            }
            Ok(false)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(cannot("its folder does not exist; make it first".to_owned()))
        }
        Err(error) => Err(cannot(error.to_string())),
    }
}

impl Record {
    pub async fn run(self) -> Result<(), Failed> {
        // Before hours of recording, not after.
        let claimed = self.output.as_deref().map(claim).transpose()?;
        let seen = self.observe().await;
        if let (Err(_), Some(true), Some(output)) = (&seen, claimed, &self.output) {
            // Nothing will be written: what stays behind would be in the way of the next recording.
            let _ = std::fs::remove_file(output);
        }
        let seen = seen?;
        if seen.transactions.is_empty() {
            eprintln!(
                "note: no message was seen; add a [[message]] before `posthouse lab run` can play this"
            );
        }
        for note in &seen.notes {
            eprintln!("note: {note}");
        }
        let text = seen.scenario(&self.title);
        match &self.output {
            None => print::text(&text),
            Some(output) => {
                replace(output, &text).map_err(|error| {
                    Failed::Message(format!("cannot write {}: {error}", output.display()))
                })?;
                eprintln!("written: {}", output.display());
                Ok(())
            }
        }
    }

    async fn observe(&self) -> Result<Observations, Failed> {
        match (&self.upstream, &self.tracking) {
            (Some(upstream), _) => self.listen(upstream).await,
            (None, Some(folder)) => self.read(folder),
            (None, None) => unreachable!("clap wants one of them"),
        }
    }

    async fn listen(&self, upstream: &str) -> Result<Observations, Failed> {
        let wrong = |why: String| {
            Failed::Message(format!(
                "--upstream {upstream}: {why}; expected a host and a port, such as mail.example.net:25"
            ))
        };
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host(upstream).await.map_err(|error| wrong(error.to_string()))?.collect();
        if addresses.is_empty() {
            return Err(wrong("the name has no address".to_owned()));
        }
        if self.listen.port() != 0 && addresses.contains(&self.listen) {
            return Err(Failed::Message(format!(
                "--upstream {upstream} is where this listens, so that it would talk to itself; listen elsewhere (--listen)"
            )));
        }
        let name = upstream.rsplit_once(':').map_or(upstream, |(name, _)| name).to_owned();
        let clock = Clock::system();
        let to = ForwardTo { name, addresses };
        let recorder = Recorder::bind(&Network::System, self.listen, to, &clock).await?;
        eprintln!(
            "recording: {} passes on to {upstream}; STARTTLS is taken out of its EHLO reply; Ctrl-C ends",
            recorder.local_addr()
        );
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let duration = self.duration;
        let stop = async move {
            let over = async {
                match duration {
                    Some(duration) => clock.wait(duration).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = over => {}
            }
        };
        let so_far = recorder.so_far();
        tokio::select! {
            seen = recorder.record(stop, self.sessions) => Ok(seen),
            never = self.write_as_it_goes(so_far) => match never {},
        }
    }

    /// What there is so far goes into the file every few seconds; of many answers, every minute.
    async fn write_as_it_goes(&self, so_far: SoFar) -> Infallible {
        let Some(output) = &self.output else { return std::future::pending().await };
        let clock = Clock::system();
        let mut written = 0;
        loop {
            let answers = so_far.answers();
            clock.wait(if answers < MANY_ANSWERS { OFTEN } else { SELDOM }).await;
            if answers != written {
                written = answers;
                let text = so_far.observations().scenario(&self.title);
                if let Err(error) = replace(output, &text) {
                    eprintln!("warning: cannot write {} for now: {error}", output.display());
                }
            }
        }
    }

    fn read(&self, folder: &Path) -> Result<Observations, Failed> {
        let is_log = std::fs::read_dir(folder)
            .map_err(|error| Failed::Message(format!("--tracking {}: {error}", folder.display())))?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".jsonl")));
        let folder = if is_log {
            folder.to_owned()
        } else {
            // A spool, whose log is where its configuration says.
            let flags = Flags { spool: folder.to_str().map(str::to_owned), ..Flags::default() };
            ConfigFile::default().places(&flags).map_err(Failed::Said)?.tracking
        };
        let filter = Filter { since: self.since, until: self.until, ..Filter::default() };
        let records = tracking::read(&folder, &filter).map_err(|error| {
            Failed::Message(format!("cannot read the tracking log in {}: {error}", folder.display()))
        })?;
        let events = records.filter_map(|found| found.map_err(|damage| crate::track::complain(&damage)).ok());
        let seen = from_tracking(events, self.host.as_deref());
        if seen.upstreams.is_empty() {
            return Err(Failed::Message(format!(
                "no attempt at {} in {}; see posthouse track",
                self.host.as_deref().unwrap_or("any host"),
                folder.display()
            )));
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_claimed_before_the_recording_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let why = |name: &str| match claim(&folder.path().join(name)) {
            Err(Failed::Message(why)) => why,
            other => panic!("{:?}", other.is_ok()),
        };
        assert!(why("none/x.toml").contains("its folder does not exist"));
        assert!(why(folder.path().to_str().unwrap()).contains("it is a folder"));
        let file = folder.path().join("x.toml");
        assert!(claim(&file).is_ok_and(|made| made));
        assert!(claim(&file).is_ok_and(|made| !made), "an empty one may be filled");
        std::fs::write(&file, "title = \"by hand\"").unwrap();
        assert!(why("x.toml").contains("it exists"));
        assert!(claim(Path::new("/dev/null")).is_ok_and(|made| !made));
    }
}
