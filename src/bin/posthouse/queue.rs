//! `posthouse queue`: what waits in a running relay, and what an operator can do about it.

use clap::{Args, Subcommand};
use posthouse::mail::QueueId;

use crate::settings::ConfigFile;

/// Look at the queue of a running relay, and interfere
#[derive(Subcommand, Debug)]
#[command(after_help = "\
Examples:
  posthouse queue list --recipient @example.com
  posthouse queue show 06K2V9QH7R00
  posthouse queue retry --destination main
  posthouse queue hold --sender alice@example.org")]
pub enum Queue {
    /// List what waits
    List(Selection),
    /// Show one message: envelope, recipients, their states and last outcomes
    Show(One),
    /// Try now
    Retry(Selection),
    /// Take out of the schedule until released; held messages don't age
    Hold(Selection),
    /// Put back into the schedule
    Release(Selection),
    /// Give up without a notice
    Cancel(Selection),
}

/// Which relay, and how to answer.
#[derive(Args, Debug)]
pub struct Asking {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The folder of the spool, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    pub spool: Option<String>,
    /// table or json
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}

#[derive(Args, Debug)]
pub struct One {
    pub id: QueueId,
    #[command(flatten)]
    pub asking: Asking,
}

/// Which messages: those named, or those for which every condition holds.
#[derive(Args, Debug)]
pub struct Selection {
    /// Queue ids
    pub ids: Vec<QueueId>,
    /// Everything; without it a command that changes something wants ids or a condition
    #[arg(long)]
    pub all: bool,
    /// An upstream group, or mx:DOMAIN
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// The reverse-path, or @DOMAIN
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// One of the recipients, or @DOMAIN
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}
