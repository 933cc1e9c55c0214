//! A transaction under way: which commands are out, and what each reply leads to.
//!
//! Contract: [`Client::send_next`] when no command is out, [`Client::transaction_reply`] for each reply,
//! [`Client::content_sent`] when content is written; [`Running::note`] keeps a reply for the report.
//! With PIPELINING, MAIL, all RCPT and DATA go out in one write (at most [`BATCH`] commands at a time, so that neither
//! side fills the other's buffers while nobody reads); without it, one command waits for another. BDAT waits for all
//! replies before it, though it need not: its octets go out unasked, a server that refuses it carelessly reads them as
//! commands, and a connection that dies would leave open what was known otherwise. Large content goes in several chunks,
//! each after the reply to the one before, so that a refusal comes before the end.
//! Invariants: replies are counted off against the commands that are out, in order, and none is taken for the answer to
//! a command that was not yet out. Content goes out only after a 354, or by BDAT, with at least one accepted recipient; a
//! 354 without any is answered by a lone dot. A transaction that ended before its content, or whose BDAT was refused,
//! leaves an RSET, sent with the next one.
//! Not here: everything outside of transactions (`session`), the text of commands (`transaction`).
//! RFC 5321 section 3.3, RFC 2033 section 4.2, RFC 2920 section 3.1, RFC 3030 section 2.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mail::{Content, Reply, ReplyClass};

use super::super::reply::ProtocolError;
use super::super::step::{Step, Waiting};
use super::super::transaction::{Transaction, TransactionReport};
use super::{Client, State};

/// Commands in one pipelined group.
const BATCH: usize = 100;
/// Octets of one BDAT.
const CHUNK_MAX: usize = 4 * 1024 * 1024;

pub(super) struct Running {
    pub transaction: Transaction,
    pub report: TransactionReport,
    /// Commands whose replies have not come.
    pub out: VecDeque<Sent>,
    /// What is sent next: MAIL at 0, then the recipients, then DATA or BDAT, then the content.
    next: usize,
    /// Content is being written.
    pub sending: bool,
    /// By BDAT: what is not in a chunk yet.
    left: VecDeque<Bytes>,
}

#[derive(Clone, Copy)]
pub(super) enum Sent {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    /// A BDAT before the last.
    Chunk,
    /// The final dot or the last BDAT: for all recipients, or, by LMTP, for this one.
    End(Option<usize>),
    /// The lone dot of a transaction without recipients.
    EmptyEnd,
}

/// Transactions.
impl Client {
    /// Sends the next group of commands, or content, or ends the transaction when nothing good can follow.
    pub(super) fn send_next(&mut self) -> Result<Option<Step>, ProtocolError> {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let data = running.data();
        let someone = running.report.any_recipient_accepted();
        if running.next > data && !running.report.chunked {
            return self.answer_go_ahead();
        }
        let hopeless =
            (running.next > 0 && !running.report.mail_accepted()) || (running.next >= data && !someone);
        if hopeless {
            return Ok(Some(self.end_transaction(true, false)));
        }
        if running.report.chunked && running.next >= data {
            if running.next == data {
                running.left = running.transaction.take_content().chunks().to_vec().into();
                running.next += 1;
            }
            let (chunk, last) = running.next_chunk();
            running.sending = true;
            let word = if last { " LAST" } else { "" };
            self.output.push(format!("BDAT {}{word}\r\n", chunk.len()));
            self.output.push_chunk(&chunk);
            return Ok(None);
        }
        self.send_commands();
        Ok(None)
    }

    fn send_commands(&mut self) {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let data = running.data();
        let last = if running.report.chunked { data - 1 } else { data };
        let mut commands = String::new();
        let room = if self.extensions.pipelining { BATCH } else { 1 };
        if std::mem::take(&mut self.reset_owed) {
            commands += "RSET\r\n";
            running.out.push_back(Sent::Reset);
        }
        while running.out.len() < room && running.next <= last {
            let sent = running.upcoming();
            commands += &match sent {
                Sent::Mail => running.transaction.mail(&self.extensions),
                Sent::Recipient(index) => running.transaction.rcpt(index, &self.extensions),
                _ => "DATA\r\n".to_owned(),
            };
            running.out.push_back(sent);
            running.next += 1;
        }
        running.report.pipelined |= running.out.len() > 1;
        self.output.push(commands);
    }

    /// After a 354.
    fn answer_go_ahead(&mut self) -> Result<Option<Step>, ProtocolError> {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let (mail, someone) = (running.report.mail_accepted(), running.report.any_recipient_accepted());
        let lmtp = running.is_lmtp();
        if mail && someone {
            self.output.push_content(std::mem::take(&mut running.transaction.content));
            running.sending = true;
            return Ok(None);
        }
        // A lone dot could be taken for a message where only MAIL was refused, and by LMTP it would have no reply.
        if someone || lmtp {
            let reply = running.report.data.clone().expect("called after a 354");
            return Err(ProtocolError::Unexpected { waiting: Waiting::Data, reply });
        }
        self.output.push(".\r\n");
        running.out.push_back(Sent::EmptyEnd);
        Ok(None)
    }

    /// What was to be written of the content is out.
    pub(super) fn content_sent(&mut self) {
        if let State::Transaction(running) = &mut self.state {
            running.content_out(true);
        }
    }

