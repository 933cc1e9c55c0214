//! Which lines may stand on a tape, and how much of each.
//!
//! Contract: [`Context::shown`] is asked for every line that came as a command, and told every reply.
//! The rule: a line that begins with a word of SMTP is shown; of AUTH the mechanism only. Any other line is withheld,
//! because it may be a response to an AUTH, or content after a DATA, that was refused; but the very first such line of a
//! session that has not got to EHLO is shown, for it tells what kind of stranger it is (a browser, a scanner). After a
//! refused DATA or BDAT nothing is shown but well-formed commands that no prose begins with, until MAIL is accepted again.
//! Not here: how lines are kept (`reel`).

/// The reply that asks for a response (RFC 4954 section 4).
pub(super) const CHALLENGE: u16 = 334;

/// What clients say, ours or not: RFC 5321, its extensions, and their forerunners.
const WORDS: [u64; 23] = [
    key(b"EHLO"),
    key(b"HELO"),
    key(b"LHLO"),
    key(b"MAIL"),
    key(b"RCPT"),
    key(b"DATA"),
    key(b"BDAT"),
    key(b"RSET"),
    key(b"NOOP"),
    key(b"QUIT"),
    key(b"VRFY"),
    key(b"EXPN"),
    key(b"HELP"),
    key(b"STARTTLS"),
    key(b"ETRN"),
    key(b"TURN"),
    key(b"ATRN"),
    key(b"SEND"),
    key(b"SOML"),
    key(b"SAML"),
    key(b"BURL"),
    key(b"XCLIENT"),
    key(b"XFORWARD"),
];
/// What is shown after a refused DATA.
const PLAIN_WORDS: [u64; 7] =
    [key(b"MAIL"), key(b"RCPT"), key(b"DATA"), key(b"BDAT"), key(b"RSET"), key(b"QUIT"), key(b"STARTTLS")];
const AUTH: u64 = key(b"AUTH");
const MAIL: u64 = key(b"MAIL");
const DATA: u64 = key(b"DATA");
const BDAT: u64 = key(b"BDAT");
const EHLO: u64 = key(b"EHLO");
const HELO: u64 = key(b"HELO");

/// A word of letters in either case as a number; 0 for one that is longer than any word of SMTP, or none.
const fn key(word: &[u8]) -> u64 {
    if word.len() > 8 {
        return 0;
    }
    let (mut key, mut at) = (0, 0);
    while at < word.len() {
        key = key << 8 | word[at].to_ascii_uppercase() as u64;
        at += 1;
    }
    key
}

/// The mechanisms that clients name; anything else behind AUTH may be a password.
const MECHANISMS: &[&[u8]] = &[
    b"PLAIN",
    b"LOGIN",
    b"EXTERNAL",
    b"ANONYMOUS",
    b"CRAM-MD5",
    b"DIGEST-MD5",
    b"NTLM",
    b"GSSAPI",
    b"GSS-SPNEGO",
    b"SCRAM-SHA-1",
    b"SCRAM-SHA-1-PLUS",
    b"SCRAM-SHA-256",
    b"SCRAM-SHA-256-PLUS",
    b"SCRAM-SHA-512",
    b"SCRAM-SHA-512-PLUS",
    b"OAUTHBEARER",
    b"XOAUTH2",
    b"OTP",
    b"KERBEROS_V4",
];

/// How much of a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Whole,
    /// This many octets; a secret follows.
    Only(usize),
    Withheld,
}

/// What was said before.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// EHLO, AUTH or DATA was said, or a line that is no SMTP was shown already.
    is_past_beginning: bool,
    /// DATA or BDAT was refused.
    refused_content: bool,
    last: Last,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    Mail,
    Content,
    #[default]
    Other,
}

