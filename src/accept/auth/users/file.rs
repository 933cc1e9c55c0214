//! The users file as it is now.
//!
//! Contract: each question looks whether the file has changed (one stat), and reads it again if so. A file that has gone
//! or has a fault in it is an error in the program's log, once, and the users stay as they were.
//! Not here: what the file holds (`list`), changes to it (`edit`).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use super::super::{Authenticator, Mechanism, ScramKeys, UsersAnswer};
use super::UsersError;
use super::hashing::Hashing;
use super::list::{UserRow, Users};
use super::password_hash::is_password;
use crate::mail::SenderPattern;

/// Users from a TOML file. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct UsersFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    read: RwLock<Read>,
    hashing: Hashing,
}

/// One reading.
#[derive(Clone, Debug)]
struct Read {
    stamp: Option<Stamp>,
    users: Arc<Users>,
}

/// What changes when the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
    mode: u32,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let data = std::fs::metadata(path)?;
        Ok(Self {
            modified: (data.mtime(), data.mtime_nsec()),
            size: data.size(),
            inode: data.ino(),
            mode: data.mode(),
        })
    }
}

/// The same file, whatever stands in it.
impl PartialEq for UsersFile {
    fn eq(&self, other: &Self) -> bool {
        self.inner.path == other.inner.path
    }
}

impl Eq for UsersFile {}

impl UsersFile {
    /// Reads the file.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, UsersError> {
        let path = path.into();
        let read = load(&path)?;
        Ok(Self { inner: Arc::new(Inner { path, read: RwLock::new(read), hashing: Hashing::new() }) })
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All users, in the order of their names, as they were last read.
    pub fn rows(&self) -> Vec<UserRow> {
        self.last_read().users.rows()
    }

    /// Whether every user of this machine may read it: hashes can be guessed at leisure, and keys of SCRAM stand for us.
    pub fn is_open_to_others(&self) -> bool {
        self.last_read().stamp.is_some_and(|stamp| stamp.mode & 0o007 != 0)
    }

    fn last_read(&self) -> Read {
        self.inner.read.read().expect("no holder panics").clone()
    }

    /// As the file is now. It is read in place: it is small, and changes seldom.
    fn users(&self) -> Arc<Users> {
        let held = self.last_read();
        let stamp = Stamp::of(&self.inner.path).ok();
        if stamp == held.stamp {
            return held.users;
        }
        let read = match load(&self.inner.path) {
            Ok(read) => {
                tracing::info!(file = %self.inner.path.display(), "the users file has changed and was read anew");
                read
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "the users stay as they were");
                Read { stamp, users: held.users }
            }
        };
        let users = Arc::clone(&read.users);
        *self.inner.read.write().expect("no holder panics") = read;
        users
    }

    #[cfg(test)]
    pub(in crate::accept::auth) fn hashes(&self) -> usize {
        self.inner.hashing.begun()
    }
}

fn load(path: &Path) -> Result<Read, UsersError> {
    // The stamp first: what changes in between is read again.
    let failed = |source| UsersError::Read { path: path.to_owned(), source };
    let stamp = Stamp::of(path).map_err(failed)?;
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let users = parse(path, &text)?;
    Ok(Read { stamp: Some(stamp), users: Arc::new(users) })
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Users, UsersError> {
    Users::parse(text).map_err(|fault| {
        let start = text.floor_char_boundary(fault.span.map_or(0, |span| span.start));
        let line = text[..start].matches('\n').count() + 1;
        UsersError::Fault { path: path.to_owned(), line, problem: fault.problem }
    })
}

impl Authenticator for UsersFile {
    fn serves(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain | Mechanism::Login => true,
            Mechanism::ScramSha256 => self.last_read().users.all_have_scram_keys(),
            Mechanism::OauthBearer | Mechanism::Xoauth2 => false,
        }
    }

    /// A hash is computed for each name, known or not, unless this very password was right less than a minute ago.
    fn password<'a>(&'a self, name: &'a str, password: &'a str) -> UsersAnswer<'a, bool> {
        Box::pin(async move {
            let users = self.users();
            if users.proven.has(name, password) {
                return Ok(true);
            }
            let (hash, counts) = users.hash(name);
            let (hash, typed) = (hash.to_owned(), password.to_owned());
            let right = self.inner.hashing.run(move || is_password(&hash, &typed)).await?;
            if right && counts {
                users.proven.remember(name, password);
            }
            Ok(right && counts)
        })
    }

    fn scram_keys<'a>(&'a self, name: &'a str) -> UsersAnswer<'a, Option<ScramKeys>> {
        Box::pin(async move { Ok(Some(self.users().scram_keys(name))) })
    }

    fn is_user(&self, name: &str) -> bool {
        self.users().is_user(name)
    }

    fn senders(&self, user: &str) -> Option<Arc<[SenderPattern]>> {
        self.users().senders(user)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cost, NewUser};
    use super::*;

    const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

    fn with_alice() -> (tempfile::TempDir, UsersFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        UsersFile::add(&path, &NewUser { cost: CHEAP, ..NewUser::new("alice", "s3cret") }).unwrap();
        (folder, UsersFile::open(path).unwrap())
    }

    #[tokio::test]
    async fn every_name_costs_one_hash_and_only_the_right_password_is_right() {
        let (_folder, users) = with_alice();
        for (name, password, right) in
            [("alice", "wrong", false), ("nobody", "s3cret", false), ("alice", "s3cret", true)]
        {
            let before = users.hashes();
            assert_eq!(users.password(name, password).await.unwrap(), right, "{name} {password}");
            assert_eq!(users.hashes() - before, 1, "{name} {password}");
        }
        // What was right a moment ago costs none; a wrong guess at the same name does.
        let before = users.hashes();
        assert!(users.password("alice", "s3cret").await.unwrap());
        assert_eq!(users.hashes(), before);
        assert!(!users.password("alice", "s3cre").await.unwrap());
        assert_eq!(users.hashes(), before + 1);
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once_and_a_broken_one_changes_nothing() {
        let (_folder, users) = with_alice();
        assert!(users.password("alice", "s3cret").await.unwrap());
        let replaced = NewUser { cost: CHEAP, replace: true, ..NewUser::new("alice", "another") };
        UsersFile::add(users.path(), &replaced).unwrap();
        assert!(!users.password("alice", "s3cret").await.unwrap(), "and not for the rest of a minute");
        assert!(users.password("alice", "another").await.unwrap());
        std::fs::write(users.path(), "[[user]]\n").unwrap();
        assert!(users.password("alice", "another").await.unwrap());
        std::fs::remove_file(users.path()).unwrap();
        assert!(users.password("alice", "another").await.unwrap());
        UsersFile::add(users.path(), &NewUser { cost: CHEAP, ..NewUser::new("bob", "pw") }).unwrap();
        assert!(!users.password("alice", "another").await.unwrap());
        assert!(users.password("bob", "pw").await.unwrap());
    }

    #[test]
    fn a_file_that_others_may_read_is_noticed() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, users) = with_alice();
        assert!(!users.is_open_to_others());
        std::fs::set_permissions(users.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(UsersFile::open(users.path()).unwrap().is_open_to_others());
    }
}
