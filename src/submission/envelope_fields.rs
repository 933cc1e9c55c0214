//! An envelope in a file: the fields `X-Sender` and `X-Receiver` above a message, as Exchange's and IIS' pickup and
//! replay folders know them.
//!
//! Contract: they stand on top, before any other field, and are taken away before the message goes on. Behind the
//! address stand parameters as in MAIL and RCPT: `X-Sender: <a@example.org> BODY=8BITMIME RET=HDRS ENVID=x`,
//! `X-Receiver: <b@example.com> NOTIFY=FAILURE ORCPT=rfc822;b@example.com`. Our own `X-Submission-Key` makes a second
//! taking of the same message the first one again. What is written by `Display` is read back as it was.
//! Invariants: a parameter that is not understood is an error: what was asked for is never dropped.
//! Not here: envelopes made of To, Cc and Bcc (`letter`).

use std::fmt;

use super::keys::Key;
use super::letter::Letter;
use crate::mail::{
    Address, BodyType, Envelope, Notify, OriginalRecipient, Recipient, Ret, ReversePath, decode_xtext,
    encode_xtext,
};

/// An envelope as it stands above a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeFields {
    pub envelope: Envelope,
    pub key: Option<Key>,
}

/// Fields on top that make no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFieldsError {
    #[error("there is an X-Sender, but no X-Receiver below it")]
    NoReceiver,
    #[error("there is an X-Receiver, but no X-Sender above it")]
    NoSender,
    #[error("{field} does not hold an address in angle brackets: {value:?}")]
    Address { field: &'static str, value: String },
    #[error("{field} has a parameter that is not understood: {parameter:?}")]
    Parameter { field: &'static str, parameter: String },
    #[error("X-Submission-Key is not 1 to 255 printable characters of US-ASCII")]
    Key,
}

impl EnvelopeFields {
    /// Takes the fields off the top of `letter`; `None` where there are none.
    pub fn take(letter: &mut Letter) -> Result<Option<Self>, EnvelopeFieldsError> {
        let key = match letter.take_top("x-submission-key").map(|value| text_of(&value)) {
            Some(text) => Some(text.parse().map_err(|_| EnvelopeFieldsError::Key)?),
            None => None,
        };
        let Some(sender) = letter.take_top("x-sender").map(|value| text_of(&value)) else {
            return if letter.has("x-receiver") { Err(EnvelopeFieldsError::NoSender) } else { Ok(None) };
        };
        let (path, parameters) = split("X-Sender", &sender)?;
        let reverse_path = match path {
            "" => ReversePath::NULL,
            path => ReversePath::from(address("X-Sender", path, &sender)?),
        };
        let mut envelope = Envelope::new(reverse_path, []);
        for parameter in parameters.split_ascii_whitespace() {
            mail_parameter(&mut envelope, parameter)?;
        }
        while let Some(value) = letter.take_top("x-receiver").map(|value| text_of(&value)) {
            let (path, parameters) = split("X-Receiver", &value)?;
            let mut recipient = Recipient::new(address("X-Receiver", path, &value)?);
            for parameter in parameters.split_ascii_whitespace() {
                recipient_parameter(&mut recipient, parameter)?;
            }
            envelope.recipients.push(recipient);
        }
        if envelope.recipients.is_empty() {
            return Err(EnvelopeFieldsError::NoReceiver);
        }
        Ok(Some(Self { envelope, key }))
    }
}

/// Characters that are none stay visible in an error, and no address.
fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// What stands in the angle brackets, and what behind them.
fn split<'a>(field: &'static str, value: &'a str) -> Result<(&'a str, &'a str), EnvelopeFieldsError> {
    let wrong = || EnvelopeFieldsError::Address { field, value: value.to_owned() };
    let inside = value.strip_prefix('<').ok_or_else(wrong)?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'>' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let end = end.ok_or_else(wrong)?;
    Ok((&inside[..end], &inside[end + 1..]))
}

fn address(field: &'static str, path: &str, value: &str) -> Result<Address, EnvelopeFieldsError> {
    path.parse().map_err(|_| EnvelopeFieldsError::Address { field, value: value.to_owned() })
}

