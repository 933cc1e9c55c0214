//! What a command line says.
//!
//! Contract: [`parse`] reads one line without its CRLF and gives a command, or the reply that it deserves.
//! Invariants: verbs and keywords are read without regard to case; blanks at the end of a line mean nothing
//! (RFC 5321 section 4.1.1); a name in EHLO has only characters that are safe in a trace field.
//! Not here: the order of commands (`session`), lines and their ends (`session`).
//! The grammar is our own: smtp-proto strips quotes from local parts, gives the empty string both for `<>` and for
//! `<postmaster>`, and wraps on a SIZE that overflows.
//! RFC 5321 section 4.1, RFC 1870, RFC 3207, RFC 3461, RFC 6152.

use crate::mail::{BodyType, Envelope, Notify, OriginalRecipient, Ret, ReversePath};

use super::authentication::{self, Exchange};
use super::parameter;
use super::path::{self, ForwardPath};
use super::replies::{self, Fixed};

/// A well-formed command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo(String),
    Helo(String),
    Mail(MailCommand),
    Rcpt(RcptCommand),
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth(Exchange),
}

/// MAIL: the reverse-path and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailCommand {
    pub reverse_path: ReversePath,
    /// SIZE: what the client thinks the content has, in octets (RFC 1870).
    pub size: Option<u64>,
    pub body: BodyType,
    pub ret: Option<Ret>,
    /// ENVID, decoded from xtext.
    pub envid: Option<String>,
    /// Whether there was any parameter, which only EHLO permits.
    pub(super) extended: bool,
}

/// The envelope that it begins.
impl From<MailCommand> for Envelope {
    fn from(mail: MailCommand) -> Self {
        let MailCommand { reverse_path, size: _, body, ret, envid, extended: _ } = mail;
        Self { body, ret, envid, ..Self::new(reverse_path, []) }
    }
}

/// RCPT: the forward-path and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptCommand {
    pub forward_path: ForwardPath,
    pub notify: Option<Notify>,
    pub original: Option<OriginalRecipient>,
    /// Whether there was any parameter, which only EHLO permits.
    pub(super) extended: bool,
}

pub(super) fn parse(line: &[u8]) -> Result<Command, Fixed> {
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(replies::FORBIDDEN_OCTET);
    }
    let line = line.trim_ascii_end();
    if line.is_empty() {
        return Err(replies::EMPTY_LINE);
    }
    let verb_length = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (verb, argument) = (&line[..verb_length], line[verb_length..].trim_ascii_start());
    let alone = |command| if argument.is_empty() { Ok(command) } else { Err(replies::NO_ARGUMENT_TAKEN) };
    match verb.to_ascii_uppercase().as_slice() {
        b"EHLO" => Ok(Command::Ehlo(hello_name(argument)?)),
        b"HELO" => Ok(Command::Helo(hello_name(argument)?)),
        b"MAIL" => mail(argument).map(Command::Mail),
        b"RCPT" => rcpt(argument).map(Command::Rcpt),
        b"DATA" => alone(Command::Data),
        b"RSET" => alone(Command::Rset),
        b"NOOP" => Ok(Command::Noop),
        b"VRFY" if argument.is_empty() => Err(replies::ARGUMENT_MISSING),
        b"VRFY" => Ok(Command::Vrfy),
        b"HELP" => Ok(Command::Help),
        b"QUIT" => alone(Command::Quit),
        b"STARTTLS" => alone(Command::StartTls),
        b"AUTH" => authentication::read(argument).map(Command::Auth),
        b"EXPN" => Err(replies::NOT_IMPLEMENTED),
        _ => Err(replies::UNKNOWN_COMMAND),
    }
}

/// A name is believed as little as any other; it only has to be one word of harmless characters, of at most 255.
fn hello_name(argument: &[u8]) -> Result<String, Fixed> {
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(b);
    if argument.is_empty() || argument.len() > 255 || !argument.iter().all(harmless) {
        return Err(replies::HELLO_NAME);
    }
    Ok(argument.iter().map(|byte| char::from(*byte)).collect())
}

