//! Leave to open connections, where their number in a time is limited.
//!
//! Contract: whoever delivers asks [`Permits::may_connect`] before the first connection that he opens for a job. Told no,
//! he gives the delivery back ([`Delivery::put_off`](super::Delivery::put_off)) and has done nothing. Of each further one
//! that the same job needs he tells by [`Permits::connects`]: it is counted, and those after it wait the longer.
//! Invariants: a connection that was open already needs no leave.
//! Not here: the counting (`rein`), who waits meanwhile (`line`).

use std::fmt;
use std::sync::Arc;

use super::Inner;
use super::lines::LineId;
use crate::clock::Timestamp;

/// The permits of one delivery.
#[derive(Clone)]
pub struct Permits {
    inner: Arc<Inner>,
    line: LineId,
}

impl Permits {
    pub(super) fn new(inner: &Arc<Inner>, line: LineId) -> Self {
        Self { inner: Arc::clone(inner), line }
    }

    /// Whether a connection may be opened now, which then counts as opened; else when one may.
    pub fn may_connect(&self) -> Result<(), Timestamp> {
        let now = self.inner.clock.now();
        self.inner.state().ledger.may_connect(self.line, now)
    }

    /// A connection is opened, whether it may be or not.
    pub fn connects(&self) {
        let now = self.inner.clock.now();
        self.inner.state().ledger.connects(self.line, now);
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("line", &self.line).finish_non_exhaustive()
    }
}
