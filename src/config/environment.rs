//! The environment over the file: `POSTHOUSE_RETRY__PRESET=exchange` is `preset` in `[retry]`.
//!
//! Contract: a variable with our prefix sets the key that it names, in place of what the file says; lists are
//! separated by commas; an empty value counts as unset. `POSTHOUSE_UPSTREAM` (or `--upstream`) is one upstream group,
//! `main`, that takes everything, in place of all groups and routes. `POSTHOUSE_CONFIG` and `POSTHOUSE_LOG` are the
//! command line's. The variables that Kubernetes makes for a service called `posthouse` are passed over.
//! Invariants: a variable that names no setting is a fault (found by the section, as in the file).

use super::fault::Report;
use super::tree::{Node, Place, Table, Value};

const PREFIX: &str = "POSTHOUSE_";
/// Not settings of a relay.
const OF_THE_PROGRAM: [&str; 2] = ["POSTHOUSE_CONFIG", "POSTHOUSE_LOG"];
pub(super) const UPSTREAM: &str = "POSTHOUSE_UPSTREAM";
/// The sections that may stand several times in a file.
const REPEATED: [&str; 3] = ["limit", "listener", "route"];

/// The variables that are settings, in the order of their names.
pub(super) fn settings(environment: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, value)| {
            name.starts_with(PREFIX)
                && !value.is_empty()
                && !OF_THE_PROGRAM.contains(&name.as_str())
                && !is_of_kubernetes(name)
        })
        .collect();
    settings.sort();
    settings
}

fn is_of_kubernetes(name: &str) -> bool {
    let name = &name[PREFIX.len()..];
    name == "PORT"
        || name.starts_with("SERVICE_HOST")
        || name.starts_with("SERVICE_PORT")
        || name.strip_prefix("PORT_").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// One upstream group that takes everything, in place of all groups and routes.
pub(super) fn single_upstream(top: &mut Table, urls: Vec<Value>, place: &Place, report: &Report) {
    let (groups, routes) = (top.remove("upstream"), top.remove("route"));
    if let Some(replaced) = groups.or(routes) {
        let what = match place {
            Place::Flag { name, .. } => *name,
            _ => UPSTREAM,
        };
        report.warn(
            &replaced.place,
            format!("{what} replaces all [upstream] groups and [[route]]s of the file"),
            format!("leave {what} out to use them"),
        );
    }
    let mut main = Table::new(place.clone());
    let hosts = Value { kind: super::tree::Kind::List(urls), place: place.clone() };
    main.set("hosts", place.clone(), Node::Value(hosts));
    let mut groups = Table::new(place.clone());
    groups.set("main", place.clone(), Node::Table(main));
    top.set("upstream", place.clone(), Node::Table(groups));
}

/// Puts one variable where it belongs.
pub(super) fn set(top: &mut Table, name: &str, value: &str, report: &Report) {
    let place = Place::Variable { name: name.to_owned(), value: value.to_owned() };
    let path = name[PREFIX.len()..].to_lowercase();
    let steps: Vec<&str> = path.split("__").collect();
    let (key, sections) = steps.split_last().expect("a split yields at least one piece");
    let mut table = top;
    for (depth, section) in sections.iter().enumerate() {
        if table.get(section).is_none() {
            let new = Table::new(place.clone());
            let repeated = depth == 0 && REPEATED.contains(section);
            let node = if repeated { Node::Tables(vec![new]) } else { Node::Table(new) };
            table.set(section, place.clone(), node);
        }
        let entry = table.entries.iter_mut().find(|entry| entry.name == *section).expect("set just above");
        table = match &mut entry.node {
            Node::Table(table) => table,
            Node::Tables(tables) => match tables.as_mut_slice() {
                [only] => only,
                several => {
                    let problem = format!(
                        "the file has {} [[{section}]], and this may mean any of them",
                        several.len()
                    );
                    let hint = "change it in the file, and unset the variable";
                    report.fault(&place, problem, None, Some(hint.into()));
                    return;
                }
            },
            // The section reports that it is none.
            Node::Value(_) => return,
        };
    }
    table.set(key, place.clone(), Node::Value(Value::plain(value, place)));
}
