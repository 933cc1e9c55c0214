//! What stands on the wire of SMTP, as far as a recorder must understand it.
//!
//! Contract: [`command`] tells what a client's line asks, [`reply_line`] takes a server's line apart, [`Counter`] finds
//! the end of content octet by octet. All take any octets.
//! Invariants: of a command nothing is kept but the paths of MAIL and RCPT and a declared size.
//! Not here: which reply answers which command (`dialogue`).

/// What the client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Greeting,
    /// EHLO, or HELO, which has no extensions.
    Hello {
        extended: bool,
    },
    Auth,
    Mail {
        sender: String,
        size: Option<u64>,
    },
    Rcpt(String),
    Data,
    Dot {
        size: u64,
    },
    Reset,
    Quit,
    /// STARTTLS or BDAT, although they weren't offered: once they succeed nothing more can be understood.
    Blinding,
    Other,
}

/// What a line of the client asks.
pub(super) fn command(line: &str) -> Asked {
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Asked::Hello { extended: true },
        "HELO" => Asked::Hello { extended: false },
        "AUTH" => Asked::Auth,
        "MAIL" => match path(rest, "FROM:") {
            Some((sender, parameters)) => Asked::Mail { sender, size: declared_size(parameters) },
            None => Asked::Other,
        },
        "RCPT" => path(rest, "TO:").map_or(Asked::Other, |(recipient, _)| Asked::Rcpt(recipient)),
        "DATA" => Asked::Data,
        "RSET" => Asked::Reset,
        "QUIT" => Asked::Quit,
        "STARTTLS" | "BDAT" => Asked::Blinding,
        _ => Asked::Other,
    }
}

/// The path behind `FROM:` or `TO:` without its brackets, in small letters, and what follows it.
fn path<'a>(text: &'a str, label: &str) -> Option<(String, &'a str)> {
    let text = text.trim_start();
    let behind = text.get(..label.len()).filter(|start| start.eq_ignore_ascii_case(label));
    let text = behind.and_then(|_| text.get(label.len()..))?.trim_start();
    let (path, rest) = match text.strip_prefix('<') {
        Some(inside) => inside.split_once('>')?,
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    // A source route is for nobody any more (RFC 5321 appendix C).
    let path = if path.starts_with('@') { path.split_once(':').map_or(path, |(_, path)| path) } else { path };
    Some((path.to_ascii_lowercase(), rest))
}

fn declared_size(parameters: &str) -> Option<u64> {
    let sizes = parameters.split_whitespace().filter_map(|parameter| parameter.split_once('='));
    sizes.filter(|(name, _)| name.eq_ignore_ascii_case("SIZE")).find_map(|(_, size)| size.parse().ok())
}

/// Code, whether it is the last line of its reply, and text; none for what is no line of a reply.
pub(super) fn reply_line(line: &str) -> Option<(u16, bool, &str)> {
    let code = line.get(..3).filter(|code| code.bytes().all(|octet| octet.is_ascii_digit()))?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code))?;
    match line.as_bytes().get(3) {
        None => Some((code, true, "")),
        Some(b' ') => Some((code, true, &line[4..])),
        Some(b'-') => Some((code, false, &line[4..])),
        Some(_) => None,
    }
}

/// Whether a line of the reply to EHLO offers `name`.
pub(super) fn offers(line: &str, name: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(name))
}

/// Finds the end of content, and counts its octets without dot-stuffing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    octets: u64,
    at: Within,
}

/// Where in a line the counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    LineStart,
    Line,
    Cr,
    Dot,
    DotCr,
}

impl Counter {
    pub fn new() -> Self {
        Self { octets: 0, at: Within::LineStart }
    }

    /// Takes one octet; the size of the content when it was the last of the final dot.
    pub fn octet(&mut self, octet: u8) -> Option<u64> {
        let (at, counted) = match (self.at, octet) {
            (Within::LineStart, b'.') => (Within::Dot, 0),
            (Within::Dot, b'\r') => (Within::DotCr, 0),
            (Within::DotCr, b'\n') => return Some(self.octets),
            // The carriage return that was held back belongs to the content after all.
            (Within::DotCr, b'\r') => (Within::Cr, 2),
            (Within::DotCr, _) => (Within::Line, 2),
            (Within::Cr, b'\n') => (Within::LineStart, 1),
            (_, b'\r') => (Within::Cr, 1),
            _ => (Within::Line, 1),
        };
        self.at = at;
        self.octets += counted;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_of_a_command_the_paths_and_the_declared_size_alone() {
        let mail = |sender: &str, size| Asked::Mail { sender: sender.into(), size };
        assert_eq!(
            command("MAIL FROM:<Alice@Example.org> BODY=8BITMIME size=120"),
            mail("alice@example.org", Some(120))
        );
        assert_eq!(command("mail from: <>"), mail("", None));
        assert_eq!(
            command("RCPT TO:<@a.test:bob@example.com> NOTIFY=NEVER"),
            Asked::Rcpt("bob@example.com".into())
        );
        assert_eq!(command("AUTH PLAIN AGFsaWNlAHNlY3JldA=="), Asked::Auth);
        for other in ["", "MAIL", "MAIL FROM:<a", "RCPT FROM:<a@b>", "\u{fffd}\u{0}", "VRFY x"] {
            assert_eq!(command(other), Asked::Other, "{other:?}");
        }
    }

    #[test]
    fn takes_lines_of_replies_apart_and_nothing_else() {
        assert_eq!(reply_line("250-first"), Some((250, false, "first")));
        assert_eq!(reply_line("250 last"), Some((250, true, "last")));
        assert_eq!(reply_line("250"), Some((250, true, "")));
        for bad in ["", "25", "2500 x", "999 x", "+50 x", "SSH-2.0-x", "\u{fffd}\u{fffd}"] {
            assert_eq!(reply_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn finds_the_final_dot_and_no_other() {
        let size = |content: &str| {
            let mut counter = Counter::new();
            let ends: Vec<_> = content
                .bytes()
                .enumerate()
                .filter_map(|(at, octet)| Some((at, counter.octet(octet)?)))
                .collect();
            ends.first().map(|(at, size)| (content.len() - at - 1, *size))
        };
        assert_eq!(size(".\r\n"), Some((0, 0)));
        assert_eq!(size("a\r\n.\r\nQUIT\r\n"), Some((6, 3)));
        assert_eq!(size("..a\r\n.\r\n"), Some((0, 4)));
        assert_eq!(size("a\n.\n"), None);
        assert_eq!(size("a\r\n.\rx\r\n.\r\n"), Some((0, 7)));
    }
}
