//! The state of every message as the tracking log tells it, to be held against the spool.
//!
//! Contract: [`Tale::hear`] takes the events in their order; [`Tale::compare`] says where the spool of a running relay
//! tells another story; [`Tale::resume`] takes up what a start has found, and says what may not be so after the end
//! that lay before it.
//! Invariants: nothing here asks the queue; what events leave open is left open.
//! Not here: what upstreams have seen (`witness`).

use std::collections::BTreeMap;

use super::client::Letter;
use super::ending::Ending;
use crate::clock::Timestamp;
use crate::mail::{QueueId, Reply, ReplyClass};
use crate::spool::{RecipientState, Stored};
use crate::tracking::{Event, EventName};

/// A recipient.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub state: RecipientState,
    /// None where events leave it open, here and below.
    attempts: Option<u32>,
    next: Option<Option<Timestamp>>,
    owed: Option<bool>,
    /// A notice of his failure was told.
    pub notified: bool,
    /// It is over; how, nobody could tell any more.
    pub is_untold: bool,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub arrived: Timestamp,
    /// The number of the letter that it is; none for a notice.
    pub letter: Option<usize>,
    pub is_null: bool,
    pub recipients: BTreeMap<String, Standing>,
    held: bool,
    delay_told: bool,
    changed: Timestamp,
}

/// When and which messages an operator has freed of their schedule; none: all.
type Freed = (Timestamp, Option<QueueId>);

#[derive(Default)]
pub(super) struct Tale {
    pub messages: BTreeMap<QueueId, Told>,
    freed: Vec<Freed>,
}

impl Standing {
    fn untried() -> Self {
        let state = RecipientState::Waiting;
        Self {
            state,
            attempts: Some(0),
            next: Some(None),
            owed: Some(false),
            notified: false,
            is_untold: false,
        }
    }

    fn is_waiting(&self) -> bool {
        self.state == RecipientState::Waiting
    }

    /// He waits, for his time or for a person.
    fn is_open(&self) -> bool {
        self.is_waiting() || self.state == RecipientState::Uncertain
    }

    fn end(&mut self, state: RecipientState, attempts: Option<u32>, owed: Option<bool>) {
        *self = Self { state, attempts, next: Some(None), owed, notified: self.notified, is_untold: false };
    }
}

impl Told {
    /// Something is left to do for certain.
    pub fn is_living(&self) -> bool {
        self.recipients.values().any(|standing| standing.is_open() || standing.owed == Some(true))
    }

    /// Something may be left to do: a notice of success that events leave open, or an attempt amid which it was
    /// cancelled.
    fn may_live(&self) -> bool {
        let open =
            |standing: &Standing| standing.owed.is_none() || standing.state == RecipientState::Cancelled;
        self.is_living() || self.recipients.values().any(open)
    }
}

impl Tale {
    /// Which messages certainly wait.
    pub fn living(&self) -> Vec<QueueId> {
        let living = self.messages.iter().filter(|(_, told)| told.is_living());
        living.map(|(id, _)| *id).collect()
    }

    /// To be called for each new event before [`Tale::hear`] and [`Tale::tried`] are: what frees others comes first.
    pub fn note_freed(&mut self, event: &Event) {
        if matches!(event.event, EventName::Retry | EventName::Release) {
            self.freed.push((event.time, event.id));
        }
    }

    pub fn hear(&mut self, event: &Event, letters: &[Letter]) -> Result<(), String> {
        if event.event == EventName::Receive {
            self.receive(event, letters)?;
        }
        let Some(told) = event.id.and_then(|id| self.messages.get_mut(&id)) else { return Ok(()) };
        let letter = told.letter.map(|number| &letters[number]);
        told.hear(event, letter)
    }

