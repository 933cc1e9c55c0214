//! Reading the log back: the events of a folder that pass a filter, oldest file first, as they stand.
//!
//! Contract: [`read`] gives an iterator that holds one line at a time. A line that is no event is given as a
//! [`Damage`] with its file and line, and reading goes on behind it. The last line of a file, while it has no end yet,
//! is taken for one that is being written, and is left for the next reading.
//! Invariants: reading changes nothing and needs no running relay; files of days outside the filter aren't opened.
//! Not here: which events (`filter`), how they are shown.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::vec;

use super::event::Event;
use super::filter::Filter;
use super::folder::{self, Day};

/// A piece of the log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}", path.display())]
pub struct Damage {
    pub path: PathBuf,
    /// Counted from 1.
    pub line: u64,
    #[source]
    pub reason: DamageReason,
}

/// What is wrong there.
#[derive(Debug, thiserror::Error)]
pub enum DamageReason {
    #[error("the line is no event")]
    Line(#[source] serde_json::Error),
    #[error("the rest of the file cannot be read")]
    File(#[source] io::Error),
}

/// The events of `folder` that pass `filter`. Fails only when the folder itself cannot be read.
pub fn read(folder: &Path, filter: &Filter) -> io::Result<Records> {
    let mut files = folder::files(folder)?;
    files.retain(|(day, _)| {
        filter.since.is_none_or(|since| *day >= Day::of(since))
            && filter.until.is_none_or(|until| day.start() < until)
    });
    let needle = filter.id.map(|id| id.to_string());
    Ok(Records { files: files.into_iter(), open: None, filter: filter.clone(), needle, line: Vec::new() })
}

/// The events found, in the order of the log.
#[derive(Debug)]
pub struct Records {
    files: vec::IntoIter<(Day, PathBuf)>,
    open: Option<Open>,
    filter: Filter,
    /// A text without which a line cannot pass, so that most lines need not be parsed.
    needle: Option<String>,
    line: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
}

impl Records {
    /// Reads the next whole line of the open file into `self.line`; false at the end of the file.
    fn next_line(&mut self) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        self.line.clear();
        open.line += 1;
        open.reader.read_until(b'\n', &mut self.line)?;
        Ok(self.line.pop() == Some(b'\n'))
    }

    fn damage(&mut self, reason: DamageReason) -> Damage {
        let (path, line) = match &self.open {
            Some(open) => (open.path.clone(), open.line),
            None => (PathBuf::new(), 0),
        };
        Damage { path, line, reason }
    }

    /// The event on `self.line`, if it passes.
    fn event(&mut self) -> Option<Result<Event, Damage>> {
        let misses = |needle: &String| memchr::memmem::find(&self.line, needle.as_bytes()).is_none();
        if self.line.is_empty() || self.needle.as_ref().is_some_and(misses) {
            return None;
        }
        match serde_json::from_slice::<Event>(&self.line) {
            Ok(event) => self.filter.passes(&event).then_some(Ok(event)),
            Err(error) => Some(Err(self.damage(DamageReason::Line(error)))),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Event, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_line() {
                Ok(true) => {
                    if let Some(found) = self.event() {
                        return Some(found);
                    }
                }
                Ok(false) => {
                    let (_, path) = self.files.next()?;
                    match File::open(&path) {
                        Ok(file) => {
                            self.open =
                                Some(Open { path, reader: BufReader::with_capacity(1 << 16, file), line: 0 })
                        }
                        Err(error) => {
                            return Some(Err(Damage { path, line: 1, reason: DamageReason::File(error) }));
                        }
                    }
                }
                Err(error) => {
                    let damage = self.damage(DamageReason::File(error));
                    self.open = None;
                    return Some(Err(damage));
                }
            }
        }
    }
}
