//! What stands before the colon: `STAGE [GLOB] [CONDITION]...`
//!
//! Contract: [`head`] reads all of it or names the fault.
//! Invariants: a glob or a condition about somebody who is not known yet, or that can never hold, is a fault.
//! Not here: what the upstream does (`tail`).

use std::time::Duration;

use super::super::condition::{Attempts, Chance, Conditions, Rate};
use super::super::glob::Glob;
use super::super::rule::RuleError;
use super::super::stage::Stage;
use super::{SHAPE, Word, quoted};

/// The words that begin a condition.
const CONDITIONS: [&str; 8] = ["from", "attempt", "nth", "first", "after", "until", "over", "chance"];

pub(super) struct Head {
    pub stage: Stage,
    pub glob: Option<Glob>,
    pub conditions: Conditions,
}

pub(super) fn head(text: Word<'_>) -> Result<Head, RuleError> {
    let words = text.words();
    let Some((first, rest)) = words.split_first() else {
        return Err(RuleError::new(text.range(), "the rule names no stage").expected(SHAPE));
    };
    let stage = stage(*first)?;
    let mut left = Left { words: rest, head: text };
    let glob = match left.words.first() {
        Some(word) if !is_condition(*word) => Some(own_glob(left.word("a glob")?, stage)?),
        _ => None,
    };
    let mut conditions = Conditions::default();
    while let Some(word) = left.words.first().copied() {
        left.words = &left.words[1..];
        condition(word, &mut left, stage, &mut conditions)?;
    }
    if let (Some(after), Some(until)) = (conditions.after, conditions.until)
        && until <= after
    {
        let head = text.trim().range();
        return Err(RuleError::new(head, "\"until\" is not behind \"after\": this is never")
            .hint("both count from the start"));
    }
    Ok(Head { stage, glob, conditions })
}

pub(super) fn stage(word: Word<'_>) -> Result<Stage, RuleError> {
    word.text.parse().map_err(|_| {
        word.fault(format!("no stage is called \"{}\"", word.text))
            .expected(format!("one of {}", quoted(&Stage::words())))
            .near(word.text, &Stage::words())
    })
}

/// The words that are still to be read.
struct Left<'a, 'w> {
    words: &'w [Word<'a>],
    /// All of the head.
    head: Word<'a>,
}

impl<'a> Left<'a, '_> {
    fn word(&mut self, expected: &str) -> Result<Word<'a>, RuleError> {
        let Some((first, rest)) = self.words.split_first() else {
            let end = self.head.trim().range().end;
            return Err(RuleError::new(end..end, "something is missing here").expected(expected));
        };
        self.words = rest;
        Ok(*first)
    }

    /// All words that follow and begin with a digit, as one.
    fn duration(&mut self) -> Result<Duration, RuleError> {
        let first = self.word("a duration such as 5m")?;
        let more = self.words.iter().take_while(|word| word.begins_with_digit()).count();
        let last = if more == 0 { first } else { self.words[more - 1] };
        self.words = &self.words[more..];
        let text = &self.head.text[first.at - self.head.at..last.range().end - self.head.at];
        Word { text, at: first.at }.duration()
    }
}

fn is_condition(word: Word<'_>) -> bool {
    CONDITIONS.iter().any(|known| word.is(known))
}

/// The glob behind the stage: the sender's at MAIL, recipients' later.
fn own_glob(word: Word<'_>, stage: Stage) -> Result<Glob, RuleError> {
    if !looks_like_glob(word) {
        return Err(no_condition(word));
    }
    if !stage.knows_sender() {
        return Err(word
            .fault(format!("no address is known at \"{stage}\""))
            .expected("a glob stands from \"mail\" on"));
    }
    if stage.knows_recipients() && word.text == "<>" {
        return Err(word
            .fault("a recipient is never \"<>\"")
            .hint("write \"from <>\" for the null reverse-path"));
    }
    glob(word)
}

fn looks_like_glob(word: Word<'_>) -> bool {
    word.text.contains(['*', '?', '@', '<', '>'])
}

fn no_condition(word: Word<'_>) -> RuleError {
    let fault = word
        .fault(format!("\"{}\" is no condition, and no address fits it", word.text))
        .expected(format!("one of {}, or a glob such as *@example.org", quoted(&CONDITIONS)))
        .near(word.text, &CONDITIONS);
    let hint = format!("write \"{0}@*\" or \"*@{0}\" for an address", word.text);
    if fault.hint.is_some() { fault } else { fault.hint(hint) }
}

