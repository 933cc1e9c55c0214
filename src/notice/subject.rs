//! The subject of the original, quoted in the subject and the text of a notice.
//!
//! Contract: whatever the original's Subject field holds, the notice's has one field of bounded length; encoded words
//! of the original stay as they are, since their charset is the sender's own.
//! Not here: the words before it (`wording`). RFC 2047; RFC 3834 section 3.1.5.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::encoding::{ascii, encoded_words, field, printable, shortened};

/// Characters of the original's subject that are quoted.
const MAX: usize = 200;
/// The same where they are encoded words: a character takes several of theirs.
const ENCODED_MAX: usize = 600;

/// A Subject field's value.
pub(super) struct Subject(Vec<u8>);

impl Subject {
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// The Subject field of the notice: `prefix`, a blank, and the original's subject.
    pub fn noticed(&self, prefix: &str) -> String {
        if !self.0.is_ascii() {
            // Not what RFC 2047 wants, but often UTF-8: then it can be put right.
            let text = blanks_joined(&printable(&String::from_utf8_lossy(&self.0)));
            return field(
                "Subject",
                &encoded_words(&format!("{prefix} {}", shortened(&text, MAX))).join(" "),
            );
        }
        let subject = self.bounded();
        let prefix = match (prefix.is_ascii(), subject.first().is_some_and(|word| is_encoded(word))) {
            (true, _) => prefix.to_owned(),
            // A blank between two encoded words is not shown: it has to be inside of one.
            (false, true) => encoded_words(&format!("{prefix} ")).join(" "),
            (false, false) => encoded_words(prefix).join(" "),
        };
        field("Subject", &format!("{prefix} {}", subject.join(" ")))
    }

    /// The words of a subject of US-ASCII, as many as the limits permit; no encoded word is cut.
    fn bounded(&self) -> Vec<String> {
        let text = ascii(&String::from_utf8_lossy(&self.0));
        let mut words = Vec::new();
        let (mut plain, mut encoded) = (0, 0);
        for word in text.split_ascii_whitespace() {
            if is_encoded(word) {
                encoded += word.len();
            } else {
                plain += word.len() + 1;
            }
            if encoded > ENCODED_MAX || plain > MAX {
                let fits = MAX.saturating_sub(words.iter().map(|word: &String| word.len() + 1).sum());
                words.push(if is_encoded(word) { "...".to_owned() } else { shortened(word, fits) });
                break;
            }
            words.push(word.to_owned());
        }
        words
    }

    /// The subject as people read it; nothing where it is empty or in a charset not known here.
    pub fn readable(&self) -> Option<String> {
        let text = if self.0.is_ascii() {
            decoded(&String::from_utf8_lossy(&self.0))?
        } else {
            String::from_utf8_lossy(&self.0).into_owned()
        };
        let text = blanks_joined(&printable(&text));
        (!text.is_empty()).then(|| shortened(&text, MAX))
    }
}

fn blanks_joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_encoded(word: &str) -> bool {
    encoded_word(word).is_some()
}

/// The charset, the encoding and the encoded text of an encoded word.
fn encoded_word(word: &str) -> Option<(&str, &str, &str)> {
    let inner = word.strip_prefix("=?")?.strip_suffix("?=")?;
    let mut parts = inner.split('?');
    let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    // RFC 2231 lets a language follow the charset.
    let charset = charset.split('*').next().unwrap_or(charset);
    (parts.next().is_none() && word.len() <= 250).then_some((charset, encoding, text))
}

/// Decodes the encoded words of the charsets that need no table; nothing when there is one of another charset.
fn decoded(text: &str) -> Option<String> {
    let mut decoded: Vec<u8> = Vec::new();
    let mut after_encoded = false;
    for word in text.split_ascii_whitespace() {
        let encoded = encoded_word(word);
        let joined = after_encoded && encoded.is_some();
        if !decoded.is_empty() && !joined {
            decoded.push(b' ');
        }
        after_encoded = encoded.is_some();
        let Some((charset, encoding, text)) = encoded else {
            decoded.extend_from_slice(word.as_bytes());
            continue;
        };
        let octets = match encoding {
            "B" | "b" => STANDARD.decode(text).ok()?,
            "Q" | "q" => q_decoded(text)?,
            _ => return None,
        };
        // Octets are gathered before they are read: some senders cut a character between two words.
        match charset.to_ascii_lowercase().as_str() {
            "utf-8" | "us-ascii" => decoded.extend_from_slice(&octets),
            "iso-8859-1" => {
                decoded.extend(octets.into_iter().map(char::from).collect::<String>().into_bytes());
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

fn q_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'_' => b' ',
            b'=' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
            }
            _ => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(value: &[u8]) -> Subject {
        Subject::new(value.to_vec())
    }

    #[test]
    fn a_plain_subject_follows_the_prefix() {
        let subject = subject(b"Quarterly  figures");
        assert_eq!(subject.noticed("Delivery delayed:"), "Subject: Delivery delayed: Quarterly figures\r\n");
        assert_eq!(subject.readable().as_deref(), Some("Quarterly figures"));
    }

    #[test]
    fn encoded_words_stay_and_the_blank_before_them_is_shown() {
        let original = subject(b"=?UTF-8?B?5Zub5Y2K5pyf?= =?utf-8?q?=E3=81=AE_?= report");
        let noticed = original.noticed("配信遅延:");
        // "配信遅延: " with its blank inside of the word.
        assert!(noticed.starts_with("Subject: =?UTF-8?B?6YWN5L+h6YGF5bu2OiA=?= =?UTF-8?B?5Zub5Y2K5pyf?="));
        assert_eq!(original.readable().as_deref(), Some("四半期の report"));
    }

    #[test]
    fn a_charset_that_is_not_known_is_kept_in_the_field_and_left_out_of_the_text() {
        let original = subject(b"=?ISO-2022-JP?B?GyRCO003bhsoQg==?=");
        assert!(original.noticed("Delivery delayed:").contains("=?ISO-2022-JP?B?GyRCO003bhsoQg==?="));
        assert_eq!(original.readable(), None);
    }

    #[test]
    fn raw_octets_are_read_as_utf_8_and_encoded() {
        let noticed = subject("caf\u{e9}\r\nBcc: x".as_bytes()).noticed("Delivery delayed:");
        assert_eq!(noticed.matches("\r\n").count(), 1);
        assert!(noticed.is_ascii() && noticed.starts_with("Subject: =?UTF-8?B?"));
        assert!(subject(b"\xff\xfe").noticed("Delivery delayed:").is_ascii());
    }

    #[test]
    fn no_subject_is_too_long_or_hides_a_line() {
        for hostile in [
            &b"x".repeat(100_000)[..],
            &b"word ".repeat(10_000),
            &b"=?UTF-8?B?5Zub5Y2K5pyf?= ".repeat(1_000),
            b"a\r\nBcc: x@example.org\r\n\r\n--",
            "\u{202e}\u{e9}".repeat(9_000).as_bytes(),
        ] {
            for prefix in ["Delivery delayed:", "配信遅延:"] {
                let noticed = subject(hostile).noticed(prefix);
                assert!(noticed.len() < 2_000, "{}", noticed.len());
                assert!(noticed.lines().skip(1).all(|line| line.starts_with(' ')), "{noticed}");
            }
        }
        let hidden = subject(b"=?utf-8?q?a=0D=0ABcc:_x?=").readable().unwrap();
        assert_eq!(hidden, "a Bcc: x");
    }
}
