//! One session of an upstream: the server's machine of `smtp`, with the script between it and the client.
//!
//! Contract: command lines reach the machine one at a time, so that the script is asked about each before anything is
//! said; what the script lets pass the machine answers. A reply of the script's own takes the place of the machine's.
//! HELO is never asked about: a script that refuses EHLO leaves it as the way back (RFC 5321 section 3.2).
//! Invariants: a command that the script refuses changes nothing in the machine; content that is cut short is not kept.
//! Not here: what comes before the greeting (`door`), doing what the script says (`deeds`), AUTH (`auth`), what is
//! remembered (`mod`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Shared;
use super::deeds::{Course, Decision, GARBAGE, begins_with, stay_silent};
use crate::lab::script::{Answer, BadCertificate, BadHandshake, Deed, Stage};
use crate::mail::{Address, Envelope, Reply, ReplyClass, ReversePath};
use crate::net::Stream;
use crate::smtp::server::{
    ContentQuestion, EndQuestion, GreetQuestion, MailQuestion, RecipientQuestion, Server, Settings, Step,
};

/// A TLS handshake must end within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read at once, and the longest piece of a line that is waited for.
pub(super) const READ: usize = 16 << 10;

/// The session has ended, in whichever way.
pub(super) struct Over;

pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    /// How many questions there were of each stage; of RCPT, in this transaction.
    pub(super) asked: HashMap<Stage, u64>,
    pub(super) stream: Option<Stream>,
    /// Read, and not yet given to the machine.
    input: BytesMut,
    /// Goes out in place of what the machine says next.
    pub(super) instead: Option<BytesMut>,
    /// Between the octets of what is said next.
    pub(super) drip: Option<Duration>,
    /// The connection ends behind what is said next.
    pub(super) closing: bool,
    /// What the machine says next is the answer to EHLO, and these extensions are left out.
    pub(super) without: Option<Vec<String>>,
    starttls: bool,
    pub(super) certificate: Option<BadCertificate>,
    /// What comes in place of a handshake.
    pub(super) handshake: Option<BadHandshake>,
    /// To be done as soon as content comes.
    amid_content: Option<Answer>,
    /// The last piece of content that was given to the machine ended with CRLF.
    at_line_start: bool,
    /// Of the last transaction that got as far as DATA, for QUIT.
    last: Option<(ReversePath, Vec<Address>)>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, stream: Stream, number: u64) -> Self {
        Self {
            starttls: shared.offers_starttls(),
            shared,
            number,
            stream: Some(stream),
            input: BytesMut::new(),
            instead: None,
            drip: None,
            closing: false,
            without: None,
            certificate: None,
            handshake: None,
            asked: HashMap::new(),
            amid_content: None,
            at_line_start: true,
            last: None,
        }
    }

    /// Until either side ends it. Why is of no consequence: what happened is remembered.
    pub async fn run(mut self) {
        let mut settings = Settings::new(&self.shared.offers.hostname);
        settings.starttls = self.starttls;
        // Clients under test may try as often as they like.
        settings.max_errors = u32::MAX;
        settings.max_commands = u32::MAX;
        let _ = self.drive(&mut Server::new(settings)).await;
    }

    async fn drive(&mut self, machine: &mut Server) -> Result<(), Over> {
        loop {
            match machine.step() {
                Step::NeedInput => self.feed(machine).await?,
                Step::Send => self.send(machine).await?,
                Step::Greet(question) => self.greet(question).await?,
                Step::Mail(question) => self.mail(question).await?,
                Step::Recipient(question) => self.recipient(question).await?,
                Step::Content(question) => self.content(question).await?,
                Step::EndOfContent(question) => self.end_of_content(question).await?,
                // Never offered: AUTH of a lab's upstream is scripted.
                Step::Auth(question) => drop(question),
                Step::StartTls => self.start_tls(machine).await?,
                Step::Closed => {
                    // The other side may be gone already.
                    let _ = self.stream().shutdown().await;
                    return Ok(());
                }
            }
        }
    }
}

/// The script's questions, where the machine asks them.
impl Session {
    async fn greet(&mut self, question: GreetQuestion<'_>) -> Result<(), Over> {
        let course = self.ask(Stage::Greeting, None, &[]).await?;
        match self.decide(course, ReplyClass::Completed) {
            Decision::Refuse(reply) => question.refuse(reply),
            // Unanswered, the machine would end the session.
            Decision::Accept | Decision::Leave => question.accept(),
        }
        Ok(())
    }

