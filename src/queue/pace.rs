//! How fast something may happen.

use std::time::Duration;

/// At most so many in a time: 100 a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// Longer than nothing.
    pub per: Duration,
}

impl Rate {
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }
}
