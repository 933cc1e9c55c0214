//! Content in chunks of counted octets.
//!
//! Contract: one octet of what MAIL says, three of chunk lengths, three of piece lengths, then the content.
//! Promises: all of [`Wire`]; one reply for each chunk, and nothing in a chunk is ever a command or an end; what is taken is
//! the chunks in a row, octet for octet; BODY=BINARYMIME is taken whatever it is, and so is what any server must take.
//! Not here: malformed BDAT, and BDAT out of order (`command`, `session`).
//! RFC 3030 sections 2 and 3.

use posthouse::smtp::server::Settings;

use super::content::must_be_taken;
use super::wire::{Answers, Rest, Wire};
use super::{Input, pieces};

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let (kind, chunk_lengths, lengths) = (input.choice(), input.choices::<3>(), input.choices::<3>());
    let content = input.octets();
    let is_binary = kind & 1 != 0;
    let chunks = pieces(content, &chunk_lengths);
    let sent = written(&chunks, kind & 2 != 0);

    let mut settings = Settings::new("relay.example.org");
    (settings.max_errors, settings.max_commands) = (u32::MAX, u32::MAX);
    let mut wire = Wire::new(settings, Answers::ACCEPT);
    let body = if is_binary { " BODY=BINARYMIME" } else { "" };
    wire.receive(
        format!("EHLO a.example.org\r\nMAIL FROM:<a@example.org>{body}\r\nRCPT TO:<b@example.org>\r\n")
            .as_bytes(),
    );
    let before = wire.replies().len();
    pieces(&sent.octets, &lengths).iter().for_each(|piece| wire.receive(piece));

    assert_eq!(wire.rest, Rest::NeedInput);
    assert_eq!(wire.replies().len(), before + sent.commands, "one reply for each chunk");
    match wire.messages.as_slice() {
        [] => assert!(!is_binary && !must_be_taken(content), "refused: {:?}", wire.replies().pop()),
        [(_, taken)] => assert_eq!(taken.escape_ascii().to_string(), content.escape_ascii().to_string()),
        more => panic!("{} messages of one", more.len()),
    }
}

struct Written {
    octets: Vec<u8>,
    commands: usize,
}

/// LAST stands at the last chunk, or alone behind it.
fn written(chunks: &[&[u8]], last_alone: bool) -> Written {
    let mut octets = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let is_last = index + 1 == chunks.len() && !last_alone;
        octets.extend_from_slice(
            format!("BDAT {}{}\r\n", chunk.len(), if is_last { " LAST" } else { "" }).as_bytes(),
        );
        octets.extend_from_slice(chunk);
    }
    let alone = last_alone || chunks.is_empty();
    if alone {
        octets.extend_from_slice(b"BDAT 0 LAST\r\n");
    }
    Written { octets, commands: chunks.len() + usize::from(alone) }
}