    fn receive(&mut self, event: &Event, letters: &[Letter]) -> Result<(), String> {
        let id = event.id.ok_or("a RECEIVE without an id")?;
        let number = event.message_id.as_deref().and_then(Letter::number_of);
        let sender = event.sender.as_deref().unwrap_or_default();
        if let Some(letter) = number.map(|number| &letters[number]) {
            if letter.taken != event.recipients {
                return Err(format!("{id} was received for {:?}, not {:?}", event.recipients, letter.taken));
            }
        } else {
            let about = event.reference.ok_or(format!("{id} is no letter and no notice"))?;
            self.notice(about, &event.recipients)?;
        }
        let recipients = event.recipients.iter().map(|address| (address.clone(), Standing::untried()));
        let told = Told {
            arrived: event.time,
            letter: number,
            is_null: sender == "<>",
            recipients: recipients.collect(),
            held: false,
            delay_told: false,
            changed: event.time,
        };
        if self.messages.insert(id, told).is_some() {
            return Err(format!("the name {id} was given twice"));
        }
        Ok(())
    }

    /// A notice that was written, and of which no DSN could tell any more.
    fn found_notice(&mut self, stored: &Stored) {
        let message_id = stored.origin.message_id.as_deref().unwrap_or_default();
        let about = message_id.trim_start_matches('<').split('.').next().and_then(|id| id.parse().ok());
        let Some(told) = about.and_then(|about: QueueId| self.messages.get_mut(&about)) else { return };
        for standing in told.recipients.values_mut() {
            standing.notified |= standing.state == RecipientState::Bounced && standing.owed != Some(true);
        }
    }

    /// A notice goes to nobody but a sender with a name.
    fn notice(&self, about: QueueId, recipients: &[String]) -> Result<(), String> {
        let Some(told) = self.messages.get(&about) else {
            return Err(format!("a notice about {about}, which nobody has heard of"));
        };
        if told.is_null || recipients.is_empty() {
            return Err(format!("a notice to the null reverse-path of {about}"));
        }
        Ok(())
    }

    /// An upstream was asked about this recipient: no attempt before its time.
    pub fn tried(&self, recipient: &str, at: Timestamp) -> Result<(), String> {
        for (id, told) in self.messages.iter().filter(|(_, told)| told.letter.is_some()) {
            let Some(standing) = told.recipients.get(recipient) else { continue };
            // What is told of a person's word comes before what it brings, though it be at the same moment.
            let is_decided = || {
                self.freed
                    .iter()
                    .any(|(freed, which)| *freed >= told.changed && *freed <= at && *which == Some(*id))
            };
            if standing.state == RecipientState::Uncertain && !is_decided() {
                return Err(format!("{recipient} of {id} was tried at {at}, and a person was to decide"));
            }
            let Some(Some(next)) = standing.next else { continue };
            if standing.is_waiting() && at < next && !self.is_freed(*id, told, at) {
                return Err(format!("{recipient} of {id} was tried at {at}, which is before {next}"));
            }
        }
        Ok(())
    }

    /// Whether an operator has freed it of its schedule, since it changed last or amid the attempt before that.
    fn is_freed(&self, id: QueueId, told: &Told, at: Timestamp) -> bool {
        const AMID_ATTEMPT: std::time::Duration = std::time::Duration::from_secs(20 * 60);
        let since = told.changed - AMID_ATTEMPT;
        let mut freed = self.freed.iter().filter(|(_, which)| which.is_none_or(|which| which == id));
        freed.any(|(freed, _)| *freed >= since && *freed <= at)
    }

    /// Whether the running spool tells the same.
    pub fn compare(&self, living: &[Stored]) -> Result<(), String> {
        let stored: BTreeMap<QueueId, &Stored> = living.iter().map(|stored| (stored.id, stored)).collect();
        for (id, told) in &self.messages {
            match stored.get(id) {
                Some(_) if !told.may_live() => {
                    return Err(format!("{id} is over by its events, and in the spool"));
                }
                Some(stored) => {
                    let may_go = |at| self.is_freed(*id, told, at);
                    told.compare(stored, may_go).map_err(|what| format!("{id}: {what}"))?;
                }
                None if told.is_living() => {
                    return Err(format!("{id} is not in the spool and not over: {told:?}"));
                }
                None => {}
            }
        }
        match stored.keys().find(|id| !self.messages.contains_key(id)) {
            Some(id) => Err(format!("{id} is in the spool, and nobody has heard of it")),
            None => Ok(()),
        }
    }

