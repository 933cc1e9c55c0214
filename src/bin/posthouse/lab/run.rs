//! `posthouse lab run`: plays scenarios and says what is not as they say.
//!
//! Contract: files, and folders for all `.toml` files in them; many side by side, each on paused time of its own.
//! Exit code 0 when all is as expected, 1 when something is not, 2 when a file is faulty; the others are played all the
//! same. The same files give the same bytes, but for how long it took, which stands in the text alone.
//! Not here: playing (`posthouse::lab::scenario`); how results are written (`report`, `junit`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use posthouse::clock::Clock;
use posthouse::config::Faults;
use posthouse::lab::scenario::{Failure, Played, Scenario, expect, play};

use super::{junit, replace, report};
use crate::failed::Failed;
use crate::print;

/// Play scenarios on a clock that jumps, and compare with what they expect
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab run config/scenarios
  posthouse lab run --story greylisting.toml
  posthouse lab run --write mine.toml               what happened becomes what is expected
  posthouse lab run --list config/scenarios         which there are, and what each is about
  posthouse lab run --format junit --output results.xml config/scenarios

Exit code 0 when all is as expected, 1 when something is not, 2 when a file is faulty.")]
pub struct Run {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO")]
    paths: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the results in this format to a file; standard output then has them as text
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make what happened the expectations of each file; comments elsewhere are kept
    #[arg(long, conflicts_with = "seed")]
    write: bool,
    /// The chance in everything, in place of the files' own
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Tell all that happened
    #[arg(long)]
    story: bool,
    /// Play nothing, and list the scenarios with their titles
    #[arg(long, conflicts_with_all = ["write", "seed", "story", "output"])]
    list: bool,
    /// Scenarios that are played at one time; by default as many as there are processors
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Junit,
}

/// What came of one file.
pub struct Outcome {
    pub path: PathBuf,
    pub result: Result<Told, Faults>,
    /// In real time.
    pub took: Duration,
}

/// A scenario that was played.
pub struct Told {
    pub scenario: Scenario,
    pub played: Played,
    /// Whether its expectations were written into the file.
    pub written: bool,
}

impl Run {
    pub fn run(&self) -> Result<(), Failed> {
        let mut files = Vec::new();
        for path in &self.paths {
            files.extend(scenarios(path)?);
        }
        if self.list {
            return self.list_files(&files);
        }
        let outcomes = self.play_all(files);
        for outcome in &outcomes {
            match &outcome.result {
                Ok(told) => told.scenario.warnings.iter().for_each(|warning| eprint!("{warning}")),
                Err(faults) => eprintln!("{faults}"),
            }
        }
        let formatted = match self.format {
            Format::Text => report::text(&outcomes, self.story),
            Format::Json => report::json(&outcomes, self.story)?,
            Format::Junit => junit::xml(&outcomes),
        };
        match &self.output {
            None => print::text(&formatted)?,
            Some(output) => {
                std::fs::write(output, formatted).map_err(|error| {
                    Failed::Message(format!("cannot write {}: {error}", output.display()))
                })?;
                if self.format != Format::Text {
                    print::text(&report::text(&outcomes, self.story))?;
                }
            }
        }
        if outcomes.iter().any(|outcome| outcome.result.is_err()) {
            return Err(Failed::Said(ExitCode::from(crate::WRONG_CONFIGURATION)));
        }
        if outcomes.iter().any(Outcome::failed) {
            return Err(Failed::Said(ExitCode::FAILURE));
        }
        Ok(())
    }

    /// Each with its title; a file that is faulty is none of them.
    fn list_files(&self, files: &[PathBuf]) -> Result<(), Failed> {
        let (mut listed, mut faulty) = (Vec::new(), false);
        for path in files {
            match Scenario::load(path) {
                Ok(scenario) => listed.push((path.display().to_string(), scenario.title)),
                Err(faults) => {
                    eprintln!("{faults}");
                    faulty = true;
                }
            }
        }
        print::text(&match self.format {
            Format::Text => report::list(&listed),
            Format::Json => report::list_json(&listed)?,
            Format::Junit => {
                return Err(Failed::Message("a list is text or JSON: --format text|json".into()));
            }
        })?;
        if faulty { Err(Failed::Said(ExitCode::from(crate::WRONG_CONFIGURATION))) } else { Ok(()) }
    }

    /// In the order of the files, whichever ends first.
    fn play_all(&self, files: Vec<PathBuf>) -> Vec<Outcome> {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or_else(processors, usize::from).min(files.len());
        let next = AtomicUsize::new(0);
        let outcomes: Vec<Mutex<Option<Outcome>>> = files.iter().map(|_| Mutex::default()).collect();
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = files.get(index) else { break };
                *outcomes[index].lock().expect("nobody panics with it") = Some(self.play_one(path));
            }
        };
        std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
        let outcome = |slot: Mutex<Option<Outcome>>| slot.into_inner().ok().flatten();
        outcomes.into_iter().map(|slot| outcome(slot).expect("every file was played")).collect()
    }

    fn play_one(&self, path: &Path) -> Outcome {
        let clock = Clock::system();
        let begun = clock.now();
        let result = Scenario::load(path).map(|mut scenario| {
            scenario.seed = self.seed.unwrap_or(scenario.seed);
            let mut played = play(&scenario);
            let written = self.write && self.write_expectations(path, &mut played);
            Told { scenario, played, written }
        });
        Outcome { path: path.to_owned(), result, took: clock.now().since(begun) }
    }

    /// Only a story that is in order in itself can be expected.
    fn write_expectations(&self, path: &Path, played: &mut Played) -> bool {
        if played.failures.iter().any(|failure| !matches!(failure, Failure::Difference(_))) {
            eprintln!("{}: nothing is written, because the story itself is not in order", path.display());
            return false;
        }
        let written = std::fs::read_to_string(path).map_err(Failed::from).and_then(|text| {
            let new = expect::write(&text, &played.story)?;
            Ok(replace::replace(path, &new)?)
        });
        match written {
            Ok(()) => played.failures.clear(),
            Err(Failed::Message(problem)) => {
                eprintln!("{}: the expectations could not be written: {problem}", path.display());
            }
            Err(Failed::Said(_)) => {}
        }
        played.failures.is_empty()
    }
}

impl Outcome {
    /// Whether something is not as the file says.
    pub fn failed(&self) -> bool {
        self.result.as_ref().is_ok_and(|told| !told.played.failures.is_empty())
    }
}

/// The file itself, or the scenarios in a folder by their names.
fn scenarios(path: &Path) -> Result<Vec<PathBuf>, Failed> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| Failed::Message(format!("cannot read {}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Failed::Message(format!("there is no scenario (*.toml) in {}", path.display())));
    }
    files.sort();
    Ok(files)
}
