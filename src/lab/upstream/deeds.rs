//! Doing what the script says, in a session.
//!
//! Contract: [`Session::ask`] asks the script and does what the answer says of it, so far as that is not a reply; what is
//! left is the [`Course`]. [`Session::decide`] makes of that an answer to the machine.
//! Invariants: whatever never ends, ends: floods by their length, a connection that stalls within a day.
//! Not here: which questions there are (`session`).

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::session::{Over, READ, Session, is_refusal};
use crate::lab::script::{Answer, Deed, Flood, Stage};
use crate::mail::{Address, Reply, ReplyClass, ReversePath};
use crate::net::Stream;
use crate::smtp::server::{Server, write_reply};

/// Octets that no client can take for a reply.
pub(super) const GARBAGE: &[u8] = b"\x15\x03\x01\x00\x02\x02\x28 \xff\xfe this is no reply\r\n";
/// What a flood comes to.
const FLOOD: usize = 16 << 20;
/// How long a connection stalls, if the client does not mind.
const STALLED: Duration = Duration::from_secs(86_400);

/// What a script's answer comes to, where the session goes on.
pub(super) enum Course {
    Pass,
    Say(Reply),
    /// These, whatever they are.
    Octets(Vec<u8>),
}

/// What becomes of a question of the machine.
pub(super) enum Decision {
    Accept,
    Refuse(Reply),
    /// It stays unanswered, and what the machine says to that is not sent.
    Leave,
}

/// Whether the octets begin as a reply of this class.
pub(super) fn begins_with(octets: &[u8], class: ReplyClass) -> bool {
    let digit = match class {
        ReplyClass::Completed => b'2',
        ReplyClass::Intermediate => b'3',
        ReplyClass::TransientFailure => b'4',
        ReplyClass::PermanentFailure => b'5',
    };
    octets.first() == Some(&digit)
}

/// Doing what the script says.
impl Session {
    pub(super) async fn ask(
        &mut self,
        stage: Stage,
        sender: Option<&ReversePath>,
        recipients: &[Address],
    ) -> Result<Course, Over> {
        let answer = self.question(stage, sender, recipients);
        self.follow(stage, answer).await
    }

    /// Asks the script, and does nothing yet.
    pub(super) fn question(
        &mut self,
        stage: Stage,
        sender: Option<&ReversePath>,
        recipients: &[Address],
    ) -> Answer {
        if stage == Stage::Mail {
            self.asked.remove(&Stage::Rcpt);
        }
        let nth = self.asked.entry(stage).or_default();
        *nth += 1;
        self.shared.ask(self.number, *nth, stage, sender, recipients)
    }

    pub(super) async fn follow(&mut self, stage: Stage, answer: Answer) -> Result<Course, Over> {
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        self.drip = answer.drip;
        self.closing = answer.closing;
        match answer.deed {
            Deed::Accept | Deed::Lose => Ok(Course::Pass),
            Deed::Reply(reply) => Ok(Course::Say(reply)),
            Deed::Garbage => Ok(Course::Octets(GARBAGE.into())),
            Deed::Raw(octets) => Ok(Course::Octets(octets)),
            Deed::Flood(flood) => self.flood(stage, flood).await,
            Deed::HalfClose => {
                if let Some(mut stream) = self.stream.take() {
                    let _ = stream.shutdown().await;
                    stay_silent(stream).await;
                }
                Err(Over)
            }
            Deed::Stall => {
                tokio::time::sleep(STALLED).await;
                Err(Over)
            }
            Deed::Without(extensions) => {
                self.without = Some(extensions);
                Ok(Course::Pass)
            }
            Deed::Certificate(kind) => {
                self.certificate = Some(kind);
                Ok(Course::Pass)
            }
            Deed::Handshake(fault) => {
                self.handshake = Some(fault);
                Ok(Course::Pass)
            }
            Deed::Silence | Deed::KeepAndSilence => {
                if let Some(stream) = self.stream.take() {
                    stay_silent(stream).await;
                }
                Err(Over)
            }
            Deed::Close | Deed::KeepAndClose => Err(Over),
            Deed::Reset | Deed::Refuse | Deed::Unreachable => {
                if let Some(stream) = self.stream.take() {
                    stream.reset();
                }
                Err(Over)
            }
        }
    }

