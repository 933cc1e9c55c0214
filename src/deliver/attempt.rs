//! One attempt: the next hops in order, until every recipient has his outcome.

use std::sync::Arc;

use super::classify::{self, Blame, Fate, Stage};
use super::connection::{Connection, Opener};
use super::offer::Offer;
use super::own_answer;
use super::pool::Pool;
use super::redirected::Redirected;
use super::settings::Settings;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Destination, Host, Outcome, Verdict};
use crate::net::{ClientTls, Network};
use crate::queue::Job;
use crate::route::{NextHop, Pass, Plan, Router, Unroutable};
use crate::tracking::{Candidate, FailedOver, Routed, Tracking};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Somebody answered: an outcome for each recipient of the job.
    Answered(Vec<(u32, Outcome)>),
    /// Nobody could be reached, or all refuse everyone.
    Unreachable { outcome: Outcome, not_before: Option<Timestamp> },
    /// Nothing was tried: no connection may be opened before.
    NotBefore(Timestamp),
}

/// Whoever carries the mail of one relay out.
pub struct Courier {
    settings: Settings,
    hostname: String,
    network: Network,
    tls: ClientTls,
    router: Arc<Router>,
    pool: Arc<Pool>,
    tracking: Tracking,
    clock: Clock,
}

/// What one host made of the message.
enum AtHost {
    /// It could not be used at all.
    Failed(Outcome),
    /// A fate for each recipient that it was offered, by his number. Those for whom it had no room wait as if there had
    /// been no attempt.
    Answered(Vec<(u32, Fate)>),
    /// It was not turned to: no connection may be opened before.
    NotBefore(Timestamp),
}

impl Courier {
    pub fn new(
        settings: Settings,
        hostname: String,
        network: Network,
        router: Arc<Router>,
        tracking: Tracking,
        clock: Clock,
    ) -> Self {
        let pool = Pool::new(settings.idle_connection);
        Self { settings, hostname, network, tls: ClientTls::system(), router, pool, tracking, clock }
    }

    /// Tries the hosts of the job's destination in order.
    pub async fn attempt(&self, job: &Job) -> Report {
        if let Some(outcome) = own_answer::to(&job.destination) {
            return Report::Answered(for_all(&job.recipients, &outcome));
        }
        match Redirected::of(job) {
            Some(redirected) => redirected.report(self.carry(redirected.job()).await),
            None => self.carry(job).await,
        }
    }

    async fn carry(&self, job: &Job) -> Report {
        let began = self.clock.now();
        let plan = self.router.plan(&job.destination).await;
        self.tell_route(job, &plan, began);
        let plan = match plan {
            Ok(plan) => plan,
            Err(Unroutable { outcome, .. }) if outcome.verdict == Verdict::Bounced => {
                return Report::Answered(for_all(&job.recipients, &outcome));
            }
            Err(Unroutable { outcome, retry_at, .. }) => {
                return Report::Unreachable { outcome: *outcome, not_before: retry_at };
            }
        };
        self.try_hops(job, &plan).await
    }

    async fn try_hops(&self, job: &Job, plan: &Plan) -> Report {
        let mut outcomes = Vec::with_capacity(job.recipients.len());
        let mut waiting = job.recipients.clone();
        let mut answered = false;
        let mut rest = Rest::default();
        for (index, hop) in plan.hops.iter().enumerate() {
            let began = self.clock.now();
            let failure = match self.try_hop(hop, job, &waiting, index == 0).await {
                AtHost::NotBefore(at) => return Report::NotBefore(at),
                AtHost::Failed(outcome) => outcome,
                AtHost::Answered(fates) => {
                    answered = true;
                    let mut elsewhere = None;
                    let mut left = Vec::new();
                    for (recipient, fate) in fates {
                        match fate {
                            Fate::Settled(outcome) => outcomes.push((recipient, outcome)),
                            Fate::Elsewhere(outcome) => {
                                left.push(recipient);
                                elsewhere = Some(outcome);
                            }
                        }
                    }
                    waiting = left;
                    match elsewhere {
                        Some(outcome) => outcome,
                        None => return Report::Answered(outcomes),
                    }
                }
            };
            if let Some(next) = plan.hops.get(index + 1) {
                self.router.diverted(hop);
                self.tell_failover(job, plan, hop, &failure, next, began);
            }
            rest.add(failure);
        }
        let last = rest.outcome(plan.complete);
        if !answered {
            return Report::Unreachable { outcome: last, not_before: self.router.retry_at(plan) };
        }
        outcomes.extend(for_all(&waiting, &last));
        Report::Answered(outcomes)
    }

    /// Offers the message to one host: over a connection that is open already, or a new one, if one may be opened. Only
    /// the first host of an attempt asks for that.
    async fn try_hop(&self, hop: &NextHop, job: &Job, recipients: &[u32], first: bool) -> AtHost {
        let pass = match self.router.admit(hop) {
            Ok(pass) => pass,
            Err(outcome) => return AtHost::Failed(outcome),
        };
        while let Some(connection) = self.pool.take(hop) {
            // A server may close an idle connection at any time: that it did says nothing about the message.
            if let Some(result) = self.offer(connection, job, recipients, true, &pass).await {
                return result;
            }
        }
        match &job.permits {
            Some(permits) if first => {
                if let Err(at) = permits.may_connect() {
                    return AtHost::NotBefore(at);
                }
            }
            Some(permits) => permits.connects(),
            None => {}
        }
        let opener = Opener {
            network: &self.network,
            tls: &self.tls,
            hostname: &self.hostname,
            timeouts: self.settings.timeouts,
        };
        match opener.open(hop).await {
            Ok(connection) => {
                let offered = self.offer(connection, job, recipients, false, &pass).await;
                offered.expect("only a connection that was open before can be stale")
            }
            Err((stage, trouble)) => {
                let outcome = classify::of_host(&host(hop), stage, &trouble);
                pass.failed(stage.word(), &outcome);
                AtHost::Failed(outcome)
            }
        }
    }

