//! Every reply that the server machine gives of its own accord, in one table.
//!
//! Contract: a fixed reply has one line: code, enhanced status code, text. The texts tell the person who reads the
//! client's log what to do. [`write`] puts any reply on the wire, whoever made it.
//! Invariants: an enhanced status has the class of its code (a test looks), and stands on each line of a reply
//! that has one (RFC 2034 section 4); nothing that `write` is given can end a line early or start another.
//! Not here: the policy's refusals, which come with the answers to questions (`accept`); the greeting and the
//! answer to EHLO, which have no enhanced status (`session`).
//! RFC 5321 sections 4.2 and 4.3.2, RFC 3463.

use bytes::{BufMut, BytesMut};

use super::settings::MAX_AUTH_LINE;
use crate::mail::{EnhancedStatus, Reply, ReplyClass};

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub code: u16,
    /// None for 354 alone: only 2yz, 4yz and 5yz have one (RFC 2034 section 4).
    status: Option<EnhancedStatus>,
    text: &'static str,
}

impl Fixed {
    /// As a reply with an open end, such as the queue id behind `250 2.0.0`.
    pub fn with_text(self, text: &str) -> Reply {
        Reply::new(self.code, self.status, text)
    }
}

impl From<Fixed> for Reply {
    fn from(fixed: Fixed) -> Self {
        fixed.with_text(fixed.text)
    }
}

macro_rules! table {
    ($($name:ident = $code:literal $class:literal . $subject:literal . $detail:literal $text:literal;)*) => {
        $(pub(super) const $name: Fixed =
            Fixed { code: $code, status: Some(EnhancedStatus::new($class, $subject, $detail)), text: $text };)*

        #[cfg(test)]
        const ALL: &[Fixed] = &[$($name),*];
    };
}

pub(super) const SEND_CONTENT: Fixed =
    Fixed { code: 354, status: None, text: "send the content, end it with a line that has only a dot" };

