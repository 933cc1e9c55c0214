//! Large contents, each in a file of its own beside the segments.
//!
//! Contract: [`write`] returns when content and name are synced; only then may a record name it. Above [`ABOVE`] octets
//! that is faster than the log, since such writes run side by side, and compaction need not carry them about. The
//! record has the content's length and checksum, which are compared at every read.
//! Invariants: a file is named after its message and begins with a header that names it, too; no record, no file: what
//! no living message speaks of is unlinked, but only when all that was written is synced.
//! Not here: who decides that a content goes to a file (`log`), what becomes of those that nobody speaks of (`recovery`).

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::disk::{Disk, File, read_up_to, write_all_at};
use crate::mail::{Content, QueueId};

/// Contents of more octets than this go to files.
pub(super) const ABOVE: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"PHCONTNT";
const FORMAT: u16 = 1;
/// Magic, format, length of the header, four octets for later, the id, and a CRC-32C of all that.
const HEADER_LEN: usize = 28;

pub(super) fn name(id: QueueId) -> String {
    format!("{id}.content")
}

/// The message of a content file's name; `None` when it is none's.
pub(super) fn parse_name(text: &str) -> Option<QueueId> {
    let id = text.strip_suffix(".content")?.parse().ok()?;
    // Only the one way of writing it counts.
    (name(id) == text).then_some(id)
}

fn header(id: QueueId) -> [u8; HEADER_LEN] {
    let mut octets = [0; HEADER_LEN];
    octets[0..8].copy_from_slice(MAGIC);
    octets[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    octets[10..12].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    octets[16..24].copy_from_slice(&id.as_u64().to_le_bytes());
    let crc = crc32c::crc32c(&octets[..24]);
    octets[24..].copy_from_slice(&crc.to_le_bytes());
    octets
}

/// Makes a content durable. What could not be written whole is unlinked again; a file that was there before stays.
pub(super) fn write(disk: &dyn Disk, id: QueueId, content: &Content) -> io::Result<()> {
    let file = disk.create(&name(id))?;
    let written = fill(file.as_ref(), id, content).and_then(|()| disk.sync_folder());
    if written.is_err() {
        // Nothing speaks of it; should it stay, the next start finds it.
        let _ = disk.remove(&name(id));
    }
    written
}

fn fill(file: &dyn File, id: QueueId, content: &Content) -> io::Result<()> {
    let header = header(id);
    let mut pieces = vec![IoSlice::new(&header)];
    pieces.extend(content.chunks().iter().map(|chunk| IoSlice::new(chunk)));
    pieces.retain(|piece| !piece.is_empty());
    write_all_at(file, &mut pieces, 0)?;
    file.sync_data()
}

/// The content of `len` octets; `Ok(None)`: the file is missing, or not as it was written.
pub(super) fn read(disk: &dyn Disk, id: QueueId, len: u32) -> io::Result<Option<Bytes>> {
    let file = match disk.open(&name(id)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = vec![0; HEADER_LEN + len as usize];
    let read = read_up_to(file.as_ref(), &mut octets, 0)?;
    if read < octets.len() || octets[..HEADER_LEN] != header(id) {
        return Ok(None);
    }
    Ok(Some(Bytes::from(octets).slice(HEADER_LEN..)))
}

#[cfg(test)]
mod tests {
    use super::super::lying_disk::LyingDisk;
    use super::*;

    #[test]
    fn a_content_comes_back_and_what_is_not_as_written_does_not() {
        let (disk, id) = (LyingDisk::new(), QueueId::from_u64(77));
        let mut content = Content::from("Subject: x\r\n\r\n");
        content.push("hello\r\n".into());
        write(&disk, id, &content).unwrap();
        assert_eq!(read(&disk, id, 21).unwrap().unwrap(), content.to_bytes());
        assert_eq!(parse_name(&name(id)), Some(id));
        assert_eq!(parse_name(&name(id).to_lowercase()), None);
        assert!(write(&disk, id, &content).is_err(), "a name is used once");
        assert_eq!(read(&disk, id, 22).unwrap(), None, "too short");
        disk.edit(&name(id), |octets| octets[16] ^= 1);
        assert_eq!(read(&disk, id, 21).unwrap(), None, "another message's");
        assert_eq!(read(&disk, QueueId::from_u64(78), 21).unwrap(), None, "missing");
    }
}
