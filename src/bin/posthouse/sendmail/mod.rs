//! `posthouse sendmail`, also under the name `sendmail`: what programs call that only know how to send mail so.
//!
//! Contract: the message comes on standard input, LF line ends become CRLF, and a line with a lone dot ends it unless
//! -i is given. Exit code 0 means that the message is safe: in the spool, or in the drop folder that the relay takes it
//! from. All others are those of sysexits.h, by which callers know whether another try makes sense.
//! Not here: which way the message takes (`post`), the option letters (`options`).

mod options;
mod post;

use std::io::Read;
use std::process::ExitCode;

use posthouse::clock::Clock;
use posthouse::config::{Flags, Posting};
use posthouse::mail::{Address, Envelope, ReversePath};
use posthouse::submission::{Dsn, EnvelopeFields, Key, Letter, LetterError};

pub use options::Sendmail;

use crate::failed::{Failed, chain};
use post::Post;

/// Codes of sysexits.h.
const USAGE: u8 = 64;
const DATA: u8 = 65;
const NO_USER: u8 = 67;
const NO_HOST: u8 = 68;
const UNAVAILABLE: u8 = 69;
const OS: u8 = 71;
const IO: u8 = 74;
const TRY_LATER: u8 = 75;
const NOT_PERMITTED: u8 = 77;

/// The exit code of a wrong command line.
pub const WRONG_COMMAND_LINE: u8 = USAGE;

/// Why it ends without a message that is safe.
struct Trouble {
    code: u8,
    what: String,
}

impl Trouble {
    fn new(code: u8, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }
}

impl From<LetterError> for Trouble {
    fn from(error: LetterError) -> Self {
        let code = if error == LetterError::NoRecipients { USAGE } else { DATA };
        Self::new(code, chain(&error))
    }
}

impl Sendmail {
    pub async fn run(self) -> Result<(), Failed> {
        match self.send().await {
            Ok(()) => Ok(()),
            Err(Trouble { code, what }) => {
                eprintln!("sendmail: {what}");
                Err(Failed::Said(ExitCode::from(code)))
            }
        }
    }

    async fn send(self) -> Result<(), Trouble> {
        if self.mode()? == options::Mode::Nothing {
            return Ok(());
        }
        let flags = Flags { spool: self.spool.clone(), ..Flags::default() };
        let posting = self.config.posting(&flags);
        let posting = posting.map_err(|_| Trouble::new(USAGE, "the configuration cannot be read"))?;
        let text = self.read()?;
        // The program's own clock: what the relay's says is not known here.
        let clock = Clock::system();
        let token = format!("{:016x}{:016x}", clock.chance(), clock.chance());
        let (envelope, content) = self.compose(&text, &posting, &clock, &token)?;
        let key: Key = token.parse().expect("digits make a key");
        let fields = EnvelopeFields { envelope, key: Some(key.clone()) };
        Post { posting: &posting, verbose: self.verbose, key }.send(fields, content).await
    }

    fn read(&self) -> Result<Vec<u8>, Trouble> {
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .map_err(|error| Trouble::new(IO, format!("cannot read standard input: {error}")))?;
        Ok(if self.ignores_dots() { text } else { up_to_a_lone_dot(text) })
    }

    /// Envelope and content.
    fn compose(
        &self,
        text: &[u8],
        posting: &Posting,
        clock: &Clock,
        token: &str,
    ) -> Result<(Envelope, Vec<u8>), Trouble> {
        let origin = posting.hostname.as_str();
        let mut letter = Letter::read(text);
        let mut recipients = self.recipients(origin)?;
        if self.from_header {
            match letter.recipients(Some(origin)) {
                Ok(more) => recipients.extend(more),
                Err(LetterError::NoRecipients) if !recipients.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut known: Vec<Address> = Vec::new();
        recipients.retain(|address| {
            !known.contains(address) && {
                known.push(address.clone());
                true
            }
        });
        if recipients.is_empty() {
            return Err(Trouble::new(
                USAGE,
                "there is no recipient: name some, or use -t to take them from the message",
            ));
        }
        let reverse_path = self.reverse_path(origin)?;
        letter.remove_blind_copies();
        letter.complete(&self.field_of_sender(&reverse_path, origin), clock.now(), token, origin);
        let mut envelope = Envelope::new(reverse_path, recipients);
        self.dsn().fill(&mut envelope).map_err(|error| Trouble::new(USAGE, error.to_string()))?;
        Ok((envelope, letter.into_content()))
    }

    fn dsn(&self) -> Dsn {
        Dsn {
            notify: self.notify.iter().cloned().collect(),
            ret: self.ret.clone(),
            envid: self.envid.clone(),
        }
    }
}

/// The lines before the first that holds a dot alone.
fn up_to_a_lone_dot(mut text: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if matches!(line, b".\n" | b".\r\n" | b".") {
            text.truncate(at);
            break;
        }
        at += line.len();
    }
    text
}

/// The name that this process runs under: what is written in the list of users, else what the environment says.
fn login() -> Option<String> {
    let own = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        (columns.nth(1)? == own).then(|| name.to_owned())
    });
    named.or_else(|| std::env::var("LOGNAME").ok()).filter(|name| !name.is_empty())
}

impl Sendmail {
    /// -f or -r; else the user of this process.
    fn reverse_path(&self, origin: &str) -> Result<ReversePath, Trouble> {
        match self.sender.as_deref() {
            Some("" | "<>") => Ok(ReversePath::NULL),
            Some(sender) => Ok(one_address(sender, origin)?.into()),
            None => {
                let login = login().ok_or_else(|| {
                    Trouble::new(OS, "this process has no user name to send as: name a sender with -f")
                })?;
                Ok(one_address(&login, origin)?.into())
            }
        }
    }

    /// What stands in From where the message has none.
    fn field_of_sender(&self, reverse_path: &ReversePath, origin: &str) -> String {
        let address = match reverse_path.address() {
            Some(address) => address.to_string(),
            None => format!("MAILER-DAEMON@{origin}"),
        };
        match self.full_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => format!("{} <{address}>", options::phrase(name)),
            None => address,
        }
    }

    fn recipients(&self, origin: &str) -> Result<Vec<Address>, Trouble> {
        let mut recipients = Vec::new();
        for text in &self.recipients {
            recipients.extend(addresses(text, origin)?);
        }
        Ok(recipients)
    }
}

fn addresses(text: &str, origin: &str) -> Result<Vec<Address>, Trouble> {
    posthouse::submission::address_list(text, Some(origin))
        .map_err(|error| Trouble::new(NO_USER, format!("{text:?}: {error}")))
}

fn one_address(text: &str, origin: &str) -> Result<Address, Trouble> {
    let mut addresses = addresses(text, origin)?;
    match (addresses.pop(), addresses.is_empty()) {
        (Some(address), true) => Ok(address),
        _ => Err(Trouble::new(USAGE, format!("{text:?} is not one address"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_dot_ends_the_message_and_other_dots_do_not() {
        let read = |text: &str| String::from_utf8(up_to_a_lone_dot(text.into())).unwrap();
        assert_eq!(read("a\n.\nb\n"), "a\n");
        assert_eq!(read("a\r\n.\r\nb\r\n"), "a\r\n");
        assert_eq!(read("a\n..\n.b\nc."), "a\n..\n.b\nc.");
        assert_eq!(read("a\n."), "a\n");
    }
}