impl Context {
    pub fn shown(&mut self, line: &[u8], well_formed: bool) -> Shown {
        let start = line.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
        let length = line[start..].iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
        let word = key(&line[start..start + length]);
        self.last = match word {
            MAIL => Last::Mail,
            DATA | BDAT => Last::Content,
            _ => Last::Other,
        };
        if word == AUTH {
            self.is_past_beginning = true;
            return mechanism(line, start + length);
        }
        if self.refused_content {
            return if well_formed && PLAIN_WORDS.contains(&word) { Shown::Whole } else { Shown::Withheld };
        }
        // Base64 may begin with such letters, but goes on without a blank.
        let ends_there = line.get(start + length).is_none_or(u8::is_ascii_whitespace);
        let is_smtp = ends_there && WORDS.contains(&word);
        let is_shown = is_smtp || !self.is_past_beginning;
        self.is_past_beginning |= !is_smtp || self.last == Last::Content || word == EHLO || word == HELO;
        if is_shown { Shown::Whole } else { Shown::Withheld }
    }

    pub fn answered(&mut self, code: u16) {
        match self.last {
            Last::Content => self.refused_content |= code >= 400,
            Last::Mail if code / 100 == 2 => self.refused_content = false,
            Last::Mail | Last::Other => {}
        }
        self.last = Last::Other;
    }
}

/// AUTH and its mechanism; whatever is behind it is secret, and so is what is no mechanism.
fn mechanism(line: &[u8], after_auth: usize) -> Shown {
    let rest = &line[after_auth..];
    let blanks = rest.iter().take_while(|octet| octet.is_ascii_whitespace()).count();
    let name = rest[blanks..].iter().take_while(|octet| !octet.is_ascii_whitespace()).count();
    let end = after_auth + blanks + name;
    let is_known = MECHANISMS.iter().any(|known| known.eq_ignore_ascii_case(&line[end - name..end]));
    match line.len() - end {
        _ if name == 0 && line.len() == after_auth => Shown::Whole,
        _ if !is_known || blanks == 0 => Shown::Only(after_auth),
        0 => Shown::Whole,
        _ => Shown::Only(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of the last of these lines; those before it are answered as they are marked.
    fn shown(before: &[(&str, u16)], line: &str) -> Shown {
        let mut context = Context::default();
        for (line, code) in before {
            context.shown(line.as_bytes(), *code < 500);
            context.answered(*code);
        }
        context.shown(line.as_bytes(), false)
    }

    #[test]
    fn of_auth_the_mechanism_is_shown() {
        assert_eq!(shown(&[], "AUTH"), Shown::Whole);
        assert_eq!(shown(&[], "AUTH secret"), Shown::Only(4));
        assert_eq!(shown(&[], "AUTH LOGIN"), Shown::Whole);
        assert_eq!(shown(&[], "AUTH SCRAM-SHA-256 biwsbj11c2Vy"), Shown::Only(18));
        assert_eq!(shown(&[], " auth\tPLAIN\tAGEAYg=="), Shown::Only(11));
        assert_eq!(shown(&[], "AUTH AGEAYg=="), Shown::Only(4));
        assert_eq!(shown(&[], "AUTH c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"), Shown::Only(4));
    }

    #[test]
    fn what_is_no_command_is_shown_only_of_a_stranger() {
        assert_eq!(shown(&[], "GET / HTTP/1.1"), Shown::Whole);
        assert_eq!(shown(&[("GET / HTTP/1.1", 500)], "Authorization: Basic c2VjcmV0"), Shown::Withheld);
        assert_eq!(shown(&[("EHLO a", 250)], "c2VjcmV0"), Shown::Withheld);
        assert_eq!(shown(&[("AUTH LOGIN", 503)], "c2VjcmV0"), Shown::Withheld);
        assert_eq!(shown(&[("AUTH LOGIN", 503)], "help1234"), Shown::Withheld);
        assert_eq!(shown(&[("EHLO a", 250)], "MAIL FROM:a@example.org"), Shown::Whole);
    }

    #[test]
    fn content_that_comes_though_data_was_refused_is_withheld() {
        let refused = [("EHLO a", 250), ("DATA", 503)];
        for line in ["Subject: secret", "Help me", "Data you wanted", "send it", "."] {
            assert_eq!(shown(&refused, line), Shown::Withheld, "{line}");
        }
        let again = [("EHLO a", 250), ("DATA", 503), ("MAIL FROM:<a@example.org>", 250)];
        assert_eq!(shown(&again, "RCPT TO:b@example.org"), Shown::Whole);
    }
}
