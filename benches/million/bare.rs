//! What the disk itself can do: a loop that writes batches to a file and syncs each.
//!
//! Contract: each batch is one pwritev of as many pieces as the spool's, then one fdatasync; the file only grows, and a
//! new one is begun where the spool would begin a segment. Beginning it is not counted.
//! Not here: how large the batches are, which is what the spool was seen to do (`commit`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Failure;
use super::children::{self, number};

/// What of a record is not content: its frame, and a body with the envelope.
const FRAME: usize = 36;
const FILE_MAX: u64 = 64 << 20;

pub struct Bare {
    pub folder: PathBuf,
    pub batches: u64,
    /// Messages of a batch, and octets of the record of each.
    pub messages: u64,
    pub record: u64,
}

impl Bare {
    /// Seconds in which all batches were written and synced.
    pub fn seconds(&self) -> Result<f64, Failure> {
        let numbers = [self.batches, self.messages, self.record].map(|number| number.to_string());
        let mut arguments = vec![self.folder.display().to_string()];
        arguments.extend(numbers);
        number(&children::answer_of("bare", &arguments)?, "seconds")
    }

    fn write(&self) -> io::Result<f64> {
        let record = vec![b'x'; self.record as usize];
        let (frame, rest) = record.split_at(FRAME);
        // Envelope and content apart, as they lie in memory.
        let (body, content) = rest.split_at(rest.len() / 50);
        let (mut seconds, mut file, mut len, mut number) = (0.0, begin(&self.folder, 0)?, 0, 0);
        for _ in 0..self.batches {
            if len + self.messages * self.record > FILE_MAX {
                number += 1;
                file = begin(&self.folder, number)?;
                len = 0;
            }
            let began = children::now();
            let mut pieces: Vec<IoSlice<'_>> = Vec::new();
            for _ in 0..self.messages {
                pieces.extend([frame, body, content].map(IoSlice::new));
            }
            len += write_all(&file, &mut pieces, len)?;
            file.sync_data()?;
            seconds += children::now() - began;
        }
        Ok(seconds)
    }
}

fn write_all(file: &File, mut pieces: &mut [IoSlice<'_>], at: u64) -> io::Result<u64> {
    let mut done = 0;
    while !pieces.is_empty() {
        let written = rustix::io::pwritev(file, &pieces[..pieces.len().min(1024)], at + done)?;
        IoSlice::advance_slices(&mut pieces, written);
        done += written as u64;
    }
    Ok(done)
}

fn begin(folder: &Path, number: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(folder.join(format!("{number}.bare")))?;
    file.sync_data()?;
    fs::File::open(folder)?.sync_all()?;
    Ok(file)
}

pub fn child(arguments: &[&str]) -> Result<(), Failure> {
    let [folder, batches, messages, record] = arguments else {
        return Err("bare: FOLDER BATCHES MESSAGES RECORD".into());
    };
    let (batches, messages, record) = (batches.parse()?, messages.parse()?, record.parse()?);
    let bare = Bare { folder: folder.into(), batches, messages, record };
    children::answer(&json!({ "seconds": bare.write()? }))
}
