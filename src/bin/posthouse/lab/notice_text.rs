//! The text of a notice, as its reader sees it.
//!
//! Contract: of a message in parts the first part, decoded; nothing where the message has no parts, or that part is
//! in an encoding of which we know nothing.
//! Not here: making it fit for a terminal (`narrate`), writing notices (`posthouse::notice`).
//! RFC 2045 section 6, RFC 2046 section 5.1.

use base64::Engine;

/// The decoded text of the first part.
pub fn of(content: &str) -> Option<String> {
    let (header, body) = content.split_once("\r\n\r\n")?;
    let kind = field(header, "Content-Type")?;
    let boundary = boundary(&kind)?;
    let (_, part) = body.split_once(&format!("--{boundary}\r\n"))?;
    let (part, _) = part.split_once(&format!("\r\n--{boundary}"))?;
    let (header, body) = part.split_once("\r\n\r\n")?;
    let encoding = field(header, "Content-Transfer-Encoding").unwrap_or_else(|| "7bit".into());
    let octets = match encoding.trim().to_ascii_lowercase().as_str() {
        "7bit" | "8bit" => body.as_bytes().to_vec(),
        "quoted-printable" => quoted_printable(body),
        "base64" => {
            let packed: String = body.split_ascii_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(packed).ok()?
        }
        _ => return None,
    };
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// The value of a field, unfolded.
fn field(header: &str, name: &str) -> Option<String> {
    let unfolded = header.replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut fields = unfolded.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// The parameter of a `multipart/...` value.
fn boundary(content_type: &str) -> Option<&str> {
    if !content_type.to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let at = content_type.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let value = &content_type[at..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([';', ' ']).next(),
    }
}

/// RFC 2045 section 6.7; what is no code stands for itself.
fn quoted_printable(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let bytes = text.as_bytes();
    let mut octets = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'=').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                at += 3;
            }
            None => {
                octets.push(bytes[at]);
                at += 1;
            }
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    fn notice(encoding: &str, text: &str) -> String {
        format!(
            "Subject: Delivery delayed\r\nContent-Type: multipart/report;\r\n report-type=delivery-status; \
             boundary=\"=_x\"\r\n\r\n--=_x\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\
             \r\n{text}\r\n--=_x\r\nContent-Type: message/delivery-status\r\n\r\nAction: delayed\r\n--=_x--\r\n"
        )
    }

    #[test]
    fn the_first_part_is_decoded_and_the_others_are_not_there() {
        for (encoding, text) in [
            ("7bit", "Hello caf."),
            ("quoted-printable", "Hello=\r\n caf=2E"),
            ("base64", "SGVsbG8gY2Fm\r\nLg=="),
        ] {
            assert_eq!(super::of(&notice(encoding, text)).as_deref(), Some("Hello caf."), "{encoding}");
        }
    }

    #[test]
    fn what_is_no_message_in_parts_has_no_such_text() {
        assert_eq!(super::of("Subject: hello\r\n\r\nWorld\r\n"), None);
        assert_eq!(super::of("no header"), None);
        assert_eq!(super::of(&notice("x-secret", "?")), None);
    }
}
