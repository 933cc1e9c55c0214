//! What content may have in it, and what becomes of that which it should not have.
//!
//! Contract: plain values; [`Changes`] tells what was done to a message that was taken.
//! Invariants: the defaults refuse what two servers may read as two different messages (bare CR, bare LF, NUL), and take what only
//! breaks a limit that real senders break: 8-bit octets without BODY=8BITMIME, lines of more than 998 octets. With
//! BODY=BINARYMIME no rule holds, since such content has no lines.
//! Not here: how it is found (`content`).
//! RFC 5321 sections 2.3.8, 4.5.2 and 4.5.3.1.6, RFC 6152 section 3, RFC 3030 section 3.

use std::fmt;

/// What is done about a CR or LF that is not part of a CRLF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewlines {
    /// 550 5.6.11 at the end of content.
    #[default]
    Reject,
    /// Each becomes CRLF. It never is a part of the end of content, and a dot behind it is content.
    Repair,
}

/// Whether something is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Accept,
    /// 550 5.6.0 at the end of content.
    Reject,
}

/// What content may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRules {
    pub bare_newlines: BareNewlines,
    pub nul: Permission,
    /// Octets above 127 in a message without BODY=8BITMIME; where they are taken they are declared to the hosts that offer
    /// 8BITMIME, and go as they came to those that don't. In a header field they are no different: without SMTPUTF8 too.
    pub undeclared_8bit: Permission,
    /// Lines of more than 998 octets, CRLF aside.
    pub long_lines: Permission,
}

impl Default for ContentRules {
    fn default() -> Self {
        Self {
            bare_newlines: BareNewlines::Reject,
            nul: Permission::Reject,
            undeclared_8bit: Permission::Accept,
            long_lines: Permission::Accept,
        }
    }
}

/// How a message that was taken differs from what the client has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Bare CRs and LFs that became CRLF.
    pub line_ends: u64,
    /// The message has octets above 127, and the client did not say BODY=8BITMIME; whoever sends it on does, where he can.
    pub undeclared_8bit: bool,
}

impl Changes {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// As a reason in the tracking log.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line_ends > 0 {
            let plural = if self.line_ends == 1 { "line end" } else { "line ends" };
            write!(f, "{} bare {plural} became CRLF", self.line_ends)?;
        }
        if self.undeclared_8bit {
            let joint = if self.line_ends > 0 { "; " } else { "" };
            write!(f, "{joint}8-bit content without BODY=8BITMIME is declared to hosts that offer it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_as_one_sentence() {
        let text = |line_ends, undeclared_8bit| Changes { line_ends, undeclared_8bit }.to_string();
        assert_eq!(text(1, false), "1 bare line end became CRLF");
        assert_eq!(
            text(2, true),
            "2 bare line ends became CRLF; 8-bit content without BODY=8BITMIME is declared to hosts that offer it"
        );
        assert!(Changes::default().is_none() && !Changes { line_ends: 1, undeclared_8bit: false }.is_none());
    }
}
