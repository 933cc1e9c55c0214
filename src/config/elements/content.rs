//! `[content]`: what the content of a message may have.
//!
//! Contract: each key says what is done about one thing; the defaults are those of the dialogue (`smtp`).
//! Not here: how large it may be (`[[listener]]`), how it is checked (`smtp`).

use crate::config::section::Section;
use crate::smtp::server::{BareNewlines, ContentRules, Permission};

const BARE_NEWLINES: [(&str, BareNewlines); 2] =
    [("reject", BareNewlines::Reject), ("repair", BareNewlines::Repair)];

const PERMISSION: [(&str, Permission); 2] = [("accept", Permission::Accept), ("reject", Permission::Reject)];

pub(super) fn read(mut section: Section<'_>) -> ContentRules {
    let default = ContentRules::default();
    let rules = ContentRules {
        bare_newlines: section.word("bare_newlines", &BARE_NEWLINES).unwrap_or(default.bare_newlines),
        nul: section.word("nul", &PERMISSION).unwrap_or(default.nul),
        undeclared_8bit: section.word("undeclared_8bit", &PERMISSION).unwrap_or(default.undeclared_8bit),
        long_lines: section.word("long_lines", &PERMISSION).unwrap_or(default.long_lines),
    };
    section.done();
    rules
}
