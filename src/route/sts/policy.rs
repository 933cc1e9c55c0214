//! A policy: its text, and what it says of a host (RFC 8461 sections 3.2 and 4.1).

use serde::{Deserialize, Serialize};

/// A year (RFC 8461 section 3.2).
const MAX_AGE_MAX: u64 = 31_557_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Enforce,
    Testing,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    /// In seconds.
    pub max_age: u64,
    /// Names of hosts in lower case; `*.` in front is for any one label.
    pub mx: Vec<String>,
}

impl Mode {
    /// As the policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// What a domain's policy says of one of its MX hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Nothing,
    Testing { names_it: bool },
    Enforce { names_it: bool },
}

impl Says {
    /// Whether a policy vouches for the host being one of the domain's.
    pub fn names_the_host(self) -> bool {
        self.names_it() == Some(true)
    }

    /// The same, or nothing where no policy says anything.
    pub fn names_it(self) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::Testing { names_it } | Self::Enforce { names_it } => Some(names_it),
        }
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PolicyError {
    #[error("it has no line \"{0}\", or one that cannot be read")]
    Missing(&'static str),
    #[error("it names no mx")]
    NoMx,
}

impl Policy {
    /// Reads the lines of a policy; what is unknown is passed over, and of what stands twice the first counts.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let fields: Vec<(&str, &str)> = text
            .split('\n')
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let field = |name| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        if field("version") != Some("STSv1") {
            return Err(PolicyError::Missing("version: STSv1"));
        }
        let mode = match field("mode") {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError::Missing("mode: enforce, testing or none")),
        };
        let max_age = field("max_age").filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()));
        let max_age: u64 =
            max_age.and_then(|digits| digits.parse().ok()).ok_or(PolicyError::Missing("max_age: SECONDS"))?;
        let mx = fields.iter().filter(|(key, value)| *key == "mx" && !value.is_empty());
        let mx: Vec<String> = mx.map(|(_, value)| value.to_ascii_lowercase()).collect();
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::NoMx);
        }
        Ok(Self { mode, max_age: max_age.min(MAX_AGE_MAX), mx })
    }

    /// What it says of `host`.
    pub fn says(&self, host: &str) -> Says {
        let names_it = self.mx.iter().any(|pattern| matches(pattern, host));
        match self.mode {
            Mode::Enforce => Says::Enforce { names_it },
            Mode::Testing => Says::Testing { names_it },
            Mode::None => Says::Nothing,
        }
    }
}

/// A wildcard is for exactly one label (RFC 8461 section 4.1).
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(host),
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.Example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn a_policy_is_read_with_either_line_end_and_what_is_unknown_passed_over() {
        let policy = Policy::parse(TEXT).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, 604_800));
        assert_eq!(Policy::parse(&TEXT.replace('\r', "")), Ok(policy.clone()));
        let more = format!("{TEXT}x-more: yes\nmode: none\nmax_age: 1\n");
        assert_eq!(Policy::parse(&more), Ok(policy));
        let long = Policy::parse("version:STSv1\nmode:none\nmax_age:99999999999").unwrap();
        assert_eq!((long.mode, long.max_age), (Mode::None, MAX_AGE_MAX));
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_reason() {
        use PolicyError::{Missing, NoMx};
        let without = |line: &str| Policy::parse(&TEXT.replace(line, "x: y")).unwrap_err();
        assert_eq!(without("version: STSv1"), Missing("version: STSv1"));
        assert_eq!(without("mode: enforce"), Missing("mode: enforce, testing or none"));
        assert_eq!(without("max_age: 604800"), Missing("max_age: SECONDS"));
        assert_eq!(Policy::parse(&TEXT.replace("604800", "+6")).unwrap_err(), Missing("max_age: SECONDS"));
        assert_eq!(Policy::parse(&TEXT.replace("mx:", "nx:")), Err(NoMx));
        assert!(Policy::parse("<html>not found</html>").is_err());
    }

    #[test]
    fn a_wildcard_is_for_one_label() {
        let policy = Policy::parse(TEXT).unwrap();
        let named = Says::Enforce { names_it: true };
        for (host, expected) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("mx1.example.net", true),
            ("a.mx1.example.net", false),
            ("example.net", false),
            (".example.net", false),
            ("mail.example.com.example.org", false),
        ] {
            assert_eq!(policy.says(host) == named, expected, "{host}");
            assert_eq!(policy.says(host).names_the_host(), expected, "{host}");
        }
        let testing = Policy::parse(&TEXT.replace("enforce", "testing")).unwrap();
        assert_eq!(testing.says("mail.example.com"), Says::Testing { names_it: true });
        let none = Policy::parse(&TEXT.replace("enforce", "none")).unwrap();
        assert_eq!(none.says("mail.example.com"), Says::Nothing);
    }
}
