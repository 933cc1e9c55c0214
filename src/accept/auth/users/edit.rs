//! Changes to the users file.
//!
//! Contract: the file is replaced whole (a new file beside it, fsync, rename), with its comments, owner and mode, but that
//! others may not read it. Two changes at one time come one after the other.
//! Invariants: what would have a fault is not written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, Gid, Uid, fchown, flock};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::super::scram_keys::KEY;
use super::super::{ScramKeys, prepared};
use super::list::{DECOY, USER};
use super::password_hash::{self, Cost, chance};
use super::{UsersError, UsersFile, file};
use crate::mail::SenderPattern;

const HEAD: &str = "\
# The users of posthouse: change it by `posthouse user add|list|remove`, or by hand; comments stay. A user may have
# senders = [\"alice@example.org\", \"*@example.org\"], to send as these and no others, and disabled = true.
# Keep it from others: from what stands here passwords can be guessed at leisure.
";

/// A user to be added.
#[derive(Clone)]
pub struct NewUser<'a> {
    pub name: &'a str,
    pub password: &'a str,
    /// Patterns of [`SenderPattern`]; `None`: any sender, or as before.
    pub senders: Option<Vec<String>>,
    /// Whether a user of this name gets the new password, and keeps the rest.
    pub replace: bool,
    pub cost: Cost,
}

impl<'a> NewUser<'a> {
    /// Who may send as anybody, at the usual cost.
    pub fn new(name: &'a str, password: &'a str) -> Self {
        Self { name, password, senders: None, replace: false, cost: Cost::default() }
    }
}

impl UsersFile {
    /// Adds a user, and makes the file if there is none. Gives the name as it is kept, prepared by SASLprep.
    pub fn add(path: &Path, user: &NewUser<'_>) -> Result<String, UsersError> {
        let name = prepared::name(user.name).ok_or_else(|| UsersError::Name(user.name.to_owned()))?;
        let password = prepared::password(user.password).ok_or(UsersError::Password)?;
        let hash = password_hash::hash(&password, user.cost).ok_or(UsersError::Password)?;
        let keys = ScramKeys::new(&password).ok_or(UsersError::Password)?;
        let senders: Option<Vec<SenderPattern>> = match &user.senders {
            Some(senders) => Some(senders.iter().map(|text| text.parse()).collect::<Result<_, _>>()?),
            None => None,
        };
        change(path, |document| {
            let tables = document.entry(USER).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
            let tables = tables.as_array_of_tables_mut().expect("the file was in order");
            let known = tables.iter().position(|table| is_named(table, &name));
            let index = match known {
                Some(_) if !user.replace => return Err(UsersError::Exists(name.clone())),
                Some(index) => index,
                None => {
                    tables.push(Table::new());
                    tables.len() - 1
                }
            };
            let table = tables.get_mut(index).expect("it was found, or has just been put there");
            table["name"] = value(&name);
            set(table, "password", hash);
            set(table, "scram", keys.to_string());
            if let Some(senders) = &senders {
                let list: toml_edit::Array = senders.iter().map(ToString::to_string).collect();
                table["senders"] = value(list);
            }
            Ok(())
        })?;
        Ok(name)
    }

    /// Takes a user out.
    pub fn remove(path: &Path, name: &str) -> Result<(), UsersError> {
        let prepared = prepared::name(name).ok_or_else(|| UsersError::Absent(name.to_owned()))?;
        if !path.exists() {
            let source = io::ErrorKind::NotFound.into();
            return Err(UsersError::Read { path: path.to_owned(), source });
        }
        change(path, |document| {
            let tables = document.get_mut(USER).and_then(Item::as_array_of_tables_mut);
            let found = tables.and_then(|tables| {
                let index = tables.iter().position(|table| is_named(table, &prepared))?;
                tables.remove(index);
                Some(())
            });
            found.ok_or_else(|| UsersError::Absent(prepared.clone()))
        })
    }
}

/// A value in the place of the one before, with the comment behind it.
fn set(table: &mut Table, key: &str, text: String) {
    let mut new = toml_edit::Value::from(text);
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table[key] = Item::Value(new);
}

fn is_named(table: &Table, name: &str) -> bool {
    table.get("name").and_then(Item::as_str) == Some(name)
}

