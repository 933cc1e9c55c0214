//! What a command line says.
//!
//! Contract: [`parse`] reads one line without its CRLF and gives a command, or the reply that it deserves.
//! Invariants: verbs and keywords are read without regard to case; blanks at the end of a line mean nothing
//! (RFC 5321 section 4.1.1); a name in EHLO has only characters that are safe in a trace field.
//! Not here: the order of commands (`session`), lines and their ends (`session`).
//! The grammar is our own: smtp-proto strips quotes from local parts, gives the empty string both for `<>` and for
//! `<postmaster>`, and wraps on a SIZE that overflows.
//! Beyond the RFCs: the methods of HTTP end the session at once, so that no web page can make a browser post mail; and so does
//! a BDAT whose size cannot be read, since what follows could not be told from commands.
//! RFC 5321 section 4.1, RFC 1870, RFC 2852, RFC 3030, RFC 3207, RFC 3461, RFC 4865, RFC 4954, RFC 6152, RFC 6531.

use crate::mail::{BodyType, DeliverBy, Envelope, Notify, OriginalRecipient, Ret, ReversePath};

use super::authentication::{self, Exchange};
use super::chunk::{self, Chunk};
use super::hold::Hold;
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
    Bdat(Chunk),
    /// Its octets come all the same.
    BadBdat(u64),
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
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// HOLDFOR or HOLDUNTIL (RFC 4865), no longer than was offered. A moment may be past, or beyond BY: only the driver knows
    /// what time it is.
    pub hold: Option<Hold>,
    /// BY (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// REQUIRETLS (RFC 8689), which only a session under TLS may say.
    pub require_tls: bool,
    /// Whether there was AUTH (RFC 4954 section 5): well formed, and of no further consequence.
    pub(super) auth: bool,
    /// Whether there was any parameter, which only EHLO permits.
    pub(super) extended: bool,
}

/// The envelope that it begins.
impl From<MailCommand> for Envelope {
    fn from(mail: MailCommand) -> Self {
        let MailCommand { reverse_path, body, ret, envid, smtputf8, deliver_by, require_tls, .. } = mail;
        Self { body, ret, envid, smtputf8, deliver_by, require_tls, ..Self::new(reverse_path, []) }
    }
}

/// RCPT: the forward-path and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptCommand {
    pub forward_path: ForwardPath,
    pub notify: Option<Notify>,
    pub original: Option<OriginalRecipient>,
    /// ORCPT was written with characters outside US-ASCII (RFC 6533 section 3), which only SMTPUTF8 permits.
    pub(super) unicode_original: bool,
    /// Whether there was any parameter, which only EHLO permits.
    pub(super) extended: bool,
}

impl RcptCommand {
    /// Whether it may come without SMTPUTF8.
    pub(super) fn is_ascii(&self) -> bool {
        let path = match &self.forward_path {
            ForwardPath::Mailbox(address) => address.is_ascii(),
            ForwardPath::Postmaster(_) => true,
        };
        path && !self.unicode_original
    }
}

pub(super) fn parse(line: &[u8]) -> Result<Command, Fixed> {
    let command = read(line);
    if command.is_err() && is_bdat(line) { Err(replies::BDAT_SIZE) } else { command }
}

/// Whether octets may follow that are no commands.
pub(super) fn is_bdat(line: &[u8]) -> bool {
    line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
}

