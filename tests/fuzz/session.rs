//! A whole session: any octets, arbitrarily cut, any answers to the questions that they raise.
//!
//! Contract: one octet of settings, four of answers, three of piece lengths, then what the client sends.
//! Promises: all of [`Wire`]; what is taken keeps to what was offered and to the rules of content; no
//! secret is on its tape; and where no handshake took place, the machine says and takes the same however its
//! input is cut.
//! Not here: what exactly is taken (`content`), the form of single commands (`command`).

use std::time::Duration;

use posthouse::mail::{BodyType, ByMode, Envelope};
use posthouse::smtp::server::{AuthOffer, BareNewlines, FutureRelease, Permission, Settings};

use super::wire::{Answers, Wire, now};
use super::{Input, pieces, taped};

/// Octets of a tape: few, so that long sessions have more.
const TAPE: usize = 1024;

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let (kind, answers, lengths) = (input.choice(), Answers(input.choices()), input.choices::<3>());
    let octets = input.octets();
    let cut = serve(kind, answers, &pieces(octets, &lengths));
    let whole = serve(kind, answers, &[octets]);
    if cut.handshakes + whole.handshakes == 0 {
        let shown = |wire: &Wire| String::from_utf8_lossy(&wire.said).into_owned();
        assert_eq!(shown(&cut), shown(&whole), "what is said depends on how the input is cut");
        assert_eq!(cut.messages, whole.messages, "what is taken depends on how the input is cut");
    }
}

fn serve(kind: u8, answers: Answers, pieces: &[&[u8]]) -> Wire {
    let mut wire = Wire::new(settings(kind), answers);
    wire.server.tape().record(TAPE);
    for piece in pieces {
        wire.receive(piece);
    }
    taped::check(&pieces.concat(), &mut wire);
    for (envelope, content) in &wire.messages {
        check_taken(&settings(kind), envelope, content);
    }
    // What the machine turned away of its own accord is told once.
    wire.server.take_refusals();
    assert!(wire.server.take_refusals().is_empty());
    wire
}

/// A message of which it was said that it was taken.
fn check_taken(settings: &Settings, envelope: &Envelope, content: &[u8]) {
    assert!(content.len() as u64 <= settings.max_message_size, "{} octets were taken", content.len());
    let recipients = &envelope.recipients;
    assert!(recipients.len() <= settings.max_recipients, "{} recipients were taken", recipients.len());
    let longest = settings.future_release.map(|offer| offer.max_interval);
    assert!(envelope.hold_for <= longest, "held for {:?}", envelope.hold_for);
    if let Some(by) = envelope.deliver_by {
        assert!(by.mode == ByMode::Notify || by.seconds > 0, "{by}");
        let hold = envelope.hold_for.unwrap_or_default().as_secs() as i64;
        assert!(hold == 0 || by.seconds > 0, "held until BY is over: {by}");
    }
    let mut addresses =
        recipients.iter().map(|recipient| &recipient.address).chain(envelope.reverse_path.address());
    assert!(envelope.smtputf8 || addresses.all(|address| address.as_str().is_ascii()), "{envelope:?}");
    if envelope.body == BodyType::BinaryMime {
        return;
    }
    let rules = settings.content;
    assert!(rules.nul == Permission::Accept || !content.contains(&0), "NUL was taken");
    let may_be_8bit = envelope.smtputf8
        || envelope.body == BodyType::EightBitMime
        || rules.undeclared_8bit == Permission::Accept;
    assert!(may_be_8bit || content.is_ascii(), "octets above 127 that nobody declares were taken");
    let mut lines = content.split(|octet| *octet == b'\n');
    assert!(
        rules.long_lines == Permission::Accept || lines.all(|line| line.len() <= 999),
        "a long line was taken"
    );
}

/// Small limits, so that they are met.
fn settings(kind: u8) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.starttls = kind & 1 != 0;
    if kind & 2 != 0 {
        let mechanisms = ["SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER"].map(str::to_owned).into();
        settings.auth = AuthOffer { mechanisms, in_clear: kind & 4 != 0 };
    }
    let repaired = kind & 16 != 0;
    settings.content.bare_newlines = if repaired { BareNewlines::Repair } else { BareNewlines::Reject };
    if kind & 32 != 0 {
        settings.future_release = FutureRelease::from_now(Duration::from_secs(3600), now());
    }
    if kind & 64 != 0 {
        settings.content.undeclared_8bit = Permission::Reject;
        settings.content.long_lines = Permission::Reject;
    }
    if kind & 128 != 0 {
        settings.content.nul = Permission::Accept;
    }
    if kind & 8 != 0 {
        settings.max_message_size = 200;
        settings.max_recipients = 2;
        settings.max_messages = Some(3);
        settings.max_errors = 3;
        settings.max_commands = 12;
    }
    settings
}
