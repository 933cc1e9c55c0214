//! The course of a live lab: what is said at its start, every event as it comes, how to join in, what it came to.
//!
//! Contract: ends by a signal, when whoever reads standard output has gone, or (if asked) when nothing waits any more.
//! Not here: the words for events (`narrate`), the terminal (`screen`), starting and stopping (`up`).

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use posthouse::lab::Upstream;
use posthouse::queue::Matching;
use posthouse::relay::Relay;
use posthouse::tracking::{Event, EventName, Events, Lagged};
use tokio::signal::unix::{SignalKind, signal};

use super::narrate::{Line, Narrator, Tone};
use super::screen::Screen;
use super::up::reachable;
use super::{dir_flag, notice_text, samples};
use crate::failed::Failed;
use crate::queue::{plural, rough};

/// How often the table is drawn, and the quiet looked for (real time).
const LOOK: Duration = Duration::from_millis(200);
/// So many looks in a row must find nothing: an act is told after it was done.
const QUIET_LOOKS: u32 = 2;
/// Messages that the table is made from.
const LISTED_MAX: usize = 50;

/// What the start is told with.
pub struct Facts {
    pub speed: f64,
    pub folder: PathBuf,
    /// An earlier lab has left its mail there.
    pub taken_up: bool,
    pub keep: bool,
    /// The usual port, where another program has it.
    pub taken_port: Option<SocketAddr>,
    pub samples: bool,
    pub until_quiet: bool,
}

/// A running lab and its teller.
pub struct Story {
    facts: Facts,
    relay: Relay,
    upstream: Upstream,
    narrator: Narrator,
    screen: Screen,
    events: Events,
    /// The upstream's rules as they were told last.
    rules: BTreeMap<u32, String>,
    quiet_looks: u32,
    /// Whether it was said how to join in.
    invited: bool,
}

impl Story {
    pub fn new(facts: Facts, relay: Relay, upstream: Upstream) -> Self {
        let rules = rules(&upstream);
        Self {
            narrator: Narrator::new(relay.clock().now()),
            screen: Screen::new(),
            events: relay.events(),
            facts,
            relay,
            upstream,
            rules,
            quiet_looks: 0,
            invited: false,
        }
    }

    /// Tells until `end` yields, or it ends by itself.
    pub async fn tell(mut self, end: impl Future<Output = ()>) -> Result<(), Failed> {
        let told = self.course(end).await;
        match told {
            // Whoever reads has seen enough.
            Err(Failed::Message(_)) if self.reader_gone() => Ok(()),
            told => told,
        }
    }

