//! Reading `[expect]`, and finding what can never hold.
//!
//! Contract: every fault goes into the section's report with its place, what was expected there and how to mend it;
//! what is faulty is left out and the rest is read on. Can never hold: a recipient, sender or upstream that the
//! scenario does not have; a time beyond its end, or before that of an earlier line; a word that is none; a status
//! that contradicts its action.
//! Not here: what the expectations mean (`pattern`).

use super::moment::{self, Moment};
use super::pattern::{Pattern, Step};
use super::{Expectations, Known};
use crate::config::fault::Report;
use crate::config::quantity::Mismatch;
use crate::config::section::{Section, nearest};
use crate::config::tree::{Place, Value};
use crate::mail::EnhancedStatus;
use crate::tracking::EventName;

const OUTCOMES: [&str; 6] = ["delivered", "bounced", "cancelled", "waiting", "uncertain", "lost"];
/// They hold at the end of the story, not at a time.
const STANDINGS: [&str; 3] = ["waiting", "uncertain", "lost"];
/// The actions of RFC 3464 section 2.3.3 and the classes of status that go with them.
const ACTIONS: [(&str, u8); 4] = [("delayed", 4), ("failed", 5), ("relayed", 2), ("delivered", 2)];

/// A step and where it stands.
type Placed = (Step, Place);

impl Expectations {
    /// Reads the section, which may be absent: then nothing is expected. Faults go into its report.
    pub(crate) fn read(mut section: Section<'_>, known: &Known) -> Self {
        let reader = Reader { report: section.report, known };
        let events = section.list("events", |value| placed(value, event));
        let expectations = Self {
            events: events.map(|events| reader.in_order("events", events)),
            received: reader.named(&mut section, "received", Names::Upstream),
            attempts: reader.named(&mut section, "attempts", Names::Attempts),
            outcomes: reader.named(&mut section, "outcomes", Names::Outcomes),
            notices: reader.notices(&mut section),
        };
        section.done();
        expectations
    }
}

/// What the keys of a section are, and its values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Upstream,
    Attempts,
    Outcomes,
}

struct Reader<'a> {
    report: &'a Report,
    known: &'a Known,
}

