//! Reading the log back: the events, or the sessions, of a folder that pass a filter, oldest file first.
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

use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::event::Event;
use super::filter::Filter;
use super::folder::{self, Day, Kind};
use super::session::SessionRecord;
use crate::clock::Timestamp;
use crate::mail::SessionId;

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
    #[error("the line is not one of the log")]
    Line(#[source] serde_json::Error),
    #[error("the rest of the file cannot be read")]
    File(#[source] io::Error),
}

/// The events of `folder` that pass `filter`. Fails only when the folder itself cannot be read.
pub fn read(folder: &Path, filter: &Filter) -> io::Result<Records> {
    let days =
        Lines::of(folder, Kind::Events, filter.since, filter.until, filter.id.map(|id| id.to_string()))?;
    Ok(Records { lines: days, filter: filter.clone() })
}

/// Which of the sessions that were kept somebody wants to see; every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    pub id: Option<SessionId>,
    pub client: Option<IpNet>,
    /// Begun at this moment or later.
    pub since: Option<Timestamp>,
    /// Begun before this moment.
    pub until: Option<Timestamp>,
}

impl SessionFilter {
    pub fn passes(&self, session: &SessionRecord) -> bool {
        self.id.is_none_or(|id| session.session == id)
            && self.client.is_none_or(|net| net.contains(&session.client.to_canonical()))
            && self.since.is_none_or(|since| session.began >= since)
            && self.until.is_none_or(|until| session.began < until)
    }
}

/// The sessions of `folder` that were kept and pass `filter`. Fails only when the folder itself cannot be read.
pub fn sessions(folder: &Path, filter: &SessionFilter) -> io::Result<SessionRecords> {
    let needle = filter.id.map(|id| id.to_string());
    let lines = Lines::of(folder, Kind::Sessions, filter.since, filter.until, needle)?;
    Ok(SessionRecords { lines, filter: filter.clone() })
}

/// The events found, in the order of the log.
#[derive(Debug)]
pub struct Records {
    lines: Lines,
    filter: Filter,
}

impl Iterator for Records {
    type Item = Result<Event, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let filter = &self.filter;
        self.lines.next_as(|event| filter.passes(event))
    }
}

/// The sessions found, in the order in which they ended.
#[derive(Debug)]
pub struct SessionRecords {
    lines: Lines,
    filter: SessionFilter,
}

impl Iterator for SessionRecords {
    type Item = Result<SessionRecord, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let filter = &self.filter;
        self.lines.next_as(|session| filter.passes(session))
    }
}

/// The lines of the files of one kind.
#[derive(Debug)]
struct Lines {
    files: vec::IntoIter<(Day, PathBuf)>,
    open: Option<Open>,
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

impl Lines {
    fn of(
        folder: &Path,
        kind: Kind,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        needle: Option<String>,
    ) -> io::Result<Self> {
        let mut files = folder::files(folder, kind)?;
        files.retain(|(day, _)| {
            since.is_none_or(|since| *day >= Day::of(since)) && until.is_none_or(|until| day.start() < until)
        });
        Ok(Self { files: files.into_iter(), open: None, needle, line: Vec::new() })
    }

    /// The next line that is one of these and passes.
    fn next_as<T: DeserializeOwned>(&mut self, passes: impl Fn(&T) -> bool) -> Option<Result<T, Damage>> {
        loop {
            match self.next_line() {
                Ok(true) => match self.parsed() {
                    Some(Ok(found)) if !passes(&found) => {}
                    None => {}
                    found => return found,
                },
                Ok(false) => {
                    let (_, path) = self.files.next()?;
                    match File::open(&path) {
                        Ok(file) => {
                            self.open =
                                Some(Open { path, reader: BufReader::with_capacity(1 << 16, file), line: 0 })
                        }
                        // Too old, and deleted since.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => self.open = None,
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

    /// What stands on `self.line`, unless it cannot pass.
    fn parsed<T: DeserializeOwned>(&mut self) -> Option<Result<T, Damage>> {
        let misses = |needle: &String| memchr::memmem::find(&self.line, needle.as_bytes()).is_none();
        if self.line.is_empty() || self.needle.as_ref().is_some_and(misses) {
            return None;
        }
        let parsed = serde_json::from_slice::<T>(&self.line);
        Some(parsed.map_err(|error| self.damage(DamageReason::Line(error))))
    }
}
