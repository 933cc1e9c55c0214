//! From file, environment and flags to settings that are in order, or to every fault.
//!
//! Contract: flags win over the environment, that over the file, that over the defaults. Relative paths in the file
//! count from the file's folder, those in the environment and in flags from the current one.
//! Invariants: nothing is created, changed, connected to or listened on.
//! Not here: what the keys mean (`elements`).

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::elements::{
    Configuration, Notices, Relaying, Retry, Spool, Tracking, addresses as listeners, hostname, own_name,
};
use super::environment;
use super::fault::{Faults, Report, Warning};
use super::section::Section;
use super::tree::{Kind, Node, Place, Table, Value};
use crate::queue::schedule;

/// The largest file that is read as a configuration or a scenario.
const FILE_MAX: u64 = 16 << 20;

/// The reference file: every key with its default and what it does.
pub const REFERENCE: &str = include_str!("../../config/reference.toml");

/// What the command line says, unread: a fault in it names the flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, in place of all listeners.
    pub listen: Vec<String>,
    /// `--upstream`, in place of all groups and routes: the hosts of one group that takes everything.
    pub upstream: Vec<String>,
    /// `--spool`
    pub spool: Option<String>,
    /// `--speed`
    pub speed: Option<String>,
    /// `--preset`
    pub preset: Option<String>,
}

/// Settings that are in order, and what is probably not meant.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Configuration,
    pub warnings: Vec<Warning>,
}

/// Reads everything and reports every fault.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Loaded, Faults> {
    let (report, tree) = gather(file, environment, flags)?;
    let settings = Configuration::read(&tree, folder_of(file), &report);
    match report.finish() {
        (faults, warnings) if faults.0.is_empty() => Ok(Loaded { settings, warnings }),
        (faults, _) => Err(faults),
    }
}

/// Where a relay keeps what it knows: all that a command needs which only looks, or asks the relay itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub spool: PathBuf,
    /// Octets of free disk below which the relay accepts nothing.
    pub min_free: u64,
    pub tracking: PathBuf,
}

