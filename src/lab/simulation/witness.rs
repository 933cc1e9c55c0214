//! What the upstreams have seen: every question and every copy of a message.
//!
//! Contract: [`Witness::look`] takes in what is new since the last look, [`Witness::judge`] judges each new copy: nobody
//! gets a message that its client did not finish, none twice without reason, none with other content; notices go to
//! senders only.
//! Not here: what the relay says about it (`tale`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::client::{Heard, Letter};
use super::ending::Ending;
use super::tale::Tale;
use super::traffic::Traffic;
use crate::clock::Timestamp;
use crate::lab::script::Stage;
use crate::lab::upstream::{Asked, Received, Upstream};

/// One copy of a message for one recipient.
#[derive(Clone, Copy, Debug)]
struct Copy {
    at: Timestamp,
    /// The relay was told so.
    answered: bool,
}

/// An upstream as far as it was looked at.
struct Known {
    upstream: Upstream,
    questions: u64,
    kept: u64,
    /// For messages that were kept: whether that was answered.
    answers: VecDeque<bool>,
}

#[derive(Default)]
pub(super) struct Witness {
    upstreams: Vec<Known>,
    /// Messages that are yet to be judged, and whether the relay was told that they are kept.
    unjudged: Vec<(Received, bool)>,
    /// Recipients of what was answered and lost, and when.
    lies: Vec<(String, Timestamp)>,
    /// Whether it takes an upstream's word for what that has lost.
    believes: bool,
    /// There nobody gets a message twice, unless a person wanted that.
    held_domain: Option<&'static str>,
    /// Letters of which a person wanted another attempt.
    pub asked_again: BTreeSet<usize>,
    pub traffic: Traffic,
    /// By Message-ID and recipient.
    copies: BTreeMap<(String, String), Vec<Copy>>,
    /// For each recipient, or sender at MAIL, when it was refused for good last.
    refused: BTreeMap<String, Timestamp>,
    /// Recipients that a notice of failure told of.
    failures_told: Vec<String>,
}

impl Witness {
    /// `believes`: it takes an upstream's word for what that has lost. `held_domain`: where nobody gets a message twice.
    pub fn new(believes: bool, held_domain: Option<&'static str>) -> Self {
        Self { believes, held_domain, ..Self::default() }
    }

    /// Other upstreams from now on.
    pub fn turn_to(&mut self, upstreams: &[Upstream]) {
        let known = |upstream: &Upstream| Known {
            upstream: upstream.clone(),
            questions: 0,
            kept: 0,
            answers: VecDeque::new(),
        };
        self.upstreams = upstreams.iter().map(known).collect();
        self.traffic = Traffic::default();
    }

    /// Takes in what is new, and gives the questions about recipients.
    pub fn look(&mut self) -> Result<Vec<Asked>, String> {
        let mut asked = Vec::new();
        for (index, known) in self.upstreams.iter_mut().enumerate() {
            let (questions, new) = known.upstream.asked_since(known.questions);
            known.questions = questions;
            new.iter().for_each(|asked| self.traffic.note(index, asked));
            let lost = new.iter().filter(|asked| asked.stage == Stage::Dot && deed(&asked.did) == "lose");
            for lost in lost {
                self.lies.extend(lost.about.split(", ").map(|recipient| (recipient.to_owned(), lost.at)));
            }
            let dots = new.iter().filter(|asked| asked.stage == Stage::Dot);
            known.answers.extend(dots.filter_map(|asked| answered(&asked.did)));
            asked.extend(new);
            for message in known.upstream.received_since(known.kept) {
                known.kept = message.number;
                let answered = known.answers.pop_front().ok_or("a message was kept before its dot")?;
                self.unjudged.push((message, answered));
            }
        }
        asked.sort_by_key(|asked| asked.at);
        for asked in asked.iter().filter(|asked| asked.did.contains(" 5") || asked.did.starts_with('5')) {
            for about in asked.about.split(", ") {
                self.refused.insert(about.trim_matches(['<', '>']).to_owned(), asked.at);
            }
        }
        asked.retain(|asked| asked.stage == Stage::Rcpt);
        Ok(asked)
    }

    /// Judges every new copy.
    pub fn judge(&mut self, tale: &Tale, letters: &[Letter], endings: &[Ending]) -> Result<(), String> {
        for (recipient, at) in std::mem::take(&mut self.lies) {
            // A notice that was lost is nobody's letter.
            let Some(number) = Letter::number_of_recipient(&recipient).filter(|_| self.believes) else {
                continue;
            };
            self.note_copy(letters[number].message_id(), recipient, Copy { at, answered: true }, endings)?;
        }
        let mut unjudged = std::mem::take(&mut self.unjudged);
        unjudged.sort_by_key(|(message, _)| message.at);
        for (message, answered) in unjudged {
            self.judge_one(&message, answered, tale, letters, endings)?;
        }
        Ok(())
    }

    fn judge_one(
        &mut self,
        message: &Received,
        answered: bool,
        tale: &Tale,
        letters: &[Letter],
        endings: &[Ending],
    ) -> Result<(), String> {
        let message_id = field(&message.content, "Message-ID").ok_or("a message without Message-ID")?;
        match Letter::number_of(message_id) {
            Some(number) => judge_letter(message, &letters[number], endings)?,
            None => self.judge_notice(message, tale, letters)?,
        }
        for recipient in &message.envelope.recipients {
            let copy = Copy { at: message.at, answered };
            self.note_copy(message_id.to_owned(), recipient.address.to_string(), copy, endings)?;
        }
        Ok(())
    }

