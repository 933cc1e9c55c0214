//! Characters that must not reach a terminal, or the eyes of a reader, as they are.
//!
//! Contract: [`is_hidden`] tells control characters, and Unicode's format characters: those that nobody sees and that change
//! what others look like. Whoever shows a stranger's text replaces or escapes each of them.
//! Not here: by what they are replaced, which differs between a table, a transcript and a notice.

/// Whether a character moves a cursor, ends a line, turns the direction of writing, or hides.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            // Zero width, directions, separators of lines, invisible operators.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Annotations, tags.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_as_it_is_written_is_not_hidden() {
        assert!(
            "a\u{1b}\u{85}\u{202e}\u{2066}\u{200b}\u{ad}\u{e0041}\u{feff}".chars().skip(1).all(is_hidden)
        );
        assert!(!"b\u{fc}cher \u{7528}\u{6237} \u{5d0}\u{5d1} e\u{301} \u{1f600}".chars().any(is_hidden));
    }
}
