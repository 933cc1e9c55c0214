//! `[safety_net]`: what was delivered is kept for a while, in case that whoever took it has lost it.
//!
//! Contract: off without `hold`; limits without it are a fault, for whoever writes them wants a safety net.
//! Not here: what goes first (`queue`), sending again (`relay`).

use std::time::Duration;

use crate::config::section::Section;
use crate::queue;

pub(super) fn read(mut section: Section<'_>) -> Option<queue::SafetyNet> {
    let hold = section.duration("hold", Duration::from_secs(1));
    let max_messages = section.count("max_messages", 1, 100_000_000).map(u64::from);
    let max_bytes = section.size("max_bytes");
    for key in ["max_messages", "max_bytes"] {
        if section.has(key) && !section.has("hold") {
            let problem = format!("safety_net.{key} has no effect: without hold nothing is kept");
            let hint = "write hold = \"2h\", say, or take the section out";
            section.report.fault(section.place_of(key), problem, None, Some(hint.into()));
        }
    }
    section.done();
    hold.map(|hold| queue::SafetyNet { hold, max_messages, max_bytes })
}
