//! One life of the relay: it starts on what the last one left, and ends by a cut, by a kill or in order.
//!
//! Contract: all of it runs in one runtime on paused time, which is dropped at its end together with every task in it;
//! the site, the letters and what is known of them go on. After each step all checks are made.
//! Not here: the order of lives (`story`), the checks themselves (`tale`, `witness`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::client::{self, Letter};
use super::ending::Kind;
use super::plan::BY_MX;
use super::story::{Sabotage, Story};
use super::weather::{self, Turn};
use crate::clock::Clock;
use crate::lab::Script;
use crate::lab::upstream::Upstream;
use crate::mail::QueueId;
use crate::net::{MemoryNetwork, Network};
use crate::relay::{Relay, StartError, Uncertainty};
use crate::route::NameError;

/// All that is due at one moment is done before the clock goes on.
const MOMENT: Duration = Duration::from_millis(1);
/// Moments that may pass until nothing is on its way to the disk.
const MOMENTS_MAX: usize = 2000;
/// How long a stop in order may take.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How long a world may take to become quiet once everything is well, besides the life of a message.
const QUIET_WITHIN: Duration = Duration::from_secs(4 * 86_400);

/// A running life.
pub(super) struct Life {
    pub clock: Clock,
    pub network: MemoryNetwork,
    relay: Relay,
    pub upstreams: Vec<Upstream>,
}

/// How a chapter came to its end.
pub(super) enum Turned {
    /// The relay ended so.
    Over(Kind),
    /// It did not start, and is to be started again.
    NotStarted,
    /// Everything is done.
    Quiet,
}

impl Story {
    /// Lives one life; the last one when everything is to heal.
    pub(super) async fn live(&mut self, heals: bool) -> Result<Turned, String> {
        let Some(life) = self.begin(heals).await? else {
            return Ok(if self.site.is_off() { Turned::Over(Kind::Cut) } else { Turned::NotStarted });
        };
        self.resume()?;
        let site = self.site.clone();
        let end = tokio::select! {
            biased;
            () = site.off() => None,
            end = async { if heals { self.heal(&life).await } else { self.go_on(&life).await } } => Some(end?),
        };
        self.now = life.clock.now();
        Ok(end.unwrap_or_else(|| Turned::Over(if self.chance.bool() { Kind::Cut } else { Kind::Kill })))
    }

    async fn begin(&mut self, heals: bool) -> Result<Option<Life>, String> {
        self.began = self.now;
        let clock = Clock::simulated(self.now, self.chance.u64(..));
        let memory = MemoryNetwork::new();
        let network = Network::Memory(memory.clone());
        let mut upstreams = Vec::new();
        for (index, customs) in self.plan.customs.iter().enumerate() {
            let mut script = Script::new(self.now, self.chance.u64(..)).without_magic();
            let turns = self.turns.iter().filter(|turn| turn.upstream == index);
            if !heals {
                for rule in turns.filter_map(|turn| turn.rule(self.now, false)) {
                    script.add(rule);
                }
                for rule in customs {
                    script.add(rule.parse().map_err(|error| format!("{rule}: {error}"))?);
                }
            } else if let Some(rule) =
                self.sabotage.and_then(|sabotage| sabotage.rule()).filter(|_| index == 0)
            {
                script.add(rule);
            }
            let upstream = Upstream::start(&network, self.plan.address(index), &clock, script).await;
            upstreams.push(upstream.map_err(|error| error.to_string())?);
        }
        self.witness.turn_to(&upstreams);
        if heals {
            self.site.fill(false);
            self.zone.set_down(None);
            BY_MX.iter().for_each(|domain| self.plan.heal_domain(&self.zone, domain));
        }
        let (sender, events) = mpsc::unbounded_channel();
        self.events = Some(events);
        let mut settings = self.plan.settings(&self.site, sender);
        match self.sabotage {
            Some(Sabotage::NoWindow) => settings.queue.per_destination = 20,
            Some(Sabotage::NoRate) => settings.queue.allowances = Arc::default(),
            Some(Sabotage::NoHold) => settings.uncertain = Uncertainty::default(),
            _ => {}
        }
        let builder = Relay::builder(settings).clock(clock.clone()).network(network);
        match builder.names(Arc::clone(&self.zone) as _).start().await {
            Ok(relay) => Ok(Some(Life { clock, network: memory, relay, upstreams })),
            Err(StartError::Spool(error)) if self.disturbed => {
                self.tell(format!("the relay does not start: {error}"));
                Ok(None)
            }
            Err(error) => Err(format!("the relay does not start: {error:?}")),
        }
    }

    /// Steps by chance, until one of them ends it.
    async fn go_on(&mut self, life: &Life) -> Result<Turned, String> {
        while self.steps < self.plan.steps {
            self.steps += 1;
            self.now = life.clock.now();
            match self.chance.u8(..100) {
                0..30 => self.advance(life).await,
                30..56 => self.submit(life).await,
                56..70 => self.change_weather(life),
                70..76 => self.change_names(),
                76..86 => self.operate(life).await,
                86..90 => self.change_space(),
                90..95 => self.break_disk(),
                95..98 => self.pull_plug(),
                _ => return self.stop(life).await,
            }
            self.check(life).await?;
        }
        self.stop(life).await
    }

    async fn advance(&mut self, life: &Life) {
        let seconds = 2f64.powf(self.chance.f64() * 15.5);
        let duration = Duration::from_millis((seconds * 1000.0) as u64);
        self.tell(format!("{} pass", humantime::format_duration(duration)));
        life.clock.wait(duration).await;
    }

