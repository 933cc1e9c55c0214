//! What was said in a session, as it was said: a tally, and on demand a tape of both sides.
//!
//! Contract: the machine notes what it takes from its input and what it answers; the driver says when octets came
//! ([`Tape::heard_at`]) and went ([`Tape::sent_at`]), in milliseconds of its own choice, and reads the tape with
//! [`Tape::lines`]. Noting copies octets; text is made only when the lines are asked for.
//! Invariants: what is secret never gets onto the tape: of AUTH the name of the mechanism only, no response, no
//! challenge, no octet of content; nor any line that may be one of them in the wrong place, because its AUTH or its DATA
//! was refused and the client sent it all the same. The tape has at most [`TAPE_LINES`] lines and about the octets that
//! it was given; beyond them the middle is left out and counted.
//! Not here: the time, what is made of the tape (`accept`).

use memchr::memchr2;

use super::heard::{self, Shown};
use super::reel::{Kind, Reel};

/// Lines of one tape, at most.
pub const TAPE_LINES: usize = 200;
/// Octets of one line or reply that are kept.
const LINE_OCTETS: usize = 512;

/// What was said in one session.
#[derive(Default)]
pub struct Tape {
    tally: Tally,
    reel: Option<Box<Reel>>,
}

/// What there was of it, whether it is recorded or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that came as commands, good or bad.
    pub commands: u32,
    /// Replies of 4yz and 5yz.
    pub refusals: u32,
    /// MAIL commands that were accepted.
    pub transactions: u32,
    /// Messages that got their 250.
    pub messages: u32,
    /// The code of the last reply.
    pub last_reply: u16,
}

/// Who spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Client,
    Server,
    /// What happened without a word: a TLS handshake, lines that were left out.
    Note,
}

/// One line of the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeLine {
    /// When it was heard or sent, in the driver's milliseconds.
    pub at: u32,
    pub by: Speaker,
    /// Without its CRLF; control characters, and what is no UTF-8, are escaped.
    pub text: String,
}

/// The driver's part.
impl Tape {
    /// Records from now on, in at most about `octets`.
    pub fn record(&mut self, octets: usize) {
        self.reel.get_or_insert_with(|| Box::new(Reel::new(octets, TAPE_LINES)));
    }

