//! Words of strangers made harmless, and text made fit for a message of seven bits.
//!
//! Contract: whatever goes in, what comes out of this file is US-ASCII (but for [`utf8_field`], which is UTF-8), has no line
//! above 998 octets, and holds no control character but the CRLFs and tabs that this file put there.
//! Not here: which text it is (`wording`, `status`, `subject`).
//! RFC 2045 section 6 (quoted-printable, base64), RFC 2047 (encoded words), RFC 5322 section 2.2.3 (folding).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mail::is_hidden;

/// Lines end here where a blank permits it.
const LINE: usize = 76;
/// A word longer than this is cut, because no line may be longer than 998 octets.
const WORD_MAX: usize = 900;

/// For fields of the report: control characters become blanks, what is not US-ASCII a question mark.
pub(super) fn ascii(text: &str) -> String {
    let safe = |character: char| match character {
        ' '..='~' => character,
        _ if character.is_control() => ' ',
        _ => '?',
    };
    text.chars().map(safe).collect()
}

/// For text: control characters become blanks, and so does what would turn the direction of writing or end a line.
pub(super) fn printable(text: &str) -> String {
    // Two that join letters are a part of some languages.
    let hidden = |c: char| is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}');
    text.chars().map(|character| if hidden(character) { ' ' } else { character }).collect()
}

/// At most `max` characters; what is cut is marked.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// `Name: value` folded at blanks, ending in CRLF. `value` may hold anything; runs of blanks become one. A word that
/// fills more than a line (an address of a web page) stays whole as long as a line of a message may be.
pub(super) fn field(name: &str, value: &str) -> String {
    let value = ascii(value);
    let words = value.split(' ').filter(|word| !word.is_empty());
    let words = words.flat_map(|word| word.as_bytes().chunks(WORD_MAX));
    let mut field = format!("{name}:");
    let mut column = field.len();
    let mut first = true;
    for word in words {
        let word = std::str::from_utf8(word).expect("US-ASCII may be cut anywhere");
        // The first word stays on the line of the name: a line of nothing but blanks would end some parsers' field.
        if !first && column + 1 + word.len() > LINE {
            field.push_str("\r\n");
            column = 0;
        }
        field.push(' ');
        field.push_str(word);
        column += 1 + word.len();
        first = false;
    }
    field.push_str("\r\n");
    field
}

/// `Name: value` on one line, each blank of the value kept: for addresses and other names that must not change.
pub(super) fn whole_field(name: &str, value: &str) -> String {
    format!("{name}: {}\r\n", shortened(&ascii(value), WORD_MAX))
}

/// As [`whole_field`], in UTF-8: for addresses in a notice that goes by SMTPUTF8.
pub(super) fn utf8_field(name: &str, value: &str) -> String {
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{name}: {}\r\n", shortened(&value, WORD_MAX / 2))
}

/// `text` as encoded words (RFC 2047), each at most 75 characters and none with half a character.
pub(super) fn encoded_words(text: &str) -> Vec<String> {
    const OCTETS: usize = 45;
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(OCTETS);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        words.push(format!("=?UTF-8?B?{}?=", STANDARD.encode(&rest[..end])));
        rest = &rest[end..];
    }
    words
}

/// A phrase (a display name): as it is when that is plain, as encoded words otherwise.
pub(super) fn phrase(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    if plain { text.to_owned() } else { encoded_words(text).join(" ") }
}

/// A body and the name of its Content-Transfer-Encoding.
pub(super) struct Body {
    pub encoding: &'static str,
    pub octets: Vec<u8>,
}

/// Lines (each ending in CRLF) as they are where seven bits hold them; base64 where most of it is beyond US-ASCII,
/// quoted-printable otherwise.
pub(super) fn body(lines: &[u8]) -> Body {
    let beyond = lines.iter().filter(|byte| !byte.is_ascii()).count();
    if fits_seven_bits(lines) {
        Body { encoding: "7bit", octets: lines.to_vec() }
    } else if beyond * 4 > lines.len() {
        Body { encoding: "base64", octets: base64_lines(lines) }
    } else {
        Body { encoding: "quoted-printable", octets: quoted_printable(lines) }
    }
}

/// Short lines of US-ASCII without control characters, as "7bit" promises.
fn fits_seven_bits(lines: &[u8]) -> bool {
    lines.split(|byte| *byte == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.len() <= 998 && line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
    })
}

