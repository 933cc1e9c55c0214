//! Faults and warnings, shown as a good compiler shows them: the place, the line, what was expected, how to mend it.
//!
//! Contract: a fault carries all that is needed to show it; the file need not be read again.
//! Invariants: a fault never holds a password, be it in a URL or the value of a key that is called so.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::quoted;
use super::tree::Place;
use crate::mail::is_hidden;

/// Where something stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Lines and columns count from 1, columns in characters.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
        text: String,
        width: usize,
    },
    /// A file as a whole.
    WholeFile {
        path: PathBuf,
    },
    Variable {
        name: String,
        value: String,
    },
    Flag {
        name: &'static str,
        value: String,
    },
    /// In the defaults: something is missing.
    Nowhere,
}

impl Spot {
    /// Line and column in the file; beyond all lines where there is none.
    fn position(&self) -> (usize, usize) {
        match self {
            Self::File { line, column, .. } => (*line, *column),
            _ => (usize::MAX, usize::MAX),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub spot: Spot,
    pub problem: String,
    pub expected: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Everything that is wrong, in the order of the lines, and in what: "configuration", "scenario".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>, pub(super) &'static str);

/// Something that works but is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub Fault);

impl Fault {
    fn show(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        let problem = harmless(&self.problem);
        let margin = match &self.spot {
            Spot::File { path, line, column, text, width } => {
                writeln!(f, "{}:{line}:{column}: {what}: {problem}", path.display())?;
                let number = line.to_string();
                let blank = " ".repeat(number.len());
                writeln!(f, "  {number} | {}", harmless(&text.replace('\t', " ")))?;
                writeln!(f, "  {blank} | {}{}", " ".repeat(column - 1), "^".repeat((*width).max(1)))?;
                blank
            }
            Spot::WholeFile { path } => {
                writeln!(f, "{}: {what}: {problem}", path.display())?;
                String::new()
            }
            Spot::Variable { name, value } => {
                writeln!(f, "{name}: {what}: {problem}")?;
                writeln!(f, "    | {name}={}", harmless(value))?;
                " ".into()
            }
            Spot::Flag { name, value } => {
                writeln!(f, "{name}: {what}: {problem}")?;
                writeln!(f, "    | {name} {}", harmless(value))?;
                " ".into()
            }
            Spot::Nowhere => {
                writeln!(f, "{what}: {problem}")?;
                String::new()
            }
        };
        for (label, text) in [("expected", &self.expected), ("hint", &self.hint)] {
            if let Some(text) = text {
                writeln!(f, "  {margin} = {label}: {}", harmless(text))?;
            }
        }
        Ok(())
    }
}

/// What a file says may come to a terminal: what is hidden becomes a question mark, but for line ends.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\n' { '?' } else { c }).collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, "fault")
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f, "warning")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            fault.fmt(f)?;
        }
        match self.0.len() {
            1 => write!(f, "1 fault in the {}", self.1),
            count => write!(f, "{count} faults in the {}", self.1),
        }
    }
}

impl std::error::Error for Faults {}

/// Hides what may be a password, in the same width: `user:password` before an at sign, and the value of a key that is
/// called so. Rather too much than too little.
fn mask(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let value = text.find('=').map_or(text.len(), |sign| sign + 1);
    let key = text[..value].to_lowercase();
    let is_secret = ["pass", "pasw", "secret", "token"].iter().any(|word| key.contains(word));
    // The sign of a URL's query is none of a key.
    if key.ends_with('=') && is_secret && !key.contains("://") && !is_file(text) {
        shown.push_str(&text[..value]);
        shown.extend(text[value..].chars().map(|c| if c.is_whitespace() { c } else { '*' }));
        return shown;
    }
    for piece in text.split_inclusive(['"', '\'', ' ', '\t']) {
        let start = piece.find("://").map_or(0, |at| at + 3);
        match piece.rfind('@').filter(|at| start > 0 || piece[..*at].contains(':')) {
            Some(at) if at > start => {
                shown.push_str(&piece[..start]);
                shown.extend(piece[start..at].chars().map(|_| '*'));
                shown.push_str(&piece[at..]);
            }
            _ => shown.push_str(piece),
        }
    }
    shown
}

/// Whether a line names a file, as `password_file` does.
fn is_file(line: &str) -> bool {
    line.split('=').next().is_some_and(|key| key.trim().to_lowercase().ends_with("_file"))
}

/// Where faults are gathered while the configuration is read.
pub(crate) struct Report {
    subject: &'static str,
    source: Option<(PathBuf, String)>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Warning>>,
}

