//! A transaction under way: which commands are out, and what each reply leads to.
//!
//! Contract: [`Client::send_commands`] when no command is out, [`Client::transaction_reply`] for each reply,
//! [`Client::content_sent`] when the final dot is written; [`Running::note`] keeps a reply for the report.
//! With PIPELINING, MAIL, all RCPT and DATA go out in one write (at most [`BATCH`] commands at a time, so that neither
//! side fills the other's buffers while nobody reads); without it, one command waits for another. BDAT waits for all
//! replies before it: its octets go out unasked, and should not when nobody is there to get them.
//! Invariants: replies are counted off against the commands that are out, in order. Content goes out only after a
//! 354, or by BDAT, with at least one accepted recipient; a 354 without any is answered by a lone dot. A transaction
//! that ended before its content, or whose BDAT was refused, leaves an RSET, sent with the next one.
//! Not here: everything outside of transactions (`session`), the text of commands (`transaction`).
//! RFC 5321 section 3.3, RFC 2920 section 3.1, RFC 3030 section 2.

use std::collections::VecDeque;

use crate::mail::{Reply, ReplyClass};

use super::super::reply::ProtocolError;
use super::super::step::{Step, Waiting};
use super::super::transaction::{Transaction, TransactionReport};
use super::{Client, State};

/// Commands in one pipelined group.
const BATCH: usize = 100;

pub(super) struct Running {
    pub transaction: Transaction,
    pub report: TransactionReport,
    /// Commands whose replies have not come.
    pub out: VecDeque<Sent>,
    /// What is sent next: MAIL at 0, then the recipients, then DATA or BDAT.
    pub next: usize,
    /// Content is being written.
    pub sending: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Sent {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    End,
    /// The lone dot of a transaction without recipients.
    EmptyEnd,
}

/// Transactions.
impl Client {
    /// Sends the next group of commands, or ends the transaction when nothing good can follow.
    pub(super) fn send_commands(&mut self) -> Option<Step> {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let data = running.transaction.recipients.len() + 1;
        let hopeless = (running.next > 0 && !running.report.mail_accepted())
            || (running.next == data && !running.report.any_recipient_accepted());
        if hopeless {
            return Some(self.end_transaction(true, false));
        }
        if running.report.chunked && running.next == data {
            let content = std::mem::take(&mut running.transaction.content);
            running.next += 1;
            running.sending = true;
            self.output.push(format!("BDAT {} LAST\r\n", content.len()));
            self.output.push_chunk(&content);
            return None;
        }
        // Called again once the replies are in, for a BDAT.
        let last = if running.report.chunked { data - 1 } else { data };
        let mut commands = String::new();
        let room = if self.extensions.pipelining { BATCH } else { 1 };
        if std::mem::take(&mut self.reset_owed) {
            commands += "RSET\r\n";
            running.out.push_back(Sent::Reset);
        }
        while running.out.len() < room && running.next <= last {
            let (command, sent) = match running.next {
                0 => (running.transaction.mail(&self.extensions), Sent::Mail),
                next if next == data => ("DATA\r\n".to_owned(), Sent::Data),
                next => (running.transaction.rcpt(next - 1, &self.extensions), Sent::Recipient(next - 1)),
            };
            commands += &command;
            running.out.push_back(sent);
            running.next += 1;
        }
        self.output.push(commands);
        None
    }

    pub(super) fn content_sent(&mut self) {
        if let State::Transaction(running) = &mut self.state {
            running.sending = false;
            running.report.dot_sent = true;
            running.out.push_back(Sent::End);
        }
    }

    pub(super) fn transaction_reply(&mut self, reply: Reply) -> Result<Option<Step>, ProtocolError> {
        let State::Transaction(running) = &mut self.state else {
            unreachable!("called in a transaction only")
        };
        let sent = running.out.pop_front().expect("a reply is read only while a command is out");
        let (class, code) = (reply.class(), reply.code());
        let sensible = match sent {
            Sent::Data => class != ReplyClass::Completed,
            _ => class != ReplyClass::Intermediate,
        };
        if !sensible {
            return Err(ProtocolError::Unexpected { waiting: sent.waiting(), reply });
        }
        if code == 421 {
            running.note(sent, reply);
            return Ok(Some(self.end_transaction(false, true)));
        }
        match sent {
            Sent::Data if class == ReplyClass::Intermediate => {
                match (running.report.mail_accepted(), running.report.any_recipient_accepted()) {
                    (true, true) => {
                        let content = std::mem::take(&mut running.transaction.content);
                        self.output.push_content(content);
                        running.sending = true;
                    }
                    (_, false) => {
                        self.output.push(".\r\n");
                        running.out.push_back(Sent::EmptyEnd);
                    }
                    // A lone dot here could be taken for a message, and there is no other way on.
                    (false, true) => return Err(ProtocolError::Unexpected { waiting: Waiting::Data, reply }),
                }
                running.note(sent, reply);
                Ok(None)
            }
            Sent::Data => {
                running.note(sent, reply);
                Ok(Some(self.end_transaction(true, false)))
            }
            Sent::End | Sent::EmptyEnd => {
                // After a BDAT that was refused the server's state is not known (RFC 3030 section 2).
                let reset_owed = running.report.chunked && class != ReplyClass::Completed;
                running.note(sent, reply);
                Ok(Some(self.end_transaction(reset_owed, false)))
            }
            Sent::Reset | Sent::Mail | Sent::Recipient(_) => {
                running.note(sent, reply);
                Ok(None)
            }
        }
    }

    fn end_transaction(&mut self, reset_owed: bool, closing: bool) -> Step {
        let State::Transaction(running) = std::mem::replace(&mut self.state, State::Ready) else {
            unreachable!("called in a transaction only")
        };
        self.reset_owed = reset_owed;
        self.close_if(closing);
        Step::Done(running.report)
    }
}

impl Running {
    pub fn note(&mut self, sent: Sent, reply: Reply) {
        match sent {
            Sent::Mail => self.report.mail = Some(reply),
            Sent::Recipient(index) => self.report.recipients[index] = Some(reply),
            Sent::Data => self.report.data = Some(reply),
            Sent::End => self.report.end = Some(reply),
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
            Self::End | Self::EmptyEnd => Waiting::EndOfContent,
        }
    }
}
