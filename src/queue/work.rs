//! The way out: work on lease.
//!
//! Contract: whoever takes [`Work`] has a lease on its message; work that is dropped unfinished goes back in line, at
//! worst for a second delivery. The envelope is read from the spool when the work begins, not before.
//! Invariants: a message may be on lease to several (two destinations, a notice, the operator); while one lease lasts its
//! envelope and progress stay open, and all see the same.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Share;
use super::intake::message;
use super::lines::LineId;
use super::owed::Owed;
use super::parked::Parked;
use super::permits::Permits;
use super::progress::{is_waiting, make_due};
use super::rules::{destination_of, redirect_of};
use super::set_back::TROUBLED_FOR;
use super::task::{Duty, Taken, Task};
use super::{Dispatch, Inner, Open, State};
use crate::clock::Timestamp;
use crate::mail::{Address, Content, Destination, Outcome, QueueId};
use crate::spool::{Durability, LoadError, Stored};
use crate::tracking::Message;

/// Recipients of one transaction; RFC 5321 section 4.5.3.1.8 lets a server refuse more than 100.
const RECIPIENTS_OF_ONE_TRANSACTION: usize = 100;

/// A piece of work.
pub enum Work {
    /// A message to deliver to one destination.
    Deliver(Delivery),
    /// A share whose time is up while its destination sleeps; or a message of which nobody knows whether it was delivered.
    Expire(Expiry),
    /// A notice to write.
    Notify(Owed),
    /// A message to tell of, which waits for a destination that sleeps.
    Tell(Parked),
}

/// A message on lease. Dropping it ends the lease.
pub(super) struct Lease {
    pub inner: Arc<Inner>,
    pub id: QueueId,
    duty: Duty,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.ledger.end_work(self.duty);
        // Whoever panicked may have left it half done. Not so who looks at such a message: nobody looks again.
        if self.duty == Duty::Plain && std::thread::panicking() {
            state.ledger.look_at(self.id);
        }
        if let Entry::Occupied(mut leased) = state.leased.entry(self.id) {
            leased.get_mut().leases -= 1;
            if leased.get().leases == 0 {
                leased.remove();
            }
        }
        drop(state);
        self.inner.changed.notify_one();
    }
}

impl Lease {
    /// For work that the ledger has begun to count as this duty.
    pub fn new(inner: &Arc<Inner>, state: &mut State, id: QueueId, duty: Duty) -> Self {
        state.leased.entry(id).or_default().leases += 1;
        Self { inner: Arc::clone(inner), id, duty }
    }

    /// Reads the message, if nobody has it open already. While a lease lasts it stays open, and all who work on it see
    /// the same progress.
    pub async fn open(&self) -> Result<(), LoadError> {
        let is_open = self.inner.state().open(self.id).1.is_some();
        let stored = if is_open { None } else { Some(self.inner.spool.load(self.id).await?) };
        let cut_off = {
            let mut state = self.inner.state();
            let leased = state.leased.entry(self.id).or_default();
            if let (None, Some(stored)) = (&leased.open, stored) {
                let progress = stored.progress.clone();
                let in_hand = BTreeSet::new();
                leased.open = Some(Open { stored: Arc::new(stored), progress, in_hand, paying: 0 });
            }
            let found = self.inner.find_cut_off(&mut state, self.id, self.inner.clock.now());
            found.map(|found| found.tell_first(&self.inner))
        };
        if let Some(cut_off) = cut_off {
            cut_off.wait().await;
        }
        Ok(())
    }

    /// As [`Lease::open`], for those who can do nothing about a message that can't be read: people are told, and one that
    /// will never be read is out of the queue.
    pub async fn open_or_tell(&self) -> Result<(), Unread> {
        match self.open().await {
            Ok(()) => Ok(()),
            Err(error @ LoadError::Io { .. }) => {
                tracing::warn!(id = %self.id, %error, "a message cannot be read for now");
                Err(Unread::ForNow)
            }
            Err(error) => {
                self.set_aside(&error);
                Err(Unread::ForGood)
            }
        }
    }

    /// A message that cannot be read is out of the queue; the spool has set it aside.
    pub fn set_aside(&self, error: &LoadError) {
        let mut state = self.inner.state();
        if !state.ledger.contains(self.id) {
            // It has left the queue meanwhile, and that is why it cannot be read.
            return;
        }
        state.ledger.forget(self.id, self.inner.clock.now());
        drop(state);
        // The event is told by whoever listens to the spool, which also finds damage that nobody asks for.
        tracing::error!(id = %self.id, %error, "a message cannot be read and has left the queue");
    }
}

/// Why a message was not opened.
pub(super) enum Unread {
    ForNow,
    ForGood,
}

