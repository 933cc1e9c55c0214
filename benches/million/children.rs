//! Processes of this very program that do one thing: fill a spool, commit, receive, send.
//!
//! Contract: a child is told everything by its arguments, answers each line of its input with a line of JSON, and ends
//! when its input does, so that none outlives the bench. One that only runs to its end answers once.
//! Not here: the relay, which is the real program (`posthouse`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Failure, bare, commit, fill, sink, source};

/// The first argument of a child.
pub const MARK: &str = "--child";

/// Does what a child is to do.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let (role, rest) = arguments.split_first().ok_or("a child needs a role")?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match role.as_str() {
        "fill" => fill::child(&rest),
        "commit" => commit::child(&rest),
        "bare" => bare::child(&rest),
        "sink" => sink::child(&rest),
        "source" => source::child(&rest),
        _ => Err(format!("no child is called {role}").into()),
    }
}

/// A child that runs.
pub struct Running {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(role: &str, arguments: &[String]) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([MARK, role])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("it was asked for"));
        Ok(Self { process, input, output })
    }

    /// The next line that it says.
    pub fn hear(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err("a child ended before its answer; what it said stands above".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub fn ask(&mut self, question: &str) -> Result<Value, Failure> {
        let input = self.input.as_mut().expect("it is taken by the end only");
        writeln!(input, "{question}")?;
        input.flush()?;
        self.hear()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ends with its input; the kill is for one that hangs.
        self.input = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a child to its end; its one answer.
pub fn answer_of(role: &str, arguments: &[String]) -> Result<Value, Failure> {
    Running::start(role, arguments)?.hear()
}

/// Says a line.
pub fn answer(value: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// The number called `name` in an answer.
pub fn number(answer: &Value, name: &str) -> Result<f64, Failure> {
    answer[name].as_f64().ok_or_else(|| format!("a child's answer lacks {name}: {answer}").into())
}

/// The moment, in a way that several processes agree on: seconds since 1970.
#[allow(clippy::disallowed_methods)] // a stopwatch over several processes, and no clock of a relay
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
