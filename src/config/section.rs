//! Reading one section: each key is asked for by name, and what nobody asked for is a fault.
//!
//! Contract: a getter gives the value, or nothing when the key is absent or faulty; the fault is then in the report,
//! so that the caller takes the default and reads on. [`Section::done`] reports the keys that nobody knows.
//! Invariants: every fault of a section is found in one reading.
//! Not here: which keys a section has (`elements`).

use std::time::Duration;

use super::fault::Report;
use super::quantity::{self, Mismatch};
use super::tree::{Entry, Node, Place, Table, Value};

/// A section while it is read.
pub(crate) struct Section<'a> {
    table: Option<&'a Table>,
    /// As it is called in faults: `retry`, `upstream.main`; empty for the top level.
    name: String,
    /// As it stands in a file: `[retry]`, `[[listener]]`.
    heading: String,
    known: Vec<&'static str>,
    pub report: &'a Report,
}

/// A value that was read, with its place.
pub(crate) struct At<'a, T> {
    pub value: T,
    pub place: &'a Place,
}

impl<'a> Section<'a> {
    pub fn top(table: &'a Table, report: &'a Report) -> Self {
        Self {
            table: Some(table),
            name: String::new(),
            heading: "the top level".into(),
            known: vec![],
            report,
        }
    }