impl Reader<'_> {
    fn named(&self, section: &mut Section<'_>, key: &'static str, names: Names) -> Vec<(String, Vec<Step>)> {
        let mut read = Vec::new();
        if !section.has(key) {
            // So that a misspelt key is told of this one.
            section.section(key);
            return read;
        }
        for (name, place, value) in section.named_values(key) {
            self.check_name(key, name, place, names);
            let what = format!("{key} {} {name}", if names == Names::Upstream { "by" } else { "of" });
            let parse = if names == Names::Outcomes { outcome } else { step };
            let Some(steps) = self.steps(&what, value, names, parse) else { continue };
            let steps = match names {
                // They stand in the order of the messages.
                Names::Outcomes => self.within_limit(&what, steps),
                Names::Upstream | Names::Attempts => self.in_order(&what, steps),
            };
            read.push((name.to_owned(), steps));
        }
        read
    }

    fn check_name(&self, key: &str, name: &str, place: &Place, names: Names) {
        let (all, problem, hint) = match names {
            Names::Upstream => {
                let problem = format!("{key} names the upstream \"{name}\", and there is none");
                (&self.known.upstreams, problem, "name one that is there, or add it")
            }
            Names::Attempts | Names::Outcomes => {
                let problem = format!("{key} names {name}, and no message is for him");
                let to_sender = self.known.senders.iter().any(|sender| sender == name);
                let hint = if to_sender {
                    "what a sender is told stands in [[expect.notice]]"
                } else {
                    "name a recipient of a message, or add one"
                };
                (&self.known.recipients, problem, hint)
            }
        };
        if !all.iter().any(|known| known == name) {
            let hint = nearest_of(name, all).unwrap_or_else(|| hint.to_owned());
            self.report.fault(place, problem, Some(one_of(all)), Some(hint));
        }
    }

    /// Each member; a text alone is a list of one where there is mostly one.
    fn steps(
        &self,
        what: &str,
        value: &Value,
        names: Names,
        parse: fn(&str) -> Result<Step, Mismatch>,
    ) -> Option<Vec<Placed>> {
        let members = match value.list() {
            Some(members) => members,
            None if names == Names::Outcomes && value.text().is_some() => vec![value.clone()],
            None => {
                let hint = value.text().map(|text| format!("write [{text:?}]"));
                let problem = format!("{what} is {}", value.describe());
                self.report.fault(&value.place, problem, Some("a list of lines".into()), hint);
                return None;
            }
        };
        let mut steps = Vec::new();
        for member in &members {
            match placed(member, parse) {
                Ok(step) => steps.push(step),
                Err(mismatch) => {
                    let problem = format!("{what}: a line is {}", member.describe());
                    self.report.fault(&member.place, problem, Some(mismatch.expected), mismatch.hint);
                }
            }
        }
        Some(steps)
    }

    /// Of lines in the order of time, none may be before another that stands above it.
    fn in_order(&self, what: &str, steps: Vec<Placed>) -> Vec<Step> {
        let mut earlier: Option<&Moment> = None;
        for (step, place) in &steps {
            let Step::Line(Pattern { at: Some(at), .. }) = step else { continue };
            if let Some(earlier) = earlier.filter(|earlier| at.latest() < earlier.from) {
                let problem = format!("{what}: {} behind {} goes back in time", at.show(), earlier.show());
                let hint = Some("put the lines in the order in which things happen".to_owned());
                self.report.fault(place, problem, Some(format!("{} or later", earlier.show())), hint);
            }
            if earlier.is_none_or(|earlier| at.from > earlier.from) {
                earlier = Some(at);
            }
        }
        self.within_limit(what, steps)
    }

    fn within_limit(&self, what: &str, steps: Vec<Placed>) -> Vec<Step> {
        let limit = self.known.limit;
        for (step, place) in &steps {
            let Step::Line(Pattern { at: Some(at), .. }) = step else { continue };
            if at.from > limit {
                let problem = format!("{what}: the story is over before {}", at.show());
                let expected = Some(format!("a time up to {}", moment::show(limit, true)));
                let hint = Some("let the story last longer, or expect it earlier".to_owned());
                self.report.fault(place, problem, expected, hint);
            }
        }
        steps.into_iter().map(|(step, _)| step).collect()
    }

    fn notices(&self, section: &mut Section<'_>) -> Option<Vec<Step>> {
        let none = section.at("notices", |value| match value.list() {
            Some(list) if list.is_empty() => Ok(()),
            _ => Err(Mismatch::new("[], when no notice is expected")
                .hint("write [[expect.notice]] for each notice that is expected")),
        });
        if section.is_empty_list("notice") {
            // Asked for, so that it is known.
            section.at("notice", |_| Ok(()));
            return Some(Vec::new());
        }
        let place = section.place_of("notice").clone();
        let expected = section.has("notice");
        let notices: Vec<Placed> =
            section.repeated("notice").into_iter().map(|notice| self.notice(notice)).collect();
        if none.is_some() && !notices.is_empty() {
            let problem = "there is an [[expect.notice]], and notices = [] says that there is none";
            self.report.fault(&place, problem, None, Some("take one of them out".into()));
        }
        (none.is_some() || expected).then(|| self.in_order("notices", notices))
    }

    fn notice(&self, mut section: Section<'_>) -> Placed {
        let place = section.place().clone();
        let to = section.text("to");
        if let Some(to) = &to
            && !self.known.senders.contains(&to.value)
        {
            let problem = format!("a notice to {}, who sends no message", to.value);
            let hint = nearest_of(&to.value, &self.known.senders);
            let hint = hint.unwrap_or_else(|| "notices go to the senders of messages".into());
            self.report.fault(to.place, problem, Some(one_of(&self.known.senders)), Some(hint));
        }
        let at = section.at("at", |value| {
            let moment = value.text().and_then(Moment::parse);
            moment.ok_or_else(|| Mismatch::new(TIME))
        });
        let action = section.word("action", &ACTIONS.map(|action| (action.0, action)));
        let statuses = section.at("status", |value| statuses(value, action));
        let says = section.list("words", |value| {
            let words: Vec<&str> = value.text().unwrap_or_default().split_whitespace().collect();
            if words.is_empty() {
                Err(Mismatch::new("words of the text, in quotes"))
            } else {
                Ok(words.join(" "))
            }
        });
        let place = at.as_ref().map_or(place, |at| at.place.clone());
        let pattern = Pattern {
            at: at.map(|at| at.value),
            words: [to.map(|to| to.value), action.map(|(word, _)| word.to_owned())]
                .into_iter()
                .flatten()
                .chain(statuses.into_iter().flat_map(|statuses| statuses.value))
                .collect(),
            says: says.unwrap_or_default(),
        };
        section.done();
        (Step::Line(pattern), place)
    }
}

const TIME: &str = "a time since the start with its unit, such as \"5m 2s\", or a range such as \"4m..6m\"";

