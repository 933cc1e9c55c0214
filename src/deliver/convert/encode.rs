//! Quoted-printable and base64, as they go into a message.
//!
//! Contract: [`Encoding::shorter`] chooses, [`Encoding::encode`] gives lines of at most 76 octets with CRLF between them.
//! Invariants: decoding gives the octets back. In quoted-printable each CRLF stays the end of a line, and is the only one;
//! a bare CR or LF is encoded. Encoded text ends with a CRLF where the octets do.
//! Not here: the label. RFC 2045 sections 6.7 and 6.8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const LINE_MAX: usize = 76;
/// Octets that one line of base64 has.
const BASE64_LINE: usize = LINE_MAX / 4 * 3;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    QuotedPrintable,
    Base64,
}

impl Encoding {
    /// Quoted-printable where both are alike: it can be read.
    pub fn shorter(octets: &[u8]) -> Self {
        let quoted = octets.iter().filter(|octet| !is_plain(**octet)).count() * 2;
        if quoted <= octets.len() / 3 { Self::QuotedPrintable } else { Self::Base64 }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }

    pub fn encode(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::QuotedPrintable => quoted_printable(octets),
            Self::Base64 => base64(octets),
        }
    }
}

fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n') && octet != b'='
}

fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(octets.len() * 4 / 3);
    let mut column = 0;
    let mut rest = octets;
    while let Some((&octet, after)) = rest.split_first() {
        if rest.starts_with(b"\r\n") {
            encoded.extend(b"\r\n");
            (column, rest) = (0, &rest[2..]);
            continue;
        }
        rest = after;
        let ends_line = after.is_empty() || after.starts_with(b"\r\n");
        let literal = match octet {
            // At the end of a line it might be lost on the way.
            b' ' | b'\t' => !ends_line,
            b'!'..=b'~' => octet != b'=',
            _ => false,
        };
        let width = if literal { 1 } else { 3 };
        // The last place is for a soft line break.
        if column + width > LINE_MAX - usize::from(!ends_line) {
            encoded.extend(b"=\r\n");
            column = 0;
        }
        if literal {
            encoded.push(octet);
        } else {
            encoded.extend([b'=', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
        }
        column += width;
    }
    encoded
}

fn base64(octets: &[u8]) -> Vec<u8> {
    let lines: Vec<String> = octets.chunks(BASE64_LINE).map(|line| STANDARD.encode(line)).collect();
    let mut encoded = lines.join("\r\n").into_bytes();
    if octets.ends_with(b"\r\n") {
        encoded.extend(b"\r\n");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(octets: &str) -> String {
        String::from_utf8(Encoding::QuotedPrintable.encode(octets.as_bytes())).unwrap()
    }

    #[test]
    fn lines_stay_lines_and_blanks_at_their_ends_are_kept() {
        assert_eq!(quoted("a = b \r\n\t\r\nc\u{e9}"), "a =3D b=20\r\n=09\r\nc=C3=A9");
        assert_eq!(quoted("a\nb\rc"), "a=0Ab=0Dc");
        assert_eq!(quoted(" "), "=20");
    }

    #[test]
    fn no_line_is_longer_than_76_octets_and_none_broken_without_need() {
        assert_eq!(quoted(&"x".repeat(76)), "x".repeat(76));
        assert_eq!(quoted(&"x".repeat(77)), format!("{}=\r\nxx", "x".repeat(75)));
        for length in 70..90 {
            for line in quoted(&format!("{}\u{e9}\u{e9}", "x".repeat(length))).split("\r\n") {
                assert!(line.len() <= LINE_MAX, "{line}");
            }
        }
        let lines = Encoding::Base64.encode(&[7; 200]);
        assert!(lines.split(|octet| *octet == b'\n').all(|line| line.len() <= LINE_MAX + 1));
    }

    #[test]
    fn what_is_dense_goes_by_base64() {
        assert_eq!(Encoding::shorter("na\u{ef}ve text with one word".as_bytes()), Encoding::QuotedPrintable);
        assert_eq!(
            Encoding::shorter("\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}".as_bytes()),
            Encoding::Base64
        );
        assert_eq!(Encoding::Base64.encode(b"ab\r\n"), b"YWINCg==\r\n");
    }
}
