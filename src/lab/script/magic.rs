//! Addresses that say themselves what shall happen to them: `451-3times@example.org`.
//!
//! Contract: [`Spell::of`] reads the local part `DEED[-Ntimes][-for-D][-at-STAGE]`, in any case, the parts behind DEED
//! in any order. What is none of these is an address as any other.
//! Invariants: the rule of a spell is about its address alone, from RCPT on.
//! Not here: how often it was cast (`decision`).

use std::num::NonZeroU64;
use std::time::Duration;

use super::deed::Deed;
use super::rule::Rule;
use super::stage::Stage;
use crate::mail::Address;

/// What an address asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spell {
    /// With "N times" as its limit.
    pub rule: Rule,
    /// So long after the address was met for the first time.
    pub lasting: Option<Duration>,
}

impl Spell {
    pub fn of(address: &Address) -> Option<Self> {
        let local = address.local_part().to_ascii_lowercase();
        let mut parts = local.split('-');
        let (deed, usual_stage) = deed(parts.next()?)?;
        let (mut times, mut lasting, mut stage) = (None, None, None);
        while let Some(part) = parts.next() {
            let said_twice = match (part, part.strip_suffix("times").or(part.strip_suffix("time"))) {
                ("for", _) => lasting.replace(humantime::parse_duration(parts.next()?).ok()?).is_some(),
                ("at", _) => stage.replace(parts.next()?.parse::<Stage>().ok()?).is_some(),
                (_, Some(number)) => times.replace(number.parse::<NonZeroU64>().ok()?).is_some(),
                _ => return None,
            };
            if said_twice {
                return None;
            }
        }
        let stage = stage.unwrap_or(usual_stage);
        if !stage.knows_recipients() {
            return None;
        }
        let limit = times.map(|number| format!(", {number} times")).unwrap_or_default();
        // The grammar knows which deed may stand where.
        let rule = format!("{stage} {address}: {deed}{limit}").parse().ok()?;
        Some(Self { rule, lasting })
    }

    /// Whether a message that was taken ends it, so that the next to this address finds it anew. Not where the deed
    /// itself is about a message that was taken.
    pub fn ends_when_taken(&self) -> bool {
        let about_taken = matches!(self.rule.deed, Deed::KeepAndClose | Deed::KeepAndSilence | Deed::Lose);
        self.rule.stage < Stage::Quit && !about_taken
    }
}

/// The deed of a word, as a rule writes it, and where it stands when the address does not say.
fn deed(word: &str) -> Option<(String, Stage)> {
    let deed = match word {
        "timeout" => "silence",
        "close" => "close",
        "reset" => "reset",
        "garbage" => "garbage",
        "slow" => "drip 1s, accept",
        "lost" => return Some(("lose".into(), Stage::Dot)),
        "kept" => return Some(("keep and close".into(), Stage::Dot)),
        _ => return reply(word).map(|reply| (reply, Stage::Rcpt)),
    };
    Some((deed.into(), Stage::Rcpt))
}

/// `451 4.7.1 as the address asks`
fn reply(word: &str) -> Option<String> {
    let plain = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    let code: u16 = plain.then(|| word.parse().ok()).flatten()?;
    if !(200..600).contains(&code) {
        return None;
    }
    let status = status(code).map(|(class, detail)| format!("{class}.{detail} ")).unwrap_or_default();
    Some(format!("{code} {status}as the address asks"))
}

/// The enhanced status that servers send with a code (RFC 3463, RFC 5248); codes of 3yz have none.
fn status(code: u16) -> Option<(u16, &'static str)> {
    let detail = match code {
        250..=252 => "1.5",
        421 => "3.2",
        450 => "2.0",
        451 => "7.1",
        452 => "2.2",
        454 => "7.0",
        500 => "5.2",
        501 | 504 | 555 => "5.4",
        502 | 503 => "5.1",
        521 => "3.2",
        530 => "7.0",
        535 => "7.8",
        550 => "1.1",
        551 => "1.6",
        552 => "2.2",
        553 => "1.3",
        554 => "7.1",
        556 => "1.10",
        _ => "0.0",
    };
    (code / 100 != 3).then_some((code / 100, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spell(address: &str) -> Option<(String, Option<Duration>)> {
        Spell::of(&address.parse().unwrap()).map(|spell| (spell.rule.to_string(), spell.lasting))
    }

    #[test]
    fn magic_addresses_become_rules_about_themselves() {
        for (address, rule) in [
            ("550@example.org", "rcpt 550@example.org: 550 5.1.1 as the address asks"),
            ("451@[IPv6:2001:db8::1]", "rcpt 451@[IPv6:2001:db8::1]: 451 4.7.1 as the address asks"),
            ("451-3times@a.test", "rcpt 451-3times@a.test: 451 4.7.1 as the address asks, 3 times"),
            ("451-1time@a.test", "rcpt 451-1time@a.test: 451 4.7.1 as the address asks, once"),
            ("452-at-dot@a.test", "dot 452-at-dot@a.test: 452 4.2.2 as the address asks"),
            ("354@a.test", "rcpt 354@a.test: 354 as the address asks"),
            ("250@a.test", "rcpt 250@a.test: 250 2.1.5 as the address asks"),
            ("TIMEOUT@a.test", "rcpt TIMEOUT@a.test: silence"),
            ("close-at-data-2times@a.test", "data close-at-data-2times@a.test: close, 2 times"),
            ("reset-at-content@a.test", "content reset-at-content@a.test: reset"),
            ("garbage@a.test", "rcpt garbage@a.test: garbage"),
            ("slow@a.test", "rcpt slow@a.test: drip 1s, accept"),
            ("lost@a.test", "dot lost@a.test: lose"),
            ("kept-1times@a.test", "dot kept-1times@a.test: keep and close, once"),
        ] {
            assert_eq!(spell(address), Some((rule.to_owned(), None)), "{address}");
        }
        let (rule, lasting) = spell("451-2times-for-2h30m@a.test").unwrap();
        assert!(rule.ends_with(", 2 times"), "{rule}");
        assert_eq!(lasting, Some(Duration::from_secs(9000)));
    }

    #[test]
    fn what_is_no_magic_address_is_one_as_any_other() {
        for address in [
            "alice@a.test",
            "199@a.test",
            "600@a.test",
            "4510@a.test",
            "+45@a.test",
            "451-@a.test",
            "451-0times@a.test",
            "451-times@a.test",
            "451-99999999999999999999times@a.test",
            "451-3times-3times@a.test",
            "451-for@a.test",
            "451-for-ages@a.test",
            "451-at-noon@a.test",
            "451-at-mail@a.test",
            "lost-at-rcpt@a.test",
            "close-friends@a.test",
            "\"451\"@a.test",
        ] {
            assert_eq!(spell(address), None, "{address}");
        }
    }
}
