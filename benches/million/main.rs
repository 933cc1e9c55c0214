//! `cargo bench --bench million [-- NAME...]`: the spool and the schedule at full size, each figure beside its goal.
//!
//! Contract: runs the parts that are named (`commit start memory idle drain space fairness`; default: all of them) and
//! prints one table: what, reached, goal, baseline of the same run. A goal that is missed is marked, a part that fails
//! says why and the others go on; `--check` ends with 1 then. Figures also go to `target/bench-million.json`.
//! What is measured runs in a process of its own: the program as cargo has just built it, the spool's `Log`, the
//! upstream and the client, so that memory and CPU are each one's own.
//! `--messages N` (default 1000000) scales the parts that are about a million, `--scale F` the others; `--folder DIR`
//! says on which disk (default: the build's); about 6 GB are needed there, and nothing stays.
//! Invariants: loopback only; only processes started here are ended; each wait is bounded in time.
//! Not here: how posthouse compares with other relays (`benches/relay`).

mod bare;
mod children;
mod commit;
mod drain;
mod fairness;
mod figure;
mod fill;
mod idle;
mod memory;
mod place;
mod posthouse;
mod sink;
mod source;
mod space;
mod start;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use figure::Report;
use place::Place;

type Failure = Box<dyn std::error::Error>;

/// A part: its name, and what it does.
type Part = (&'static str, fn(&Bench, &mut Report) -> Result<(), Failure>);

/// In the order in which they run: the three that need a million waiting share one spool, and a start does not change it.
const PARTS: &[Part] = &[
    ("commit", commit::run),
    ("start", start::run),
    ("memory", memory::run),
    ("idle", idle::run),
    ("drain", drain::run),
    ("space", space::run),
    ("fairness", fairness::run),
];

/// What all parts are given.
struct Bench {
    place: Place,
    /// How many wait where it is about a million.
    messages: u64,
    /// Of the usual size of the other parts.
    scale: f64,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// So many of what is usual, at least 1.
    fn scaled(&self, usual: u64) -> u64 {
        ((usual as f64 * self.scale) as u64).max(1)
    }
}

struct Given {
    messages: u64,
    scale: f64,
    folder: PathBuf,
    check: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.first() {
        Some(first) if first == children::MARK => children::run(&arguments[1..]).map(|()| true),
        _ => given(arguments).and_then(measure),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("million: {failure}");
            ExitCode::from(2)
        }
    }
}

fn given(arguments: Vec<String>) -> Result<Given, Failure> {
    let mut given = Given {
        messages: 1_000_000,
        scale: 1.0,
        folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        check: false,
        names: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--messages" => given.messages = value()?.parse()?,
            "--scale" => given.scale = value()?.parse()?,
            "--folder" => given.folder = value()?.into(),
            "--check" => given.check = true,
            name if PARTS.iter().any(|(known, _)| *known == name) => given.names.push(argument),
            _ => {
                let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                return Err(format!("{argument:?} is neither a flag nor one of {}", names.join(", ")).into());
            }
        }
    }
    Ok(given)
}

/// Tells whether every goal was reached.
fn measure(given: Given) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = Place::new(&given.folder)?;
    let bench = Bench { place, messages: given.messages, scale: given.scale, runtime };
    let mut report = Report::default();
    for (name, part) in PARTS {
        if given.names.is_empty() || given.names.iter().any(|given| given == name) {
            eprintln!("{name} ...");
            report.part(name);
            if let Err(failure) = part(&bench, &mut report) {
                eprintln!("{name} failed: {failure}");
                report.failed(failure.as_ref());
            }
            bench.place.clear_but_shared()?;
        }
    }
    println!("\n{report}");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-million.json");
    std::fs::write(&out, report.json(given.messages, given.scale))?;
    println!("figures: {}", out.display());
    Ok(report.all_reached() || !given.check)
}