fn change(
    path: &Path,
    edit: impl FnOnce(&mut DocumentMut) -> Result<(), UsersError>,
) -> Result<(), UsersError> {
    // A link stays one: what it leads to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |source| UsersError::Write { path: path.clone(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Held until the end: whoever else changes a users file in this folder waits.
    let folder = File::open(folder).map_err(failed)?;
    flock(&folder, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{HEAD}\n{DECOY} = \"{}\"\n", STANDARD.encode(chance::<KEY>()))
        }
        Err(source) => return Err(UsersError::Read { path, source }),
    };
    file::parse(&path, &text)?;
    let mut document: DocumentMut = text.parse().expect("it was read a moment ago");
    edit(&mut document)?;
    let text = document.to_string();
    file::parse(&path, &text)?;
    replace(&path, &folder, &text).map_err(failed)
}

fn replace(path: &Path, folder: &File, text: &str) -> io::Result<()> {
    let mut beside: PathBuf = path.to_owned();
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    beside.set_file_name(format!(".{}.new", name.display()));
    // Left by one that was interrupted: nobody else is here, since the folder is locked.
    let _ = std::fs::remove_file(&beside);
    let written = write(&beside, path, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    folder.sync_all()
}

/// The whole new file, durable, with the old one's owner, and its mode but for others.
fn write(beside: &Path, old: &Path, text: &str) -> io::Result<()> {
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    if let Ok(old) = old.metadata() {
        let own = new.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&new, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
        }
        new.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o770))?;
    }
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

    fn user<'a>(name: &'a str, password: &'a str) -> NewUser<'a> {
        NewUser { cost: CHEAP, ..NewUser::new(name, password) }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_holds_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        UsersFile::add(&path, &user("alice", "s3cret")).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let text = read(&path);
        assert!(text.starts_with("# The users of posthouse") && !text.contains("s3cret"), "{text}");
        let rows = UsersFile::open(&path).unwrap().rows();
        assert_eq!(
            rows.iter().map(|row| (row.name.as_str(), row.scram)).collect::<Vec<_>>(),
            [("alice", true)]
        );
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn comments_and_all_that_was_not_asked_for_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        UsersFile::add(
            &path,
            &NewUser { senders: Some(vec!["*@example.org".into()]), ..user("alice", "one") },
        )
        .unwrap();
        let text = read(&path).replace("[[user]]", "# The first of all.\n[[user]]");
        std::fs::write(&path, text + "disabled = true # for now\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        UsersFile::add(&path, &user("bob", "two")).unwrap();
        UsersFile::add(&path, &NewUser { replace: true, ..user("alice", "three") }).unwrap();
        let text = read(&path);
        for kept in
            ["# The first of all.\n[[user]]\nname = \"alice\"", "disabled = true # for now", "*@example.org"]
        {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        UsersFile::remove(&path, "bob").unwrap();
        assert_eq!(UsersFile::open(&path).unwrap().rows().len(), 1);
        assert!(matches!(UsersFile::remove(&path, "bob"), Err(UsersError::Absent(_))));
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        assert!(matches!(UsersFile::remove(&path, "alice"), Err(UsersError::Read { .. })));
        UsersFile::add(&path, &user("alice", "one")).unwrap();
        let before = read(&path);
        assert!(matches!(UsersFile::add(&path, &user("alice", "two")), Err(UsersError::Exists(_))));
        assert!(matches!(UsersFile::add(&path, &user("a\u{7}", "two")), Err(UsersError::Name(_))));
        assert!(matches!(UsersFile::add(&path, &user("bob", "")), Err(UsersError::Password)));
        let senders = Some(vec!["everybody".into()]);
        assert!(matches!(
            UsersFile::add(&path, &NewUser { senders, ..user("bob", "two") }),
            Err(UsersError::Sender(_))
        ));
        assert_eq!(read(&path), before);
        std::fs::write(&path, "[[user]]\nname = 1\n").unwrap();
        assert!(matches!(UsersFile::add(&path, &user("bob", "two")), Err(UsersError::Fault { line: 2, .. })));
        assert_eq!(read(&path), "[[user]]\nname = 1\n");
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || UsersFile::add(path, &user(&format!("user{number}"), "pw")).unwrap());
            }
        });
        assert_eq!(UsersFile::open(&path).unwrap().rows().len(), 8);
    }
}
