//! What stands behind the colon: `[delay D,] [drip D,] [closing,] DEED [, N times | , once | , for D]`
//!
//! Contract: [`tail`] reads all of it or names the fault. The text of a reply may hold commas: what stands behind its
//! last one is a limit only where it has the form of one.
//! Invariants: a deed at a stage where it cannot be done is a fault.
//! Not here: when the rule fits (`head`).

use std::time::Duration;

use super::super::deed::{BadCertificate, BadHandshake, Deed, Flood};
use super::super::rule::{Limit, RuleError};
use super::super::stage::Stage;
use super::{Word, quoted, raw};
use crate::mail::Reply;

/// The words that begin a deed, besides the code of a reply.
const DEEDS: [&str; 16] = [
    "accept",
    "silence",
    "close",
    "reset",
    "refuse",
    "unreachable",
    "garbage",
    "raw",
    "flood",
    "half-close",
    "stall",
    "without",
    "certificate",
    "handshake",
    "keep",
    "lose",
];

/// The words that say how a deed is done.
const MANNERS: [&str; 3] = ["delay", "drip", "closing"];

/// The keywords of EHLO that are registered with IANA.
const EXTENSIONS: [&str; 30] = [
    "8BITMIME",
    "ATRN",
    "AUTH",
    "BINARYMIME",
    "BURL",
    "CHECKPOINT",
    "CHUNKING",
    "CONNEG",
    "CONPERM",
    "DELIVERBY",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "ETRN",
    "EXPN",
    "FUTURERELEASE",
    "HELP",
    "LIMITS",
    "MT-PRIORITY",
    "MTRK",
    "NO-SOLICITING",
    "PIPELINING",
    "REQUIRETLS",
    "RRVS",
    "SIZE",
    "SMTPUTF8",
    "STARTTLS",
    "SUBMITTER",
    "TURN",
    "UTF8SMTP",
    "VERP",
];

pub(super) struct Tail {
    pub delay: Duration,
    pub drip: Option<Duration>,
    pub closing: bool,
    pub deed: Deed,
    pub limit: Option<Limit>,
}

pub(super) fn tail(text: Word<'_>, stage: Stage) -> Result<Tail, RuleError> {
    let (manner, left) = manner(text.trim())?;
    let is_text = left.begins_with_digit() || raw::begins(left);
    let (body, limit) = if is_text { reply_and_limit(left)? } else { deed_and_limit(left)? };
    let deed = match body.begins_with_digit() {
        true => reply(body)?,
        false if raw::begins(body) => Deed::Raw(raw::octets(body)?),
        false => deed(body)?,
    };
    may_stand(&deed, body, stage)?;
    let Manner { delay, drip, closing } = manner;
    if drip.is_some() && !deed.sends(stage) {
        return Err(body.fault("nothing is sent that could drip").expected("a reply, or no \"drip\""));
    }
    if closing && !deed.sends(stage) {
        return Err(body
            .fault("nothing is sent behind which it could close")
            .expected("a reply, or no \"closing\""));
    }
    Ok(Tail { delay: delay.unwrap_or_default(), drip, closing, deed, limit })
}

/// How the deed is done.
#[derive(Default)]
struct Manner {
    delay: Option<Duration>,
    drip: Option<Duration>,
    closing: bool,
}

/// What stands before the deed, and the rest.
fn manner(mut left: Word<'_>) -> Result<(Manner, Word<'_>), RuleError> {
    let mut manner = Manner::default();
    while let Some(word) = left.words().first().copied()
        // The comma may stand right behind it.
        && let Some(how) = MANNERS.into_iter().find(|how| word.is(how) || word.is(&format!("{how},")))
    {
        let name = Word { text: &word.text[..how.len()], at: word.at };
        let Some(comma) = left.text.find(',') else {
            let end = left.range().end;
            return Err(RuleError::new(end..end, format!("nothing follows \"{}\"", name.text))
                .expected("a comma and what the upstream does")
                .hint("write \", accept\""));
        };
        let (before, behind) = left.split_around(comma);
        let (_, detail) = before.split_at(name.text.len());
        let twice = match how {
            "closing" => {
                if let Some(more) = detail.words().first() {
                    return Err(more.fault("nothing follows \"closing\" but a comma"));
                }
                std::mem::replace(&mut manner.closing, true)
            }
            "delay" => manner.delay.replace(detail.trim().duration()?).is_some(),
            _ => manner.drip.replace(detail.trim().duration()?).is_some(),
        };
        if twice {
            return Err(name.fault(format!("\"{}\" is said twice", name.text)));
        }
        left = behind.trim();
    }
    Ok((manner, left))
}

