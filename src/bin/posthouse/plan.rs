//! `posthouse plan`: the retry schedule as a table, with every attempt, the notice and the end, before it is used.

use clap::Args;
use posthouse::config::Flags;
use posthouse::queue::plan;
use posthouse::queue::schedule::Preset;

use crate::failed::Failed;
use crate::place::Format;
use crate::print;
use crate::settings::ConfigFile;

/// Print the retry schedule: every attempt, the delay notice and the end, with warnings of holes in it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse plan
  posthouse plan --preset exchange
  posthouse plan --config /etc/posthouse.toml --format json")]
pub struct Plan {
    #[command(flatten)]
    config: ConfigFile,
    /// This preset, in place of the configuration's: default, rfc5321, exchange, postfix, transactional
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Plan {
    pub fn run(self) -> Result<(), Failed> {
        let retry = match self.preset {
            Some(preset) => preset.retry(),
            None => self.config.schedule(&Flags::default()).map_err(Failed::Said)?,
        };
        let plan = plan::Plan::of(&retry);
        match self.format {
            Format::Json => print::json(&plan),
            Format::Table => print::text(&plan.table()),
        }
    }
}
