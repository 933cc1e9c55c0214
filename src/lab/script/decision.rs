//! Which rule decides.
//!
//! Contract: [`Script::answer`] gives what the first rule that fits does, then what a magic address asks for, and
//! [`Deed::Accept`] when there is neither. The same seed and the same questions give the same answers.
//! Invariants: a number is never given twice; a rule draws its chance from a generator of its own, so that one that is
//! added or forgotten does not change what the others draw.
//! Not here: what is done about the answer (`upstream`).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::deed::Deed;
use super::magic::Spell;
use super::memory::{Memory, Seen, Window};
use super::rule::{Limit, Rule};
use super::stage::Stage;
use crate::clock::Timestamp;
use crate::mail::{Address, ReversePath};

/// What is known when the script is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where in the dialogue.
    pub stage: Stage,
    /// When; never before an earlier question.
    pub at: Timestamp,
    /// The how manieth question of this stage on its connection, from 1 on; at RCPT, of its transaction.
    pub nth: u64,
    /// From MAIL on.
    pub sender: Option<&'a ReversePath>,
    /// At RCPT the one that is asked about; later all that were accepted.
    pub recipients: &'a [Address],
}

/// What the upstream does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// It waits so long first (network time).
    pub delay: Duration,
    /// Its reply goes out one octet at a time, so far apart.
    pub drip: Option<Duration>,
    /// The connection ends behind what is sent.
    pub closing: bool,
    /// Then it does this.
    pub deed: Deed,
}

impl Answer {
    pub(super) fn of(rule: &Rule) -> Self {
        Self { delay: rule.delay, drip: rule.drip, closing: rule.closing, deed: rule.deed.clone() }
    }

    fn accept() -> Self {
        Self { delay: Duration::ZERO, drip: None, closing: false, deed: Deed::Accept }
    }
}

/// As a rule writes it: `delay 30s, 451 4.7.1 try later`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.delay.is_zero() {
            write!(f, "delay {}, ", humantime::format_duration(self.delay))?;
        }
        if let Some(drip) = self.drip {
            write!(f, "drip {}, ", humantime::format_duration(drip))?;
        }
        if self.closing {
            f.write_str("closing, ")?;
        }
        write!(f, "{}", self.deed)
    }
}

/// A rule in its script.
#[derive(Clone, Debug)]
pub struct Standing {
    /// How `forget` calls it; from 1 on, never given twice.
    pub number: u32,
    /// What was said.
    pub rule: Rule,
    /// How often it has decided.
    pub used: u64,
    /// When it was said.
    said: Timestamp,
    /// The questions it measures.
    window: Window,
    chance: fastrand::Rng,
}

impl Standing {
    /// Whether it will never decide again, at `now` and later.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        is_spent(&self.rule, self.used, self.said, now)
    }

    fn measure(&mut self, question: &Question<'_>) {
        if let Some(rate) = &self.rule.conditions.over
            && is_about(&self.rule, question)
        {
            self.window.note(question.at, rate);
        }
    }

    fn fits(&mut self, question: &Question<'_>, seen: Seen, start: Timestamp) -> bool {
        let (at, conditions) = (question.at, &self.rule.conditions);
        !self.is_spent(at)
            && is_about(&self.rule, question)
            && conditions.attempt.is_none_or(|attempts| attempts.hold(seen.attempt))
            && conditions.nth.is_none_or(|nth| nth.hold(question.nth))
            && conditions.first.is_none_or(|first| at.since(seen.first) < first)
            && conditions.after.is_none_or(|after| at.since(start) >= after)
            && conditions.until.is_none_or(|until| at.since(start) < until)
            && conditions.over.is_none_or(|rate| self.window.is_over(at, &rate))
            // Last, so that a draw is made only where it decides.
            && conditions.chance.is_none_or(|chance| chance.draw(&mut self.chance))
    }
}

fn is_spent(rule: &Rule, used: u64, said: Timestamp, now: Timestamp) -> bool {
    match rule.limit {
        None => false,
        Some(Limit::Times(times)) => used >= times,
        Some(Limit::For(duration)) => now.since(said) >= duration,
    }
}

/// Whether stage, address and sender are those of the rule.
fn is_about(rule: &Rule, question: &Question<'_>) -> bool {
    let sender_fits =
        |glob: &super::glob::Glob| question.sender.is_some_and(|sender| glob.fits(&sender.to_string()));
    rule.stage == question.stage
        && rule.conditions.from.as_ref().is_none_or(sender_fits)
        && rule.glob.as_ref().is_none_or(|glob| match rule.stage {
            Stage::Mail => sender_fits(glob),
            _ => question.recipients.iter().any(|recipient| glob.fits(recipient.as_str())),
        })
}

