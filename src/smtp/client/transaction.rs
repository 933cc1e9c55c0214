//! One transaction as the client sees it: what is sent, and what came back.
//!
//! Contract: [`Transaction`] is what the driver hands over; the functions here write its commands, with those
//! parameters that the server offers; [`TransactionReport`] is what it gets back.
//! Invariants: nothing in a command can end its line early: addresses are checked values, the rest is xtext.
//! Not here: the order of commands (`session`), whether a message may go to a server without an extension that it
//! would need (`deliver`).
//! RFC 5321 section 3.3, RFC 1870 section 5, RFC 2852 section 4, RFC 3030 section 3, RFC 3461 section 4, RFC 6152
//! section 2, RFC 6531 section 3.4, RFC 8689 section 2.

use bytes::Bytes;

use crate::mail::{
    BodyType, Content, DeliverBy, Envelope, Recipient, Reply, ReplyClass, Ret, ReversePath, encode_xtext,
};

use super::extensions::Extensions;

/// A message for some recipients, all of them at this server.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub reverse_path: ReversePath,
    pub body: BodyType,
    /// SMTPUTF8 is said where it is offered.
    pub smtputf8: bool,
    /// BY is said where it is offered; its seconds count from now.
    pub deliver_by: Option<DeliverBy>,
    /// REQUIRETLS is said where it is offered.
    pub require_tls: bool,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
    /// Octets of content, told by SIZE.
    pub size: u64,
    pub recipients: Vec<Recipient>,
    pub content: Content,
}

impl Transaction {
    /// The whole envelope with its content.
    pub fn new(envelope: Envelope, content: Content) -> Self {
        let Envelope {
            reverse_path, body, ret, envid, recipients, smtputf8, deliver_by, require_tls, ..
        } = envelope;
        let size = content.len() as u64;
        Self { reverse_path, body, smtputf8, deliver_by, require_tls, ret, envid, size, recipients, content }
    }

    pub(super) fn mail(&self, offered: &Extensions) -> String {
        let mut line = match self.reverse_path.address() {
            Some(address) => format!("MAIL FROM:<{address}>"),
            None => "MAIL FROM:<>".to_owned(),
        };
        if offered.size {
            line += &format!(" SIZE={}", self.size);
        }
        match self.body {
            BodyType::EightBitMime if offered.eight_bit_mime => line += " BODY=8BITMIME",
            BodyType::BinaryMime if offered.takes_binary() => line += " BODY=BINARYMIME",
            _ => {}
        }
        if offered.smtputf8 && self.smtputf8 {
            line += " SMTPUTF8";
        }
        if let Some(by) = self.deliver_by.filter(|_| offered.deliver_by.is_some()) {
            line += &format!(" BY={by}");
        }
        if offered.require_tls && self.require_tls {
            line += " REQUIRETLS";
        }
        if offered.dsn {
            match self.ret {
                Some(Ret::Full) => line += " RET=FULL",
                Some(Ret::Headers) => line += " RET=HDRS",
                None => {}
            }
            if let Some(envid) = self.envid.as_ref().filter(|envid| !envid.is_empty()) {
                line += &format!(" ENVID={}", encode_xtext(envid));
            }
        }
        line + "\r\n"
    }

    /// Whether the content goes by BDAT: wherever it is offered, for it spares both sides the search for dots; and for
    /// content of any octets there is no other way.
    pub(super) fn is_chunked(&self, offered: &Extensions) -> bool {
        let binary = self.body == BodyType::BinaryMime && offered.takes_binary();
        offered.chunking && (binary || !offered.avoid_chunking)
    }

    /// Content by BDAT ends as DATA would have it end: with a line's end, unless any octets are declared.
    pub(super) fn take_content(&mut self) -> Content {
        let mut content = std::mem::take(&mut self.content);
        if self.body != BodyType::BinaryMime && !ends_line(&content) {
            content.push(Bytes::from_static(b"\r\n"));
        }
        content
    }

