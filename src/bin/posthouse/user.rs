//! `posthouse user`: who may authenticate.
//!
//! Contract: the users file is changed under a lock and replaced whole; a running relay takes the change up at the next
//! AUTH. A password comes from a terminal that does not show it, from standard input, or from a file; never from the
//! command line, which others can read.
//! Not here: the file (`posthouse::accept::UsersFile`).

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use posthouse::accept::{NewUser, UserRow, UsersFile};
use posthouse::config::Flags;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failed::Failed;
use crate::place::Format;
use crate::print;
use crate::settings::ConfigFile;
use crate::table::Table;

/// Add, list and remove the users that may authenticate
#[derive(Subcommand)]
pub enum User {
    Add(Add),
    List(List),
    Remove(Remove),
}

impl User {
    pub fn run(&self) -> Result<(), Failed> {
        match self {
            Self::Add(add) => add.run(),
            Self::List(list) => list.run(),
            Self::Remove(remove) => remove.run(),
        }
    }
}

/// Which users file.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    config: ConfigFile,
    /// The users file, in place of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

impl Which {
    fn path(&self) -> Result<PathBuf, Failed> {
        if let Some(path) = &self.users {
            return Ok(path.clone());
        }
        let named = self.config.users_file(&Flags::default()).map_err(Failed::Said)?;
        named.ok_or_else(|| {
            let text = "which users file? The configuration names none (users in [relaying]): name one by \
                        --users FILE, or the configuration by --config FILE";
            Failed::Message(text.into())
        })
    }
}

/// Add a user, or give him another password
#[derive(Args)]
#[command(after_help = "\
Examples:
  posthouse user add alice --config /etc/posthouse.toml
  posthouse user add alice --users users.toml --senders alice@example.org --senders '*@example.net'
  posthouse user add alice --replace --users users.toml
  posthouse user add app --users users.toml --password-file /run/secrets/app
  pwgen 24 1 | tee app.password | posthouse user add app --users users.toml

The password is asked for on a terminal; otherwise the first line of standard input is taken. The
file is made, for its owner alone, if there is none. It holds an argon2id hash and the keys that
SCRAM-SHA-256 needs, and no password. A running relay takes the change up at the next AUTH.")]
pub struct Add {
    /// The name that the user authenticates with
    name: String,
    #[command(flatten)]
    which: Which,
    /// Send as this address and no other; `*@DOMAIN` is all of a domain; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    senders: Vec<String>,
    /// The first line of this file is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Give a user that is there already this password, and leave the rest as it is
    #[arg(long)]
    replace: bool,
}

impl Add {
    fn run(&self) -> Result<(), Failed> {
        let path = self.which.path()?;
        let password = self.password()?;
        let senders = Some(self.senders.clone()).filter(|senders| !senders.is_empty());
        let user = NewUser { senders, replace: self.replace, ..NewUser::new(&self.name, &password) };
        let name = UsersFile::add(&path, &user)?;
        print::text(&format!("{name:?} may authenticate, says {}\n", path.display()))
    }

    fn password(&self) -> Result<String, Failed> {
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Failed::Message(format!("cannot read {}: {error}", file.display())))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None if io::stdin().is_terminal() => {
                let password = hidden(&format!("Password for {}: ", self.name.escape_debug()))?;
                if hidden("Once more: ")? != password {
                    return Err(Failed::Message("the two are not the same; nothing was changed".into()));
                }
                password
            }
            None => line()?,
        };
        if password.is_empty() {
            return Err(Failed::Message("there is no password on the first line".into()));
        }
        Ok(password)
    }
}

/// The first line of standard input, without its end.
fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A line from the terminal, which does not show it meanwhile.
fn hidden(prompt: &str) -> io::Result<String> {
    let (stdin, mut out) = (io::stdin(), io::stderr());
    let shown = tcgetattr(&stdin)?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // Before the prompt: whoever answers it at once is not shown, nor cut short.
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let line = write!(out, "{prompt}").and_then(|()| out.flush()).and_then(|()| line());
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    writeln!(out)?;
    line
}

/// List the users
#[derive(Args)]
#[command(after_help = "\
Examples:
  posthouse user list --config /etc/posthouse.toml
  posthouse user list --users users.toml --format json | jq -r '.[].name'")]
pub struct List {
    #[command(flatten)]
    which: Which,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl List {
    fn run(&self) -> Result<(), Failed> {
        let users = open(&self.which.path()?)?;
        let rows = users.rows();
        match self.format {
            Format::Json => print::json(&rows),
            Format::Table => print::text(&table(&rows).to_string()),
        }
    }
}

fn open(path: &Path) -> Result<UsersFile, Failed> {
    let users = UsersFile::open(path)?;
    if users.is_open_to_others() {
        let path = path.display();
        eprintln!("posthouse: every user of this machine may read {path}: `chmod o= {path}` keeps them out");
    }
    Ok(users)
}

fn table(rows: &[UserRow]) -> Table {
    let mut table = Table::new(["name", "scram", "state", "senders"]);
    for row in rows {
        table.row([
            row.name.clone(),
            if row.scram { "yes" } else { "no" }.to_owned(),
            if row.disabled { "disabled" } else { "" }.to_owned(),
            row.senders.as_ref().map_or_else(|| "any".to_owned(), |senders| senders.join(", ")),
        ]);
    }
    table
}

/// Remove a user
#[derive(Args)]
#[command(after_help = "\
Examples:
  posthouse user remove alice --users users.toml

From the next AUTH on he is nobody, and a session of his that is open ends at its next MAIL.")]
pub struct Remove {
    name: String,
    #[command(flatten)]
    which: Which,
}

impl Remove {
    fn run(&self) -> Result<(), Failed> {
        let path = self.which.path()?;
        UsersFile::remove(&path, &self.name)?;
        print::text(&format!("{:?} is no user any more, says {}\n", self.name, path.display()))
    }
}
