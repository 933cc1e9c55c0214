//! Patterns of addresses: `*@example.org`.
//!
//! Contract: `*` fits any characters and none, `?` exactly one, everything else itself without regard to case. The
//! null reverse-path is the text `<>`.
//! Invariants: matching takes time proportional to pattern times text at worst, and no recursion.
//! Not here: at which stage whose address is asked about (`rule`).

use std::fmt;

/// A pattern of addresses, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Box<str>);

impl Glob {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn fits(&self, text: &str) -> bool {
        let one = |pattern: u8, byte: u8| pattern == b'?' || pattern.eq_ignore_ascii_case(&byte);
        fits(self.0.as_bytes(), text.as_bytes(), one)
    }

    /// Whether everything that fits `other` fits this too. A yes is sure; a no may be wrong for odd pairs such as
    /// `*?` and `?*`.
    pub fn covers(&self, other: &Glob) -> bool {
        // The other's wildcards are taken as characters of their own: a `*` is covered by a `*` alone, a `?` by both.
        let one = |pattern: u8, byte: u8| match byte {
            b'*' => false,
            b'?' => pattern == b'?',
            _ => pattern == b'?' || pattern.eq_ignore_ascii_case(&byte),
        };
        fits(self.0.as_bytes(), other.0.as_bytes(), one)
    }

    /// Whether there is nothing that does not fit.
    pub fn is_everything(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Each `*` takes as little as it can, and one more whenever what follows does not fit.
fn fits(pattern: &[u8], text: &[u8], one: impl Fn(u8, u8) -> bool) -> bool {
    let (mut at, mut in_text) = (0, 0);
    // Behind the latest `*`, and where in the text what follows it was tried.
    let mut retry: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, in_text));
            }
            Some(&byte) if one(byte, text[in_text]) => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((behind, tried)) = retry else { return false };
                at = behind;
                in_text = tried + 1;
                retry = Some((behind, in_text));
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_fit_without_regard_to_case() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "alice@example.org", true),
            ("*@example.org", "alice@EXAMPLE.org", true),
            ("*@example.org", "alice@example.org.test", false),
            ("ALICE@*", "alice@example.org", true),
            ("a?ice@*", "alice@example.org", true),
            ("a?ice@*", "aice@example.org", false),
            ("*a*b*c", "xxaxxbxxabc", true),
            ("*a*b*c", "xxaxxbxxab", false),
            ("*@a.test", "a@a.test@a.test", true),
            ("<>", "<>", true),
            ("<>", "alice@example.org", false),
            ("??", "<>", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).fits(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_covers_another_only_when_it_surely_does() {
        for (wide, narrow, expected) in [
            ("*", "*@example.org", true),
            ("*@example.org", "*", false),
            ("*@example.org", "alice@EXAMPLE.org", true),
            ("*@example.*", "a*@example.org", true),
            ("a?@*", "ab@example.org", true),
            ("a?@*", "a?@example.org", true),
            ("a?@*", "a*@example.org", false),
            ("ab@*", "a?@example.org", false),
            ("*@*", "*", false),
        ] {
            assert_eq!(Glob::new(wide).covers(&Glob::new(narrow)), expected, "{wide} {narrow}");
        }
    }
}
