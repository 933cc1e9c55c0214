//! `posthouse plan`: the retry schedule as a table, with every attempt, notice and the expiry.

use clap::Args;

use crate::settings::ConfigFile;

/// Print the retry schedule: every attempt, the delay notice and the end, with warnings of holes in it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse plan --config /etc/posthouse.toml
  posthouse plan --preset exchange
  posthouse plan --preset postfix --format json")]
pub struct Plan {
    #[command(flatten)]
    pub config: ConfigFile,
    /// This preset, in place of the configuration's: default, rfc5321, exchange, postfix, transactional
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// table or json
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
}
