//! One file of a pickup folder: what is in it, and where it goes.
//!
//! Contract: [`read`] gives envelope, content and key of a file that may be taken, or says why it may not; [`set_aside`]
//! moves it to `bad/`. All of it blocks.
//! Invariants: only regular files are read, no link is followed, and the file that was looked at is the one that is
//! read. A file has one name and belongs to the relay's user, to root, or to the owner of the folder; others might be
//! links to what is not theirs to send.
//! Not here: when a file is taken (`taking`).

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, statat};
use rustix::io::Errno;

use super::drop_folder::sync_folder;
use crate::mail::{Content, Envelope};
use crate::submission::{EnvelopeFields, EnvelopeFieldsError, Fingerprint, Key, Letter, LetterError};

/// The folder of what could not be taken, in its pickup folder.
const BAD: &str = "bad";

/// A message that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub envelope: Envelope,
    pub content: Content,
    pub key: Key,
    pub request: Fingerprint,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is no regular file; links are not followed")]
    NotAFile,
    #[error("it has a second name (a hard link), and might be a file of somebody else's")]
    ManyNames,
    #[error("it belongs to user {0}, who is neither posthouse's own, nor root, nor the owner of the folder")]
    Stranger(u32),
    #[error("it has {size} octets; at most {max} are taken")]
    TooLarge { size: u64, max: u64 },
    #[error("it does not begin with a header section")]
    NoHeader,
    #[error(transparent)]
    Fields(#[from] EnvelopeFieldsError),
    #[error(transparent)]
    Letter(#[from] LetterError),
    /// Another try may do.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads the file at `path`. `origin` is the domain of addresses without one; `max` bounds its octets.
pub(super) fn read(path: &Path, origin: &str, max: u64) -> Result<Found, Fault> {
    if !path.symlink_metadata()?.is_file() {
        return Err(Fault::NotAFile);
    }
    // Should it have become a link or a pipe meanwhile, it is not followed, nor waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(Fault::NotAFile);
    }
    if facts.nlink() > 1 {
        return Err(Fault::ManyNames);
    }
    let folder = path.parent().unwrap_or(Path::new(".")).metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if ![own, 0, folder.uid()].contains(&facts.uid()) {
        return Err(Fault::Stranger(facts.uid()));
    }
    let text = octets(&file, &facts, max)?;
    found(&text, &facts, origin)
}

fn octets(file: &File, facts: &Metadata, max: u64) -> Result<Vec<u8>, Fault> {
    // Room for the envelope above the message.
    let most = max.saturating_add(1 << 20);
    if facts.len() > most {
        return Err(Fault::TooLarge { size: facts.len(), max });
    }
    let mut text = Vec::with_capacity(facts.len() as usize);
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

fn found(text: &[u8], facts: &Metadata, origin: &str) -> Result<Found, Fault> {
    let mut letter = Letter::read(text);
    if !letter.has_header() {
        return Err(Fault::NoHeader);
    }
    let fields = EnvelopeFields::take(&mut letter)?;
    let (envelope, key) = match fields {
        Some(EnvelopeFields { envelope, key }) => (envelope, key),
        None => {
            let envelope =
                Envelope::new(letter.sender(Some(origin))?.into(), letter.recipients(Some(origin))?);
            letter.remove_blind_copies();
            (envelope, None)
        }
    };
    let content = Content::from(letter.into_content());
    let request = Fingerprint::of_message(&envelope, &content);
    // The time of its renaming to `.taking`: when a crash has it taken again this is the same, and for any other file,
    // also for one with the same content and times, it is another.
    let own = || format!("pickup {} {}.{}", facts.ino(), facts.ctime(), facts.ctime_nsec());
    let key = key.unwrap_or_else(|| own().parse().expect("digits and blanks make a key"));
    Ok(Found { envelope, content, key, request })
}

/// Moves a file to `bad/` beside it, with the reason. Nothing that lies there is written over, and no link is followed:
/// whoever may write to the folder might have made `bad/`, and what is in it.
pub(super) fn set_aside(path: &Path, name: &str, reason: &str) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let bad = folder.join(BAD);
    match DirBuilder::new().mode(0o700).create(&bad) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(openat(CWD, &bad, flags, Mode::empty())?);
    let mut to = name.to_owned();
    let mut number = 1;
    while is_there(&opened, &to)? || is_there(&opened, &reason_name(&to))? {
        to = format!("{number}-{name}");
        number += 1;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&opened, reason_name(&to), flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(format!("{reason}\n").as_bytes())?;
    renameat(CWD, path, &opened, &to)?;
    opened.sync_all()?;
    sync_folder(folder)?;
    Ok(bad.join(to))
}

/// Whether the folder has anything of this name, be it a link that leads nowhere.
fn is_there(folder: &File, name: &str) -> io::Result<bool> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The name of the text that says why.
fn reason_name(name: &str) -> String {
    format!("{}.txt", name.strip_suffix(".eml").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_writes_over_nothing_and_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let aside = || {
            std::fs::write(at("x.eml.taking"), "no message").unwrap();
            set_aside(&at("x.eml.taking"), "x.eml", "it is bad")
        };
        std::fs::write(at("precious"), "stays").unwrap();
        std::fs::create_dir(at("bad")).unwrap();
        std::os::unix::fs::symlink(at("precious"), at("bad/x.txt")).unwrap();
        std::fs::write(at("bad/1-x.eml"), "stays").unwrap();
        assert_eq!(aside().unwrap(), at("bad/2-x.eml"));
        assert_eq!(std::fs::read_to_string(at("bad/2-x.txt")).unwrap(), "it is bad\n");
        for kept in ["precious", "bad/1-x.eml"] {
            assert_eq!(std::fs::read_to_string(at(kept)).unwrap(), "stays", "{kept}");
        }

        std::fs::remove_dir_all(at("bad")).unwrap();
        std::fs::create_dir(at("elsewhere")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("bad")).unwrap();
        assert!(aside().is_err());
        assert_eq!(std::fs::read_dir(at("elsewhere")).unwrap().count(), 0);
        assert!(at("x.eml.taking").exists());
    }

    #[test]
    fn a_file_with_a_second_name_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("x.eml"), "From: a@example.org\nTo: b@example.com\n\nx\n").unwrap();
        assert!(read(&at("x.eml"), "example.org", 1000).is_ok());
        std::fs::hard_link(at("x.eml"), at("another")).unwrap();
        assert!(matches!(read(&at("x.eml"), "example.org", 1000), Err(Fault::ManyNames)));
    }
}
