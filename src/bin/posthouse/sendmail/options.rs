//! The option letters of sendmail, as programs use them.
//!
//! Contract: letters that say how to send are obeyed; those that say how sendmail shall work inside (-O, -o, -B, ...)
//! are taken and have no effect, which -v says. Modes that are no sending are refused, with the command that does it.
//! Not here: what is done (`sendmail`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::{Trouble, USAGE};
use crate::settings::ConfigFile;

/// Send a message as sendmail does; also when posthouse is called by the name sendmail
#[derive(Args, Debug)]
#[command(
    disable_version_flag = true,
    after_help = "\
Examples:
  printf 'To: bob@example.com\\nSubject: hello\\n\\nWorld\\n' | posthouse sendmail -t
  posthouse sendmail -i -f alice@example.org bob@example.com < message.eml

With a link of the name /usr/sbin/sendmail to it, every program that calls sendmail uses the relay.
While the relay is down the message waits, durable, in the folder drop of the spool; exit code 0
means that it is safe. It needs to run as the relay's user or root; others reach a relay by SMTP.
Exit codes are those of sysexits.h: 64 wrong usage, 65 a message that cannot be read, 67 no such
recipient, 68 no route, 69 refused, 75 try again later, 77 not permitted."
)]
pub struct Sendmail {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The folder of the spool, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    pub spool: Option<String>,
    /// Take recipients from To, Cc and Bcc, besides those named here; Bcc is taken away
    #[arg(short = 't')]
    pub from_header: bool,
    /// A line with a lone dot does not end the message; also -oi
    #[arg(short = 'i')]
    pub ignore_dots: bool,
    /// The reverse-path; <> for the null one. By default the user that this runs as
    #[arg(short = 'f', short_alias = 'r', value_name = "ADDRESS", allow_hyphen_values = true)]
    pub sender: Option<String>,
    /// The name in a From field that is added
    #[arg(short = 'F', value_name = "NAME", allow_hyphen_values = true)]
    pub full_name: Option<String>,
    /// NOTIFY of RFC 3461: success, failure, delay, separated by commas, or never
    #[arg(short = 'N', value_name = "WHEN")]
    pub notify: Option<String>,
    /// RET of RFC 3461: full or hdrs
    #[arg(short = 'R', value_name = "WHAT")]
    pub ret: Option<String>,
    /// ENVID of RFC 3461: a name of your own for the message
    #[arg(short = 'V', value_name = "ID")]
    pub envid: Option<String>,
    /// Say on standard error what becomes of the message
    #[arg(short = 'v')]
    pub verbose: bool,
    /// The mode; only -bm, to send a message from standard input
    #[arg(short = 'b', value_name = "MODE")]
    modes: Vec<String>,
    /// An option of one letter; -oi is -i, others have no effect
    #[arg(short = 'o', value_name = "OPTION", allow_hyphen_values = true)]
    letters: Vec<String>,
    /// Without effect, for those who are used to it: options, body type, error mode, and others of sendmail's own
    #[arg(
        short = 'O',
        short_aliases = ['A', 'B', 'e', 'L', 'p', 'X', 'd', 'C'],
        value_name = "OPTION",
        allow_hyphen_values = true
    )]
    ignored: Vec<String>,
    /// Without effect, like the others of sendmail's own
    #[arg(short = 'm', short_aliases = ['n', 'G', 'U', 's'])]
    ignored_flag: bool,
    /// The recipients
    #[arg(value_name = "RECIPIENT")]
    pub recipients: Vec<String>,
}

/// What it is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Send,
    /// Aliases are rebuilt: there are none.
    Nothing,
}

impl Sendmail {
    pub(super) fn mode(&self) -> Result<Mode, Trouble> {
        let mut mode = Mode::Send;
        for letter in &self.modes {
            let instead = match letter.as_str() {
                "m" => continue,
                "i" => {
                    mode = Mode::Nothing;
                    continue;
                }
                "p" => "`posthouse queue list` shows the queue",
                "d" | "D" => "`posthouse run` runs the relay",
                "s" => "submit by SMTP to the listener of the relay",
                _ => "only -bm is known here",
            };
            return Err(Trouble::new(USAGE, format!("-b{letter} sends no message: {instead}")));
        }
        let is_ignored = |letter: &&String| letter.as_str() != "i";
        if self.verbose && (self.letters.iter().any(|l| is_ignored(&l)) || !self.ignored.is_empty()) {
            eprintln!("sendmail: options for the inside of sendmail have no effect here");
        }
        Ok(mode)
    }

    pub(super) fn ignores_dots(&self) -> bool {
        self.ignore_dots || self.letters.iter().any(|letter| letter == "i")
    }
}

/// A name in front of an address: quoted, or encoded where it is not US-ASCII (RFC 2047). No control character of it
/// gets into a header section.
pub(super) fn phrase(name: &str) -> String {
    let name: String = name.chars().filter(|character| !character.is_control()).collect();
    if name.is_ascii() {
        return format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    }
    // An encoded word has at most 75 characters: 42 octets of text.
    let mut words = Vec::new();
    let mut word = String::new();
    for character in name.chars() {
        if word.len() + character.len_utf8() > 42 {
            words.push(std::mem::take(&mut word));
        }
        word.push(character);
    }
    words.push(word);
    let encoded: Vec<String> =
        words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word))).collect();
    encoded.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_field() {
        assert_eq!(phrase("Alice \"A\" \\"), "\"Alice \\\"A\\\" \\\\\"");
        assert_eq!(phrase("A\r\nBcc: x@example.org"), "\"ABcc: x@example.org\"");
        assert_eq!(phrase("Ä"), "=?UTF-8?B?w4Q=?=");
        assert!(phrase(&"Ä".repeat(100)).split("\r\n ").all(|word| word.len() <= 75));
    }
}
