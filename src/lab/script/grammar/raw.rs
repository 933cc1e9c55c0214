//! Octets as they are: `raw 250 ok\x00\r\n`.
//!
//! Contract: [`octets`] reads what stands behind `raw`, through the end of the rule's deed: UTF-8 as it is, and the
//! escapes `\r`, `\n`, `\t`, `\\` and `\xNN`. Blanks around it are not part of it; `\x20` is one that is.
//! Invariants: nothing at all, and an escape that is none, are faults.
//! Not here: what the octets do (`deed`).

use super::super::rule::RuleError;
use super::Word;

const NAME: &str = "raw";
const EXPECTED: &str = "\\r, \\n, \\t, \\\\ or \\xNN";

/// Whether this is the deed `raw`.
pub(super) fn begins(body: Word<'_>) -> bool {
    body.words().first().is_some_and(|first| first.is(NAME))
}

/// The octets behind `raw`.
pub(super) fn octets(body: Word<'_>) -> Result<Vec<u8>, RuleError> {
    let (name, text) = body.split_at(NAME.len());
    let text = text.trim();
    if text.text.is_empty() {
        return Err(name.fault("\"raw\" sends nothing").expected("octets, such as \"raw 250 ok\\r\\n\""));
    }
    let mut octets = Vec::with_capacity(text.text.len());
    let mut rest = text.text;
    while let Some(escape) = rest.find('\\') {
        octets.extend_from_slice(&rest.as_bytes()[..escape]);
        let behind = &rest[escape + 1..];
        let (octet, length) = escaped(behind).ok_or_else(|| {
            let at = text.at + text.text.len() - behind.len() - 1;
            let end = at + 1 + behind.chars().next().map_or(0, char::len_utf8);
            RuleError::new(at..end, "this is no escape").expected(EXPECTED)
        })?;
        octets.push(octet);
        rest = &behind[length..];
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}

/// The octet of an escape, and how long it is behind its backslash.
fn escaped(behind: &str) -> Option<(u8, usize)> {
    Some(match behind.as_bytes().first()? {
        b'r' => (b'\r', 1),
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'\\' => (b'\\', 1),
        b'x' => {
            let digits = behind.get(1..3).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
            (u8::from_str_radix(digits, 16).ok()?, 3)
        }
        _ => return None,
    })
}
