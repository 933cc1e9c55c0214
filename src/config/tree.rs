//! What was written, before anybody asks what it means: a tree of values, each with the place where it stands.
//!
//! Contract: file, environment and flags all become this one tree; values from the environment and from flags are
//! plain text, which may be read as whatever is asked for.
//! Not here: which keys there are (`elements`), how a variable finds its place in the tree (`environment`).

use std::ops::Range;
use std::path::PathBuf;

use toml_edit::{Item, TableLike, Value as TomlValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    WholeFile(PathBuf),
    Variable {
        name: String,
        value: String,
    },
    Flag {
        name: &'static str,
        value: String,
    },
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub place: Place,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub name: String,
    pub place: Place,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Value(Value),
    Table(Table),
    Tables(Vec<Table>),
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub kind: Kind,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Date(String),
    List(Vec<Value>),
    /// From the environment or a flag: what it is depends on what is asked for.
    Plain(String),
}

impl Table {
    pub fn new(place: Place) -> Self {
        Self { place, entries: Vec::new() }
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Where the path stands, as deep as it is there.
    pub fn place_at(&self, path: &[&str]) -> &Place {
        let Some((entry, rest)) = path.split_first().and_then(|(name, rest)| Some((self.get(name)?, rest)))
        else {
            return &self.place;
        };
        match &entry.node {
            Node::Table(table) if !rest.is_empty() => table.place_at(rest),
            Node::Table(_) | Node::Tables(_) => &entry.place,
            Node::Value(value) => &value.place,
        }
    }

    /// Puts `node` under `name`, in place of what stood there.
    pub fn set(&mut self, name: &str, place: Place, node: Node) {
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(Entry { name: name.to_owned(), place, node });
    }

    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(index))
    }

    pub fn from_toml(table: &dyn TableLike, place: Place) -> Self {
        let mut entries = Vec::new();
        for (name, item) in table.iter() {
            let key = table.key(name).and_then(toml_edit::Key::span);
            let place = key.or_else(|| item.span()).map_or(Place::Nowhere, Place::File);
            if let Some(node) = Node::from_toml(item, &place) {
                entries.push(Entry { name: name.to_owned(), place, node });
            }
        }
        Self { place, entries }
    }
}

impl Node {
    fn from_toml(item: &Item, key: &Place) -> Option<Self> {
        Some(match item {
            Item::None => return None,
            Item::Value(value) => Self::from_toml_value(value, key),
            Item::Table(table) => Self::Table(Table::from_toml(table, key.clone())),
            Item::ArrayOfTables(tables) => Self::Tables(
                tables
                    .iter()
                    .map(|table| {
                        Table::from_toml(table, table.span().map_or_else(|| key.clone(), Place::File))
                    })
                    .collect(),
            ),
        })
    }

    fn from_toml_value(value: &TomlValue, key: &Place) -> Self {
        let place = value.span().map_or_else(|| key.clone(), Place::File);
        if let TomlValue::InlineTable(table) = value {
            return Self::Table(Table::from_toml(table, place));
        }
        if let TomlValue::Array(array) = value
            && !array.is_empty()
            && array.iter().all(TomlValue::is_inline_table)
        {
            let tables = array.iter().filter_map(TomlValue::as_inline_table).map(|table| {
                Table::from_toml(table, table.span().map_or_else(|| place.clone(), Place::File))
            });
            return Self::Tables(tables.collect());
        }
        Self::Value(Value::from_toml(value, place))
    }
}

impl Value {
    pub fn plain(text: impl Into<String>, place: Place) -> Self {
        Self { kind: Kind::Plain(text.into()), place }
    }

    fn from_toml(value: &TomlValue, place: Place) -> Self {
        let kind = match value {
            TomlValue::String(text) => Kind::Text(text.value().clone()),
            TomlValue::Integer(number) => Kind::Integer(*number.value()),
            TomlValue::Float(number) => Kind::Float(*number.value()),
            TomlValue::Boolean(flag) => Kind::Boolean(*flag.value()),
            TomlValue::Datetime(date) => Kind::Date(date.value().to_string()),
            TomlValue::Array(array) => Kind::List(
                array
                    .iter()
                    .map(|value| {
                        Self::from_toml(value, value.span().map_or_else(|| place.clone(), Place::File))
                    })
                    .collect(),
            ),
            // Only inside a list of other things: shown as what it looks like.
            TomlValue::InlineTable(table) => Kind::Date(table.to_string().trim().to_owned()),
        };
        Self { kind, place }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) | Kind::Plain(text) => Some(text),
            _ => None,
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match &self.kind {
            Kind::Integer(number) => Some(*number),
            Kind::Plain(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match &self.kind {
            Kind::Boolean(flag) => Some(*flag),
            Kind::Plain(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match &self.kind {
            Kind::Float(number) => Some(*number),
            Kind::Integer(number) => Some(*number as f64),
            Kind::Plain(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The members of a list; plain text is separated by commas.
    pub fn list(&self) -> Option<Vec<Value>> {
        match &self.kind {
            Kind::List(values) => Some(values.clone()),
            Kind::Plain(text) => {
                let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
                Some(members.map(|member| Self::plain(member, self.place.clone())).collect())
            }
            _ => None,
        }
    }

    /// What stands there, for a fault: `the number 30`.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Text(text) | Kind::Plain(text) => format!("{text:?}"),
            Kind::Integer(number) => format!("the number {number}"),
            Kind::Float(number) => format!("the number {number:?}"),
            Kind::Boolean(flag) => format!("{flag}"),
            Kind::Date(date) => date.clone(),
            Kind::List(_) => "a list".into(),
        }
    }
}
