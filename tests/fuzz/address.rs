//! Any text as a mailbox.
//!
//! Contract: all octets are the text.
//! Promises: what is a mailbox is written as it came; its parts are its own, within the limits; it may stand between
//! angle brackets on one line; and it can be kept and read again.
//! RFC 5321 sections 4.1.2 and 4.5.3.1.

use posthouse::mail::Address;

pub fn run(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    assert_eq!(address.to_string(), text);
    assert_eq!(format!("{}@{}", address.local_part(), address.domain()), text);
    assert!((1..=64).contains(&address.local_part().len()), "local part: {text:?}");
    assert!((1..=255).contains(&address.domain().len()), "domain: {text:?}");
    assert!(!text.contains(char::is_control), "{text:?}");
    let is_quoted = text.starts_with('"');
    assert!(is_quoted || !text.contains(['<', '>', ' ', '(', ')', ',', ';', '"']), "{text:?}");
    assert!(!address.domain().contains(['@', '<', '>', ' ', '"', '/', '\\']), "{text:?}");
    let kept = serde_json::to_string(&address).expect("an address can be written");
    assert_eq!(serde_json::from_str::<Address>(&kept).expect("and read"), address);
}
