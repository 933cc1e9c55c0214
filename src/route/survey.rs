//! A routing decision with all that it rests on: for whoever asks why.
//!
//! Contract: [`Survey::plan`] is what a delivery gets at the same moment; beside it stand the questions to DNS in the order in which
//! they were asked, with their answers, and what is against the rules though it works.
//! Not here: how it is told to people (`explanation`).

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::health::HostKey;
use super::names::{Found, NameError};
use super::plan::{NextHop, Plan, Unroutable};
use super::sts::Sts;
use crate::net::TlsaSet;

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

/// What DNSSEC and MTA-STS say about the MX hosts of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSurvey {
    /// Whether the MX records, or that there are none, came by DNSSEC; or why that is not known. Nothing where DANE is
    /// not asked for.
    pub signed: Option<Result<bool, String>>,
    pub sts: Sts,
    /// Those that were looked at, in their order.
    pub hosts: Vec<HostTls>,
}

/// The same of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTls {
    pub host: String,
    pub tlsa: Tlsas,
    /// Nothing where no policy says anything.
    pub named_by_policy: Option<bool>,
}

/// The TLSA records of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsas {
    /// DNSSEC vouches for them.
    Vouched(Arc<TlsaSet>),
    /// There are none that count: which of it, in words.
    None(String),
    /// There may be some: why that is not known.
    Unknown(String),
}

/// What routing found out about a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    pub asked: Vec<Asked>,
    /// Full sentences without a full stop.
    pub remarks: Vec<String>,
    /// Where it is a domain by its MX records.
    pub tls: Option<TlsSurvey>,
    /// Where a delivery would turn, too, but for hosts that are down.
    pub left_alone: Vec<NextHop>,
    /// Hosts that are down and would come before the first hop.
    pub(super) passed_over: SmallVec<[HostKey; 2]>,
    pub plan: Result<Plan, Unroutable>,
}
