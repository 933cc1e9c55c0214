//! `posthouse run`: the relay.

use clap::Args;

use crate::settings::ConfigFile;

/// Run the relay
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse run --upstream smtp://relay.example:25
  posthouse run --config /etc/posthouse.toml
  posthouse run --listen 0.0.0.0:2525 --upstream smtp://a.example --upstream smtp://b.example
  posthouse run --upstream smtp://127.0.0.1:1025 --speed 3600    two days of retries in 48 seconds

Without a file it listens on 127.0.0.1:2525 and keeps its spool in ./posthouse-spool. Without an
upstream or a route it does not start: a lab must never mail the world by accident.
SIGTERM drains and stops; SIGHUP reads routes and schedules anew.")]
pub struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Listen there, in place of the configuration's listeners; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Hand everything to this host, in place of the configuration's routes; further ones are for failover
    #[arg(long, value_name = "URL")]
    pub upstream: Vec<String>,
    /// The folder of the spool
    #[arg(long, value_name = "DIR")]
    pub spool: Option<String>,
    /// Seconds that pass for each real one
    #[arg(long, value_name = "N")]
    pub speed: Option<String>,
}
