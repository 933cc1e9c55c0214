//! Text of strangers on a terminal: addresses, subjects, replies of servers.
//!
//! Contract: [`harmless`] gives a text that moves no cursor, turns no direction of writing, ends no line and hides
//! nothing: each such character becomes a question mark. [`width`] tells the columns that a terminal gives a text.
//! Not here: output for scripts, which is JSON and has its own escapes.

use posthouse::mail::is_hidden;

/// Control characters, and those that nobody sees but that change what others look like (Unicode's format characters).
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect()
}

/// A name as a shell takes it for one word.
pub fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:@".contains(c);
    let text = harmless(text);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// In columns; a CJK character has two.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_hides_or_turns_is_left() {
        let spoofed = "a\u{202e}b\u{1b}[31m\u{200b}\u{2066}c\u{ad}\u{e0041}\u{feff}\u{85}";
        assert_eq!(harmless(spoofed), "a?b?[31m??c????");
        let plain = "b\u{fc}cher \u{7528}\u{6237} \u{5d0}\u{5d1} \u{1f600}";
        assert_eq!(harmless(plain), plain);
    }

    #[test]
    fn a_name_is_one_word_in_a_shell() {
        assert_eq!(word("mx:example.com"), "mx:example.com");
        assert_eq!((word("(no route)"), word("it's")), ("'(no route)'".into(), r"'it'\''s'".into()));
    }

    #[test]
    fn wide_characters_have_two_columns() {
        assert_eq!((width("abc"), width("\u{7528}\u{6237}")), (3, 4));
    }
}
