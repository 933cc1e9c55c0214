//! BDAT: content in chunks of counted octets.
//!
//! Contract: [`Server::bdat`] begins a chunk or refuses it; [`Server::read_chunk`] and [`Server::skip_chunk`] take its octets, and
//! reply behind the last of them.
//! Invariants: the octets of a chunk are never taken for commands, whatever the reply to it is. A refused chunk spoils its
//! message: until RSET or EHLO every further one is refused. What is refused is not kept, and no more of it is read than
//! `Settings::most_refused`.
//! Not here: the argument (`chunk`), what content may have (`content`).
//! RFC 3030 sections 2 and 3.

use bytes::Buf;

use super::super::chunk::Chunk;
use super::super::content::Framing;
use super::super::replies::{self, Fixed};
use super::{Chunks, Hello, Progress, Server, State, Transaction};
use crate::mail::Reply;

impl Server {
    pub(super) fn bdat(&mut self, chunk: Chunk) -> Progress {
        let octets = chunk.octets;
        let max = self.settings.max_message_size;
        let Some(hello) = &self.hello else { return self.skip(octets, replies::HELLO_FIRST, true) };
        if let Hello { extended: false, .. } = hello {
            return self.skip(octets, replies::BDAT_NEEDS_EHLO, true);
        }
        let Some(transaction) = &mut self.transaction else {
            return self.skip(octets, replies::MAIL_FIRST, true);
        };
        if transaction.envelope.recipients.is_empty() {
            return self.skip(octets, replies::NO_RECIPIENTS, false);
        }
        let before = match &transaction.chunks {
            Chunks::None => 0,
            Chunks::Kept(reader) => reader.length(),
            Chunks::Refused => return self.skip(octets, replies::BDAT_BROKEN, true),
        };
        if before.saturating_add(octets) > max {
            transaction.chunks = Chunks::Refused;
            self.turned_away.push(replies::TOO_LARGE.into());
            return self.skip(octets, replies::TOO_LARGE, false);
        }
        if octets > 0 {
            // A long message has many; `max_message_size` is their limit.
            self.commands = self.commands.saturating_sub(1);
        }
        match transaction.chunks {
            Chunks::None => Progress::Content(Some(chunk)),
            _ => {
                self.state = State::Chunk(chunk);
                Progress::Made
            }
        }
    }

    /// The octets of a BDAT come even where the rest of its line is wrong.
    pub(super) fn bad_bdat(&mut self, octets: u64) -> Progress {
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = Chunks::Refused;
        }
        self.skip(octets, replies::BDAT_SYNTAX, true)
    }

    /// The driver agrees: the first chunk comes.
    pub(in super::super) fn begin_chunks(&mut self, chunk: Chunk) {
        let size = self.declared_size().or(Some(chunk.octets));
        let reader = self.content_reader(Framing::Chunks, size);
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = Chunks::Kept(reader);
        }
        self.state = State::Chunk(chunk);
    }

    /// The driver does not, or has not answered.
    pub(in super::super) fn refuse_chunk(&mut self, chunk: Chunk, reply: Reply) {
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = Chunks::Refused;
        }
        self.skip_and_say(chunk.octets, reply, false);
    }

    pub(super) fn skip(&mut self, octets: u64, reply: Fixed, is_error: bool) -> Progress {
        self.skip_and_say(octets, reply.into(), is_error);
        Progress::Made
    }

    fn skip_and_say(&mut self, octets: u64, reply: Reply, is_error: bool) {
        if reply.code() == 421 {
            self.answer(reply);
        } else if octets > self.settings.most_refused() {
            self.answer(reply);
            self.answer(replies::TOO_MUCH_TO_SKIP.into());
        } else {
            self.state = State::Skip { octets, reply, is_error };
        }
    }

    pub(super) fn read_chunk(&mut self) -> Progress {
        let (State::Chunk(chunk), Some(Transaction { chunks: Chunks::Kept(reader), .. })) =
            (&mut self.state, &mut self.transaction)
        else {
            unreachable!("called in a chunk only, which is of a transaction")
        };
        let length = available(chunk.octets, &self.input);
        reader.read(&self.input[..length]);
        chunk.octets -= length as u64;
        let Chunk { octets, last } = *chunk;
        self.input.advance(length);
        self.tape.content(length);
        if octets > 0 {
            return Progress::Stuck;
        }
        self.state = State::Commands;
        if last { self.end_last_chunk() } else { self.end_chunk() }
    }

    fn end_chunk(&mut self) -> Progress {
        let Some(transaction) = &mut self.transaction else { unreachable!("a chunk is of a transaction") };
        match &transaction.chunks {
            Chunks::Kept(reader) => match reader.refusal() {
                None => self.reply(replies::CHUNK_ACCEPTED),
                Some(refusal) => {
                    transaction.chunks = Chunks::Refused;
                    self.turn_away(refusal)
                }
            },
            Chunks::None | Chunks::Refused => unreachable!("the chunk was kept a moment ago"),
        }
    }

    fn end_last_chunk(&mut self) -> Progress {
        let mut transaction = self.transaction.take().expect("a chunk is of a transaction");
        match std::mem::replace(&mut transaction.chunks, Chunks::None) {
            Chunks::Kept(reader) => self.end_content(transaction, *reader),
            Chunks::None | Chunks::Refused => unreachable!("the chunk was kept a moment ago"),
        }
    }

    /// Reads what is refused, and keeps nothing.
    pub(super) fn skip_chunk(&mut self) -> Progress {
        let State::Skip { octets, .. } = &mut self.state else {
            unreachable!("called in a refused chunk only")
        };
        let length = available(*octets, &self.input);
        *octets -= length as u64;
        self.input.advance(length);
        self.tape.content(length);
        if *octets > 0 {
            return Progress::Stuck;
        }
        let State::Skip { reply, is_error, .. } = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("it was a refused chunk a moment ago")
        };
        self.answer(reply);
        if is_error {
            self.count_error();
        }
        Progress::Made
    }
}

/// How many of the octets that are due are here.
fn available(due: u64, input: &[u8]) -> usize {
    usize::try_from(due).unwrap_or(usize::MAX).min(input.len())
}
