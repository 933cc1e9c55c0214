//! The content after DATA, against a reader that is too simple to be wrong.
//!
//! Contract: three octets of piece lengths, then what comes after 354.
//! Promises: content ends at the first CRLF `.` CRLF and nowhere else, at that octet exactly; what is taken is what the
//! reference reader sees, octet for octet; what is not clean (a bare CR or LF) is never taken; what any server must
//! take is taken.
//! Not here: content in chunks of stated length (BDAT, through `session`), what the header section says (`accept`).
//! RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2.

use posthouse::smtp::server::Settings;

use super::wire::{Answers, Rest, Wire};
use super::{Input, pieces};

const ENVELOPE: &[u8] =
    b"EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";

/// As the reference reader sees it.
struct Read {
    /// Octets up to and with the final dot's CRLF.
    length: usize,
    content: Vec<u8>,
}

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let lengths = input.choices::<3>();
    let octets = input.octets();
    let mut wire = Wire::new(Settings::new("relay.example.org"), Answers::ACCEPT);
    wire.receive(ENVELOPE);
    assert!(wire.server.receiving_content());
    let Some(read) = reference(octets) else {
        pieces(octets, &lengths).iter().for_each(|piece| wire.receive(piece));
        assert!(wire.server.receiving_content(), "the content ended without CRLF . CRLF");
        return;
    };
    let (but_one, last) = octets[..read.length].split_at(read.length - 1);
    pieces(but_one, &lengths).iter().for_each(|piece| wire.receive(piece));
    assert!(wire.server.receiving_content(), "the content ended before its last octet");
    let replies = wire.replies().len();
    wire.receive(last);
    assert!(!wire.server.receiving_content() && wire.rest == Rest::NeedInput, "the content goes on");
    assert_eq!(wire.replies().len(), replies + 1, "one reply for the content");
    match wire.messages.as_slice() {
        [] => assert!(!must_be_taken(&read.content), "refused: {:?}", wire.replies().pop()),
        [(_, content)] => {
            assert_eq!(content.escape_ascii().to_string(), read.content.escape_ascii().to_string());
            assert!(!has_bare_line_end(content), "a bare CR or LF was taken");
        }
        more => panic!("{} messages of one", more.len()),
    }
}

/// RFC 5321 section 4.5.2, read by the letter.
fn reference(octets: &[u8]) -> Option<Read> {
    let wire = [b"\r\n", octets].concat();
    let end = wire.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = &wire[2.min(end)..end];
    while let Some((octet, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            lines.push(Vec::new());
            rest = after;
        } else {
            lines.last_mut().expect("there is one").push(*octet);
            rest = after;
        }
    }
    let mut content = Vec::new();
    if end > 0 {
        for line in lines {
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            content.extend_from_slice(b"\r\n");
        }
    }
    Some(Read { length: end + 3, content })
}

fn has_bare_line_end(content: &[u8]) -> bool {
    let mut lines = content.split(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let text = if is_last { line } else { line.strip_suffix(b"\r").unwrap_or(b"\r") };
        if text.contains(&b'\r') {
            return true;
        }
    }
    false
}

/// US-ASCII without NUL, in lines of at most 998 octets (RFC 5321 sections 2.4 and 4.5.3.1.6).
pub fn must_be_taken(content: &[u8]) -> bool {
    !has_bare_line_end(content)
        && content.iter().all(|octet| matches!(octet, 1..=127))
        && content.split(|octet| *octet == b'\n').all(|line| line.len() < 1000)
}
