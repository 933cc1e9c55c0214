//! Whatever a client sends, what the server machine takes is what the reference reader sees, and what it says is its own.
//!
//! Contract: octets by chance, of commands, fragments and noise, cut anywhere; found cases stay in
//! `dialogue_reference.proptest-regressions` and are tried first.
//! Not here: replies to the letter (`tests/dialogues.rs`), the reference reader (`reference`).

mod reference;

use posthouse::mail::BodyType;
use posthouse::smtp::server::{BareNewlines, Permission, Server, Settings, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::FileFailurePersistence;

use reference::{Message, Rules};

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogue_reference.proptest-regressions");

/// In every name, address and content that the client sends, and in no reply of ours.
const CANARY: &str = "canary";

fn server(rules: Rules) -> Server {
    let mut settings = Settings::new("relay.example.org");
    settings.max_message_size = rules.max_message_size as u64;
    settings.max_recipients = rules.max_recipients;
    settings.max_errors = u32::MAX;
    settings.max_commands = u32::MAX;
    if rules.repair {
        settings.content.bare_newlines = BareNewlines::Repair;
    }
    if rules.nul {
        settings.content.nul = Permission::Accept;
    }
    Server::new(settings)
}

/// What the machine takes and says, its input in pieces of these lengths, which repeat.
fn play(rules: Rules, mut octets: &[u8], lengths: &[usize]) -> (Vec<Message>, Vec<u8>) {
    let mut server = server(rules);
    let (mut taken, mut said) = (Vec::new(), Vec::new());
    run(&mut server, &mut taken, &mut said);
    for length in lengths.iter().cycle() {
        if octets.is_empty() {
            break;
        }
        let (piece, rest) = octets.split_at((*length).min(octets.len()));
        server.receive(piece);
        octets = rest;
        run(&mut server, &mut taken, &mut said);
    }
    (taken, said)
}

fn run(server: &mut Server, taken: &mut Vec<Message>, said: &mut Vec<u8>) {
    loop {
        match server.step() {
            Step::NeedInput | Step::Closed | Step::StartTls => return,
            Step::Send => said.extend_from_slice(&server.output().split()),
            Step::Auth(question) => drop(question),
            Step::Greet(question) => question.accept(),
            Step::Mail(question) => question.accept(),
            Step::Recipient(question) => question.accept(),
            Step::Content(question) => question.accept(),
            Step::EndOfContent(question) => {
                let (envelope, content, answer) = question.into_parts();
                taken.push(Message {
                    from: envelope.reverse_path.address().map(ToString::to_string).unwrap_or_default(),
                    to: envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect(),
                    binary: envelope.body == BodyType::BinaryMime,
                    content: content.to_bytes().to_vec(),
                });
                answer.accept("queued");
            }
        }
    }
}

/// The texts of the table of replies, as its source has them.
fn table() -> Vec<(String, String)> {
    let source = include_str!("../src/smtp/server/replies.rs");
    let rows = source.lines().filter_map(|line| {
        let (head, rest) = line.split_once(" = ").or_else(|| line.split_once("code: "))?;
        let text = rest.split('"').nth(1)?;
        let code = rest.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
        (!head.contains("assert")).then(|| (code.to_owned(), text.to_owned()))
    });
    rows.collect()
}

fn is_ours(line: &str, table: &[(String, String)]) -> bool {
    let (code, text) = (&line[..3], &line[4..]);
    let offers = [
        "relay.example.org",
        "PIPELINING",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "DELIVERBY",
        "SIZE ",
        "LIMITS RCPTMAX=",
    ];
    match code {
        "220" => text == "relay.example.org ESMTP posthouse",
        "250" if offers.iter().any(|offer| text.starts_with(offer)) => true,
        "250" if text == "2.0.0 queued" => true,
        "550" => text.starts_with("5.6.0 line ") || text.starts_with("5.6.11 line "),
        _ => table.iter().any(|(of, ours)| of == code && text.ends_with(ours.as_str())),
    }
}

fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let commands = prop::sample::select(vec![
        "EHLO canary\r\n",
        "HELO canary\r\n",
        "MAIL FROM:<canary@b>\r\n",
        "mail from: <> SIZE=100 RET=FULL\r\n",
        "MAIL FROM:<canary@b> BODY=BINARYMIME\r\n",
        "MAIL FROM:<canary@b> SMTPUTF8 BODY=8BITMIME\r\n",
        "MAIL FROM:<canary@b> SIZE=201\r\n",
        "RCPT TO:<canary@b>\r\n",
        "RCPT TO:<\"canary>\"@b> NOTIFY=NEVER\r\n",
        "RCPT TO:<canary\u{e9}@b>\r\n",
        "DATA\r\n",
        ".\r\n",
        "..\r\n",
        "\r\n.\r\n",
        "canary\r\n",
        "RSET\r\n",
        "NOOP canary\r\n",
        "QUIT\r\n",
        "STARTTLS\r\n",
        "GET /canary\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 5\r\n",
        "BDAT 8 LAST\r\n",
        "BDAT 8 canary\r\n",
        "BDAT 300 LAST\r\n",
        "BDAT 99999999 LAST\r\n",
        "BDAT canary\r\n",
    ]);
    let begun = prop::sample::select(vec![
        "EHLO canary\r\nMAIL FROM:<canary@b>\r\nRCPT TO:<canary@b>\r\n",
        "EHLO canary\r\nMAIL FROM:<canary@b> BODY=BINARYMIME\r\nRCPT TO:<canary@b>\r\n",
        "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<canary@b>\r\nDATA\r\n",
    ]);
    let noise = prop::sample::select(vec![
        &b"\r"[..],
        b"\n",
        b".",
        b"\0",
        b"\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\n.\r\n",
        b"\r\r\n.\r\r\n",
        b" ",
        b"\t",
        b"\xff",
        b"\xc3\xa9",
        b"canary",
    ]);
    let chunk = (vec(noise.clone(), 0..6), any::<bool>()).prop_map(|(octets, last)| {
        let octets = octets.concat();
        let last = if last { " LAST" } else { "" };
        [format!("BDAT {}{last}\r\n", octets.len()).as_bytes(), &octets].concat()
    });
    let opened = prop::sample::select(vec!["", " BODY=BINARYMIME", " SMTPUTF8"]);
    let text = vec(noise.clone(), 0..6).prop_map(|octets| octets.concat());
    let message = (opened, text, vec(chunk.clone(), 0..3)).prop_map(|(parameter, text, chunks)| {
        let head = format!("EHLO canary\r\nMAIL FROM:<canary@b>{parameter}\r\nRCPT TO:<canary@b>\r\n");
        match chunks.is_empty() {
            true => [head.as_bytes(), b"DATA\r\n", &text, b"\r\n.\r\n"].concat(),
            false => [head.as_bytes(), &chunks.concat(), b"BDAT 8 LAST\r\ncanary\r\n"].concat(),
        }
    });
    let fragment = prop_oneof![
        4 => message,
        4 => commands.prop_map(|text| text.as_bytes().to_vec()),
        3 => begun.prop_map(|text| text.as_bytes().to_vec()),
        4 => noise.prop_map(<[u8]>::to_vec),
        3 => chunk,
        1 => vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 0usize..2200).prop_map(|(octet, length)| vec![octet; length]),
    ];
    vec(fragment, 0..24).prop_map(|fragments| fragments.concat())
}

