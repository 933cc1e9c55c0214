//! The notation of `tests/dialogues/*.txt`, described in the README.md beside them.
//!
//! Contract: [`Dialogue::read_all`] reads every file; a fault in one is a panic with its line. [`rendered`] writes
//! a message that was taken as it would stand in `M:` lines.
//! Not here: what plays a dialogue: the bare machine (`tests/dialogues.rs`), a relay and the real program
//! (`tests/dialogues_program.rs`).

#![allow(dead_code)] // each test binary uses its part

use std::fs;
use std::path::Path;

use posthouse::clock::Timestamp;
use posthouse::mail::{BodyType, ByMode, Envelope, Reply, Ret, encode_xtext};
use posthouse::smtp::server::{AuthOffer, BareNewlines, ContentRules, Permission};

/// One file.
#[derive(Debug)]
pub struct Dialogue {
    pub name: String,
    /// The remark at the head of the file.
    pub purpose: String,
    pub limits: Vec<(String, u64)>,
    pub starttls: bool,
    pub implicit_tls: bool,
    pub auth: AuthOffer,
    pub content: ContentRules,
    /// What time it is, where that matters.
    pub now: Timestamp,
    /// Whether the file says what time it is.
    pub is_dated: bool,
    pub rules: Vec<Rule>,
    pub acts: Vec<Act>,
    /// The messages that the server takes, as octets.
    pub messages: Vec<u8>,
}

/// A policy that does not accept.
#[derive(Debug)]
pub struct Rule {
    /// `greeting`, `mail`, `rcpt`, `data` or `end`.
    pub question: String,
    pub pattern: String,
    /// `None`: the answer gets lost.
    pub reply: Option<Reply>,
}

impl Rule {
    pub fn matches(&self, question: &str, address: &str) -> bool {
        self.question == question
            && match self.pattern.strip_prefix('*') {
                Some(end) => address.ends_with(end),
                None => address == self.pattern,
            }
    }
}

#[derive(Debug, PartialEq)]
pub enum Act {
    Send(Vec<u8>),
    Expect(Vec<Line>),
    Tls,
    Abort(Reply),
    Closed,
    Eof,
}

/// A line that the server sends, without its CRLF.
#[derive(Debug, PartialEq)]
pub enum Line {
    Exactly(Vec<u8>),
    Beginning(Vec<u8>),
}

impl Line {
    pub fn matches(&self, line: &[u8]) -> bool {
        match self {
            Self::Exactly(expected) => line == expected,
            Self::Beginning(expected) => line.starts_with(expected),
        }
    }
}