    pub(super) fn rcpt(&self, index: usize, offered: &Extensions) -> String {
        let recipient = &self.recipients[index];
        let mut line = format!("RCPT TO:<{}>", recipient.address);
        if offered.dsn {
            if let Some(notify) = recipient.notify {
                line += &format!(" NOTIFY={notify}");
            }
            if let Some(original) = &recipient.original {
                line += &format!(" ORCPT={original}");
            }
        }
        line + "\r\n"
    }
}

/// What the server said to each part of a transaction; `None` where it said nothing or was not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionReport {
    pub mail: Option<Reply>,
    /// In the order of the transaction's recipients.
    pub recipients: Vec<Option<Reply>>,
    /// The reply to DATA; `None` with BDAT, which asks nothing before it sends.
    pub data: Option<Reply>,
    /// The content goes by BDAT.
    pub chunked: bool,
    /// The reply to the final dot, or to a BDAT, for all recipients that were accepted. A BDAT that was refused is the
    /// end, though more chunks were to come.
    pub end: Option<Reply>,
    /// By LMTP: the reply to the final dot for each recipient, in the order of the transaction's recipients, and `end` is
    /// empty (RFC 2033 section 4.2); that of one who was not accepted means nothing. By SMTP there are none.
    pub ends: Vec<Option<Reply>>,
    /// Several commands were out at once.
    pub pipelined: bool,
    /// Whether the whole content, with its final dot unless it went by BDAT, was written. With it and without an end,
    /// nobody knows whether the server has the message.
    pub dot_sent: bool,
}

impl TransactionReport {
    pub(super) fn of(transaction: &Transaction, lmtp: bool) -> Self {
        let recipients = vec![None; transaction.recipients.len()];
        let ends = if lmtp { recipients.clone() } else { Vec::new() };
        Self { recipients, ends, ..Self::default() }
    }

    /// Whether the server accepted the reverse-path.
    pub fn mail_accepted(&self) -> bool {
        is_accepted(&self.mail)
    }

    /// Whether the server accepted RCPT for this recipient; what came of the message is in `end`.
    pub fn recipient_accepted(&self, index: usize) -> bool {
        self.recipients.get(index).is_some_and(is_accepted)
    }

    pub(super) fn any_recipient_accepted(&self) -> bool {
        self.recipients.iter().any(is_accepted)
    }

    /// What the server said of the content to this recipient.
    pub fn end_of(&self, index: usize) -> Option<&Reply> {
        match self.ends.get(index) {
            Some(end) => end.as_ref(),
            None => self.end.as_ref(),
        }
    }

    /// The outcome is unknown for this recipient: he was accepted, the content went out whole, and no reply came.
    pub fn is_uncertain_for(&self, index: usize) -> bool {
        self.dot_sent && self.recipient_accepted(index) && self.end_of(index).is_none()
    }

    /// The outcome is unknown for somebody.
    pub fn is_uncertain(&self) -> bool {
        (0..self.recipients.len()).any(|index| self.is_uncertain_for(index))
    }

    /// This recipient was one too many for this transaction, and may be offered in the next one at once: another had been
    /// accepted.
    pub fn is_one_too_many(&self, index: usize) -> bool {
        let reply = self.recipients.get(index).and_then(Option::as_ref);
        reply.is_some_and(Reply::is_too_many_recipients) && self.any_recipient_accepted()
    }

    /// A reply to the content as a whole.
    pub(super) fn end_for_all(&mut self, reply: Reply) {
        if self.ends.is_empty() {
            self.end = Some(reply);
        } else {
            self.ends.fill(Some(reply));
        }
    }

    /// Recipients that the server took in this transaction, where it had no room for more.
    pub fn room(&self) -> Option<u32> {
        let full = (0..self.recipients.len()).any(|index| self.is_one_too_many(index));
        full.then(|| self.recipients.iter().filter(|reply| is_accepted(reply)).count() as u32)
    }

