//! Who waits for what and until when: intake, schedule, windows, leases, settle.
//!
//! Contract: [`Dispatch::accept`] takes a message in and gives the receipt that permits a 250. [`Dispatch::next`] hands out
//! work, one piece at a time, each as a lease: a [`Delivery`] to try, an [`Expiry`] to carry out, a notice that is
//! [`Owed`], or a [`Parked`] message to tell of. Outcomes come back by `settle`, and the queue writes them into the
//! spool, computes the next attempt and reports the events. [`Queue::hold`] and its sisters are the operator's.
//! Invariants: a message is in the spool before anybody hears of it, and leaves it only when every recipient has a
//! final outcome and no notice is owed; a lease that is dropped goes back in line.
//! Not here: SMTP, DNS, sockets; where a recipient's mail goes and which notices are owed, which the relay tells by
//! [`Rules`]; the words of notices (`notice`).
//!
//! Waiting happens at two levels. A message waits because it was told 4xx: the [`schedule`] says until when. A
//! destination waits because it cannot be reached or refuses everyone: its line has one timer, whatever waits in it. So
//! a million messages behind a dead destination cost less than 100 octets each, and nothing for each retry of it.
//!
//! Who takes which of the [`Settings::total`] places:
//! - Destinations take turns. One that has not answered yet, or not since it slept, has one delivery under way, and all
//!   of these together have at most half of the places; those that have hung for ten seconds step aside, up to three
//!   eighths of the places more. So a live destination waits for the dead ones no longer than ten seconds while fewer
//!   than seven eighths of the places hang, and beyond that no longer than (dead destinations) x (how long one hangs) /
//!   (seven eighths of the places), and ten seconds: for 333 that hang for 30 seconds and 200 places, 67 seconds; and
//!   once it has answered and goes on having mail, not at all.
//! - What falls due by age (notices, expiries) has at most a quarter of the places, and goes at the pace of
//!   [`Settings::notices`]: reports first, then expiries, then delay notices.

mod aging;
mod allowance;
mod budget;
mod complaint;
mod deadlines;
mod doubt;
mod entry;
mod fall_due;
mod hasten;
mod intake;
mod kept;
mod ledger;
mod limits;
mod line;
mod lines;
mod listing;
mod operate;
mod owed;
mod pace;
mod parked;
mod permits;

pub mod plan;
mod progress;
mod rein;
mod reports;
mod resubmit;
mod rules;
pub mod schedule;
mod set_back;
mod settle;
mod task;
#[cfg(test)]
mod told_and_stored;
mod work;
mod write_down;

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::mail::QueueId;
use crate::spool::{Progress, Spool, Stored};
use crate::tracking::Tracking;

pub use allowance::{Allowance, Allowances};
pub use doubt::WhenUncertain;
pub use intake::{AcceptError, Incoming, Intake, Recovery};
pub use kept::SafetyNet;
pub use line::Sleep;
pub use listing::{
    DestinationState, Listed, ListedRecipient, ListedState, Matching, RecipientStanding, SlowedState,
};
pub use operate::OperateError;
pub use owed::{Debt, Owed, OwedMessage};
pub use pace::Rate;
pub use parked::Parked;
pub use permits::Permits;
pub use resubmit::{KeptMessage, KeptRecipient, PassedOver, Selection, Took};
pub use rules::{Rules, Settings};
pub use settle::Slumber;
pub use work::{Delivery, Expiry, Job, Work};

use budget::Budget;
use ledger::Ledger;

/// The queue of one relay, for those who look at it or operate it. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

/// The queue for those who run it: who bring mail in and carry work out. Whoever has one can do all that a [`Queue`] can.
#[derive(Clone)]
pub struct Dispatch {
    queue: Queue,
}

impl Deref for Dispatch {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

struct Inner {
    spool: Arc<dyn Spool>,
    tracking: Tracking,
    clock: Clock,
    rules: Arc<dyn Rules>,
    state: Mutex<State>,
    /// Something happened that may give work.
    changed: Notify,
    closed: AtomicBool,
    budget: Budget,
    /// UNCERTAIN events since the start.
    uncertain: AtomicU64,
}

struct State {
    ledger: Ledger,
    /// The messages that somebody works on.
    leased: HashMap<QueueId, Leased>,
}

/// A message on lease to one or more.
#[derive(Default)]
struct Leased {
    leases: u32,
    /// Its envelope and progress, once somebody has read it: all who work on it see the same.
    open: Option<Open>,
}

struct Open {
    stored: Arc<Stored>,
    progress: Progress,
    /// The recipients that deliveries are for which are under way: nobody else takes them, wherever they go by now.
    in_hand: BTreeSet<u32>,
    /// Notices whose commit is under way. The progress says already that they are paid.
    paying: u32,
}

impl Queue {
    /// Messages that are not done with.
    pub fn len(&self) -> usize {
        self.inner.state().ledger.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Dispatch {
    /// Hands out no more work; [`Dispatch::next`] answers `None`. Leases that are out may still settle.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.changed.notify_waiters();
        self.inner.changed.notify_one();
    }
}

impl Open {
    /// A delivery has ended: its recipients are nobody's.
    fn let_go(&mut self, recipients: &[u32]) {
        for recipient in recipients {
            self.in_hand.remove(recipient);
        }
    }
}

impl State {
    /// The open message that a lease keeps.
    fn open(&mut self, id: QueueId) -> (&mut Ledger, Option<&mut Open>) {
        (&mut self.ledger, self.leased.get_mut(&id).and_then(|leased| leased.open.as_mut()))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A worker that panicked must not take the relay with it; leases are given back in destructors.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
