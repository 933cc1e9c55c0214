//! Content of eight bits for a host that takes only seven.
//!
//! Contract: [`Conversion::of`] gives the message with each of its eight-bit parts in quoted-printable or base64,
//! or says why it has no such form. It is computed once for a message, however many hosts ask.
//! Invariants: decoded, every part is octet for octet what it was; parts that are of seven bits keep all their octets but
//! the word `8bit` of their label; header fields are not touched but for Content-Transfer-Encoding. Whatever a stranger has
//! written, it takes time and memory in proportion to the content: depth, parts and fields that matter have limits.
//! What is not converted, since it would be another message then: a header section of eight bits; multipart/signed and
//! multipart/encrypted; what is no MIME; a part whose label or structure is not what MIME says. A DKIM signature is no
//! obstacle (RFC 6376 section 5.3 tells signers to convert first), but does not fit any more, and that is told.
//! Not here: whether to convert (`offer`), the octets of both encodings (`encode`), header fields (`entity`).
//! RFC 2045, RFC 2046 section 5.1, RFC 6152 section 3.

mod encode;
mod entity;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use memchr::memmem;

use crate::mail::Content;
use encode::Encoding;
use entity::{Entity, Kind};

/// Entities within entities.
const DEPTH_MAX: usize = 50;
/// Entities of one message: each costs some memory, however short it is.
const ENTITIES_MAX: usize = 10_000;

/// The one conversion of a message.
#[derive(Debug, Default)]
pub(super) struct Conversion(OnceLock<Result<Converted, Unconvertible>>);

impl Conversion {
    /// The content in seven bits.
    pub fn of(&self, content: &Content) -> Result<&Converted, Unconvertible> {
        self.0.get_or_init(|| convert(content)).as_ref().map_err(|why| *why)
    }

    /// Octets of memory that it takes besides the content.
    pub fn octets(&self) -> u64 {
        self.0.get().and_then(|made| made.as_ref().ok()).map_or(0, |made| made.octets)
    }
}

/// A message in seven bits.
#[derive(Debug)]
pub(super) struct Converted {
    pub content: Content,
    pub facts: Facts,
    /// Of memory, besides the content that it was made of.
    octets: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    quoted_printable: usize,
    base64: usize,
    /// There is a signature over the whole, which does not fit any more.
    breaks_dkim: bool,
}

/// As it stands behind "converted to seven bits: ".
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |count| if count == 1 { "part" } else { "parts" };
        let (quoted, base64) = (self.quoted_printable, self.base64);
        match (quoted, base64) {
            (_, 0) => write!(f, "{quoted} {} as quoted-printable", parts(quoted))?,
            (0, _) => write!(f, "{base64} {} as base64", parts(base64))?,
            _ => write!(f, "{quoted} {} as quoted-printable, {base64} as base64", parts(quoted))?,
        }
        f.write_str(if self.breaks_dkim { "; its DKIM signature does not fit any more" } else { "" })
    }
}

/// Why a message has no form of seven bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unconvertible {
    #[error("a header section of eight bits cannot be converted")]
    Header,
    #[error("a signed or encrypted part must not be altered")]
    Signed,
    #[error("without MIME-Version it is not known what its octets are")]
    NoMime,
    #[error("its MIME structure is not sound enough to be converted")]
    Structure,
}

fn convert(content: &Content) -> Result<Converted, Unconvertible> {
    let octets = content.to_bytes();
    let joined = if content.chunks().len() > 1 { octets.len() as u64 } else { 0 };
    let mut walk = Walk {
        octets: &octets,
        content: Content::new(),
        kept: 0,
        made: 0,
        entities: 0,
        facts: Facts::default(),
    };
    let top = Entity::read(&octets, 0..octets.len(), Kind::Text)?;
    if !top.is_mime {
        return Err(Unconvertible::NoMime);
    }
    walk.facts.breaks_dkim = top.is_signed;
    walk.entity(&top, 0)?;
    walk.keep_until(octets.len());
    Ok(Converted { content: walk.content, facts: walk.facts, octets: joined + walk.made })
}

/// Goes through a message once, from front to back.
struct Walk<'a> {
    octets: &'a Bytes,
    /// What goes out, as far as it is known.
    content: Content,
    /// So much of the octets is in it.
    kept: usize,
    /// Octets of it that are new.
    made: u64,
    /// So many have been looked at.
    entities: usize,
    facts: Facts,
}