fn read(line: &[u8]) -> Result<Command, Fixed> {
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(replies::FORBIDDEN_OCTET);
    }
    let length = line.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
    let line = &line[..length];
    if line.is_empty() {
        return Err(replies::EMPTY_LINE);
    }
    let verb_length = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (verb, rest) = line.split_at(verb_length);
    let argument = &rest[rest.iter().take_while(|octet| **octet == b' ').count()..];
    let alone = |command| if argument.is_empty() { Ok(command) } else { Err(replies::NO_ARGUMENT_TAKEN) };
    match verb.to_ascii_uppercase().as_slice() {
        b"EHLO" => Ok(Command::Ehlo(hello_name(argument)?)),
        b"HELO" => Ok(Command::Helo(hello_name(argument)?)),
        b"MAIL" => mail(argument).map(Command::Mail),
        b"RCPT" => rcpt(argument).map(Command::Rcpt),
        b"DATA" => alone(Command::Data),
        b"BDAT" => chunk::read(argument),
        b"RSET" => alone(Command::Rset),
        b"NOOP" => Ok(Command::Noop),
        b"VRFY" => vrfy(argument),
        b"HELP" => Ok(Command::Help),
        b"QUIT" => alone(Command::Quit),
        b"STARTTLS" => alone(Command::StartTls),
        b"AUTH" => authentication::read(argument).map(Command::Auth),
        b"EXPN" => Err(replies::NOT_IMPLEMENTED),
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"OPTIONS" | b"CONNECT" | b"PRI" => Err(replies::HTTP),
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

/// RFC 6531 section 3.7.4.2: `SMTPUTF8` at the end permits an argument outside US-ASCII.
fn vrfy(argument: &[u8]) -> Result<Command, Fixed> {
    if argument.is_empty() {
        return Err(replies::ARGUMENT_MISSING);
    }
    let text = std::str::from_utf8(argument).map_err(|_| replies::NOT_UTF8)?;
    let permitted = text.rsplit(' ').next().is_some_and(|word| word.eq_ignore_ascii_case("SMTPUTF8"));
    if text.is_ascii() || permitted { Ok(Command::Vrfy) } else { Err(replies::NOT_ASCII) }
}

fn mail(argument: &[u8]) -> Result<MailCommand, Fixed> {
    let (reverse_path, rest) = path::reverse_path(argument)?;
    let parameters = parameter::split(rest)?;
    let mut mail = MailCommand {
        reverse_path,
        size: None,
        body: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        hold: None,
        deliver_by: None,
        require_tls: false,
        auth: false,
        extended: !parameters.is_empty(),
    };
    for parameter in parameters {
        match parameter.keyword.as_str() {
            "SIZE" => mail.size = Some(parameter::size(parameter.value)?),
            "BODY" => mail.body = parameter::body(parameter.value)?,
            "RET" => mail.ret = Some(parameter::ret(parameter.value)?),
            "ENVID" => mail.envid = Some(parameter::envid(parameter.value)?),
            "SMTPUTF8" => mail.smtputf8 = parameter::smtputf8(parameter.value)?,
            "BY" => mail.deliver_by = Some(parameter::by(parameter.value)?),
            "REQUIRETLS" => mail.require_tls = parameter::require_tls(parameter.value)?,
            "AUTH" => mail.auth = parameter::auth(parameter.value)?,
            "HOLDFOR" | "HOLDUNTIL" if mail.hold.is_some() => return Err(replies::HOLD_TWICE),
            "HOLDFOR" => mail.hold = Some(Hold::read_for(parameter.value)?),
            "HOLDUNTIL" => mail.hold = Some(Hold::read_until(parameter.value)?),
            _ => return Err(replies::PARAMETER_UNKNOWN),
        }
    }
    if !mail.smtputf8 && mail.reverse_path.address().is_some_and(|address| !address.is_ascii()) {
        return Err(replies::NOT_ASCII);
    }
    Ok(mail)
}

fn rcpt(argument: &[u8]) -> Result<RcptCommand, Fixed> {
    let (forward_path, rest) = path::forward_path(argument)?;
    let parameters = parameter::split(rest)?;
    let extended = !parameters.is_empty();
    let mut rcpt =
        RcptCommand { forward_path, notify: None, original: None, unicode_original: false, extended };
    for parameter in parameters {
        match parameter.keyword.as_str() {
            "NOTIFY" => rcpt.notify = Some(parameter::notify(parameter.value)?),
            "ORCPT" => {
                rcpt.original = Some(parameter::original_recipient(parameter.value)?);
                rcpt.unicode_original = parameter.value.is_some_and(|value| !value.is_ascii());
            }
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
            (b"GET / HTTP/1.1", replies::HTTP),
            (b"\xff\xfe", replies::UNKNOWN_COMMAND),
            (b"NOOP\0", replies::FORBIDDEN_OCTET),
            (b"NOOP\nNOOP", replies::FORBIDDEN_OCTET),
            (b"NOOP\r", replies::FORBIDDEN_OCTET),
            (b"QUIT\x0c", replies::UNKNOWN_COMMAND),
            (b"EHLO \ta", replies::HELLO_NAME),
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
            (b"VRFY \xff SMTPUTF8", replies::NOT_UTF8),
            ("VRFY \u{e9}".as_bytes(), replies::NOT_ASCII),
            ("MAIL FROM:<\u{e9}@example.org>".as_bytes(), replies::NOT_ASCII),
            (b"MAIL FROM:<\xff@example.org> SMTPUTF8", replies::NOT_UTF8),
            (b"MAIL FROM:<> SMTPUTF8=1", replies::SMTPUTF8_VALUE),
            (b"MAIL FROM:<> BODY=BINARY", replies::BODY_VALUE),
            (b"MAIL FROM:<> HOLDFOR=1 HOLDUNTIL=2026-11-22T03:33:07Z", replies::HOLD_TWICE),
            (b"MAIL FROM:<> MT-PRIORITY=3", replies::PARAMETER_UNKNOWN),
            (b"POST / HTTP/1.1", replies::HTTP),
            (b"BDAT", replies::BDAT_SIZE),
            (b"BDAT ten", replies::BDAT_SIZE),
            (b"bdat\t10", replies::BDAT_SIZE),
            (b"BDAT 10\0", replies::BDAT_SIZE),
        ] {
            assert_eq!(parse(line), Err(expected), "{:?}", String::from_utf8_lossy(line));
        }
    }
}
