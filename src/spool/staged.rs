//! The records of one write, on their way into a segment.
//!
//! Contract: keeps requests in their order and knows which messages they begin and end; writes records behind one
//! another without copying bodies or contents.
//! Not here: what may be staged, and what follows from the write (`writer`).

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::disk::{File, write_all_at};
use super::record::{FRAME_LEN, Record};
use super::request::{Promise, Request};
use super::segment::{self, Marker};
use crate::mail::QueueId;

/// What goes into the next write.
#[derive(Default)]
pub(super) struct Staged {
    pub requests: Vec<Request>,
    pub len: u32,
    /// Messages that will have begun or ceased to live by then.
    living: BTreeMap<QueueId, bool>,
}

impl Staged {
    pub fn push(&mut self, request: Request) {
        match &request.promise {
            Promise::Accept { struck, .. } => {
                self.living.insert(request.id(), true);
                if let Some(struck) = struck.filter(|struck| struck.removed) {
                    self.living.insert(struck.id, false);
                }
            }
            Promise::Remove => _ = self.living.insert(request.id(), false),
            Promise::Settle { .. } | Promise::Time | Promise::Again { .. } => {}
        }
        self.len += request.record.len();
        self.requests.push(request);
    }

    /// Something staged changes where this message or its progress stands.
    pub fn touches(&self, id: QueueId) -> bool {
        self.requests.iter().any(|request| {
            let struck = match &request.promise {
                Promise::Accept { struck, .. } => struck.map(|struck| struck.id),
                _ => None,
            };
            request.id() == id || struck == Some(id)
        })
    }

    /// Whether a message will live then; `None`: nothing staged decides it.
    pub fn lives(&self, id: QueueId) -> Option<bool> {
        self.living.get(&id).copied()
    }
}

/// Writes `prefix` and `records` at `offset` in one go; the contents are not copied. Says where they end.
pub(super) fn write_records(
    file: &dyn File,
    marker: &Marker,
    prefix: &[u8],
    offset: u32,
    records: &[&Record],
) -> io::Result<u32> {
    let mut end = offset + prefix.len() as u32;
    let mut frames: Vec<[u8; FRAME_LEN as usize]> = Vec::with_capacity(records.len());
    for record in records {
        frames.push(record.frame.encode(segment::frame_marker(marker), end));
        end += record.len();
    }
    let mut pieces = vec![IoSlice::new(prefix)];
    for (record, frame) in records.iter().zip(&frames) {
        pieces.push(IoSlice::new(frame));
        pieces.push(IoSlice::new(&record.body));
        pieces.extend(record.content.chunks().iter().map(|chunk| IoSlice::new(chunk)));
    }
    pieces.retain(|piece| !piece.is_empty());
    write_all_at(file, &mut pieces, u64::from(offset))?;
    Ok(end)
}
