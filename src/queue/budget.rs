//! How many octets of content deliveries hold in memory at once.
//!
//! Contract: a delivery takes its [`Share`] before it reads its content and keeps it while it runs. Shares are given in the
//! order in which they were asked for, so that a large content is not overtaken for ever.
//! Invariants: nobody waits for what can't come: a content larger than the whole budget takes all of it, and goes alone.
//! Small contents, which are nearly all, take nothing: they never wait for the large, and as many as there are places
//! come to little ([`SMALL`] each).
//! Not here: contents on their way in (`accept`).

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Contents up to here are not counted.
const SMALL: u64 = 64 << 10;
/// What a permit stands for.
const UNIT: u64 = 4 << 10;

/// The octets that all deliveries together may hold.
pub(super) struct Budget {
    current: Mutex<Current>,
}

struct Current {
    units: u32,
    semaphore: Arc<Semaphore>,
}

/// Part of the budget. Dropping it gives it back.
pub(super) struct Share(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Budget {
    pub fn new(octets: u64) -> Self {
        Self { current: Mutex::new(Current::of(octets)) }
    }

    /// From now on. Shares of before count no more, so that for a while it may be exceeded by them.
    pub fn set(&self, octets: u64) {
        let mut current = self.current.lock().expect("no holder panics");
        if current.units != units(octets) {
            *current = Current::of(octets);
        }
    }

    pub async fn take(&self, octets: u64) -> Share {
        if octets <= SMALL {
            return Share(None);
        }
        let (semaphore, wanted) = {
            let current = self.current.lock().expect("no holder panics");
            (Arc::clone(&current.semaphore), units(octets).min(current.units))
        };
        let permit = semaphore.acquire_many_owned(wanted).await;
        Share(Some(permit.expect("nobody closes it")))
    }
}

impl Current {
    fn of(octets: u64) -> Self {
        let units = units(octets);
        Self { units, semaphore: Arc::new(Semaphore::new(units as usize)) }
    }
}

/// At least one, and no more than a semaphore holds.
fn units(octets: u64) -> u32 {
    let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
    u32::try_from(octets.div_ceil(UNIT)).unwrap_or(most).clamp(1, most)
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
        budget.set(MIB);
        assert!(poll(pin!(budget.take(MIB))).is_pending(), "nothing has changed");
        budget.set(2 * MIB);
        assert!(poll(pin!(budget.take(2 * MIB))).is_ready());
    }
}
