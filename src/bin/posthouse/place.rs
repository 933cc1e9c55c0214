//! Which relay a command means: the one that owns a spool folder.

use clap::Args;
use posthouse::admin::Client;
use posthouse::config::{Flags, Places};

use crate::failed::Failed;
use crate::settings::ConfigFile;

#[derive(Args, Debug)]
pub struct Place {
    #[command(flatten)]
    config: ConfigFile,
    /// The folder of the spool, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    spool: Option<String>,
}

impl Place {
    pub fn client(&self) -> Result<Client, Failed> {
        Ok(Client::new(&self.places()?.spool))
    }

    pub fn config(&self) -> &ConfigFile {
        &self.config
    }

    /// The folders of that relay, whether it runs or not.
    pub fn places(&self) -> Result<Places, Failed> {
        let flags = Flags { spool: self.spool.clone(), ..Flags::default() };
        self.config.places(&flags).map_err(Failed::Said)
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}
