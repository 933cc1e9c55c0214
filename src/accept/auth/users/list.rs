//! The users as one reading of the file found them.
//!
//! Contract: [`Users::parse`] gives all users, or the first thing that is wrong, with its line. An unknown key is a fault.
//! Not here: when the file is read (`file`), how it is changed (`edit`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use toml_edit::{Document, Item, Table};

use super::super::scram_keys::KEY;
use super::super::{ScramKeys, prepared};
use super::password_hash::{self, Cost};
use super::proven::Proven;
use crate::mail::SenderPattern;

/// The key of what decoys are made from.
pub(super) const DECOY: &str = "decoy";
pub(super) const USER: &str = "user";

/// One user, as `posthouse user list` shows him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserRow {
    pub name: String,
    /// `None`: any.
    pub senders: Option<Vec<String>>,
    /// Whether the keys for SCRAM-SHA-256 are there; the password is in any case.
    pub scram: bool,
    pub disabled: bool,
}

struct User {
    hash: String,
    scram: Option<ScramKeys>,
    senders: Option<Arc<[SenderPattern]>>,
    disabled: bool,
}

pub(super) struct Users {
    users: BTreeMap<String, User>,
    /// What unknown names are compared with.
    nobodys_hash: String,
    decoy: [u8; KEY],
    pub proven: Proven,
}

/// What is wrong, and at which octets of the text.
pub(super) struct Fault {
    pub span: Option<Range<usize>>,
    pub problem: String,
}

impl Users {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let document = Document::parse(text).map_err(|error| Fault {
            span: error.span(),
            problem: format!("this is not TOML: {}", error.message().trim().replace('\n', "; ")),
        })?;
        let mut users = BTreeMap::new();
        let mut decoy = None;
        for (key, item) in document.iter() {
            let span = document.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            match (key, item) {
                (DECOY, item) => {
                    decoy = Some(read_decoy(item).ok_or_else(|| wrong(item, "32 octets in base64"))?)
                }
                (USER, Item::ArrayOfTables(tables)) => {
                    for table in tables {
                        let (name, user) = read_user(table)?;
                        if users.insert(name.clone(), user).is_some() {
                            let problem = format!("{name:?} is a user twice; take one of the two out");
                            return Err(Fault { span: table.span(), problem });
                        }
                    }
                }
                _ => {
                    let problem = format!("nothing here is called {key:?}; users stand below [[user]]");
                    return Err(Fault { span, problem });
                }
            }
        }
        let cost = users.values().next().map_or_else(Cost::default, |user: &User| Cost::of(&user.hash));
        Ok(Self {
            users,
            nobodys_hash: password_hash::nobodys(cost),
            decoy: decoy.unwrap_or_else(password_hash::chance),
            proven: Proven::new(),
        })
    }

    /// What to compare a password with, and whether it counts if it fits.
    pub fn hash(&self, name: &str) -> (&str, bool) {
        self.users.get(name).map_or((&self.nobodys_hash, false), |user| (&user.hash, !user.disabled))
    }

    /// The user's keys; for anybody else such that fit no password.
    pub fn scram_keys(&self, name: &str) -> ScramKeys {
        match self.users.get(name) {
            Some(User { scram: Some(keys), disabled: false, .. }) => keys.clone(),
            Some(User { scram: Some(keys), disabled: true, .. }) => keys.spoilt(&self.decoy, name),
            _ => {
                let like = self.users.values().find_map(|user| user.scram.as_ref());
                ScramKeys::decoy(&self.decoy, name, like)
            }
        }
    }

    /// Whether each user has keys: a client that prefers SCRAM must not fail by it where PLAIN would do.
    pub fn all_have_scram_keys(&self) -> bool {
        self.users.values().all(|user| user.scram.is_some())
    }

    pub fn is_user(&self, name: &str) -> bool {
        self.users.get(name).is_some_and(|user| !user.disabled)
    }

    /// What this user is held to.
    pub fn senders(&self, name: &str) -> Option<Arc<[SenderPattern]>> {
        self.users.get(name)?.senders.clone()
    }

    /// In the order of their names.
    pub fn rows(&self) -> Vec<UserRow> {
        let row = |(name, user): (&String, &User)| UserRow {
            name: name.clone(),
            senders: user.senders.as_ref().map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            scram: user.scram.is_some(),
            disabled: user.disabled,
        };
        self.users.iter().map(row).collect()
    }
}

/// No hash and no key is shown.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.users.keys()).finish()
    }
}

fn read_decoy(item: &Item) -> Option<[u8; KEY]> {
    STANDARD.decode(item.as_str()?).ok()?.try_into().ok()
}

fn wrong(item: &Item, expected: &str) -> Fault {
    Fault { span: item.span(), problem: format!("expected {expected}") }
}