impl Dialogue {
    /// All files in `folder`, by name.
    pub fn read_all(folder: &Path) -> Vec<Dialogue> {
        let entries = fs::read_dir(folder).expect("the folder of dialogues can be read");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            Dialogue::parse(name, &fs::read_to_string(path).expect("a dialogue is UTF-8"))
        };
        paths.iter().map(read).collect()
    }

    pub fn parse(name: String, text: &str) -> Dialogue {
        let mut dialogue = Dialogue {
            name,
            purpose: String::new(),
            limits: Vec::new(),
            starttls: false,
            implicit_tls: false,
            auth: AuthOffer::default(),
            content: ContentRules::default(),
            now: Timestamp::from_millis(1_795_176_000_000),
            is_dated: false,
            rules: Vec::new(),
            acts: Vec::new(),
            messages: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            if let Err(fault) = dialogue.take_line(line) {
                panic!("{}.txt, line {}: {fault}: {line}", dialogue.name, index + 1);
            }
        }
        assert!(!dialogue.purpose.is_empty(), "{}.txt does not say what it stands for", dialogue.name);
        dialogue
    }

    fn take_line(&mut self, line: &str) -> Result<(), &'static str> {
        if line.is_empty() {
            return Ok(());
        }
        let (mark, text) = line.split_at_checked(2).ok_or("a line begins with two characters and a blank")?;
        let text = text.strip_prefix(' ').unwrap_or(text);
        match mark {
            "# " | "#" => {
                if self.acts.is_empty() {
                    self.purpose.push_str(line.trim_start_matches(['#', ' ']));
                    self.purpose.push(' ');
                }
            }
            "C:" => self.send(&[&unescape(text)?[..], b"\r\n"].concat()),
            "C<" => self.send(&unescape(text)?),
            "S:" => self.expect(Line::Exactly(unescape(text)?)),
            "S~" => self.expect(Line::Beginning(unescape(text)?)),
            "M:" => {
                self.messages.extend(unescape(text)?);
                self.messages.extend(b"\r\n");
            }
            "@ " => return self.directive(text),
            _ => return Err("expected #, C:, C<, S:, S~, M: or @"),
        }
        Ok(())
    }

    fn send(&mut self, octets: &[u8]) {
        match self.acts.last_mut() {
            Some(Act::Send(sent)) => sent.extend_from_slice(octets),
            _ => self.acts.push(Act::Send(octets.to_vec())),
        }
    }

    fn expect(&mut self, line: Line) {
        match self.acts.last_mut() {
            Some(Act::Expect(lines)) => lines.push(line),
            _ => self.acts.push(Act::Expect(vec![line])),
        }
    }

    fn directive(&mut self, text: &str) -> Result<(), &'static str> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["hello"] => self.hello(),
            ["tls"] => self.acts.push(Act::Tls),
            ["closed"] => self.acts.push(Act::Closed),
            ["eof"] => self.acts.push(Act::Eof),
            ["abort", reply @ ..] => self.acts.push(Act::Abort(parse_reply(reply)?)),
            _ if !self.acts.is_empty() => return Err("this directive stands before the first C or S line"),
            ["starttls"] => self.starttls = true,
            ["implicit-tls"] => self.implicit_tls = true,
            ["auth", "in-clear", mechanisms @ ..] => self.auth = offer(mechanisms, true),
            ["auth", mechanisms @ ..] => self.auth = offer(mechanisms, false),
            ["content", key, value] => self.content_rule(key, value)?,
            ["now", moment] => {
                self.now = moment.parse().map_err(|_| "expected a moment")?;
                self.is_dated = true;
            }
            ["limit", name, number] => {
                self.limits.push((name.to_string(), number.parse().map_err(|_| "expected a number")?));
            }
            ["refuse", question @ ("greeting" | "data" | "end"), reply @ ..] => {
                self.rule(question, "", Some(parse_reply(reply)?));
            }
            ["refuse", question @ ("mail" | "rcpt"), pattern, reply @ ..] => {
                self.rule(question, pattern, Some(parse_reply(reply)?));
            }
            ["drop", question @ ("greeting" | "data" | "end")] => self.rule(question, "", None),
            ["drop", question @ ("mail" | "rcpt"), pattern] => self.rule(question, pattern, None),
            _ => return Err("no such directive"),
        }
        Ok(())
    }

    /// EHLO, and everything that is offered.
    fn hello(&mut self) {
        let limit = |name: &str| self.limits.iter().find(|(of, _)| of == name).map(|(_, limit)| *limit);
        let size = format!("SIZE {}", limit("max_message_size").unwrap_or(35 << 20));
        let recipients = format!("LIMITS RCPTMAX={}", limit("max_recipients").unwrap_or(1000));
        let messages = limit("max_messages").map(|limit| format!(" MAILMAX={limit}")).unwrap_or_default();
        let mut offers: Vec<String> =
            ["relay.example.org", "PIPELINING", &size, "8BITMIME", "BINARYMIME", "CHUNKING"]
                .into_iter()
                .chain(["SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "DELIVERBY", "FUTURERELEASE 604800 "])
                .map(str::to_owned)
                .collect();
        offers.push(recipients + &messages);
        let in_tls = self.implicit_tls || self.acts.contains(&Act::Tls);
        if self.starttls && !in_tls {
            offers.push("STARTTLS".into());
        }
        if in_tls {
            offers.push("REQUIRETLS".into());
        }
        if !self.auth.mechanisms.is_empty() && (in_tls || self.auth.in_clear) {
            offers.push(format!("AUTH {}", self.auth.mechanisms.join(" ")));
        }
        self.send(b"EHLO client.example.com\r\n");
        let last = offers.len() - 1;
        for (index, offer) in offers.iter().enumerate() {
            let line = format!("250{}{offer}", if index == last { ' ' } else { '-' }).into_bytes();
            // The date of FUTURERELEASE depends on the day.
            self.expect(if offer.ends_with(' ') { Line::Beginning(line) } else { Line::Exactly(line) });
        }
    }

    fn content_rule(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let permission = match value {
            "accept" => Permission::Accept,
            "reject" | "repair" => Permission::Reject,
            _ => return Err("expected accept, reject or repair"),
        };
        let content = &mut self.content;
        match (key, value) {
            ("bare_newlines", "repair") => content.bare_newlines = BareNewlines::Repair,
            ("nul", _) => content.nul = permission,
            ("undeclared_8bit", _) => content.undeclared_8bit = permission,
            ("long_lines", _) => content.long_lines = permission,
            _ => return Err("no such rule of content"),
        }
        Ok(())
    }

    fn rule(&mut self, question: &str, pattern: &str, reply: Option<Reply>) {
        self.rules.push(Rule { question: question.to_owned(), pattern: pattern.to_owned(), reply });
    }
}

/// A message as it stands in `M:` lines.
pub fn rendered(envelope: &Envelope, content: &[u8]) -> Vec<u8> {
    let path = envelope.reverse_path.address().map(|address| address.to_string()).unwrap_or_default();
    let mut text = format!("MAIL FROM:<{path}>");
    match envelope.body {
        BodyType::SevenBit => {}
        BodyType::EightBitMime => text += " BODY=8BITMIME",
        BodyType::BinaryMime => text += " BODY=BINARYMIME",
    }
    match envelope.ret {
        Some(Ret::Full) => text += " RET=FULL",
        Some(Ret::Headers) => text += " RET=HDRS",
        None => {}
    }
    if let Some(envid) = &envelope.envid {
        text += &format!(" ENVID={}", encode_xtext(envid));
    }
    if envelope.smtputf8 {
        text += " SMTPUTF8";
    }
    if let Some(hold) = envelope.hold_for {
        text += &format!(" HOLDFOR={}", hold.as_secs());
    }
    if let Some(by) = envelope.deliver_by {
        let mode = if by.mode == ByMode::Return { "R" } else { "N" };
        text += &format!(" BY={};{mode}{}", by.seconds, if by.trace { "T" } else { "" });
    }
    for recipient in &envelope.recipients {
        text += &format!("\r\nRCPT TO:<{}>", recipient.address);
        if let Some(notify) = recipient.notify {
            text += &format!(" NOTIFY={notify}");
        }
        if let Some(original) = &recipient.original {
            text += &format!(" ORCPT={original}");
        }
    }
    text += "\r\nDATA\r\n";
    [text.as_bytes(), content].concat()
}

fn offer(mechanisms: &[&str], in_clear: bool) -> AuthOffer {
    AuthOffer { mechanisms: mechanisms.iter().map(|name| name.to_string()).collect(), in_clear }
}

fn parse_reply(words: &[&str]) -> Result<Reply, &'static str> {
    let (code, text) = words.split_first().ok_or("expected a reply")?;
    let code = code.parse().ok().filter(|code| (200..600).contains(code)).ok_or("expected a reply code")?;
    Ok(Reply::new(code, None, &text.join(" ")))
}

fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        octets.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let escape = rest.chars().next().ok_or("a backslash stands at the end")?;
        rest = &rest[escape.len_utf8()..];
        match escape {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            't' => octets.push(b'\t'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                let digits = rest.get(..2).ok_or("expected two digits after \\x")?;
                octets.push(u8::from_str_radix(digits, 16).map_err(|_| "expected two digits after \\x")?);
                rest = &rest[2..];
            }
            '(' => {
                let (inside, after) = rest.split_once(')').ok_or("expected \\(N*text)")?;
                let (times, repeated) = inside.split_once('*').ok_or("expected \\(N*text)")?;
                let times = times.parse().map_err(|_| "expected \\(N*text)")?;
                octets.extend(repeated.repeat(times).into_bytes());
                rest = after;
            }
            _ => return Err("no such escape"),
        }
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