impl Walk<'_> {
    /// All up to here goes out as it is.
    fn keep_until(&mut self, end: usize) {
        self.content.push(self.octets.slice(self.kept..end));
        self.kept = end;
    }

    /// These octets go out as others.
    fn replace(&mut self, range: Range<usize>, by: impl Into<Bytes>) {
        self.keep_until(range.start);
        let by = by.into();
        self.made += by.len() as u64;
        self.content.push(by);
        self.kept = range.end;
    }

    fn entity(&mut self, entity: &Entity, depth: usize) -> Result<(), Unconvertible> {
        let body = &self.octets[entity.body.clone()];
        if body.is_ascii() {
            if !entity.is_sealed() {
                self.relabel(entity);
                self.below(entity, depth)?;
            }
            return Ok(());
        }
        if entity.is_sealed() {
            return Err(Unconvertible::Signed);
        }
        match entity.kind {
            _ if entity.encoding.is_some() => Err(Unconvertible::Structure),
            Kind::Text | Kind::Other => {
                let encoding = Encoding::of(body, entity.kind == Kind::Text);
                match encoding {
                    Encoding::QuotedPrintable => self.facts.quoted_printable += 1,
                    Encoding::Base64 => self.facts.base64 += 1,
                }
                self.label(entity, encoding.name());
                self.replace(entity.body.clone(), encoding.encode(&self.octets[entity.body.clone()]));
                Ok(())
            }
            Kind::Multipart | Kind::Digest | Kind::Message => {
                self.relabel(entity);
                self.below(entity, depth)
            }
            Kind::Sealed | Kind::Unencodable => Err(Unconvertible::Structure),
        }
    }

    /// What is inside of it.
    fn below(&mut self, entity: &Entity, depth: usize) -> Result<(), Unconvertible> {
        let eight_bit = !self.octets[entity.body.clone()].is_ascii();
        let unsound = |()| if eight_bit { Err(Unconvertible::Structure) } else { Ok(()) };
        if depth == DEPTH_MAX {
            return unsound(());
        }
        let default = if entity.kind == Kind::Digest { Kind::Message } else { Kind::Text };
        let inside = match entity.kind {
            Kind::Message if entity.encoding.is_none() => vec![entity.body.clone()],
            Kind::Multipart | Kind::Digest if entity.encoding.is_none() => match self.parts(entity) {
                Some(parts) => parts,
                None => return unsound(()),
            },
            _ => return Ok(()),
        };
        for range in inside {
            let part = Entity::read(self.octets, range, default)?;
            self.entity(&part, depth + 1)?;
        }
        Ok(())
    }

    /// The parts of a multipart, without the delimiters. `None`: there are none, or too many, or octets of eight bits stand
    /// where nobody reads.
    fn parts(&mut self, entity: &Entity) -> Option<Vec<Range<usize>>> {
        let boundary = entity.boundary.as_ref()?;
        let (body, start) = (&self.octets[entity.body.clone()], entity.body.start);
        self.entities += 1;
        let delimiters = delimiters(body, boundary, ENTITIES_MAX.checked_sub(self.entities)?)?;
        self.entities += delimiters.len();
        let (first, last) = (delimiters.first()?, delimiters.last()?);
        let outside_end = if last.closes { last.line.start } else { body.len() };
        if !body[..first.line.start].is_ascii() || !body[outside_end..].is_ascii() {
            return None;
        }
        let ends = delimiters.iter().skip(1).map(|next| next.line.start).chain([body.len()]);
        let opening = delimiters.iter().zip(ends).filter(|(delimiter, _)| !delimiter.closes);
        // The CRLF before a delimiter belongs to it; a part without any line has none.
        let range = |(delimiter, end): (&Delimiter, usize)| {
            start + delimiter.line.end.min(end)..start + end.max(delimiter.line.end)
        };
        Some(opening.map(range).collect())
    }

    /// `8bit` or `binary` are true no more.
    fn relabel(&mut self, entity: &Entity) {
        if entity.says_eight_bit {
            self.label(entity, "7bit");
        }
    }

    fn label(&mut self, entity: &Entity, encoding: &str) {
        let field = format!("Content-Transfer-Encoding: {encoding}\r\n");
        match &entity.label {
            Some(range) => self.replace(range.clone(), field),
            None => self.replace(entity.fields_end..entity.fields_end, field),
        }
    }
}

/// A line that parts a multipart.
struct Delimiter {
    /// With the CRLF before it, which belongs to it, and the one at its end.
    line: Range<usize>,
    closes: bool,
}

/// All up to the one that closes; `None`: more than `most`.
fn delimiters(body: &[u8], boundary: &[u8], most: usize) -> Option<Vec<Delimiter>> {
    let dashed = [b"--", boundary].concat();
    let mut found = Vec::new();
    for at in memmem::find_iter(body, &dashed) {
        // First of all: a line may have any number of these in it, and is looked through once.
        if at != 0 && !body[..at].ends_with(b"\r\n") {
            continue;
        }
        let rest = &body[at + dashed.len()..];
        let (line, end) = match memmem::find(rest, b"\r\n") {
            Some(end) => (&rest[..end], at + dashed.len() + end + 2),
            None => (rest, body.len()),
        };
        let (closes, padding) = match line.strip_prefix(b"--") {
            Some(padding) => (true, padding),
            None => (false, line),
        };
        if !padding.iter().all(|octet| matches!(octet, b' ' | b'\t')) {
            continue;
        }
        if found.len() == most {
            return None;
        }
        found.push(Delimiter { line: at.saturating_sub(2)..end, closes });
        if closes {
            break;
        }
    }
    Some(found)
}
