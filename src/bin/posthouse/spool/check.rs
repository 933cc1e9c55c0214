//! `posthouse spool check`: what is there, what is damaged, how much of it lives.
//!
//! Contract: reads everything and changes nothing. The last line says whether the spool is in order, and so does the
//! exit code: 0 it is, 1 it is damaged, 2 it can't be read.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use posthouse::spool::{Files, Inspection, inspect};
use serde::Serialize;

use crate::failed::{Failed, chain};
use crate::place::{Format, Place};
use crate::print;
use crate::quarantine;
use crate::queue::{plural, size};
use crate::table::Table;

/// Exit code of a spool that cannot be read.
const UNREADABLE: u8 = 2;

/// Check every record of a spool while its relay is stopped; nothing is changed
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse spool check
  posthouse spool check --format json --spool /var/spool/posthouse

Every octet is read. No relay may run on the folder meanwhile, since the figures would move. What is
damaged is set aside by posthouse when it comes upon it, and the rest goes on; from then on it is
listed as set aside, and the spool is in order.
Exit codes: 0 the spool is in order, 1 something in it is damaged, 2 it cannot be read.")]
pub struct Check {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// The answer for scripts.
#[derive(Serialize)]
struct Report<'a> {
    spool: &'a Path,
    in_order: bool,
    /// Octets of free disk below which nothing is accepted.
    min_free: u64,
    #[serde(flatten)]
    found: &'a Inspection,
}

impl Check {
    pub fn run(self) -> Result<(), Failed> {
        let places = self.place.places()?;
        let found = inspect(&places.spool).map_err(|error| {
            eprintln!("posthouse: {}", chain(&error));
            Failed::Said(ExitCode::from(UNREADABLE))
        })?;
        match self.format {
            Format::Table => print::text(&told(&found, &places.spool, places.min_free))?,
            Format::Json => {
                let in_order = found.in_order();
                let (spool, min_free) = (places.spool.as_path(), places.min_free);
                print::json(&Report { spool, in_order, min_free, found: &found })?;
            }
        }
        if found.in_order() { Ok(()) } else { Err(Failed::Said(ExitCode::FAILURE)) }
    }
}

/// The answer for people.
fn told(found: &Inspection, spool: &Path, min_free: u64) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Spool       {}", spool.display());
    let _ = writeln!(
        text,
        "Messages    {} {}, {}",
        found.messages,
        plural(found.messages, "waits", "wait"),
        size(found.live_octets)
    );
    let _ = writeln!(text, "Contents    {}", files(found.contents));
    let _ = writeln!(text, "Hints       {}", files(found.hints));
    let low = if found.free_octets < min_free { ": less than" } else { "; nothing is accepted below" };
    let _ = writeln!(text, "Free disk   {}{low} {} (min_free)", size(found.free_octets), size(min_free));
    if found.torn_octets > 0 {
        let _ = writeln!(
            text,
            "Cut short   {} at the end of the log, by a crash; nothing in it was promised",
            size(found.torn_octets)
        );
    }
    if !found.segments.is_empty() {
        let _ = write!(text, "\n{}", segments(found));
    }
    if !found.quarantine.is_empty() {
        let folder = spool.join("quarantine");
        let _ = write!(
            text,
            "\nSet aside before, in {}:\n{}",
            folder.display(),
            quarantine::table(&found.quarantine)
        );
    }
    if !found.damages.is_empty() {
        let mut table = Table::new(["damaged", "offset", "octets", "id", "reason"]);
        for fault in &found.damages {
            table.row([
                fault.file.clone(),
                fault.offset.to_string(),
                fault.octets.to_string(),
                fault.id.map(|id| id.to_string()).unwrap_or_default(),
                fault.reason.clone(),
            ]);
        }
        let _ = write!(text, "\n{table}");
    }
    let _ = writeln!(text, "\n{}", verdict(found));
    text
}

