//! The rules that make a scripted upstream do what was observed.
//!
//! Contract: [`of_upstream`] gives the rules in an order that may stand in a script as it is. What a good server does
//! gives none. Attempts are counted as the script counts them: of a connection by its number; of a sender or recipient
//! by how often this stage was asked about him since a message of his was last taken; from DATA on about the first
//! recipient. Equal answers to attempts in a row are one rule. Where the same sender or recipient was refused again
//! after a message of his had been taken, attempt numbers say too little, and the answers stand as they came, each
//! as often as it came (`, 2 times`). What was bad up to the end of the recording stays so: `attempt 3..`.
//! Known limits: from DATA on a rule names the first recipient and fits every transaction in which he is accepted; a
//! client that opens other connections than the recorded one meets the rules of connections elsewhere.
//! Not here: the language (`script`), the file (`scenario`).

use std::collections::HashMap;
use std::time::Duration;

use super::mask::Mask;
use super::observation::{Did, Observed};
use crate::lab::script::Stage;
use crate::mail::Reply;

/// What happened, in the language of rules: `delay 5s, accept`; empty for what a good server does at once.
type Deed = String;

/// One stage and whom it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    stage: &'static str,
    /// Masked; empty before MAIL.
    name: String,
}

/// Whose attempts are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Connections,
    Sender(String),
    Recipient(String),
}

impl Subject {
    fn counted(&self) -> Counted {
        match self.stage {
            "mail" => Counted::Sender(self.name.clone()),
            _ if self.name.is_empty() => Counted::Connections,
            _ => Counted::Recipient(self.name.clone()),
        }
    }
}

/// One answer: how often a message had been taken before, which attempt it was since, and what was done.
struct Answer {
    epoch: usize,
    attempt: u64,
    deed: Deed,
}

/// The rules of one upstream, from all that it was asked.
pub(super) fn of_upstream(questions: &[Observed], mask: &mut Mask) -> Vec<String> {
    let mut order: Vec<Subject> = Vec::new();
    let mut answers: HashMap<Subject, Vec<Answer>> = HashMap::new();
    let mut epochs: HashMap<Counted, usize> = HashMap::new();
    for question in questions {
        let Some(subject) = subject(question, mask) else { continue };
        let epoch = epochs.get(&subject.counted()).copied().unwrap_or_default();
        let deed = deed(question, mask);
        let given = answers.entry(subject.clone()).or_insert_with(|| {
            order.push(subject.clone());
            Vec::new()
        });
        let attempt = if subject.name.is_empty() {
            question.connection
        } else {
            given.last().filter(|last| last.epoch == epoch).map_or(1, |last| last.attempt + 1)
        };
        given.push(Answer { epoch, attempt, deed });
        if question.stage == Stage::Dot && question.did.is_good() {
            for counted in taken(question, mask) {
                *epochs.entry(counted).or_default() += 1;
            }
        }
    }
    let connections = questions.iter().map(|question| question.connection).max().unwrap_or_default();
    let rules = order.iter().flat_map(|subject| of_subject(subject, &answers[subject], connections));
    rules.chain(without(questions)).collect()
}

fn subject(question: &Observed, mask: &mut Mask) -> Option<Subject> {
    let stage = word(question.stage)?;
    let name = match question.stage {
        Stage::Mail => mask.sender(&question.sender),
        Stage::Rcpt | Stage::Data | Stage::Content | Stage::Dot => {
            mask.recipient(question.recipients.first()?)
        }
        _ => String::new(),
    };
    Some(Subject { stage, name })
}

/// Whose attempts count from 1 again after a message was taken.
fn taken(question: &Observed, mask: &mut Mask) -> Vec<Counted> {
    let mut all: Vec<Counted> =
        question.recipients.iter().map(|name| Counted::Recipient(mask.recipient(name))).collect();
    all.push(Counted::Sender(mask.sender(&question.sender)));
    all
}

/// How the language calls a stage; none for those of which nothing is recorded.
fn word(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::Connect => "connect",
        Stage::Greeting => "greeting",
        Stage::Ehlo => "ehlo",
        Stage::Mail => "mail",
        Stage::Rcpt => "rcpt",
        Stage::Data => "data",
        Stage::Content => "content",
        Stage::Dot => "dot",
        Stage::StartTls | Stage::Auth | Stage::Quit => return None,
    })
}

fn deed(question: &Observed, mask: &mut Mask) -> Deed {
    let deed = match &question.did {
        Did::Accept | Did::Without(_) => "accept".to_owned(),
        Did::Reply(reply) => reply_text(reply, mask),
        Did::Silence => "silence".to_owned(),
        Did::Close => "close".to_owned(),
        Did::Reset => "reset".to_owned(),
        Did::Refuse => "refuse".to_owned(),
        Did::Unreachable => "unreachable".to_owned(),
        Did::Garbage => "garbage".to_owned(),
    };
    let is_good = matches!(question.did, Did::Accept | Did::Without(_));
    let waited = if question.did == Did::Silence { Duration::ZERO } else { question.waited };
    match (delay(waited), is_good) {
        (None, true) => String::new(),
        (None, false) => deed,
        (Some(seconds), _) => format!("delay {}, {deed}", humantime::format_duration(seconds)),
    }
}

