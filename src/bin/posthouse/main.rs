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
mod mx;
mod outages;
mod place;
mod plan;
mod print;
mod quarantine;
mod queue;
mod resubmit;
mod run;
mod send;
mod sendmail;
mod settings;
mod spool;
mod table;
mod track;
mod upstreams;
mod user;
mod why;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
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
    Sendmail(Box<sendmail::Sendmail>),
    #[command(subcommand)]
    Queue(queue::Queue),
    Resubmit(resubmit::Resubmit),
    Why(why::Why),
    Mx(Box<mx::Mx>),
    Track(track::Track),
    Upstreams(upstreams::Upstreams),
    Outages(outages::Outages),
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
    let (arguments, is_sendmail) = arguments();
    let command = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line.command,
        Err(error) if is_sendmail && error.use_stderr() => {
            // Its callers know other exit codes; what cannot be printed any more is of no use to anybody.
            let _ = error.print();
            return ExitCode::from(sendmail::WRONG_COMMAND_LINE);
        }
        Err(error) => error.exit(),
    };
    let ended = match command {
        Command::Check(check) => return check.run(),
        Command::Track(track) => return track.run(),
        Command::Config(config) => return config.run(),
        Command::Plan(plan) => plan.run(),
        Command::Spool(spool) => spool.run(),
        Command::User(user) => user.run(),
        Command::Run(run) => block_on(Level::INFO, run.run()),
        Command::Send(send) => block_on(Level::INFO, send.run()),
        Command::Sendmail(sendmail) => block_on(Level::WARN, sendmail.run()),
        Command::Queue(queue) => block_on(Level::INFO, queue.run()),
        Command::Resubmit(resubmit) => block_on(Level::INFO, resubmit.run()),
        Command::Why(why) => block_on(Level::INFO, why.run()),
        Command::Mx(mx) => block_on(Level::ERROR, mx.run()),
        Command::Upstreams(upstreams) => block_on(Level::INFO, upstreams.run()),
        Command::Outages(outages) => block_on(Level::INFO, outages.run()),
        Command::Health(health) => block_on(Level::INFO, health.run()),
        Command::Lab(lab) => lab.run(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.code(),
    }
}

/// The command line, and whether it is sendmail's. Called by the name `sendmail`, the program is that command.
fn arguments() -> (Vec<OsString>, bool) {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "sendmail") {
        // So that it calls itself by the name that it has otherwise.
        arguments.splice(..1, ["posthouse".into(), "sendmail".into()]);
    }
    let is_sendmail = arguments.get(1).is_some_and(|first| first == "sendmail");
    (arguments, is_sendmail)
}

/// Runs a command that waits for sockets.
fn block_on(level: Level, command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    log(level)?;
    tokio::runtime::Runtime::new()?.block_on(command)
}

/// What the program itself has to say goes to standard error, by POSTHOUSE_LOG (such as `debug`, or
/// `posthouse::spool=debug`; `level` by default).
fn log(level: Level) -> Result<(), Failed> {
    let mut filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("POSTHOUSE_LOG")
        .from_env()?;
    if std::env::var_os("POSTHOUSE_LOG").is_none() {
        // It shows each wrong signature and each odd record, that is, as much as any domain's owner likes; the relay says
        // itself what follows.
        filter = filter.add_directive("hickory=off".parse().expect("a directive"));
    }
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    Ok(())
}

#[cfg(test)]
mod tests;