/// One destination's share of a message, to be delivered now.
pub struct Delivery {
    pub(super) lease: Lease,
    pub(super) line: LineId,
    destination: Destination,
    /// To all its recipients, also those whose own time has not come.
    hastened: bool,
    /// The ledger has its share back, or is just given it. Before that, whatever ends the delivery gives it back.
    pub(super) settled: bool,
    /// The recipients that it is for, while it runs.
    in_hand: Vec<u32>,
    /// For its content, while it runs.
    memory: Option<Share>,
}

/// What a delivery needs to know.
#[derive(Clone, Debug)]
pub struct Job {
    pub destination: Destination,
    pub message: Arc<Stored>,
    /// Which of the message's recipients this delivery is for.
    pub recipients: Vec<u32>,
    /// The one address that the message goes to for all of them, in place of their own.
    pub redirect: Option<Address>,
    /// The number of this attempt, beginning with 1.
    pub attempt: u32,
    pub content: Content,
    /// Leave to open connections; `None`: there is no limit to them.
    pub permits: Option<Permits>,
}

impl Job {
    /// The message as events name it.
    pub fn as_message(&self) -> Message<'_> {
        message(&self.message)
    }
}

impl Delivery {
    pub fn id(&self) -> QueueId {
        self.lease.id
    }

    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Reads envelope and content. `None`: there is nothing to deliver (any more), and the queue has seen to it.
    pub async fn open(&mut self) -> Option<Job> {
        let opened = match self.lease.open().await {
            Ok(()) => self.read_content().await,
            Err(error) => Err(error),
        };
        let content = match opened {
            Ok(content) => content,
            Err(error @ LoadError::Io { .. }) => {
                tracing::warn!(id = %self.lease.id, %error, "a message cannot be read for now");
                self.put_back(TROUBLED_FOR);
                return None;
            }
            Err(error) => {
                self.lease.set_aside(&error);
                self.put_back(Duration::ZERO);
                return None;
            }
        };
        let job = self.job(content);
        if job.is_none() {
            self.settle_nothing().await;
        }
        job
    }

    /// Reads the content, once there is room for it.
    async fn read_content(&mut self) -> Result<Content, LoadError> {
        let inner = &self.lease.inner;
        let size = inner.state().open(self.lease.id).1.map_or(0, |open| open.stored.size);
        self.memory = inner.budget.take(size).await;
        inner.spool.content(self.lease.id).await
    }

    /// Besides its content so many octets of memory are held for it, while it runs.
    pub fn holds_besides(&self, octets: u64) {
        if let Some(memory) = &self.memory {
            memory.besides(octets);
        }
    }

    /// Takes its recipients in hand.
    fn job(&mut self, content: Content) -> Option<Job> {
        let inner = Arc::clone(&self.lease.inner);
        let now = inner.clock.now();
        let mut state = inner.state();
        let counted = state.ledger.lines.get(self.line).counts_connections();
        let open = state.open(self.lease.id).1?;
        let waiting = std::iter::zip(&open.stored.envelope.recipients, &open.progress.recipients).enumerate();
        let mut mine: Vec<(Option<Timestamp>, u32)> = waiting
            .filter(|(index, (recipient, progress))| {
                is_waiting(progress)
                    && !open.in_hand.contains(&(*index as u32))
                    && destination_of(&*inner.rules, &open.stored, &open.progress, recipient)
                        == self.destination
            })
            .map(|(index, (_, progress))| (progress.next_attempt, index as u32))
            .collect();
        // Who has waited longest first, and nobody before his time. A share that came due a little early, by a clock
        // that was set, takes the first of them.
        mine.sort_unstable();
        let until = mine.first()?.0.max(Some(now));
        let mut due =
            mine.iter().filter(|(next, _)| self.hastened || *next <= until).map(|(_, index)| *index);
        let redirect_of = |index: u32| {
            let recipient = &open.stored.envelope.recipients[index as usize];
            redirect_of(&*inner.rules, &open.stored, recipient)
        };
        let first = due.next()?;
        let redirect = redirect_of(first);
        // However many are sent to one address in place of their own, it gets the message once.
        let most = if redirect.is_some() { usize::MAX } else { RECIPIENTS_OF_ONE_TRANSACTION };
        let alike = due.filter(|index| redirect_of(*index) == redirect);
        let recipients: Vec<u32> = std::iter::once(first).chain(alike).take(most).collect();
        let made = recipients.iter().map(|index| open.progress.recipients[*index as usize].attempts).max()?;
        open.in_hand.extend(&recipients);
        self.in_hand.clone_from(&recipients);
        if self.hastened {
            // Those for whom there is no room go with the next, as an operator has said of all.
            for (_, index) in mine.iter().filter(|(_, index)| !open.in_hand.contains(index)) {
                make_due(&mut open.progress.recipients[*index as usize], now);
            }
        }
        Some(Job {
            destination: self.destination.clone(),
            message: Arc::clone(&open.stored),
            recipients,
            redirect,
            attempt: made + 1,
            content,
            permits: counted.then(|| Permits::new(&inner, self.line)),
        })
    }

