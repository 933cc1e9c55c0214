//! One command line, in any state.
//!
//! Contract: one octet says what came before, then the line; CRLF in it is taken out, since it would be two.
//! Promises: all of [`Wire`]; one line has one reply; a MAIL or RCPT that is understood says the same when it is written
//! anew from what was understood, and holds no control character.
//! Not here: lines in a row (`session`).
//! RFC 5321 section 4.1, RFC 3461 section 4.

use std::fmt::Write as _;
use std::time::Duration;

use posthouse::mail::{BodyType, ByMode, Recipient, Ret, encode_xtext};
use posthouse::smtp::server::{AuthOffer, FutureRelease, Hold, MAX_COMMAND_LINE, MailCommand, Settings};

use super::Input;
use super::wire::{Answers, Rest, Wire};

const BEFORE: &[&[u8]] = &[
    b"",
    b"HELO client.example.org\r\n",
    b"EHLO client.example.org\r\n",
    b"EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\n",
    b"EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n",
];

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let before = BEFORE[usize::from(input.choice()) % BEFORE.len()];
    let line: Vec<u8> = input.octets().split(|octet| *octet == b'\n').flatten().copied().collect();
    let wire = say(before, &line);
    if let [mail] = wire.mails.as_slice()
        && !before.windows(4).any(|window| window == b"MAIL")
    {
        // Whether any parameter stood there is remembered too, and whether AUTH did: these say nothing else.
        let written = written_mail(mail);
        let again =
            ["", " BODY=7BIT", " AUTH=<>"].map(|more| say(before, (written.clone() + more).as_bytes()).mails);
        let same = again.contains(&vec![mail.clone()]);
        assert!(same, "MAIL is not understood as it was: {} {again:?}", line.escape_ascii());
    }
    if let [recipient] = wire.recipients.as_slice()
        && !before.windows(4).any(|window| window == b"RCPT")
    {
        let again = say(before, written_recipient(recipient).as_bytes());
        let same = again.recipients.as_slice() == std::slice::from_ref(recipient);
        assert!(same, "RCPT is not understood as it was: {} {:?}", line.escape_ascii(), again.recipients);
    }
}

fn say(before: &[u8], line: &[u8]) -> Wire {
    let mut settings = Settings::new("relay.example.org");
    settings.starttls = true;
    let max_date = "2026-11-22T12:00:00Z".parse().expect("a date");
    settings.future_release = Some(FutureRelease { max_interval: Duration::from_secs(3600), max_date });
    settings.auth = AuthOffer { mechanisms: vec!["PLAIN".into(), "LOGIN".into()], in_clear: true };
    let mut wire = Wire::new(settings, Answers::ACCEPT);
    wire.receive(before);
    let replies = wire.replies().len();
    wire.receive(&[line, b"\r\n"].concat());
    let went_on = wire.rest == Rest::NeedInput && wire.server.receiving_content();
    // BDAT's reply comes behind its octets (RFC 3030 section 2).
    let is_bdat = line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"BDAT");
    assert!(is_bdat || wire.replies().len() == replies + 1, "one line, one reply (content: {went_on})");
    assert!(!went_on || line.len() < MAX_COMMAND_LINE, "an overlong line was obeyed");
    wire
}

fn written_mail(mail: &MailCommand) -> String {
    let path = mail.reverse_path.address().map(ToString::to_string).unwrap_or_default();
    assert!(!path.contains(char::is_control), "{path:?}");
    let mut line = format!("MAIL FROM:<{path}>");
    if let Some(size) = mail.size {
        let _ = write!(line, " SIZE={size}");
    }
    match mail.body {
        BodyType::SevenBit => {}
        BodyType::EightBitMime => line += " BODY=8BITMIME",
        BodyType::BinaryMime => line += " BODY=BINARYMIME",
    }
    if mail.smtputf8 {
        line += " SMTPUTF8";
    }
    match mail.hold {
        Some(Hold::For(time)) => {
            let _ = write!(line, " HOLDFOR={}", time.as_secs());
        }
        Some(Hold::Until(moment)) => {
            let _ = write!(line, " HOLDUNTIL={moment}");
        }
        None => {}
    }
    if let Some(by) = mail.deliver_by {
        let mode = if by.mode == ByMode::Return { "R" } else { "N" };
        let _ = write!(line, " BY={};{mode}{}", by.seconds, if by.trace { "T" } else { "" });
    }
    match mail.ret {
        Some(Ret::Full) => line += " RET=FULL",
        Some(Ret::Headers) => line += " RET=HDRS",
        None => {}
    }
    if let Some(envid) = &mail.envid {
        assert!(!envid.contains(char::is_control), "{envid:?}");
        let _ = write!(line, " ENVID={}", encode_xtext(envid));
    }
    line
}

fn written_recipient(recipient: &Recipient) -> String {
    let address = recipient.address.as_str();
    assert!(!address.contains(char::is_control), "{address:?}");
    let mut line = format!("RCPT TO:<{address}>");
    if let Some(notify) = recipient.notify {
        let _ = write!(line, " NOTIFY={notify}");
    }
    if let Some(original) = &recipient.original {
        assert!(!original.address.contains(char::is_control), "{original:?}");
        let _ = write!(line, " ORCPT={original}");
    }
    line
}