table! {
    // Done.
    RESET = 250 2 . 0 . 0 "the transaction is forgotten";
    NOTHING_DONE = 250 2 . 0 . 0 "still here";
    REVERSE_PATH_ACCEPTED = 250 2 . 1 . 0 "reverse-path accepted";
    RECIPIENT_ACCEPTED = 250 2 . 1 . 5 "recipient accepted";
    CONTENT_ACCEPTED = 250 2 . 0 . 0 "message accepted";
    CHUNK_ACCEPTED = 250 2 . 0 . 0 "chunk accepted";
    HELP = 214 2 . 0 . 0 "commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH; see RFC 5321";
    GOODBYE = 221 2 . 0 . 0 "closing the connection";
    AUTHENTICATED = 235 2 . 7 . 0 "authenticated";
    START_TLS = 220 2 . 0 . 0 "start the TLS handshake";
    NOT_VERIFIED = 252 2 . 5 . 0 "addresses are not verified here; send RCPT and see";

    // The session ends.
    GREETING_UNANSWERED = 421 4 . 3 . 0 "not ready for a session, try again later";
    TOO_MANY_ERRORS = 421 4 . 7 . 0 "too many commands in error, closing the connection";
    TOO_MANY_COMMANDS = 421 4 . 7 . 0 "too many commands without a finished message, closing the connection";
    TOO_MANY_MESSAGES = 421 4 . 7 . 0 "too many messages in one session, open another; EHLO says how many";
    BDAT_SIZE = 421 4 . 7 . 0 "BDAT needs a plain number of octets; without it nobody knows where the next command is";
    TOO_MUCH_TO_SKIP = 421 4 . 7 . 0 "so much is not read only to be refused, closing the connection";
    HTTP = 421 4 . 7 . 0 "this is a mail server, and that was HTTP; closing the connection";

    // Not now.
    UNANSWERED = 451 4 . 3 . 0 "the command could not be decided because of an error here, try again later";
    TOO_MANY_RECIPIENTS = 452 4 . 5 . 3 "too many recipients, send this message and the others another copy";

    // What is no command.
    EMPTY_LINE = 500 5 . 5 . 2 "an empty line where a command is expected";
    FORBIDDEN_OCTET = 500 5 . 5 . 2 "bare CR, bare LF or NUL in a command line; end each line with CRLF";
    LINE_TOO_LONG = 500 5 . 5 . 2 "line too long, a command has at most 2048 octets with its CRLF";
    UNKNOWN_COMMAND = 500 5 . 5 . 1 "command unknown";
    NOT_IMPLEMENTED = 502 5 . 5 . 1 "command not implemented";
    NO_AUTH = 503 5 . 5 . 1 "AUTH is not offered in this session";
    NO_STARTTLS = 502 5 . 5 . 1 "STARTTLS is not offered in this session";

    // Arguments.
    NO_ARGUMENT_TAKEN = 501 5 . 5 . 4 "this command takes no argument";
    ARGUMENT_MISSING = 501 5 . 5 . 4 "this command needs an argument";
    HELLO_NAME = 501 5 . 5 . 4 "expected one domain name or address literal after EHLO or HELO";
    MAIL_SYNTAX = 501 5 . 5 . 2 "expected MAIL FROM:<user@example.org>, with the angle brackets";
    RCPT_SYNTAX = 501 5 . 5 . 2 "expected RCPT TO:<user@example.org>, with the angle brackets";
    SENDER_MAILBOX = 553 5 . 1 . 7 "the reverse-path is no mailbox such as user@example.org";
    RECIPIENT_MAILBOX = 553 5 . 1 . 3 "the forward-path is no mailbox such as user@example.org";
    NOT_ASCII = 553 5 . 6 . 7 "an address outside US-ASCII needs MAIL with SMTPUTF8 (RFC 6531)";
    NOT_UTF8 = 501 5 . 5 . 2 "octets above 127 that are no UTF-8 (RFC 6531 section 3.3)";
    PARAMETER_SYNTAX = 501 5 . 5 . 4 "a parameter is KEYWORD or KEYWORD=value, with one blank before it";
    PARAMETER_REPEATED = 501 5 . 5 . 4 "a parameter stands there twice";
    PARAMETER_UNKNOWN = 555 5 . 5 . 4 "a parameter is not supported; EHLO lists what is";
    PARAMETERS_NEED_EHLO = 555 5 . 5 . 4 "parameters need EHLO; this session began with HELO";
    SIZE_VALUE = 501 5 . 5 . 4 "SIZE is a plain decimal number of octets with at most 20 digits";
    BODY_VALUE = 501 5 . 5 . 4 "BODY is 7BIT, 8BITMIME or BINARYMIME";
    RET_VALUE = 501 5 . 5 . 4 "RET is FULL or HDRS";
    ENVID_VALUE = 501 5 . 5 . 4 "ENVID is xtext of at most 100 characters (RFC 3461 section 4.4)";
    NOTIFY_VALUE = 501 5 . 5 . 4 "NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY";
    ORCPT_VALUE = 501 5 . 5 . 4 "ORCPT is an address type, a semicolon and an address in xtext (RFC 3461 section 4.2)";
    REQUIRETLS_VALUE = 501 5 . 5 . 4 "REQUIRETLS has no value";
    REQUIRETLS_IN_CLEAR = 530 5 . 7 . 0 "REQUIRETLS needs STARTTLS first (RFC 8689)";
    SMTPUTF8_VALUE = 501 5 . 5 . 4 "SMTPUTF8 has no value";
    AUTH_VALUE = 501 5 . 5 . 4 "AUTH is a mailbox in xtext, or <> (RFC 4954 section 5)";
    HOLDFOR_VALUE = 501 5 . 5 . 4 "HOLDFOR is a number of seconds with at most 9 digits (RFC 4865)";
    HOLDUNTIL_VALUE = 501 5 . 5 . 4 "HOLDUNTIL is a moment such as 2026-11-22T03:33:07Z (RFC 4865)";
    HOLD_TWICE = 501 5 . 5 . 4 "HOLDFOR and HOLDUNTIL exclude each other (RFC 4865)";
    HOLD_TOO_LONG = 501 5 . 5 . 4 "the message would be held for longer than EHLO says is possible";
    HOLD_BEYOND_BY = 501 5 . 5 . 4 "the message would be held until BY is over (RFC 4865)";
    BY_VALUE = 501 5 . 5 . 4 "BY is seconds, a semicolon, and R or N, and perhaps T; R needs seconds above 0 (RFC 2852)";
    BDAT_SYNTAX = 501 5 . 5 . 4 "expected BDAT, a number of octets, and perhaps LAST";

    AUTH_SYNTAX = 501 5 . 5 . 4 "expected AUTH, a mechanism, and perhaps an initial response in base64";
    AUTH_BASE64 = 501 5 . 5 . 2 "the response is no base64 (RFC 4954 section 4)";
    AUTH_CANCELLED = 501 5 . 7 . 0 "the client has cancelled the authentication";
    AUTH_LINE = 500 5 . 5 . 6 "the response is longer than 12288 octets (RFC 4954 section 4)";
    AUTH_MECHANISM = 504 5 . 5 . 4 "this mechanism is not offered; EHLO lists those that are";

    // Order.
    AUTH_AFTER_EHLO = 503 5 . 5 . 1 "send EHLO before AUTH";
    AUTH_TWICE = 503 5 . 5 . 1 "this session is authenticated already";
    AUTH_IN_TRANSACTION = 503 5 . 5 . 1 "AUTH may not come within a transaction; RSET ends it";
    AUTH_NEEDS_TLS = 538 5 . 7 . 11 "AUTH is offered under TLS only; send STARTTLS first";
    HELLO_FIRST = 503 5 . 5 . 1 "send EHLO or HELO first";
    MAIL_FIRST = 503 5 . 5 . 1 "send MAIL first";
    MAIL_TWICE = 503 5 . 5 . 1 "a transaction is open already; RSET ends it";
    ONLY_QUIT = 503 5 . 5 . 1 "there is no service here for you; send QUIT";
    ALREADY_TLS = 503 5 . 5 . 1 "TLS is active already";
    BDAT_NEEDS_EHLO = 503 5 . 5 . 1 "BDAT needs EHLO; this session began with HELO";
    BDAT_BROKEN = 503 5 . 5 . 1 "a chunk of this message was refused, or DATA came between; RSET begins anew";
    AMID_CHUNKS = 503 5 . 5 . 1 "chunks of this message have come; go on with BDAT, or RSET";
    BINARY_NEEDS_BDAT = 503 5 . 5 . 1 "BODY=BINARYMIME comes by BDAT only (RFC 3030 section 3)";
    NO_RECIPIENTS = 554 5 . 5 . 1 "no valid recipients";

    // The message.
    TOO_LARGE = 552 5 . 3 . 4 "the message is larger than this server takes; EHLO says how large it may be";
    BARE_LINE_END = 550 5 . 6 . 11 "bare CR or LF in content (RFC 5321 section 2.3.8)";
    BAD_CONTENT = 550 5 . 6 . 0 "the content has octets or lines that are not taken here";
}

