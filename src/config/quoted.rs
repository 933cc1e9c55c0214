//! Where a part of a text value stands in the file, inside of its quotes.
//!
//! Contract: `within` takes a value as it is written, quotes included, and bytes of the text that it means; it gives
//! the bytes of the value that were written for them. All four kinds of TOML's strings are known.
//! Invariants: the result lies within the value and on character boundaries.

use std::ops::Range;

/// The written bytes of `raw` that stand for the bytes `part` of the text.
pub(super) fn within(raw: &str, part: &Range<usize>) -> Range<usize> {
    let Some(quote) = raw.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return 0..raw.len();
    };
    let triple = raw.len() >= 6 && raw[1..].chars().take(2).all(|next| next == quote);
    let width = if triple { 3 } else { 1 };
    let mut at = width;
    if triple {
        // A line end right behind the quotes is no part of the text.
        at += ["\r\n", "\n"].iter().find(|end| raw[at..].starts_with(**end)).map_or(0, |end| end.len());
    }
    let last = raw.len().saturating_sub(width).max(at);
    let (mut meant, mut found) = (0, at..last);
    let mut started = false;
    while at < last {
        if !started && meant >= part.start {
            (found.start, started) = (at, true);
        }
        if started && meant >= part.end {
            found.end = at;
            break;
        }
        let (written, means) = one(&raw[at..last], quote == '"');
        at += written;
        meant += means;
    }
    if !started {
        found.start = last;
    }
    found.start..found.end.max(found.start)
}

/// How many bytes the next character is written with, and how many it means.
fn one(rest: &str, escapes: bool) -> (usize, usize) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if !escapes || !rest.starts_with('\\') {
        return (first, first);
    }
    let digits = match rest[1..].chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        // A line that goes on: the backslash and all blanks behind it mean nothing.
        Some(blank) if blank.is_whitespace() => {
            let blanks = rest[1..].len() - rest[1..].trim_start().len();
            return (1 + blanks, 0);
        }
        other => return (1 + other.map_or(0, char::len_utf8), 1),
    };
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits.min(rest.len() - 2), code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(raw: &str, part: Range<usize>, shown: &str) {
        assert_eq!(&raw[within(raw, &part)], shown, "{raw} {part:?}");
    }

    #[test]
    fn a_part_is_found_however_it_is_quoted() {
        shows("\"rcpt bad\"", 5..8, "bad");
        shows("'rcpt bad'", 5..8, "bad");
        shows("'''rcpt bad'''", 5..8, "bad");
        shows("\"\"\"\nrcpt bad\"\"\"", 5..8, "bad");
        shows(r#""a\"b\u00e9 bad""#, 6..9, "bad");
        shows("\"\"\"rcpt \\\n   bad\"\"\"", 5..8, "\\\n   bad");
        shows("\"\u{e9} bad\"", 3..6, "bad");
    }

    #[test]
    fn a_part_at_or_beyond_the_end_is_the_end() {
        shows("\"rcpt\"", 4..4, "");
        assert_eq!(within("\"rcpt\"", &(4..9)), 5..5);
        assert_eq!(within("\"\"", &(0..0)), 1..1);
        assert_eq!(within("17", &(0..1)), 0..2);
    }
}
