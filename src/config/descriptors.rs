//! How many file descriptors a relay needs, and how many sessions fit into those that there are.
//!
//! Contract: [`Configuration::fit_into`] lowers `[limits] sessions` where the system permits too few, so that sessions
//! never take the descriptors that the spool and the deliveries need, and says so.
//! Not here: asking the system (the program), surviving a shortage all the same (`accept`).

use std::fmt;

use super::Configuration;

/// For segments of the spool, the tracking log, control.sock, DNS, and clients that are being turned away.
const RESERVE: u64 = 512;
/// However few there are: a relay that lets nobody in is of no use.
const SESSIONS_MIN: u32 = 1;

/// There are too few descriptors for the sessions that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFewDescriptors {
    /// What `[limits] sessions` asks for.
    pub asked: u32,
    /// How many are let in.
    pub sessions: u32,
    /// How many the process may open.
    pub descriptors: u64,
    /// How many it would need.
    pub needed: u64,
}

impl fmt::Display for TooFewDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, sessions, descriptors, needed } = self;
        write!(
            f,
            "limits.sessions is {asked}, but this process may open {descriptors} files only: {sessions} sessions are \
             let in at once; raise the limit to {needed} (LimitNOFILE= of the service, `ulimit -n` in a shell), or \
             lower sessions in [limits]"
        )
    }
}

impl Configuration {
    /// Lowers `[limits] sessions` to what fits into so many descriptors, beside the deliveries and the spool.
    pub fn fit_into(&mut self, descriptors: u64) -> Option<TooFewDescriptors> {
        let asked = self.limits.sessions;
        let others = u64::from(self.delivery.total) + self.listeners.len() as u64 + RESERVE;
        let room = descriptors.saturating_sub(others);
        if u64::from(asked) <= room {
            return None;
        }
        let sessions = u32::try_from(room).unwrap_or(asked).max(SESSIONS_MIN);
        self.limits.sessions = sessions;
        Some(TooFewDescriptors { asked, sessions, descriptors, needed: others + u64::from(asked) })
    }
}