    async fn mail(&mut self, question: MailQuestion<'_>) -> Result<(), Over> {
        let sender = question.mail().reverse_path.clone();
        let course = self.ask(Stage::Mail, Some(&sender), &[]).await?;
        match self.decide(course, ReplyClass::Completed) {
            Decision::Accept => question.accept(),
            Decision::Refuse(reply) => question.refuse(reply),
            Decision::Leave => {}
        }
        Ok(())
    }

    async fn recipient(&mut self, question: RecipientQuestion<'_>) -> Result<(), Over> {
        let sender = question.envelope().reverse_path.clone();
        let recipient = question.recipient().address.clone();
        let course = self.ask(Stage::Rcpt, Some(&sender), &[recipient]).await?;
        match self.decide(course, ReplyClass::Completed) {
            Decision::Accept => question.accept(),
            Decision::Refuse(reply) => question.refuse(reply),
            Decision::Leave => {}
        }
        Ok(())
    }

    async fn content(&mut self, question: ContentQuestion<'_>) -> Result<(), Over> {
        let (sender, recipients) = parties(question.envelope());
        self.last = Some((sender.clone(), recipients.clone()));
        let course = self.ask(Stage::Data, Some(&sender), &recipients).await?;
        // Only 354 has the content come.
        match self.decide(course, ReplyClass::Intermediate) {
            Decision::Accept => question.accept(),
            Decision::Refuse(reply) => {
                question.refuse(reply);
                return Ok(());
            }
            Decision::Leave => return Ok(()),
        }
        self.at_line_start = true;
        let answer = self.question(Stage::Content, Some(&sender), &recipients);
        self.amid_content =
            Some(answer).filter(|answer| answer.deed != Deed::Accept || !answer.delay.is_zero());
        Ok(())
    }

    async fn end_of_content(&mut self, question: EndQuestion<'_>) -> Result<(), Over> {
        let (sender, recipients) = parties(question.envelope());
        let answer = self.question(Stage::Dot, Some(&sender), &recipients);
        let (envelope, content, reply_to) = question.into_parts();
        let taken = match &answer.deed {
            Deed::Accept | Deed::KeepAndClose | Deed::KeepAndSilence | Deed::Lose => true,
            Deed::Reply(reply) => reply.class() == ReplyClass::Completed,
            Deed::Raw(octets) => begins_with(octets, ReplyClass::Completed),
            _ => false,
        };
        // Before any delay: a server that answers too late has the message nevertheless.
        if taken {
            self.shared.take(envelope, &content, answer.deed != Deed::Lose);
        }
        let course = self.follow(Stage::Dot, answer).await?;
        match self.decide(course, ReplyClass::Completed) {
            Decision::Accept => reply_to.accept("taken"),
            Decision::Refuse(reply) => reply_to.refuse(reply),
            Decision::Leave => {}
        }
        Ok(())
    }

    async fn start_tls(&mut self, machine: &mut Server) -> Result<(), Over> {
        let shared = Arc::clone(&self.shared);
        let tls = match self.certificate.take() {
            Some(kind) => shared.certificates.bad(kind),
            None => shared.certificates.good(),
        };
        let handshake = self.handshake.take();
        if handshake == Some(BadHandshake::Garbage) {
            self.write(GARBAGE).await?;
        }
        let stream = self.stream.take().expect("a session has its stream but during a handshake");
        match handshake {
            None => {}
            Some(BadHandshake::Reset) => {
                stream.reset();
                return Err(Over);
            }
            Some(BadHandshake::Silence) => {
                stay_silent(stream).await;
                return Err(Over);
            }
            Some(BadHandshake::Close | BadHandshake::Garbage) => return Err(Over),
        }
        // A client that does not trust the certificate ends it, and that is what the script wanted.
        self.stream = Some(stream.start_tls_server(tls, HANDSHAKE_TIMEOUT).await.map_err(|_| Over)?);
        self.input.clear();
        machine.tls_started();
        Ok(())
    }
}

/// Reading.
impl Session {
    async fn feed(&mut self, machine: &mut Server) -> Result<(), Over> {
        if machine.receiving_content() {
            self.read_content(machine).await
        } else {
            self.read_command(machine).await
        }
    }

