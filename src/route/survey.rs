//! A routing decision with all that it rests on: for whoever asks why.
//!
//! Contract: [`Survey::plan`] is what a delivery gets at the same moment; beside it stand the questions to DNS in the order in which
//! they were asked, with their answers, and what is against the rules though it works.
//! Not here: how it is told to people (`explanation`).

use std::net::IpAddr;

use smallvec::SmallVec;

use super::health::HostKey;
use super::names::{Found, NameError};
use super::plan::{NextHop, Plan, Unroutable};

/// A question to DNS, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub name: String,
    pub said: Said,
}

/// What DNS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Mx(Result<Found<(u16, String)>, NameError>),
    Addresses(Result<Found<IpAddr>, NameError>),
}

/// What routing found out about a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    pub asked: Vec<Asked>,
    /// Full sentences without a full stop.
    pub remarks: Vec<String>,
    /// Where a delivery would turn, too, but for hosts that are down.
    pub left_alone: Vec<NextHop>,
    /// Hosts that are down and would come before the first hop.
    pub(super) passed_over: SmallVec<[HostKey; 2]>,
    pub plan: Result<Plan, Unroutable>,
}
