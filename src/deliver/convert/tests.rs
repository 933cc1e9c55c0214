//! Conversions by example, and any message against another reader of MIME.

use mail_parser::{MessageParser, MessagePart, MimeHeaders, PartType};
use proptest::prelude::*;

use super::*;

fn converted(text: &str) -> Result<(String, String), Unconvertible> {
    let Converted { content, facts, .. } = convert(&Content::from(text.to_owned()))?;
    Ok((String::from_utf8(content.to_bytes().to_vec()).unwrap(), facts.to_string()))
}

#[test]
fn a_text_becomes_quoted_printable_and_says_so() {
    let text = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nSubject: a\r\n\r\nna\u{ef}ve words in a row\r\n";
    let expected = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nSubject: a\r\n\r\nna=C3=AFve words in a row\r\n";
    assert_eq!(converted(text).unwrap(), (expected.to_owned(), "1 part as quoted-printable".to_owned()));
    let (sent, told) = converted(&format!("DKIM-Signature: v=1\r\n{text}")).unwrap();
    assert_eq!(sent, format!("DKIM-Signature: v=1\r\n{expected}"));
    assert!(told.ends_with("its DKIM signature does not fit any more"), "{told}");
}

#[test]
fn a_part_is_converted_alone_and_its_container_relabelled() {
    let text = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n--b\r\n\r\nplain  \r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\u{3053}\u{3093}\u{306b}\u{3061}\u{306f}\r\n--b--\r\nepilogue\r\n";
    let expected = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n--b\r\n\r\nplain  \r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n44GT44KT44Gr44Gh44Gv\r\n--b--\r\nepilogue\r\n";
    assert_eq!(converted(text).unwrap(), (expected.to_owned(), "1 part as base64".to_owned()));
}

#[test]
fn what_would_be_another_message_is_left_alone() {
    use Unconvertible::*;
    const MIME: &str = "MIME-Version: 1.0\r\n";
    for (text, why) in [
        ("Subject: a\r\n\r\n\u{e9}\r\n".to_owned(), NoMime),
        (format!("{MIME}Subject: \u{e9}\r\n\r\n\u{e9}\r\n"), Header),
        (
            format!("{MIME}Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\u{e9}\r\n--b--\r\n"),
            Signed,
        ),
        (
            format!(
                "{MIME}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\n\u{e9}\r\n--c--\r\n--b--\r\n"
            ),
            Signed,
        ),
        (format!("{MIME}Content-Transfer-Encoding: base64\r\n\r\n\u{e9}\r\n"), Structure),
        (format!("{MIME}Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n\u{e9}\r\n--b--\r\n"), Structure),
        (
            format!("{MIME}Content-Type: multipart/mixed; boundary=b\r\n\r\n\u{e9}\r\n--b\r\n\r\n--b--\r\n"),
            Structure,
        ),
        (
            format!("{MIME}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n\u{e9}"),
            Structure,
        ),
        (format!("{MIME}Content-Type: message/partial\r\n\r\n\u{e9}\r\n"), Structure),
        (format!("{MIME}Content-Type: message/rfc822\r\n\r\nSubject: \u{e9}\r\n\r\n\u{e9}\r\n"), Header),
    ] {
        assert_eq!(converted(&text), Err(why), "{text}");
    }
}

#[test]
fn parts_within_parts_without_end_are_given_up() {
    let mut text = "\r\n\u{e9}\r\n".to_owned();
    for _ in 0..=DEPTH_MAX {
        text = format!("Content-Type: message/rfc822\r\n\r\n{text}");
    }
    assert_eq!(converted(&format!("MIME-Version: 1.0\r\n{text}")), Err(Unconvertible::Structure));
}

const MESSAGE: &str = "Content-Type: message/rfc822\r\n";

/// One entity with its header section.
fn entity() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[ -~]{0,90}",
        "[ -~\u{e9}\u{fc}]{0,40}",
        "[\u{3041}-\u{3093}]{1,30}",
        Just("=".to_owned()),
        Just("--b".to_owned()),
        Just(".\t".to_owned()),
    ];
    let lines = proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\r\n") + "\r\n");
    let kind = prop_oneof![
        Just(""),
        Just("Content-Type: text/plain; charset=utf-8\r\n"),
        Just("Content-Type: text/html; charset=\"UTF-8\"\r\nContent-Transfer-Encoding: 8bit\r\n"),
        Just("Content-Transfer-Encoding: binary\r\nContent-Type: application/x-thing\r\n"),
        Just("Content-Type: image/x-thing\r\nContent-Disposition: attachment; filename=\"a b\"\r\n"),
    ];
    let leaf = (kind, lines).prop_map(|(kind, lines)| format!("{kind}\r\n{lines}"));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let parts = (proptest::collection::vec(inner.clone(), 1..4), "[a-z]{8}", any::<bool>());
        let multipart = parts.prop_map(|(parts, boundary, labelled)| {
            let label = if labelled { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
            let parts: String = parts.iter().map(|part| format!("--b_{boundary}\r\n{part}\r\n")).collect();
            format!("Content-Type: multipart/mixed;\r\n\tboundary=b_{boundary}\r\n{label}\r\n{parts}--b_{boundary}--\r\n")
        });
        // The other reader does not bear a message that is nothing but a message, within a multipart.
        let message = inner.prop_map(|inner| match inner.starts_with(MESSAGE) {
            true => inner,
            false => format!("{MESSAGE}\r\nMIME-Version: 1.0\r\nSubject: x\r\n{inner}"),
        });
        prop_oneof![3 => multipart, 1 => message]
    })
}