/// A pattern that some address, or the null reverse-path, fits.
fn glob(word: Word<'_>) -> Result<Glob, RuleError> {
    const EXPECTED: &str = "a glob such as alice@example.org or *@example.org, or <>";
    let text = word.text;
    if !text.is_ascii() {
        return Err(word.fault("addresses are US-ASCII: none fits this").expected(EXPECTED));
    }
    let inner = text.trim_matches(['<', '>']);
    if text != "<>" && inner.len() < text.len() && !text.contains('"') {
        return Err(word.fault("a glob has no angle brackets").hint(match inner {
            "" => "write \"<>\" for the null reverse-path".into(),
            _ => format!("write \"{inner}\""),
        }));
    }
    if !looks_like_glob(word) {
        return Err(word
            .fault(format!("no address fits \"{text}\""))
            .expected(EXPECTED)
            .hint(format!("write \"{text}@*\" or \"*@{text}\"")));
    }
    Ok(Glob::new(text))
}

/// The condition that `word` begins.
fn condition(
    word: Word<'_>,
    left: &mut Left<'_, '_>,
    stage: Stage,
    conditions: &mut Conditions,
) -> Result<(), RuleError> {
    let Some(name) = CONDITIONS.into_iter().find(|known| word.is(known)) else {
        return Err(match looks_like_glob(word) {
            true => word.fault("a glob does not stand here").expected("one glob, right behind the stage"),
            false => no_condition(word),
        });
    };
    let twice = match name {
        "from" => {
            if !stage.knows_recipients() {
                return Err(word
                    .fault(format!("\"from\" cannot stand at \"{stage}\""))
                    .expected("it stands from \"rcpt\" on; at \"mail\" the glob itself is the sender's"));
            }
            let from = glob(left.word("a glob of senders such as *@example.org, or <>")?)?;
            conditions.from.replace(from).is_some()
        }
        "attempt" => {
            let range = attempts(left.word("a number or a range: 2, 2..3, 2..")?)?;
            conditions.attempt.replace(range).is_some()
        }
        "nth" => {
            if stage < Stage::Ehlo {
                return Err(word
                    .fault(format!("a connection has one \"{stage}\""))
                    .expected("\"nth\" counts from \"ehlo\" on; \"attempt\" counts connections"));
            }
            let range = attempts(left.word("a number or a range: 2, 2..3, 2..")?)?;
            conditions.nth.replace(range).is_some()
        }
        "first" => conditions.first.replace(left.duration()?).is_some(),
        "after" => conditions.after.replace(left.duration()?).is_some(),
        "until" => conditions.until.replace(left.duration()?).is_some(),
        "over" => conditions.over.replace(rate(left)?).is_some(),
        _ => conditions.chance.replace(chance(left.word("a percentage such as 30%")?)?).is_some(),
    };
    match twice {
        true => Err(word.fault(format!("\"{name}\" is said twice")).expected(format!("one \"{name}\""))),
        false => Ok(()),
    }
}

/// `2`, `2..3`, `2..`
fn attempts(word: Word<'_>) -> Result<Attempts, RuleError> {
    let Some(dots) = word.text.find("..") else {
        let number = word.number().map_err(|fault| fault.expected("a number or a range: 2, 2..3, 2.."))?;
        return Ok(Attempts { first: number, last: Some(number) });
    };
    let from = Word { text: &word.text[..dots], at: word.at };
    let to = Word { text: &word.text[dots + 2..], at: word.at + dots + 2 };
    if from.text.is_empty() {
        return Err(word.fault("the range has no start").hint(format!("write \"1..{}\"", to.text)));
    }
    let first = from.number()?;
    if to.text.is_empty() {
        return Ok(Attempts { first, last: None });
    }
    let last = to.number()?;
    if last < first {
        return Err(word
            .fault("the range ends before it starts")
            .expected("the smaller number first")
            .hint(format!("write \"{last}..{first}\"")));
    }
    Ok(Attempts { first, last: Some(last) })
}

/// `10 in 1m`
fn rate(left: &mut Left<'_, '_>) -> Result<Rate, RuleError> {
    let count = left.word("a rate such as \"10 in 1m\"")?;
    let more_than = count.number()?;
    let more_than = u32::try_from(more_than)
        .map_err(|_| count.fault("the number is too large").expected(format!("at most {}", u32::MAX)))?;
    let between = left.word("\"in\" and a duration")?;
    if !between.is("in") {
        return Err(between
            .fault(format!("\"{}\" does not stand in a rate", between.text))
            .expected("a rate such as \"10 in 1m\"")
            .hint("write \"in\""));
    }
    Ok(Rate { more_than, within: left.duration()? })
}

/// `30%`, `0.5%`: from 0 to 100, with at most four decimals.
fn chance(word: Word<'_>) -> Result<Chance, RuleError> {
    const EXPECTED: &str = "a percentage from 0% to 100%, with at most four decimals";
    let wrong = || word.fault(format!("\"{}\" is no chance", word.text)).expected(EXPECTED);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = word.text.strip_suffix('%') else {
        let hint = digits(word.text).then(|| format!("write \"{}%\"", word.text));
        return Err(RuleError { hint, ..wrong() });
    };
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
    let millionths = whole.checked_mul(10_000).and_then(|whole| whole.checked_add(decimals));
    millionths.filter(|millionths| *millionths <= Chance::CERTAIN).map(Chance).ok_or_else(wrong)
}
