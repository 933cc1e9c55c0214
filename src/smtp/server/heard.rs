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
const WORDS: &[&[u8]] = &[
    b"EHLO",
    b"HELO",
    b"LHLO",
    b"MAIL",
    b"RCPT",
    b"DATA",
    b"BDAT",
    b"RSET",
    b"NOOP",
    b"QUIT",
    b"VRFY",
    b"EXPN",
    b"HELP",
    b"STARTTLS",
    b"ETRN",
    b"TURN",
    b"ATRN",
    b"SEND",
    b"SOML",
    b"SAML",
    b"BURL",
    b"XCLIENT",
    b"XFORWARD",
];
/// What is shown after a refused DATA.
const PLAIN_WORDS: &[&[u8]] = &[b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"QUIT", b"STARTTLS"];
/// The words of SMTP have no more octets.
const WORD_MAX: usize = 8;
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
        let word = &line[start..start + length];
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        self.last = if is(b"MAIL") {
            Last::Mail
        } else if is(b"DATA") || is(b"BDAT") {
            Last::Content
        } else {
            Last::Other
        };
        if is(b"AUTH") {
            self.is_past_beginning = true;
            return mechanism(line, start + length);
        }
        let one_of = |words: &[&[u8]]| length <= WORD_MAX && words.iter().any(|other| is(other));
        if self.refused_content {
            return if well_formed && one_of(PLAIN_WORDS) { Shown::Whole } else { Shown::Withheld };
        }
        let is_smtp = one_of(WORDS);
        let is_shown = is_smtp || !self.is_past_beginning;
        self.is_past_beginning |= !is_smtp || self.last == Last::Content || is(b"EHLO") || is(b"HELO");
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
