//! Tables for a terminal: columns as wide as what stands in them, the last one free.
//!
//! A long table goes out in pages, so that it is never held whole: columns then only get wider from page to page.

use std::fmt;

use crate::harmless::{harmless, width};

/// A table with a head.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Of the pages that have gone out.
    widths: Vec<usize>,
}

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.iter().map(|cell| cell.to_uppercase()).collect()], widths: vec![0; N] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        // What others wrote must not move the cursor.
        self.rows.push(cells.iter().map(|cell| harmless(cell)).collect());
    }

    /// The rows so far, which are then forgotten; the head stands on the first page only.
    pub fn page(&mut self) -> String {
        let text = self.to_string();
        self.widths = self.widths();
        self.rows.clear();
        text
    }

    fn widths(&self) -> Vec<usize> {
        let wide = |cells: &Vec<String>, column: usize| width(&cells[column]);
        let widest = |(column, known): (usize, &usize)| {
            self.rows.iter().map(|cells| wide(cells, column)).max().unwrap_or(0).max(*known)
        };
        self.widths.iter().enumerate().map(widest).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', wide - width(cell) + 2));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_the_script() {
        let mut table = Table::new(["sender", "last"]);
        table.row(["\u{7528}\u{6237}@example.org".into(), "a".into()]);
        table.row(["user\u{202e}@example.org".into(), "b".into()]);
        assert_eq!(
            table.page(),
            "SENDER             LAST\n\u{7528}\u{6237}@example.org   a\nuser?@example.org  b\n"
        );
    }

    #[test]
    fn pages_make_one_table() {
        let mut table = Table::new(["id", "last"]);
        table.row(["12345".into(), "a\u{1b}b".into()]);
        assert_eq!(table.page(), "ID     LAST\n12345  a?b\n");
        table.row(["1".into(), "c".into()]);
        assert_eq!(table.page(), "1      c\n", "as wide as before, and no second head");
        table.row(["1234567".into(), "d".into()]);
        assert_eq!(table.page(), "1234567  d\n");
        assert_eq!(table.page(), "");
    }
}