fn rules() -> impl Strategy<Value = Rules> {
    // Repair makes content grow, and the reference reader counts what came.
    (any::<bool>(), any::<bool>()).prop_map(|(repair, nul)| Rules {
        max_message_size: if repair { 1 << 20 } else { 200 },
        max_recipients: 3,
        repair,
        nul,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_taken_is_what_the_reference_reader_sees(
        rules in rules(),
        octets in fragments(),
        lengths in vec(1usize..60, 1..5),
    ) {
        let expected = reference::read(&octets, rules);
        prop_assert_eq!(&play(rules, &octets, &[usize::MAX]).0, &expected, "whole");
        prop_assert_eq!(&play(rules, &octets, &lengths).0, &expected, "cut by {:?}", &lengths);
        prop_assert_eq!(&play(rules, &octets, &[1]).0, &expected, "octet by octet");
    }

    #[test]
    fn no_line_of_ours_holds_what_the_client_has_sent(rules in rules(), octets in fragments()) {
        let said = play(rules, &octets, &[usize::MAX]).1;
        let said = String::from_utf8(said).expect("replies are US-ASCII");
        prop_assert!(!said.to_lowercase().contains(CANARY), "{}", said);
        let table = table();
        for line in said.strip_suffix("\r\n").into_iter().flat_map(|said| said.split("\r\n")) {
            prop_assert!(line.len() <= 510 && line.bytes().all(|b| matches!(b, b' '..=b'~')), "{}", line);
            prop_assert!(is_ours(line, &table), "{}", line);
        }
    }
}

#[test]
fn the_generator_makes_messages_and_not_only_noise() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rules = Rules { max_message_size: 200, max_recipients: 3, repair: false, nul: true };
    let mut taken = 0;
    for _ in 0..300 {
        let octets = fragments().new_tree(&mut runner).expect("a case").current();
        taken += reference::read(&octets, rules).len();
    }
    assert!(taken > 150, "only {taken} messages in 300 cases");
}

#[test]
fn the_reference_reader_reads_the_forms_of_smuggling_as_content() {
    let rules = Rules { max_message_size: 10_000, max_recipients: 3, repair: false, nul: false };
    let head = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    let count = |content: &str| reference::read(format!("{head}{content}").as_bytes(), rules).len();
    assert_eq!(count("one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n"), 2);
    for form in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r\r\n.\r\r\n"] {
        assert_eq!(
            count(&format!("one{form}MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\ntwo\r\n.\r\n")),
            0,
            "{form:?}"
        );
    }
    let bdat = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\n.\r\nBDAT 5 LAST\r\nQUIT\r";
    assert_eq!(reference::read(bdat.as_bytes(), rules).len(), 0, "the last CR is bare");
    assert_eq!(
        reference::read(bdat.replace("QUIT\r", "IT.\r\n").as_bytes(), rules)[0].content,
        b".\r\nIT.\r\n"
    );
}
