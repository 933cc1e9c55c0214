//! The content of one message as it comes, by DATA or by BDAT: where it ends, what of it is kept, and what is wrong with it.
//!
//! Contract: [`ContentReader::read`] takes octets until the content has ended, and says how many it took (behind BDAT whoever
//! counts the chunk's octets knows the end); [`ContentReader::finish`] gives the content without dot-stuffing, or what is
//! wrong with it, with the number of the line.
//! Invariants: only CRLF ends a line and only CRLF `.` CRLF the content, where the CRLF of DATA's own line counts
//! as the first; a bare CR or LF is never taken for either, not where it is repaired either. Once it is clear that the message will
//! be refused, what was kept is let go and nothing more is.
//! Cost: one look for line ends, and one for NUL and octets above 127 over runs of many lines, both by SIMD.
//! Not here: what is allowed (`rules`), the memory (`kept`), what is in the header section (`accept`).
//! RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2, RFC 1870 section 6, RFC 3030 sections 2 and 3.

mod kept;
#[cfg(test)]
mod tests;

use memchr::{memchr, memchr_iter, memchr2};

use crate::mail::{BodyType, Content, Reply};

use super::replies;
use super::rules::{BareNewlines, Changes, ContentRules, Permission};
use kept::Kept;

/// Octets of a text line without its CRLF (RFC 5321 section 4.5.3.1.6).
const LINE_MAX: u64 = 998;

/// How content comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Behind DATA: lines, with dot-stuffing and a final dot.
    Dots,
    /// Behind BDAT: somebody else counts.
    Chunks,
}

/// Where the octets read so far leave off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF.
    LineStart,
    InLine,
    /// Behind a CR that is not kept yet: the next octet tells what it is.
    Cr,
    /// Behind a dot at the start of a line, which is never kept: stuffing, or the end.
    Dot,
    /// Behind a dot at the start of a line, and a CR that is not kept yet.
    DotCr,
    End,
}

/// What a message is refused for: the first of its faults, wherever its octets were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    what: What,
    /// Octets of content before it.
    place: u64,
    line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    BareCr,
    BareLf,
    Nul,
    EightBit,
    LongLine,
}

/// What the envelope says of the content that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// MAIL's SIZE, or that of the first chunk.
    pub size: Option<u64>,
    pub body: BodyType,
    pub smtputf8: bool,
}

pub(super) struct ContentReader {
    framing: Framing,
    /// None: BINARYMIME, which has no lines.
    rules: Option<ContentRules>,
    announced: Announced,
    place: Place,
    /// The number of the line that comes, from 1.
    line: u64,
    /// Octets of it so far; counted only where long lines are refused.
    line_length: u64,
    eight_bit: bool,
    repaired: u64,
    fault: Option<Fault>,
    kept: Kept,
}

impl ContentReader {
    /// For a content of at most `max` octets.
    pub fn new(framing: Framing, max: u64, rules: ContentRules, announced: Announced) -> Self {
        Self {
            framing,
            rules: (announced.body != BodyType::BinaryMime).then_some(rules),
            announced,
            place: Place::LineStart,
            line: 1,
            line_length: 0,
            eight_bit: false,
            repaired: 0,
            fault: None,
            kept: Kept::new(max, announced.size),
        }
    }

    /// Octets of content so far, kept or not, as RFC 1870 counts them: without stuffing and final dot.
    pub fn length(&self) -> u64 {
        self.kept.length() + u64::from(self.place == Place::Cr)
    }

    /// Whether the final dot was read.
    pub fn has_ended(&self) -> bool {
        self.place == Place::End
    }

    /// Whether the content so far is refused, whatever comes, and nothing of it is kept.
    pub fn is_refused(&self) -> bool {
        self.fault.is_some() || self.kept.is_too_long()
    }

    /// What the content so far is refused for, whatever comes.
    pub fn refusal(&self) -> Option<Reply> {
        if let Some(fault) = self.fault {
            return Some(fault.reply());
        }
        self.kept.is_too_long().then(|| replies::TOO_LARGE.into())
    }

    /// Reads from `input` and gives how many octets were read: all of them, unless the content ended before.
    pub fn read(&mut self, input: &[u8]) -> usize {
        let Some(rules) = self.rules else {
            self.kept.push(input);
            return input.len();
        };
        let mut at = 0;
        // What is to be kept is taken in runs as long as possible, over many lines.
        let mut run = 0;
        while at < input.len() && !self.has_ended() {
            let byte = input[at];
            self.place = match (self.place, byte) {
                (Place::LineStart, b'.') if self.framing == Framing::Dots => {
                    self.keep(rules, &input[run..at]);
                    at += 1;
                    run = at;
                    Place::Dot
                }
                (Place::LineStart | Place::InLine, _) => match memchr2(b'\r', b'\n', &input[at..]) {
                    None => {
                        self.lengthen(rules, at - run, input.len() - at);
                        at = input.len();
                        Place::InLine
                    }
                    Some(found) if input[at + found] == b'\n' => {
                        self.lengthen(rules, at - run, found);
                        self.keep(rules, &input[run..at + found]);
                        self.bare(rules, What::BareLf);
                        at += found + 1;
                        run = at;
                        Place::InLine
                    }
                    // The whole CRLF is here, as nearly always: the run goes on.
                    Some(found) if input.get(at + found + 1) == Some(&b'\n') => {
                        self.lengthen(rules, at - run, found);
                        self.end_line();
                        at += found + 2;
                        Place::LineStart
                    }
                    Some(found) => {
                        self.lengthen(rules, at - run, found);
                        self.keep(rules, &input[run..at + found]);
                        at += found + 1;
                        run = at;
                        Place::Cr
                    }
                },
                (Place::Cr, b'\n') => {
                    self.keep(rules, b"\r");
                    self.end_line();
                    at += 1;
                    Place::LineStart
                }
                (Place::Dot, b'\r') => {
                    at += 1;
                    run = at;
                    Place::DotCr
                }
                (Place::Dot, _) => Place::InLine,
                (Place::DotCr, b'\n') => {
                    at += 1;
                    run = at;
                    Place::End
                }
                (Place::Cr | Place::DotCr, _) => {
                    self.bare(rules, What::BareCr);
                    Place::InLine
                }
                (Place::End, _) => unreachable!("the loop stops at the end"),
            };
        }
        self.keep(rules, &input[run..at]);
        at
    }

