//! The octets between DATA's 354 and the final dot, as they are kept: without dot-stuffing, without the final dot.

use bytes::Bytes;

/// Content as a row of chunks, so that a trace field can stand before what was received without copying it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    chunks: Vec<Bytes>,
}

impl Content {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// Puts `chunk` (a trace field) before all others.
    pub fn prepend(&mut self, chunk: Bytes) {
        self.chunks.insert(0, chunk);
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Octets in all chunks.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// One piece; copies only when there is more than one chunk. For tests, notices and tools, not the mail path.
    pub fn to_bytes(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            many => many.concat().into(),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        let mut content = Self::new();
        content.push(bytes.into());
        content
    }
}
