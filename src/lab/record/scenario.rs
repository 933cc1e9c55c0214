//! Observations as the text of a scenario.
//!
//! Contract: the text begins with a comment on what was recorded, when, and what was left out; then the start, an
//! upstream for each host with its rules, and the messages with their times since the start. Settings stay at their
//! defaults, and nothing is expected yet: `lab run --write` adds what a replay brings.
//! Invariants: the same observations give the same bytes; every name of real life is masked.
//! Not here: which rules (`rules`), which messages (`messages`).

use std::fmt::Write;
use std::time::Duration;

use super::mask::Mask;
use super::messages::{self, Message};
use super::observation::{Observations, Observed, ObservedUpstream};
use super::rules;
use crate::clock::Timestamp;

const NAMES: [&str; 5] = ["main", "second", "third", "fourth", "fifth"];
const COMMENT_WIDTH: usize = 110;

impl Observations {
    /// The text of a scenario in which this happens again; `title` says what it is about.
    pub fn scenario(&self, title: &str) -> String {
        let (messages, notices) = messages::of_transactions(&self.transactions);
        let mut mask = self.masks(&messages);
        let mut text = self.opening(notices);
        let _ = write!(text, "\ntitle = {}\nstart = \"{}\"\n", quoted(title), self.start);
        text += "\n# The relay's settings are at their defaults; the recorded one's go under [settings].\n";
        for (index, upstream) in self.upstreams.iter().enumerate() {
            text += &script(&upstream_name(index), &upstream.questions, &mut mask);
        }
        for message in &messages {
            text += &message_text(message, self.start, &mut mask);
        }
        text
    }

    /// Hosts and addresses in the order in which they appeared.
    fn masks(&self, messages: &[Message]) -> Mask {
        let mut mask = Mask::default();
        for (index, upstream) in self.upstreams.iter().enumerate() {
            for name in &upstream.names {
                mask.host(name, &upstream_name(index));
            }
        }
        for message in messages {
            mask.sender(&message.sender);
            message.recipients.iter().for_each(|recipient| {
                mask.recipient(recipient);
            });
        }
        let questions = self.upstreams.iter().flat_map(|upstream: &ObservedUpstream| &upstream.questions);
        for question in questions {
            mask.sender(&question.sender);
            question.recipients.iter().for_each(|recipient| {
                mask.recipient(recipient);
            });
        }
        mask
    }

    fn opening(&self, notices: usize) -> String {
        let questions: usize = self.upstreams.iter().map(|upstream| upstream.questions.len()).sum();
        let mut text = comment(&format!(
            "Recorded by `posthouse lab record` {}, from {} to {}: {questions} answers.",
            self.source, self.start, self.end
        ));
        text += &comment(
            "Left out: all content (messages of the same size stand for it), credentials, and what a good server \
             says. Addresses, host names, network addresses and queue ids are masked as far as they can be \
             recognised; read the replies before you pass this file on.",
        );
        if notices > 0 {
            text += &comment("Notices of the relay are left out: a replay writes its own.");
        }
        for note in &self.notes {
            text += &comment(&format!("Note: {note}."));
        }
        text
    }
}

fn upstream_name(index: usize) -> String {
    NAMES.get(index).map_or_else(|| format!("upstream{}", index + 1), |name| (*name).to_owned())
}

fn script(name: &str, questions: &[Observed], mask: &mut Mask) -> String {
    let rules = rules::of_upstream(questions, mask);
    let mut text = format!("\n[upstream.{name}]\n");
    if questions.is_empty() {
        return text + "# It was not asked anything.\nscript = []\n";
    }
    if rules.is_empty() {
        return text + "# It did what a good server does.\nscript = []\n";
    }
    text += "script = [\n";
    for rule in &rules {
        let _ = writeln!(text, "    {},", quoted(rule));
    }
    text + "]\n"
}

fn message_text(message: &Message, start: Timestamp, mask: &mut Mask) -> String {
    let after = Duration::from_secs(message.at.since(start).as_secs());
    let recipients: Vec<String> =
        message.recipients.iter().map(|recipient| quoted(&mask.recipient(recipient))).collect();
    let mut text = format!("\n[[message]]\nat = \"{}\"\n", humantime::format_duration(after));
    let _ = writeln!(text, "from = {}", quoted(&mask.sender(&message.sender)));
    if recipients.is_empty() {
        text += "# Its recipients were never named, as its sender was refused.\n";
        text += "to = [\"unnamed@example.com\"]\n";
    } else {
        let _ = writeln!(text, "to = [{}]", recipients.join(", "));
    }
    if let Some(size) = message.size {
        let _ = writeln!(text, "size = \"{size}B\"");
    }
    text
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// Lines that begin with `# `, broken between words.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COMMENT_WIDTH {
            lines += &line;
            lines += "\n";
            line = String::from("#");
        }
        line += " ";
        line += word;
    }
    lines + &line + "\n"
}
