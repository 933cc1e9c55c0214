//! What a session reads: command lines, responses, content; and the questions that come of them.
//!
//! Contract: [`Server::advance`] takes as much input as makes one step.
//! Invariants: only CRLF ends a line, and a line that is too long is read to its end without being kept.
//! Not here: what a command does (`order`), chunks (`chunks`), where content ends (`content`).

use bytes::Buf;
use memchr::memmem;

use super::super::authentication::{self, Exchange};
use super::super::chunk::Chunk;
use super::super::command::{self, Command};
use super::super::content::ContentReader;
use super::super::question::{AuthQuestion, ContentQuestion, EndQuestion, MailQuestion, RecipientQuestion};
use super::super::replies::{self, Fixed};
use super::super::settings::MAX_COMMAND_LINE;
use super::super::step::Step;
use super::{Asked, Progress, Server, State, Transaction, Whole};
use crate::mail::Reply;

impl Server {
    pub(super) fn ask(&mut self, question: Progress) -> Step<'_> {
        self.state = State::Asked(match question {
            Progress::Content(Some(chunk)) => Asked::Chunk(chunk),
            _ => Asked::Command,
        });
        match question {
            Progress::Auth(exchange) => Step::Auth(AuthQuestion { server: self, exchange }),
            Progress::Mail(mail) => Step::Mail(MailQuestion { server: self, mail }),
            Progress::Recipient(recipient) => Step::Recipient(RecipientQuestion { server: self, recipient }),
            Progress::Content(chunk) => Step::Content(ContentQuestion { server: self, chunk }),
            Progress::EndOfContent(whole) => Step::EndOfContent(EndQuestion { server: self, whole }),
            Progress::Made | Progress::Stuck | Progress::Greet => {
                unreachable!("these ask nothing of a command")
            }
        }
    }

    pub(super) fn advance(&mut self) -> Progress {
        match &mut self.state {
            State::Connected => Progress::Greet,
            State::Commands => self.read_command(),
            State::LongLine(_) => self.skip_line(),
            State::Challenged(_) => self.read_response(),
            State::Content(_) => self.read_content(),
            State::Chunk(_) => self.read_chunk(),
            State::Skip { .. } => self.skip_chunk(),
            State::Asked(_) | State::StartTls | State::Closed => Progress::Stuck,
        }
    }

    fn read_command(&mut self) -> Progress {
        // A token may be longer than any other argument, and not every client waits for a challenge to send it in.
        let is_auth = self.offers_auth() && authentication::is_auth(&self.input);
        let (most, fault) = match is_auth {
            true => (authentication::LINE, replies::AUTH_LINE),
            false => (MAX_COMMAND_LINE, replies::LINE_TOO_LONG),
        };
        let window = &self.input[..self.input.len().min(most)];
        let Some(end) = memmem::find(window, b"\r\n") else {
            if window.len() < most {
                return Progress::Stuck;
            }
            if command::is_bdat(window) {
                self.tape.overlong_line();
                return self.reply(replies::BDAT_SIZE);
            }
            self.state = State::LongLine(fault);
            return Progress::Made;
        };
        let command = command::parse(&self.input[..end]);
        self.tape.command(&self.input[..end], command.is_ok());
        self.input.advance(end + 2);
        self.commands = self.commands.saturating_add(1);
        if self.commands > self.settings.max_commands {
            return self.reply(replies::TOO_MANY_COMMANDS);
        }
        match command {
            Ok(Command::Bdat(Chunk { octets, .. })) if self.refused => {
                self.skip(octets, replies::ONLY_QUIT, true)
            }
            Ok(command) if self.refused && command != Command::Quit => self.fault(replies::ONLY_QUIT),
            Ok(command) => self.obey(command),
            Err(fault) => self.fault(fault),
        }
    }

    /// Reads an overlong line to its CRLF without keeping it.
    fn skip_line(&mut self) -> Progress {
        let State::LongLine(fault) = self.state else { unreachable!("called in a long line only") };
        match memmem::find(&self.input, b"\r\n") {
            Some(end) => {
                self.input.advance(end + 2);
                self.tape.overlong_line();
                self.commands = self.commands.saturating_add(1);
                self.state = State::Commands;
                self.fault(fault)
            }
            None => {
                // The last octet may be the CR of the CRLF that comes.
                let keep = usize::from(self.input.last() == Some(&b'\r'));
                self.input.advance(self.input.len() - keep);
                Progress::Stuck
            }
        }
    }

    /// The line that answers a challenge.
    fn read_response(&mut self) -> Progress {
        let window = &self.input[..self.input.len().min(authentication::LINE)];
        let Some(end) = memmem::find(window, b"\r\n") else {
            if window.len() == authentication::LINE {
                self.state = State::LongLine(replies::AUTH_LINE);
                return Progress::Made;
            }
            return Progress::Stuck;
        };
        let response = authentication::response(&self.input[..end]);
        self.tape.response();
        self.input.advance(end + 2);
        let State::Challenged(exchange) = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("called in an exchange only")
        };
        match response {
            Ok(response) => Progress::Auth(Exchange { response: Some(response), ..exchange }),
            Err(fault) => self.fault(fault),
        }
    }

    fn read_content(&mut self) -> Progress {
        let State::Content(reader) = &mut self.state else { unreachable!("called in content only") };
        let taken = reader.read(&self.input);
        self.input.advance(taken);
        self.tape.content(taken);
        if !reader.has_ended() {
            let refusal = reader.refusal().filter(|_| reader.length() > self.settings.most_refused());
            let Some(refusal) = refusal else { return Progress::Stuck };
            self.turn_away(refusal);
            return self.reply(replies::TOO_MUCH_TO_SKIP);
        }
        let State::Content(reader) = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("it was content a moment ago")
        };
        let transaction = self.transaction.take().expect("content comes in a transaction only");
        self.end_content(transaction, *reader)
    }

    pub(super) fn end_content(&mut self, transaction: Transaction, reader: ContentReader) -> Progress {
        let Transaction { mut envelope, hold, .. } = transaction;
        match reader.finish() {
            Ok((content, body, changes)) => {
                envelope.body = body;
                Progress::EndOfContent(Box::new(Whole { envelope, content, changes, hold }))
            }
            Err(refusal) => self.turn_away(refusal),
        }
    }

    /// A message or a recipient is refused by the dialogue itself, and the driver may want to know.
    pub(super) fn turn_away(&mut self, reply: Reply) -> Progress {
        self.turned_away.push(reply.clone());
        self.answer(reply);
        Progress::Made
    }

    pub(super) fn reply(&mut self, reply: Fixed) -> Progress {
        self.answer(reply.into());
        Progress::Made
    }

    /// A reply to a bad command; enough of them end the session.
    pub(super) fn fault(&mut self, reply: Fixed) -> Progress {
        self.answer(reply.into());
        self.count_error();
        Progress::Made
    }

    pub(super) fn count_error(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.max_errors && !matches!(self.state, State::Closed) {
            self.answer(replies::TOO_MANY_ERRORS.into());
        }
    }
}
