//! One session as it is seen from between its two sides: a machine without I/O.
//!
//! Contract: octets of the client go through [`Dialogue::client`] before they are passed on, octets of the server
//! through [`Dialogue::server`], which gives what is to be passed on: the same octets, without STARTTLS and CHUNKING in
//! the reply to EHLO. Replies are matched with commands in their order, so that pipelining changes nothing. What the
//! upstream did is taken away by [`Dialogue::take`].
//! Invariants: content is counted and forgotten; a line is kept up to [`LINE_MAX`] octets and a reply up to
//! [`LINES_MAX`] lines, whatever is sent. Once a side no longer speaks SMTP the dialogue is blind: it passes on and
//! notes nothing more.
//! Not here: sockets (`proxy`), the words of the wire (`wire`).

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::observation::{Did, Observed, Transaction};
use super::wire::{Asked, Counter, command, offers, reply_line};
use crate::clock::Timestamp;
use crate::lab::script::Stage;
use crate::mail::Reply;

/// Octets of a line that are looked at.
const LINE_MAX: usize = 4096;
const LINES_MAX: usize = 100;
/// Commands that may wait for a reply before the dialogue gives up on following them.
const WAITING_MAX: usize = 10_000;
/// What every good server offers, and the scripted one too.
const EXTENSIONS: [&str; 4] = ["PIPELINING", "8BITMIME", "SIZE", "DSN"];
/// What a recorder cannot look into.
const BLINDING: [&str; 2] = ["STARTTLS", "CHUNKING"];
/// A client that leaves sooner was not driven away by silence.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ServerClosed,
    ServerReset,
    ClientLeft,
    /// It took no more octets for longer than any client waits.
    ServerStuck,
    /// The recording is over, and the session was not.
    CutOff,
}

/// What a dialogue has to tell.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub questions: Vec<Observed>,
    pub transactions: Vec<Transaction>,
    /// Names by which the server called itself.
    pub names: Vec<String>,
    /// What was seen and is no question: a sentence each.
    pub notes: Vec<&'static str>,
}

/// A transaction that goes on.
struct Open {
    seen: Transaction,
    accepted: Vec<String>,
    /// MAIL was refused, and whether for good: those who are named behind it share its fate.
    refused: Option<bool>,
}

/// Content that comes in.
struct Incoming {
    counter: Counter,
    /// The server has answered before the end, so that the final dot gets no reply.
    answered: bool,
}

pub(super) struct Dialogue {
    connection: u64,
    waiting: VecDeque<(Asked, Timestamp)>,
    content: Option<Incoming>,
    /// The next line of the client is part of its authentication.
    in_auth: bool,
    blind: bool,
    client_line: Vec<u8>,
    server_line: Vec<u8>,
    reply: Option<(u16, Vec<String>)>,
    /// When the first octet of the reply that is coming came.
    reply_began: Option<Timestamp>,
    answered_at: Timestamp,
    /// The last reply announced the end of the session.
    farewell: bool,
    open: Option<Open>,
    told: Told,
}

impl Dialogue {
    /// A session whose server is to greet, from now on.
    pub fn new(connection: u64, now: Timestamp) -> Self {
        Self {
            connection,
            waiting: VecDeque::from([(Asked::Greeting, now)]),
            content: None,
            in_auth: false,
            blind: false,
            client_line: Vec::new(),
            server_line: Vec::new(),
            reply: None,
            reply_began: None,
            answered_at: now,
            farewell: false,
            open: None,
            told: Told::default(),
        }
    }

    /// What has been learnt since the last call.
    pub fn take(&mut self) -> Told {
        mem::take(&mut self.told)
    }

    /// Looks at what the client sends.
    pub fn client(&mut self, octets: &[u8], now: Timestamp) {
        for &octet in octets {
            if self.blind {
                return;
            }
            if let Some(content) = &mut self.content {
                if let Some(size) = content.counter.octet(octet) {
                    if !content.answered {
                        self.waiting.push_back((Asked::Dot { size }, now));
                    }
                    self.content = None;
                }
            } else if octet == b'\n' {
                let line = mem::take(&mut self.client_line);
                self.client_line_ended(&line, now);
            } else if self.client_line.len() < LINE_MAX {
                self.client_line.push(octet);
            }
        }
    }

