//! Addresses of the type `utf-8` as ORCPT and Original-Recipient write them.
//!
//! Contract: [`decode`] reads both forms: utf-8-addr-xtext, of US-ASCII, and utf-8-addr-unitext, which SMTPUTF8 permits.
//! [`encode`] writes the former, which may go everywhere. `\x{E9}` stands for one character in both.
//! Invariants: what is decoded has no control characters; [`decode`] gives back what [`encode`] was given.
//! RFC 6533 section 3.

/// Nothing when the text is in neither form.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        let character = match character {
            '\\' => {
                let (point, after) = rest.strip_prefix("x{")?.split_once('}')?;
                rest = after;
                embedded(point)?
            }
            '!'..='~' if !matches!(character, '+' | '=') => character,
            '\u{a0}'.. => character,
            _ => return None,
        };
        decoded.push(character);
    }
    Some(decoded)
}

/// HEXPOINT: 2 to 6 digits in upper case, of a character that could not stand there itself.
fn embedded(point: &str) -> Option<char> {
    let digits =
        (2..=6).contains(&point.len()) && point.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    let padded = point.len() > 2 && point.starts_with('0');
    let character = char::from_u32(u32::from_str_radix(point, 16).ok()?)?;
    let plain = matches!(character, '!'..='~') && !matches!(character, '+' | '=' | '\\');
    (digits && !padded && !plain && !character.is_control()).then_some(character)
}

/// In US-ASCII.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '+' | '=' | '\\' => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(character))),
            '!'..='~' => encoded.push(character),
            _ => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(character))),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_one_of_us_ascii_is_written() {
        for (written, decoded) in [
            ("a@example.org", "a@example.org"),
            ("\u{e9}@example.org", "\u{e9}@example.org"),
            ("\\x{E9}@example.org", "\u{e9}@example.org"),
            ("a\\x{2B}b\\x{3D}\\x{5C}\\x{20}@\\x{4F8B}.example", "a+b=\\ @\u{4f8b}.example"),
            ("\\x{1F600}@example.org", "\u{1f600}@example.org"),
        ] {
            assert_eq!(decode(written).as_deref(), Some(decoded), "{written}");
            let encoded = encode(decoded);
            assert!(encoded.is_ascii() && !encoded.contains(['+', '=', ' ']), "{encoded}");
            assert_eq!(decode(&encoded).as_deref(), Some(decoded));
        }
    }

    #[test]
    fn what_is_in_neither_form_is_refused() {
        for bad in [
            "a+2Bb",
            "a=b",
            "a b",
            "\\",
            "\\x{}",
            "\\x{E9",
            "\\x{e9}",
            "\\xE9",
            "\\x{D800}",
            "\\x{110000}",
            "\\x{0D}",
            "\\x{61}",
            "\\x{0E9}",
            "\\x{85}",
            "\u{85}",
            "a\u{7f}",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
