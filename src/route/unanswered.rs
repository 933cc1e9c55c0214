//! Hosts of upstream groups of whose names DNS has just said nothing.
//!
//! Contract: a name that was not answered is asked again by one delivery in [`ASKED_EVERY`]; the others pass it over with
//! what was said, and go to the hosts that are known. Otherwise every message would wait for the servers of a name that only
//! a spare host has, for as long as DNS may take.
//! Invariants: shorter than the first wait of a destination that cannot be reached, so that each of its probes asks. Only
//! names of the configuration are kept.
//! Not here: MX hosts, of which each domain has its own (`mx`); what is passed over (`weigh`).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::names::{Found, NameError};
use crate::clock::Timestamp;

const ASKED_EVERY: Duration = Duration::from_secs(5);

/// What was said in place of an answer, and when, or since when somebody asks again.
#[derive(Default)]
pub(super) struct Unanswered {
    names: Mutex<HashMap<String, (NameError, Timestamp)>>,
}

impl Unanswered {
    /// Why a name is not to be asked now. Whoever hears nothing asks, and [tells](Self::learn).
    pub fn why(&self, name: &str, now: Timestamp) -> Option<NameError> {
        let mut names = self.names.lock().expect("no holder panics");
        let (error, at) = names.get_mut(name)?;
        if now.since(*at) < ASKED_EVERY {
            return Some(error.clone());
        }
        *at = now;
        None
    }

    /// What has come of asking.
    pub fn learn<T>(&self, name: &str, answer: &Result<Found<T>, NameError>, now: Timestamp) {
        let mut names = self.names.lock().expect("no holder panics");
        match answer {
            Err(error @ NameError::Unavailable(_)) => {
                names.insert(name.to_owned(), (error.clone(), now));
            }
            _ => {
                names.remove(name);
            }
        }
    }

    /// All names are asked anew: there are other servers, other hosts, or somebody who wants it now.
    pub fn forget(&self) {
        self.names.lock().expect("no holder panics").clear();
    }
}