    /// Where the section begins; nowhere when it is not there.
    pub fn place(&self) -> &'a Place {
        self.table.map_or(&Place::Nowhere, |table| &table.place)
    }

    /// Where the value of `key` stands, or the section where it has none.
    pub fn place_of(&self, key: &str) -> &'a Place {
        self.place_at(&[key])
    }

    /// The same for a key further below.
    pub fn place_at(&self, path: &[&str]) -> &'a Place {
        self.table.map_or(&Place::Nowhere, |table| table.place_at(path))
    }

    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// Whether the list stands there with nothing in it.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let node = self.table.and_then(|table| table.get(key)).map(|entry| &entry.node);
        matches!(node, Some(Node::Value(value)) if value.list().is_some_and(|list| list.is_empty()))
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The section below this one, which may be absent.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let entry = self.entry(key);
        let table = entry.and_then(|entry| match &entry.node {
            Node::Table(table) => Some(table),
            _ => {
                let expected = Some(format!("a section, [{key}]"));
                let hint = Some(format!("write [{key}] on a line of its own, and its keys below it"));
                self.report.fault(&entry.place, format!("{key} is not a section"), expected, hint);
                None
            }
        });
        let name = self.path(key);
        Section { table, heading: format!("[{name}]"), name, known: vec![], report: self.report }
    }

    /// The values of a section whose keys are names of the writer's choice: `{ main = "...", spare = "..." }`.
    pub fn named_values(&mut self, key: &'static str) -> Vec<(&'a str, &'a Place, &'a Value)> {
        let all = self.section(key);
        let mut named = Vec::new();
        for entry in all.table.into_iter().flat_map(|table| &table.entries) {
            match &entry.node {
                Node::Value(value) => named.push((entry.name.as_str(), &entry.place, value)),
                Node::Table(_) | Node::Tables(_) => {
                    let problem = format!("{} is a section, not a value", all.path(&entry.name));
                    let expected = Some(format!("{} = and a value", entry.name));
                    self.report.fault(&entry.place, problem, expected, None);
                }
            }
        }
        named
    }

    /// The named sections below `key`: `[upstream.main]`.
    pub fn named(&mut self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let all = self.section(key);
        let mut named = Vec::new();
        for entry in all.table.into_iter().flat_map(|table| &table.entries) {
            let Node::Table(table) = &entry.node else {
                let expected = Some(format!("a section with a name of your choice, such as [{key}.main]"));
                let problem = format!("{} stands in [{key}] itself", entry.name);
                let hint = Some(format!("write [{key}.main] above it"));
                self.report.fault(&entry.place, problem, expected, hint);
                continue;
            };
            let name = format!("{key}.{}", entry.name);
            let heading = format!("[{name}]");
            let section = Section { table: Some(table), name, heading, known: vec![], report: self.report };
            named.push((entry.name.as_str(), section));
        }
        named
    }

    /// The sections that may stand several times: `[[listener]]`.
    pub fn repeated(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Node::Tables(tables) = &entry.node else {
            let expected = Some(format!("[[{key}]] in double brackets, as there may be several"));
            let hint = Some(format!("write [[{key}]]"));
            self.report.fault(&entry.place, format!("{key} is not a list of sections"), expected, hint);
            return Vec::new();
        };
        let section = |table| Section {
            table: Some(table),
            name: key.into(),
            heading: format!("[[{key}]]"),
            known: vec![],
            report: self.report,
        };
        tables.iter().map(section).collect()
    }

    /// A value as `parse` reads it.
    pub fn at<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Mismatch>,
    ) -> Option<At<'a, T>> {
        let value = self.value(key)?;
        match parse(value) {
            Ok(parsed) => Some(At { value: parsed, place: &value.place }),
            Err(mismatch) => {
                self.mismatch(key, value, mismatch);
                None
            }
        }
    }

    pub fn get<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Result<T, Mismatch>) -> Option<T> {
        self.at(key, parse).map(|at| at.value)
    }

    /// Each member as `parse` reads it; members that are faulty are left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Mismatch>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let Some(members) = value.list() else {
            let mismatch = match value.text() {
                Some(text) => Mismatch::new("a list").hint(format!("write [{text:?}]")),
                None => Mismatch::new("a list, such as [\"a\", \"b\"]"),
            };
            self.mismatch(key, value, mismatch);
            return None;
        };
        let mut parsed = Vec::new();
        for member in &members {
            match parse(member) {
                Ok(member) => parsed.push(member),
                Err(mismatch) => self.mismatch(key, member, mismatch),
            }
        }
        Some(parsed)
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        let entry = self.entry(key)?;
        match &entry.node {
            Node::Value(value) => Some(value),
            Node::Table(_) | Node::Tables(_) => {
                let problem = format!("{} is a section, not a value", self.path(key));
                let expected = Some(format!("{key} = and a value"));
                self.report.fault(&entry.place, problem, expected, None);
                None
            }
        }
    }

    fn mismatch(&self, key: &str, value: &Value, mismatch: Mismatch) {
        let problem = format!("{} is {}", self.path(key), value.describe());
        self.report.fault(&value.place, problem, Some(mismatch.expected), mismatch.hint);
    }

    pub fn text(&mut self, key: &'static str) -> Option<At<'a, String>> {
        self.at(key, |value| value.text().map(str::to_owned).ok_or_else(|| Mismatch::new("text in quotes")))
    }

    /// At least `min`.
    pub fn duration(&mut self, key: &'static str, min: Duration) -> Option<Duration> {
        self.get(key, |value| {
            let duration = quantity::duration(value)?;
            let least = humantime::format_duration(min);
            if duration < min { Err(Mismatch::new(format!("at least \"{least}\""))) } else { Ok(duration) }
        })
    }

    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        self.get(key, quantity::size)
    }

    /// A whole number from `min` to `max`.
    pub fn count(&mut self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        self.get(key, |value| {
            let number = value.integer().and_then(|number| u32::try_from(number).ok());
            number
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| Mismatch::new(format!("a whole number from {min} to {max}")))
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.get(key, |value| value.boolean().ok_or_else(|| Mismatch::new("true or false, without quotes")))
    }

    /// A number for which `fits` holds.
    pub fn number(&mut self, key: &'static str, expected: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        self.get(key, |value| value.number().filter(|n| fits(*n)).ok_or_else(|| Mismatch::new(expected)))
    }

    /// One of the words of a table.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.get(key, |value| {
            let found = words.iter().find(|(word, _)| value.text() == Some(word));
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let mismatch = Mismatch::new(format!("one of {}", quoted(&all)));
                match value.text().and_then(|text| nearest(text, &all)) {
                    Some(word) => mismatch.hint(format!("write \"{word}\"")),
                    None => mismatch,
                }
            })
        })
    }

    /// A key that must be there.
    pub fn require<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            let problem = format!("{} has no {key}", self.heading);
            self.report.fault(self.place(), problem, None, Some(format!("add {key} = {example}")));
        }
        value
    }

    /// Reports a key that this version does not know yet, but the next ones will.
    pub fn not_yet(&mut self, key: &'static str) {
        let known = self.known.len();
        if let Some(entry) = self.entry(key) {
            let problem = format!("{} is not in this version", self.path(key));
            self.report.fault(&entry.place, problem, None, Some("take it out".into()));
        }
        // Nobody shall be told to write it.
        if !self.has(key) {
            self.known.truncate(known);
        }
    }

    /// Reports every key that nobody has asked for.
    pub fn done(self) {
        for entry in self.table.into_iter().flat_map(|table| &table.entries) {
            if self.known.contains(&entry.name.as_str()) {
                continue;
            }
            let mut names = self.known.clone();
            names.sort_unstable();
            let expected = Some(format!("one of {}", quoted(&names)));
            if let Place::Variable { name: variable, .. } = &entry.place {
                let near = self.missing_underscore(&entry.name);
                let near = near.or_else(|| nearest(&entry.name, &self.known).map(str::to_uppercase));
                let hint = match near {
                    Some(near) => {
                        format!("write {}", variable.replacen(&entry.name.to_uppercase(), &near, 1))
                    }
                    None => "unset it; sections and keys are joined by two underscores".into(),
                };
                self.report.fault(&entry.place, "no setting has this name", expected, Some(hint));
                continue;
            }
            let problem = match self.name.as_str() {
                "" => format!("there is no section and no key called \"{}\"", entry.name),
                _ => format!("no key in {} is called \"{}\"", self.heading, entry.name),
            };
            let hint = nearest(&entry.name, &self.known).map(|near| format!("write \"{near}\""));
            self.report.fault(&entry.place, problem, expected, hint);
        }
    }

    /// `retry_preset` was meant as `RETRY__PRESET`.
    fn missing_underscore(&self, name: &str) -> Option<String> {
        let (section, key) = name.split_once('_')?;
        self.known.contains(&section).then(|| format!("{section}__{key}").to_uppercase())
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// The word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let near = words.iter().map(|known| (strsim::jaro_winkler(word, known), *known));
    near.filter(|(nearness, _)| *nearness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
