//! The world of one seed, from its first letter until it is quiet.
//!
//! Contract: [`Story::of`] plays a seed to its end; the answer tells all that happened, line by line, or what was not
//! as it must be.
//! Not here: one life of the relay (`chapter`).

use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::mpsc;

use super::chapter::Turned;
use super::client::{Heard, Letter, Letters};
use super::ending::{Ending, Kind};
use super::plan::{BY_MX, Plan};
use super::tale::{Tale, Told};
use super::weather::Turn;
use super::witness::Witness;
use crate::clock::Timestamp;
use crate::lab::{FRIDAY_NOON, Rule};
use crate::mail::QueueId;
use crate::route::Zone;
use crate::spool::{RecipientState, Site};
use crate::tracking::{Event, EventName};

/// Between what is on the disk and the word of it, besides the time for company.
const UNTOLD: Duration = Duration::from_millis(5);
/// Lives after which everything heals.
const LIVES_MAX: usize = 30;

pub(super) struct Story {
    pub chance: fastrand::Rng,
    pub plan: Plan,
    pub site: Site,
    pub zone: Arc<Zone>,
    pub letters: Letters,
    pub tale: Tale,
    pub witness: Witness,
    pub turns: Vec<Turn>,
    pub events: Option<mpsc::UnboundedReceiver<Arc<Event>>>,
    endings: Vec<Ending>,
    pub now: Timestamp,
    /// When this life of the relay began.
    pub began: Timestamp,
    pub steps: usize,
    pub full: bool,
    /// A domain was gone at some time, so that mail for it may have bounced.
    pub names_gone: bool,
    /// What an operator wanted to be given up, though nobody may have come to tell of it.
    pub cancelled: Vec<QueueId>,
    /// The disk was told to fail, so that a start may fail.
    pub disturbed: bool,
    /// This life has begun, and all that was on the disk is known.
    resumed: bool,
    pub sabotage: Option<Sabotage>,
    lines: Vec<String>,
}

/// What is done to a world behind its back, so that the checks have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// A power cut takes what was synced, too.
    EmptyDisk,
    /// After a stop in order an older disk is put in.
    OlderDisk,
    /// When all seems well the first host loses what it takes, and nobody has seen it.
    SecretLoss,
    /// The relay does not hear of its window.
    NoWindow,
    /// The relay does not hear of its rate.
    NoRate,
    /// When everything else heals the first host stays away.
    BetterStaysAway,
    /// The relay does not hear that nothing is to be repeated unasked.
    NoHold,
}

impl Sabotage {
    /// What the first host does when all others are well.
    pub fn rule(self) -> Option<Rule> {
        let text = match self {
            Self::SecretLoss => "dot *: lose",
            Self::BetterStaysAway => "connect: refuse",
            _ => return None,
        };
        Some(text.parse().expect("a rule"))
    }
}

/// A story that went wrong.
pub(super) struct Wrong {
    pub what: String,
    pub lines: Vec<String>,
}

impl Story {
    /// What happens by this seed.
    pub fn of(seed: u64) -> Result<Vec<String>, Wrong> {
        Self::with(seed, None)
    }