    async fn submit(&mut self, life: &Life) {
        for _ in 0..self.chance.usize(1..4) {
            let mut numbers = Vec::new();
            for _ in 0..self.chance.usize(1..4) {
                let mut letters = self.letters.lock().unwrap();
                let letter = Letter::draw(letters.len(), &mut self.chance);
                numbers.push(letter.number);
                letters.push(letter);
            }
            self.tell(format!("a client brings letters {numbers:?}"));
            let (network, clock) = (life.network.clone(), life.clock.clone());
            tokio::spawn(client::submit(network, clock, self.letters.clone(), numbers));
        }
        if self.chance.bool() {
            tokio::time::sleep(MOMENT * self.chance.u32(1..200)).await;
        }
    }

    fn change_weather(&mut self, life: &Life) {
        let turn: Turn = weather::turn(&mut self.chance, life.upstreams.len(), self.now);
        self.tell(format!("{turn:?}"));
        if let Some(rule) = turn.rule(self.now, true) {
            life.upstreams[turn.upstream].say(rule);
        }
        self.turns.push(turn);
    }

    fn change_names(&mut self) {
        let domain = BY_MX[self.chance.usize(..BY_MX.len())];
        let unavailable = || Some(NameError::Unavailable("SERVFAIL".into()));
        let what = self.chance.u8(..8);
        self.tell(format!("names of {domain}: {what}"));
        match what {
            0 => self.zone.set_down(unavailable()),
            1 => self.zone.set_failure(domain, unavailable()),
            2 => self.zone.set_mx(domain, [(10, "nowhere.test")]),
            3 => {
                self.zone.remove(domain);
                self.names_gone = true;
            }
            _ => {
                self.zone.set_down(None);
                self.plan.heal_domain(&self.zone, domain);
            }
        }
    }

    async fn operate(&mut self, life: &Life) {
        let living = self.tale.living();
        let act = self.chance.u8(..10);
        if living.is_empty() || act == 9 {
            self.tell("the operator retries all".into());
            life.relay.retry_all(None);
            return;
        }
        let id: QueueId = living[self.chance.usize(..living.len())];
        let (queue, name) =
            (life.relay.queue(), ["hold", "hold", "release", "release", "retry", "retry", "cancel"]);
        let name = name[usize::from(act).min(6)];
        let done = match name {
            "hold" => queue.hold(id).await,
            "release" => queue.release(id).await,
            "retry" => {
                self.witness.asked_again.extend(self.tale.messages[&id].letter);
                life.relay.retry(id).await
            }
            _ => {
                self.cancelled.push(id);
                queue.cancel(id).await
            }
        };
        self.tell(format!("the operator says {name} {id}: {done:?}"));
    }

    fn change_space(&mut self) {
        self.full = !self.full;
        self.tell(format!("the disk is full: {}", self.full));
        self.site.fill(self.full);
    }

    fn break_disk(&mut self) {
        let (operations, by_half) = (self.chance.usize(..6), self.chance.bool());
        self.tell(format!("the disk fails after {operations} operations, by half: {by_half}"));
        self.site.break_after(operations, by_half);
        self.disturbed = true;
    }

    fn pull_plug(&mut self) {
        match self.chance.u8(..3) {
            0 => {
                self.tell("the power goes".into());
                self.site.cut_now();
            }
            _ => {
                let operations = self.chance.usize(..12);
                self.tell(format!("the power goes after {operations} operations"));
                self.site.cut_after(operations);
                self.disturbed = true;
            }
        }
    }

    async fn stop(&mut self, life: &Life) -> Result<Turned, String> {
        self.tell("the relay is stopped".into());
        let stopped = life.relay.shutdown(STOP_WITHIN).await;
        self.tell(format!("it has stopped: {stopped:?}"));
        Ok(Turned::Over(match stopped {
            _ if self.site.is_off() => Kind::Cut,
            Ok(()) => Kind::Stop,
            Err(_) => Kind::Kill,
        }))
    }

    /// Everything is well from now on: whatever waits comes to its end.
    async fn heal(&mut self, life: &Life) -> Result<Turned, String> {
        self.tell("everything heals".into());
        for id in self.tale.living() {
            // Most are not held.
            let _ = life.relay.queue().release(id).await;
        }
        // A letter may be what tells that a host is well; it has to come to its end, too.
        let mut asked = false;
        let limit = life.clock.now() + self.plan.retry.expire_after + QUIET_WITHIN;
        while life.clock.now() < limit {
            self.check(life).await?;
            if self.site.living()?.is_empty() && life.relay.queue().is_empty() {
                // A host that loses mail has no witness of being used.
                let can_be_asked = self.sabotage != Some(Sabotage::SecretLoss);
                if can_be_asked && !std::mem::replace(&mut asked, true) {
                    self.better_hosts_are_used_again(life).await?;
                    continue;
                }
                return Ok(Turned::Quiet);
            }
            life.clock.wait(Duration::from_secs(20 * 60)).await;
        }
        let waiting = life.relay.queue().list(&Default::default()).await;
        Err(format!("it never becomes quiet; there wait {waiting:#?}"))
    }

    /// Waits until nothing is on its way to the disk, then makes every check.
    async fn check(&mut self, life: &Life) -> Result<(), String> {
        for _ in 0..MOMENTS_MAX {
            let (operations, heard) = (self.site.operations(), self.heard());
            tokio::time::sleep(MOMENT).await;
            if self.site.is_off() {
                // The end is noticed elsewhere.
                return std::future::pending().await;
            }
            if self.site.is_idle() && (operations, heard) == (self.site.operations(), self.heard()) {
                self.now = life.clock.now();
                self.listen()?;
                return self.judge();
            }
        }
        Err("something is always on its way to the disk".into())
    }
}
