//! What a server offers in its answer to EHLO.
//!
//! Contract: [`Extensions::read`] takes the whole reply; keywords are read without regard to case, unknown ones are
//! passed over, as is FUTURERELEASE: what is to be released later waits here. [`Extensions::default`] is a server that knows only HELO.
//! Not here: what is done with an extension (`session`, `transaction`).
//! RFC 5321 section 4.1.1.1, RFC 1870 section 4, RFC 2852 section 4, RFC 3030, RFC 4954 section 3, RFC 6531 section 3.1,
//! RFC 8689 section 2, RFC 9422 section 3.

use super::mechanism::Mechanisms;
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
    /// BDAT is offered.
    pub chunking: bool,
    /// Not the server's word, but ours: BDAT is for content that goes by no other way.
    pub avoid_chunking: bool,
    /// BODY=BINARYMIME is offered; of use only with `chunking` (RFC 3030 section 3).
    pub binary_mime: bool,
    pub smtputf8: bool,
    /// BY is offered, with the least seconds that the server takes in mode `R`; 0 where it says none.
    pub deliver_by: Option<u64>,
    pub limits: Limits,
    pub dsn: bool,
    pub starttls: bool,
    /// REQUIRETLS is offered (RFC 8689); of worth only within TLS.
    pub require_tls: bool,
    /// The mechanisms behind AUTH, as far as we know them.
    pub auth: Mechanisms,
}

/// What LIMITS says about sessions (RFC 9422); `None` where it says nothing. Values of 0 are passed over: nothing could be
/// sent within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// MAILMAX: transactions of one session.
    pub mail_max: Option<u32>,
    /// RCPTMAX: recipients of one transaction.
    pub rcpt_max: Option<u32>,
    /// RCPTDOMAINMAX: different domains among the recipients of one transaction.
    pub rcpt_domain_max: Option<u32>,
}

impl Limits {
    /// The lesser of both, where both say something.
    pub fn within(self, other: Self) -> Self {
        let lesser = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        Self {
            mail_max: lesser(self.mail_max, other.mail_max),
            rcpt_max: lesser(self.rcpt_max, other.rcpt_max),
            rcpt_domain_max: lesser(self.rcpt_domain_max, other.rcpt_domain_max),
        }
    }

    fn read<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut limits = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            // Six digits at most (RFC 9422 section 4).
            let value = value.parse().ok().filter(|value| (1..=999_999).contains(value));
            match name {
                "MAILMAX" => limits.mail_max = value,
                "RCPTMAX" => limits.rcpt_max = value,
                "RCPTDOMAINMAX" => limits.rcpt_domain_max = value,
                _ => {}
            }
        }
        limits
    }
}

impl Extensions {
    /// Whether content of any octets may be sent: BODY=BINARYMIME and BDAT.
    pub fn takes_binary(&self) -> bool {
        self.binary_mime && self.chunking
    }

    pub(super) fn read(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        // The first line is the server's name and a greeting.
        for line in reply.lines().iter().skip(1) {
            let line = line.to_ascii_uppercase();
            if let Some(values) = line.strip_prefix("LIMITS ") {
                extensions.limits = Limits::read(values.split(' '));
                continue;
            }
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
                Some("CHUNKING") => extensions.chunking = true,
                Some("BINARYMIME") => extensions.binary_mime = true,
                Some("SMTPUTF8") => extensions.smtputf8 = true,
                Some("DELIVERBY") => {
                    let least = words.next().and_then(|digits| digits.parse().ok());
                    extensions.deliver_by = Some(least.unwrap_or(0));
                }
                Some("DSN") => extensions.dsn = true,
                Some("STARTTLS") => extensions.starttls = true,
                Some("REQUIRETLS") => extensions.require_tls = true,
                Some("AUTH") => words.for_each(|word| extensions.auth.add(word)),
                _ => {}
            }
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::super::mechanism::Mechanism;
    use super::*;

    #[test]
    fn reads_what_matters_and_passes_over_the_rest() {
        let lines = ["PIPELINING", "pipelining", "Size 1000", "AUTH=LOGIN", "AUTH PLAIN X", "XCLIENT", "dsn"];
        let extensions = Extensions::read(&Reply::with_lines(250, lines.map(String::from).to_vec()));
        let expected = Extensions {
            pipelining: true,
            size: true,
            size_limit: Some(1000),
            dsn: true,
            auth: [Mechanism::Plain, Mechanism::Login].into_iter().collect(),
            ..Extensions::default()
        };
        assert_eq!(extensions, expected);
    }

    #[test]
    fn reads_limits_times_and_what_content_may_be() {
        let read = |line: &str| {
            Extensions::read(&Reply::with_lines(250, vec!["mx.example.org".to_owned(), line.to_owned()]))
        };
        assert!(read("Chunking").chunking && !read("CHUNKING").takes_binary());
        assert!(read("BINARYMIME").binary_mime && !read("BINARYMIME").takes_binary());
        assert!(read("smtputf8").smtputf8);
        assert_eq!(read("FUTURERELEASE 864000 2026-12-31T00:00:00Z"), Extensions::default());
        for (line, least) in [("DELIVERBY", 0), ("DELIVERBY 240", 240), ("DELIVERBY x", 0)] {
            assert_eq!(read(line).deliver_by, Some(least), "{line}");
        }
        let limits = Limits { mail_max: Some(5), rcpt_max: Some(100), rcpt_domain_max: Some(1) };
        assert_eq!(read("LIMITS MAILMAX=5 rcptmax=100 OTHER=1 RCPTDOMAINMAX=1").limits, limits);
        for nonsense in
            ["LIMITS", "LIMITS RCPTMAX=0", "LIMITS RCPTMAX=", "LIMITS RCPTMAX=1000000", "LIMITS RCPTMAX"]
        {
            assert_eq!(read(nonsense).limits, Limits::default(), "{nonsense}");
        }
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