fn may_stand(deed: &Deed, body: Word<'_>, stage: Stage) -> Result<(), RuleError> {
    let stages = deed.stages();
    if stages.contains(&stage) {
        return Ok(());
    }
    let name = match deed {
        Deed::Reply(_) => "a reply".into(),
        _ => format!("\"{deed}\""),
    };
    let fault = body.fault(format!("{name} cannot stand at \"{stage}\""));
    Err(match stages {
        [only] => fault.expected(format!("it stands at \"{only}\" alone")),
        // All but the connection itself.
        _ => fault
            .expected("something is sent from \"greeting\" on")
            .hint("write \"greeting\", or \"refuse\", \"silence\" or \"close\""),
    })
}

/// A reply's text and the limit behind its last comma, where what stands there has the form of one.
fn reply_and_limit(text: Word<'_>) -> Result<(Word<'_>, Option<Limit>), RuleError> {
    let Some(comma) = text.text.rfind(',') else { return Ok((text, None)) };
    let (before, behind) = text.split_around(comma);
    let words = behind.words();
    let is_limit = match words.as_slice() {
        [once] => once.is("once"),
        // One letter beside "times" was meant as it.
        [number, times] if number.begins_with_digit() => {
            let nearly = strsim::damerau_levenshtein(&times.text.to_ascii_lowercase(), "times") <= 1;
            nearly && number.text.bytes().all(|byte| byte.is_ascii_digit())
        }
        [word, duration] if word.is("for") => duration.begins_with_digit(),
        [word, ..] if word.is("for") => limit(behind).is_ok(),
        _ => false,
    };
    if is_limit { Ok((before.trim(), Some(limit(behind)?))) } else { Ok((text, None)) }
}

/// A deed that is no reply has no comma of its own.
fn deed_and_limit(text: Word<'_>) -> Result<(Word<'_>, Option<Limit>), RuleError> {
    let Some(comma) = text.text.find(',') else { return Ok((text, None)) };
    let (before, behind) = text.split_around(comma);
    Ok((before.trim(), Some(limit(behind)?)))
}

/// `N times`, `once`, `for D`
fn limit(text: Word<'_>) -> Result<Limit, RuleError> {
    let words = text.words();
    match words.as_slice() {
        [once] if once.is("once") => Ok(Limit::Times(1)),
        [number, times] if times.is("times") || times.is("time") => number.number().map(Limit::Times),
        [word, ..] if word.is("for") => {
            let (_, duration) = text.trim().split_at("for".len());
            duration.trim().duration().map(Limit::For)
        }
        _ => {
            let fault = text.trim().fault("this is no limit").expected("\"3 times\", \"once\" or \"for 2h\"");
            Err(match words.last() {
                Some(last) => fault.near(last.text, &["times", "once"]),
                None => fault,
            })
        }
    }
}

/// `451 4.7.1 text`, further lines behind `\n`.
fn reply(body: Word<'_>) -> Result<Deed, RuleError> {
    const EXPECTED: &str = "a code from 200 to 599, a blank and the text, such as \"451 4.7.1 try later\"";
    let digits = body.text.bytes().take_while(u8::is_ascii_digit).count();
    let (code, text) = body.split_at(digits);
    let number = code.text.parse().ok().filter(|number| digits == 3 && (200..600).contains(number));
    let number: u16 = number
        .ok_or_else(|| code.fault(format!("\"{}\" is no code of a reply", code.text)).expected(EXPECTED))?;
    if !(text.text.is_empty() || text.text.starts_with(char::is_whitespace)) {
        let fault = code.fault("no blank follows the code").expected(EXPECTED);
        let is_dash = text.text.starts_with('-');
        return Err(if is_dash {
            fault.hint("write each further line behind \\n, without the code")
        } else {
            fault
        });
    }
    // A line end that a file's own escapes have made of `\n` is the same.
    let lines = text.text.replace("\\n", "\n");
    if let Some((at, character)) =
        text.text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\t'))
    {
        let at = text.at + at;
        return Err(RuleError::new(at..at + character.len_utf8(), "a reply holds no control characters")
            .expected("printable text; a further line behind \\n"));
    }
    Ok(Deed::Reply(Reply::with_lines(number, lines.split('\n').map(|line| line.trim().to_owned()).collect())))
}

