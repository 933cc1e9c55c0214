//! `posthouse spool`: what lies in the folder of a spool, without the relay's help.
//!
//! Contract: a file for each subcommand; nothing in the folder is changed.
//! Not here: reading it (`posthouse::spool`).

mod check;
mod export;

use clap::Subcommand;

use crate::failed::Failed;

/// Look into the folder of a spool, without a running relay
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  posthouse spool check
  posthouse spool check --format json --spool /var/spool/posthouse
  posthouse spool export 3A0S3EDZ1T00 --output message.eml
  posthouse spool export 3A0S3EDZ1T00 --format json")]
pub enum Spool {
    Check(check::Check),
    Export(export::Export),
}

impl Spool {
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Check(check) => check.run(),
            Self::Export(export) => export.run(),
        }
    }
}
