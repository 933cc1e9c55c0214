//! Replies (RFC 5321 section 4.2) and enhanced status codes (RFC 3463).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `class.subject.detail` of RFC 3463: `4.7.1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// `class` is 2, 4 or 5; subject and detail have at most three digits.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!((class == 2 || class == 4 || class == 5) && subject < 1000 && detail < 1000);
        Self { class, subject, detail }
    }

    pub const fn class(self) -> u8 {
        self.class
    }

    pub const fn subject(self) -> u16 {
        self.subject
    }

    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// The same subject and detail in another class: what was 4.7.1 while it was retried is 5.7.1 once given up.
    pub const fn with_class(self, class: u8) -> Self {
        Self::new(class, self.subject, self.detail)
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an enhanced status code such as 4.7.1")]
pub struct EnhancedStatusError;

impl FromStr for EnhancedStatus {
    type Err = EnhancedStatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str, digits: usize| {
            let plain = !part.is_empty() && part.len() <= digits && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten().ok_or(EnhancedStatusError)
        };
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EnhancedStatusError);
        };
        let class = match class {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return Err(EnhancedStatusError),
        };
        Ok(Self::new(class, number(subject, 3)?, number(detail, 3)?))
    }
}

impl Serialize for EnhancedStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnhancedStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the first digit of a reply code says (RFC 5321 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz
    Completed,
    /// 3yz
    Intermediate,
    /// 4yz
    TransientFailure,
    /// 5yz
    PermanentFailure,
}

/// A server's reply, as it was written: the code once, and the text of each line without the code.
///
/// The enhanced status code, where there is one, stands at the start of the first line's text and is read from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line. Codes run from 200 to 599.
    pub fn new(code: u16, status: Option<EnhancedStatus>, text: &str) -> Self {
        let line = match status {
            Some(status) => format!("{status} {text}"),
            None => text.to_owned(),
        };
        Self::with_lines(code, vec![line])
    }

    /// A reply of the given lines, each without code and line end.
    pub fn with_lines(code: u16, lines: Vec<String>) -> Self {
        assert!((200..600).contains(&code), "reply codes run from 200 to 599");
        Self { code, lines }
    }

    pub fn code(&self) -> u16 {
        self.code
    }

    /// With no more than about `most` octets of its text, and a mark where the rest was.
    pub fn shortened(mut self, most: usize) -> Self {
        const REST: &str = "[...]";
        if self.lines.iter().map(|line| line.len() + 1).sum::<usize>() <= most {
            return self;
        }
        let mut room = most;
        let fits = |line: &&String| {
            let left = room.checked_sub(line.len() + 1);
            room = left.unwrap_or(room);
            left.is_some()
        };
        let whole = self.lines.iter().take_while(fits).count();
        if let Some(line) = self.lines.get_mut(whole) {
            line.truncate(line.floor_char_boundary(room));
            line.push_str(REST);
            self.lines.truncate(whole + 1);
        }
        self
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub fn class(&self) -> ReplyClass {
        match self.code / 100 {
            2 => ReplyClass::Completed,
            3 => ReplyClass::Intermediate,
            4 => ReplyClass::TransientFailure,
            _ => ReplyClass::PermanentFailure,
        }
    }

    /// The enhanced status code, if the first line starts with one of the reply's own class (RFC 2034).
    pub fn status(&self) -> Option<EnhancedStatus> {
        let first = self.lines.first()?;
        let status: EnhancedStatus = first.split(' ').next()?.parse().ok()?;
        (u16::from(status.class()) == self.code / 100).then_some(status)
    }

    /// The enhanced status code at the start of the first line, whatever class it claims, in the class of the code: that one
    /// decides where the two contradict each other.
    pub fn status_by_code(&self) -> Option<EnhancedStatus> {
        let class = (self.code / 100) as u8;
        let first: EnhancedStatus = self.lines.first()?.split(' ').next()?.parse().ok()?;
        matches!(class, 2 | 4 | 5).then(|| first.with_class(class))
    }

    /// As a reply to RCPT: there are too many recipients for one transaction, and he may be offered in the next one. That
    /// is 452, and was 552 in RFC 821 (RFC 5321 section 4.5.3.1.10). Both have other meanings, too: then the enhanced code
    /// says so, or, of a bare 552, the words do not.
    pub fn is_too_many_recipients(&self) -> bool {
        match (self.code, self.status_by_code()) {
            (452 | 552, Some(said)) => (said.subject(), said.detail()) == (5, 3),
            (452, None) => true,
            (552, None) => self.lines.iter().any(|line| line.to_ascii_lowercase().contains("too many")),
            _ => false,
        }
    }
}

