//! Standard output.

use std::io::{self, Write};

use serde::Serialize;

use crate::failed::Failed;

/// What was asked for. A reader that has seen enough (`head`) is no failure.
pub fn text(text: &str) -> Result<(), Failed> {
    octets(text.as_bytes()).map(|_| ())
}

/// Says whether anybody still reads: whoever has more to print may stop then.
pub fn octets(octets: &[u8]) -> Result<bool, Failed> {
    let mut out = io::stdout().lock();
    match out.write_all(octets).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub fn json(value: &impl Serialize) -> Result<(), Failed> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}