    /// The content, once it has ended, and what was done to it; or why it is refused.
    pub fn finish(mut self) -> Result<(Content, BodyType, Changes), Reply> {
        if let (Some(rules), Place::Cr) = (self.rules, self.place) {
            self.bare(rules, What::BareCr);
        }
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        // Undeclared it stays undeclared: what old clients send by way of old hosts must not come back for the lack of
        // an extension that nobody asked for.
        let undeclared_8bit = self.eight_bit && !self.announced.smtputf8;
        // SMTPUTF8 alone permits octets above 127 in the header section (RFC 6531 section 3.6), and where they stand is not looked at.
        let implied = self.eight_bit && self.announced.smtputf8;
        let body = if implied { BodyType::EightBitMime } else { self.announced.body };
        Ok((self.kept.into_content(), body, Changes { line_ends: self.repaired, undeclared_8bit }))
    }

    fn end_line(&mut self) {
        self.line += 1;
        self.line_length = 0;
    }

    /// `octets` more of this line have been seen, behind `pending` that are not kept yet.
    fn lengthen(&mut self, rules: ContentRules, pending: usize, octets: usize) {
        if rules.long_lines == Permission::Accept {
            return;
        }
        let before = self.line_length;
        self.line_length += octets as u64;
        if before <= LINE_MAX && self.line_length > LINE_MAX {
            let place = self.kept.length() + pending as u64 + LINE_MAX - before;
            self.refuse(What::LongLine, place, self.line);
        }
    }

    /// Behind a CR or LF that is alone.
    fn bare(&mut self, rules: ContentRules, what: What) {
        match rules.bare_newlines {
            BareNewlines::Reject => self.refuse(what, self.kept.length(), self.line),
            BareNewlines::Repair => {
                self.repaired += 1;
                self.kept.push(b"\r\n");
                self.end_line();
            }
        }
    }

    fn refuse(&mut self, what: What, place: u64, line: u64) {
        if self.fault.is_none_or(|fault| place < fault.place) {
            self.fault = Some(Fault { what, place, line });
            self.kept.forget();
        }
    }

    /// Takes a run that ends where `self.line` is counted to.
    fn keep(&mut self, rules: ContentRules, run: &[u8]) {
        let start = self.kept.length();
        if self.fault.is_none_or(|fault| start < fault.place) {
            self.inspect(rules, run, start);
        }
        self.kept.push(run);
    }

    fn inspect(&mut self, rules: ContentRules, run: &[u8], start: u64) {
        // One look for both, which the compiler makes SIMD of: this is on the path of every octet.
        let (any, least) =
            run.iter().fold((0, u8::MAX), |(any, least), octet| (any | octet, least.min(*octet)));
        let line_of = |place: usize, line: u64| line - memchr_iter(b'\n', &run[place..]).count() as u64;
        if least == 0 && rules.nul == Permission::Reject {
            let place = memchr(0, run).expect("the least octet is NUL");
            self.refuse(What::Nul, start + place as u64, line_of(place, self.line));
        }
        if any > 127 && !self.eight_bit && self.announced.body == BodyType::SevenBit {
            self.eight_bit = true;
            if rules.undeclared_8bit == Permission::Reject && !self.announced.smtputf8 {
                let place = run.iter().position(|octet| !octet.is_ascii()).expect("an octet is above 127");
                self.refuse(What::EightBit, start + place as u64, line_of(place, self.line));
            }
        }
    }
}

/// What a client would be told of content that has come by another way, by the same rules; `None`: they permit it.
pub fn content_fault(
    rules: ContentRules,
    body: BodyType,
    smtputf8: bool,
    content: &Content,
) -> Option<Reply> {
    // With no room nothing is copied, and a fault counts before the length does.
    let mut reader = ContentReader::new(Framing::Chunks, 0, rules, Announced { size: None, body, smtputf8 });
    for chunk in content.chunks() {
        reader.read(chunk);
    }
    reader.fault.map(Fault::reply)
}

impl Fault {
    fn reply(self) -> Reply {
        let line = self.line;
        let (fixed, text) = match self.what {
            What::BareCr => {
                (replies::BARE_LINE_END, "a bare CR; lines end with CRLF (RFC 5321 section 2.3.8)")
            }
            What::BareLf => {
                (replies::BARE_LINE_END, "a bare LF; lines end with CRLF (RFC 5321 section 2.3.8)")
            }
            What::Nul => (replies::BAD_CONTENT, "a NUL octet (RFC 5322 section 3.5); send it encoded"),
            What::EightBit => {
                (replies::BAD_CONTENT, "an octet above 127, and MAIL had no BODY=8BITMIME (RFC 6152)")
            }
            What::LongLine => (replies::BAD_CONTENT, "more than 998 octets (RFC 5321 section 4.5.3.1.6)"),
        };
        fixed.with_text(&format!("line {line} has {text}"))
    }
}
