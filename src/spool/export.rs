//! One message out of a spool, with or without a relay that runs on it.
//!
//! Contract: what [`export`] gives is what a delivery would read at this moment. Nothing in the folder is changed, and
//! no lock is taken: files of a spool are only ever appended to and unlinked, so a look at them is true.
//! Not here: the form in which people get it (the program).

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::damage::Damage;
use super::disk::Disk;
use super::read::{self, DamagedPlace, ReadError, Wait};
use super::read_only::{LookError, ReadOnly};
use super::recovery::{Found, Manner, OpenError, recover};
use super::{LoadError, Stored};
use crate::mail::{Content, QueueId};

/// Why a message can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A relay that runs may unlink a file between the look at the folder and at the file; then everything is read again.
const TRIES: u32 = 5;

/// Envelope, progress and content of a living message of the spool in `path`.
pub fn export(path: &Path, id: QueueId) -> Result<(Stored, Content), ExportError> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly::running_or_not(path)?);
    let mut tries = 1;
    loop {
        let found = recover(&disk, Manner { speed: None, hints: true });
        let gone = match found.map(|found| message(&found, id)) {
            Ok(Err(error @ LoadError::Damaged { place: DamagedPlace::ContentFile, .. })) => error.into(),
            Err(error @ OpenError::Read { .. }) if is_gone(&error) => LookError::Open(error).into(),
            Ok(read) => return Ok(read?),
            Err(error) => return Err(LookError::Open(error).into()),
        };
        if tries == TRIES {
            return Err(gone);
        }
        tries += 1;
    }
}

fn is_gone(error: &OpenError) -> bool {
    matches!(error, OpenError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn message(found: &Found, id: QueueId) -> Result<(Stored, Content), LoadError> {
    let Some(lookup) = found.index.lookup(id) else {
        // Its record may be there, and not as it was written.
        let damage = found.recovery.damages.iter().find(|damage| damage.id == Some(id));
        let damaged = |damage: &Damage| {
            let place = DamagedPlace::Record { segment: damage.segment, offset: damage.offset };
            LoadError::Damaged { id, place }
        };
        return Err(damage.map_or(LoadError::Unknown(id), damaged));
    };
    let failed = |error| match error {
        ReadError::Io(source) => LoadError::Io { id, source },
        ReadError::Damaged(place) => LoadError::Damaged { id, place },
    };
    let always = "a read that may wait always yields";
    let stored = read::stored(&lookup, Wait::Yes).map_err(failed)?.expect(always);
    let content = read::content(&lookup, Wait::Yes).map_err(failed)?.expect(always);
    Ok((stored, content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::crash::{message, progress};
    use super::super::{Accepted, Durability, Log, Settings, Spool};
    use super::*;

    #[test]
    fn a_message_comes_out_as_it_went_in_while_the_spool_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { min_free: 0, ..Settings::new(folder.path().join("spool")) };
        let (log, _) = Log::open(&settings, &mut |_| {}).unwrap();
        let ids: Vec<QueueId> = (1..=3).map(|n| QueueId::first_at(n * 1000)).collect();
        let text: Vec<u8> = (0..100_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
        for id in &ids {
            let accepted = Accepted { id: *id, ..message(9, None) };
            let _ = log.accept(accepted, text.clone().into()).wait().unwrap();
        }
        log.settle(ids[0], &progress(3), Durability::Soon).wait().unwrap();
        log.remove(ids[1]);
        // A later answer says that what came before it is written.
        log.settle(ids[2], &progress(1), Durability::Synced).wait().unwrap();

        let (stored, content) = export(&settings.path, ids[0]).unwrap();
        assert_eq!((stored.id, stored.progress), (ids[0], progress(3)));
        assert_eq!(stored.envelope, message(9, None).envelope);
        assert_eq!(content.to_bytes(), text);
        let gone = export(&settings.path, ids[1]).unwrap_err();
        assert_eq!(gone.to_string(), format!("the spool holds no message {}", ids[1]));
        drop(log);

        let segments = fs::read_dir(&settings.path).unwrap().map(|entry| entry.unwrap().path());
        let segment =
            segments.filter(|path| path.extension().is_some_and(|is| is == "segment")).min().unwrap();
        let mut octets = fs::read(&segment).unwrap();
        octets[5_000] ^= 1;
        fs::write(&segment, octets).unwrap();
        let damaged = export(&settings.path, ids[0]).unwrap_err().to_string();
        assert_eq!(damaged, format!("message {} is damaged on disk (segment 1, offset 68)", ids[0]));
        assert_eq!(export(&settings.path, ids[2]).unwrap().1.to_bytes(), text, "the others are there");
    }
}
