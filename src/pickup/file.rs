//! One file of a pickup folder: what is in it, and where it goes.
//!
//! Contract: [`read`] gives envelope, content and key of a file that may be taken, or says why it may not; [`set_aside`]
//! moves it to `bad/`. All of it blocks.
//! Invariants: only regular files are read, no link is followed, and the file that was looked at is the one that is
//! read. A file belongs to the relay's user, to root, or to the owner of the folder; others might be links to what is
//! not theirs to send.
//! Not here: when a file is taken (`taking`).

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(Fault::NotAFile);
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

/// Moves a file to `bad/` beside it, with the reason. Nothing that lies there is written over.
pub(super) fn set_aside(path: &Path, name: &str, reason: &str) -> io::Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let bad = folder.join(BAD);
    match DirBuilder::new().mode(0o700).create(&bad) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut to = bad.join(name);
    let mut number = 1;
    while to.symlink_metadata().is_ok() {
        to = bad.join(format!("{number}-{name}"));
        number += 1;
    }
    std::fs::write(to.with_extension("txt"), format!("{reason}\n"))?;
    std::fs::rename(path, &to)?;
    sync_folder(&bad)?;
    sync_folder(folder)?;
    Ok(to)
}