    async fn course(&mut self, end: impl Future<Output = ()>) -> Result<(), Failed> {
        let mut ended = std::pin::pin!(end);
        self.screen.say(&self.opening())?;
        if self.facts.samples {
            samples::submit(&self.relay).await?;
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut ended => break,
                Some(event) = self.events.next() => self.happened(event)?,
                _ = look.tick() => {
                    if self.look().await? {
                        break;
                    }
                }
            }
        }
        self.screen.close()?;
        self.screen.say(&self.closing())?;
        Ok(())
    }

    fn reader_gone(&mut self) -> bool {
        let said = self.screen.say(&[Line::new(Tone::Plain, "")]);
        said.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// One event, and all that have come meanwhile.
    fn happened(&mut self, event: Result<std::sync::Arc<Event>, Lagged>) -> io::Result<()> {
        let mut next = Some(event);
        let mut lines = Vec::new();
        while let Some(event) = next {
            match event {
                Ok(event) => {
                    lines.extend(self.narrator.tell(&event));
                    lines.extend(self.notice_of(&event));
                }
                Err(lagged) => lines.push(Line::new(Tone::Aside, format!("... {lagged}"))),
            }
            next = self.events.try_next();
        }
        if !lines.is_empty() {
            self.quiet_looks = 0;
        }
        self.screen.say(&lines)
    }

    /// The text of a notice that has just been delivered. The upstream kept it before it said 250.
    fn notice_of(&self, event: &Event) -> Vec<Line> {
        if event.event != EventName::Send || event.sender.as_deref() != Some("<>") {
            return Vec::new();
        }
        let Some(message_id) = &event.message_id else { return Vec::new() };
        let found = self.upstream.newest(|message| message.content.contains(message_id.as_str()));
        let text = found.and_then(|message| notice_text::of(&message.content));
        text.map(|text| self.narrator.notice(&text)).unwrap_or_default()
    }

    /// Looks around; whether it is over.
    async fn look(&mut self) -> Result<bool, Failed> {
        let now = self.relay.clock().now();
        let there = rules(&self.upstream);
        let mut lines = Vec::new();
        for (number, rule) in there.iter().filter(|(number, _)| !self.rules.contains_key(number)) {
            lines.push(self.narrator.rule(now, *number, Some(rule)));
        }
        for number in self.rules.keys().filter(|number| !there.contains_key(number)) {
            lines.push(self.narrator.rule(now, *number, None));
        }
        self.rules = there;
        self.screen.say(&lines)?;
        let matching = Matching { most: LISTED_MAX, ..Matching::default() };
        if self.screen.is_live() {
            self.screen.show(&self.relay.queue().list(&matching).await, now)?;
        }
        self.quiet_looks = if self.relay.queue().is_empty() { self.quiet_looks + 1 } else { 0 };
        if self.quiet_looks < QUIET_LOOKS {
            return Ok(false);
        }
        // Without samples, quiet means that something was there before.
        if self.facts.until_quiet && (self.facts.samples || self.narrator.tally().messages > 0) {
            return Ok(true);
        }
        if !self.invited && !self.facts.until_quiet {
            self.invited = true;
            self.screen.say(&self.invitation())?;
        }
        Ok(false)
    }

    fn opening(&self) -> Vec<Line> {
        let hour = rough(Duration::from_secs_f64(self.facts.speed));
        let (relay, upstream) = (self.relay.addresses()[0].to_string(), self.upstream.address().to_string());
        let mut lines = vec![
            plain(format!(
                "A mail relay, and an upstream that misbehaves. A second here is {hour} in the lab."
            )),
            plain(String::new()),
            plain(format!(
                "  relay     {relay:<21}  takes mail by SMTP, and tries until the upstream takes it"
            )),
            plain(format!("  upstream  {upstream:<21}  keeps what it takes")),
        ];
        for rule in self.rules.values() {
            lines.push(plain(format!("            its rule: {rule}")));
        }
        let end = if self.facts.keep { "kept at the end" } else { "removed at the end" };
        lines.push(plain(format!("  folder    {}, {end}", self.facts.folder.display())));
        if let Some(taken) = self.facts.taken_port {
            lines.push(Line::new(
                Tone::Wait,
                format!("            another program listens on {taken}, so the relay took a free port"),
            ));
        }
        if self.facts.taken_up {
            lines.push(plain("            what an earlier lab has kept there is tried again".into()));
        }
        let end =
            if self.facts.until_quiet { "It ends when nothing waits any more." } else { "Ctrl-C ends it." };
        lines.push(plain(String::new()));
        lines.push(plain(format!(
            "Times are hours, minutes and seconds since the start, by the lab's clock. {end}"
        )));
        lines.push(plain(String::new()));
        lines
    }

    fn invitation(&self) -> Vec<Line> {
        let relay = reachable(self.relay.addresses()[0]);
        let dir = dir_flag(&self.facts.folder);
        let spool = self.facts.folder.display();
        let sent = "printf 'Subject: hello\\n\\nWorld\\n' | posthouse send --from alice@example.org --to";
        [
            String::new(),
            "Nothing waits, and the lab stays up. Join in from another terminal:".into(),
            format!("  {sent} 451-2times@example.com --server {relay}"),
            format!("  swaks --server {relay} --from alice@example.org --to bob@example.com"),
            format!("  posthouse lab say{dir} 'rcpt *@example.com: 451 4.7.1 try later, 3 times'"),
            format!("  posthouse lab inbox{dir}"),
            format!("  posthouse queue list --spool {spool}"),
            "Ctrl-C ends it.".into(),
            String::new(),
        ]
        .into_iter()
        .map(plain)
        .collect()
    }

    fn closing(&self) -> Vec<Line> {
        let tally = self.narrator.tally();
        let waiting = self.relay.queue().len() as u64;
        let told = format!(
            "{} {}: delivered to {} {}, failed for {}, {} {} on the way, {} {} to senders; {waiting} {}.",
            tally.messages,
            plural(tally.messages, "message", "messages"),
            tally.delivered,
            plural(tally.delivered, "recipient", "recipients"),
            tally.failed,
            tally.deferrals,
            plural(tally.deferrals, "\"not now\"", "times \"not now\""),
            tally.notices,
            plural(tally.notices, "notice", "notices"),
            plural(waiting, "message still waits", "messages still wait"),
        );
        let mut lines = vec![plain(String::new()), plain(told)];
        if self.facts.keep {
            let folder = self.facts.folder.display();
            lines.push(plain(format!(
                "All of it is kept in {folder}: `posthouse lab up --dir {folder}` goes on with it."
            )));
        }
        lines
    }
}

fn plain(text: String) -> Line {
    Line::new(Tone::Plain, text)
}

fn rules(upstream: &Upstream) -> BTreeMap<u32, String> {
    upstream.rules().into_iter().map(|standing| (standing.number, standing.rule.to_string())).collect()
}

/// Yields when this process is told to end. Signals are caught from the call on.
pub fn end_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