    /// The same with a saboteur in it.
    pub fn with(seed: u64, sabotage: Option<Sabotage>) -> Result<Vec<String>, Wrong> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut plan = Plan::draw(&mut chance);
        if sabotage == Some(Sabotage::NoWindow) {
            // What takes no time can't be seen to happen at once.
            plan.queue.per_destination = 1;
            plan.customs.iter_mut().for_each(|customs| customs.insert(0, "rcpt *: delay 5s, accept".into()));
        }
        if sabotage == Some(Sabotage::NoHold) {
            plan.holds = true;
            plan.customs
                .iter_mut()
                .for_each(|customs| customs.insert(0, "dot * chance 30%: keep and close".into()));
        }
        let zone = Arc::new(Zone::new());
        BY_MX.iter().for_each(|domain| plan.heal_domain(&zone, domain));
        let mut story = Self {
            chance,
            site: Site::new(plan.ways),
            zone,
            letters: Letters::default(),
            tale: Tale::default(),
            witness: Witness::new(sabotage != Some(Sabotage::SecretLoss), plan.held_domain()),
            turns: Vec::new(),
            events: None,
            endings: Vec::new(),
            now: FRIDAY_NOON,
            began: FRIDAY_NOON,
            steps: 0,
            full: false,
            names_gone: false,
            cancelled: Vec::new(),
            disturbed: false,
            resumed: false,
            sabotage,
            lines: vec![format!("{plan:?}")],
            plan,
        };
        match story.play() {
            Ok(()) => Ok(story.lines),
            Err(what) => Err(Wrong { what, lines: story.lines }),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        let panics = panics();
        for life in 0.. {
            let heals = self.steps >= self.plan.steps || life > LIVES_MAX;
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let turned = runtime.block_on(self.live(heals))?;
            let unsure = self.site.unsure_since();
            // Every task of this life ends here, wherever it is.
            drop(runtime);
            if panics != self::panics() {
                return Err("something panicked; see above".into());
            }
            match turned {
                Turned::Quiet => return self.conclude(),
                Turned::NotStarted => self.site.after_kill(),
                Turned::Over(kind) => self.end(kind, unsure)?,
            }
        }
        unreachable!("a life follows until it is quiet")
    }

    fn end(&mut self, kind: Kind, unsure: Option<Timestamp>) -> Result<(), String> {
        let slack = self.plan.ways.company + UNTOLD;
        let mut unsure_since = match unsure {
            Some(since) => since - slack,
            None if kind == Kind::Stop => self.now,
            None => self.now - slack,
        };
        let former = self.endings.last().filter(|former| former.kind == Kind::Kill);
        if let (Some(since), Some(former)) = (unsure, former)
            && since <= self.began + UNTOLD
        {
            // What a kill had left to the system's cache was never synced in this life.
            unsure_since = unsure_since.min(former.unsure_since);
        }
        if !self.resumed {
            // It ended before it had begun: what was unsure still is.
            let former = self.endings.last().map_or(self.now, |former| former.unsure_since);
            unsure_since = former.min(self.now - slack);
        }
        self.resumed = false;
        let ending = Ending { kind, at: self.now, unsure_since };
        self.tell(format!("{ending}"));
        self.listen()?;
        self.witness.judge(&self.tale, &self.letters.lock().unwrap(), &self.endings)?;
        match kind {
            Kind::Cut if self.sabotage == Some(Sabotage::EmptyDisk) => self.site.after_fire(),
            Kind::Stop if self.sabotage == Some(Sabotage::OlderDisk) => self.site.as_before(),
            Kind::Cut => self.site.after_cut(&mut self.chance),
            Kind::Kill | Kind::Stop => self.site.after_kill(),
        }
        self.endings.push(ending);
        let pause = [0, 1, 30, 7200][self.chance.usize(..4)];
        self.now = self.now + Duration::from_secs(pause) + Duration::from_millis(1);
        if self.chance.u8(..6) == 0 {
            let operations = self.chance.usize(..8);
            self.tell(format!("the power goes again after {operations} operations"));
            self.site.cut_after(operations);
            self.disturbed = true;
        }
        Ok(())
    }

    pub fn tell(&mut self, line: String) {
        self.lines.push(format!("{} {line}", self.now));
    }

    /// Events that were told and not yet listened to.
    pub fn heard(&self) -> usize {
        self.events.as_ref().map_or(0, mpsc::UnboundedReceiver::len)
    }