    pub fn is_recording(&self) -> bool {
        self.reel.is_some()
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Octets have come.
    pub fn heard_at(&mut self, millis: u32) {
        if let Some(reel) = &mut self.reel {
            reel.heard_at(millis);
        }
    }

    /// All replies so far go out.
    pub fn sent_at(&mut self, millis: u32) {
        if let Some(reel) = &mut self.reel {
            reel.sent_at(millis);
        }
    }

    /// Something that happened without a word.
    pub fn note(&mut self, text: &str) {
        if let Some(reel) = &mut self.reel {
            reel.push(Kind::Note, text.as_bytes(), 0);
        }
    }

    /// When the last octets came; nothing before the first, and where nothing is recorded.
    pub fn last_heard(&self) -> Option<u32> {
        self.reel.as_ref().and_then(|reel| reel.last_heard())
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<TapeLine> {
        self.reel.as_ref().map(|reel| reel.lines()).unwrap_or_default()
    }
}

/// The machine's part.
impl Tape {
    /// A line that came as a command.
    pub(super) fn command(&mut self, line: &[u8], well_formed: bool) {
        self.tally.commands += 1;
        let Some(reel) = &mut self.reel else { return };
        match reel.context.shown(line, well_formed) {
            Shown::Whole => {
                // What stands behind a bare CR or LF is another line to the client, which nobody has looked at.
                let first = memchr2(b'\r', b'\n', line).map_or(line.len(), |bare| bare + 1);
                let kept = &line[..first.min(LINE_OCTETS)];
                reel.push(Kind::Heard, kept, (line.len() - kept.len()) as u32);
            }
            Shown::Only(octets) => reel.push(Kind::Secret, &line[..octets], 0),
            Shown::Withheld => reel.push(Kind::Withheld, b"", line.len() as u32),
        }
    }

    /// A line longer than any command, or than any response.
    pub(super) fn overlong_line(&mut self) {
        self.tally.commands += 1;
        if let Some(reel) = &mut self.reel {
            reel.push(Kind::Overlong, b"", 0);
        }
    }

    /// A line that answered a challenge.
    pub(super) fn response(&mut self) {
        if let Some(reel) = &mut self.reel {
            reel.push(Kind::Secret, b"", 0);
        }
    }

    /// Octets of content, as they came: with the stuffing and the final dot.
    pub(super) fn content(&mut self, octets: usize) {
        if let Some(reel) = &mut self.reel {
            reel.content(octets as u64);
        }
    }

    /// A reply, as it goes out.
    pub(super) fn said(&mut self, code: u16, reply: &[u8]) {
        self.tally.last_reply = code;
        self.tally.refusals += u32::from(code >= 400);
        let Some(reel) = &mut self.reel else { return };
        reel.context.answered(code);
        if code == heard::CHALLENGE {
            reel.push(Kind::Said, b"334 <challenge>", 0);
        } else {
            let kept = &reply[..reply.len().min(2 * LINE_OCTETS)];
            reel.push(Kind::Said, kept, (reply.len() - kept.len()) as u32);
        }
    }

    pub(super) fn transaction(&mut self) {
        self.tally.transactions += 1;
    }

    pub(super) fn message(&mut self, code: u16) {
        self.tally.messages += u32::from(code / 100 == 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Tape {
        let mut tape = Tape::default();
        tape.record(32 << 10);
        tape
    }

    fn texts(tape: &Tape) -> Vec<String> {
        tape.lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn nothing_is_kept_before_somebody_asks_for_it_but_all_is_counted() {
        let mut tape = Tape::default();
        tape.command(b"NOOP", true);
        tape.said(550, b"550 no\r\n");
        assert!(tape.lines().is_empty() && !tape.is_recording());
        assert_eq!((tape.tally().commands, tape.tally().refusals, tape.tally().last_reply), (1, 1, 550));
    }

    #[test]
    fn a_line_has_the_time_at_which_it_came_and_a_reply_that_at_which_it_went() {
        let mut tape = recording();
        tape.said(220, b"220 relay.example.org\r\n");
        tape.sent_at(1);
        tape.heard_at(12_345);
        tape.command(b"EHLO client.example.org", true);
        tape.said(250, b"250-relay.example.org\r\n250 DSN\r\n");
        tape.sent_at(12_345);
        tape.heard_at(12_400);
        tape.command(b"NOOP", true);
        tape.said(250, b"250 2.0.0 still here\r\n");
        tape.sent_at(14_000);
        let lines: Vec<_> = tape.lines().into_iter().map(|line| (line.at, line.by, line.text)).collect();
        let (c, s) = (Speaker::Client, Speaker::Server);
        assert_eq!(
            lines,
            [
                (1, s, "220 relay.example.org".to_owned()),
                (12_345, c, "EHLO client.example.org".into()),
                (12_345, s, "250-relay.example.org".into()),
                (12_345, s, "250 DSN".into()),
                (12_400, c, "NOOP".into()),
                (14_000, s, "250 2.0.0 still here".into()),
            ]
        );
    }

    #[test]
    fn a_reply_that_is_late_does_not_make_those_before_it_late() {
        let mut tape = recording();
        tape.heard_at(79);
        tape.command(b"EHLO client.example.org", true);
        tape.said(250, b"250 relay.example.org\r\n");
        tape.sent_at(79);
        tape.heard_at(79);
        tape.command(b"NOOP", true);
        tape.command(b"VRFY x", true);
        tape.said(250, b"250 2.0.0 still here\r\n");
        tape.said(252, b"252 2.5.0 try it\r\n");
        tape.sent_at(1_192);
        let times: Vec<u32> = tape.lines().into_iter().map(|line| line.at).collect();
        assert_eq!(times, [79, 79, 79, 79, 1_192, 1_192]);
    }

    #[test]
    fn what_stands_behind_a_bare_line_end_is_not_on_the_tape() {
        for (line, shown) in [
            ("EHLO a\nAUTH PLAIN AGEAYg==", "EHLO a\\x0a <and 19 octets more>"),
            ("GET / HTTP/1.1\rAuthorization: secret", "GET / HTTP/1.1\\x0d <and 21 octets more>"),
            ("NOOP\n", "NOOP\\x0a"),
        ] {
            let mut tape = recording();
            tape.command(line.as_bytes(), false);
            assert_eq!(texts(&tape), [shown]);
        }
    }

    #[test]
    fn secrets_and_content_are_not_on_the_tape() {
        let mut tape = recording();
        tape.command(b"auth plain AGFsaWNlAHNlY3JldA==", true);
        tape.said(334, b"334 VXNlcm5hbWU6\r\n");
        tape.response();
        tape.content(1000);
        tape.content(24);
        tape.command(b"QUIT", true);
        assert_eq!(
            texts(&tape),
            ["auth plain <secret>", "334 <challenge>", "<secret>", "<1024 octets of content>", "QUIT"]
        );
    }

    #[test]
    fn lines_are_escaped_and_cut() {
        let mut tape = recording();
        tape.command(b"NOOP \x1b[31m\xff \xc3\xa4 \xe2\x80\xae", true);
        tape.command(&[b"NOOP ".to_vec(), vec![b'x'; 1000]].concat(), true);
        let texts = texts(&tape);
        assert_eq!(texts[0], "NOOP \\x1b[31m\\xff \u{e4} \\u{202e}");
        assert!(texts[1].ends_with("x <and 493 octets more>") && texts[1].len() < 600, "{}", texts[1]);
    }

    #[test]
    fn a_long_session_keeps_its_beginning_and_its_end_in_bounded_memory() {
        let mut tape = recording();
        for number in 0..100_000_u32 {
            tape.heard_at(number);
            tape.command(format!("RCPT TO:<user{number}@example.com>").as_bytes(), true);
            tape.said(250, b"250 2.1.5 recipient accepted\r\n");
            tape.sent_at(number);
        }
        let lines = tape.lines();
        assert!(lines.len() <= TAPE_LINES + 1 && lines.len() > 120, "{}", lines.len());
        assert_eq!(lines[0].text, "RCPT TO:<user0@example.com>");
        assert_eq!(
            (lines[lines.len() - 2].at, lines[lines.len() - 2].text.as_str()),
            (99_999, "RCPT TO:<user99999@example.com>")
        );
        let gap = lines.iter().find(|line| line.by == Speaker::Note).expect("the gap is told");
        assert_eq!(gap.text, format!("<{} lines left out>", 200_000 - (lines.len() - 1)));
        assert!(lines.is_sorted_by_key(|line| line.at));
        assert!(tape.reel.as_ref().unwrap().octets() <= 33 << 10);
    }
}
