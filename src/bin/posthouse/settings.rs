//! Where commands take their settings from: the file that is named, the environment, and their flags.
//!
//! Contract: every fault is printed as the library says it, and the exit code is then 2.
//! Not here: what the settings are (`posthouse::config`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use posthouse::config::{self, Faults, Flags, Loaded, Places};
use posthouse::queue::schedule::Retry;

/// Which configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    /// The configuration file; by default what POSTHOUSE_CONFIG names, or none at all
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    pub fn path(&self) -> Option<PathBuf> {
        let named = std::env::var_os("POSTHOUSE_CONFIG").filter(|name| !name.is_empty());
        self.config.clone().or_else(|| named.map(PathBuf::from))
    }

    /// All settings, checked; faults are printed.
    pub fn load(&self, flags: &Flags) -> Result<Loaded, ExitCode> {
        config::load(self.path().as_deref(), environment(), flags).map_err(complain)
    }

    /// Only the retry schedule; faults are printed.
    pub fn schedule(&self, flags: &Flags) -> Result<Retry, ExitCode> {
        config::schedule(self.path().as_deref(), environment(), flags).map_err(complain)
    }

    /// Only where a relay keeps things; faults are printed.
    pub fn places(&self, flags: &Flags) -> Result<Places, ExitCode> {
        config::places(self.path().as_deref(), environment(), flags).map_err(complain)
    }

    /// Only where the users file is, if one is named; faults are printed.
    pub fn users_file(&self, flags: &Flags) -> Result<Option<PathBuf>, ExitCode> {
        config::users_file(self.path().as_deref(), environment(), flags).map_err(complain)
    }
}

fn complain(faults: Faults) -> ExitCode {
    eprintln!("{faults}");
    ExitCode::from(crate::WRONG_CONFIGURATION)
}

/// Variables that are no text can't be ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