fn placed(value: &Value, parse: fn(&str) -> Result<Step, Mismatch>) -> Result<Placed, Mismatch> {
    let text = value.text().ok_or_else(|| Mismatch::new("a line in quotes"))?;
    parse(text).map(|step| (step, value.place.clone()))
}

/// A time, words, or both.
fn step(text: &str) -> Result<Step, Mismatch> {
    if text.trim().is_empty() {
        return Err(Mismatch::new("a time, words, or both; \"...\" for any number of lines"));
    }
    Step::parse(text).map_err(|wrong| bad_time(&wrong))
}

fn bad_time(wrong: &str) -> Mismatch {
    let mismatch = Mismatch::new(TIME);
    match wrong.split_once("..") {
        _ if wrong.bytes().all(|byte| byte.is_ascii_digit()) => {
            mismatch.hint(format!("write \"{wrong}s\" for {wrong} seconds"))
        }
        Some((from, to)) => match (Moment::parse(from), Moment::parse(to)) {
            (Some(_), Some(_)) => mismatch.hint(format!("write \"{}..{}\"", to.trim(), from.trim())),
            _ => mismatch.hint("a range has a time on both sides"),
        },
        None => mismatch.hint(format!("\"{wrong}\" is no time")),
    }
}

/// The name of an event comes first.
fn event(text: &str) -> Result<Step, Mismatch> {
    let step = step(text)?;
    let Step::Line(pattern) = &step else { return Ok(step) };
    if let Some(word) = pattern.words.first().filter(|word| word.parse::<EventName>().is_err()) {
        let names: Vec<&str> = EventName::ALL.iter().map(|name| name.as_str()).collect();
        let mismatch = Mismatch::new(format!("an event behind the time, one of {}", names.join(", ")));
        return Err(match nearest(&word.to_ascii_uppercase(), &names) {
            Some(name) => mismatch.hint(format!("write \"{name}\" in place of \"{word}\"")),
            None => mismatch.hint(format!("\"{word}\" is no event; its name comes before all other words")),
        });
    }
    Ok(step)
}

/// The outcome comes first, the time behind it; the other way round will do too.
fn outcome(text: &str) -> Result<Step, Mismatch> {
    let expected = || {
        Mismatch::new(format!(
            "one of {}, then when and details, such as \"delivered 5m 2s\"",
            OUTCOMES.join(", ")
        ))
    };
    let (first, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
    let Step::Line(pattern) = (if OUTCOMES.contains(&first) {
        let mut pattern = Pattern::parse(rest).map_err(|wrong| bad_time(&wrong))?;
        pattern.words.insert(0, first.to_owned());
        Step::Line(pattern)
    } else {
        step(text)?
    }) else {
        return Ok(Step::Any);
    };
    let Some(word) = pattern.words.first() else { return Err(expected()) };
    if !OUTCOMES.contains(&word.as_str()) {
        return Err(match nearest(&word.to_ascii_lowercase(), &OUTCOMES) {
            Some(near) => expected().hint(format!("write \"{near}\"")),
            None => expected().hint(format!("\"{word}\" is no outcome")),
        });
    }
    if pattern.at.is_some() && STANDINGS.contains(&word.as_str()) {
        return Err(Mismatch::new(format!("\"{word}\" without a time"))
            .hint("who has no outcome yet has none at the end of the story"));
    }
    Ok(Step::Line(pattern))
}

/// One or several, each of the action's class.
fn statuses(value: &Value, action: Option<(&str, u8)>) -> Result<Vec<String>, Mismatch> {
    let mut statuses = Vec::new();
    for text in value.text().unwrap_or_default().split_whitespace() {
        let status: EnhancedStatus = text.parse().map_err(|_| no_status())?;
        if let Some((word, class)) = action.filter(|(_, class)| *class != status.class()) {
            return Err(Mismatch::new(format!("a status {class}.x.x, as the action is \"{word}\""))
                .hint(format!("write \"{}\", or another action", status.with_class(class))));
        }
        statuses.push(status.to_string());
    }
    if statuses.is_empty() { Err(no_status()) } else { Ok(statuses) }
}

fn no_status() -> Mismatch {
    Mismatch::new("a status such as \"4.4.7\"; of several recipients, one behind the other")
}

fn nearest_of(name: &str, all: &[String]) -> Option<String> {
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    nearest(name, &all).map(|near| format!("write \"{near}\""))
}

/// The names that there are; of many only the first.
fn one_of(all: &[String]) -> String {
    const SHOWN: usize = 8;
    match all.len() {
        0 => "none, as there are none".to_owned(),
        count if count > SHOWN => format!("one of {}, ... ({count} in all)", all[..SHOWN].join(", ")),
        _ => format!("one of {}", all.join(", ")),
    }
}
