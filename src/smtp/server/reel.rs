//! The octets of a tape: entries one after the other, the beginning and the end of a long session.
//!
//! Contract: an entry is a kind, a length, a number, and octets. The first half of the room is for the beginning, a
//! quarter each for the two last pieces of the end: when the newer is full, the older is forgotten and its lines
//! counted. Time is an entry of its own, and only where it has changed.
//! Invariants: room and lines stay below their limits, but for one entry in each piece.
//! Not here: what may stand in it (`tape`, `heard`).

use std::fmt::Write;

use crate::mail::is_hidden;

use super::heard::Context;
use super::tape::{Speaker, TapeLine};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line of the client; its number counts the octets that were cut.
    Heard,
    /// A reply; its number counts the octets that were cut.
    Said,
    /// The octets are what may be seen; a secret follows.
    Secret,
    /// A line that may not be seen; its number counts its octets.
    Withheld,
    Overlong,
    /// Its number is the time in milliseconds that it took to come, its octets are a count.
    Content,
    Note,
    /// Its number is the time of the entries behind it.
    Time,
    /// Its number is the time of the replies before it.
    Sent,
}

const KINDS: [Kind; 9] = [
    Kind::Heard,
    Kind::Said,
    Kind::Secret,
    Kind::Withheld,
    Kind::Overlong,
    Kind::Content,
    Kind::Note,
    Kind::Time,
    Kind::Sent,
];

/// Kind, length, number.
const HEADER: usize = 1 + 2 + 4;

/// A short session needs no more.
const FIRST_ROOM: usize = 512;

#[derive(Debug, Default)]
struct Piece {
    octets: Vec<u8>,
    lines: usize,
}

#[derive(Debug)]
pub(super) struct Reel {
    pub context: Context,
    octets_max: usize,
    lines_max: usize,
    head: Piece,
    /// Where the entries go once the head is full.
    tail: Option<Box<(Piece, Piece)>>,
    left_out: u64,
    now: u32,
    /// The time that the entries say so far.
    told: Option<u32>,
    last_heard: Option<u32>,
    /// There are replies whose time is not known yet.
    unsent: bool,
    /// There are replies that went at the time that the entries say, so that none was made for it.
    sent_then: bool,
    /// Content that is coming: since when, until when, how much.
    coming: Option<(u32, u32, u64)>,
}

impl Reel {
    pub fn new(octets_max: usize, lines_max: usize) -> Self {
        Self {
            context: Context::default(),
            octets_max,
            lines_max,
            head: Piece::default(),
            tail: None,
            left_out: 0,
            now: 0,
            told: None,
            last_heard: None,
            unsent: false,
            sent_then: false,
            coming: None,
        }
    }

    pub fn heard_at(&mut self, millis: u32) {
        self.now = millis;
        self.last_heard = Some(millis);
    }

    pub fn sent_at(&mut self, millis: u32) {
        if self.unsent && self.told != Some(millis) {
            self.put(Kind::Sent, b"", millis);
            self.told = Some(millis);
        } else {
            self.sent_then |= self.unsent;
        }
        self.unsent = false;
        self.now = millis;
    }

    pub fn last_heard(&self) -> Option<u32> {
        self.last_heard
    }

    pub fn content(&mut self, octets: u64) {
        let (since, _, before) = self.coming.unwrap_or((self.now, self.now, 0));
        self.coming = Some((since, self.now, before + octets));
    }

    pub fn push(&mut self, kind: Kind, octets: &[u8], number: u32) {
        self.end_content();
        self.tell_time(self.now);
        if kind == Kind::Said && std::mem::take(&mut self.sent_then) {
            // Or the time at which this reply goes would be taken for theirs.
            self.put(Kind::Sent, b"", self.now);
        }
        self.unsent |= kind == Kind::Said;
        self.put(kind, octets, number);
    }

    fn end_content(&mut self) {
        if let Some((since, until, octets)) = self.coming.take() {
            self.tell_time(since);
            self.put(Kind::Content, &octets.to_le_bytes(), until - since);
        }
    }

    fn tell_time(&mut self, millis: u32) {
        if self.told != Some(millis) {
            self.put(Kind::Time, b"", millis);
            (self.told, self.sent_then) = (Some(millis), false);
        }
    }

    fn put(&mut self, kind: Kind, octets: &[u8], number: u32) {
        let octets = &octets[..octets.len().min(usize::from(u16::MAX))];
        let lines = match kind {
            Kind::Time | Kind::Sent => 0,
            Kind::Said => match memchr::memchr(b'\n', octets) {
                Some(first) if first + 1 < octets.len() => memchr::memchr_iter(b'\n', octets).count(),
                _ => 1,
            },
            _ => 1,
        };
        if self.tail.is_none() {
            if self.head.has_room(octets.len(), lines, self.octets_max / 2, self.lines_max / 2) {
                return self.head.put(kind, octets, number, lines);
            }
            self.tail = Some(Box::default());
            self.begin_piece(kind);
        }
        let (octets_max, lines_max) = (self.octets_max / 4, self.lines_max / 4);
        let (older, newer) = &mut **self.tail.as_mut().expect("made just above");
        if !newer.octets.is_empty() && !newer.has_room(octets.len(), lines, octets_max, lines_max) {
            self.left_out += older.lines as u64;
            older.octets.clear();
            older.lines = 0;
            std::mem::swap(older, newer);
            self.begin_piece(kind);
        }
        let (_, newer) = &mut **self.tail.as_mut().expect("made above");
        newer.put(kind, octets, number, lines);
    }

