//! What a script has seen.
//!
//! Contract: [`Memory::note`] counts a question and says which attempt it is and when it was asked for the first time;
//! [`Memory::taken`] lets attempts count from 1 again. [`Window`] measures a rate.
//! Invariants: addresses count without regard to case; a window holds one moment more than its rate allows, at most.
//! Not here: what follows from it (`decision`).

use std::collections::{HashMap, VecDeque};

use super::condition::Rate;
use super::decision::Question;
use super::stage::Stage;
use crate::clock::Timestamp;
use crate::mail::{Address, ReversePath};

/// What was asked so far.
#[derive(Debug, Default)]
pub(super) struct Memory {
    connections: u64,
    subjects: HashMap<(Stage, String), Subject>,
}

/// What is known of one sender or recipient at one stage.
#[derive(Debug)]
struct Subject {
    /// When it was asked about for the first time; never forgotten.
    first: Timestamp,
    /// How often since a message of it was taken.
    attempts: u64,
}

/// What is known of a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The how manieth; from 1 on.
    pub attempt: u64,
    pub first: Timestamp,
}

impl Memory {
    pub fn note(&mut self, question: &Question<'_>) -> Seen {
        let stage = question.stage;
        if stage == Stage::Connect {
            self.connections += 1;
        }
        let subject = self
            .subjects
            .entry((stage, subject(question)))
            .or_insert(Subject { first: question.at, attempts: 0 });
        subject.attempts += 1;
        // EHLO comes twice over a connection with TLS: what counts before MAIL is the connection.
        let attempt = if stage.knows_sender() { subject.attempts } else { self.connections.max(1) };
        Seen { attempt, first: subject.first }
    }

    pub fn taken(&mut self, sender: &ReversePath, recipients: &[Address]) {
        self.count_anew(Stage::Mail, sender.to_string());
        for recipient in recipients {
            for stage in [Stage::Rcpt, Stage::Data, Stage::Content, Stage::Dot] {
                self.count_anew(stage, recipient.to_string());
            }
        }
    }

    fn count_anew(&mut self, stage: Stage, subject: String) {
        if let Some(subject) = self.subjects.get_mut(&(stage, subject.to_ascii_lowercase())) {
            subject.attempts = 0;
        }
    }
}

/// The sender at MAIL, the first recipient later; nobody before, and nobody where there is no recipient.
fn subject(question: &Question<'_>) -> String {
    let subject = match question.stage {
        Stage::Mail => question.sender.map(ToString::to_string),
        stage if stage.knows_recipients() => question.recipients.first().map(ToString::to_string),
        _ => None,
    };
    subject.unwrap_or_default().to_ascii_lowercase()
}

/// The latest questions of one rule with a rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<Timestamp>);

impl Window {
    pub fn note(&mut self, at: Timestamp, rate: &Rate) {
        self.0.push_back(at);
        if self.0.len() > rate.more_than as usize + 1 {
            self.0.pop_front();
        }
    }

    /// Whether all that are remembered, one more than the rate allows, came within its time.
    pub fn is_over(&self, at: Timestamp, rate: &Rate) -> bool {
        self.0.len() > rate.more_than as usize
            && self.0.front().is_some_and(|oldest| at.since(*oldest) < rate.within)
    }
}