    /// Takes in all events, and all that the upstreams were asked, in the order of their times.
    pub fn listen(&mut self) -> Result<(), String> {
        let mut events = Vec::new();
        while let Some(Ok(event)) = self.events.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            self.tale.note_freed(&event);
            events.push(event);
        }
        let letters = self.letters.lock().unwrap();
        let asked = self.witness.look()?;
        let mut asked = asked.into_iter().peekable();
        for event in events {
            let line = serde_json::to_string(&*event).expect("an event is always JSON");
            self.lines.push(format!("    {line}"));
            // An attempt comes before what is told of it.
            while let Some(asked) = asked.next_if(|asked| asked.at <= event.time) {
                self.tale.tried(&asked.about, asked.at)?;
            }
            self.tale.hear(&event, &letters).map_err(|what| format!("{what}: {line}"))?;
            if event.event == EventName::Expire {
                self.check_expiry(&event)?;
            }
        }
        for asked in asked {
            self.tale.tried(&asked.about, asked.at)?;
        }
        Ok(())
    }

    fn check_expiry(&self, event: &Event) -> Result<(), String> {
        let told = event.id.and_then(|id| self.tale.messages.get(&id)).ok_or("an EXPIRE of nothing")?;
        if event.time + self.plan.ways.company + UNTOLD < told.arrived + self.plan.retry.expire_after {
            return Err(format!("{:?} has expired too early", event.id));
        }
        Ok(())
    }

    /// The checks after each step.
    pub fn judge(&mut self) -> Result<(), String> {
        let letters = self.letters.lock().unwrap();
        self.witness.judge(&self.tale, &letters, &self.endings)?;
        self.witness.traffic.judge(self.plan.allowed())?;
        self.tale.compare(&self.site.living()?)?;
        self.nothing_promised_is_missing(&letters)
    }

    fn nothing_promised_is_missing(&self, letters: &[Letter]) -> Result<(), String> {
        let known: Vec<usize> = self.tale.messages.values().filter_map(|told| told.letter).collect();
        let promised = letters.iter().filter(|letter| letter.heard == Heard::Promised);
        match promised.into_iter().find(|letter| !known.contains(&letter.number)) {
            Some(letter) => Err(format!("letter {} was promised, and nobody knows of it", letter.number)),
            None => Ok(()),
        }
    }

    /// After a start: what must be there is there.
    pub fn resume(&mut self) -> Result<(), String> {
        self.listen()?;
        let living = self.site.living()?;
        let none = Ending { kind: Kind::Stop, at: self.now, unsure_since: self.now };
        let ending = self.endings.last().unwrap_or(&none);
        let letters = self.letters.lock().unwrap();
        let expire_after = self.plan.retry.expire_after;
        let (witness, gone, cancelled) = (&self.witness, self.names_gone, &self.cancelled);
        let ended = |id: QueueId, told: &Told, recipient: &str| {
            let expired = told.arrived + expire_after <= ending.at;
            let Some(letter) = told.letter.map(|number| &letters[number]) else { return true };
            let nameless = gone && BY_MX.iter().any(|domain| recipient.ends_with(domain));
            witness.has_copy(letter, recipient)
                || witness.has_refused(letter, recipient, told.arrived)
                || cancelled.contains(&id)
                || expired
                || nameless
        };
        self.tale.resume(&living, ending, &letters, ended)?;
        self.resumed = true;
        self.nothing_promised_is_missing(&letters)
    }

    /// The end: every promise is kept, to the last recipient.
    fn conclude(&mut self) -> Result<(), String> {
        let letters = self.letters.lock().unwrap();
        for (id, told) in &self.tale.messages {
            let Some(letter) = told.letter.map(|number| &letters[number]) else { continue };
            for (recipient, standing) in &told.recipients {
                let kept = match standing.state {
                    RecipientState::Delivered => {
                        standing.is_untold || self.witness.has_copy(letter, recipient)
                    }
                    RecipientState::Bounced => {
                        let owed =
                            !told.is_null && letter.notify(recipient).is_none_or(|notify| notify.failure);
                        !owed || standing.notified || self.witness.told_of_failure(recipient)
                    }
                    RecipientState::Cancelled => true,
                    RecipientState::Waiting | RecipientState::Uncertain => false,
                };
                if !kept {
                    return Err(format!("{recipient} of {id} has come to no good end: {standing:?}"));
                }
            }
        }
        let copies = self.witness.copies();
        self.lines.push(format!(
            "{} letters, {copies} copies, {} endings",
            letters.len(),
            self.endings.len()
        ));
        Ok(())
    }
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// How often something has panicked in this thread, be it caught or not.
fn panics() -> usize {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            former(info);
        }));
    });
    PANICS.get()
}