/// Type and octets of each leaf, decoded.
fn leaves(octets: &[u8]) -> Vec<(String, Vec<u8>)> {
    let message = MessageParser::default().parse(octets).expect("a message");
    let mut found = Vec::new();
    collect(&message.parts, &mut found);
    found
}

fn collect(parts: &[MessagePart<'_>], found: &mut Vec<(String, Vec<u8>)>) {
    for part in parts {
        let kind = part.content_type().map_or_else(String::new, |kind| format!("{kind:?}"));
        match &part.body {
            PartType::Message(message) => collect(&message.parts, found),
            PartType::Multipart(_) => {}
            _ => found.push((kind, part.contents().to_vec())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn decoded_a_converted_message_is_what_it_was(entity in entity()) {
        let text = format!("Received: by x\r\nMIME-Version: 1.0\r\n{entity}");
        let sent = convert(&Content::from(text.clone())).expect("it is sound").content;
        let sent = sent.to_bytes();
        prop_assert!(sent.is_ascii(), "{}", sent.escape_ascii());
        prop_assert_eq!(leaves(&sent), leaves(text.as_bytes()), "{}", sent.escape_ascii());
        if text.is_ascii() {
            let unlabelled = |octets: &[u8]| octets.escape_ascii().to_string().replace("8bit", "7bit").replace("binary", "7bit");
            prop_assert_eq!(unlabelled(&sent), unlabelled(text.as_bytes()));
        }
    }

    #[test]
    fn anything_at_all_is_converted_or_not(text in "(?s)(MIME-Version: 1.0\r\n|Content-Type: multipart/mixed; boundary=b\r\n|Content-Transfer-Encoding: 8bit\r\n|\r\n|--b|--|\u{e9}|.){0,30}") {
        if let Ok(converted) = convert(&Content::from(text)) {
            prop_assert!(converted.content.to_bytes().is_ascii());
        }
    }
}

#[test]
fn what_a_stranger_writes_takes_time_and_memory_in_proportion() {
    use Unconvertible::Structure;
    let of = |boundary: &str, body: &str| {
        let head = format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n");
        converted(&(head + body))
    };
    // Looked through once for each of a million, this line would take minutes.
    let line = "--b".repeat(1 << 20);
    let (_, told) = of("b", &format!("--b\r\n\r\n\u{e9}{line}\r\n--b--\r\n")).unwrap();
    assert_eq!(told, "1 part as quoted-printable");
    assert_eq!(of("b", &"--b\r\n\r\n\u{e9}\r\n".repeat(100_000)), Err(Structure), "too many parts");
    let (_, told) = of("b", &"--b\r\n\r\n\u{e9}e\u{e9}\r\n".repeat(1000)).unwrap();
    assert!(told.starts_with("1000 parts"), "{told}");
    assert_eq!(of(&format!("b{}", "; /=".repeat(1 << 16)), "--b\r\n\r\n\u{e9}\r\n--b--\r\n"), Err(Structure));
    let deep: String = (0..200)
        .map(|n| format!("--b{n}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", n + 1))
        .collect();
    assert_eq!(of("b0", &format!("{deep}--b200\r\n\r\n\u{e9}\r\n")), Err(Structure), "too deep");
}

#[test]
fn the_memory_that_it_takes_is_counted() {
    let (head, body) = ("MIME-Version: 1.0\r\n\r\n", "\u{3053}\r\n".repeat(20_000));
    let whole = Content::from(format!("{head}{body}"));
    let mut pieces = Content::from(head);
    pieces.push(Bytes::from(body));
    let octets = |content: &Content| {
        let conversion = Conversion::default();
        assert_eq!(conversion.octets(), 0, "nothing is made before it is asked for");
        let length = conversion.of(content).unwrap().content.len() as u64;
        assert!(conversion.octets() > length - 100, "all but a line of it is new");
        conversion.octets()
    };
    assert_eq!(octets(&pieces), octets(&whole) + whole.len() as u64, "pieces are joined first");
}
