//! The folder of the log: one file for each day in UTC, `posthouse-2026-11-22.jsonl`, kept for a set time; and beside it
//! one for the sessions of that day that are worth a look, `sessions-2026-11-22.jsonl`.
//!
//! Contract: [`Folder::append`] adds whole lines to the file of their day and says how many were lost when it fails;
//! files whose last moment is older than `keep` are deleted when the folder is opened and when the day changes.
//! Invariants: a line is never glued to one that a crash or a full disk cut short; nothing is deleted or read but
//! files with exactly our names.
//! Not here: when to write (`journal`). Nothing is synced: the log may lose its last lines in a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);

/// A day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_millis() / 86_400_000)
    }

    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(86_400_000))
    }

    /// The first moment after it.
    pub fn end(self) -> Timestamp {
        self.start() + DAY
    }

    fn file_name(self, kind: Kind) -> String {
        format!("{}-{}.jsonl", kind.prefix(), self.start().to_jiff().strftime("%Y-%m-%d"))
    }

    fn of_file_name(name: &str, kind: Kind) -> Option<Self> {
        let date = name.strip_prefix(kind.prefix())?.strip_prefix('-')?.strip_suffix(".jsonl")?;
        let day = Self::of(format!("{date}T00:00:00Z").parse().ok()?);
        // Only the one way in which we write it.
        (day.file_name(kind) == name).then_some(day)
    }
}

/// What a file has on its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    Sessions,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Events => "posthouse",
            Self::Sessions => "sessions",
        }
    }
}

/// Lines that could not be written, and why.
#[derive(Debug)]
pub(super) struct Shortfall {
    pub lines_lost: u64,
    pub path: PathBuf,
    pub error: io::Error,
}

pub(super) struct Folder {
    path: PathBuf,
    keep: Duration,
    events: Option<(Day, File)>,
    sessions: Option<(Day, File)>,
    /// The day on which old files were deleted last.
    tidied: Day,
}

impl Folder {
    /// Makes the folder where it is missing and deletes what is too old. A full disk is no error here: what waits in
    /// the spool must be delivered all the same, and may be what fills the disk. `append` tells of it.
    pub fn at(path: &Path, keep: Duration, now: Timestamp) -> io::Result<Self> {
        // Who wrote to whom is nobody else's business; and it may lie in the spool, which is 0700 too.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mut folder =
            Self { path: path.to_owned(), keep, events: None, sessions: None, tidied: Day::of(now) };
        // That the file can be opened is worth knowing at the start, not at the first message.
        let opened = folder.file_of(Kind::Events, Day::of(now)).map(|_| ());
        folder.delete_old(now);
        match opened {
            Err(error) if !is_full(&error) => Err(error),
            Ok(()) | Err(_) => Ok(folder),
        }
    }

