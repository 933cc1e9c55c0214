//! Names of real life, and what stands in their place.
//!
//! Contract: the same name always gives the same mask, and a different one a different mask: addresses become
//! `sender1@example.org` and `recipient1@example.com`, with one masked domain for each real one; hosts, network
//! addresses and queue ids within a reply's text become `main.example.net`, `192.0.2.1` and `ID1`. A name that is a
//! part of a known domain keeps its relation to it.
//! Invariants: all addresses are introduced before a text is masked, so that a name is found wherever it stands.
//! What cannot be recognised stays: a name in prose, a number of a customer. The file says that it should be read.
//! Not here: which texts there are.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Words of replies that are also local parts; masking them would spoil the text and betray nothing.
const PLAIN_WORDS: &[&str] = &[
    "abuse",
    "admin",
    "address",
    "box",
    "client",
    "contact",
    "host",
    "info",
    "mail",
    "mailbox",
    "message",
    "postmaster",
    "recipient",
    "relay",
    "root",
    "sender",
    "server",
    "service",
    "smtp",
    "spam",
    "support",
    "system",
    "test",
    "the",
    "user",
];
/// The domains given first to senders and to recipients.
const FIRST_OF_SENDERS: &str = "example.org";
const FIRST_OF_RECIPIENTS: &str = "example.com";

/// The masks given so far.
#[derive(Debug, Default)]
pub(super) struct Mask {
    addresses: HashMap<String, String>,
    domains: HashMap<String, String>,
    local_parts: HashMap<String, String>,
    networks: HashMap<String, String>,
    ids: HashMap<String, String>,
    senders: usize,
    recipients: usize,
}

impl Mask {
    /// A server's own name, `name` being how the scenario calls the server.
    pub fn host(&mut self, real: &str, name: &str) {
        let real = real.trim_matches(['[', ']', '.']).to_ascii_lowercase();
        if real.contains('.') && real.parse::<Ipv4Addr>().is_err() {
            self.domains.entry(real).or_insert_with(|| format!("{name}.example.net"));
        }
    }

    /// The mask of a sender; the null reverse-path stays.
    pub fn sender(&mut self, real: &str) -> String {
        if real.is_empty() || real == "<>" {
            return "<>".to_owned();
        }
        self.address(real, FIRST_OF_SENDERS)
    }

    pub fn recipient(&mut self, real: &str) -> String {
        self.address(real, FIRST_OF_RECIPIENTS)
    }

    fn address(&mut self, real: &str, first: &str) -> String {
        let real = real.to_ascii_lowercase();
        if let Some(mask) = self.addresses.get(&real) {
            return mask.clone();
        }
        let (role, number) = if first == FIRST_OF_SENDERS {
            self.senders += 1;
            ("sender", self.senders)
        } else {
            self.recipients += 1;
            ("recipient", self.recipients)
        };
        let local = format!("{role}{number}");
        let (real_local, domain) = real.rsplit_once('@').unwrap_or((&real, "nowhere.invalid"));
        if real_local.len() > 2 && !PLAIN_WORDS.contains(&real_local) {
            self.local_parts.entry(real_local.to_owned()).or_insert_with(|| local.clone());
        }
        let mask = format!("{local}@{}", self.domain(domain, Some(first)));
        self.addresses.insert(real, mask.clone());
        mask
    }

    /// The mask of a domain; `wished` if nobody has it yet.
    fn domain(&mut self, real: &str, wished: Option<&str>) -> String {
        if let Some(mask) = self.domains.get(real) {
            return mask.clone();
        }
        let free = |wish: &&str| !self.domains.values().any(|given| given == *wish);
        let mask = match wished.filter(free) {
            Some(wish) => wish.to_owned(),
            None => match self.parent(real) {
                Some((part, parent)) => format!("{part}.{parent}"),
                None => format!("example{}.test", self.domains.len() + 1),
            },
        };
        self.domains.insert(real.to_owned(), mask.clone());
        mask
    }

