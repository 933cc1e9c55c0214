//! Text of strangers on a terminal: addresses, subjects, replies of servers.
//!
//! Contract: [`harmless`] gives a text that moves no cursor, turns no direction of writing, ends no line and hides
//! nothing: each such character becomes a question mark. [`width`] tells the columns that a terminal gives a text.
//! Not here: output for scripts, which is JSON and has its own escapes.

/// Control characters, and those that nobody sees but that change what others look like (Unicode's format characters).
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '?' } else { c }).collect()
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            // Zero width, directions, separators of lines, invisible operators.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Annotations, tags.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
    fn wide_characters_have_two_columns() {
        assert_eq!((width("abc"), width("\u{7528}\u{6237}")), (3, 4));
    }
}