    /// The content was under way, or about to be, and nothing was said of it.
    pub fn content_is_owed_a_reply(&self) -> bool {
        let asked = self.recipients.iter().all(Option::is_some);
        asked && (0..self.recipients.len()).any(|to| self.recipient_accepted(to) && self.end_of(to).is_none())
    }

    /// Of commands that went out together, the first was answered and not all that followed: the server may not heed what
    /// comes along with another command, though it offers PIPELINING.
    pub fn is_group_cut_short(&self) -> bool {
        let data = self.chunked || self.data.is_some();
        self.pipelined && self.mail.is_some() && !(data && self.recipients.iter().all(Option::is_some))
    }

    /// The server offers CHUNKING and does not know BDAT: something between us and it changes what is said. The octets of
    /// the content may have been read as commands.
    pub fn is_chunking_broken(&self) -> bool {
        self.chunked && self.any_end().is_some_and(|reply| matches!(reply.code(), 500 | 502))
    }

    /// The first reply to the content.
    pub fn any_end(&self) -> Option<&Reply> {
        self.end.as_ref().or_else(|| self.ends.iter().flatten().next())
    }
}

fn ends_line(content: &Content) -> bool {
    let mut backwards = content.chunks().iter().rev().flat_map(|chunk| chunk.iter().rev());
    content.is_empty() || (backwards.next() == Some(&b'\n') && backwards.next() == Some(&b'\r'))
}

fn is_accepted(reply: &Option<Reply>) -> bool {
    reply.as_ref().is_some_and(|reply| reply.class() == ReplyClass::Completed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::ByMode;

    #[test]
    fn parameters_go_only_to_a_server_that_offers_them() {
        let mut recipient = Recipient::new("\"a b\"@example.org".parse().unwrap());
        recipient.notify = Some(crate::mail::Notify::NEVER);
        recipient.original = Some("rfc822;a+2Bb@example.org".parse().unwrap());
        let mut envelope = Envelope::new(ReversePath::NULL, []);
        envelope.recipients.push(recipient);
        envelope.body = BodyType::EightBitMime;
        envelope.ret = Some(Ret::Headers);
        envelope.envid = Some("a b+c\r\n".into());
        let transaction = Transaction::new(envelope, Content::from("12345"));
        let bare = Extensions::default();
        assert_eq!(transaction.mail(&bare), "MAIL FROM:<>\r\n");
        assert_eq!(transaction.rcpt(0, &bare), "RCPT TO:<\"a b\"@example.org>\r\n");
        let rich = Extensions { size: true, eight_bit_mime: true, dsn: true, ..bare.clone() };
        let mail = "MAIL FROM:<> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=a+20b+2Bc+0D+0A\r\n";
        assert_eq!(transaction.mail(&rich), mail);
        let rcpt = "RCPT TO:<\"a b\"@example.org> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@example.org\r\n";
        assert_eq!(transaction.rcpt(0, &rich), rcpt);

        let mut envelope = Envelope::new(ReversePath::NULL, []);
        envelope.body = BodyType::BinaryMime;
        envelope.smtputf8 = true;
        envelope.deliver_by = Some(DeliverBy { seconds: -60, mode: ByMode::Notify, trace: true });
        let transaction = Transaction::new(envelope, Content::from("12345"));
        assert_eq!(transaction.mail(&bare), "MAIL FROM:<>\r\n");
        let half = Extensions { binary_mime: true, eight_bit_mime: true, ..bare.clone() };
        assert_eq!(
            transaction.mail(&half),
            "MAIL FROM:<>\r\n",
            "without CHUNKING there is no way to send it"
        );
        let rich =
            Extensions { binary_mime: true, chunking: true, smtputf8: true, deliver_by: Some(0), ..bare };
        assert_eq!(transaction.mail(&rich), "MAIL FROM:<> BODY=BINARYMIME SMTPUTF8 BY=-60;NT\r\n");
    }
}