fn base64_lines(octets: &[u8]) -> Vec<u8> {
    // 57 octets give the 76 characters that a line may have.
    let lines = octets.chunks(57).map(|chunk| STANDARD.encode(chunk) + "\r\n");
    lines.collect::<String>().into_bytes()
}

/// RFC 2045 section 6.7. CRLF is the end of a line; a CR or LF alone is encoded like any other octet.
pub(super) fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(octets.len() + octets.len() / 8);
    let mut column = 0;
    let mut at = 0;
    while at < octets.len() {
        let ends_line = |at: usize| octets[at..].starts_with(b"\r\n");
        if ends_line(at) {
            encoded.extend_from_slice(b"\r\n");
            column = 0;
            at += 2;
            continue;
        }
        let byte = octets[at];
        at += 1;
        let last = at == octets.len() || ends_line(at);
        let plain = match byte {
            b' ' | b'\t' => !last,
            b'=' => false,
            _ => byte.is_ascii_graphic(),
        };
        let width = if plain { 1 } else { 3 };
        // One column is left for the "=" of a soft line break.
        if column + width > LINE - 1 {
            encoded.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if plain {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(format!("={byte:02X}").as_bytes());
        }
        column += width;
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_folded_at_blanks_and_no_value_gets_a_line_of_its_own() {
        let folded = field("Diagnostic-Code", "smtp; 550 a\r\nBcc: x@example.org\r\n\r\n--end \u{e9}\0");
        assert_eq!(folded, "Diagnostic-Code: smtp; 550 a Bcc: x@example.org --end ?\r\n");
        let long = field("Diagnostic-Code", &"word ".repeat(400));
        assert!(long.lines().all(|line| line.len() <= 76));
        assert!(long.lines().skip(1).all(|line| line.starts_with(' ')));
        assert_eq!(long.replace("\r\n", "").matches("word").count(), 400);
    }

    #[test]
    fn a_word_without_blanks_is_cut_only_where_a_line_must_end() {
        let page = format!("https://example.org/{}", "x".repeat(200));
        assert!(field("A", &page).contains(&page));
        let endless = field("A", &"x".repeat(5_000));
        assert!(endless.lines().all(|line| line.len() <= 998));
        assert_eq!(endless.matches('x').count(), 5_000);
    }

    #[test]
    fn encoded_words_are_short_and_never_cut_a_character() {
        let text = "配信遅延".repeat(30);
        let words = encoded_words(&text);
        assert!(words.len() > 1 && words.iter().all(|word| word.len() <= 75));
        let decode = |word: &String| {
            String::from_utf8(STANDARD.decode(word[10..].trim_end_matches("?=")).unwrap()).unwrap()
        };
        assert_eq!(words.iter().map(decode).collect::<String>(), text);
    }

    #[test]
    fn quoted_printable_hides_what_a_transport_could_change() {
        let encoded = |text: &[u8]| String::from_utf8(quoted_printable(text)).unwrap();
        assert_eq!(encoded(b"a=b \r\nc\td\xe9\r\n"), "a=3Db=20\r\nc\td=E9\r\n");
        assert_eq!(encoded(b"a\nb\rc\0 "), "a=0Ab=0Dc=00=20");
        assert!(encoded(&b"x".repeat(300)).lines().all(|line| line.len() <= 76));
        assert!(encoded(&b"\xff".repeat(300)).lines().all(|line| line.len() <= 76));
    }

    #[test]
    fn a_body_takes_the_lightest_encoding_that_holds_it() {
        assert_eq!(body(b"plain\r\n").encoding, "7bit");
        assert_eq!(body("mostly plain caf\u{e9}\r\n".as_bytes()).encoding, "quoted-printable");
        assert_eq!(body("配信が遅れています\r\n".as_bytes()).encoding, "base64");
        assert_eq!(body(&b"x".repeat(999)).encoding, "quoted-printable");
    }

    #[test]
    fn nothing_hidden_is_left_in_text() {
        assert_eq!(printable("a\u{202e}b\r\nc\u{1b}[31m\u{2028}"), "a b  c [31m ");
        assert_eq!(shortened("abcdef", 3), "abc...");
        assert_eq!(shortened("abc", 3), "abc");
    }
}
