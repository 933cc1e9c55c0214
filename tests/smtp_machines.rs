//! Both SMTP machines under octets by chance, and against each other in memory.
//!
//! Contract: no input makes a machine panic; it says the same however its input is cut; content goes through both
//! machines octet for octet.
//! Not here: what is right to say (`tests/dialogues.rs`, `smtp::client::tests`).

use bytes::{Buf, Bytes};
use posthouse::mail::{Address, Content, Envelope, ReversePath};
use posthouse::smtp::client::{Client, ClientSettings, Step as ClientStep, Transaction, TransactionReport};
use posthouse::smtp::server::{Permission, Server, Settings, Step as ServerStep};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a server machine has said and taken.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    said: Vec<u8>,
    taken: Vec<(Envelope, Vec<u8>)>,
}

/// Lets the server go on until it needs input, accepting everything.
fn run_server(server: &mut Server, heard: &mut Heard) {
    loop {
        match server.step() {
            ServerStep::NeedInput | ServerStep::Closed | ServerStep::StartTls => return,
            ServerStep::Send => heard.said.extend_from_slice(&server.output().split()),
            ServerStep::Auth(question) => drop(question),
            ServerStep::Greet(question) => question.accept(),
            ServerStep::Mail(question) => question.accept(),
            ServerStep::Recipient(question) => question.accept(),
            ServerStep::Content(question) => question.accept(),
            ServerStep::EndOfContent(question) => {
                let (envelope, content, answer) = question.into_parts();
                heard.taken.push((envelope, content.to_bytes().to_vec()));
                answer.accept("queued");
            }
        }
    }
}

fn serve(pieces: &[&[u8]]) -> Heard {
    let mut settings = Settings::new("relay.example.org");
    settings.max_message_size = 200;
    settings.max_recipients = 3;
    let mut server = Server::new(settings);
    let mut heard = Heard::default();
    run_server(&mut server, &mut heard);
    for piece in pieces {
        server.receive(piece);
        run_server(&mut server, &mut heard);
    }
    heard
}

/// `octets` in pieces of the given lengths, which repeat.
fn cut<'a>(mut octets: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if octets.is_empty() {
            break;
        }
        let (piece, rest) = octets.split_at((*length).min(octets.len()));
        pieces.push(piece);
        octets = rest;
    }
    pieces
}

/// Pieces of dialogue and noise: chance alone would hardly get past EHLO.
fn client_octets() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        4 => prop::sample::select(vec![
            &b"EHLO a\r\n"[..], b"HELO a\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<> SIZE=100 RET=FULL\r\n",
            b"RCPT TO:<a@b>\r\n", b"RCPT TO:<\"a>\"@b> NOTIFY=NEVER\r\n", b"DATA\r\n", b".\r\n", b"..\r\n", b"\r\n.\r\n",
            b"text\r\n", b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"STARTTLS\r\n", b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        ]).prop_map(<[u8]>::to_vec),
        2 => prop::sample::select(vec![&b"\r"[..], b"\n", b".", b"\0", b"\r\n", b"\n.\n", b"<", b">", b" ", b"\xff"])
            .prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0usize..3000).prop_map(|(octet, length)| vec![octet; length]),
    ];
    vec(fragment, 0..30).prop_map(|fragments| fragments.concat())
}

fn server_octets() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        6 => prop::sample::select(vec![
            &b"220 a\r\n"[..], b"250 a\r\n", b"250-a\r\n", b"250-PIPELINING\r\n250 DSN\r\n", b"354 a\r\n", b"421 a\r\n",
            b"450 a\n", b"550 5.1.1 a\r\n", b"250\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..10),
    ];
    let start = b"220 a\r\n250-a\r\n250 PIPELINING\r\n";
    (any::<bool>(), vec(fragment, 0..20))
        .prop_map(|(begun, fragments)| [if begun { &start[..] } else { b"" }, &fragments.concat()].concat())
}

/// What the client does with what it hears: it begins a transaction whenever it can.
fn talk(pieces: &[&[u8]]) -> (Vec<u8>, Vec<String>) {
    let mut client = Client::new(ClientSettings::new("relay.example.org"));
    let (mut sent, mut events, mut transactions) = (Vec::new(), Vec::new(), 0);
    for piece in [&b""[..]].iter().chain(pieces) {
        client.receive(piece);
        loop {
            match client.step() {
                ClientStep::NeedInput(_) | ClientStep::Closed => break,
                ClientStep::Send | ClientStep::SendContent => write_all(&mut client, &mut sent, usize::MAX),
                ClientStep::Ready => {
                    transactions += 1;
                    client.begin(transaction(Content::from("text")));
                }
                step => events.push(format!("{step:?}")),
            }
        }
    }
    events.push(format!("{:?} {transactions}", client.report_of_broken_transaction()));
    (sent, events)
}

