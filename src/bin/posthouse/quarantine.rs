//! What was set aside, as a table for people: of a relay that runs, and of a spool that is looked at.

use posthouse::spool::{Quarantined, QuarantinedKind};

use crate::queue::size;
use crate::table::Table;

pub fn table(pieces: &[Quarantined]) -> Table {
    let mut table = Table::new(["found", "kind", "id", "size", "file", "reason"]);
    for piece in pieces {
        table.row([
            piece.found.map(|found| found.to_string()).unwrap_or_default(),
            word(piece.kind).to_owned(),
            piece.id.map(|id| id.to_string()).unwrap_or_default(),
            size(piece.octets),
            piece.file.clone(),
            piece.reason.clone(),
        ]);
    }
    table
}

fn word(kind: QuarantinedKind) -> &'static str {
    match kind {
        QuarantinedKind::Record => "record",
        QuarantinedKind::Header => "header",
        QuarantinedKind::Hint => "hint",
        QuarantinedKind::Content => "content",
    }
}
