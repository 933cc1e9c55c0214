//! A whole session: any octets, arbitrarily cut, any answers to the questions that they raise.
//!
//! Contract: one octet of settings, four of answers, three of piece lengths, then what the client sends.
//! Promises: all of [`Wire`]; and where no handshake took place, the machine says and takes the same however its
//! input is cut.
//! Not here: what exactly is taken (`content`), the form of single commands (`command`).

use std::time::Duration;

use posthouse::smtp::server::{AuthOffer, BareNewlines, FutureRelease, Settings};

use super::wire::{Answers, Wire};
use super::{Input, pieces};

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
    for piece in pieces {
        wire.receive(piece);
    }
    // What the machine turned away of its own accord is told once.
    wire.server.take_refusals();
    assert!(wire.server.take_refusals().is_empty());
    wire
}

/// Small limits, so that they are met.
fn settings(kind: u8) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.starttls = kind & 1 != 0;
    if kind & 2 != 0 {
        let mechanisms = vec!["SCRAM-SHA-256".into(), "PLAIN".into(), "LOGIN".into()];
        settings.auth = AuthOffer { mechanisms, in_clear: kind & 4 != 0 };
    }
    let repaired = kind & 16 != 0;
    settings.content.bare_newlines = if repaired { BareNewlines::Repair } else { BareNewlines::Reject };
    if kind & 32 != 0 {
        let longest = Duration::from_secs(3600);
        let max_date = "2026-11-22T12:00:00Z".parse().expect("a date");
        settings.future_release = Some(FutureRelease { max_interval: longest, max_date });
    }
    if kind & 8 != 0 {
        settings.max_message_size = 200;
        settings.max_recipients = 2;
        settings.max_errors = 3;
        settings.max_commands = 12;
    }
    settings
}