fn files(files: Files) -> String {
    match files.files {
        0 => "none".to_owned(),
        count => format!("{count} {}, {}", plural(count, "file", "files"), size(files.octets)),
    }
}

fn segments(found: &Inspection) -> Table {
    let mut table = Table::new(["segment", "format", "size", "messages", "living", "dead"]);
    for segment in &found.segments {
        let format = match (segment.void, segment.format) {
            (true, _) => "void".to_owned(),
            (false, Some(format)) => format.to_string(),
            (false, None) => "?".to_owned(),
        };
        table.row([
            segment.file.clone(),
            format,
            size(segment.octets),
            segment.messages.to_string(),
            size(segment.live_octets),
            size(segment.dead_octets),
        ]);
    }
    table
}

/// One sentence.
fn verdict(found: &Inspection) -> String {
    match found.damages.len() as u64 {
        0 => "The spool is in order.".to_owned(),
        count => format!(
            "The spool is damaged in {count} {}: posthouse sets aside what it comes upon, and goes on with the rest.",
            plural(count, "place", "places")
        ),
    }
}

#[cfg(test)]
mod tests {
    use posthouse::spool::{Fault, InspectedSegment, Quarantined, QuarantinedKind};

    use super::*;

    fn inspection() -> Inspection {
        let segment = InspectedSegment {
            file: "0000000001-0.segment".into(),
            format: Some(2),
            octets: 2_048,
            messages: 1,
            live_octets: 1_024,
            dead_octets: 956,
            void: false,
        };
        Inspection {
            messages: 1,
            live_octets: 1_024,
            torn_octets: 0,
            segments: vec![segment],
            contents: Files { files: 1, octets: 3 << 20 },
            hints: Files::default(),
            quarantine: Vec::new(),
            free_octets: 5 << 30,
            damages: Vec::new(),
        }
    }

    #[test]
    fn a_spool_in_order_is_told_in_full() {
        let said = told(&inspection(), Path::new("/spool"), 512 << 20);
        let expected = "\
Spool       /spool
Messages    1 waits, 1.0 KiB
Contents    1 file, 3.0 MiB
Hints       none
Free disk   5.0 GiB; nothing is accepted below 512.0 MiB (min_free)

SEGMENT               FORMAT  SIZE     MESSAGES  LIVING   DEAD
0000000001-0.segment  2       2.0 KiB  1         1.0 KiB  956 B

The spool is in order.
";
        assert_eq!(said, expected);
    }

    #[test]
    fn damage_a_full_disk_and_what_was_set_aside_are_told() {
        let mut found = inspection();
        (found.free_octets, found.torn_octets) = (1 << 20, 12);
        found.segments[0].format = None;
        found.quarantine.push(Quarantined {
            file: "old.damaged".into(),
            kind: QuarantinedKind::Header,
            id: None,
            octets: 9,
            reason: "a wrong checksum".into(),
            found: None,
        });
        found.damages.push(Fault {
            file: "0000000001-0.segment".into(),
            offset: 68,
            octets: 300,
            id: Some("38G1V25TJ000".parse().unwrap()),
            reason: "the record has a wrong checksum".into(),
        });
        let said = told(&found, Path::new("/spool"), 512 << 20);
        for line in [
            "Free disk   1.0 MiB: less than 512.0 MiB (min_free)",
            "Cut short   12 B at the end of the log, by a crash; nothing in it was promised",
            "0000000001-0.segment  ?       2.0 KiB  1         1.0 KiB  956 B",
            "Set aside before, in /spool/quarantine:",
            "       header      9 B   old.damaged  a wrong checksum",
            "0000000001-0.segment  68      300     38G1V25TJ000  the record has a wrong checksum",
            "The spool is damaged in 1 place: posthouse sets aside what it comes upon, and goes on with the rest.",
        ] {
            assert!(said.lines().any(|is| is == line), "{line}\n{said}");
        }
    }
}
