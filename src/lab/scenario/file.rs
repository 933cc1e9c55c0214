//! The whole scenario, from its file.
//!
//! Contract: every fault of the file at once, in the order of the lines; what works but is probably not meant is a
//! warning. Nothing is played for it.
//! Not here: the parts (`message`, `scripted`, `record`, `change`, `settings`, `expect`), and what only shows when
//! they are seen together (`sense`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expect::{Expectations, Known};
use super::record::Record;
use super::scripted::{self, Scripted};
use super::sense::{self, People};
use super::{Change, Message, Settings};
use crate::clock::Timestamp;
use crate::config::fault::Report;
use crate::config::load::{read_file, read_text};
use crate::config::quantity::{self, Mismatch};
use crate::config::section::Section;
use crate::config::tree::{Kind, Place, Table, Value};
use crate::config::{Faults, Warning};
use crate::lab::FRIDAY_NOON;

/// A scenario that is in order.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub path: PathBuf,
    /// The file's name where it gives none.
    pub title: String,
    /// The chance in everything.
    pub seed: u64,
    pub start: Timestamp,
    /// By then nothing may wait any more; since the start.
    pub limit: Duration,
    /// Mail goes by the zone's MX records, and not straight to the upstreams.
    pub via_mx: bool,
    pub settings: Settings,
    /// In the order of preference.
    pub upstreams: Vec<Scripted>,
    pub zone: Vec<Record>,
    pub messages: Vec<Message>,
    pub changes: Vec<Change>,
    pub expectations: Expectations,
    /// What works but is probably not meant.
    pub warnings: Vec<Warning>,
    pub(super) zone_place: Place,
}

const DAY: Duration = Duration::from_secs(86_400);
/// The longest story: ten years, as durations are read.
const LIMIT_MAX: Duration = Duration::from_secs(315_576_000);
const VIA: [(&str, bool); 2] = [("upstreams", false), ("mx", true)];
const START: &str = "a moment, such as \"2026-11-20T12:00:00Z\"";

impl Scenario {
    /// Reads a file and reports every fault.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let (report, tree) = read_file("scenario", path)?;
        Self::of(path, &tree, report)
    }

    /// The same of a text, which is called `path` in faults.
    pub fn read(path: &Path, text: &str) -> Result<Self, Faults> {
        let (report, tree) = read_text("scenario", path, text.to_owned())?;
        Self::of(path, &tree, report)
    }

    fn of(path: &Path, tree: &Table, report: Report) -> Result<Self, Faults> {
        let (mut scenario, people) = Self::from_tree(path, tree, &report);
        sense::check(&scenario, &people, &report);
        match report.finish() {
            (faults, warnings) if faults.0.is_empty() => {
                scenario.warnings = warnings;
                Ok(scenario)
            }
            (faults, _) => Err(faults),
        }
    }

    /// And who is in it, as far as that can be known.
    fn from_tree(path: &Path, tree: &Table, report: &Report) -> (Self, People) {
        let mut top = Section::top(tree, report);
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let title = top.text("title").map_or_else(stem, |at| at.value);
        let seed = top.get("seed", seed).unwrap_or(1);
        let start = top.get("start", start).unwrap_or(FRIDAY_NOON);
        let limit = top.get("limit", limit);
        let via_mx = top.word("via", &VIA).unwrap_or(false);
        let settings = Settings::read(top.section("settings"));
        let upstreams = scripted::read(&mut top);
        let zone = top.list("zone", Record::read).unwrap_or_default();
        let faults_before = report.count();
        let sections = top.repeated("message");
        let is_told = !sections.is_empty() || top.has("message");
        let messages: Vec<Message> = sections.into_iter().filter_map(Message::read).collect();
        if !is_told {
            let hint = "add [[message]] with from = \"alice@example.org\" and to = [\"bob@example.com\"]";
            report.fault(
                top.place(),
                "there is no message, so that nothing happens",
                None,
                Some(hint.into()),
            );
        }
        let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let recipients: Vec<String> = messages.iter().flat_map(Message::recipients).collect();
        let senders: Vec<String> = messages.iter().flat_map(Message::senders).collect();
        let are_known = report.count() == faults_before;
        let people = People::of(&senders, &recipients, are_known);
        let whose: Option<Vec<&str>> = are_known.then(|| recipients.iter().map(String::as_str).collect());
        let changes: Vec<Change> = top
            .repeated("at")
            .into_iter()
            .map(|section| Change::read(section, &names, whose.as_deref()))
            .collect();
        let last = messages.iter().map(|m| m.at).chain(changes.iter().map(|c| c.at)).max();
        let zone_place = top.place_of("zone").clone();
        // A message may wait for its whole time, and so may the notice of its end after it.
        let whole_time = settings.expire_after().saturating_mul(2);
        let enough = last.unwrap_or_default().saturating_add(whole_time).saturating_add(DAY);
        let limit = limit.unwrap_or(enough.min(LIMIT_MAX));
        let known =
            Known { recipients, senders, upstreams: names.into_iter().map(str::to_owned).collect(), limit };
        let expectations = Expectations::read(top.section("expect"), &known);
        top.done();
        let scenario = Self {
            path: path.to_owned(),
            title,
            seed,
            start,
            limit,
            via_mx,
            settings,
            upstreams,
            zone,
            messages,
            changes,
            expectations,
            warnings: Vec::new(),
            zone_place,
        };
        (scenario, people)
    }
}

fn seed(value: &Value) -> Result<u64, Mismatch> {
    let seed = value.integer().and_then(|number| u64::try_from(number).ok());
    seed.ok_or_else(|| Mismatch::new("a whole number that is not negative"))
}

fn limit(value: &Value) -> Result<Duration, Mismatch> {
    let limit = quantity::duration(value)?;
    if (Duration::from_secs(1)..=LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Mismatch::new("a duration from \"1s\" to \"10y\""))
}

fn start(value: &Value) -> Result<Timestamp, Mismatch> {
    let text = match &value.kind {
        Kind::Date(text) => text,
        _ => value.text().ok_or_else(|| Mismatch::new(START))?,
    };
    text.parse().map_err(|_| Mismatch::new(START))
}

/// A duration as people write it: `1d 2h 30m`.
pub fn span(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace("days", "d").replace("day", "d")
}
