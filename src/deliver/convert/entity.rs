//! The header section of an entity, as far as a conversion must know it.
//!
//! Contract: [`Entity::read`] finds the body, what kind of thing it is, and where its Content-Transfer-Encoding stands.
//! Invariants: what is not as RFC 2045 says is not guessed at: it becomes a kind that is not converted.
//! Not here: what is done with it. RFC 2045 sections 5 and 6, RFC 2046, RFC 5322 section 2.2.

use std::ops::Range;

use super::Unconvertible;

/// Octets of a field that is read word for word; nobody has use for more.
const VALUE_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Multipart,
    /// multipart/digest: its parts are messages where they don't say otherwise.
    Digest,
    /// Must stay as it is: somebody has signed or encrypted it.
    Sealed,
    /// message/rfc822.
    Message,
    /// A kind of message that must have seven bits anyhow, or something that is not understood.
    Unencodable,
    Other,
}

/// All offsets are in the octets of the whole message.
#[derive(Debug)]
pub(super) struct Entity {
    pub kind: Kind,
    pub boundary: Option<Vec<u8>>,
    /// An encoding that is in use already: the body should have no octet of eight bits.
    pub encoding: Option<String>,
    /// The label says `8bit` or `binary`.
    pub says_eight_bit: bool,
    /// The whole field Content-Transfer-Encoding.
    pub label: Option<Range<usize>>,
    /// Behind the last field.
    pub fields_end: usize,
    pub body: Range<usize>,
    /// It has MIME-Version.
    pub is_mime: bool,
    /// It has a DKIM-Signature.
    pub is_signed: bool,
}

impl Entity {
    /// `default`: what it is where it doesn't say.
    pub fn read(octets: &[u8], range: Range<usize>, default: Kind) -> Result<Self, Unconvertible> {
        let end = range.end;
        let mut entity = Self {
            kind: default,
            boundary: None,
            encoding: None,
            says_eight_bit: false,
            label: None,
            fields_end: range.start,
            body: end..end,
            is_mime: false,
            is_signed: false,
        };
        let (mut types, mut labels) = (0, 0);
        while entity.fields_end < end {
            let rest = &octets[entity.fields_end..end];
            if rest.starts_with(b"\r\n") {
                entity.body = entity.fields_end + 2..end;
                break;
            }
            let field = entity.fields_end..entity.fields_end + field_length(rest);
            let text = &octets[field.clone()];
            if !text.is_ascii() {
                return Err(Unconvertible::Header);
            }
            entity.fields_end = field.end;
            let text = std::str::from_utf8(text).expect("it is ASCII");
            let Some((name, value)) = text.split_once(':') else { continue };
            match name.trim_end().to_ascii_lowercase().as_str() {
                "mime-version" => entity.is_mime = true,
                "dkim-signature" => entity.is_signed = true,
                "content-type" => {
                    types += 1;
                    (entity.kind, entity.boundary) = match value.len() > VALUE_MAX {
                        true => (Kind::Unencodable, None),
                        false => content_type(value),
                    };
                }
                "content-transfer-encoding" => {
                    labels += 1;
                    entity.take_label(value);
                    entity.label = Some(field);
                }
                _ => {}
            }
        }
        if types > 1 || labels > 1 {
            entity.kind = Kind::Unencodable;
        }
        Ok(entity)
    }

    pub fn is_sealed(&self) -> bool {
        self.kind == Kind::Sealed
    }

    fn take_label(&mut self, value: &str) {
        let words = if value.len() > VALUE_MAX { Vec::new() } else { tokens(value) };
        match words.as_slice() {
            [word] => match word.to_ascii_lowercase().as_str() {
                "7bit" => {}
                "8bit" | "binary" => self.says_eight_bit = true,
                other => self.encoding = Some(other.to_owned()),
            },
            _ => self.encoding = Some(String::new()),
        }
    }
}

/// With the lines that continue it, and its CRLF.
fn field_length(rest: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(&rest[from..], b"\r\n") {
        from += at + 2;
        if !matches!(rest.get(from), Some(b' ' | b'\t')) {
            return from;
        }
    }
    rest.len()
}

