//! The way in: new messages, and those that the spool gives back at the start.
//!
//! Contract: [`Dispatch::accept`] returns the receipt of a commit, and by then the message is in line. It runs to its end
//! even when the caller goes away: a message that is durable is never left without a line. When as many messages wait
//! as [`Settings::messages`] says, further ones are refused before the spool is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::budget::Budget;
use super::deadlines::Asked;
use super::ledger::{Entrant, Ledger};
use super::limits::Limits;
use super::listing::HELD_BY_A_ROUTE;
use super::progress::{aged_from, is_open, is_uncertain, is_waiting, owes_report, released_at};
use super::rules::destination_of;
use super::{Dispatch, Inner, Queue, Rules, Settings, State};
use crate::clock::{Clock, Timestamp};
use crate::mail::{Address, Content, Destination, Envelope, Origin, QueueId, Receipt, Recipient};
use crate::spool::{
    Accepted, Announcement, Commit, CommitError, Outline, Progress, Spool, Stored, Strike, WaitingDomain,
};
use crate::tracking::{Loaded, Message, Operated, Received, Tracking};

/// A message that was not accepted: no promise was made.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the relay is stopping")]
    Stopping,
    #[error("as many messages wait as may; see [limits] queued_messages")]
    TooMany,
    #[error(transparent)]
    Spool(#[from] CommitError),
}

/// A message on its way in.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub envelope: Envelope,
    pub origin: Origin,
    pub content: Content,
    /// From the client's MAIL to now, for the log.
    pub taken: Option<Duration>,
}

/// An intake that has begun: while it exists the spool expects one more message soon.
#[must_use = "dropping it says that no message will come"]
pub struct Intake {
    id: QueueId,
    _announcement: Announcement,
}

impl Intake {
    /// The name that the message will have.
    pub fn id(&self) -> QueueId {
        self.id
    }
}

/// A queue that is being filled from the spool, before it starts.
pub struct Recovery {
    ledger: Ledger,
    /// Messages that are done with, and were not removed before the relay ended.
    over: Vec<QueueId>,
    /// How many wait for each destination, and the earliest of their attempts.
    loaded: BTreeMap<Destination, (u64, Timestamp)>,
    budget: Budget,
    rules: Arc<dyn Rules>,
    tracking: Tracking,
    clock: Clock,
}

impl Recovery {
    pub fn new(settings: Settings, rules: Arc<dyn Rules>, tracking: Tracking, clock: Clock) -> Self {
        let budget = Budget::new(settings.bytes_in_flight);
        let ledger = Ledger::new(limits(settings, &*rules));
        Self { ledger, over: Vec::new(), loaded: BTreeMap::new(), budget, rules, tracking, clock }
    }

    /// Takes in a message that the spool has kept.
    pub fn found(&mut self, outline: &Outline) {
        if let Some(since) = outline.kept_since.filter(|_| self.ledger.kept.is_on()) {
            self.ledger.kept.insert(outline.id, since, outline.size);
            return;
        }
        if outline.is_over() {
            self.over.push(outline.id);
            return;
        }
        let now = self.clock.now();
        // A million of these are a start: nothing is made here that is not kept.
        let mut shares: Vec<(Destination, Timestamp)> = Vec::with_capacity(outline.waiting.len());
        for WaitingDomain { domain, next_attempt } in &outline.waiting {
            let due = next_attempt.unwrap_or(now);
            // The ledger says the same for itself; this is for the log.
            let due = outline.hold_for.map_or(due, |hold_for| due.max(outline.arrived_at + hold_for));
            let via = outline.resubmitted.as_ref().and_then(|again| again.via.clone());
            let destination =
                via.map_or_else(|| self.rules.destination(domain, &outline.source), Destination::Upstream);
            match shares.iter_mut().find(|(known, _)| *known == destination) {
                Some((_, share)) => *share = due.min(*share),
                None => shares.push((destination, due)),
            }
        }
        for (destination, due) in &shares {
            match self.loaded.get_mut(destination) {
                Some((waiting, next)) => {
                    *waiting += 1;
                    *next = (*next).min(*due);
                }
                None => {
                    self.loaded.insert(destination.clone(), (1, *due));
                }
            }
        }
        // Whether somebody is owed one stands in the envelope, which is read when it falls due.
        let may_owe_delay =
            !outline.delay_told && shares.iter().any(|(destination, _)| destination.is_tried());
        let entrant = Entrant {
            id: outline.id,
            aged_from: released_at(outline.arrived_at, outline.hold_for).max(outline.counts_from())
                + Duration::from_millis(outline.held_for_ms),
            shares,
            held: outline.held_since.is_some(),
            may_owe_delay,
            owes_report: outline.owes_report,
            uncertain: outline.uncertain,
            asked: Asked::of(outline.counts_from(), outline.hold_for, outline.deliver_by),
        };
        self.ledger.enter(entrant, now);
        self.ledger.kept.set_in_part(outline.id, outline.handed_over);
        if outline.cut_off {
            self.ledger.look_at(outline.id);
        }
    }

