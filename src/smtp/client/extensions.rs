//! What a server offers in its answer to EHLO.
//!
//! Contract: [`Extensions::read`] takes the whole reply; keywords are read without regard to case, unknown ones are
//! passed over. [`Extensions::default`] is a server that knows only HELO.
//! Not here: what is done with an extension (`session`, `transaction`).
//! RFC 5321 section 4.1.1.1, RFC 1870 section 4, RFC 4954 section 3.

use crate::mail::Reply;

/// The extensions that matter to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    pub pipelining: bool,
    /// SIZE is offered: MAIL may say how large the content is.
    pub size: bool,
    /// The octets of content that the server takes; `None` when it does not say, or says that there is no limit.
    pub size_limit: Option<u64>,
    pub eight_bit_mime: bool,
    pub enhanced_status_codes: bool,
    pub dsn: bool,
    pub starttls: bool,
    pub auth_plain: bool,
    pub auth_login: bool,
}

impl Extensions {
    pub(super) fn read(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        // The first line is the server's name and a greeting.
        for line in reply.lines().iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // "AUTH=PLAIN LOGIN" is how it was written before the RFC, and some still do.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("PIPELINING") => extensions.pipelining = true,
                Some("SIZE") => {
                    extensions.size = true;
                    extensions.size_limit =
                        words.next().and_then(|digits| digits.parse().ok()).filter(|limit| *limit > 0);
                }
                Some("8BITMIME") => extensions.eight_bit_mime = true,
                Some("ENHANCEDSTATUSCODES") => extensions.enhanced_status_codes = true,
                Some("DSN") => extensions.dsn = true,
                Some("STARTTLS") => extensions.starttls = true,
                Some("AUTH") => {
                    for mechanism in words {
                        extensions.auth_plain |= mechanism == "PLAIN";
                        extensions.auth_login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters_and_passes_over_the_rest() {
        let lines =
            ["PIPELINING", "pipelining", "Size 1000", "AUTH=LOGIN", "AUTH PLAIN X", "CHUNKING", "dsn"];
        let extensions = Extensions::read(&Reply::with_lines(250, lines.map(String::from).to_vec()));
        let expected = Extensions {
            pipelining: true,
            size: true,
            size_limit: Some(1000),
            dsn: true,
            auth_plain: true,
            auth_login: true,
            ..Extensions::default()
        };
        assert_eq!(extensions, expected);
    }

    #[test]
    fn the_first_line_is_no_extension_and_size_zero_no_limit() {
        let read = |lines: &[&str]| {
            Extensions::read(&Reply::with_lines(250, lines.iter().map(|line| line.to_string()).collect()))
        };
        assert_eq!(read(&["PIPELINING"]), Extensions::default());
        let unlimited = read(&["mx.example.org", "SIZE 0"]);
        assert!(unlimited.size && unlimited.size_limit.is_none());
    }
}