    /// Appends whole lines that all belong to `day`.
    pub fn append(&mut self, kind: Kind, day: Day, lines: &[u8]) -> Result<(), Shortfall> {
        let mut written = 0;
        let result = self.file_of(kind, day).and_then(|file| {
            while written < lines.len() {
                match file.write(&lines[written..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        if self.tidied < day {
            self.tidied = day;
            self.delete_old(day.start());
        }
        result.map_err(|error| {
            // Opened anew next time, and its cut line ended.
            *self.open(kind) = None;
            Shortfall {
                lines_lost: memchr::memchr_iter(b'\n', &lines[written..]).count() as u64,
                path: self.path.join(day.file_name(kind)),
                error,
            }
        })
    }

    /// The file of `day`, also when somebody has deleted the one that was open.
    fn file_of(&mut self, kind: Kind, day: Day) -> io::Result<&mut File> {
        let path = self.path.join(day.file_name(kind));
        let open = self.open(kind);
        let usable = match open {
            Some((open, file)) => *open == day && file.metadata()?.nlink() > 0,
            None => false,
        };
        if !usable {
            *open = Some((day, open_for_lines(&path)?));
        }
        let (_, file) = open.as_mut().expect("opened just above");
        Ok(file)
    }

    fn open(&mut self, kind: Kind) -> &mut Option<(Day, File)> {
        match kind {
            Kind::Events => &mut self.events,
            Kind::Sessions => &mut self.sessions,
        }
    }

    fn delete_old(&self, now: Timestamp) {
        let both = files(&self.path, Kind::Events).and_then(|mut all| {
            all.extend(files(&self.path, Kind::Sessions)?);
            Ok(all)
        });
        let files = match both {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), %error, "cannot look for old tracking files");
                return;
            }
        };
        for (day, path) in files {
            if day.end() + self.keep > now {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => tracing::info!(file = %path.display(), "deleted an old tracking file"),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "cannot delete an old tracking file");
                }
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Opens for appending, and ends the last line if it was cut short.
fn open_for_lines(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// The files of one kind, oldest first.
pub(super) fn files(folder: &Path, kind: Kind) -> io::Result<Vec<(Day, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(day) = entry.file_name().to_str().and_then(|name| Day::of_file_name(name, kind)) {
            files.push((day, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_has_one_file_name() {
        let day = Day::of(at("2026-11-22T23:59:59.999Z"));
        assert_eq!(day.file_name(Kind::Events), "posthouse-2026-11-22.jsonl");
        assert_eq!(Day::of_file_name("posthouse-2026-11-22.jsonl", Kind::Events), Some(day));
        assert_eq!(Day::of_file_name("sessions-2026-11-22.jsonl", Kind::Sessions), Some(day));
        assert_eq!(Day::of_file_name("sessions-2026-11-22.jsonl", Kind::Events), None);
        for other in
            ["posthouse-2026-11-22.jsonl.gz", "posthouse-2026-1-2.jsonl", "posthouse-20261122.jsonl", "x"]
        {
            assert_eq!(Day::of_file_name(other, Kind::Events), None, "{other}");
        }
    }

    #[test]
    fn deletes_only_its_own_files_and_only_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "posthouse-2026-11-19.jsonl",
            "posthouse-2026-11-20.jsonl",
            "posthouse-2026-11-21.jsonl",
            "sessions-2026-11-20.jsonl",
            "posthouse-2020-01-01.jsonl.gz",
            "notes.txt",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut folder =
            Folder::at(dir.path(), Duration::from_secs(86_400), at("2026-11-22T00:00:00Z")).unwrap();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        // The 20th ended exactly one day ago, the 21st has just ended.
        assert_eq!(
            names(),
            [
                "notes.txt",
                "posthouse-2020-01-01.jsonl.gz",
                "posthouse-2026-11-21.jsonl",
                "posthouse-2026-11-22.jsonl"
            ]
        );
        folder.append(Kind::Events, Day::of(at("2026-11-23T10:00:00Z")), b"{}\n").unwrap();
        assert!(!names().contains(&"posthouse-2026-11-21.jsonl".to_owned()));
        assert!(names().contains(&"posthouse-2026-11-22.jsonl".to_owned()));
    }

    #[test]
    fn a_line_is_not_glued_to_one_that_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("posthouse-2026-11-22.jsonl");
        fs::write(&path, "{}\n{\"time\":").unwrap();
        let now = at("2026-11-22T10:00:00Z");
        let mut folder = Folder::at(dir.path(), DAY, now).unwrap();
        folder.append(Kind::Events, Day::of(now), b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"time\":\n{}\n");
    }

    #[test]
    fn goes_on_in_a_new_file_when_the_open_one_was_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let now = at("2026-11-22T10:00:00Z");
        let mut folder = Folder::at(dir.path(), DAY, now).unwrap();
        folder.append(Kind::Events, Day::of(now), b"1\n").unwrap();
        let path = dir.path().join("posthouse-2026-11-22.jsonl");
        fs::remove_file(&path).unwrap();
        folder.append(Kind::Events, Day::of(now), b"2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    }
}