    /// Takes up what a start has found. `ended` tells whether there are witnesses for a recipient's end of which no
    /// event could tell any more.
    pub fn resume(
        &mut self,
        living: &[Stored],
        ending: &Ending,
        letters: &[Letter],
        ended: impl Fn(QueueId, &Told, &str) -> bool,
    ) -> Result<(), String> {
        let stored: BTreeMap<QueueId, &Stored> = living.iter().map(|stored| (stored.id, stored)).collect();
        for (id, told) in &mut self.messages {
            let fresh = told.changed >= ending.unsure_since;
            match stored.get(id) {
                Some(stored) => {
                    let same = if told.may_live() {
                        told.compare(stored, |_| false)
                    } else {
                        Err("it was over".into())
                    };
                    if let Err(what) = same
                        && !fresh
                        && !told.is_behind(stored, |told, recipient| ended(*id, told, recipient))
                    {
                        return Err(format!("{id} came back otherwise after {ending}: {what}"));
                    }
                    told.adopt(stored, ending.at);
                }
                None if told.is_living() => {
                    let open = told.recipients.iter().filter(|(_, standing)| standing.is_open());
                    if let Some((recipient, _)) =
                        open.into_iter().find(|(recipient, _)| !ended(*id, told, recipient))
                    {
                        return Err(format!("{recipient} of {id} is lost after {ending}: {told:?}"));
                    }
                    for standing in told.recipients.values_mut() {
                        // Delivered or bounced; a witness has seen it, and nobody can say more.
                        standing.owed = None;
                        if standing.is_open() {
                            standing.end(RecipientState::Delivered, None, None);
                            standing.is_untold = true;
                        }
                    }
                }
                None => {}
            }
        }
        for stored in living {
            if self.messages.contains_key(&stored.id) {
                continue;
            }
            let told = Told::unheard_of(stored, ending, letters)?;
            self.messages.insert(stored.id, told);
            self.found_notice(stored);
        }
        Ok(())
    }
}

/// Whether whoever bounced was refused by a host for good, or has none.
fn is_founded(bounce: &Event) -> bool {
    let is_final = |reply: &Reply| reply.class() == ReplyClass::PermanentFailure;
    bounce.host.is_none() || bounce.reply.as_ref().is_some_and(is_final)
}

