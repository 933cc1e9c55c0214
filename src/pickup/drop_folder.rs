//! Putting a message into a drop folder.
//!
//! Contract: what [`put`] has returned for survives a power cut, and will be taken by the relay.
//! Not here: taking (`taking`).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::submission::{EnvelopeFields, Key};

/// A message that could not be put there: it is nowhere.
#[derive(Debug, thiserror::Error)]
#[error("cannot put the message into {}", path.display())]
pub struct PutError {
    path: PathBuf,
    source: io::Error,
}

/// Writes a message, with its envelope above it, into `folder`, which is made where its parent exists. The key is the
/// file's name too; it should be made by chance.
pub fn put(folder: &Path, key: &Key, fields: &EnvelopeFields, content: &[u8]) -> Result<PathBuf, PutError> {
    // A key may hold characters that a name may not.
    let name: String = key.to_string().bytes().filter(u8::is_ascii_alphanumeric).map(char::from).collect();
    let path = folder.join(format!("{name}.eml"));
    let written = write(folder, &folder.join(format!("{name}.tmp")), &path, fields, content);
    match written {
        Ok(()) => Ok(path),
        Err(source) => Err(PutError { path, source }),
    }
}

fn write(folder: &Path, new: &Path, path: &Path, fields: &EnvelopeFields, content: &[u8]) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync_folder(folder.parent().unwrap_or(Path::new(".")))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    let filled = (|| {
        file.write_all(fields.to_string().as_bytes())?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(new, path)
    })();
    if let Err(error) = filled {
        // A disk that is full should not stay so because of half a message.
        let _ = std::fs::remove_file(new);
        return Err(error);
    }
    sync_folder(folder)
}

/// Makes names that were added or taken away durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}
