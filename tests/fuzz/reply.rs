//! A server that says anything to our client machine.
//!
//! Contract: one octet of what the client wants, three of piece lengths, then what the server sends.
//! Promises: no panic; the client says and hears the same however each line of its input is cut; what it keeps of it is
//! bounded; there is never a report of a transaction that did not begin.
//! Not here: what a reply means for a message (`smtp::client::tests`).
//! RFC 5321 section 4.2.

use bytes::Buf;
use posthouse::mail::{Address, Content, Envelope};
use posthouse::smtp::client::{Authentication, Client, ClientSettings, Hello, Mechanism, Step, Transaction};

use super::{Input, pieces};

/// RFC 5321 allows reply lines of 512 octets; the machine bears longer ones, but not any.
const KEPT_MAX: usize = 16 * 1024;

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let (wish, lengths) = (input.choice(), input.choices::<3>());
    let octets = input.octets();
    // A server that talks ahead is heard as fast as it talks: what is said then depends on when, and only that it is borne
    // with is promised.
    talk(wish, &pieces(octets, &lengths));
    let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
    let cut: Vec<&[u8]> = lines.iter().flat_map(|line| pieces(line, &lengths)).collect();
    let (cut, whole) = (talk(wish, &cut), talk(wish, &lines));
    assert_eq!(cut.sent.escape_ascii().to_string(), whole.sent.escape_ascii().to_string());
    assert_eq!(cut.heard, whole.heard, "what is heard depends on how it is cut");
}

#[derive(Default)]
struct Talk {
    sent: Vec<u8>,
    heard: Vec<String>,
    secured: bool,
    begun: usize,
    reports: usize,
}

fn talk(wish: u8, pieces: &[&[u8]]) -> Talk {
    let hello = if wish & 4 != 0 { Hello::Lmtp } else { Hello::Extended };
    let avoid_chunking = wish & 8 != 0;
    let mut client =
        Client::new(ClientSettings { hello, avoid_chunking, ..ClientSettings::new("relay.example.org") });
    let mut talk = Talk::default();
    for piece in [&b""[..]].iter().chain(pieces) {
        client.receive(piece);
        while go_on(&mut client, wish, &mut talk) {}
        let kept = client.read_buffer().len();
        assert!(kept <= KEPT_MAX.max(piece.len()), "{kept} octets are kept");
    }
    if let Some(report) = client.report_of_broken_transaction() {
        talk.reports += 1;
        talk.heard.push(format!("{report:?}"));
    }
    assert!(talk.reports <= talk.begun, "a report of nothing");
    talk
}

/// One step; false when the client stands still.
fn go_on(client: &mut Client, wish: u8, talk: &mut Talk) -> bool {
    match client.step() {
        Step::NeedInput(_) | Step::Closed => return false,
        Step::Send | Step::SendContent => {
            let output = client.output();
            while output.has_remaining() {
                talk.sent.extend_from_slice(output.chunk());
                output.advance(output.chunk().len());
            }
        }
        Step::StartTls => {
            talk.secured = true;
            client.tls_started();
        }
        Step::Ready => choose(client, wish, talk),
        // As much hashing as the server wants would be as slow.
        Step::Compute(work) if work.iterations() > 4096 => return false,
        Step::Compute(work) => client.worked(&work.run()),
        step => {
            talk.reports += usize::from(matches!(step, Step::Done(_)));
            talk.heard.push(format!("{step:?}"));
        }
    }
    true
}

fn choose(client: &mut Client, wish: u8, talk: &mut Talk) {
    let times = talk.heard.iter().filter(|heard| heard.as_str() == "Ready").count();
    talk.heard.push("Ready".into());
    match times {
        0 if wish & 1 != 0 && client.extensions().starttls && !talk.secured => client.start_tls(),
        0 if wish & 2 != 0 => {
            client.authenticate(&authentication(client, wish)).expect("the name is permitted")
        }
        0..=3 => {
            talk.begun += 1;
            client.begin(transaction());
        }
        _ => client.quit(),
    }
}

/// The mechanism is the server's if it offers one, else any.
fn authentication(client: &Client, wish: u8) -> Authentication {
    let offered = Mechanism::ALL.into_iter().find(|mechanism| client.extensions().auth.has(*mechanism));
    Authentication {
        mechanism: offered.unwrap_or(Mechanism::ALL[usize::from(wish >> 4) % Mechanism::ALL.len()]),
        username: "alice".into(),
        secret: "secret".into(),
        host: "mx.example.org".into(),
        port: 25,
        nonce: "abc".into(),
    }
}

fn transaction() -> Transaction {
    let address = |text: &str| text.parse::<Address>().expect("an address");
    let envelope = Envelope::new(
        address("a@example.org").into(),
        ["b", "c"].map(|name| address(&format!("{name}@example.org"))),
    );
    Transaction::new(envelope, Content::from(".text\r\n"))
}
