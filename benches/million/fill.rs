//! Fills a spool with messages that were never tried, by the spool's own `Log`: faster than any dialogue.
//!
//! Contract: when [`Fill::run`] returns, the messages are durable and the log is closed in order.
//! Not here: messages that come by SMTP (`source`).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use posthouse::clock::Clock;
use posthouse::mail::{Address, Content, Envelope, Origin};
use posthouse::spool::{Accepted, Log, Settings, Spool};
use serde_json::json;

use super::{Failure, children};

/// Commits that are under way at one time.
const AT_ONCE: usize = 512;

pub struct Fill {
    spool: PathBuf,
    messages: u64,
    octets: usize,
    /// Recipients are spread over so many domains, `d0.test` and so on, in turn; 0: all are at example.com.
    pub domains: u64,
    /// Every so many-th recipient is called `later...`; 0: none.
    pub later_every: u64,
    /// The clock's speed that the spool is for.
    pub speed: u64,
}

impl Fill {
    pub fn new(spool: &Path, messages: u64, octets: usize) -> Self {
        Self { spool: spool.to_owned(), messages, octets, domains: 0, later_every: 0, speed: 1 }
    }

    pub fn run(&self) -> Result<(), Failure> {
        let numbers = [self.messages, self.octets as u64, self.domains, self.later_every, self.speed];
        let mut arguments = vec![self.spool.display().to_string()];
        arguments.extend(numbers.map(|number| number.to_string()));
        children::answer_of("fill", &arguments).map(drop)
    }

    fn recipient(&self, number: u64) -> Result<Address, Failure> {
        let name =
            if self.later_every > 0 && number.is_multiple_of(self.later_every) { "later" } else { "bob" };
        let domain = match self.domains {
            0 => "example.com".to_owned(),
            domains => format!("d{}.test", number % domains),
        };
        Ok(format!("{name}{number}@{domain}").parse()?)
    }

    async fn write(&self) -> Result<(), Failure> {
        let settings = Settings { min_free: 0, speed: self.speed as f64, ..Settings::new(&self.spool) };
        let (log, _) = Log::open(&settings, &mut |_| {})?;
        let clock = Clock::system();
        let content = content(self.octets);
        let sender: Address = "alice@example.org".parse()?;
        let mut commits = VecDeque::new();
        for number in 0..self.messages {
            let envelope = Envelope::new(sender.clone().into(), [self.recipient(number)?]);
            let message_id = Some(format!("<{number}.million@example.org>"));
            let origin = Origin { message_id, ..Origin::default() };
            let (id, arrived_at) = (log.next_id(clock.now()), clock.now());
            let message = Accepted { id, arrived_at, envelope, origin, strikes: None };
            commits.push_back(log.accept(message, Content::from(content.clone())));
            if commits.len() == AT_ONCE {
                let _ = commits.pop_front().expect("one was just pushed").await?;
            }
        }
        for commit in commits {
            let _ = commit.await?;
        }
        log.close().await;
        Ok(())
    }
}

/// A message of so many octets.
pub fn content(octets: usize) -> Bytes {
    let mut text = b"From: alice@example.org\r\nTo: bob@example.com\r\nSubject: one of many\r\n\r\n".to_vec();
    let line = b"The quick brown fox jumps over the lazy dog, and does so on every line.\r\n";
    while text.len() < octets {
        text.extend_from_slice(line);
    }
    text.truncate(octets.saturating_sub(2));
    // A cut between CR and LF would leave a bare CR.
    while text.last() == Some(&b'\r') {
        text.pop();
        text.push(b'.');
    }
    text.extend_from_slice(b"\r\n");
    text.into()
}

pub fn child(arguments: &[&str]) -> Result<(), Failure> {
    let [spool, messages, octets, domains, later_every, speed] = arguments else {
        return Err("fill: SPOOL MESSAGES OCTETS DOMAINS LATER_EVERY SPEED".into());
    };
    let fill = Fill {
        domains: domains.parse()?,
        later_every: later_every.parse()?,
        speed: speed.parse()?,
        ..Fill::new(Path::new(spool), messages.parse()?, octets.parse()?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(fill.write())?;
    children::answer(&json!({ "messages": fill.messages }))
}
