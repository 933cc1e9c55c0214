//! `posthouse spool export`: one message as a file, with its envelope.
//!
//! Contract: the content stands octet for octet as it was received, behind header lines that tell the envelope, so that
//! any mail program opens the file. Those who are still to get the message and those who are done stand under two names:
//! submitting it again to the former brings nobody a second copy.
//! Not here: finding the message (`posthouse::spool`).

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use posthouse::clock::Timestamp;
use posthouse::mail::{BodyType, QueueId, Recipient, Ret, encode_xtext};
use posthouse::spool::{ExportError, LoadError, RecipientProgress, RecipientState, Stored, export};
use serde::Serialize;

use crate::failed::{Failed, chain};
use crate::place::Place;
use crate::print;

/// Write a waiting message to a file, with its envelope; also while posthouse runs
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse spool export 3A0S3EDZ1T00 > message.eml
  posthouse spool export 3A0S3EDZ1T00 --output message.eml --spool /var/spool/posthouse
  posthouse spool export 3A0S3EDZ1T00 --format json
  posthouse spool export 3A0S3EDZ1T00 --content-only --output message.eml
  posthouse send --from alice@example.org --to bob@example.com message.eml

The first lines of the file are the envelope: Return-Path, X-Envelope-Parameters (of MAIL, where
there are any), an X-Envelope-To for each recipient who is still to get it and an X-Envelope-Done
for each who is done with; NOTIFY and ORCPT stand behind the address. The content follows octet for
octet.
The message stays in the queue: `posthouse queue cancel` takes it out.")]
pub struct Export {
    /// The queue id, as the 250 and the listing give it
    id: QueueId,
    /// Write to this file, which must not exist; standard output without it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the content, octet for octet as it was received
    #[arg(long, conflicts_with = "format")]
    content_only: bool,
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Envelope and content, for mail programs
    #[default]
    Eml,
    /// Envelope and progress without the content, for scripts
    Json,
}

impl Export {
    pub fn run(self) -> Result<(), Failed> {
        let places = self.place.places()?;
        let (stored, content) = export(&places.spool, self.id).map_err(|error| match error {
            ExportError::Load(LoadError::Unknown(id)) => Failed::Message(format!(
                "no message {id} waits in {}; what became of it: posthouse track --id {id}",
                places.spool.display()
            )),
            error => Failed::Message(chain(&error)),
        })?;
        let mut octets = Vec::with_capacity(content.len() + 4096);
        match self.format {
            ExportFormat::Json => {
                octets.extend(serde_json::to_vec_pretty(&Exported::of(&stored))?);
                octets.push(b'\n');
            }
            ExportFormat::Eml if self.content_only => {}
            ExportFormat::Eml => octets.extend(envelope_lines(&stored).into_bytes()),
        }
        if self.format == ExportFormat::Eml {
            content.chunks().iter().for_each(|chunk| octets.extend_from_slice(chunk));
        }
        match &self.output {
            Some(path) => write_new(path, &octets),
            None => print::octets(&octets).map(|_| ()),
        }
    }
}

/// Mail is for nobody else to read, so the file is its owner's.
fn write_new(path: &Path, octets: &[u8]) -> Result<(), Failed> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(octets))
        .map_err(|error| Failed::Message(format!("cannot write {}: {error}", path.display())))
}

/// The envelope as header lines.
fn envelope_lines(stored: &Stored) -> String {
    let envelope = &stored.envelope;
    let mut lines = match envelope.reverse_path.to_string().as_str() {
        "<>" => "Return-Path: <>\r\n".to_owned(),
        address => format!("Return-Path: <{address}>\r\n"),
    };
    let body = match envelope.body {
        BodyType::SevenBit => None,
        other => Some(format!("BODY={}", body_word(other))),
    };
    let smtputf8 = envelope.smtputf8.then(|| "SMTPUTF8".to_owned());
    // Both count from the arrival.
    let hold_for = envelope.hold_for.map(|hold| format!("HOLDFOR={}", hold.as_secs()));
    let deliver_by = envelope.deliver_by.map(|by| format!("BY={by}"));
    let ret = envelope.ret.map(|ret| format!("RET={}", ret_word(ret)));
    let envid = envelope.envid.as_ref().map(|envid| format!("ENVID={}", encode_xtext(envid)));
    let parameters: Vec<String> =
        [body, smtputf8, hold_for, deliver_by, ret, envid].into_iter().flatten().collect();
    if !parameters.is_empty() {
        let _ = write!(lines, "X-Envelope-Parameters: {}\r\n", parameters.join(" "));
    }
    for (recipient, progress) in each(stored) {
        let field =
            if progress.state == RecipientState::Waiting { "X-Envelope-To" } else { "X-Envelope-Done" };
        let _ = write!(lines, "{field}: <{}>", recipient.address);
        if let Some(notify) = recipient.notify {
            let _ = write!(lines, " NOTIFY={notify}");
        }
        if let Some(original) = &recipient.original {
            let _ = write!(lines, " ORCPT={original}");
        }
        lines.push_str("\r\n");
    }
    lines
}

fn each(stored: &Stored) -> impl Iterator<Item = (&Recipient, &RecipientProgress)> {
    std::iter::zip(&stored.envelope.recipients, &stored.progress.recipients)
}

fn body_word(body: BodyType) -> &'static str {
    match body {
        BodyType::SevenBit => "7BIT",
        BodyType::EightBitMime => "8BITMIME",
        BodyType::BinaryMime => "BINARYMIME",
    }
}

fn ret_word(ret: Ret) -> &'static str {
    match ret {
        Ret::Full => "FULL",
        Ret::Headers => "HDRS",
    }
}