/// A deed of words.
fn deed(body: Word<'_>) -> Result<Deed, RuleError> {
    let words = body.words();
    let Some((first, rest)) = words.split_first() else {
        return Err(body
            .fault("the rule does nothing")
            .expected(format!("a reply such as \"451 4.7.1 try later\", or one of {}", quoted(&DEEDS)))
            .hint("write \"accept\" for what a good server does"));
    };
    let name = DEEDS.into_iter().find(|known| first.is(known)).ok_or_else(|| unknown_deed(*first))?;
    match name {
        "without" => return without(*first, rest).map(Deed::Without),
        "certificate" => return certificate(*first, rest).map(Deed::Certificate),
        "handshake" => {
            return kind(*first, rest, &BadHandshake::ALL, BadHandshake::word).map(Deed::Handshake);
        }
        "flood" => return kind(*first, rest, &Flood::ALL, Flood::word).map(Deed::Flood),
        "keep" => return keep(*first, rest),
        _ => {}
    }
    if let Some(more) = rest.first() {
        return Err(more
            .fault(format!("nothing follows \"{name}\" but a limit"))
            .expected("\", 3 times\", \", once\" or \", for 2h\""));
    }
    Ok(match name {
        "accept" => Deed::Accept,
        "silence" => Deed::Silence,
        "close" => Deed::Close,
        "reset" => Deed::Reset,
        "refuse" => Deed::Refuse,
        "unreachable" => Deed::Unreachable,
        "garbage" => Deed::Garbage,
        "half-close" => Deed::HalfClose,
        "stall" => Deed::Stall,
        _ => Deed::Lose,
    })
}

fn unknown_deed(word: Word<'_>) -> RuleError {
    // What magic addresses and other people call it.
    const OTHERS: [(&str, &str); 6] = [
        ("timeout", "silence"),
        ("slow", "drip 1s, accept"),
        ("lost", "lose"),
        ("kept", "keep and close"),
        ("drop", "close"),
        ("ok", "accept"),
    ];
    let fault = word
        .fault(format!("\"{}\" is nothing an upstream does", word.text))
        .expected(format!("a reply such as \"451 4.7.1 try later\", or one of {}", quoted(&DEEDS)));
    match OTHERS.iter().find(|(other, _)| word.is(other)) {
        Some((_, deed)) => fault.hint(format!("write \"{deed}\"")),
        None => fault.near(word.text, &DEEDS),
    }
}

/// `DSN SIZE`
fn without(first: Word<'_>, words: &[Word<'_>]) -> Result<Vec<String>, RuleError> {
    if words.is_empty() {
        return Err(first
            .fault("\"without\" names no extension")
            .expected("keywords of EHLO: \"without DSN SIZE\""));
    }
    let keyword = |word: &Word<'_>| {
        let name = word.text.to_ascii_uppercase();
        let private = name.len() > 1 && name.starts_with('X');
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if EXTENSIONS.contains(&name.as_str()) || (private && plain) {
            return Ok(name);
        }
        Err(word
            .fault(format!("no extension is called \"{}\"", word.text))
            .expected("keywords of EHLO with blanks between them: \"without DSN SIZE\"")
            .near(&name, &EXTENSIONS))
    };
    words.iter().map(keyword).collect()
}

/// `expired`
fn certificate(first: Word<'_>, words: &[Word<'_>]) -> Result<BadCertificate, RuleError> {
    let known = BadCertificate::ALL.map(BadCertificate::word);
    let expected = format!("one of {}", quoted(&known));
    let [word] = words else {
        let place = words.get(1).unwrap_or(&first);
        return Err(place.fault("\"certificate\" has one fault").expected(expected));
    };
    BadCertificate::ALL.into_iter().find(|fault| word.is(fault.word())).ok_or_else(|| {
        word.fault(format!("no certificate is called \"{}\"", word.text))
            .expected(expected)
            .near(word.text, &known)
    })
}

/// `flood lines`, `handshake reset`: a deed with one of its kinds.
fn kind<T: Copy>(
    first: Word<'_>,
    words: &[Word<'_>],
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, RuleError> {
    let known: Vec<&str> = all.iter().map(|kind| name(*kind)).collect();
    let expected = format!("one of {}", quoted(&known));
    let [word] = words else {
        let place = words.get(1).unwrap_or(&first);
        let problem = format!("one word follows \"{}\"", first.text.to_ascii_lowercase());
        return Err(place.fault(problem).expected(expected));
    };
    all.iter().copied().find(|kind| word.is(name(*kind))).ok_or_else(|| {
        let problem = format!("no {} is called \"{}\"", first.text.to_ascii_lowercase(), word.text);
        word.fault(problem).expected(expected).near(word.text, &known)
    })
}

/// `keep and close`, `keep and silence`
fn keep(first: Word<'_>, words: &[Word<'_>]) -> Result<Deed, RuleError> {
    match words {
        [and, deed] if and.is("and") && deed.is("close") => Ok(Deed::KeepAndClose),
        [and, deed] if and.is("and") && deed.is("silence") => Ok(Deed::KeepAndSilence),
        _ => Err(words
            .last()
            .unwrap_or(&first)
            .fault("\"keep\" is half a deed: what follows is missing or wrong")
            .expected("\"keep and close\" or \"keep and silence\"")),
    }
}
