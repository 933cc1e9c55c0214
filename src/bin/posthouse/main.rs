//! The command line of posthouse.
//!
//! Contract: one file for each command; exit code 0 when all is well, 1 when something failed, 2 when the command line
//! or the configuration is wrong. What was asked for goes to standard output, everything else to standard error.
//! Not here: anything that an embedding program would want too (that is the library).

mod check;
mod config;
mod settings;
mod track;

// The command lines of what comes with the relay: complete, and checked by the tests below, but not offered yet.
#[cfg(test)]
mod plan;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod run;
#[cfg(test)]
mod send;
#[cfg(test)]
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of a command that failed and has said so.
const FAILED: ExitCode = ExitCode::FAILURE;
/// Exit code of a wrong configuration; clap uses the same for a wrong command line.
const WRONG_CONFIGURATION: u8 = 2;

/// An SMTP relay with a persistent delivery queue
#[derive(Parser)]
#[command(name = "posthouse", version, max_term_width = 100, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all is well, 1 something failed, 2 the command line or the configuration is wrong.
Settings: a file (--config, or POSTHOUSE_CONFIG), and POSTHOUSE_... variables, which win over it;
`posthouse config reference` prints every key with its default.";

#[derive(Subcommand)]
enum Command {
    Check(check::Check),
    Track(track::Track),
    #[command(subcommand)]
    Config(config::Config),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Check(check) => check.run(),
        Command::Track(track) => track.run(),
        Command::Config(config) => config.run(),
    }
}

#[cfg(test)]
mod tests;