    /// The queue, ready to hand out work.
    pub fn start(self, spool: Arc<dyn Spool>) -> Dispatch {
        for id in self.over {
            spool.remove(id);
        }
        for (destination, (waiting, next)) in &self.loaded {
            let next_attempt = destination.is_tried().then_some(*next);
            let facts = Loaded { destination, waiting: *waiting, next_attempt };
            self.tracking.loaded(&facts);
        }
        let state = State { ledger: self.ledger, leased: Default::default() };
        let inner = Inner {
            spool,
            tracking: self.tracking,
            clock: self.clock,
            rules: self.rules,
            state: Mutex::new(state),
            changed: Notify::new(),
            closed: false.into(),
            budget: self.budget,
            uncertain: 0.into(),
        };
        Dispatch { queue: Queue { inner: Arc::new(inner) } }
    }
}

pub(super) fn limits(settings: Settings, rules: &dyn Rules) -> Limits {
    let retry = rules.retry();
    Limits {
        expire_after: retry.expire_after,
        delay_after: retry.delay_after,
        longest_wait: retry.longest_wait(),
        per_destination: settings.per_destination,
        total: settings.total,
        messages: settings.messages,
        notices: settings.notices,
        deliveries: settings.rate,
        allowances: settings.allowances,
        safety_net: settings.safety_net,
    }
}

pub(super) fn message(stored: &Stored) -> Message<'_> {
    Message { id: stored.id, origin: &stored.origin, reverse_path: &stored.envelope.reverse_path }
}

/// A message as it enters the ledger: a share for each destination that still owes an outcome.
/// Those recipients `in_hand` have a share in the line of whoever has them.
pub(super) fn entrant(
    stored: &Stored,
    progress: &Progress,
    in_hand: &BTreeSet<u32>,
    rules: &dyn Rules,
    now: Timestamp,
) -> Entrant {
    let mut shares: BTreeMap<Destination, Timestamp> = BTreeMap::new();
    let mut may_owe_delay = false;
    let recipients = std::iter::zip(&stored.envelope.recipients, &progress.recipients);
    for (index, (recipient, state)) in recipients.enumerate() {
        if is_open(state) {
            may_owe_delay |= !progress.delay_told && rules.delay_owed(&stored.envelope, recipient);
        }
        if !is_waiting(state) {
            continue;
        }
        let due = state.next_attempt.unwrap_or(now);
        let destination = destination_of(rules, stored, progress, recipient);
        may_owe_delay |=
            !progress.delay_told && destination.is_tried() && rules.delay_owed(&stored.envelope, recipient);
        if in_hand.contains(&(index as u32)) {
            continue;
        }
        let share = shares.entry(destination).or_insert(due);
        *share = due.min(*share);
    }
    Entrant {
        id: stored.id,
        aged_from: aged_from(stored.arrived_at, &stored.envelope, progress),
        shares: shares.into_iter().collect(),
        held: progress.held_since.is_some(),
        may_owe_delay,
        owes_report: owes_report(progress),
        uncertain: progress.recipients.iter().any(is_uncertain),
        asked: Asked::of(
            progress.counts_from(stored.arrived_at),
            stored.envelope.hold_for,
            stored.envelope.deliver_by,
        ),
    }
}

impl Queue {
    /// Why new mail is refused now, as [`Dispatch::accept`] would say; `None`: it is taken. A message may still be
    /// refused for its own size.
    pub fn refusal(&self) -> Option<AcceptError> {
        self.own_refusal().or_else(|| self.inner.spool.status().refusal.map(AcceptError::from))
    }

    /// Before the spool is asked.
    fn own_refusal(&self) -> Option<AcceptError> {
        if self.inner.is_closed() {
            return Some(AcceptError::Stopping);
        }
        self.inner.state().ledger.is_full().then_some(AcceptError::TooMany)
    }
}

