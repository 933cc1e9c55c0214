//! Reading a rule.
//!
//! Contract: [`rule`] gives the value of a text, or the first fault with its bytes, what could stand there and, where
//! a word is nearly right, the right one. Every text is either; none panics.
//! Invariants: what can never fit or never be done is a fault.
//! Not here: the value and how it is displayed (`rule`).

mod head;
mod raw;
mod tail;
mod word;

pub(super) use word::nearest;

use super::rule::{Rule, RuleError};
use word::{Word, quoted};

/// How a rule looks, as faults say it.
const SHAPE: &str = "a rule such as \"rcpt *@example.test: 451 4.7.1 try later, 3 times\"";

/// The rule that `text` says.
pub(super) fn rule(text: &str) -> Result<Rule, RuleError> {
    let line = Word { text, at: 0 };
    if line.trim().text.is_empty() {
        return Err(line.fault("the rule is empty").expected(SHAPE));
    }
    let colon = match colon(text) {
        Ok(colon) => colon,
        Err(fault) => return Err(without_colon(line.trim(), fault)),
    };
    let (before, behind) = line.split_around(colon);
    let head = head::head(before)?;
    let tail = tail::tail(behind, head.stage)?;
    Ok(Rule {
        stage: head.stage,
        glob: head.glob,
        conditions: head.conditions,
        delay: tail.delay,
        drip: tail.drip,
        closing: tail.closing,
        deed: tail.deed,
        limit: tail.limit,
    })
}

/// Where the colon is that ends the head: the first that stands in no quotes and no address literal.
fn colon(text: &str) -> Result<usize, RuleError> {
    let (mut quote, mut bracket) = (None, None);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quote = if quote.is_none() { Some(at) } else { None },
            _ if quote.is_some() => {}
            b'[' => bracket = bracket.or(Some(at)),
            b']' => bracket = None,
            b':' if bracket.is_none() => return Ok(at),
            _ => {}
        }
    }
    let unclosed = |at: usize, what| RuleError::new(at..at + 1, format!("this {what} is not closed"));
    match (quote, bracket) {
        (Some(at), _) => Err(unclosed(at, "quote")),
        (None, Some(at)) => Err(unclosed(at, "bracket")),
        (None, None) => Err(RuleError::new(text.len()..text.len(), "the rule has no colon").expected(SHAPE)),
    }
}

/// A first word that is no stage is the better fault: this is no rule at all.
fn without_colon(line: Word<'_>, fault: RuleError) -> RuleError {
    match line.words().first().map(|word| head::stage(*word)) {
        Some(Err(no_stage)) => no_stage,
        _ => fault,
    }
}