fn write_all(client: &mut Client, into: &mut Vec<u8>, at_once: usize) {
    let output = client.output();
    while output.has_remaining() {
        let length = output.chunk().len().min(at_once);
        into.extend_from_slice(&output.chunk()[..length]);
        output.advance(length);
    }
}

fn transaction(content: Content) -> Transaction {
    let address = |text: &str| text.parse::<Address>().expect("an address");
    let reverse_path = ReversePath::from(address("\"a b\"@example.com"));
    let recipients = [address("b@example.org"), address("\"c>\"@example.org")];
    Transaction::new(Envelope::new(reverse_path, recipients), content)
}

/// Carries octets between the two machines until the transaction is over.
fn exchange(content: Content, lengths: &[usize], pipelining: bool) -> (TransactionReport, Heard) {
    let mut settings = Settings::new("relay.example.org");
    settings.content.nul = Permission::Accept;
    let mut server = Server::new(settings);
    let mut client = Client::new(ClientSettings::new("client.example.com"));
    let (mut heard, mut content) = (Heard::default(), Some(content));
    loop {
        run_server(&mut server, &mut heard);
        let mut said = std::mem::take(&mut heard.said);
        if !pipelining {
            said = String::from_utf8(said)
                .expect("replies are ASCII")
                .replace("250-PIPELINING\r\n", "")
                .into_bytes();
        }
        client.receive(&said);
        match client.step() {
            ClientStep::Send | ClientStep::SendContent => {
                let mut written = Vec::new();
                write_all(&mut client, &mut written, lengths[0]);
                for piece in cut(&written, lengths) {
                    server.receive(piece);
                    run_server(&mut server, &mut heard);
                }
            }
            ClientStep::Ready => client.begin(transaction(content.take().expect("one transaction"))),
            ClientStep::Done(report) => return (report, heard),
            ClientStep::NeedInput(_) => {}
            step => panic!("unexpected {step:?}"),
        }
    }
}

/// Lines ended by CRLF, with many dots, and perhaps no line end at the end.
fn content_octets() -> impl Strategy<Value = Vec<u8>> {
    let text = vec(prop_oneof![3 => Just(b'.'), 2 => Just(b'a'), 1 => any::<u8>()], 0..6);
    let line =
        text.prop_map(|text| text.into_iter().filter(|octet| !b"\r\n".contains(octet)).collect::<Vec<u8>>());
    (vec(line, 0..40), any::<bool>()).prop_map(|(lines, ended)| {
        let mut octets = lines.join(&b"\r\n"[..]);
        if ended && !octets.is_empty() {
            octets.extend_from_slice(b"\r\n");
        }
        octets
    })
}

proptest! {
    #[test]
    fn the_server_says_the_same_however_its_input_is_cut(octets in client_octets(), lengths in vec(1usize..50, 1..6)) {
        prop_assert_eq!(serve(&[&octets]), serve(&cut(&octets, &lengths)));
    }

    #[test]
    fn the_server_takes_only_content_whose_line_ends_are_true(octets in client_octets()) {
        for (envelope, content) in serve(&[&octets]).taken {
            prop_assert!(!envelope.recipients.is_empty() && content.len() <= 200);
            let text: Vec<u8> = String::from_utf8_lossy(&content).replace("\r\n", "").into_bytes();
            prop_assert!(!text.contains(&b'\r') && !text.contains(&b'\n'));
        }
    }

    #[test]
    fn the_client_does_the_same_however_each_line_of_its_input_is_cut(
        octets in server_octets(),
        lengths in vec(1usize..20, 1..6),
    ) {
        // Between lines a cut may matter: a reply that comes before it is asked for is a fault, later it is none.
        let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
        let pieces: Vec<&[u8]> = lines.iter().flat_map(|line| cut(line, &lengths)).collect();
        prop_assert_eq!(talk(&lines), talk(&pieces));
        talk(&[&octets]);
    }

    #[test]
    fn content_goes_through_both_machines_octet_for_octet(
        octets in content_octets(),
        chunks in vec(1usize..30, 1..6),
        lengths in vec(1usize..80, 1..6),
        pipelining in any::<bool>(),
    ) {
        let mut content = Content::new();
        for chunk in cut(&octets, &chunks) {
            content.push(Bytes::copy_from_slice(chunk));
        }
        let (report, heard) = exchange(content, &lengths, pipelining);
        prop_assert!(report.dot_sent && report.recipient_accepted(0) && report.recipient_accepted(1));
        prop_assert_eq!(report.end.map(|reply| reply.to_string()), Some("250 2.0.0 queued".to_owned()));
        let mut expected = octets;
        if !expected.is_empty() && !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(heard.taken.len(), 1);
        prop_assert_eq!(&heard.taken[0].1, &expected);
        prop_assert_eq!(&heard.taken[0].0.recipients[1].address.to_string(), "\"c>\"@example.org");
    }
}

#[test]
fn questions_may_be_awaited_on_any_thread() {
    fn is_send<T: Send>() {}
    is_send::<ServerStep<'static>>();
    is_send::<Client>();
    is_send::<ClientStep>();
}
