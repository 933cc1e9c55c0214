//! Reading replies.
//!
//! Contract: [`ReplyReader::read`] takes lines from the front of the input and gives a reply when its last line has
//! come. An error is the server's fault and final: nothing after it can be trusted to answer what we think it does.
//! Invariants: at most [`LINES_MAX`] lines of at most [`LINE_MAX`] octets, and [`REPLY_MAX`] octets in all; texts come
//! out as UTF-8 without characters that control, hide or turn the direction of writing, these and other octets replaced,
//! so that they are safe in a log and in a notice.
//! Leniency: a line may end with a bare LF, and the code may stand alone. Both do no harm in a reply, and real
//! servers do them.
//! Not here: which command a reply answers (`session`).
//! RFC 5321 sections 4.2 and 4.5.3.1.5.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use crate::mail::{Reply, is_hidden};

use super::scram::ScramError;
use super::step::Waiting;

/// RFC 5321 says 512; servers that explain themselves write more.
pub(super) const LINE_MAX: usize = 8 * 1024;
pub(super) const LINES_MAX: usize = 1000;
/// All lines of a reply.
const REPLY_MAX: usize = 64 * 1024;

/// The server does not speak SMTP as it must. The connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the server sent something that is no SMTP reply: {line:?}")]
    NotAReply { line: String },
    #[error("the server sent a reply line of more than {LINE_MAX} octets")]
    LineTooLong,
    #[error("the server sent a reply of more than {LINES_MAX} lines")]
    TooManyLines,
    #[error("the server sent a reply of more than {REPLY_MAX} octets")]
    ReplyTooLong,
    #[error("the server changed the reply code from {first} to {then} within one reply")]
    MixedCodes { first: u16, then: u16 },
    #[error("the server sent a reply to nothing: {reply}")]
    Unsolicited { reply: Reply },
    #[error("the server answered {waiting} with a reply that makes no sense there: {reply}")]
    Unexpected { waiting: Waiting, reply: Reply },
    #[error("the server sent more in the clear after its go-ahead for TLS; somebody may have put it there")]
    InjectedBeforeTls,
    #[error("AUTH SCRAM-SHA-256 with the server failed: {0}")]
    Scram(#[from] ScramError),
    #[error("the server said yes to AUTH SCRAM-SHA-256 without proving that it knows the password")]
    Unproven,
}

#[derive(Default)]
pub(super) struct ReplyReader {
    code: Option<u16>,
    lines: Vec<String>,
    /// Octets of these lines, as they came.
    length: usize,
}

impl ReplyReader {
    /// A whole reply, or nothing when its end has not come yet.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ProtocolError> {
        loop {
            let window = &input[..input.len().min(LINE_MAX)];
            let Some(end) = memchr(b'\n', window) else {
                return if window.len() == LINE_MAX { Err(ProtocolError::LineTooLong) } else { Ok(None) };
            };
            let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
            let last = self.take_line(line)?;
            input.advance(end + 1);
            if let Some(code) = last {
                (self.code, self.length) = (None, 0);
                return Ok(Some(Reply::with_lines(code, std::mem::take(&mut self.lines))));
            }
        }
    }

    /// Whether lines of a reply have come whose last has not.
    pub fn is_amid(&self) -> bool {
        self.code.is_some()
    }

    /// The code when this was the last line.
    fn take_line(&mut self, line: &[u8]) -> Result<Option<u16>, ProtocolError> {
        let garbage = || ProtocolError::NotAReply { line: clean(&line[..line.len().min(200)]) };
        let (digits, rest) = line.split_at_checked(3).ok_or_else(garbage)?;
        let code = match digits {
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(garbage()),
        };
        let (more, text) = match rest {
            [] => (false, rest),
            [b' ', text @ ..] => (false, text),
            [b'-', text @ ..] => (true, text),
            _ => return Err(garbage()),
        };
        match self.code {
            Some(first) if first != code => return Err(ProtocolError::MixedCodes { first, then: code }),
            _ => self.code = Some(code),
        }
        if self.lines.len() == LINES_MAX {
            return Err(ProtocolError::TooManyLines);
        }
        self.length += line.len();
        if self.length > REPLY_MAX {
            return Err(ProtocolError::ReplyTooLong);
        }
        self.lines.push(clean(text));
        Ok((!more).then_some(code))
    }
}

/// As it may stand in a log, a notice or on a terminal.
pub(super) fn clean(text: &[u8]) -> String {
    let visible = |c: char| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(text.trim_ascii_end()).chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Option<Reply>, ProtocolError> {
        ReplyReader::default().read(&mut BytesMut::from(octets))
    }

    #[test]
    fn reads_a_reply_however_it_is_cut() {
        let octets = b"250-one\r\n250-two\r\n250 three\r\n221 next\r\n";
        for cut in 0..octets.len() {
            let mut reader = ReplyReader::default();
            let mut input = BytesMut::from(&octets[..cut]);
            let mut replies: Vec<Reply> = reader.read(&mut input).unwrap().into_iter().collect();
            input.extend_from_slice(&octets[cut..]);
            while let Some(reply) = reader.read(&mut input).unwrap() {
                replies.push(reply);
            }
            let shown: Vec<String> = replies.iter().map(Reply::to_string).collect();
            assert_eq!(shown, ["250 one two three", "221 next"], "cut at {cut}");
        }
    }

    #[test]
    fn is_lenient_only_where_it_is_harmless() {
        assert_eq!(read(b"250\r\n").unwrap().unwrap().lines(), [""]);
        assert_eq!(read(b"250 fine\n").unwrap().unwrap().lines(), ["fine"]);
        assert_eq!(
            read(b"550 caf\xe9 \x07\x1b[31m\r\n").unwrap().unwrap().lines(),
            ["caf\u{fffd} \u{fffd}\u{fffd}[31m"]
        );
        let turned = "550 b\u{fc}cher \u{202e}\u{200b}\r\n".as_bytes();
        assert_eq!(read(turned).unwrap().unwrap().lines(), ["b\u{fc}cher \u{fffd}\u{fffd}"]);
        for garbage in [
            &b"\r\n"[..],
            b"25\r\n",
            b"2500 x\r\n",
            b"250_x\r\n",
            b"199 x\r\n",
            b"600 x\r\n",
            b"HTTP/1.1 400\r\n",
        ] {
            assert!(matches!(read(garbage), Err(ProtocolError::NotAReply { .. })), "{garbage:?}");
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n"), Err(ProtocolError::MixedCodes { first: 250, then: 251 }));
    }

    #[test]
    fn bounds_lines_and_their_number() {
        let line = |length: usize| [b"250 ", &vec![b'x'; length - 6][..], b"\r\n"].concat();
        assert!(read(&line(LINE_MAX)).unwrap().is_some());
        assert_eq!(read(&line(LINE_MAX + 1)), Err(ProtocolError::LineTooLong));
        assert_eq!(read(&b"250-x\r\n".repeat(LINES_MAX + 1)), Err(ProtocolError::TooManyLines));
        let long = [b"250-", &vec![b'x'; 1018][..], b"\r\n"].concat();
        assert!(read(&long.repeat(64)).unwrap().is_none());
        assert_eq!(read(&long.repeat(65)), Err(ProtocolError::ReplyTooLong));
    }
}