    /// The attempt was not made: it would have had to open a connection, and none may be opened before `until`
    /// ([`Permits`]). The message waits as before.
    pub fn put_off(mut self, until: Timestamp) {
        let inner = Arc::clone(&self.lease.inner);
        let now = inner.clock.now();
        let mut state = inner.state();
        self.let_go(&mut state);
        self.settled = true;
        state.ledger.put_off(self.lease.id, self.line, until, now);
    }

    /// Nothing of the message is for this destination any more: cancelled, or routed elsewhere meanwhile.
    async fn settle_nothing(&mut self) {
        let inner = &self.lease.inner;
        let now = inner.clock.now();
        let written = {
            let mut state = inner.state();
            self.settled = true;
            state.ledger.put_back(self.lease.id, self.line, None, now);
            let (ledger, open) = state.open(self.lease.id);
            open.map(|open| inner.write_down(ledger, open, self.lease.id, Durability::Soon, now))
        };
        if let Some(written) = written {
            written.wait().await;
        }
    }

    fn put_back(&mut self, wait: Duration) {
        self.settled = true;
        let now = self.lease.inner.clock.now();
        let mut state = self.lease.inner.state();
        self.let_go(&mut state);
        state.ledger.put_back(self.lease.id, self.line, Some(now + wait), now);
    }

    /// Its recipients are nobody's again, and wait as before.
    fn let_go(&self, state: &mut State) {
        if let (_, Some(open)) = state.open(self.lease.id) {
            open.let_go(&self.in_hand);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            // Whoever panicked over it would do so again.
            let wait = if std::thread::panicking() { TROUBLED_FOR } else { Duration::ZERO };
            self.put_back(wait);
        }
    }
}

/// A message, or a share of one, whose time may be up. Dropping it unfinished puts it back.
pub struct Expiry {
    pub(super) lease: Lease,
    pub(super) of: EndOf,
    pub(super) done: bool,
}

/// What an [`Expiry`] ends.
pub(super) enum EndOf {
    /// A share whose time is up: by the schedule, and then its destination failed with this outcome, or by the sender's
    /// wish.
    Share { destination: Destination, outcome: Option<Box<Outcome>> },
    /// Those recipients of whom nobody knows whether they got the message.
    Uncertain,
}

impl Drop for Expiry {
    fn drop(&mut self) {
        if !self.done {
            let inner = &self.lease.inner;
            let now = inner.clock.now();
            let due = now + TROUBLED_FOR;
            let mut state = inner.state();
            match &self.of {
                EndOf::Share { destination, .. } => {
                    state.ledger.put_back_expired(self.lease.id, destination, due, now);
                }
                EndOf::Uncertain => state.ledger.look_at_doubt_again(self.lease.id, due),
            }
        }
    }
}

impl Dispatch {
    /// The next piece of work, as soon as there is one; `None` once the queue is closed.
    pub async fn next(&self) -> Option<Work> {
        let inner = &self.inner;
        loop {
            let changed = inner.changed.notified();
            if inner.is_closed() {
                return None;
            }
            let (work, wait, lifted) = {
                let (mut state, now) = (inner.state(), inner.clock.now());
                inner.let_go(&mut state.ledger, now);
                let (work, wait) = match state.ledger.take(now) {
                    Taken::Task(task) => (Some(self.work(&mut state, task)), None),
                    Taken::Again => (None, None),
                    Taken::Wait(wait) => {
                        (None, Some(wait.into_iter().chain(state.ledger.kept.wakes_at()).min()))
                    }
                };
                (work, wait, state.ledger.lines.take_lifted())
            };
            inner.tell_lifted(&lifted);
            if work.is_some() {
                return work;
            }
            match wait {
                // Others had their turn with the state.
                None => tokio::task::yield_now().await,
                Some(None) => changed.await,
                Some(Some(moment)) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = inner.clock.wait_until(moment) => {}
                },
            }
        }
    }

    fn work(&self, state: &mut State, task: Task) -> Work {
        let lease = Lease::new(&self.inner, state, task.id(), task.duty());
        match task {
            Task::Deliver { id: _, line, destination, hastened } => Work::Deliver(Delivery {
                lease,
                line,
                destination,
                hastened,
                settled: false,
                in_hand: Vec::new(),
                memory: None,
            }),
            Task::Expire { id: _, destination, outcome } => {
                Work::Expire(Expiry { lease, of: EndOf::Share { destination, outcome }, done: false })
            }
            Task::Doubt { .. } => Work::Expire(Expiry { lease, of: EndOf::Uncertain, done: false }),
            Task::Delay { .. } => Work::Notify(Owed::delay(lease)),
            Task::Report { .. } => Work::Notify(Owed::report(lease)),
            Task::Tell { .. } => Work::Tell(Parked { lease }),
        }
    }
}