    /// One transaction. `None`: the connection was stale.
    async fn offer(
        &self,
        mut connection: Connection,
        job: &Job,
        recipients: &[u32],
        reused: bool,
        pass: &Pass<'_>,
    ) -> Option<AtHost> {
        let hop = connection.hop().clone();
        let host = host(&hop);
        let envelope = &job.message.envelope;
        let age = self.clock.now().since(job.message.arrived_at);
        let offer = Offer::of(envelope, &job.content, recipients, connection.extensions(), age);
        let unfit =
            offer.unfit.iter().map(|(index, why)| (*index, Fate::Elsewhere(classify::unfit(&host, *why))));
        let unfit: Vec<(u32, Fate)> = unfit.collect();
        if offer.recipients.is_empty() {
            self.finish(connection).await;
            return Some(AtHost::Answered(unfit));
        }
        let (report, trouble) = connection.send(offer.transaction).await;
        let refused = report.mail.as_ref().filter(|reply| reply.code() == 421);
        // Servers end connections that were idle, or that have carried enough; a new one tells more.
        if reused && (refused.is_some() || (trouble.is_some() && report.mail.is_none())) {
            return None;
        }
        if let Some(reply) = refused {
            let refused = classify::Trouble::Refused(reply.clone());
            let outcome = classify::of_host(&host, Stage::Transaction, &refused);
            pass.failed(Stage::Transaction.word(), &outcome);
            return Some(AtHost::Failed(outcome));
        }
        match classify::of_session(&host, &report, trouble.as_ref()) {
            None => pass.succeeded(),
            Some(Blame::Host(outcome)) => pass.failed(Stage::Transaction.word(), &outcome),
            Some(Blame::HostOrMessage(outcome)) => pass.struck(Stage::Transaction.word(), &outcome),
        }
        let fates = classify::of_transaction(&host, &report, offer.notifies, trouble.as_ref());
        let fates = offer.recipients.into_iter().zip(fates).chain(unfit).collect();
        if trouble.is_none() {
            self.finish(connection).await;
        }
        Some(AtHost::Answered(fates))
    }

    /// Keeps the connection for the next message, or closes it.
    async fn finish(&self, mut connection: Connection) {
        if !connection.is_ready().await {
            return;
        }
        let mail_max = connection.extensions().limits.mail_max.unwrap_or(u32::MAX);
        if connection.used() < self.settings.messages_per_connection.min(mail_max) {
            self.pool.park(connection);
        } else {
            tokio::spawn(connection.quit());
        }
    }

    /// Closes the connections that are kept.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The routing decision, where there was one to make.
    fn tell_route(&self, job: &Job, plan: &Result<Plan, Unroutable>, began: Timestamp) {
        let (candidates, reason) = match plan {
            Ok(plan) => (&plan.candidates, None),
            Err(unroutable) => (&unroutable.candidates, Some(unroutable.outcome.reason.as_str())),
        };
        let by_mx = matches!(job.destination, Destination::Mx(_));
        if !by_mx && reason.is_none() && candidates.len() == 1 {
            return;
        }
        self.tracking.routed(
            Some(job.as_message()),
            Routed {
                destination: &job.destination,
                candidates: told(candidates),
                reason,
                duration: Some(self.clock.now().since(began)),
            },
        );
    }

    /// What was tried, what was not, and what it cost.
    fn tell_failover(
        &self,
        job: &Job,
        plan: &Plan,
        from: &NextHop,
        failure: &Outcome,
        to: &NextHop,
        began: Timestamp,
    ) {
        let facts = FailedOver {
            destination: &job.destination,
            from: &host(from),
            reply: failure.reply.as_ref(),
            reason: &failure.reason,
            to: &host(to),
            candidates: &told(&plan.candidates),
            duration: self.clock.now().since(began),
        };
        self.tracking.failed_over(Some(job.as_message()), &facts);
    }
}

fn told(candidates: &[crate::route::Candidate]) -> Vec<Candidate> {
    let told = candidates.iter().map(|candidate| Candidate {
        host: candidate.host.clone(),
        addresses: candidate.addresses.clone(),
        preference: candidate.preference,
        decision: candidate.decision.to_string(),
    });
    told.collect()
}

/// What becomes of those whom no host has taken.
#[derive(Default)]
struct Rest {
    last: Option<Outcome>,
    /// The last failure that is not for ever.
    deferred: Option<Outcome>,
}

impl Rest {
    fn add(&mut self, failure: Outcome) {
        if failure.verdict != Verdict::Bounced {
            self.deferred = Some(failure.clone());
        }
        self.last = Some(failure);
    }

    /// They bounce only if every host there is cannot take the message.
    fn outcome(self, all_were_tried: bool) -> Outcome {
        let last = self.last.expect("a plan has at least one hop");
        match self.deferred {
            Some(deferred) => deferred,
            None if all_were_tried => last,
            None => Outcome { verdict: Verdict::Deferred, status: last.status.with_class(4), ..last },
        }
    }
}

fn host(hop: &NextHop) -> Host {
    Host::at(&hop.host, hop.address)
}

fn for_all(recipients: &[u32], outcome: &Outcome) -> Vec<(u32, Outcome)> {
    recipients.iter().map(|recipient| (*recipient, outcome.clone())).collect()
}