/// A message without its content, for scripts.
#[derive(Serialize)]
struct Exported {
    id: QueueId,
    arrived: Timestamp,
    /// Octets of content.
    size: u64,
    /// `<>` is the null one.
    reverse_path: String,
    body: &'static str,
    smtputf8: bool,
    /// Seconds from the arrival, as the sender asked (HOLDFOR).
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_for_seconds: Option<u64>,
    /// As behind BY=; its seconds count from the arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ret: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_since: Option<Timestamp>,
    delay_told: bool,
    recipients: Vec<ExportedRecipient>,
}

#[derive(Serialize)]
struct ExportedRecipient {
    address: String,
    state: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<Timestamp>,
    /// A notice about the outcome is still owed to the sender.
    notice_owed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    /// What happened last, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

impl Exported {
    fn of(stored: &Stored) -> Self {
        let Stored { envelope, origin, progress, .. } = stored;
        Self {
            id: stored.id,
            arrived: stored.arrived_at,
            size: stored.size,
            reverse_path: envelope.reverse_path.to_string(),
            body: body_word(envelope.body),
            smtputf8: envelope.smtputf8,
            hold_for_seconds: envelope.hold_for.map(|hold| hold.as_secs()),
            deliver_by: envelope.deliver_by.map(|by| by.to_string()),
            ret: envelope.ret.map(ret_word),
            envid: envelope.envid.clone(),
            message_id: origin.message_id.clone(),
            client: origin.client.map(|client| client.to_string()),
            held_since: progress.held_since,
            delay_told: progress.delay_told,
            recipients: each(stored).map(|(recipient, state)| exported(stored, recipient, state)).collect(),
        }
    }
}

fn exported(stored: &Stored, recipient: &Recipient, progress: &RecipientProgress) -> ExportedRecipient {
    let last = progress.last.and_then(|last| stored.progress.outcomes.get(usize::from(last)));
    ExportedRecipient {
        address: recipient.address.to_string(),
        state: match progress.state {
            RecipientState::Waiting => "waiting",
            RecipientState::Delivered => "delivered",
            RecipientState::Bounced => "bounced",
            RecipientState::Cancelled => "cancelled",
            RecipientState::Uncertain => "uncertain",
        },
        attempts: progress.attempts,
        next_attempt: progress.next_attempt.filter(|_| progress.state == RecipientState::Waiting),
        notice_owed: progress.owed,
        notify: recipient.notify.map(|notify| notify.to_string()),
        original: recipient.original.as_ref().map(ToString::to_string),
        last: last.map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use posthouse::mail::{Address, ByMode, DeliverBy, Envelope, Notify, Origin, ReversePath};
    use posthouse::spool::Progress;

    use super::*;

    fn stored(reverse_path: ReversePath) -> Stored {
        let to = ["bob@example.com", "carol@example.com"].map(|to| to.parse::<Address>().unwrap());
        Stored {
            id: QueueId::first_at(1),
            arrived_at: Timestamp::from_millis(1),
            envelope: Envelope::new(reverse_path, to),
            origin: Origin::default(),
            size: 3,
            progress: Progress::untried(2),
        }
    }

    #[test]
    fn an_envelope_without_parameters_is_addresses_alone() {
        assert_eq!(
            envelope_lines(&stored(ReversePath::NULL)),
            "Return-Path: <>\r\nX-Envelope-To: <bob@example.com>\r\nX-Envelope-To: <carol@example.com>\r\n"
        );
    }

    #[test]
    fn parameters_are_kept_and_those_who_are_done_stand_apart() {
        let sender: Address = "alice@example.org".parse().unwrap();
        let mut stored = stored(sender.into());
        stored.envelope.body = BodyType::EightBitMime;
        stored.envelope.ret = Some(Ret::Headers);
        stored.envelope.envid = Some("a=b".into());
        stored.envelope.recipients[0].notify = Some(Notify::NEVER);
        stored.envelope.recipients[0].original = "rfc822;Bob+2Bx@example.net".parse().ok();
        stored.progress.recipients[1].state = RecipientState::Delivered;
        assert_eq!(
            envelope_lines(&stored),
            "Return-Path: <alice@example.org>\r\n\
             X-Envelope-Parameters: BODY=8BITMIME RET=HDRS ENVID=a+3Db\r\n\
             X-Envelope-To: <bob@example.com> NOTIFY=NEVER ORCPT=rfc822;Bob+2Bx@example.net\r\n\
             X-Envelope-Done: <carol@example.com>\r\n"
        );
        let told = serde_json::to_value(Exported::of(&stored)).unwrap();
        assert_eq!(told["recipients"][1]["state"], "delivered");
        assert_eq!(
            (&told["envid"], &told["ret"], &told["body"]),
            (&"a=b".into(), &"HDRS".into(), &"8BITMIME".into())
        );
    }

    #[test]
    fn nothing_that_a_sender_asked_for_is_lost() {
        let mut stored = stored(ReversePath::NULL);
        stored.envelope.body = BodyType::BinaryMime;
        stored.envelope.smtputf8 = true;
        stored.envelope.hold_for = Some(Duration::from_secs(60));
        stored.envelope.deliver_by = Some(DeliverBy { seconds: 600, mode: ByMode::Return, trace: true });
        let parameters = "X-Envelope-Parameters: BODY=BINARYMIME SMTPUTF8 HOLDFOR=60 BY=600;RT\r\n";
        assert!(envelope_lines(&stored).contains(parameters), "{}", envelope_lines(&stored));
        let told = serde_json::to_value(Exported::of(&stored)).unwrap();
        assert_eq!((&told["body"], &told["smtputf8"]), (&"BINARYMIME".into(), &true.into()));
        assert_eq!((&told["hold_for_seconds"], &told["deliver_by"]), (&60.into(), &"600;RT".into()));
    }
}