fn mail(argument: &[u8]) -> Result<MailCommand, Fixed> {
    let (reverse_path, rest) = path::reverse_path(argument)?;
    let parameters = parameter::split(rest)?;
    let extended = !parameters.is_empty();
    let mut mail =
        MailCommand { reverse_path, size: None, body: BodyType::SevenBit, ret: None, envid: None, extended };
    for parameter in parameters {
        match parameter.keyword.as_str() {
            "SIZE" => mail.size = Some(parameter::size(parameter.value)?),
            "BODY" => mail.body = parameter::body(parameter.value)?,
            "RET" => mail.ret = Some(parameter::ret(parameter.value)?),
            "ENVID" => mail.envid = Some(parameter::envid(parameter.value)?),
            _ => return Err(replies::PARAMETER_UNKNOWN),
        }
    }
    Ok(mail)
}

fn rcpt(argument: &[u8]) -> Result<RcptCommand, Fixed> {
    let (forward_path, rest) = path::forward_path(argument)?;
    let parameters = parameter::split(rest)?;
    let extended = !parameters.is_empty();
    let mut rcpt = RcptCommand { forward_path, notify: None, original: None, extended };
    for parameter in parameters {
        match parameter.keyword.as_str() {
            "NOTIFY" => rcpt.notify = Some(parameter::notify(parameter.value)?),
            "ORCPT" => rcpt.original = Some(parameter::original_recipient(parameter.value)?),
            _ => return Err(replies::PARAMETER_UNKNOWN),
        }
    }
    Ok(rcpt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_verbs_in_any_case_and_ignores_blanks_at_the_end() {
        assert_eq!(parse(b"quit  "), Ok(Command::Quit));
        assert_eq!(parse(b"Noop anything at all"), Ok(Command::Noop));
        assert_eq!(parse(b"EHLO [192.0.2.1] \t"), Ok(Command::Ehlo("[192.0.2.1]".into())));
        let Ok(Command::Mail(mail)) =
            parse(b"mail from:<a@example.org> size=10 ret=hdrs envid=x body=8bitmime")
        else {
            panic!("MAIL with all its parameters")
        };
        assert_eq!((mail.size, mail.ret, mail.envid.as_deref()), (Some(10), Some(Ret::Headers), Some("x")));
        assert_eq!(mail.body, BodyType::EightBitMime);
    }

    #[test]
    fn gives_the_reply_that_a_bad_line_deserves() {
        for (line, expected) in [
            (&b""[..], replies::EMPTY_LINE),
            (b"   ", replies::EMPTY_LINE),
            (b" QUIT", replies::UNKNOWN_COMMAND),
            (b"GET / HTTP/1.1", replies::UNKNOWN_COMMAND),
            (b"\xff\xfe", replies::UNKNOWN_COMMAND),
            (b"NOOP\0", replies::FORBIDDEN_OCTET),
            (b"NOOP\nNOOP", replies::FORBIDDEN_OCTET),
            (b"NOOP\r", replies::FORBIDDEN_OCTET),
            (b"RSET now", replies::NO_ARGUMENT_TAKEN),
            (b"EHLO", replies::HELLO_NAME),
            (b"EHLO a b", replies::HELLO_NAME),
            (b"HELO (comment)", replies::HELLO_NAME),
            (b"EHLO \xe9", replies::HELLO_NAME),
            (b"VRFY", replies::ARGUMENT_MISSING),
            (b"EXPN list", replies::NOT_IMPLEMENTED),
            (b"MAIL", replies::MAIL_SYNTAX),
            (b"MAIL FROM:<> NOTIFY=NEVER", replies::PARAMETER_UNKNOWN),
            (b"RCPT TO:<a@example.org> SIZE=1", replies::PARAMETER_UNKNOWN),
            (b"MAIL FROM:<> SMTPUTF8", replies::PARAMETER_UNKNOWN),
            (b"MAIL FROM:<> BODY=BINARYMIME", replies::BODY_VALUE),
        ] {
            assert_eq!(parse(line), Err(expected), "{:?}", String::from_utf8_lossy(line));
        }
    }
}
