//! Events as a table for spreadsheets: RFC 4180.
//!
//! Contract: a header line with the names of all fields, then a line for each event; lists are joined by semicolons.
//! A cell that begins with `=`, `+`, `-`, `@` (also in full width), a tab or a carriage return gets an apostrophe in front, because
//! spreadsheets would run it as a formula, and strangers choose addresses and replies. Whoever needs the exact text
//! takes the JSON Lines.
//! Not here: reading.

use std::io::{self, Write};

use super::event::Event;

/// Writes events as CSV.
#[derive(Debug)]
pub struct CsvWriter<W> {
    out: W,
}

impl<W: Write> CsvWriter<W> {
    /// Writes the header line.
    pub fn new(mut out: W) -> io::Result<Self> {
        write_line(&mut out, Event::COLUMNS)?;
        Ok(Self { out })
    }

    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        write_line(&mut self.out, &event.cells())
    }

    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Writes one line of any table in the same way.
pub fn write_line(out: &mut impl Write, cells: &[impl AsRef<str>]) -> io::Result<()> {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write_cell(out, cell.as_ref())?;
    }
    out.write_all(b"\r\n")
}

fn write_cell(out: &mut impl Write, cell: &str) -> io::Result<()> {
    const RUNS: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let guard = if cell.starts_with(RUNS) { "'" } else { "" };
    if cell.contains([',', '"', '\r', '\n']) {
        write!(out, "\"{guard}{}\"", cell.replace('"', "\"\""))
    } else {
        write!(out, "{guard}{cell}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::tracking::EventName;

    #[test]
    fn quotes_what_needs_quotes_and_disarms_formulas() {
        let mut event = Event::new(Timestamp::from_millis(0), EventName::Reject);
        event.sender = Some("=cmd()@example.org".into());
        event.recipients = vec!["\"a,b\"@example.org".into()];
        event.reason = Some("line one\nline two".into());
        let mut writer = CsvWriter::new(Vec::new()).unwrap();
        writer.write(&event).unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        let (header, line) = text.split_once("\r\n").unwrap();
        assert!(header.starts_with("time,event,id,message_id,session,client,sender,recipients,"), "{header}");
        assert_eq!(header.split(',').count(), Event::COLUMNS.len());
        assert!(
            line.starts_with(
                "1970-01-01T00:00:00.000Z,REJECT,,,,,'=cmd()@example.org,\"\"\"a,b\"\"@example.org\","
            ),
            "{line}"
        );
        assert!(line.contains(",\"line one\nline two\","), "{line}");
        assert!(line.ends_with("\r\n"));
        let mut full_width = Vec::new();
        write_cell(&mut full_width, "\u{ff1d}cmd()@example.org").unwrap();
        assert!(full_width.starts_with(b"'"), "addresses in UTF-8 may begin so");
    }
}
