//! How many octets of content deliveries and notices hold in memory at once.
//!
//! Contract: a delivery takes its [`Share`] before it reads its content and keeps it while it runs, and so does whoever
//! writes a notice about it. Shares are given in the
//! order in which they were asked for, so that a large content is not overtaken for ever. What a delivery turns out to need
//! besides, as for a content in another form, it takes at once ([`Share::besides`]): whoever holds a share never waits, or
//! two could wait for each other. Those who come after wait until that is given back, too.
//! Invariants: nobody waits for what can't come: a content larger than the whole budget goes alone.
//! Small contents, which are nearly all, take nothing: they never wait for the large, and as many as there are places
//! come to little ([`SMALL`] each).
//! Not here: contents on their way in (`accept`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// Contents up to here are not counted.
const SMALL: u64 = 64 << 10;

/// The octets that all of them together may hold.
pub(super) struct Budget(Arc<Mutex<Holding>>);

struct Holding {
    most: u64,
    held: u64,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    octets: u64,
    turn: oneshot::Sender<Share>,
}

/// Part of the budget. Dropping it gives it back.
pub(super) struct Share {
    of: Arc<Mutex<Holding>>,
    octets: u64,
    besides: AtomicU64,
}

impl Budget {
    pub fn new(octets: u64) -> Self {
        Self(Arc::new(Mutex::new(Holding { most: octets, held: 0, waiting: VecDeque::new() })))
    }

    /// From now on.
    pub fn set(&self, octets: u64) {
        let mut holding = lock(&self.0);
        holding.most = octets;
        give(&self.0, &mut holding);
    }

    /// As soon as there is room for so many; `None`: so few need no share.
    pub async fn take(&self, octets: u64) -> Option<Share> {
        if octets <= SMALL {
            return None;
        }
        let (turn, has_come) = oneshot::channel();
        {
            let mut holding = lock(&self.0);
            holding.waiting.push_back(Waiting { octets, turn });
            give(&self.0, &mut holding);
        }
        Some(has_come.await.expect("whoever waits is kept until his turn comes"))
    }
}

impl Share {
    /// So much is held besides the content, in place of what was before.
    pub fn besides(&self, octets: u64) {
        let mut holding = lock(&self.of);
        let before = self.besides.swap(octets, Ordering::Relaxed);
        holding.held = holding.held - before + octets;
        give(&self.of, &mut holding);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let held = self.octets + self.besides.load(Ordering::Relaxed);
        // One that was never given is dropped while the lock is held.
        if held > 0 {
            let mut holding = lock(&self.of);
            holding.held -= held;
            give(&self.of, &mut holding);
        }
    }
}

/// Gives those who wait their shares, in order, as far as there is room.
fn give(of: &Arc<Mutex<Holding>>, holding: &mut Holding) {
    while let Some(first) = holding.waiting.front() {
        if holding.held > 0 && holding.held.saturating_add(first.octets) > holding.most {
            return;
        }
        let Waiting { octets, turn } = holding.waiting.pop_front().expect("it was just looked at");
        holding.held += octets;
        let share = Share { of: Arc::clone(of), octets, besides: AtomicU64::new(0) };
        if let Err(mut unwanted) = turn.send(share) {
            holding.held -= std::mem::take(&mut unwanted.octets);
        }
    }
}

fn lock(holding: &Mutex<Holding>) -> MutexGuard<'_, Holding> {
    holding.lock().expect("no holder panics")
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_large_wait_for_each_other_in_turn_and_the_small_for_nobody() {
        let budget = Budget::new(64 * MIB);
        let mut first = pin!(budget.take(35 * MIB));
        let Poll::Ready(first) = poll(first.as_mut()) else { panic!("there is room for one") };
        let mut second = pin!(budget.take(35 * MIB));
        assert!(poll(second.as_mut()).is_pending());
        let mut third = pin!(budget.take(MIB));
        assert!(poll(third.as_mut()).is_pending(), "whoever came first goes first");
        assert!(poll(pin!(budget.take(SMALL))).is_ready());
        drop(first);
        let Poll::Ready(_second) = poll(second.as_mut()) else { panic!("there is room again") };
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn one_that_is_larger_than_everything_goes_alone() {
        let budget = Budget::new(MIB);
        let mut huge = pin!(budget.take(u64::MAX));
        let Poll::Ready(huge) = poll(huge.as_mut()) else { panic!("it must not wait for ever") };
        let mut other = pin!(budget.take(SMALL + 1));
        assert!(poll(other.as_mut()).is_pending());
        drop(huge);
        assert!(poll(other.as_mut()).is_ready());
    }

    #[test]
    fn another_size_counts_from_now_on() {
        let budget = Budget::new(MIB);
        let mut all = pin!(budget.take(MIB));
        let Poll::Ready(_all) = poll(all.as_mut()) else { panic!("there is room") };
        let mut other = pin!(budget.take(MIB));
        assert!(poll(other.as_mut()).is_pending());
        budget.set(2 * MIB);
        let Poll::Ready(_other) = poll(other.as_mut()) else { panic!("there is room now") };
        assert!(poll(pin!(budget.take(MIB))).is_pending(), "what was taken before counts as well");
    }

    #[test]
    fn what_is_held_besides_is_waited_for_by_those_who_come_after() {
        let budget = Budget::new(4 * MIB);
        let mut first = pin!(budget.take(MIB));
        let Poll::Ready(Some(first)) = poll(first.as_mut()) else { panic!("there is room") };
        let mut second = pin!(budget.take(MIB));
        let Poll::Ready(second) = poll(second.as_mut()) else { panic!("there is room") };
        // Beyond the budget: it has to be held all the same.
        first.besides(7 * MIB);
        first.besides(3 * MIB);
        let mut third = pin!(budget.take(MIB));
        assert!(poll(third.as_mut()).is_pending());
        drop(second);
        assert!(poll(third.as_mut()).is_pending(), "four of four are held");
        first.besides(2 * MIB);
        let Poll::Ready(_third) = poll(third.as_mut()) else { panic!("there is room for one again") };
        drop(first);
        assert!(poll(pin!(budget.take(4 * MIB))).is_pending(), "the third has not gone");
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let budget = Budget::new(MIB);
        let mut all = pin!(budget.take(MIB));
        let Poll::Ready(all) = poll(all.as_mut()) else { panic!("there is room") };
        {
            let mut gone = pin!(budget.take(MIB));
            assert!(poll(gone.as_mut()).is_pending());
            let mut unread = Box::pin(budget.take(MIB));
            assert!(poll(unread.as_mut()).is_pending());
            let mut next = Box::pin(budget.take(MIB));
            assert!(poll(next.as_mut()).is_pending());
            drop(unread);
            drop(all);
            // The first has his turn, and goes without having looked.
            assert!(poll(next.as_mut()).is_pending());
        }
        assert!(poll(pin!(budget.take(MIB))).is_ready());
    }
}