    /// A piece must tell its time by itself, since what was before it may be forgotten.
    fn begin_piece(&mut self, kind: Kind) {
        if !matches!(kind, Kind::Time | Kind::Sent) {
            let now = self.told.unwrap_or(self.now);
            let (_, newer) = &mut **self.tail.as_mut().expect("a piece begins in the tail");
            newer.put(Kind::Time, b"", now, 0);
        }
    }

    pub fn lines(&self) -> Vec<TapeLine> {
        let mut reading = Reading::default();
        reading.piece(&self.head);
        if let Some(tail) = &self.tail {
            let (older, newer) = &**tail;
            if self.left_out > 0 {
                reading.add(Speaker::Note, format!("<{} lines left out>", self.left_out));
            }
            reading.piece(older);
            reading.piece(newer);
        }
        if let Some((since, until, octets)) = self.coming {
            reading.at = since;
            reading.content(octets, until - since);
        }
        reading.lines
    }

    #[cfg(test)]
    pub fn octets(&self) -> usize {
        let tail = self.tail.as_ref().map_or(0, |tail| tail.0.octets.capacity() + tail.1.octets.capacity());
        self.head.octets.capacity() + tail
    }
}

impl Piece {
    fn has_room(&self, octets: usize, lines: usize, octets_max: usize, lines_max: usize) -> bool {
        self.octets.len() + HEADER + octets <= octets_max && self.lines + lines <= lines_max
    }

    fn put(&mut self, kind: Kind, octets: &[u8], number: u32, lines: usize) {
        let [l0, l1] = (octets.len() as u16).to_le_bytes();
        let [n0, n1, n2, n3] = number.to_le_bytes();
        if self.octets.capacity() == 0 {
            self.octets.reserve(FIRST_ROOM);
        }
        self.octets.extend_from_slice(&[kind as u8, l0, l1, n0, n1, n2, n3]);
        self.octets.extend_from_slice(octets);
        self.lines += lines;
    }

    /// Kind, number, octets of each entry.
    fn entries(&self) -> impl Iterator<Item = (Kind, u32, &[u8])> {
        let mut rest = &self.octets[..];
        std::iter::from_fn(move || {
            let (header, behind) = rest.split_at_checked(HEADER)?;
            let length = u16::from_le_bytes([header[1], header[2]]);
            let number = u32::from_le_bytes([header[3], header[4], header[5], header[6]]);
            let (octets, next) = behind.split_at(usize::from(length));
            rest = next;
            Some((KINDS[usize::from(header[0])], number, octets))
        })
    }
}

/// Entries becoming lines.
#[derive(Default)]
struct Reading {
    lines: Vec<TapeLine>,
    at: u32,
    /// The first of the replies that may still learn when they went.
    unsent: usize,
}

impl Reading {
    fn piece(&mut self, piece: &Piece) {
        for (kind, number, octets) in piece.entries() {
            match kind {
                Kind::Time => {
                    self.at = number;
                    self.unsent = self.lines.len();
                }
                Kind::Sent => {
                    let replies = self.lines[self.unsent..].iter_mut();
                    replies.filter(|line| line.by == Speaker::Server).for_each(|line| line.at = number);
                    self.at = number;
                    self.unsent = self.lines.len();
                }
                Kind::Heard => self.add(Speaker::Client, cut(octets, number)),
                Kind::Said => self.reply(octets, number),
                Kind::Secret if octets.is_empty() => self.add(Speaker::Client, "<secret>".to_owned()),
                Kind::Secret => self.add(Speaker::Client, format!("{} <secret>", harmless(octets))),
                Kind::Withheld => {
                    self.add(Speaker::Client, format!("<{number} octets that are no command>"));
                }
                Kind::Overlong => self.add(Speaker::Client, "<a line that is too long>".to_owned()),
                Kind::Content => {
                    let count = octets.try_into().map(u64::from_le_bytes);
                    self.content(count.expect("content is counted in eight octets"), number);
                }
                Kind::Note => self.add(Speaker::Note, harmless(octets)),
            }
        }
    }

    fn reply(&mut self, octets: &[u8], more: u32) {
        let mut lines = octets.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let more = if lines.peek().is_none() { more } else { 0 };
            self.add(Speaker::Server, cut(line, more));
        }
    }

    fn content(&mut self, octets: u64, took: u32) {
        let during = if took > 0 { format!(" in {took} ms") } else { String::new() };
        self.add(Speaker::Client, format!("<{octets} octets of content{during}>"));
    }

    fn add(&mut self, by: Speaker, text: String) {
        self.lines.push(TapeLine { at: self.at, by, text });
    }
}

fn cut(octets: &[u8], more: u32) -> String {
    let mut text = harmless(octets);
    if more > 0 {
        let _ = write!(text, " <and {more} octets more>");
    }
    text
}

/// The octets as text in which nothing moves a cursor or turns the direction of writing.
fn harmless(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", c as u32);
                }
                c if is_hidden(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}
