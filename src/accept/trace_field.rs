//! The `Received` field that is put on top of every message (RFC 5321 section 4.4, RFC 8314 section 4.3).

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::{Envelope, QueueId};

/// What the field tells.
pub(super) struct TraceField<'a> {
    /// The name that the client gave in EHLO or HELO: its claim. What could not be such a name is left out.
    pub client_name: Option<&'a str>,
    /// `None`: it came over no network, and the field says nothing of where from.
    pub client: Option<IpAddr>,
    pub hostname: &'a str,
    /// SMTP, ESMTP, ESMTPS, UTF8SMTP and so on (RFC 3848, RFC 6531 section 4.3); `None` where no registered name is for
    /// it, and there is no `with`.
    pub protocol: Option<&'static str>,
    /// What TLS negotiated, by its IANA name.
    pub cipher: Option<&'a str>,
    /// Who has authenticated, where the field is to say so.
    pub user: Option<&'a str>,
    pub id: QueueId,
    pub envelope: &'a Envelope,
    pub now: Timestamp,
}

impl TraceField<'_> {
    /// The field in the lines of RFC 5322, ready to stand before the content.
    ///
    /// The recipient is named only where he is the only one: others must not learn of each other.
    pub fn write(&self) -> Bytes {
        let mut field = String::from("Received: ");
        if let Some(client) = self.client {
            let client = match client.to_canonical() {
                IpAddr::V4(address) => format!("[{address}]"),
                IpAddr::V6(address) => format!("[IPv6:{address}]"),
            };
            let name = self.client_name.filter(|name| is_harmless(name)).unwrap_or(&client);
            let _ = write!(field, "from {name} ({client})\r\n\t");
        }
        if let Some(user) = self.user {
            let _ = write!(field, "(authenticated as {})\r\n\t", in_comment(user));
        }
        let _ = write!(field, "by {} (posthouse)", self.hostname);
        if let Some(protocol) = self.protocol {
            let _ = write!(field, " with {protocol}");
        }
        let _ = write!(field, " id {}", self.id);
        if let [only] = self.envelope.recipients.as_slice() {
            let _ = write!(field, "\r\n\tfor <{}>", only.address);
        }
        // RFC 8314 section 4.3; it comes behind all of RFC 5321's own clauses.
        if let Some(cipher) = self.cipher {
            let _ = write!(field, "\r\n\ttls {cipher}");
        }
        let _ = write!(field, ";\r\n\t{}\r\n", self.now.to_rfc5322());
        field.into()
    }
}

/// As the dialogue takes it in EHLO; those who come by another way may have said anything.
fn is_harmless(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

/// A name within a comment (RFC 5322 section 3.2.2): what has a meaning there is quoted by a backslash, and all that is
/// not printable US-ASCII is written as in xtext (RFC 3461 section 4), `+C3+A9`.
fn in_comment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for octet in name.bytes() {
        match octet {
            b'(' | b')' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => {
                let _ = write!(text, "+{octet:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ReversePath};

    #[test]
    fn a_user_cannot_leave_the_comment() {
        assert_eq!(in_comment("alice@example.org"), "alice@example.org");
        assert_eq!(in_comment("a) b (\\"), "a\\) b \\(\\\\");
        assert_eq!(in_comment("andr\u{e9}\r\n"), "andr+C3+A9+0D+0A");
    }

    #[test]
    fn names_the_recipient_only_where_he_is_alone() {
        let to = |recipients: &[&str], cipher| {
            let recipients = recipients.iter().map(|address| address.parse::<Address>().unwrap());
            let envelope = Envelope::new(ReversePath::NULL, recipients);
            let field = TraceField {
                client_name: Some("client.example.org"),
                client: Some("::ffff:192.0.2.7".parse().unwrap()),
                hostname: "relay.example.org",
                protocol: Some("ESMTP"),
                cipher,
                user: None,
                id: QueueId::first_at(1_795_318_387_120),
                envelope: &envelope,
                now: Timestamp::from_millis(1_795_318_387_120),
            };
            String::from_utf8(field.write().to_vec()).unwrap()
        };
        assert_eq!(
            to(&["a@example.com"], None),
            "Received: from client.example.org ([192.0.2.7])\r\n\
             \tby relay.example.org (posthouse) with ESMTP id 3881PKQZZ000\r\n\
             \tfor <a@example.com>;\r\n\
             \tSun, 22 Nov 2026 03:33:07 +0000\r\n"
                .replace("3881PKQZZ000", &QueueId::first_at(1_795_318_387_120).to_string())
        );
        let secret = to(&["a@example.com", "b@example.com"], Some("TLS_AES_256_GCM_SHA384"));
        assert!(!secret.contains("for <"));
        assert!(secret.contains("\r\n\ttls TLS_AES_256_GCM_SHA384;\r\n"), "{secret}");
    }

    #[test]
    fn says_only_what_is_known_of_who_comes_by_another_way() {
        let envelope = Envelope::new(ReversePath::NULL, []);
        let field = |client_name: Option<&str>, client: Option<&str>| {
            let field = TraceField {
                client_name,
                client: client.map(|client| client.parse().unwrap()),
                hostname: "relay.example.org",
                protocol: None,
                cipher: None,
                user: None,
                id: QueueId::first_at(1_795_318_387_120),
                envelope: &envelope,
                now: Timestamp::from_millis(1_795_318_387_120),
            };
            let id = field.id.to_string();
            String::from_utf8(field.write().to_vec()).unwrap().replace(&id, "ID")
        };
        let by = "by relay.example.org (posthouse) id ID;\r\n\tSun, 22 Nov 2026 03:33:07 +0000\r\n";
        assert_eq!(field(None, None), format!("Received: {by}"));
        let from = |name: &str| format!("Received: from {name} ([IPv6:2001:db8::1])\r\n\t{by}");
        assert_eq!(field(Some("app.example.org"), Some("2001:db8::1")), from("app.example.org"));
        assert_eq!(field(None, Some("2001:db8::1")), from("[IPv6:2001:db8::1]"));
        assert_eq!(field(Some("x\r\nBcc: y"), Some("2001:db8::1")), from("[IPv6:2001:db8::1]"));
    }
}
