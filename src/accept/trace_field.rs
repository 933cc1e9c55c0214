//! The `Received` field that is put on top of every message (RFC 5321 section 4.4).

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::{Envelope, QueueId};

/// What the field tells.
pub(super) struct TraceField<'a> {
    /// The name that the client gave in EHLO or HELO: its claim.
    pub client_name: &'a str,
    pub client: IpAddr,
    pub hostname: &'a str,
    /// SMTP, ESMTP, ESMTPS, UTF8SMTP and so on (RFC 3848, RFC 6531 section 4.3).
    pub protocol: &'static str,
    pub id: QueueId,
    pub envelope: &'a Envelope,
    pub now: Timestamp,
}

impl TraceField<'_> {
    /// The field in the lines of RFC 5322, ready to stand before the content.
    ///
    /// The recipient is named only where he is the only one: others must not learn of each other.
    pub fn write(&self) -> Bytes {
        let client = match self.client.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPv6:{address}"),
        };
        let mut field = format!("Received: from {} ([{client}])\r\n", self.client_name);
        let (hostname, protocol, id) = (self.hostname, self.protocol, self.id);
        let _ = write!(field, "\tby {hostname} (posthouse) with {protocol} id {id}");
        if let [only] = self.envelope.recipients.as_slice() {
            let _ = write!(field, "\r\n\tfor <{}>", only.address);
        }
        let _ = write!(field, ";\r\n\t{}\r\n", self.now.to_rfc5322());
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ReversePath};

    #[test]
    fn names_the_recipient_only_where_he_is_alone() {
        let to = |recipients: &[&str]| {
            let recipients = recipients.iter().map(|address| address.parse::<Address>().unwrap());
            let envelope = Envelope::new(ReversePath::NULL, recipients);
            let field = TraceField {
                client_name: "client.example.org",
                client: "::ffff:192.0.2.7".parse().unwrap(),
                hostname: "relay.example.org",
                protocol: "ESMTP",
                id: QueueId::first_at(1_795_318_387_120),
                envelope: &envelope,
                now: Timestamp::from_millis(1_795_318_387_120),
            };
            String::from_utf8(field.write().to_vec()).unwrap()
        };
        assert_eq!(
            to(&["a@example.com"]),
            "Received: from client.example.org ([192.0.2.7])\r\n\
             \tby relay.example.org (posthouse) with ESMTP id 3881PKQZZ000\r\n\
             \tfor <a@example.com>;\r\n\
             \tSun, 22 Nov 2026 03:33:07 +0000\r\n"
                .replace("3881PKQZZ000", &QueueId::first_at(1_795_318_387_120).to_string())
        );
        assert!(!to(&["a@example.com", "b@example.com"]).contains("for <"));
    }
}