    fn client_line_ended(&mut self, line: &[u8], now: Timestamp) {
        let asked = if mem::take(&mut self.in_auth) {
            Asked::Auth
        } else {
            command(String::from_utf8_lossy(line).trim_end_matches('\r'))
        };
        self.waiting.push_back((asked, now));
        if self.waiting.len() > WAITING_MAX {
            self.go_blind("a client sent commands beyond measure without waiting for replies");
        }
    }

    /// Looks at what the server sends, and gives what the client is to get.
    pub fn server(&mut self, octets: &[u8], now: Timestamp) -> Vec<u8> {
        let mut pass = Vec::with_capacity(octets.len());
        for &octet in octets {
            if self.blind {
                pass.push(octet);
                continue;
            }
            self.reply_began.get_or_insert(now);
            let held = self.in_hello();
            if !held {
                pass.push(octet);
            }
            self.server_line.push(octet);
            if octet == b'\n' {
                let line = mem::take(&mut self.server_line);
                let kept = self.server_line_ended(&line, now);
                if held {
                    pass.extend_from_slice(kept);
                }
            } else if self.server_line.len() >= LINE_MAX {
                // No reply is so long. What was held back goes out, and the rest as it comes.
                let line = mem::take(&mut self.server_line);
                if held {
                    pass.extend_from_slice(&line);
                }
                self.garbage(now);
            }
        }
        pass
    }

    /// Whether lines are looked at before they are passed on: within the reply to EHLO.
    fn in_hello(&self) -> bool {
        matches!(self.waiting.front(), Some((Asked::Hello { extended: true }, _)))
    }

