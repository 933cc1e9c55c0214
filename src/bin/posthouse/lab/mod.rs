//! `posthouse lab`: the rehearsal of bad days, live and in one command.
//!
//! Contract: a file for each subcommand. `up` and `upstream` run until they are ended, and leave nothing behind unless
//! told to; the others speak to the one that runs, over the control socket in its folder.
//! Invariants: nothing that others wrote reaches the terminal as a control character, but for what `--raw` asks for.
//! Not here: the scripted upstream and its rules (`posthouse::lab`), the relay (`posthouse::relay`).

mod folder;
mod inbox;
mod junit;
mod meaning;
mod narrate;
mod notice_text;
mod record;
mod replace;
mod report;
mod rules;
mod run;
mod samples;
mod say;
mod screen;
mod story;
mod up;
mod upstream;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use posthouse::admin::{Client, ClientError};
use posthouse::clock::Clock;

use crate::failed::Failed;

/// Rehearse the bad days of an upstream: 4xx for hours, full mailboxes, connections that drop
#[derive(Subcommand, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab up
  posthouse lab run config/scenarios
  posthouse lab up --speed 60 --say 'rcpt *@example.com: 451 4.7.1 try later, 3 times'
  posthouse lab say 'rcpt *@example.com: 451 4.7.1 try later, for 2h'
  posthouse lab say --list
  posthouse lab inbox
  posthouse lab inbox 1
  posthouse lab asked
  posthouse lab upstream --listen 127.0.0.1:2526
  posthouse lab record --upstream mail.example.net:25 --output recorded.toml")]
pub enum Lab {
    Up(up::Up),
    Run(run::Run),
    Record(Box<record::Record>),
    Upstream(upstream::Alone),
    Say(say::Say),
    Inbox(inbox::Inbox),
    Asked(inbox::AskedList),
}

impl Lab {
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Up(up) => live(up.run()),
            Self::Run(run) => {
                crate::log(LOG)?;
                run.run()
            }
            Self::Record(record) => live(record.run()),
            Self::Upstream(upstream) => live(upstream.run()),
            Self::Say(say) => live(say.run()),
            Self::Inbox(inbox) => live(inbox.run()),
            Self::Asked(asked) => live(asked.run()),
        }
    }
}

/// Of the program's log errors alone are shown: a lab tells the rest itself.
const LOG: tracing::Level = tracing::Level::ERROR;

/// On real time; what is played on paused time makes its own.
fn live(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    crate::block_on(LOG, command)
}

/// Which running lab is meant.
#[derive(Args, Debug)]
pub struct Place {
    /// The folder of the lab, as it was given to `lab up` or `lab upstream`; the well-known one without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(folder::well_known)
    }

    fn client(&self) -> Client {
        Client::new(&self.folder())
    }

    /// A lab that does not run is a matter of its own.
    fn failed(&self, error: ClientError) -> Failed {
        match error {
            ClientError::NotRunning { folder } => Failed::Message(format!(
                "no lab runs on {}: start one with `posthouse lab up`, or name its folder by --dir",
                folder.display()
            )),
            other => other.into(),
        }
    }
}

/// `--dir DIR` where a command needs it to find this lab.
fn dir_flag(folder: &Path) -> String {
    if folder == folder::well_known() { String::new() } else { format!(" --dir {}", folder.display()) }
}

/// A clock's speed: seconds for each real one.
fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // Beyond that a real millisecond is more than a day, and no schedule means anything.
        Ok(speed) if speed > 0.0 && speed <= 1e8 => Ok(speed),
        _ => Err("expected a number above 0 and up to 1e8, such as 3600 for an hour in a second".into()),
    }
}

/// A clock that starts now.
fn clock(speed: f64) -> Clock {
    Clock::at_speed(speed)
}
