//! What tracking hears of an attempt on its way: the route, hosts given up, and what was done to the message for one.
//!
//! Contract: a [`Teller`] is for one job; each function is one event, and says in its reason what happened and why.
//! Not here: how the attempt ended for the recipients (`queue`), what happens to hosts (`route`).

use super::attempt::host;
use super::classify::Trouble;
use super::convert::Facts;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Destination, Host, Outcome, Reply};
use crate::queue::Job;
use crate::route::{self, NextHop, Plan, Unroutable};
use crate::smtp::client::TransactionReport;
use crate::tracking::{Altered, Candidate, FailedOver, Routed, Tracking};

pub(super) struct Teller<'a> {
    pub tracking: &'a Tracking,
    pub clock: &'a Clock,
    pub job: &'a Job,
}

impl Teller<'_> {
    /// The routing decision, where there was one to make.
    pub fn route(&self, plan: &Result<Plan, Unroutable>, began: Timestamp) {
        let (candidates, reason) = match plan {
            Ok(plan) => (&plan.candidates, None),
            Err(unroutable) => (&unroutable.candidates, Some(unroutable.outcome.reason.as_str())),
        };
        let by_mx = matches!(self.job.destination, Destination::Mx(_));
        if !by_mx && reason.is_none() && candidates.len() == 1 {
            return;
        }
        let facts = Routed {
            destination: &self.job.destination,
            candidates: told(candidates),
            reason,
            duration: Some(self.clock.now().since(began)),
        };
        self.tracking.routed(Some(self.job.as_message()), facts);
    }

    /// On to the next host: what was tried, what was not, and what it cost.
    pub fn failover(&self, plan: &Plan, from: &NextHop, failure: &Outcome, to: &NextHop, began: Timestamp) {
        let reply = failure.reply.as_ref();
        self.gone_on(from, reply, &failure.reason, to, &told(&plan.candidates), began);
    }

    /// The same host once more, with less.
    pub fn in_clear(&self, hop: &NextHop, trouble: &Trouble, began: Timestamp) {
        let reason =
            format!("STARTTLS failed ({trouble}): going on in clear text, since tls is opportunistic");
        self.gone_on(hop, trouble.reply(), &reason, hop, &[], began);
    }

    /// The same host once more, without BDAT.
    pub fn by_data(&self, hop: &NextHop, report: &TransactionReport, began: Timestamp) {
        let reason = "the host offers CHUNKING and does not know BDAT: going on with DATA, for an hour";
        self.gone_on(hop, report.any_end(), reason, hop, &[], began);
    }

    fn gone_on(
        &self,
        from: &NextHop,
        reply: Option<&Reply>,
        reason: &str,
        to: &NextHop,
        candidates: &[Candidate],
        began: Timestamp,
    ) {
        let (destination, from, to) = (&self.job.destination, &host(from), &host(to));
        let duration = self.clock.now().since(began);
        let facts = FailedOver { destination, from, reply, reason, to, candidates, duration };
        self.tracking.failed_over(Some(self.job.as_message()), &facts);
    }

    /// What this host gets is not what came.
    pub fn converted(&self, host: &Host, facts: &Facts) {
        let reason = format!("to seven bits, since {host} does not offer 8BITMIME: {facts}");
        let (id, sender) = (Some(self.job.as_message().id), Some(&self.job.message.envelope.reverse_path));
        self.tracking.converted(&Altered { id, session: None, client: None, sender, reason: &reason });
    }
}

fn told(candidates: &[route::Candidate]) -> Vec<Candidate> {
    let told = candidates.iter().map(|candidate| Candidate {
        host: candidate.host.clone(),
        group: candidate.group.clone(),
        addresses: candidate.addresses.clone(),
        port: candidate.port,
        preference: candidate.preference,
        decision: candidate.decision.to_string(),
    });
    told.collect()
}