    /// Takes a line of a reply; gives what of it is passed on.
    fn server_line_ended<'a>(&mut self, octets: &'a [u8], now: Timestamp) -> &'a [u8] {
        let text = String::from_utf8_lossy(octets);
        let Some((code, last, text)) = reply_line(text.trim_end_matches(['\r', '\n'])) else {
            self.garbage(now);
            return octets;
        };
        let in_hello = self.in_hello();
        let reply = self.reply.get_or_insert((code, Vec::new()));
        if reply.0 != code {
            self.garbage(now);
            return octets;
        }
        let blinding = in_hello && !reply.1.is_empty() && BLINDING.iter().any(|name| offers(text, name));
        if reply.1.len() < LINES_MAX {
            reply.1.push(text.to_owned());
        }
        if last && let Some((code, lines)) = self.reply.take() {
            self.replied(&Reply::with_lines(code, lines), now);
        }
        match (blinding, last) {
            (false, _) => octets,
            (true, false) => b"",
            // The last line must stay the last: it offers what everybody has.
            (true, true) => b"250 HELP\r\n",
        }
    }

    /// A whole reply has come.
    fn replied(&mut self, reply: &Reply, now: Timestamp) {
        let began = self.reply_began.take().unwrap_or(now);
        self.farewell = reply.code() == 421;
        let Some((asked, at)) = self.waiting.pop_front() else {
            return self.unsolicited(reply, began, now);
        };
        // With pipelining a question is asked when the one before it has been answered.
        let asked_at = at.max(self.answered_at);
        self.answered_at = now;
        self.hear_name(&asked, reply);
        let did = did(&asked, reply);
        self.observe(&asked, asked_at, began, did);
        self.follow(asked, asked_at, reply);
    }

    /// A reply to nothing: amid the content it is an early refusal, otherwise a farewell to an idle client.
    fn unsolicited(&mut self, reply: &Reply, began: Timestamp, now: Timestamp) {
        match &mut self.content {
            Some(content) if !content.answered => {
                content.answered = true;
                self.push(Stage::Content, self.answered_at, began, Did::Reply(reply.clone()));
                self.answered_at = now;
                self.settle_accepted(reply.code() >= 500);
                self.end_transaction();
            }
            _ => self.note("an upstream ended an idle session with a reply"),
        }
    }

    fn hear_name(&mut self, asked: &Asked, reply: &Reply) {
        if matches!(asked, Asked::Greeting | Asked::Hello { .. })
            && reply.code() < 400
            && let Some(name) = reply.lines().first().and_then(|line| line.split_whitespace().next())
            && name.contains('.')
        {
            self.told.names.push(name.to_owned());
        }
    }

    /// What a reply changes for the rest of the dialogue.
    fn follow(&mut self, asked: Asked, asked_at: Timestamp, reply: &Reply) {
        let (good, permanent) = (reply.code() < 400, reply.code() >= 500);
        match asked {
            Asked::Greeting => self.farewell |= !good,
            Asked::Hello { .. } | Asked::Reset => {
                self.all_are_named();
                self.end_transaction();
            }
            Asked::Auth if reply.code() == 334 => self.in_auth = true,
            Asked::Auth if !good => self.note("AUTH was refused; a replay does not authenticate"),
            Asked::Mail { sender, size } => {
                self.begin_transaction(sender, size, asked_at, (!good).then_some(permanent))
            }
            Asked::Rcpt(recipient) => self.name_recipient(recipient, good, permanent),
            Asked::Data if reply.code() == 354 => {
                self.all_are_named();
                self.content = Some(Incoming { counter: Counter::new(), answered: false })
            }
            Asked::Data => {
                self.all_are_named();
                self.settle_accepted(permanent);
            }
            Asked::Dot { size } => {
                if let Some(open) = &mut self.open {
                    open.seen.size = Some(size);
                }
                self.settle_accepted(good || permanent);
                self.end_transaction();
            }
            Asked::Quit => {
                self.all_are_named();
                self.farewell = true;
            }
            Asked::Blinding if good => {
                self.go_blind("a client used STARTTLS or BDAT although they were not offered")
            }
            Asked::Auth | Asked::Blinding | Asked::Other => {}
        }
    }

    fn begin_transaction(&mut self, sender: String, size: Option<u64>, at: Timestamp, refused: Option<bool>) {
        self.all_are_named();
        self.end_transaction();
        let seen = Transaction { at, sender, recipients: Vec::new(), whole: false, size, message: None };
        self.open = Some(Open { seen, accepted: Vec::new(), refused });
    }

    fn name_recipient(&mut self, recipient: String, good: bool, permanent: bool) {
        let Some(open) = &mut self.open else { return };
        if open.refused.is_none() && good {
            open.accepted.push(recipient.clone());
        }
        open.seen.recipients.push((recipient, open.refused.unwrap_or(permanent)));
    }

    /// The client has gone on: nobody else was to be named.
    fn all_are_named(&mut self) {
        if let Some(open) = &mut self.open {
            open.seen.whole = true;
        }
    }

    fn settle_accepted(&mut self, settled: bool) {
        let Some(open) = &mut self.open else { return };
        for (recipient, done) in &mut open.seen.recipients {
            *done |= settled && open.accepted.contains(recipient);
        }
    }

    fn end_transaction(&mut self) {
        self.told.transactions.extend(self.open.take().map(|open| open.seen));
    }

    /// The session is over; what comes after it is not looked at.
    pub fn ended(&mut self, how: Ended, now: Timestamp) {
        if self.blind {
            return;
        }
        match (how, self.waiting.front().cloned()) {
            (Ended::ClientLeft, Some((asked, at))) => {
                let asked_at = at.max(self.answered_at);
                if now.since(asked_at) >= SILENCE_MIN {
                    self.observe(&asked, asked_at, asked_at, Did::Silence);
                } else if asked != Asked::Quit {
                    self.note("a client left without waiting for an answer");
                }
            }
            (Ended::ClientLeft, None) | (Ended::CutOff, _) => {}
            (Ended::ServerStuck, None) if self.content.is_some() => {
                self.push(Stage::Content, self.answered_at, now, Did::Silence)
            }
            (Ended::ServerStuck, None) => {}
            (Ended::ServerStuck, Some((asked, at))) => {
                self.observe(&asked, at.max(self.answered_at), now, Did::Silence)
            }
            (_, _) if self.farewell => {}
            (_, Some((asked, at))) => self.observe(&asked, at.max(self.answered_at), now, dropped(how)),
            (_, None) if self.content.is_some() => {
                self.push(Stage::Content, self.answered_at, now, dropped(how))
            }
            (_, None) => self.note("an upstream ended an idle session without a word"),
        }
        self.name_unanswered();
        self.end_transaction();
        self.blind = true;
    }

    /// Those who were named and got no answer belong to the message all the same.
    fn name_unanswered(&mut self) {
        for (asked, at) in mem::take(&mut self.waiting) {
            match asked {
                Asked::Mail { sender, size } => self.begin_transaction(sender, size, at, None),
                Asked::Rcpt(recipient) => self.name_recipient(recipient, false, false),
                Asked::Data => self.all_are_named(),
                Asked::Dot { size } => {
                    if let Some(open) = &mut self.open {
                        open.seen.size = Some(size);
                    }
                }
                _ => {}
            }
        }
    }

    /// Notes what was done about a question, unless it is none that a script is asked: behind a refused MAIL, or
    /// without any recipient, every server says the same.
    fn observe(&mut self, asked: &Asked, at: Timestamp, began: Timestamp, did: Did) {
        let mail_accepted = self.open.as_ref().is_some_and(|open| open.refused.is_none());
        let has_recipients = self.open.as_ref().is_some_and(|open| !open.accepted.is_empty());
        let stage = match asked {
            Asked::Greeting => Stage::Greeting,
            Asked::Hello { .. } => Stage::Ehlo,
            Asked::Mail { .. } => Stage::Mail,
            Asked::Rcpt(_) if mail_accepted => Stage::Rcpt,
            Asked::Data if has_recipients => Stage::Data,
            Asked::Dot { .. } if has_recipients => Stage::Dot,
            _ => return,
        };
        let connection = self.connection;
        let (sender, recipients) = match asked {
            Asked::Mail { sender, .. } => (sender.clone(), Vec::new()),
            Asked::Rcpt(recipient) => (self.sender(), vec![recipient.clone()]),
            _ => return self.push(stage, at, began, did),
        };
        let waited = began.since(at);
        self.told.questions.push(Observed { at, connection, stage, sender, recipients, waited, did });
    }

    /// The same about the transaction that goes on, or about none.
    fn push(&mut self, stage: Stage, at: Timestamp, began: Timestamp, did: Did) {
        let in_transaction = matches!(stage, Stage::Data | Stage::Content | Stage::Dot);
        let open = self.open.as_ref().filter(|_| in_transaction);
        let recipients = open.map(|open| open.accepted.clone()).unwrap_or_default();
        let sender = if in_transaction { self.sender() } else { String::new() };
        // How long content takes is the client's affair.
        let waited = if stage == Stage::Content { Duration::ZERO } else { began.since(at) };
        let connection = self.connection;
        self.told.questions.push(Observed { at, connection, stage, sender, recipients, waited, did });
    }

    fn sender(&self) -> String {
        self.open.as_ref().map(|open| open.seen.sender.clone()).unwrap_or_default()
    }

    /// The server has said something that is no reply.
    fn garbage(&mut self, now: Timestamp) {
        if let Some((asked, at)) = self.waiting.front().cloned() {
            self.observe(&asked, at.max(self.answered_at), now, Did::Garbage);
        }
        self.name_unanswered();
        self.end_transaction();
        self.go_blind("an upstream sent what is no reply; the rest of that session was not looked at");
    }

    fn go_blind(&mut self, why: &'static str) {
        self.blind = true;
        self.note(why);
    }

    fn note(&mut self, note: &'static str) {
        self.told.notes.push(note);
    }
}

fn dropped(how: Ended) -> Did {
    if how == Ended::ServerReset { Did::Reset } else { Did::Close }
}

/// What a reply is worth a rule for.
fn did(asked: &Asked, reply: &Reply) -> Did {
    let good = match asked {
        Asked::Data => reply.code() == 354,
        _ => reply.code() / 100 == 2,
    };
    if !good {
        return Did::Reply(reply.clone());
    }
    if *asked == (Asked::Hello { extended: true }) {
        let offered = |name: &&str| reply.lines().iter().skip(1).any(|line| offers(line, name));
        let missing: Vec<_> = EXTENSIONS.into_iter().filter(|name| !offered(name)).collect();
        if !missing.is_empty() {
            return Did::Without(missing);
        }
    }
    Did::Accept
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
