//! Any text as xtext, and as ORCPT.
//!
//! Contract: all octets are the text.
//! Promises: what is decoded has no control character, and encoding it anew says the same; what is printable survives
//! being encoded; encoded text holds nothing that could end a parameter.
//! RFC 3461 section 4.

use posthouse::mail::{OriginalRecipient, decode_xtext, encode_xtext};

pub fn run(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Some(decoded) = decode_xtext(text) {
        assert!(!decoded.contains(char::is_control), "{decoded:?}");
        assert!(decoded.len() <= text.len());
        survives(&decoded);
    }
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        survives(text);
    }
    if let Ok(original) = text.parse::<OriginalRecipient>() {
        let written = original.to_string();
        assert_eq!(written.parse::<OriginalRecipient>().as_ref(), Ok(&original), "{written:?}");
        assert!(!written.contains(char::is_whitespace), "{written:?}");
    }
}

fn survives(text: &str) {
    let encoded = encode_xtext(text);
    assert!(encoded.bytes().all(|octet| matches!(octet, b'!'..=b'<' | b'>'..=b'~')), "{encoded:?}");
    assert_eq!(decode_xtext(&encoded).as_deref(), Some(text));
}
