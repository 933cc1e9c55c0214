//! Standard output.

use std::io::{self, Write};

use serde::Serialize;

use crate::failed::Failed;

/// What was asked for. A reader that has seen enough (`head`) is no failure.
pub fn text(text: &str) -> Result<(), Failed> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn json(value: &impl Serialize) -> Result<(), Failed> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}
