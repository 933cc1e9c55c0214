//! A message that goes to one address in place of its recipients': `redirect_to` of a route.
//!
//! Contract: the hosts are offered one recipient, the address of the route, for however many there are; what they say about
//! him is the outcome of all.
//! The sender's wishes (RFC 3461) are about the recipients that he knows, and we see to them: the address is sent with
//! NOTIFY=NEVER, and whoever asked for SUCCESS gets a notice `relayed` from us. ORCPT names the first of the recipients, so
//! that whoever reads the redirected mail sees for whom it was. Content and header stay as they are.
//! Invariants: the outcome says where the message went.
//! Not here: which recipients go together (`queue`).

use std::sync::Arc;

use super::attempt::Report;
use crate::mail::{Address, Notify, OriginalRecipient, Outcome, Recipient, Verdict};
use crate::queue::Job;
use crate::spool::{Progress, Stored};

/// A job as the hosts see it, and the one that it stands for.
pub(super) struct Redirected<'a> {
    of: &'a Job,
    to: &'a Address,
    job: Job,
}

impl<'a> Redirected<'a> {
    /// `None`: its recipients get it themselves.
    pub fn of(job: &'a Job) -> Option<Self> {
        let to = job.redirect.as_ref()?;
        let mut stored = Stored::clone(&job.message);
        let first = *job.recipients.first()?;
        stored.envelope.recipients = vec![stand_in(to, &stored.envelope.recipients[first as usize])];
        let resubmitted = stored.progress.resubmitted.take();
        stored.progress = Progress { resubmitted, ..Progress::untried(1) };
        let seen = Job { message: Arc::new(stored), recipients: vec![0], redirect: None, ..job.clone() };
        Some(Self { of: job, to, job: seen })
    }

    pub fn job(&self) -> &Job {
        &self.job
    }

    /// What the hosts said, as an outcome of each recipient.
    pub fn report(&self, report: Report) -> Report {
        match report {
            Report::Unreachable { .. } | Report::NotBefore(_) => report,
            Report::Answered(outcomes) => {
                let said = outcomes.into_iter().find(|(recipient, _)| *recipient == 0);
                let outcomes = said.into_iter().flat_map(|(_, outcome)| {
                    let outcome = self.outcome(outcome);
                    self.of.recipients.iter().map(move |recipient| (*recipient, outcome.clone()))
                });
                Report::Answered(outcomes.collect())
            }
        }
    }

    fn outcome(&self, outcome: Outcome) -> Outcome {
        let verdict = match outcome.verdict {
            // Whatever was asked for is ours to tell: the host was asked for nothing.
            Verdict::Delivered { .. } => Verdict::Delivered { dsn: false },
            other => other,
        };
        Outcome { verdict, ..outcome.redirected_to(self.to) }
    }
}

fn stand_in(to: &Address, first: &Recipient) -> Recipient {
    let original = first.original.clone().unwrap_or_else(|| OriginalRecipient::of(&first.address));
    Recipient { address: to.clone(), notify: Some(Notify::NEVER), original: Some(original) }
}
