//! The command line of posthouse.
//!
//! Contract: one file for each command; exit code 0 when all is well, 1 when something failed, 2 when the command line
//! or the configuration is wrong. What was asked for goes to standard output, everything else to standard error.
//! Not here: anything that an embedding program would want too (that is the library).

mod check;
mod config;
mod failed;
mod harmless;
mod health;
mod lab;
mod place;
mod plan;
mod print;
mod quarantine;
mod queue;
mod run;
mod send;
mod settings;
mod spool;
mod table;
mod track;
mod user;
mod why;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;

use failed::Failed;

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
    Run(run::Run),
    Check(check::Check),
    Plan(plan::Plan),
    Send(send::Send),
    #[command(subcommand)]
    Queue(queue::Queue),
    Why(why::Why),
    Track(track::Track),
    Health(health::Health),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Spool(spool::Spool),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Lab(lab::Lab),
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    let ended = match command {
        Command::Check(check) => return check.run(),
        Command::Track(track) => return track.run(),
        Command::Config(config) => return config.run(),
        Command::Plan(plan) => plan.run(),
        Command::Spool(spool) => spool.run(),
        Command::User(user) => user.run(),
        Command::Run(run) => block_on(Level::INFO, run.run()),
        Command::Send(send) => block_on(Level::INFO, send.run()),
        Command::Queue(queue) => block_on(Level::INFO, queue.run()),
        Command::Why(why) => block_on(Level::INFO, why.run()),
        Command::Health(health) => block_on(Level::INFO, health.run()),
        Command::Lab(lab) => lab.run(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.code(),
    }
}

/// Runs a command that waits for sockets.
fn block_on(level: Level, command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    log(level)?;
    tokio::runtime::Runtime::new()?.block_on(command)
}

/// What the program itself has to say goes to standard error, by POSTHOUSE_LOG (such as `debug`, or
/// `posthouse::spool=debug`; `level` by default).
fn log(level: Level) -> Result<(), Failed> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("POSTHOUSE_LOG")
        .from_env()?;
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    Ok(())
}

#[cfg(test)]
mod tests;
