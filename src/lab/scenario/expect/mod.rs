//! What a scenario expects of its story: reading it, comparing, showing the difference, writing it down.
//!
//! Contract: everything that happened is lines, each with its time since the start; an expectation is a pattern over
//! them: an optional time, and words that occur in the line in this order (`4.4.x` is any such status). `"..."` stands for any number of lines. Each
//! key may be left out; one that is there is complete: what it does not name must not have happened.
//! Invariants: an expectation that can never hold is a fault when it is read; the same story gives the same text.
//! Not here: the story (`World`), the rest of the file (`scenario`).
//!
//! ```toml
//! [expect]
//! # Every event of the tracking log: its name, then recipients, host and reply.
//! events = ["0s RECEIVE bob@example.com", "0s DEFER 450 4.2.0", "...", "5m 2s SEND"]
//! # What an upstream has kept: reverse-path and recipients.
//! received.main = ["5m 2s alice@example.org -> bob@example.com"]
//! # No notice at all. Otherwise [[expect.notice]], as below.
//! notices = []
//!
//! # For each recipient, every attempt: upstream and reply, or status and reason where there was no reply. While a
//! # destination cannot be reached, each try counts for all that wait for it.
//! [expect.attempts]
//! "bob@example.com" = ["0s main 450 4.2.0", "1m", "..."]
//!
//! # For each recipient: delivered, bounced (`bounced expired` when the time was up) or cancelled, and when; or, of what
//! # has no outcome at the end, waiting, uncertain, or lost (set aside as damaged). Then details as in an attempt. A list
//! # where there are several messages to him.
//! [expect.outcomes]
//! "bob@example.com" = "delivered 5m 2s"
//!
//! # Exactly these, in the order in which they were made. Every key may be left out.
//! [[expect.notice]]
//! to = "alice@example.org"
//! at = "4h"
//! action = "delayed"           # delayed, failed, relayed or delivered
//! status = "4.4.7"             # "5.1.1 5.2.2" where it is about several recipients
//! words = ["will keep trying for 1 day 20 hours"]
//! ```
//!
//! Times: `5m 2s` is compared to the second, rounded down; `4m..6m` is a range; `5m 2s 120ms` is exact.

mod alignment;
mod difference;
mod lines;
mod moment;
mod notices;
mod pattern;
mod read;
mod recipients;
mod report;
mod write;

use std::time::Duration;

use crate::lab::Story;
pub use difference::{Difference, Mark, Row};
use pattern::Step;
pub use write::{WriteError, write};

/// What the scenario has, so that an expectation that can never hold is found while it is read.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of all messages.
    pub recipients: Vec<String>,
    /// The reverse-paths of all messages.
    pub senders: Vec<String>,
    pub upstreams: Vec<String>,
    /// How long the story lasts at most.
    pub limit: Duration,
}

/// What is expected of a story; by default nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    events: Option<Vec<Step>>,
    /// By upstream.
    received: Vec<(String, Vec<Step>)>,
    /// By recipient.
    attempts: Vec<(String, Vec<Step>)>,
    /// By recipient.
    outcomes: Vec<(String, Vec<Step>)>,
    notices: Option<Vec<Step>>,
}

impl Expectations {
    /// Where the story differs, one difference for each list at most; empty when all is as expected.
    pub fn compare(&self, story: &Story) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |subject: &str, steps: &[Step], lines: &[pattern::Line]| {
            differences.extend(difference::difference(subject, steps, lines));
        };
        let fates = recipients::fates(story);
        let fate = |recipient: &String| fates.get(recipient).cloned().unwrap_or_default();
        // What people ask first comes first.
        for (recipient, steps) in &self.outcomes {
            compare(&format!("outcome of {recipient}"), steps, &fate(recipient).outcomes);
        }
        for (recipient, steps) in &self.attempts {
            compare(&format!("attempts of {recipient}"), steps, &fate(recipient).attempts);
        }
        if let Some(steps) = &self.notices {
            compare("notices", steps, &notices::notices(story));
        }
        for (upstream, steps) in &self.received {
            compare(&format!("received by {upstream}"), steps, &lines::received(story, upstream));
        }
        if let Some(steps) = &self.events {
            compare("events", steps, &lines::events(story));
        }
        differences
    }
}

#[cfg(test)]
mod tests;