impl Told {
    fn hear(&mut self, event: &Event, letter: Option<&Letter>) -> Result<(), String> {
        use EventName as E;
        if event.event == E::Fail && !is_founded(event) {
            return Err(format!("{:?} bounced, and nobody has refused them for good", event.recipients));
        }
        let owes = |recipient: &str| {
            !self.is_null
                && letter.is_some_and(|letter| letter.notify(recipient).is_none_or(|notify| notify.failure))
        };
        let asks_success = |recipient: &str| {
            !self.is_null
                && letter.is_some_and(|letter| letter.notify(recipient).is_some_and(|notify| notify.success))
        };
        let name = event.event;
        // The destination's own failure is nobody's attempt, and is told without a number.
        let of_destination = name == E::Defer && event.attempt.is_none();
        for recipient in &event.recipients {
            let (failure, success) = (owes(recipient), asks_success(recipient));
            let standing =
                self.recipients.get_mut(recipient).ok_or(format!("{recipient} is none of its recipients"))?;
            let cancelled = standing.state == RecipientState::Cancelled;
            match name {
                E::Defer if of_destination => {}
                E::Defer | E::Uncertain if cancelled => standing.attempts = event.attempt,
                E::Defer | E::Uncertain => {
                    (standing.attempts, standing.next) = (event.attempt, Some(event.next_attempt));
                    if name == E::Uncertain && event.next_attempt.is_none() {
                        standing.state = RecipientState::Uncertain;
                    }
                }
                // The person has decided.
                E::Retry if standing.state == RecipientState::Uncertain => {
                    (standing.state, standing.next) = (RecipientState::Waiting, None);
                    self.changed = event.time;
                }
                E::Send => {
                    let owed = if success { None } else { Some(false) };
                    standing.end(RecipientState::Delivered, event.attempt, owed);
                }
                E::Fail => standing.end(RecipientState::Bounced, event.attempt, Some(failure && !cancelled)),
                E::Expire => standing.end(RecipientState::Bounced, None, Some(failure)),
                E::Cancel => standing.end(RecipientState::Cancelled, standing.attempts, standing.owed),
                E::Release => standing.next = None,
                E::Dsn if event.reason.as_deref() != Some("delayed") => {
                    standing.owed = Some(false);
                    standing.notified = true;
                }
                _ => {}
            }
        }
        match name {
            E::Dsn if self.is_null => {
                return Err("a notice about a message from the null reverse-path".into());
            }
            E::Dsn if event.reason.as_deref() == Some("delayed") => {
                let twice = std::mem::replace(&mut self.delay_told, true);
                (!twice).then_some(()).ok_or("its delay was told twice")?;
            }
            E::Hold => self.held = true,
            E::Release | E::Cancel => self.held = false,
            _ => {}
        }
        if !matches!(name, E::Route | E::Failover | E::Retry) && !of_destination {
            self.changed = event.time;
        }
        Ok(())
    }

    /// Whether the spool tells the same. Whom a person has freed, and the host had no room for, may go at once: `may_go`
    /// tells whether at that moment.
    fn compare(&self, stored: &Stored, may_go: impl Fn(Timestamp) -> bool) -> Result<(), String> {
        let progress = &stored.progress;
        if self.held != progress.held_since.is_some() {
            return Err(format!("held is told as {}, and stored since {:?}", self.held, progress.held_since));
        }
        if self.delay_told != progress.delay_told {
            return Err(format!(
                "its delay notice is told as {}, stored as {}",
                self.delay_told, progress.delay_told
            ));
        }
        let goes_sooner = |told: Option<Timestamp>, stored: Option<Timestamp>| {
            stored.is_some_and(|stored| told.is_some_and(|told| stored < told) && may_go(stored))
        };
        for (recipient, stored) in std::iter::zip(&stored.envelope.recipients, &progress.recipients) {
            let address = recipient.address.as_str();
            let told = self.recipients.get(address).ok_or(format!("{address} is told of nowhere"))?;
            let same = told.state == stored.state
                && told.attempts.is_none_or(|attempts| attempts == stored.attempts)
                && told
                    .next
                    .is_none_or(|next| next == stored.next_attempt || goes_sooner(next, stored.next_attempt))
                && told.owed.is_none_or(|owed| owed == stored.owed);
            if !same {
                return Err(format!("{address} is told as {told:?} and stored as {stored:?}"));
            }
        }
        Ok(())
    }

    /// Whether the spool knows more than the log, which was cut short: one attempt more, for whose end there are
    /// witnesses.
    fn is_behind(&self, stored: &Stored, ended: impl Fn(&Told, &str) -> bool) -> bool {
        std::iter::zip(&stored.envelope.recipients, &stored.progress.recipients).all(|(recipient, stored)| {
            let address = recipient.address.as_str();
            let Some(told) = self.recipients.get(address) else { return false };
            let attempts =
                told.attempts.is_none_or(|told| stored.attempts == told || stored.attempts == told + 1);
            let ended = || ended(self, address) || stored.state == RecipientState::Uncertain;
            attempts && (told.state == stored.state || (told.is_waiting() && ended()))
        })
    }