    /// One command line for the machine, or for the script alone.
    async fn read_command(&mut self, machine: &mut Server) -> Result<(), Over> {
        let line = self.read_line().await?;
        let Some(text) = line.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok()) else {
            machine.receive(&line);
            return Ok(());
        };
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let passes = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.ehlo().await?,
            "STARTTLS" if self.starttls && !machine.is_tls() => self.pass_or_say(Stage::StartTls).await?,
            "AUTH" if self.shared.offers.auth => {
                if self.pass_or_say(Stage::Auth).await? {
                    self.authenticate(argument.trim()).await?;
                }
                false
            }
            "QUIT" => self.quit().await?,
            _ => true,
        };
        if passes {
            machine.receive(&line);
        }
        Ok(())
    }

    async fn ehlo(&mut self) -> Result<bool, Over> {
        self.without = Some(Vec::new());
        let passes = self.pass_or_say(Stage::Ehlo).await?;
        if !passes {
            self.without = None;
        }
        Ok(passes)
    }

    async fn quit(&mut self) -> Result<bool, Over> {
        let last = self.last.take();
        let (sender, recipients) = last.unzip();
        let course = self.ask(Stage::Quit, sender.as_ref(), recipients.as_deref().unwrap_or(&[])).await?;
        match course {
            Course::Pass => Ok(true),
            Course::Say(reply) => {
                self.write_own(&reply).await?;
                Err(Over)
            }
            Course::Octets(octets) => {
                self.write(&octets).await?;
                Err(Over)
            }
        }
    }

    /// Asks about a command that the machine does not ask about; true when it is to have it.
    async fn pass_or_say(&mut self, stage: Stage) -> Result<bool, Over> {
        match self.ask(stage, None, &[]).await? {
            Course::Pass => return Ok(true),
            Course::Say(reply) if reply.class() == ReplyClass::Completed && stage != Stage::Auth => {
                self.say_instead(&reply);
                return Ok(true);
            }
            Course::Say(reply) => self.write_own(&reply).await?,
            Course::Octets(octets) if begins_with(&octets, ReplyClass::Completed) && stage != Stage::Auth => {
                self.instead = Some(octets[..].into());
                return Ok(true);
            }
            Course::Octets(octets) => self.write(&octets).await?,
        }
        Ok(false)
    }

    /// Gives the machine content, and not one octet behind its end.
    async fn read_content(&mut self, machine: &mut Server) -> Result<(), Over> {
        if memchr(b'\n', &self.input).is_none() {
            self.read().await?;
        }
        if let Some(answer) = self.amid_content.take() {
            match self.follow(Stage::Content, answer).await? {
                Course::Pass => {}
                // There is no way on from here: the client would take it for the reply to the final dot.
                Course::Say(reply) => {
                    self.write_own(&reply).await?;
                    return Err(Over);
                }
                Course::Octets(octets) => {
                    self.write(&octets).await?;
                    return Err(Over);
                }
            }
        }
        while let Some(end) = memchr(b'\n', &self.input) {
            let line = self.input.split_to(end + 1);
            machine.receive(&line);
            if self.at_line_start && line[..] == *b".\r\n" {
                return Ok(());
            }
            self.at_line_start = line.ends_with(b"\r\n");
        }
        // An endless line goes on in pieces; a CR may belong to the line end that is still to come.
        if self.input.len() > READ && !self.input.ends_with(b"\r") {
            machine.receive(&self.input.split());
            self.at_line_start = false;
        }
        Ok(())
    }

    /// Through the next LF; a line of more than [`READ`] octets comes in pieces.
    pub(super) async fn read_line(&mut self) -> Result<BytesMut, Over> {
        loop {
            if let Some(end) = memchr(b'\n', &self.input) {
                return Ok(self.input.split_to(end + 1));
            }
            if self.input.len() > READ {
                return Ok(self.input.split());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Over> {
        let stream = self.stream.as_mut().expect("a session has its stream but during a handshake");
        self.input.reserve(READ);
        match stream.read_buf(&mut self.input).await {
            Ok(octets) if octets > 0 => Ok(()),
            _ => Err(Over),
        }
    }
}

pub(super) fn is_refusal(reply: &Reply) -> bool {
    matches!(reply.class(), ReplyClass::TransientFailure | ReplyClass::PermanentFailure)
}

fn parties(envelope: &Envelope) -> (ReversePath, Vec<Address>) {
    (envelope.reverse_path.clone(), envelope.recipients.iter().map(|r| r.address.clone()).collect())
}
