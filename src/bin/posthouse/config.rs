//! `posthouse config`: about the configuration file itself.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use posthouse::config::REFERENCE;

/// Print the reference of the configuration file
#[derive(Subcommand)]
pub enum Config {
    /// Print every key with its default and what it does; a good file to begin with
    #[command(after_help = "Example:\n  posthouse config reference > posthouse.toml")]
    Reference,
}

impl Config {
    pub fn run(&self) -> ExitCode {
        match std::io::stdout().write_all(REFERENCE.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot print the reference: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