impl Report {
    /// Of the file with this path and text, if there is one; `subject` is what it holds.
    pub fn new(subject: &'static str, source: Option<(PathBuf, String)>) -> Self {
        Self { subject, source, faults: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn fault(
        &self,
        place: &Place,
        problem: impl Into<String>,
        expected: Option<String>,
        hint: Option<String>,
    ) {
        let problem = mask(&problem.into());
        let fault = Fault { spot: self.spot(place), problem, expected, hint: hint.map(|hint| mask(&hint)) };
        self.faults.borrow_mut().push(fault);
    }

    pub fn warn(&self, place: &Place, problem: impl Into<String>, hint: impl Into<String>) {
        let spot = self.spot(place);
        let fault = Fault { spot, problem: mask(&problem.into()), expected: None, hint: Some(hint.into()) };
        self.warnings.borrow_mut().push(Warning(fault));
    }

    /// A fault in a part of a text value: the bytes `part` of the text, however it is quoted.
    pub fn fault_within(
        &self,
        place: &Place,
        part: &Range<usize>,
        problem: impl Into<String>,
        expected: Option<String>,
        hint: Option<String>,
    ) {
        let within = match (place, &self.source) {
            (Place::File(value), Some((_, text))) => {
                let start = text.floor_char_boundary(value.start.min(text.len()));
                let end = text.floor_char_boundary(value.end.clamp(start, text.len()));
                let inside = quoted::within(&text[start..end], part);
                Place::File(start + inside.start..start + inside.end)
            }
            _ => place.clone(),
        };
        self.fault(&within, problem, expected, hint);
    }

    /// How many faults there are so far.
    pub fn count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// Starts again with nothing wrong.
    pub fn forget(&self) {
        self.faults.borrow_mut().clear();
        self.warnings.borrow_mut().clear();
    }

    pub fn finish(self) -> (Faults, Vec<Warning>) {
        let (mut faults, mut warnings) = (self.faults.into_inner(), self.warnings.into_inner());
        // As they stand in the file; what stands in no file keeps its order, behind it.
        faults.sort_by_key(|fault| fault.spot.position());
        warnings.sort_by_key(|warning| warning.0.spot.position());
        (Faults(faults, self.subject), warnings)
    }

    fn spot(&self, place: &Place) -> Spot {
        match (place, &self.source) {
            (Place::File(range), Some((path, text))) => spot_in_file(path.clone(), text, range),
            (Place::File(_) | Place::Nowhere, _) => Spot::Nowhere,
            (Place::WholeFile(path), _) => Spot::WholeFile { path: path.clone() },
            (Place::Variable { name, value }, _) => {
                let line = mask(&format!("{name}={value}"));
                Spot::Variable { name: name.clone(), value: line[name.len() + 1..].to_owned() }
            }
            (Place::Flag { name, value }, _) => Spot::Flag { name, value: mask(value) },
        }
    }
}

fn spot_in_file(path: PathBuf, text: &str, range: &Range<usize>) -> Spot {
    let start = text.floor_char_boundary(range.start);
    let line_start = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |end| start + end);
    let end = text.floor_char_boundary(range.end.clamp(start, line_end.max(start)));
    Spot::File {
        path,
        line: text[..line_start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        text: mask(text[line_start..line_end].trim_end_matches('\r')),
        width: text[start..end].chars().count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (text, shown) in [
            (
                "hosts = [\"smtp://me:s3cret@a.example:25\", \"smtp://b.example\"]",
                "hosts = [\"smtp://*********@a.example:25\", \"smtp://b.example\"]",
            ),
            ("smtp://me:p@s/s@a.example", "smtp://********@a.example"),
            ("me:s3cret@a.example:25", "*********@a.example:25"),
            ("password = \"s3 cret\"", "password = *** *****"),
            ("POSTHOUSE_UPSTREAM__MAIN__PASSWORD=s3cret", "POSTHOUSE_UPSTREAM__MAIN__PASSWORD=******"),
            ("password_file = \"/run/secrets/upstream\"", "password_file = \"/run/secrets/upstream\""),
            (
                "the password for smtp://a.example?tls=none may be read",
                "the password for smtp://a.example?tls=none may be read",
            ),
            ("domains = [\"postmaster@example.org\"]", "domains = [\"postmaster@example.org\"]"),
        ] {
            assert_eq!(mask(text), shown);
        }
    }

    #[test]
    fn a_place_is_counted_in_characters() {
        let text = "a = 1\n# \u{e9}\n\"\u{e9}\" = [x]\n";
        let start = text.find('[').unwrap();
        let spot = spot_in_file("f".into(), text, &(start..start + 3));
        let Spot::File { line, column, width, .. } = spot else { panic!("in a file") };
        assert_eq!((line, column, width), (3, 7, 3));
    }
}
