//! The octets of one message that are kept while it comes.
//!
//! Contract: [`Kept::push`] copies octets once, into chunks of at most [`CHUNK_MAX`]; [`Kept::forget`] lets go of all, for
//! good.
//! Invariants: never more than `max` octets are held; beyond them everything is let go.
//! Not here: which octets are content (`content`).

use bytes::{Bytes, BytesMut};

use crate::mail::Content;

/// Chunks begin small and double, so that a short message takes little memory and a long one few chunks.
const CHUNK_MIN: usize = 4 * 1024;
pub(super) const CHUNK_MAX: usize = 64 * 1024;

pub(super) struct Kept {
    max: u64,
    length: u64,
    forgotten: bool,
    content: Content,
    chunk: BytesMut,
}

impl Kept {
    /// For at most `max` octets, of which `expected` are announced.
    pub fn new(max: u64, expected: Option<u64>) -> Self {
        let first = expected
            .map_or(CHUNK_MIN, |size| usize::try_from(size).unwrap_or(CHUNK_MAX).clamp(CHUNK_MIN, CHUNK_MAX));
        let chunk = BytesMut::with_capacity(first);
        Self { max, length: 0, forgotten: false, content: Content::new(), chunk }
    }

    /// Octets so far, kept or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn is_too_long(&self) -> bool {
        self.length > self.max
    }

    pub fn forget(&mut self) {
        self.forgotten = true;
        self.content = Content::new();
        self.chunk = BytesMut::new();
    }

    pub fn push(&mut self, mut octets: &[u8]) {
        self.length += octets.len() as u64;
        if self.forgotten {
            return;
        }
        if self.is_too_long() {
            return self.forget();
        }
        while !octets.is_empty() {
            let room = self.chunk.capacity() - self.chunk.len();
            if room == 0 {
                let next = (self.chunk.capacity() * 2).clamp(CHUNK_MIN, CHUNK_MAX);
                let full: Bytes = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(next)).freeze();
                self.content.push(full);
                continue;
            }
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.chunk.extend_from_slice(now);
            octets = later;
        }
    }

    pub fn into_content(mut self) -> Content {
        self.content.push(self.chunk.freeze());
        self.content
    }

    /// Octets of memory.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.content.len() + self.chunk.capacity()
    }
}