    /// From now on it is as it is stored.
    fn adopt(&mut self, stored: &Stored, at: Timestamp) {
        self.held = stored.progress.held_since.is_some();
        self.delay_told = stored.progress.delay_told;
        self.changed = at;
        for (recipient, stored) in std::iter::zip(&stored.envelope.recipients, &stored.progress.recipients) {
            let standing =
                self.recipients.entry(recipient.address.to_string()).or_insert_with(Standing::untried);
            standing.state = stored.state;
            standing.attempts = Some(stored.attempts);
            standing.next = Some(stored.next_attempt);
            standing.owed = Some(stored.owed);
        }
    }

    /// A message that a start has found, and of which no RECEIVE could tell any more.
    fn unheard_of(stored: &Stored, ending: &Ending, letters: &[Letter]) -> Result<Self, String> {
        let id = stored.id;
        let number = stored.origin.message_id.as_deref().and_then(Letter::number_of);
        if let Some(letter) = number.map(|number| &letters[number])
            && !ending.may_bring_back(letter)
        {
            return Err(format!(
                "{id} came from nowhere: its client heard {:?} at {}",
                letter.heard, letter.at
            ));
        }
        if number.is_none() && !stored.envelope.reverse_path.is_null() {
            return Err(format!("{id} is no letter and no notice"));
        }
        let mut told = Self {
            arrived: stored.arrived_at,
            letter: number,
            is_null: stored.envelope.reverse_path.is_null(),
            recipients: BTreeMap::new(),
            held: false,
            delay_told: false,
            changed: ending.at,
        };
        told.adopt(stored, ending.at);
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_795_176_000_000);
    const LATER: Timestamp = Timestamp::from_millis(1_795_176_060_000);

    fn letter(has_sender: bool) -> Letter {
        let mut letter = Letter::draw(0, &mut fastrand::Rng::with_seed(1));
        letter.sender = has_sender.then(|| "s0@senders.test".to_owned());
        letter.recipients = vec![("r0-0@example.com".into(), None)];
        letter.taken = vec!["r0-0@example.com".into()];
        letter
    }

    /// A tale in which that letter was received, and this happened.
    fn tale(letter: &Letter, names: &[EventName]) -> Result<Tale, String> {
        let mut tale = Tale::default();
        for name in [EventName::Receive].iter().chain(names) {
            let mut event = Event::new(T0, *name);
            event.id = Some(QueueId::from_u64(1));
            event.message_id = Some(letter.message_id());
            event.sender = Some(letter.sender.clone().unwrap_or("<>".into()));
            event.recipients = letter.taken.clone();
            event.attempt = Some(1);
            event.next_attempt = Some(LATER);
            tale.note_freed(&event);
            tale.hear(&event, std::slice::from_ref(letter))?;
        }
        Ok(tale)
    }

    #[test]
    fn an_attempt_before_its_time_is_noticed_unless_somebody_wanted_it() {
        let deferred = tale(&letter(true), &[EventName::Defer]).unwrap();
        let early = T0 + std::time::Duration::from_secs(59);
        assert!(deferred.tried("r0-0@example.com", early).is_err());
        assert_eq!(deferred.tried("r0-0@example.com", LATER), Ok(()));
        let wanted = tale(&letter(true), &[EventName::Defer, EventName::Retry]).unwrap();
        assert_eq!(wanted.tried("r0-0@example.com", early), Ok(()));
    }

    #[test]
    fn a_notice_to_the_null_reverse_path_is_noticed() {
        assert!(tale(&letter(true), &[EventName::Fail, EventName::Dsn]).is_ok());
        assert!(tale(&letter(false), &[EventName::Fail, EventName::Dsn]).is_err());
    }

    #[test]
    fn what_the_spool_does_not_hold_and_nobody_has_ended_is_noticed() {
        assert!(tale(&letter(true), &[EventName::Defer]).unwrap().compare(&[]).is_err());
        assert!(tale(&letter(true), &[EventName::Fail]).unwrap().compare(&[]).is_err(), "a notice is owed");
        assert_eq!(tale(&letter(false), &[EventName::Fail]).unwrap().compare(&[]), Ok(()));
    }
}