fn content_type(value: &str) -> (Kind, Option<Vec<u8>>) {
    let tokens = tokens(value);
    let lower: Vec<String> = tokens.iter().take(3).map(|token| token.to_ascii_lowercase()).collect();
    let [kind, slash, subtype] = lower.as_slice() else { return (Kind::Unencodable, None) };
    if slash != "/" {
        return (Kind::Unencodable, None);
    }
    let kind = match (kind.as_str(), subtype.as_str()) {
        ("text", _) => Kind::Text,
        ("multipart", "signed" | "encrypted") => Kind::Sealed,
        ("multipart", "digest") => Kind::Digest,
        ("multipart", _) => Kind::Multipart,
        ("message", "rfc822") => Kind::Message,
        // Messages of RFC 6532 may have any encoding; all others only none (RFC 2046 section 5.2).
        ("message", subtype) if subtype.starts_with("global") => Kind::Other,
        ("message", _) => Kind::Unencodable,
        _ => Kind::Other,
    };
    let boundary = tokens[3..].windows(4).find_map(|window| match window {
        [semicolon, name, equals, value]
            if semicolon == ";" && name.eq_ignore_ascii_case("boundary") && equals == "=" =>
        {
            Some(value.clone().into_bytes())
        }
        _ => None,
    });
    (kind, boundary.filter(|boundary| (1..=70).contains(&boundary.len())))
}

/// Words, quoted strings without their quotes, and single specials; comments and blanks are left out.
fn tokens(value: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut octets = value.chars().peekable();
    while let Some(c) = octets.next() {
        match c {
            '(' => skip_comment(&mut octets),
            '"' => tokens.push(quoted(&mut octets)),
            '/' | ';' | '=' => tokens.push(c.to_string()),
            c if c.is_ascii_whitespace() => {}
            c => {
                let mut word = c.to_string();
                while let Some(c) =
                    octets.next_if(|c| !c.is_ascii_whitespace() && !matches!(c, '(' | '"' | '/' | ';' | '='))
                {
                    word.push(c);
                }
                tokens.push(word);
            }
        }
    }
    tokens
}

fn skip_comment(rest: &mut impl Iterator<Item = char>) {
    let mut depth = 1;
    while depth > 0 {
        match rest.next() {
            Some('\\') => drop(rest.next()),
            Some('(') => depth += 1,
            Some(')') => depth -= 1,
            Some(_) => {}
            None => return,
        }
    }
}

fn quoted(rest: &mut impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => text.extend(rest.next()),
            // A folded line.
            '\r' | '\n' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_types_as_people_write_them() {
        let boundary = |text: &str| Some(text.as_bytes().to_vec());
        for (value, expected) in [
            (" text/plain; charset=utf-8", (Kind::Text, None)),
            (" Multipart / Mixed;\r\n boundary=\"a b;c\"", (Kind::Multipart, boundary("a b;c"))),
            (" multipart/mixed; BOUNDARY=abc_1 (a \"comment\")", (Kind::Multipart, boundary("abc_1"))),
            (" multipart/signed; boundary=x", (Kind::Sealed, boundary("x"))),
            (" multipart/mixed; boundary*0=x", (Kind::Multipart, None)),
            (" message/rfc822", (Kind::Message, None)),
            (" message/delivery-status", (Kind::Unencodable, None)),
            (" message/global", (Kind::Other, None)),
            (" nonsense", (Kind::Unencodable, None)),
            ("", (Kind::Unencodable, None)),
        ] {
            assert_eq!(content_type(value), expected, "{value:?}");
        }
    }

    #[test]
    fn finds_the_label_and_the_body() {
        let text =
            "X: a\r\n b\r\nContent-Transfer-Encoding:\r\n 8bit (what else)\r\nMIME-version: 1.0\r\n\r\nbody";
        let entity = Entity::read(text.as_bytes(), 0..text.len(), Kind::Text).unwrap();
        assert!(entity.says_eight_bit && entity.is_mime && !entity.is_signed && entity.encoding.is_none());
        assert_eq!(&text[entity.label.unwrap()], "Content-Transfer-Encoding:\r\n 8bit (what else)\r\n");
        assert_eq!(&text[entity.body], "body");
        let twice = "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n";
        let entity = Entity::read(twice.as_bytes(), 0..twice.len(), Kind::Text).unwrap();
        assert_eq!(entity.kind, Kind::Unencodable);
    }
}