    /// A reply of class `goes_on` lets the transaction go on.
    pub(super) fn decide(&mut self, course: Course, goes_on: ReplyClass) -> Decision {
        match course {
            Course::Pass => Decision::Accept,
            Course::Say(reply) if is_refusal(&reply) => Decision::Refuse(reply),
            Course::Say(reply) => {
                self.say_instead(&reply);
                if reply.class() == goes_on { Decision::Accept } else { Decision::Leave }
            }
            Course::Octets(octets) => {
                let decision = match begins_with(&octets, goes_on) {
                    true => Decision::Accept,
                    false => Decision::Leave,
                };
                self.instead = Some(octets[..].into());
                decision
            }
        }
    }

    pub(super) fn say_instead(&mut self, reply: &Reply) {
        let mut octets = BytesMut::new();
        write_reply(&mut octets, reply);
        self.instead = Some(octets);
    }

    pub(super) async fn send(&mut self, machine: &mut Server) -> Result<(), Over> {
        let said = machine.output().split();
        let without = self.without.take();
        let said = match (self.instead.take(), without) {
            (Some(instead), _) => instead,
            (None, Some(without)) if said.starts_with(b"250") => self.extensions(&said, &without),
            (None, _) => said,
        };
        self.write(&said).await
    }

    /// The machine's answer to EHLO, with AUTH and without what the script hides.
    fn extensions(&self, said: &[u8], without: &[String]) -> BytesMut {
        let text = String::from_utf8_lossy(said);
        let mut lines: Vec<String> =
            text.lines().filter_map(|line| line.get(4..)).map(str::to_owned).collect();
        if self.shared.offers.auth {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        let hidden = |line: &str| {
            let keyword = line.split(' ').next().unwrap_or_default();
            without.iter().any(|word| word.eq_ignore_ascii_case(keyword))
        };
        let mut first = true;
        lines.retain(|line| std::mem::take(&mut first) || !hidden(line));
        let mut octets = BytesMut::new();
        write_reply(&mut octets, &Reply::with_lines(250, lines));
        octets
    }

    pub(super) async fn write_own(&mut self, reply: &Reply) -> Result<(), Over> {
        let mut octets = BytesMut::new();
        write_reply(&mut octets, reply);
        self.write(&octets).await?;
        if reply.code() == 421 { Err(Over) } else { Ok(()) }
    }

    pub(super) async fn write(&mut self, octets: &[u8]) -> Result<(), Over> {
        let drip = self.drip.take();
        let stream = self.stream();
        let written = async {
            match drip {
                None => stream.write_all(octets).await?,
                Some(apart) => {
                    for octet in octets {
                        tokio::time::sleep(apart).await;
                        stream.write_all(&[*octet]).await?;
                        stream.flush().await?;
                    }
                }
            }
            stream.flush().await
        };
        written.await.map_err(|_| Over)?;
        if std::mem::take(&mut self.closing) {
            let _ = self.stream().shutdown().await;
            return Err(Over);
        }
        Ok(())
    }

    /// Goes on until the client has left, or [`FLOOD`] octets are written.
    async fn flood(&mut self, stage: Stage, flood: Flood) -> Result<Course, Over> {
        let code = match stage {
            Stage::Greeting | Stage::StartTls => 220,
            Stage::Auth => 235,
            Stage::Data => 354,
            Stage::Quit => 221,
            _ => 250,
        };
        let piece = match flood {
            Flood::Line => "and on ".repeat(1000),
            Flood::Lines => format!("{code}-and on\r\n").repeat(500),
        };
        let drip = self.drip;
        self.write(format!("{code} ").as_bytes()).await?;
        for _ in 0..FLOOD / piece.len() {
            self.drip = drip;
            self.write(piece.as_bytes()).await?;
        }
        Err(Over)
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("a session has its stream but during a handshake")
    }
}

/// Says nothing until the client has left; what it sends is thrown away.
pub(super) async fn stay_silent(mut stream: Stream) {
    let mut octets = vec![0; READ];
    while stream.read(&mut octets).await.is_ok_and(|read| read > 0) {}
}
