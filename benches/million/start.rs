//! How long a start takes with all those messages waiting, until the first attempt.
//!
//! Contract: from the program's start to the first connection at a listening upstream, the spool's files out of the
//! page cache; with the hints that lie beside the segments, then without them, beside reading the same log once. The
//! messages were never tried, so all are due. The program is killed at once, so that each start finds the same.
//! Not here: the memory that a start takes (`memory`).

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::children::now;
use super::figure::{Goal, Report, median};
use super::place::{drop_page_cache, files, is_of_spool, read_once};
use super::posthouse::Posthouse;
use super::{Bench, Failure};

const ROUNDS: usize = 3;

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let folder = bench.place.waiting(bench)?;
    let spool = folder.join("spool");
    let hints = files(&spool, &|path| has_extension(path, "hint"))?;
    // A million in 2 s; fewer in less, but never below what a process needs to begin.
    let goal = (2.0 * bench.messages as f64 / 1e6).max(0.1);
    if hints.is_empty() {
        report.add("with hints", f64::NAN, "s", Goal::AtMost(goal), "there are no hint files");
    } else {
        let octets: u64 =
            hints.iter().filter_map(|path| fs::metadata(path).ok()).map(|facts| facts.len()).sum();
        let seconds = rounds(|| first_attempt(&folder))?;
        let baseline =
            format!("{} hints, {:.1} octets a message", hints.len(), octets as f64 / bench.messages as f64);
        report.add("to the first attempt, with hints", seconds, "s", Goal::AtMost(goal), baseline);
    }
    let (mut without, mut reading, mut octets) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        for hint in files(&spool, &|path| has_extension(path, "hint"))? {
            fs::remove_file(hint)?;
        }
        without.push(first_attempt(&folder)?);
        // Those that are there now: a start gives back the space of what is dead.
        let segments = files(&spool, &|path| has_extension(path, "segment"))?;
        drop_page_cache(&segments)?;
        let began = now();
        octets = read_once(&segments)?;
        reading.push(now() - began);
    }
    let (without, reading) = (median(without), median(reading));
    report.add("to the first attempt, without hints", without, "s", Goal::None, "");
    let baseline = format!("{reading:.2} s to read {} MiB once, in order", octets >> 20);
    report.add("without hints, of reading the log once", without / reading, "", Goal::AtMost(1.0), baseline);
    Ok(())
}

fn rounds(mut once: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    let all: Result<Vec<f64>, Failure> = (0..ROUNDS).map(|_| once()).collect();
    Ok(median(all?))
}

/// Seconds from the program's start to its first connection.
fn first_attempt(folder: &Path) -> Result<f64, Failure> {
    forget_hosts(folder)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let settings = Posthouse::upstream(listener.local_addr()?.port());
    drop_page_cache(&files(&folder.join("spool"), &is_of_spool)?)?;
    let began = now();
    let relay = Posthouse::launch(folder, &settings, &[])?;
    let mut connected = began;
    relay.wait_at(0.002, 600.0, "the first attempt", || {
        connected = now();
        Ok(listener.accept().is_ok())
    })?;
    Ok(connected - began)
}

/// What is known of sick hosts would put the first attempt off.
pub fn forget_hosts(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder.join("spool/memory")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