/// Whole seconds from two on: less is the network.
fn delay(waited: Duration) -> Option<Duration> {
    let seconds = (waited.as_millis() + 500) / 1000;
    (seconds > 1).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
}

/// Code and first line, further lines behind `\n`.
fn reply_text(reply: &Reply, mask: &mut Mask) -> String {
    let lines: Vec<String> =
        reply.lines().iter().map(|line| mask.text(line).trim().replace('\\', "/")).collect();
    let text = format!("{} {}", reply.code(), lines.join("\\n"));
    let text = text.trim_end();
    // What follows the last comma must not be taken for the end of the rule.
    match text.rsplit_once(',') {
        Some((before, tail)) if is_like_limit(tail) => format!("{before};{tail}"),
        _ => text.to_owned(),
    }
}

/// Whether it could be read as `once`, `3 times` or `for 2h`.
fn is_like_limit(tail: &str) -> bool {
    let words: Vec<&str> = tail.split_whitespace().collect();
    match words[..] {
        [word] => word.eq_ignore_ascii_case("once"),
        [number, _] if number.starts_with(|c: char| c.is_ascii_digit()) => true,
        [word, ..] => word.eq_ignore_ascii_case("for"),
        [] => false,
    }
}

/// `connections`: how many there were.
fn of_subject(subject: &Subject, answers: &[Answer], connections: u64) -> Vec<String> {
    let about = format!("{} {}", subject.stage, subject.name).trim_end().to_owned();
    let Some(last) = answers.iter().rposition(|answer| !answer.deed.is_empty()) else { return Vec::new() };
    let several = answers[last].epoch > 0 || answers.iter().any(|answer| answer.epoch > 0);
    // On one connection a stage may be asked twice, EHLO and then HELO.
    let twice = answers.windows(2).any(|pair| pair[0].attempt == pair[1].attempt);
    // A good answer to a connection or to content is seen only by what comes after it.
    let to_the_end = match subject.stage {
        "content" => false,
        _ if subject.name.is_empty() => answers[last].attempt == connections && last + 1 == answers.len(),
        _ => last + 1 == answers.len(),
    };
    if several || twice && subject.name.is_empty() {
        let from = if subject.name.is_empty() { Some(first_bad(answers).attempt) } else { None };
        return in_turn(&about, from, &answers[..=last], to_the_end);
    }
    by_attempt(&about, answers, to_the_end)
}

fn first_bad(answers: &[Answer]) -> &Answer {
    answers.iter().find(|answer| !answer.deed.is_empty()).expect("only called where something was bad")
}

/// `rcpt bob attempt 2..4: 451 later`
fn by_attempt(about: &str, answers: &[Answer], to_the_end: bool) -> Vec<String> {
    let follows = |a: &Answer, b: &Answer| a.deed == b.deed && a.attempt + 1 == b.attempt;
    let runs = answers.chunk_by(follows).filter(|run| !run[0].deed.is_empty());
    let rule = |run: &[Answer]| {
        let (first, last) = (run[0].attempt, run[run.len() - 1].attempt);
        let attempts = match last {
            _ if to_the_end && run.as_ptr_range().end == answers.as_ptr_range().end => format!("{first}.."),
            _ if first == last => first.to_string(),
            _ => format!("{first}..{last}"),
        };
        format!("{about} attempt {attempts}: {}", run[0].deed)
    };
    runs.map(rule).collect()
}

/// `rcpt bob: 451 later, 2 times`, then `rcpt bob: accept, once`: each answer in its turn, up to the last bad one.
/// `from`: the connection with which they begin.
fn in_turn(about: &str, from: Option<u64>, answers: &[Answer], to_the_end: bool) -> Vec<String> {
    let answers: Vec<&Answer> =
        answers.iter().filter(|a| from.is_none_or(|from| a.attempt >= from)).collect();
    let condition =
        from.filter(|from| *from > 1).map(|from| format!(" attempt {from}..")).unwrap_or_default();
    let rule = |run: &[&Answer]| {
        let deed = if run[0].deed.is_empty() { "accept" } else { &run[0].deed };
        let times = if run.len() == 1 { "once".to_owned() } else { format!("{} times", run.len()) };
        format!("{about}{condition}: {deed}, {times}")
    };
    let mut rules: Vec<String> = answers.chunk_by(|a, b| a.deed == b.deed).map(rule).collect();
    if to_the_end && let Some((rule, _times)) = rules.pop().as_deref().and_then(|rule| rule.rsplit_once(", "))
    {
        rules.push(rule.to_owned());
    }
    rules
}

/// What no EHLO offered; behind all other rules, as it decides always.
fn without(questions: &[Observed]) -> Option<String> {
    let mut replies = questions.iter().filter_map(|question| match (&question.did, question.stage) {
        (Did::Without(missing), Stage::Ehlo) => Some(missing.clone()),
        (Did::Accept, Stage::Ehlo) => Some(Vec::new()),
        _ => None,
    });
    let mut missing = replies.next()?;
    replies.for_each(|reply| missing.retain(|name| reply.contains(name)));
    (!missing.is_empty()).then(|| format!("ehlo: without {}", missing.join(" ")))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