/// The rules of one upstream, and what they have seen.
#[derive(Debug)]
pub struct Script {
    start: Timestamp,
    rules: Vec<Standing>,
    numbers: u32,
    memory: Memory,
    chance: fastrand::Rng,
    /// What magic addresses have done so far, by the address in lower case; none when there is no magic.
    magic: Option<HashMap<String, Cast>>,
}

/// What a magic address has done.
#[derive(Debug)]
struct Cast {
    met: Timestamp,
    used: u64,
}

impl Script {
    /// An empty script: everything is accepted, but for magic addresses. Times of rules count from `start`.
    pub fn new(start: Timestamp, seed: u64) -> Self {
        Self {
            start,
            rules: Vec::new(),
            numbers: 0,
            memory: Memory::default(),
            chance: fastrand::Rng::with_seed(seed),
            magic: Some(HashMap::new()),
        }
    }

    /// Without magic addresses.
    pub fn without_magic(self) -> Self {
        Self { magic: None, ..self }
    }

    /// Adds a rule behind all others: the first that fits decides. Gives its number.
    pub fn add(&mut self, rule: Rule) -> u32 {
        let standing = self.standing(rule, self.start);
        let number = standing.number;
        self.rules.push(standing);
        number
    }

    /// Adds a rule before all others, while the upstream runs; its "for" counts from `now`. Gives its number.
    pub fn say(&mut self, rule: Rule, now: Timestamp) -> u32 {
        let standing = self.standing(rule, now);
        let number = standing.number;
        self.rules.insert(0, standing);
        number
    }

    fn standing(&mut self, rule: Rule, said: Timestamp) -> Standing {
        self.numbers += 1;
        let chance = self.chance.fork();
        Standing { number: self.numbers, rule, used: 0, said, window: Window::default(), chance }
    }

    /// Takes a rule away; false when none has this number.
    pub fn forget(&mut self, number: u32) -> bool {
        let before = self.rules.len();
        self.rules.retain(|standing| standing.number != number);
        self.rules.len() < before
    }

    /// What the upstream does about `question`.
    pub fn answer(&mut self, question: &Question<'_>) -> Answer {
        self.decide(question).0
    }

    /// The same, and the number of the rule that decided; none when no rule did, as with magic addresses.
    pub fn decide(&mut self, question: &Question<'_>) -> (Answer, Option<u32>) {
        let seen = self.memory.note(question);
        // Rates are of what was asked, whoever decides.
        self.rules.iter_mut().for_each(|standing| standing.measure(question));
        if let Some(standing) = self.rules.iter_mut().find_map(|standing| {
            let fits = standing.fits(question, seen, self.start);
            fits.then_some(standing)
        }) {
            standing.used += 1;
            return (Answer::of(&standing.rule), Some(standing.number));
        }
        (self.by_magic(question).unwrap_or_else(Answer::accept), None)
    }

    /// What the first magic recipient of this stage asks for that is not over.
    fn by_magic(&mut self, question: &Question<'_>) -> Option<Answer> {
        let casts = self.magic.as_mut()?;
        if !question.stage.knows_recipients() {
            return None;
        }
        for recipient in question.recipients {
            let Some(spell) = Spell::of(recipient).filter(|spell| spell.rule.stage == question.stage) else {
                continue;
            };
            let cast = casts
                .entry(recipient.as_str().to_ascii_lowercase())
                .or_insert(Cast { met: question.at, used: 0 });
            let over = spell.lasting.is_some_and(|lasting| question.at.since(cast.met) >= lasting);
            if !over && !is_spent(&spell.rule, cast.used, cast.met, question.at) {
                cast.used += 1;
                return Some(Answer::of(&spell.rule));
            }
        }
        None
    }

    /// A message was taken: attempts for its sender and recipients count from 1 again, and magic addresses among them
    /// begin anew. When they were asked about for the first time is not forgotten.
    pub fn taken(&mut self, sender: &ReversePath, recipients: &[Address]) {
        self.memory.taken(sender, recipients);
        let Some(casts) = &mut self.magic else { return };
        for recipient in recipients {
            if Spell::of(recipient).is_some_and(|spell| spell.ends_when_taken()) {
                casts.remove(&recipient.as_str().to_ascii_lowercase());
            }
        }
    }

    /// The rules in the order in which they are asked.
    pub fn rules(&self) -> &[Standing] {
        &self.rules
    }
}