/// A reply line has at most 512 octets with code and CRLF (RFC 5321 section 4.5.3.1.5).
const LINE_MAX: usize = 512;

/// Octets of text in a line of a reply. A challenge is worth nothing unless it is whole, and may be as long as what it is
/// answered by (RFC 4954 section 4).
fn text_max(code: u16) -> usize {
    let line = if code == 334 { MAX_AUTH_LINE } else { LINE_MAX };
    line - "250 ".len() - "\r\n".len()
}

/// What a driver's refusal becomes: itself when it refuses, [`UNANSWERED`] when it is no 4yz or 5yz at all.
pub(super) fn refusal(reply: Reply) -> Reply {
    match reply.class() {
        ReplyClass::TransientFailure | ReplyClass::PermanentFailure => reply,
        ReplyClass::Completed | ReplyClass::Intermediate => UNANSWERED.into(),
    }
}

/// Appends `reply` to `output`.
///
/// Control characters and octets outside US-ASCII become `?`, overlong lines are cut; both can come only from texts
/// that others wrote.
pub fn write(output: &mut BytesMut, reply: &Reply) {
    let status = reply.status().map(|status| status.to_string());
    let empty = [String::new()];
    let lines = if reply.lines().is_empty() { &empty[..] } else { reply.lines() };
    for (index, line) in lines.iter().enumerate() {
        output.put_slice(reply.code().to_string().as_bytes());
        output.put_u8(if index + 1 == lines.len() { b' ' } else { b'-' });
        let start = output.len();
        if let Some(status) = status.as_deref().filter(|status| !line.starts_with(*status)) {
            output.put_slice(status.as_bytes());
            output.put_u8(b' ');
        }
        output.extend(line.chars().map(|c| if matches!(c, ' '..='~') { c as u8 } else { b'?' }));
        output.truncate(output.len().min(start + text_max(reply.code())));
        output.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut output = BytesMut::new();
        write(&mut output, reply);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn each_line_of_the_table_is_well_formed_and_fits() {
        for fixed in ALL {
            let class = fixed.status.map(|status| u16::from(status.class()));
            assert_eq!(class, Some(fixed.code / 100), "{fixed:?}");
            assert!(fixed.text.is_ascii() && fixed.text.len() < 120, "{fixed:?}");
            let reply = Reply::from(*fixed);
            assert_eq!(written(&reply), format!("{reply}\r\n"));
        }
        assert!(Reply::from(LINE_TOO_LONG).to_string().contains(&super::super::MAX_COMMAND_LINE.to_string()));
    }

    #[test]
    fn the_status_stands_on_each_line() {
        let reply = Reply::with_lines(550, vec!["5.7.1 not".into(), "5.7.1 for".into(), "you".into()]);
        assert_eq!(written(&reply), "550-5.7.1 not\r\n550-5.7.1 for\r\n550 5.7.1 you\r\n");
        assert_eq!(written(&Reply::with_lines(250, vec![])), "250 \r\n");
    }

    #[test]
    fn a_text_of_others_cannot_start_a_line_of_its_own() {
        let reply = Reply::new(451, None, "upstream said\r\n250 fine\0 \u{e9}\t");
        assert_eq!(written(&reply), "451 upstream said??250 fine? ??\r\n");
        let long = written(&Reply::new(550, None, &"x".repeat(2000)));
        assert_eq!(long.len(), 512);
    }

    #[test]
    fn a_challenge_of_auth_is_not_cut() {
        let challenge = "x".repeat(2000);
        assert_eq!(written(&Reply::new(334, None, &challenge)), format!("334 {challenge}\r\n"));
    }

    #[test]
    fn a_refusal_that_refuses_nothing_is_an_error_here() {
        assert_eq!(refusal(Reply::new(250, None, "fine")), UNANSWERED.into());
        assert_eq!(refusal(Reply::new(354, None, "go on")), UNANSWERED.into());
        assert_eq!(refusal(Reply::new(554, None, "no")).code(), 554);
    }
}
