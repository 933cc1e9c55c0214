//! What a message itself says about TLS on its way: REQUIRETLS in its envelope, or `TLS-Required: No` in its header section.
//!
//! Contract: [`is_demanded`] reads the envelope alone, so that it costs nothing; [`is_waived`] reads the header section, and is
//! asked only where the recipient's side demands something.
//! Invariants: REQUIRETLS goes before the field (RFC 8689 section 4.1). A notice demands nothing, though it says REQUIRETLS
//! where that is offered: it would be lost otherwise (section 5).
//! Not here: what follows (`route::tls_policy`, `classify`).

use std::borrow::Cow;

use memchr::memmem;

use crate::mail::{Content, Envelope};

/// Whether nothing of it may go over less than verified TLS, nor to a server without REQUIRETLS.
pub(super) fn is_demanded(envelope: &Envelope) -> bool {
    envelope.require_tls && !envelope.reverse_path.is_null()
}

/// Whether it frees itself from what the recipient's DANE and MTA-STS demand. A field that stands twice, or says anything
/// but No, is none (RFC 8689 section 4.1).
pub(super) fn is_waived(envelope: &Envelope, content: &Content) -> bool {
    if envelope.require_tls {
        return false;
    }
    let section = section(content);
    let mut fields = fields(&section).filter(|(name, _)| name.eq_ignore_ascii_case(b"TLS-Required"));
    let only = fields.next().filter(|_| fields.next().is_none());
    only.is_some_and(|(_, value)| value.eq_ignore_ascii_case(b"No"))
}

/// All before the first empty line. Copied only where it goes across chunks.
fn section(content: &Content) -> Cow<'_, [u8]> {
    if let [only] = content.chunks() {
        return Cow::Borrowed(end(only).map_or(&only[..], |end| &only[..end]));
    }
    let mut section = Vec::new();
    for chunk in content.chunks() {
        section.extend_from_slice(chunk);
        if let Some(end) = end(&section) {
            section.truncate(end);
            break;
        }
    }
    Cow::Owned(section)
}

fn end(octets: &[u8]) -> Option<usize> {
    if octets.starts_with(b"\r\n") { Some(0) } else { memmem::find(octets, b"\r\n\r\n") }
}

/// Names and values; a value that is folded is unfolded as far as white space at its ends goes.
fn fields(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = section;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let ends = memmem::find_iter(rest, b"\r\n").find(|end| !is_blank(rest.get(end + 2)));
            let (field, behind) = match ends {
                Some(end) => (&rest[..end], &rest[end + 2..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = behind;
            if let Some(colon) = memchr::memchr(b':', field) {
                return Some((field[..colon].trim_ascii(), field[colon + 1..].trim_ascii()));
            }
        }
        None
    })
}

fn is_blank(octet: Option<&u8>) -> bool {
    matches!(octet, Some(b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ReversePath;

    fn envelope() -> Envelope {
        Envelope::new("a@example.org".parse::<crate::mail::Address>().unwrap().into(), [])
    }

    fn waived(text: &str) -> bool {
        let whole = is_waived(&envelope(), &Content::from(text.to_owned()));
        for cut in 0..=text.len() {
            let mut content = Content::new();
            content.push(bytes::Bytes::copy_from_slice(&text.as_bytes()[..cut]));
            content.push(bytes::Bytes::copy_from_slice(&text.as_bytes()[cut..]));
            assert_eq!(is_waived(&envelope(), &content), whole, "{text:?} cut at {cut}");
        }
        whole
    }

    #[test]
    fn one_field_that_says_no_waives_and_nothing_else_does() {
        for text in [
            "TLS-Required: No\r\n\r\n",
            "Subject: a\r\ntls-required:no\r\nTo: b\r\n\r\nbody\r\n",
            "Subject: a\r\nTLS-Required:\r\n\tNO \r\n\r\nTLS-Required: Yes\r\n",
        ] {
            assert!(waived(text), "{text:?}");
        }
        for text in [
            "",
            "\r\nTLS-Required: No\r\n",
            "Subject: a\r\n\r\nTLS-Required: No\r\n",
            "TLS-Required: Yes\r\n\r\n",
            "TLS-Required: No, really\r\n\r\n",
            "TLS-Required: No\r\nTLS-Required: No\r\n\r\n",
            "Subject: a\r\n TLS-Required: No\r\n\r\n",
            "X-TLS-Required: No\r\n\r\n",
        ] {
            assert!(!waived(text), "{text:?}");
        }
    }

    #[test]
    fn requiretls_goes_before_the_field_and_a_notice_demands_nothing() {
        let content = Content::from("TLS-Required: No\r\n\r\n");
        let mut envelope = envelope();
        assert!(is_waived(&envelope, &content) && !is_demanded(&envelope));
        envelope.require_tls = true;
        assert!(!is_waived(&envelope, &content) && is_demanded(&envelope));
        envelope.reverse_path = ReversePath::NULL;
        assert!(!is_waived(&envelope, &content) && !is_demanded(&envelope));
    }
}
