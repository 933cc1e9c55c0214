//! Clients that hand letters to the relay over SMTP, and write down what they were told.
//!
//! Contract: a client believes nothing but replies: a letter is promised when 250 to its final dot was read, and only
//! then. Who was cut off after the dot does not know.
//! Not here: whether the promise is kept (`check`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::plan::{DOMAINS, FRONT_DOOR, SENDERS};
use crate::clock::{Clock, Timestamp};
use crate::mail::Notify;
use crate::net::{MemoryNetwork, Stream};

/// How long a client waits for a reply.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// What a client knows of its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The final dot was not sent: nobody may do anything with it.
    Nothing,
    /// The dot was sent, and no answer has come.
    Unsure,
    Promised,
    Refused,
}

/// One letter of a client.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub number: usize,
    /// None for the null reverse-path.
    pub sender: Option<String>,
    pub recipients: Vec<(String, Option<Notify>)>,
    pub body: String,
    /// The client goes away amid the content.
    hangs_up: bool,
    /// Recipients that the relay took.
    pub taken: Vec<String>,
    pub heard: Heard,
    /// When it heard that.
    pub at: Timestamp,
}

/// All letters, by their numbers.
pub(super) type Letters = Arc<Mutex<Vec<Letter>>>;

impl Letter {
    pub fn draw(number: usize, chance: &mut fastrand::Rng) -> Self {
        let sender = (chance.u8(..6) > 0).then(|| format!("s{number}@{SENDERS}"));
        let count = [1, 1, 1, 2, 3, 5][chance.usize(..6)];
        let mut recipient = |index: usize| {
            let domain = DOMAINS[chance.usize(..DOMAINS.len())];
            (format!("r{number}-{index}@{domain}"), notify(chance))
        };
        let recipients = (0..count).map(&mut recipient).collect();
        let lines = [1, 3, 20, 200][chance.usize(..4)];
        let mut body = format!("the letter of client {number}\r\n");
        for line in 0..lines {
            body.push_str(&format!(
                "{}line {line} of letter {number}\r\n",
                if line % 7 == 3 { "." } else { "" }
            ));
        }
        Self {
            number,
            sender,
            recipients,
            body,
            hangs_up: chance.u8(..20) == 0,
            taken: Vec::new(),
            heard: Heard::Nothing,
            at: Timestamp::default(),
        }
    }

    /// One that nothing is special about, to one recipient of this domain.
    pub fn plain(number: usize, domain: &str) -> Self {
        Self {
            number,
            sender: Some(format!("s{number}@{SENDERS}")),
            recipients: vec![(format!("r{number}-0@{domain}"), None)],
            body: format!("the letter of client {number}\r\n"),
            hangs_up: false,
            taken: Vec::new(),
            heard: Heard::Nothing,
            at: Timestamp::default(),
        }
    }

    /// The number of the letter to such a recipient.
    pub fn number_of_recipient(address: &str) -> Option<usize> {
        address.strip_prefix('r')?.split_once('-')?.0.parse().ok()
    }

    pub fn message_id(&self) -> String {
        format!("<letter{}@{SENDERS}>", self.number)
    }

    /// What was asked for one of its recipients.
    pub fn notify(&self, recipient: &str) -> Option<Notify> {
        self.recipients.iter().find(|(address, _)| address == recipient).and_then(|(_, notify)| *notify)
    }

    /// The number in such a Message-ID.
    pub fn number_of(message_id: &str) -> Option<usize> {
        message_id.strip_prefix("<letter")?.split_once('@')?.0.parse().ok()
    }
}

fn notify(chance: &mut fastrand::Rng) -> Option<Notify> {
    match chance.u8(..6) {
        0 => Some(Notify::NEVER),
        1 => Some(Notify { success: chance.bool(), failure: true, delay: chance.bool() }),
        2 => Some(Notify { success: true, failure: chance.bool(), delay: false }),
        _ => None,
    }
}

/// Hands these letters over in one session.
pub(super) async fn submit(network: MemoryNetwork, clock: Clock, letters: Letters, numbers: Vec<usize>) {
    let Ok(stream) = network.connect(FRONT_DOOR).await else { return };
    let mut session = Session { stream: BufReader::new(stream), clock, letters };
    // Why a session ends early is of no consequence: what was heard is written down.
    let _ = session.run(&numbers).await;
}

/// The session is over.
struct Over;

struct Session {
    stream: BufReader<Stream>,
    clock: Clock,
    letters: Letters,
}

impl Session {
    async fn run(&mut self, numbers: &[usize]) -> Result<(), Over> {
        self.expect(220).await?;
        self.say("EHLO client.example").await?;
        self.expect(250).await?;
        for number in numbers {
            self.hand_over(*number).await?;
        }
        self.say("QUIT").await?;
        self.reply().await.map(drop)
    }

    async fn hand_over(&mut self, number: usize) -> Result<(), Over> {
        let letter = self.letters.lock().unwrap()[number].clone();
        self.say(&format!("MAIL FROM:<{}>", letter.sender.as_deref().unwrap_or(""))).await?;
        if self.reply().await? != 250 {
            return self.reset().await;
        }
        let mut taken = Vec::new();
        for (address, notify) in &letter.recipients {
            let notify = notify.map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
            self.say(&format!("RCPT TO:<{address}>{notify}")).await?;
            if self.reply().await? == 250 {
                taken.push(address.clone());
            }
        }
        self.note(number, |letter| letter.taken = taken.clone());
        self.say("DATA").await?;
        if self.reply().await? != 354 {
            return self.reset().await;
        }
        let head = format!("Message-ID: {}\r\nSubject: letter {number}\r\n\r\n", letter.message_id());
        let stuffed = letter.body.replace("\r\n.", "\r\n..");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).await.map_err(|_| Over)?;
        if letter.hangs_up {
            return Err(Over);
        }
        stream.write_all(stuffed.as_bytes()).await.map_err(|_| Over)?;
        self.note(number, |letter| letter.heard = Heard::Unsure);
        self.say(".").await?;
        let heard = if self.reply().await? == 250 { Heard::Promised } else { Heard::Refused };
        self.note(number, |letter| letter.heard = heard);
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), Over> {
        self.say("RSET").await?;
        self.expect(250).await
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Letter)) {
        let mut letters = self.letters.lock().unwrap();
        change(&mut letters[number]);
        letters[number].at = self.clock.now();
    }

    async fn say(&mut self, line: &str) -> Result<(), Over> {
        let octets = format!("{line}\r\n");
        self.stream.get_mut().write_all(octets.as_bytes()).await.map_err(|_| Over)
    }

    async fn expect(&mut self, code: u16) -> Result<(), Over> {
        if self.reply().await? == code { Ok(()) } else { Err(Over) }
    }

    /// The code of the next reply.
    async fn reply(&mut self) -> Result<u16, Over> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
            match read {
                Ok(Ok(octets)) if octets > 0 => {}
                _ => return Err(Over),
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).and_then(|code| code.parse().ok()).ok_or(Over);
            }
        }
    }
}