/// Reads only where things are: no upstream is needed for it, and faults elsewhere don't matter.
pub fn places(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Places, Faults> {
    let (report, tree) = gather(file, environment, flags)?;
    report.forget();
    let mut top = Section::top(&tree, &report);
    let spool = Spool::read(top.section("spool"), folder_of(file));
    let tracking = Tracking::read(top.section("tracking"), &spool.path).path;
    match report.finish() {
        (faults, _) if faults.0.is_empty() => {
            Ok(Places { spool: spool.path, min_free: spool.min_free, tracking })
        }
        (faults, _) => Err(faults),
    }
}

/// Reads only where the users file is, if one is named: faults elsewhere don't matter, and it need not be there yet.
pub fn users_file(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Option<PathBuf>, Faults> {
    let (report, tree) = gather(file, environment, flags)?;
    report.forget();
    let mut top = Section::top(&tree, &report);
    let path = Relaying::users_path(top.section("relaying"), folder_of(file));
    match report.finish() {
        (faults, _) if faults.0.is_empty() => Ok(path),
        (faults, _) => Err(faults),
    }
}

/// How mail is handed to a relay, for a command that does so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The domain of addresses without one, and of Message-IDs.
    pub hostname: String,
    pub spool: PathBuf,
    /// Where the relay listens without TLS from the start.
    pub listeners: Vec<SocketAddr>,
}

/// Reads only what concerns a command that submits. Faults elsewhere don't matter, and a listener that is faulty counts
/// as none.
pub fn posting(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Posting, Faults> {
    let (report, tree) = gather(file, environment, flags)?;
    report.forget();
    let mut top = Section::top(&tree, &report);
    let listeners = listeners(&mut top);
    let hostname = hostname(&mut top).unwrap_or_else(own_name);
    report.forget();
    let spool = Spool::read(top.section("spool"), folder_of(file));
    match report.finish() {
        (faults, _) if faults.0.is_empty() => Ok(Posting { hostname, spool: spool.path, listeners }),
        (faults, _) => Err(faults),
    }
}

/// Reads only the retry schedule: no upstream is needed for it, and faults elsewhere don't matter.
pub fn schedule(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<schedule::Retry, Faults> {
    let (report, tree) = gather(file, environment, flags)?;
    let mut top = Section::top(&tree, &report);
    let retry = Retry::read(top.section("retry"));
    let notices = Notices::read(top.section("notices"), &retry);
    match report.finish() {
        (faults, _) if faults.0.is_empty() => Ok(retry.schedule(&notices)),
        (faults, _) => Err(faults),
    }
}

fn folder_of(file: Option<&Path>) -> &Path {
    file.and_then(Path::parent).unwrap_or(Path::new(""))
}

/// File, environment and flags as one tree.
fn gather(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<(Report, Table), Faults> {
    let (report, mut tree) = match file {
        Some(path) => read_file("configuration", path)?,
        None => (Report::new("configuration", None), Table::new(Place::Nowhere)),
    };
    let variables = environment::settings(environment);
    overlay_upstream(&mut tree, &variables, flags, &report);
    for (name, value) in variables.iter().filter(|(name, _)| name != environment::UPSTREAM) {
        environment::set(&mut tree, name, value, &report);
    }
    overlay_flags(&mut tree, flags);
    Ok((report, tree))
}

/// A file as a tree; `subject` is what it holds: "configuration", "scenario".
pub(crate) fn read_file(subject: &'static str, path: &Path) -> Result<(Report, Table), Faults> {
    match read_limited(path) {
        Ok(text) => read_text(subject, path, text),
        Err(error) => {
            let report = Report::new(subject, None);
            let hint = match subject {
                _ if error.kind() == std::io::ErrorKind::FileTooLarge => "name the file that was meant",
                _ if error.kind() == std::io::ErrorKind::InvalidData => "write the file in UTF-8",
                "configuration" => {
                    "name a file that exists and that this user may read, or leave --config out"
                }
                _ => "name a file that exists and that this user may read",
            };
            let problem = format!("cannot read the {subject}: {error}");
            report.fault(&Place::WholeFile(path.to_owned()), problem, None, Some(hint.into()));
            Err(report.finish().0)
        }
    }
}

/// The whole file, unless it is more than anybody writes.
fn read_limited(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_MAX {
        let problem = format!("it has more than {} MiB", FILE_MAX >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

/// The same of a text that is at hand.
pub(crate) fn read_text(subject: &'static str, path: &Path, text: String) -> Result<(Report, Table), Faults> {
    let parsed = toml_edit::Document::parse(text.clone());
    let report = Report::new(subject, Some((PathBuf::from(path), text)));
    match parsed {
        Ok(document) => {
            Ok((report, Table::from_toml(document.as_table(), Place::WholeFile(path.to_owned()))))
        }
        Err(error) => {
            let place = error.span().map_or_else(|| Place::WholeFile(path.to_owned()), Place::File);
            let problem = format!("this is not TOML: {}", error.message().trim().replace('\n', "; "));
            report.fault(&place, problem, None, Some("mend this first; the rest is checked after it".into()));
            Err(report.finish().0)
        }
    }
}

fn overlay_upstream(tree: &mut Table, variables: &[(String, String)], flags: &Flags, report: &Report) {
    let variable = variables.iter().find(|(name, _)| name == environment::UPSTREAM);
    if !flags.upstream.is_empty() {
        let place = |value: &str| Place::Flag { name: "--upstream", value: value.to_owned() };
        let urls = flags.upstream.iter().map(|url| Value::plain(url, place(url))).collect();
        environment::single_upstream(tree, urls, &place(&flags.upstream.join(" ")), report);
    } else if let Some((name, value)) = variable {
        let place = Place::Variable { name: name.clone(), value: value.clone() };
        let urls = Value::plain(value, place.clone()).list().unwrap_or_default();
        environment::single_upstream(tree, urls, &place, report);
    }
}

fn overlay_flags(tree: &mut Table, flags: &Flags) {
    if !flags.listen.is_empty() {
        let listeners = flags.listen.iter().map(|address| {
            let place = Place::Flag { name: "--listen", value: address.clone() };
            let mut table = Table::new(place.clone());
            table.set("address", place.clone(), Node::Value(Value::plain(address, place)));
            table
        });
        let listeners = listeners.collect();
        tree.set("listener", Place::Nowhere, Node::Tables(listeners));
    }
    let flags = [
        ("spool", "path", "--spool", &flags.spool),
        ("clock", "speed", "--speed", &flags.speed),
        ("retry", "preset", "--preset", &flags.preset),
    ];
    for (section, key, name, value) in flags {
        let Some(value) = value else { continue };
        let place = Place::Flag { name, value: value.clone() };
        if tree.get(section).is_none() {
            tree.set(section, place.clone(), Node::Table(Table::new(place.clone())));
        }
        let entry = tree.entries.iter_mut().find(|entry| entry.name == section);
        if let Some(Node::Table(table)) = entry.map(|entry| &mut entry.node) {
            let node = Node::Value(Value { kind: Kind::Plain(value.clone()), place: place.clone() });
            table.set(key, place, node);
        }
    }
}
