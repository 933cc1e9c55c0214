//! Writing down what a real upstream did, as a scenario that the rehearsal plays.
//!
//! Contract: two sources give the same [`Observations`]: a [`Recorder`] that sits between a relay and its upstream, and
//! [`from_tracking`] that reads posthouse's own log. [`Observations::scenario`] writes them as the text of a scenario:
//! an upstream with rules for what a good server would not have done, and the messages with their times.
//! Invariants: no content is ever kept, only its size, and no credentials; addresses, host names, network addresses and
//! queue ids of real life are masked wherever they can be recognised (`mask`); what is recorded is passed on unchanged,
//! apart from the two extensions that would blind the recorder.
//! Not here: playing a scenario (`lab`'s scenarios), the command line (the program).

mod dialogue;
mod log;
mod mask;
mod messages;
mod observation;
mod proxy;
mod rules;
mod scenario;
mod wire;

pub use log::from_tracking;
pub use observation::{Did, Observations, Observed, ObservedUpstream, Transaction};
pub use proxy::{ForwardTo, Recorder, SoFar};