impl Dispatch {
    /// Says that a message will probably come; the spool can then gather several into one sync.
    pub fn intake(&self) -> Intake {
        self.inner.intake()
    }

    /// Makes a message durable and puts it in line. Only the receipt permits the 250.
    pub async fn accept(&self, intake: Intake, incoming: Incoming) -> Result<Receipt, AcceptError> {
        // Notices don't come this way: what is owed does not depend on who else waits.
        if let Some(why) = self.own_refusal() {
            return Err(why);
        }
        let inner = Arc::clone(&self.inner);
        let accept = async move { inner.commit(inner.hand_over(intake, incoming, None)).await };
        ToItsEnd::new(accept).await.map_err(AcceptError::from)
    }
}

impl Inner {
    pub(super) fn intake(&self) -> Intake {
        Intake { id: self.spool.next_id(self.clock.now()), _announcement: self.spool.announce() }
    }

    /// Hands a message to the spool. `strikes`: the message is a notice, and pays this debt. Calls take effect in their
    /// order, so that it may be made while the state is locked.
    pub(super) fn hand_over(
        &self,
        intake: Intake,
        incoming: Incoming,
        strikes: Option<Strike>,
    ) -> HandedOver {
        let Incoming { envelope, origin, content, taken } = incoming;
        let arrived_at = self.clock.now();
        let id = intake.id;
        let size = content.len() as u64;
        let reference = strikes.as_ref().map(|strike| strike.id);
        let progress = Progress::untried(envelope.recipients.len());
        let stored = Stored { id, arrived_at, envelope, origin, size, progress };
        let accepted = Accepted {
            id,
            arrived_at,
            envelope: stored.envelope.clone(),
            origin: stored.origin.clone(),
            strikes,
        };
        let commit = self.spool.accept(accepted, content);
        HandedOver { stored, commit, taken, reference, _intake: intake }
    }

    /// Waits for the commit, and puts the message in line.
    pub(super) async fn commit(&self, handed_over: HandedOver) -> Result<Receipt, CommitError> {
        let HandedOver { stored, commit, taken, reference, _intake } = handed_over;
        let receipt = commit.await?;
        let recipients: Vec<&Address> = stored.envelope.recipients.iter().map(|r| &r.address).collect();
        let received = Received { recipients: &recipients, size: stored.size, duration: taken, reference };
        self.tracking.received(message(&stored), &received);
        let now = self.clock.now();
        let entrant = entrant(&stored, &stored.progress, &BTreeSet::new(), &*self.rules, now);
        if entrant.shares.iter().any(|(destination, _)| !destination.is_tried()) {
            self.tell_held_by_a_route(&stored);
        }
        {
            let mut state = self.state();
            state.ledger.enter_new(entrant, now);
            self.tell_asleep(&mut state.ledger, &stored, &stored.progress, now);
        }
        self.changed.notify_one();
        Ok(receipt)
    }

    /// At its arrival only: what waits already when the routes come to hold it is shown by the listing.
    fn tell_held_by_a_route(&self, stored: &Stored) {
        let is_held = |recipient: &&Recipient| {
            !destination_of(&*self.rules, stored, &stored.progress, recipient).is_tried()
        };
        let held = stored.envelope.recipients.iter().filter(is_held).map(|recipient| &recipient.address);
        let facts = Operated { recipients: &held.collect::<Vec<_>>(), reason: HELD_BY_A_ROUTE };
        self.tracking.held(message(stored), &facts);
    }
}

/// A future that is never left half done: dropped before its end it goes on as a task of its own. As a task from the
/// start each message would cost two more wake-ups.
struct ToItsEnd<T: Send + 'static>(Option<BoxFuture<T>>);

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Send + 'static> ToItsEnd<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.0.as_mut().expect("not polled after its end");
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the program is ending: what was committed is found at the next start.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

/// A message on its way into the spool.
pub(super) struct HandedOver {
    stored: Stored,
    commit: Commit<Receipt>,
    taken: Option<Duration>,
    reference: Option<QueueId>,
    _intake: Intake,
}

/// Addresses of the recipients with these numbers.
pub(super) fn addresses<'a>(envelope: &'a Envelope, indexes: &[u32]) -> Vec<&'a Address> {
    indexes.iter().map(|index| &envelope.recipients[*index as usize].address).collect()
}
