//! What happened, as expectations in the scenario's own file.
//!
//! Contract: a file that has `[expect]` keeps its choice of keys (`events`, `attempts`...), each with all that happened
//! under it; a file without gets all of them but `events`. Everything else in the file stays as it is, octet for octet,
//! and so do comments before and behind the keys, sections and notices of `[expect]` that stay. Of more than
//! [`WHOLE_MAX`] lines the first and the last [`ENDS`] are written, with "..." between.
//! Invariants: the same story gives the same text, and its expectations hold for the story.
//! Not here: what the lines say (`lines`, `recipients`, `notices`).

use std::collections::BTreeMap;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::pattern::{Line, Step};
use super::{lines, notices, recipients};
use crate::lab::Story;

/// So many lines are written whole.
const WHOLE_MAX: usize = 12;
/// Of more, so many from each end.
const ENDS: usize = 3;
/// A list that is wider stands on several lines.
const WIDTH: usize = 100;

/// Why the expectations could not be put into the file.
#[derive(Debug, thiserror::Error)]
#[error("this is not TOML, so no expectations can be written into it; check the scenario first")]
pub struct WriteError(#[from] toml_edit::TomlError);

/// The file's text, with `[expect]` as it happened.
pub fn write(text: &str, story: &Story) -> Result<String, WriteError> {
    let mut document: DocumentMut = text.parse()?;
    let section = section(&mut document);
    let chosen: Vec<String> = section.iter().map(|(key, _)| key.to_owned()).collect();
    let wants = |key: &str| match chosen.is_empty() {
        true => key != "events",
        false => chosen.iter().any(|chosen| chosen == key),
    };
    let fates = recipients::fates(story);
    if wants("events") {
        set(section, "events", list(&lines::events(story)));
    }
    if wants("received") {
        let names = story.received.keys().chain(story.addresses.keys());
        let received = names.map(|name| (name.clone(), list(&lines::received(story, name))));
        set_named(section, "received", received.collect());
    }
    if wants("attempts") {
        let attempts = fates.iter().map(|(recipient, fate)| (recipient.clone(), list(&fate.attempts)));
        set_named(section, "attempts", attempts.collect());
    }
    if wants("outcomes") {
        let outcomes = fates.iter().map(|(recipient, fate)| (recipient.clone(), outcomes(&fate.outcomes)));
        set_named(section, "outcomes", outcomes.collect());
    }
    if wants("notice") || wants("notices") {
        set_notices(section, &notices::notices(story));
    }
    let has_values = section.iter().any(|(_, item)| item.is_value());
    section.set_implicit(!has_values);
    let written = document.to_string();
    // The writer ends every line with LF.
    Ok(if text.contains("\r\n") { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written })
}

/// `[expect]`, at the end of the file where it is not there yet.
fn section(document: &mut DocumentMut) -> &mut Table {
    let item = document.entry("expect").or_insert_with(|| {
        let mut table = Table::new();
        table.set_position(Some(isize::MAX));
        Item::Table(table)
    });
    let section = as_table(item);
    if section.is_dotted() {
        section.set_dotted(false);
        section.set_position(Some(isize::MAX));
    }
    section
}

/// The item as a table; what is none gives way to an empty one.
fn as_table(item: &mut Item) -> &mut Table {
    if !item.is_table() {
        let table = std::mem::take(item).into_table().unwrap_or_default();
        *item = Item::Table(table);
    }
    item.as_table_mut().expect("it is one now")
}

/// In place of what stands there, with the comments around it.
fn set(table: &mut Table, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(item) => {
            if let Item::Value(old) = item {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// A section of names and values; names that nothing happened to are taken out.
fn set_named(section: &mut Table, key: &str, values: BTreeMap<String, Value>) {
    if values.is_empty() {
        section.remove(key);
        return;
    }
    if section.get(key).is_some_and(|item| !item.is_table())
        && let Some(mut key) = section.key_mut(key)
    {
        // The blanks of `attempts = {}` have no place in a heading.
        key.fmt();
    }
    let table = as_table(section.entry(key).or_insert_with(|| Item::Table(Table::new())));
    table.retain(|name, _| values.contains_key(name));
    for (name, value) in values {
        set(table, &name, value);
    }
}

fn set_notices(section: &mut Table, notices: &[Line]) {
    if notices.is_empty() {
        section.remove("notice");
        set(section, "notices", Value::Array(Array::new()));
        return;
    }
    section.remove("notices");
    let item = section.entry("notice").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    if !item.is_array_of_tables() {
        *item = Item::ArrayOfTables(std::mem::take(item).into_array_of_tables().unwrap_or_default());
    }
    let tables = item.as_array_of_tables_mut().expect("it is one now");
    while tables.len() > notices.len() {
        tables.remove(tables.len() - 1);
    }
    for (index, notice) in notices.iter().enumerate() {
        if index == tables.len() {
            tables.push(Table::new());
        }
        set_notice(tables.get_mut(index).expect("it was added"), notice);
    }
}

fn set_notice(table: &mut Table, notice: &Line) {
    let mut words = notice.text.split(' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    let (to, action) = (next(), next());
    // What follows, up to "about", is one status for each recipient; none where no upstream has kept the notice.
    let statuses: Vec<String> = words.take_while(|word| *word != "about").map(str::to_owned).collect();
    let values = [
        ("to", Some(to.into())),
        ("at", Some(notice.time(false).into())),
        ("action", Some(action.into())),
        ("status", (!statuses.is_empty()).then(|| statuses.join(" ").into())),
        ("words", notice.body.as_deref().map(said)),
    ];
    for (key, value) in values {
        match value {
            Some(value) => set(table, key, value),
            None => {
                table.remove(key);
            }
        }
    }
}

/// What a notice's text says first, and of a delay how long it goes on.
fn said(body: &str) -> Value {
    let clause = |text: &str, ends: &[char]| text.split(ends).next().unwrap_or_default().trim().to_owned();
    let mut said = vec![clause(body, &[':', '.', '\u{ff1a}', '\u{3002}'])];
    let goes_on = body.find("will keep trying").map(|at| clause(&body[at..], &['(', '.']));
    said.extend(goes_on);
    said.retain(|words| !words.is_empty());
    Value::Array(said.into_iter().collect())
}

/// The lines, of many only the ends.
fn list(lines: &[Line]) -> Value {
    array(lines.iter().map(Line::written).collect())
}

fn array(mut lines: Vec<String>) -> Value {
    if lines.len() > WHOLE_MAX {
        lines.splice(ENDS..lines.len() - ENDS, [Step::ANY.to_owned()]);
    }
    let width: usize = lines.iter().map(|line| line.chars().count() + 4).sum();
    let mut array: Array = lines.into_iter().collect();
    if width > WIDTH {
        for line in array.iter_mut() {
            line.decor_mut().set_prefix("\n    ");
        }
        array.set_trailing_comma(true);
        array.set_trailing("\n");
    }
    Value::Array(array)
}

/// A text where there is one message.
fn outcomes(lines: &[Line]) -> Value {
    match lines {
        [line] => outcome(line).into(),
        _ => array(lines.iter().map(outcome).collect()),
    }
}

/// The outcome first, then its time.
fn outcome(line: &Line) -> String {
    let (word, details) = line.text.split_once(' ').unwrap_or((line.text.as_str(), ""));
    [word, &line.time(false), details]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