fn mail_parameter(envelope: &mut Envelope, parameter: &str) -> Result<(), EnvelopeFieldsError> {
    let wrong = || EnvelopeFieldsError::Parameter { field: "X-Sender", parameter: parameter.to_owned() };
    let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    match keyword.to_ascii_uppercase().as_str() {
        "BODY" if value.eq_ignore_ascii_case("7BIT") => envelope.body = BodyType::SevenBit,
        "BODY" if value.eq_ignore_ascii_case("8BITMIME") => envelope.body = BodyType::EightBitMime,
        "SMTPUTF8" if value.is_empty() => envelope.smtputf8 = true,
        "RET" => envelope.ret = Some(read_ret(value).ok_or_else(wrong)?),
        "ENVID" => {
            let envid = decode_xtext(value).filter(|_| (1..=100).contains(&value.len()));
            envelope.envid = Some(envid.ok_or_else(wrong)?);
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn recipient_parameter(recipient: &mut Recipient, parameter: &str) -> Result<(), EnvelopeFieldsError> {
    let wrong = || EnvelopeFieldsError::Parameter { field: "X-Receiver", parameter: parameter.to_owned() };
    let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    match keyword.to_ascii_uppercase().as_str() {
        "NOTIFY" => recipient.notify = Some(read_notify(value).ok_or_else(wrong)?),
        "ORCPT" => {
            let original: OriginalRecipient = value.parse().map_err(|_| wrong())?;
            recipient.original = Some(original);
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// RET: `FULL` or `HDRS`, also `headers`; in any case of letters.
pub(crate) fn read_ret(value: &str) -> Option<Ret> {
    match value.to_ascii_lowercase().as_str() {
        "full" => Some(Ret::Full),
        "hdrs" | "headers" => Some(Ret::Headers),
        _ => None,
    }
}

/// NOTIFY: `NEVER`, or some of `SUCCESS`, `FAILURE`, `DELAY`, separated by commas; in any case of letters.
pub(crate) fn read_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("never") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "success" => notify.success = true,
            "failure" => notify.failure = true,
            "delay" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

/// The fields, each with its CRLF, to be put before a message.
impl fmt::Display for EnvelopeFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { envelope, key } = self;
        if let Some(key) = key {
            write!(f, "X-Submission-Key: {key}\r\n")?;
        }
        let path = envelope.reverse_path.address().map_or("", Address::as_str);
        write!(f, "X-Sender: <{path}>")?;
        if envelope.body == BodyType::EightBitMime {
            f.write_str(" BODY=8BITMIME")?;
        }
        if envelope.smtputf8 {
            f.write_str(" SMTPUTF8")?;
        }
        match envelope.ret {
            Some(Ret::Full) => f.write_str(" RET=FULL")?,
            Some(Ret::Headers) => f.write_str(" RET=HDRS")?,
            None => {}
        }
        if let Some(envid) = &envelope.envid {
            write!(f, " ENVID={}", encode_xtext(envid))?;
        }
        f.write_str("\r\n")?;
        for Recipient { address, notify, original } in &envelope.recipients {
            write!(f, "X-Receiver: <{address}>")?;
            if let Some(notify) = notify {
                write!(f, " NOTIFY={notify}")?;
            }
            if let Some(original) = original {
                write!(f, " ORCPT={original}")?;
            }
            f.write_str("\r\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<EnvelopeFields>, EnvelopeFieldsError> {
        EnvelopeFields::take(&mut Letter::read(text.as_bytes()))
    }

    #[test]
    fn what_is_written_is_read_back_and_leaves_the_message_as_it_was() {
        let to = ["bob@example.com", "\"a> b\"@example.com"].map(|to| to.parse::<Address>().unwrap());
        let mut envelope = Envelope::new("alice@example.org".parse::<Address>().unwrap().into(), to);
        envelope.body = BodyType::EightBitMime;
        envelope.smtputf8 = true;
        envelope.ret = Some(Ret::Headers);
        envelope.envid = Some("a=b".into());
        envelope.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
        envelope.recipients[0].original = "rfc822;Bob+2Bx@example.net".parse().ok();
        let fields = EnvelopeFields { envelope, key: "k-1".parse().ok() };
        let mut letter =
            Letter::read(format!("{fields}Subject: x\r\nX-Sender: stays\r\n\r\nx\r\n").as_bytes());
        assert_eq!(EnvelopeFields::take(&mut letter), Ok(Some(fields)));
        assert_eq!(letter.into_content(), b"Subject: x\r\nX-Sender: stays\r\n\r\nx\r\n");
        let null = EnvelopeFields {
            envelope: Envelope::new(ReversePath::NULL, ["b@example.com".parse().unwrap()]),
            key: None,
        };
        assert_eq!(take(&format!("{null}\r\nx\r\n")), Ok(Some(null)));
    }

    #[test]
    fn half_an_envelope_or_an_unknown_parameter_is_an_error() {
        assert_eq!(take("Subject: x\n\n"), Ok(None));
        assert_eq!(take("X-Sender: <a@example.org>\nSubject: x\n\n"), Err(EnvelopeFieldsError::NoReceiver));
        assert_eq!(take("X-Receiver: <a@example.org>\n\n"), Err(EnvelopeFieldsError::NoSender));
        for bad in [
            "X-Sender: a@example.org\nX-Receiver: <b@example.com>\n\n",
            "X-Sender: <a@example.org\nX-Receiver: <b@example.com>\n\n",
            "X-Sender: <a@example.org> AUTH=x\nX-Receiver: <b@example.com>\n\n",
            "X-Sender: <a@example.org> BODY=BINARYMIME\nX-Receiver: <b@example.com>\n\n",
            "X-Sender: <a@example.org> ENVID=\nX-Receiver: <b@example.com>\n\n",
            "X-Sender: <a@example.org>\nX-Receiver: <>\n\n",
            "X-Sender: <a@example.org>\nX-Receiver: <b@example.com> NOTIFY=NEVER,DELAY\n\n",
            "X-Sender: <a@example.org>\nX-Receiver: <b@example.com> ORCPT=b@example.com\n\n",
        ] {
            assert!(take(bad).is_err(), "{bad:?}");
        }
    }
}