fn read_user(table: &Table) -> Result<(String, User), Fault> {
    let lacks = |key: &str| Fault { span: table.span(), problem: format!("this [[user]] has no {key}") };
    let (mut name, mut hash, mut scram, mut senders, mut disabled) = (None, None, None, None, false);
    for (key, item) in table {
        match key {
            "name" => {
                let read = item.as_str().filter(|text| prepared::name(text).as_deref() == Some(text));
                name = Some(read.ok_or_else(|| wrong(item, "a name as SASLprep leaves it (RFC 4013)"))?);
            }
            "password" => {
                let read = item.as_str().filter(|text| password_hash::is_hash(text));
                let expected = "an argon2 hash, $argon2id$..., as `posthouse user add` writes it";
                hash = Some(read.ok_or_else(|| wrong(item, expected))?.to_owned());
            }
            "scram" => {
                let read = item.as_str().ok_or_else(|| wrong(item, "SCRAM-SHA-256$..."))?;
                scram = Some(
                    read.parse().map_err(|error| Fault { span: item.span(), problem: format!("{error}") })?,
                );
            }
            "senders" => senders = Some(read_senders(item)?.into()),
            "disabled" => disabled = item.as_bool().ok_or_else(|| wrong(item, "true or false"))?,
            _ => {
                let problem =
                    format!("a [[user]] has no {key:?}, but name, password, scram, senders and disabled");
                let span = table.key(key).and_then(toml_edit::Key::span);
                return Err(Fault { span, problem });
            }
        }
    }
    let name = name.ok_or_else(|| lacks("name"))?.to_owned();
    Ok((name, User { hash: hash.ok_or_else(|| lacks("password"))?, scram, senders, disabled }))
}

fn read_senders(item: &Item) -> Result<Vec<SenderPattern>, Fault> {
    let expected = "a list of addresses, such as [\"alice@example.org\", \"*@example.org\"]";
    let list = item.as_array().ok_or_else(|| wrong(item, expected))?;
    let read = |value: &toml_edit::Value| {
        let text = value.as_str().ok_or_else(|| wrong(item, expected))?;
        text.parse()
            .map_err(|error| Fault { span: value.span(), problem: format!("{text:?} is no sender: {error}") })
    };
    list.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn fault(text: &str) -> (usize, String) {
        let text = text.replace("HASH", HASH);
        let fault = Users::parse(&text).map(|_| ()).map_err(|fault| (fault.span, fault.problem)).unwrap_err();
        let line = text[..fault.0.map_or(0, |span| span.start)].matches('\n').count() + 1;
        (line, fault.1)
    }

    #[test]
    fn each_fault_has_its_line_and_says_what_was_expected() {
        for (text, line, problem) in [
            ("x = ", 1, "this is not TOML"),
            ("\nusers = 1", 2, "users stand below [[user]]"),
            ("decoy = \"abc\"", 1, "32 octets"),
            ("[[user]]\nname = \"a\"\n", 1, "no password"),
            ("[[user]]\npassword = \"HASH\"\n", 1, "no name"),
            ("[[user]]\nname = \"a\\u0007\"", 2, "SASLprep"),
            ("[[user]]\nname = \"a\"\npassword = \"s3cret\"", 3, "posthouse user add"),
            ("[[user]]\nname = \"a\"\npassword = \"HASH\"\nscram = \"x\"", 4, "RFC 5803"),
            ("[[user]]\nname = \"a\"\npassword = \"HASH\"\nsenders = [\"bob\"]", 4, "\"bob\" is no sender"),
            ("[[user]]\nname = \"a\"\npassword = \"HASH\"\nsender = []", 4, "no \"sender\""),
            (
                "[[user]]\nname = \"a\"\npassword = \"HASH\"\n[[user]]\nname = \"a\"\npassword = \"HASH\"",
                4,
                "twice",
            ),
        ] {
            let (at, said) = fault(text);
            assert!(at == line && said.contains(problem), "{text}: {at}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn unknown_and_disabled_users_have_hashes_and_keys_that_nothing_fits() {
        let keys = ScramKeys::derive("pw", b"saltsalt", 4096).unwrap();
        let user =
            |name: &str, more: &str| format!("[[user]]\nname = {name:?}\npassword = \"{HASH}\"\n{more}\n");
        let text = format!(
            "decoy = \"{}\"\n{}{}",
            STANDARD.encode([7; KEY]),
            user("alice", &format!("scram = \"{keys}\"")),
            user("bob", &format!("scram = \"{keys}\"\ndisabled = true"))
        );
        let users = Users::parse(&text).unwrap_or_else(|fault| panic!("{}", fault.problem));
        assert_eq!(users.scram_keys("alice"), keys);
        let (bob, nobody) = (users.scram_keys("bob"), users.scram_keys("carol"));
        assert!(bob != keys && bob.salt == keys.salt && nobody != keys);
        assert_eq!((nobody.salt.len(), nobody.iterations), (8, 4096), "as those of a known one");
        assert_eq!(Users::parse(&text).map(|again| again.scram_keys("carol")).ok(), Some(nobody));
        assert_eq!(users.hash("alice"), (HASH, true));
        assert_eq!(users.hash("bob"), (HASH, false));
        let (hash, counts) = users.hash("carol");
        assert!(hash != HASH && !counts && Cost::of(hash) == Cost::of(HASH), "as dear as a known one's");
        assert!(users.all_have_scram_keys() && !format!("{users:?}").contains("argon2"));
    }
}