    /// Of a name below a known domain: a name of its own and the mask of that domain.
    fn parent(&self, real: &str) -> Option<(String, String)> {
        let mut rest = real;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(mask) = self.domains.get(parent) {
                return Some((format!("part{}", self.domains.len() + 1), mask.clone()));
            }
            rest = parent;
        }
        None
    }

    /// A text of a server, with everything in it that is recognised masked, and without control characters.
    pub fn text(&mut self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let (between, from) = rest.split_at(start);
            masked.push_str(between);
            let (word, behind) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
            // Marks of the sentence at either end aren't part of a name.
            let core = word.trim_end_matches(['.', ':', '-', '=', '@', '+']);
            let begin = core.len() - core.trim_start_matches(['.', ':', '-', '=', '@', '+']).len();
            masked.push_str(&core[..begin]);
            masked.push_str(&self.word(&core[begin..]));
            masked.push_str(&word[core.len()..]);
            rest = behind;
        }
        masked.push_str(rest);
        // Only now, so that an address in UTF-8 is still found as what it is.
        masked.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
    }

    fn word(&mut self, word: &str) -> String {
        let small = word.to_ascii_lowercase();
        if let Some(mask) = self.addresses.get(&small).or_else(|| self.domains.get(&small)) {
            return mask.clone();
        }
        if let Some((before, address)) = small.split_once('=')
            && (before.bytes().all(|b| b.is_ascii_alphabetic()))
        {
            // A parameter of an address or a link: `from=a@x.test`.
            return format!("{}={}", &word[..before.len()], self.word(&word[word.len() - address.len()..]));
        }
        if let Some((local, domain)) = small.rsplit_once('@')
            && !local.is_empty()
            && is_domain(domain)
        {
            return self.recipient(&small);
        }
        if let Some(mask) = self.network(&small) {
            return mask;
        }
        if let Some(mask) = self.local_parts.get(&small) {
            return mask.clone();
        }
        if is_domain(&small) {
            return self.domain(&small, None);
        }
        if let Some(at) = word.find([':', '=']) {
            // `mx.provider.test:25`, `client-ip=203.0.113.9`: what is on either side may be a name.
            let (before, behind) = (self.word(&word[..at]), self.word(&word[at + 1..]));
            return format!("{before}{}{behind}", &word[at..=at]);
        }
        if is_id(word) {
            let next = self.ids.len() + 1;
            return self.ids.entry(word.to_owned()).or_insert_with(|| format!("ID{next}")).clone();
        }
        word.to_owned()
    }

    fn network(&mut self, word: &str) -> Option<String> {
        let next = self.networks.len() + 1;
        let bare = word.strip_prefix("ipv6:").unwrap_or(word);
        let mask = if word.parse::<Ipv4Addr>().is_ok() {
            format!("192.0.2.{}", next % 255)
        } else if bare.contains("::") || bare.matches(':').count() == 7 {
            bare.parse::<Ipv6Addr>().ok()?;
            format!("2001:db8::{next:x}")
        } else {
            return None;
        };
        Some(self.networks.entry(word.to_owned()).or_insert(mask).clone())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || ".-_@:+=".contains(c)
}

/// Several labels, the last of letters: not a version, an enhanced status or a moment.
fn is_domain(word: &str) -> bool {
    let mut labels = word.rsplit('.');
    let top = labels.next().unwrap_or_default();
    let label =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    let mut below = labels.peekable();
    below.peek().is_some() && top.len() >= 2 && top.chars().all(char::is_alphabetic) && below.all(label)
}

/// Long, with digits and letters mixed, or a very long number: a queue id, or a name of a session.
fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    (digits >= 2 && letters >= 1 && digits + letters >= 8) || (letters == 0 && digits >= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        let mut mask = Mask::default();
        mask.host("mx1.provider.test", "main");
        assert_eq!(mask.sender("Carol@firm.test"), "sender1@example.org");
        assert_eq!(mask.recipient("dave@provider.test"), "recipient1@example.com");
        assert_eq!(mask.recipient("erin@firm.test"), "recipient2@example.org");
        assert_eq!(mask.recipient("frank@elsewhere.test"), "recipient3@example4.test");
        mask
    }

    #[test]
    fn the_same_name_gives_the_same_mask_everywhere() {
        let mut mask = mask();
        assert_eq!(mask.sender("carol@FIRM.test"), "sender1@example.org");
        assert_eq!(mask.sender(""), "<>");
        assert_eq!(
            mask.text("<DAVE@provider.test>: user dave unknown at mx1.provider.test; see provider.test."),
            "<recipient1@example.com>: user recipient1 unknown at main.example.net; see example.com."
        );
        assert_eq!(
            mask.text("from=carol@firm.test, to=x@new.test"),
            "from=sender1@example.org, to=recipient4@example5.test"
        );
    }

    #[test]
    fn names_in_utf_8_are_masked_like_others() {
        let mut mask = mask();
        assert_eq!(mask.recipient("ren\u{e9}e@b\u{fc}cher.test"), "recipient4@example5.test");
        assert_eq!(
            mask.text(
                "<Ren\u{e9}e@b\u{fc}cher.test>: no mailbox ren\u{e9}e, nor \u{7528}\u{6237}@\u{4f8b}.test; d\u{e9}sol\u{e9}"
            ),
            "<recipient4@example5.test>: no mailbox recipient4, nor recipient5@example6.test; d?sol?"
        );
    }

    #[test]
    fn hosts_networks_and_ids_in_a_text_are_masked() {
        let mut mask = mask();
        assert_eq!(
            mask.text("4.7.0 [203.0.113.9 7] rate limited, see https://help.provider.test/x?id=1. d2e1a72fcca58-abc42 - gsmtp"),
            "4.7.0 [192.0.2.1 7] rate limited, see https://part5.example.com/x?id=1. ID1 - gsmtp"
        );
        assert_eq!(mask.text("host 2001:0db8:aa::9 and 203.0.113.9"), "host 2001:db8::2 and 192.0.2.1");
        assert_eq!(
            mask.text(
                "mx1.provider.test:25 [203.0.113.9:25] client-ip=203.0.113.9 relay:host.new.test at 12:30:45"
            ),
            "main.example.net:25 [192.0.2.1:25] client-ip=192.0.2.1 relay:example6.test at 12:30:45"
        );
        assert_eq!(mask.text("4XyZ12abcQ: queued 1700000000"), "ID2: queued ID3");
    }

    #[test]
    fn what_is_no_name_stays() {
        let mut mask = mask();
        for text in [
            "4.7.1 Recipient address rejected: Greylisted, see you in 300 seconds",
            "Exim 4.96 8BITMIME SMTPUTF8 (S3150) [TSS04]",
            "try again later...",
        ] {
            assert_eq!(mask.text(text), text);
        }
        assert_eq!(mask.text("nul\u{0} and \u{e9}"), "nul? and ?");
    }
}