    pub(super) fn transaction_reply(&mut self, reply: Reply) -> Result<Option<Step>, ProtocolError> {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let (class, code) = (reply.class(), reply.code());
        let Some(sent) = running.out.pop_front() else {
            if code != 421 {
                return Err(ProtocolError::Unsolicited { reply });
            }
            let upcoming = running.upcoming();
            running.note(upcoming, reply);
            return Ok(Some(self.end_transaction(false, true)));
        };
        let sensible = match sent {
            Sent::Data => class != ReplyClass::Completed,
            _ => class != ReplyClass::Intermediate,
        };
        if !sensible {
            return Err(ProtocolError::Unexpected { waiting: sent.waiting(), reply });
        }
        running.note(sent, reply);
        if code == 421 {
            return Ok(Some(self.end_transaction(false, true)));
        }
        match sent {
            Sent::Data if class != ReplyClass::Intermediate => Ok(Some(self.end_transaction(true, false))),
            Sent::Chunk if class != ReplyClass::Completed => Ok(Some(self.end_of_content(class))),
            Sent::End(_) | Sent::EmptyEnd if running.out.is_empty() => Ok(Some(self.end_of_content(class))),
            _ => Ok(None),
        }
    }

    fn end_of_content(&mut self, class: ReplyClass) -> Step {
        let State::Transaction(running) = &self.state else { unreachable!("called in a transaction only") };
        let broken = running.report.is_chunking_broken();
        // After a BDAT that was refused the server's state is not known (RFC 3030 section 2).
        let reset_owed = running.report.chunked && class != ReplyClass::Completed;
        self.end_transaction(reset_owed, broken)
    }

    fn end_transaction(&mut self, reset_owed: bool, closing: bool) -> Step {
        let State::Transaction(running) = std::mem::replace(&mut self.state, State::Ready) else {
            unreachable!("called in a transaction only")
        };
        self.reset_owed = reset_owed;
        self.close_if(closing);
        if let Some(room) = running.report.room() {
            self.extensions.limits.rcpt_max = Some(room);
        }
        Step::Done(running.report)
    }
}

impl Running {
    pub fn new(transaction: Transaction, chunked: bool, lmtp: bool) -> Self {
        let report = TransactionReport { chunked, ..TransactionReport::of(&transaction, lmtp) };
        Self { transaction, report, out: VecDeque::new(), next: 0, sending: false, left: VecDeque::new() }
    }

    /// The place of DATA or BDAT.
    fn data(&self) -> usize {
        self.transaction.recipients.len() + 1
    }

    fn is_lmtp(&self) -> bool {
        !self.report.ends.is_empty()
    }

    /// What would be sent next.
    fn upcoming(&self) -> Sent {
        match self.next {
            0 => Sent::Mail,
            next if next < self.data() => Sent::Recipient(next - 1),
            next if next == self.data() && !self.report.chunked => Sent::Data,
            _ => Sent::Chunk,
        }
    }

    /// The octets of the next BDAT, and whether it is the last.
    fn next_chunk(&mut self) -> (Content, bool) {
        let (mut chunk, mut room) = (Content::new(), CHUNK_MAX);
        while let Some(mut piece) = self.left.pop_front() {
            if piece.len() > room {
                let rest = piece.split_off(room);
                self.left.push_front(rest);
            }
            room -= piece.len();
            chunk.push(piece);
            if room == 0 {
                break;
            }
        }
        (chunk, self.left.is_empty())
    }

    /// Content is out, as much of it as was to be written, if it was written `whole`.
    pub fn content_out(&mut self, whole: bool) {
        self.sending = false;
        if !self.left.is_empty() {
            self.out.push_back(Sent::Chunk);
            return;
        }
        self.report.dot_sent = whole;
        if self.is_lmtp() {
            let accepted =
                (0..self.report.recipients.len()).filter(|index| self.report.recipient_accepted(*index));
            self.out.extend(accepted.map(|index| Sent::End(Some(index))));
        } else {
            self.out.push_back(Sent::End(None));
        }
    }

    pub fn note(&mut self, sent: Sent, reply: Reply) {
        match sent {
            Sent::Mail => self.report.mail = Some(reply),
            Sent::Recipient(index) => self.report.recipients[index] = Some(reply),
            Sent::Data => self.report.data = Some(reply),
            // Only a refusal says something about the message.
            Sent::Chunk if reply.class() == ReplyClass::Completed => {}
            Sent::Chunk | Sent::End(None) => self.report.end_for_all(reply),
            Sent::End(Some(index)) => self.report.ends[index] = Some(reply),
            // A 421 here is the server's last word on the whole transaction, and MAIL is its first command.
            Sent::Reset if reply.code() == 421 => self.report.mail = Some(reply),
            // Nothing depends on these: without RSET's 250 MAIL will be refused, and the lone dot has no recipients.
            Sent::Reset | Sent::EmptyEnd => {}
        }
    }
}

impl Sent {
    pub fn waiting(self) -> Waiting {
        match self {
            Self::Reset => Waiting::Reset,
            Self::Mail => Waiting::Mail,
            Self::Recipient(_) => Waiting::Recipient,
            Self::Data => Waiting::Data,
            Self::Chunk => Waiting::Chunk,
            Self::End(_) | Self::EmptyEnd => Waiting::EndOfContent,
        }
    }
}
