//! Addresses of type `utf-8` where only US-ASCII may stand: in ORCPT and in message/delivery-status.
//!
//! Contract: [`encode_unitext`] gives the form of seven bits (utf-8-addr-xtext), which every server takes; [`decode_unitext`]
//! reads that form and the one of eight bits, and gives the address itself.
//! Invariants: what is decoded has no control character, so that it can end no line.
//! Not here: addresses of other types, which are xtext (`envelope`).
//! RFC 6533 section 3.

/// Decodes utf-8-addr-xtext and utf-8-addr-unitext; nothing when it is neither.
pub fn decode_unitext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(embedded) = rest.strip_prefix("\\x{") {
            let (point, behind) = embedded.split_once('}')?;
            decoded.push(embedded_char(point)?);
            rest = behind;
        } else if is_plain(character) || !(character.is_ascii() || character.is_control()) {
            decoded.push(character);
            rest = &rest[character.len_utf8()..];
        } else {
            return None;
        }
    }
    Some(decoded)
}

/// HEXPOINT, but for control characters: 2 to 6 hexadecimal digits, as few as there can be, of a character that could not
/// stand there itself.
fn embedded_char(point: &str) -> Option<char> {
    let well_formed = (2..=6).contains(&point.len()) && point.bytes().all(|b| b.is_ascii_hexdigit());
    if !well_formed || (point.len() > 2 && point.starts_with('0')) {
        return None;
    }
    char::from_u32(u32::from_str_radix(point, 16).ok()?).filter(|c| !c.is_control() && !is_plain(*c))
}

/// Encodes as utf-8-addr-xtext.
pub fn encode_unitext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            plain if is_plain(plain) => encoded.push(plain),
            other => encoded.push_str(&format!("\\x{{{:02X}}}", u32::from(other))),
        }
    }
    encoded
}

/// QCHAR: printable US-ASCII, but for the four that mean something in xtext, in parameters, or here.
fn is_plain(character: char) -> bool {
    matches!(character, '!'..='~') && !matches!(character, '\\' | '+' | '=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_in_seven_bits() {
        for (address, encoded) in [
            ("user@example.org", "user@example.org"),
            ("a+b=c\\ d@example.org", "a\\x{2B}b\\x{3D}c\\x{5C}\\x{20}d@example.org"),
            (
                "\u{e9}\u{7528}\u{1f600}@b\u{fc}cher.example",
                "\\x{E9}\\x{7528}\\x{1F600}@b\\x{FC}cher.example",
            ),
        ] {
            assert_eq!(encode_unitext(address), encoded);
            assert_eq!(decode_unitext(encoded).as_deref(), Some(address));
        }
        assert_eq!(decode_unitext("\u{e9}\\x{2b}@example.org").as_deref(), Some("\u{e9}+@example.org"));
    }

    #[test]
    fn what_is_no_unitext_is_refused() {
        for bad in [
            "a+b",
            "a b",
            "a=b",
            "\\",
            "\\x",
            "\\x{",
            "\\x{}",
            "\\x{9}",
            "\\x{0E9}",
            "\\x{61}",
            "\\x{D800}",
            "\\x{110000}",
            "\\x{+9}",
            "\\x{0A}",
            "\\x{85}",
            "\\y{2B}",
            "\u{85}",
            "a\u{7f}",
        ] {
            assert_eq!(decode_unitext(bad), None, "{bad:?}");
        }
    }
}
