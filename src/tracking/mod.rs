//! The message tracking log: what happened to every message, in order, for the people who will be asked about it.
//!
//! Contract: each thing that happens is reported through one function of [`Tracking`], and these functions are the
//! only place that makes an [`Event`]. Events go to the files of a folder (JSON Lines, one file for each day in UTC)
//! and to whoever has subscribed. [`read()`] finds them again. Sessions that are worth
//! a look are kept beside them with what was said in each ([`sessions()`]). The names of events are Exchange's where it has one.
//! Invariants: reporting never waits for a disk and never fails; an event that could not be written is counted
//! ([`Tracking::lost`]) and mail goes on. Within a file the events stand in the order in which they were reported.
//! Not here: what is true of a message (the spool is; after a power cut the log may lack its last lines), and what
//! the program says about itself (`tracing`).

mod csv;
mod event;
mod facts;
mod filter;
mod folder;
mod journal;
mod reader;
mod session;
mod verdict;

pub use csv::CsvWriter;
pub use event::{Candidate, Event, EventName, EventNameError};
pub use facts::{
    Alike, Altered, Attempted, AuthFailed, FailedOver, HostDown, HostUp, Loaded, Message, Noticed, Operated,
    Probed, Quarantined, Received, Rejected, Routed, Slept, Throttled, Woke,
};
pub use filter::Filter;
pub use journal::{Events, Lagged, Tracking, TrackingError};
pub use reader::{Damage, DamageReason, Records, SessionFilter, SessionRecords, read, sessions};
pub use session::{By, Ended, SessionRecord, Spoken, Stage};
pub use verdict::{Side, Verdict};

#[cfg(test)]
mod tests;
