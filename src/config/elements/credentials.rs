//! `username`, `password_file`, `token_file`, `token_command` and `auth` of an upstream group: who we are there.
//!
//! Contract: with any of them there is a username and exactly one source of a secret, whose file can be read now, and
//! which the pinned mechanism can use.
//! Invariants: no secret is kept: a file is read again when it is needed, so that a changed one counts.
//! Not here: reading it then (`deliver`), which mechanism is chosen (`smtp`).

use std::path::{Path, PathBuf};

use super::spool::under;
use crate::config::quantity::Mismatch;
use crate::config::section::{At, Section};
use crate::route::{Credentials, SecretSource};
use crate::smtp::client::{Mechanism, SecretKind};

const SOURCES: [&str; 3] = ["password_file", "token_file", "token_command"];

pub(super) fn read(section: &mut Section<'_>, folder: &Path) -> Option<Credentials> {
    let username = section.text("username");
    let password_file = section.text("password_file");
    let token_file = section.text("token_file");
    let token_command = section.list("token_command", |value| {
        value
            .text()
            .map(str::to_owned)
            .ok_or_else(|| Mismatch::new("a program, then its arguments, each a text"))
    });
    let mechanism = section.at("auth", |value| {
        let expected = "\"scram-sha-256\", \"oauthbearer\", \"xoauth2\", \"plain\" or \"login\"";
        let word = value.text().and_then(|word| word.parse::<Mechanism>().ok());
        word.ok_or_else(|| Mismatch::new(expected))
    });
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| section.has(key)).collect();
    if given.is_empty() && !section.has("username") && !section.has("auth") {
        return None;
    }
    let username = section.require("username", username, "\"me\"");
    let password_file = password_file.and_then(|at| file(section, folder, &at, "password"));
    let token_file = token_file.and_then(|at| file(section, folder, &at, "token"));
    if let [_, second, ..] = given.as_slice() {
        let problem = format!("{} are two sources of one secret", given[..2].join(" and "));
        section.report.fault(section.place_of(second), problem, None, Some("leave one of them".into()));
        return None;
    }
    if given.is_empty() {
        section.require::<()>("password_file", None, "\"/run/secrets/upstream\"");
    }
    let source = password_file
        .map(SecretSource::PasswordFile)
        .or(token_file.map(SecretSource::TokenFile))
        .or_else(|| command(section, token_command?));
    let source = source?;
    if let Some(At { value, place }) = &mechanism
        && value.needs() != source.kind()
    {
        let (has, other) = match source.kind() {
            SecretKind::Password => ("a password", "token_file or token_command"),
            SecretKind::Token => ("a token", "password_file"),
        };
        let problem = format!("{value} cannot be used with {has}");
        let hint = format!("leave auth out, or write {other}");
        section.report.fault(place, problem, None, Some(hint));
    }
    Some(Credentials::new(username?.value, source, mechanism.map(|at| at.value)))
}

fn command(section: &Section<'_>, words: Vec<String>) -> Option<SecretSource> {
    let (problem, hint) = match words.first() {
        // One without a slash is looked for in PATH when it is run.
        Some(program) if program.contains('/') && !Path::new(program).is_file() => (
            "token_command names a program that is not there",
            "name it by its whole path, or by its name alone if it is in PATH",
        ),
        Some(program) if !program.is_empty() => return Some(SecretSource::TokenCommand(words)),
        _ => {
            ("token_command names no program", "name a program and its arguments, each a member of the list")
        }
    };
    section.report.fault(section.place_of("token_command"), problem, None, Some(hint.into()));
    None
}

/// That it can be read now is no promise, but the fault that is seen first.
fn file(section: &Section<'_>, folder: &Path, at: &At<'_, String>, what: &str) -> Option<PathBuf> {
    let path = under(folder, &at.value, at.place);
    let problem = match std::fs::read_to_string(&path) {
        Err(error) => format!("the {what} file {} cannot be read: {error}", path.display()),
        Ok(text) => match text.lines().next().filter(|line| !line.is_empty()) {
            Some(_) => return Some(path),
            None => format!("the {what} file {} has nothing on its first line", path.display()),
        },
    };
    let hint = format!("name a file that this user may read, with the {what} on its first line");
    section.report.fault(at.place, problem, None, Some(hint));
    None
}