/// A text that is no reply of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a reply of one line, such as \"450 4.2.1 Mailbox busy\"")]
pub struct ReplyError;

/// From one line, as [`fmt::Display`] writes it: a code from 200 to 599, a blank, and printable text.
impl FromStr for Reply {
    type Err = ReplyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (code, text) = text.split_once(' ').ok_or(ReplyError)?;
        let code: u16 = code.parse().ok().filter(|_| code.len() == 3).ok_or(ReplyError)?;
        if !(200..600).contains(&code) || text.trim().is_empty() || text.contains(char::is_control) {
            return Err(ReplyError);
        }
        Ok(Self::new(code, None, text))
    }
}

/// One line, as people quote replies: `451 4.7.1 try later`; lines of a longer reply are joined by a blank.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        let status = self.status().map(|status| status.to_string());
        for (index, line) in self.lines.iter().enumerate() {
            // The enhanced status is repeated on every line of a long reply; people quote it once.
            let text = match &status {
                Some(status) if index > 0 => {
                    line.strip_prefix(status.as_str()).map_or(line.as_str(), str::trim_start)
                }
                _ => line,
            };
            write!(f, " {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reply_is_cut_and_marked_and_a_short_one_is_not() {
        let cut = |lines: &[&str], most| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Reply::with_lines(550, lines).shortened(most).lines().join("|")
        };
        let lines = ["5.1.1 no", "caf\u{e9} caf\u{e9}", "end"];
        assert_eq!(cut(&lines, 100), lines.join("|"));
        assert_eq!(cut(&lines, 26), "5.1.1 no|caf\u{e9} caf\u{e9}|end");
        assert_eq!(cut(&lines, 23), "5.1.1 no|caf\u{e9} caf\u{e9}|en[...]");
        assert_eq!(cut(&lines, 13), "5.1.1 no|caf[...]", "no character is cut");
        assert_eq!(cut(&lines, 9), "5.1.1 no|[...]");
        assert_eq!(cut(&lines, 3), "5.1[...]");
    }

    #[test]
    fn reads_the_enhanced_status_only_where_it_belongs() {
        let status = |code, text: &str| Reply::new(code, None, text).status().map(|s| s.to_string());
        assert_eq!(status(451, "4.7.1 try later").as_deref(), Some("4.7.1"));
        assert_eq!(status(451, "try later"), None);
        assert_eq!(status(550, "4.7.1 a class that is not the code's"), None);
        assert_eq!(status(250, "2.1.5 ok").as_deref(), Some("2.1.5"));
        for bad in ["4.7", "4.7.1.1", "3.7.1", "4.7.x", "4.7.1000", "4..1", "04.7.1"] {
            assert!(bad.parse::<EnhancedStatus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reply_of_one_line_is_read_back_as_it_is_quoted() {
        let reply: Reply = "450 4.2.1 Mailbox busy".parse().unwrap();
        assert_eq!((reply.code(), reply.status()), (450, Some(EnhancedStatus::new(4, 2, 1))));
        assert_eq!(reply.to_string(), "450 4.2.1 Mailbox busy");
        for bad in
            ["", "450", "450 ", "45 x", "0450 x", "+50 x", "199 x", "600 x", "450-more", "450 a\r\n250 b"]
        {
            assert_eq!(bad.parse::<Reply>(), Err(ReplyError), "{bad:?}");
        }
    }

    #[test]
    fn a_long_reply_is_quoted_on_one_line_with_its_status_once() {
        let reply = Reply::with_lines(550, vec!["5.7.1 blocked,".into(), "5.7.1 see our page".into()]);
        assert_eq!(reply.to_string(), "550 5.7.1 blocked, see our page");
    }
}