    /// No second copy without a reason.
    fn note_copy(
        &mut self,
        message_id: String,
        recipient: String,
        copy: Copy,
        endings: &[Ending],
    ) -> Result<(), String> {
        let is_wanted =
            Letter::number_of(&message_id).is_none_or(|number| self.asked_again.contains(&number));
        let is_held = !is_wanted && recipient.rsplit('@').next() == self.held_domain;
        let copies = self.copies.entry((message_id.clone(), recipient.clone())).or_default();
        if let Some(former) = copies.last() {
            let mut between = endings.iter().filter(|ending| ending.at <= copy.at);
            let may_be = !former.answered || between.any(|ending| ending.may_repeat(former.at));
            if is_held || !may_be {
                let (first, second) = (former.at, copy.at);
                let policy = if is_held { ", where nothing is repeated unasked" } else { "" };
                return Err(format!("{recipient} got {message_id} at {first} and again at {second}{policy}"));
            }
        }
        copies.push(copy);
        Ok(())
    }

    fn judge_notice(&mut self, notice: &Received, tale: &Tale, letters: &[Letter]) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}:\n{}", notice.content));
        if !notice.envelope.reverse_path.is_null() {
            return wrong("a message from nowhere");
        }
        let about = field(&notice.content, "X-Posthouse-Queue-ID").and_then(|id| id.parse().ok());
        let told = about.and_then(|id| tale.messages.get(&id));
        let Some(letter) = told.and_then(|told| told.letter).map(|number| &letters[number]) else {
            return wrong("a notice about no letter");
        };
        let to: Vec<&str> = notice.envelope.recipients.iter().map(|to| to.address.as_str()).collect();
        if letter.sender.as_deref().map(|sender| vec![sender]) != Some(to) {
            return wrong("a notice that does not go to the sender");
        }
        let mut told_of = None;
        for line in notice.content.lines() {
            if let Some(recipient) = line.strip_prefix("Final-Recipient: rfc822; ") {
                told_of = Some(recipient);
            }
            let (Some(action), Some(recipient)) = (line.strip_prefix("Action: "), told_of) else { continue };
            let notify = letter.notify(recipient);
            let owed = match action {
                "failed" => notify.is_none_or(|notify| notify.failure),
                "delayed" => notify.is_none_or(|notify| notify.delay),
                _ => notify.is_some_and(|notify| notify.success),
            };
            if !owed || !letter.taken.iter().any(|taken| taken == recipient) {
                return wrong("a notice that nobody asked for");
            }
            if action == "failed" {
                self.failures_told.push(recipient.to_owned());
            }
        }
        Ok(())
    }

    pub fn has_copy(&self, letter: &Letter, recipient: &str) -> bool {
        self.copies.contains_key(&(letter.message_id(), recipient.to_owned()))
    }

    pub fn told_of_failure(&self, recipient: &str) -> bool {
        self.failures_told.iter().any(|told| told == recipient)
    }

    /// Whether the upstreams refused it for good, since `since`.
    pub fn has_refused(&self, letter: &Letter, recipient: &str, since: Timestamp) -> bool {
        let refused = |about: &str| self.refused.get(about).is_some_and(|at| *at >= since);
        refused(recipient) || letter.sender.as_deref().is_some_and(refused)
    }

    /// How many copies there are in all.
    pub fn copies(&self) -> usize {
        self.copies.values().map(Vec::len).sum()
    }
}

/// What became of a message after its dot: nothing when it was not taken, otherwise whether that was answered.
fn answered(did: &str) -> Option<bool> {
    match deed(did) {
        "accept" => Some(true),
        deed if deed.starts_with('2') => Some(true),
        deed if deed.starts_with("keep and") => Some(false),
        _ => None,
    }
}

/// What was done, without how.
fn deed(did: &str) -> &str {
    match did.split_once(", ") {
        Some((how, deed_behind)) if ["delay", "drip", "closing"].iter().any(|word| how.starts_with(word)) => {
            deed(deed_behind)
        }
        _ => did,
    }
}

fn judge_letter(message: &Received, letter: &Letter, endings: &[Ending]) -> Result<(), String> {
    let number = letter.number;
    let by_ending = || endings.iter().any(|ending| ending.at <= message.at && ending.may_bring_back(letter));
    match letter.heard {
        Heard::Promised | Heard::Unsure => {}
        Heard::Refused if by_ending() => {}
        heard => return Err(format!("letter {number} was delivered, and its client heard {heard:?}")),
    }
    if !message.content.ends_with(&letter.body) {
        return Err(format!("letter {number} has changed on its way:\n{}", message.content));
    }
    if message.envelope.reverse_path.address().map(|sender| sender.as_str()) != letter.sender.as_deref() {
        return Err(format!("letter {number} came from {}", message.envelope.reverse_path));
    }
    let stranger = message
        .envelope
        .recipients
        .iter()
        .find(|to| !letter.taken.iter().any(|taken| taken == to.address.as_str()));
    match stranger {
        Some(stranger) => Err(format!("letter {number} went to {}", stranger.address)),
        None => Ok(()),
    }
}

/// The first field of this name.
fn field<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    content.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
