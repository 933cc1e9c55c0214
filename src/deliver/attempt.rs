//! One attempt: the next hops in order, until every recipient has his outcome.

use std::sync::Arc;

use super::classify::{self, Broken, Ended, Fate, Trouble};
use super::connection::{Begun, Connection, Opener};
use super::convert::{Conversion, Facts};
use super::offer::Offer;
use super::own_answer;
use super::pool::Pool;
use super::redirected::Redirected;
use super::ruling::{Blame, Others, Stage};
use super::settings::Settings;
use super::tls_wish;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Destination, EnhancedStatus, Host, Outcome, TlsUsed, Verdict};
use crate::net::{ClientTls, Network};
use crate::queue::{Delivery, Job};
use crate::route::{NextHop, Pass, Plan, Router, TlsWish, Unroutable};
use crate::spool::CommitError;
use crate::tracking::{Altered, Candidate, FailedOver, Routed, Tracking};

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

/// A host's turn.
struct Turn<'a> {
    hop: &'a NextHop,
    delivery: &'a Delivery,
    job: &'a Job,
    /// The same as the queue knows it, where one address stands in for its recipients.
    of: &'a Job,
    recipients: &'a [u32],
    others: Others,
    /// It is the first one of this attempt.
    first: bool,
    /// Why an earlier host has not taken the message, if it may later.
    before: Option<&'a Outcome>,
    /// Made once, however many hosts need it.
    conversion: &'a Conversion,
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
    /// A fate for each recipient that it was offered, by his number. Those for whom it had no room are not named: they
    /// wait as if there had been no attempt, and are offered again at once.
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
        let pool = Pool::new(&settings);
        Self { settings, hostname, network, tls: ClientTls::system(), router, pool, tracking, clock }
    }

    /// Tries the hosts of the job's destination in order.
    pub async fn attempt(&self, delivery: &Delivery, job: &Job) -> Report {
        if let Some(outcome) = own_answer::to(&job.destination) {
            return Report::Answered(for_all(&job.recipients, &outcome));
        }
        match Redirected::of(job) {
            Some(redirected) => redirected.report(self.carry(delivery, redirected.job(), job).await),
            None => self.carry(delivery, job, job).await,
        }
    }

    /// `of`: the job as the queue knows it.
    async fn carry(&self, delivery: &Delivery, job: &Job, of: &Job) -> Report {
        let began = self.clock.now();
        let plan = self.plan(job).await;
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
        self.try_hops(delivery, job, of, &plan).await
    }

    /// As the message wants it. Its header section is read only where that makes a difference.
    async fn plan(&self, job: &Job) -> Result<Plan, Unroutable> {
        let envelope = &job.message.envelope;
        let wish = if tls_wish::is_demanded(envelope) { TlsWish::Require } else { TlsWish::None };
        let plan = self.router.plan_for(&job.destination, wish).await;
        let waivable = plan.as_ref().map_or_else(|none| none.waivable, |plan| plan.waivable);
        if waivable && tls_wish::is_waived(envelope, &job.content) {
            return self.router.plan_for(&job.destination, TlsWish::Waive).await;
        }
        plan
    }

    async fn try_hops(&self, delivery: &Delivery, job: &Job, of: &Job, plan: &Plan) -> Report {
        let mut outcomes = Vec::with_capacity(job.recipients.len());
        let mut waiting = job.recipients.clone();
        let mut answered = false;
        // Why a host has not taken the message now, but may later: the last reason of one that we came to talk with.
        let mut deferred: Option<Outcome> = None;
        let conversion = Conversion::default();
        for (index, hop) in plan.hops.iter().enumerate() {
            let began = self.clock.now();
            let next = plan.hops.get(index + 1);
            let others = match next {
                Some(_) => Others::Now,
                None if deferred.is_some() || !plan.complete => Others::Later,
                None => Others::None,
            };
            let first = index == 0;
            let before = deferred.as_ref();
            let turn = Turn {
                hop,
                delivery,
                job,
                of,
                recipients: &waiting,
                others,
                first,
                before,
                conversion: &conversion,
            };
            let failure = match self.try_hop(turn).await {
                AtHost::NotBefore(at) => return Report::NotBefore(at),
                AtHost::Failed(outcome) => outcome,
                AtHost::Answered(fates) => {
                    answered = true;
                    let (left, elsewhere) = sort_out(fates, &mut outcomes);
                    waiting = left;
                    match elsewhere {
                        Some(outcome) => outcome,
                        None => return Report::Answered(outcomes),
                    }
                }
            };
            if let Some(next) = next {
                self.router.diverted(hop);
                self.tell_failover(job, plan, hop, &failure, next, began);
            }
            if failure.verdict != Verdict::Bounced && tells_more(&failure, deferred.as_ref()) {
                deferred = Some(failure);
            }
        }
        let last = deferred.expect("a plan has hops, and the last one settles everybody or has failed");
        if !answered {
            return Report::Unreachable { outcome: last, not_before: self.router.retry_at(plan) };
        }
        outcomes.extend(for_all(&waiting, &last));
        Report::Answered(outcomes)
    }

    /// Offers the message to one host: over a connection that is open already, or a new one, if one may be opened. Only
    /// the first host of an attempt asks for that.
    async fn try_hop(&self, turn: Turn<'_>) -> AtHost {
        let hop = turn.hop;
        let pass = match self.router.admit(hop) {
            Ok(pass) => pass,
            Err(outcome) => return AtHost::Failed(outcome),
        };
        while let Some(connection) = self.pool.take(hop) {
            // A server may close an idle connection at any time: that it did says nothing about the message.
            if let Some(result) = self.offer(connection, &turn, true, &pass).await {
                return result;
            }
        }
        match &turn.job.permits {
            Some(permits) if turn.first => {
                if let Err(at) = permits.may_connect() {
                    return AtHost::NotBefore(at);
                }
            }
            Some(permits) => permits.connects(),
            None => {}
        }
        let began = self.clock.now();
        let in_clear = |trouble: &Trouble| self.tell_in_clear(turn.job, hop, trouble, began);
        let opener = Opener {
            network: &self.network,
            tls: &self.tls,
            hostname: &self.hostname,
            timeouts: self.settings.timeouts.of_turn(turn.others, pass.is_trial()),
            in_clear: &in_clear,
        };
        match opener.open(hop).await {
            Ok(connection) => {
                let offered = self.offer(connection, &turn, false, &pass).await;
                offered.expect("only a connection that was open before can be stale")
            }
            Err((stage, trouble)) => {
                let outcome = classify::of_host(&host(hop), stage, &trouble);
                let no_tls = stage == Stage::StartTls;
                // What one message demands of its TLS makes the host no worse for all others.
                if !(no_tls && hop.security.is_of_one_message()) {
                    pass.failed(stage.word(), &outcome);
                }
                if no_tls && tls_wish::is_demanded(&turn.job.message.envelope) {
                    let fate = classify::without_tls(outcome, &trouble, turn.others);
                    let fate = in_earlier_words(fate, turn.before);
                    return AtHost::Answered(turn.recipients.iter().map(|to| (*to, fate.clone())).collect());
                }
                AtHost::Failed(outcome)
            }
        }
    }

    /// One transaction. `None`: the connection was stale.
    async fn offer(
        &self,
        mut connection: Connection,
        turn: &Turn<'_>,
        reused: bool,
        pass: &Pass<'_>,
    ) -> Option<AtHost> {
        let &Turn { hop, delivery, job, of, recipients, others, before, .. } = turn;
        let host = host(hop);
        let age = self.clock.now().since(job.message.counts_from());
        let envelope = &job.message.envelope;
        let (offered, secured) = (connection.extensions(), connection.tls().is_some());
        let offer = Offer::of(envelope, &job.content, recipients, offered, secured, age, turn.conversion);
        if let Some(facts) = &offer.converted {
            self.tell_converted(job, &host, facts);
        }
        let unfit = offer.unfit.iter().map(|(index, why)| (*index, unfit(&host, *why, others, before)));
        let unfit: Vec<(u32, Fate)> = unfit.collect();
        if offer.recipients.is_empty() {
            self.finish(connection).await;
            return Some(AtHost::Answered(unfit));
        }
        let (report, trouble) = match connection.begin(offer.transaction).await {
            Begun::Over(report, trouble) => (report, trouble),
            Begun::Accepted(accepted) => {
                pass.answered();
                let concerned = match of.redirect {
                    Some(_) => of.recipients.clone(),
                    None => accepted.into_iter().map(|place| offer.recipients[place]).collect(),
                };
                if let Err(error) = delivery.intend(&host, concerned).await {
                    let outcome = unwritten(&host, &error);
                    let fates =
                        offer.recipients.into_iter().map(|index| (index, Fate::Settled(outcome.clone())));
                    return Some(AtHost::Answered(fates.chain(unfit).collect()));
                }
                connection.finish().await
            }
        };
        let ended =
            Ended { host: &host, report: &report, dsn: offer.notifies, lost: trouble.as_ref(), others };
        let broken = ended.broken();
        let before_any = report.mail.as_ref().is_none_or(|reply| reply.code() == 421);
        // Servers end connections that were idle, or that have carried enough; a new one tells more.
        if reused && before_any && broken.is_some() {
            return None;
        }
        match &broken {
            None => pass.succeeded(),
            Some(Broken { stage, blame: Blame::Host, outcome }) => pass.failed(stage.word(), outcome),
            Some(Broken { stage, outcome, .. }) => pass.struck(stage.word(), outcome),
        }
        if let Some(broken) = broken.filter(|_| before_any && ended.closing().is_some()) {
            return Some(AtHost::Failed(broken.outcome));
        }
        let fates = over(connection.tls(), ended.fates());
        let fates = once_more(offer.recipients.into_iter().zip(fates).collect());
        if trouble.is_none() {
            self.finish(connection).await;
        }
        Some(AtHost::Answered(fates.into_iter().chain(unfit).collect()))
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

    /// The same host once more, with less.
    fn tell_in_clear(&self, job: &Job, hop: &NextHop, trouble: &Trouble, began: Timestamp) {
        let host = host(hop);
        let reason =
            format!("STARTTLS failed ({trouble}): going on in clear text, since tls is opportunistic");
        let facts = FailedOver {
            destination: &job.destination,
            from: &host,
            reply: trouble.reply(),
            reason: &reason,
            to: &host,
            candidates: &[],
            duration: self.clock.now().since(began),
        };
        self.tracking.failed_over(Some(job.as_message()), &facts);
    }

    /// What this host gets is not what came.
    fn tell_converted(&self, job: &Job, host: &Host, facts: &Facts) {
        let reason = format!("to seven bits, since {host} does not offer 8BITMIME: {facts}");
        let (id, sender) = (Some(job.as_message().id), Some(&job.message.envelope.reverse_path));
        self.tracking.converted(&Altered { id, session: None, client: None, sender, reason: &reason });
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

/// Takes those who are settled out; who is left for the next host, and why: if this one may take some of them later, in
/// the words in which it said so.
fn sort_out(fates: Vec<(u32, Fate)>, outcomes: &mut Vec<(u32, Outcome)>) -> (Vec<u32>, Option<Outcome>) {
    let (mut left, mut elsewhere) = (Vec::new(), None);
    for (recipient, fate) in fates {
        match fate {
            Fate::Settled(outcome) | Fate::Again(outcome) => outcomes.push((recipient, outcome)),
            Fate::Elsewhere(outcome) => {
                left.push(recipient);
                if elsewhere.as_ref().is_none_or(|known: &Outcome| known.verdict == Verdict::Bounced) {
                    elsewhere = Some(outcome);
                }
            }
        }
    }
    (left, elsewhere)
}

/// Where one host was reached and another was not, what the first one did is the trouble to look at: an address that
/// refuses connections, as that of localhost in the other family, would hide it.
fn tells_more(failure: &Outcome, known: Option<&Outcome>) -> bool {
    known.is_none_or(|known| classify::is_out_of_reach(known) || !classify::is_out_of_reach(failure))
}

fn told(candidates: &[crate::route::Candidate]) -> Vec<Candidate> {
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

/// Those for whom the host has no room in this transaction are offered again at once: they are not named. Not when it has
/// no room for anybody: then they wait, or it would be asked for ever.
fn once_more(mut fates: Vec<(u32, Fate)>) -> Vec<(u32, Fate)> {
    if fates.iter().any(|(_, fate)| !matches!(fate, Fate::Again(_))) {
        fates.retain(|(_, fate)| !matches!(fate, Fate::Again(_)));
    }
    fates
}

/// What a message means that this host has no way for; where another host may take it later, in that one's words.
fn unfit(host: &Host, why: classify::Unfit, others: Others, before: Option<&Outcome>) -> Fate {
    in_earlier_words(classify::unfit(host, why, others), before)
}

fn in_earlier_words(fate: Fate, before: Option<&Outcome>) -> Fate {
    match (fate, before) {
        (Fate::Settled(outcome), Some(before)) if outcome.verdict == Verdict::Deferred => {
            Fate::Settled(before.clone())
        }
        (fate, _) => fate,
    }
}

/// Those who were delivered went over this TLS.
fn over(tls: Option<&Arc<TlsUsed>>, mut fates: Vec<Fate>) -> Vec<Fate> {
    for fate in &mut fates {
        if let Fate::Settled(outcome) = fate
            && matches!(outcome.verdict, Verdict::Delivered { .. })
        {
            outcome.tls = tls.cloned();
        }
    }
    fates
}

/// Under `uncertain = "hold"` nothing goes out of which a crash would leave no trace.
fn unwritten(host: &Host, error: &CommitError) -> Outcome {
    const NOT_WRITTEN: EnhancedStatus = EnhancedStatus::new(4, 3, 0);
    let reason = format!("not sent, because the spool could not write down first that it would be: {error}");
    Outcome { host: Some(host.clone()), ..Outcome::local(Verdict::Deferred, NOT_WRITTEN, reason) }
}

fn host(hop: &NextHop) -> Host {
    Host::at(&hop.host, hop.address)
}

fn for_all(recipients: &[u32], outcome: &Outcome) -> Vec<(u32, Outcome)> {
    recipients.iter().map(|recipient| (*recipient, outcome.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_out_of_reach_does_not_hide_what_another_did() {
        let outcome = |reason: &str| Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), reason);
        let refused = outcome("connecting: Connection refused (os error 111)");
        let silent = outcome("waiting for the greeting: no answer within 5m");
        for (failure, known, more) in [
            (&refused, &silent, false),
            (&silent, &refused, true),
            (&silent, &silent, true),
            (&refused, &refused, true),
        ] {
            assert_eq!(tells_more(failure, Some(known)), more, "{failure} after {known}");
        }
        assert!(tells_more(&refused, None));
    }

    #[test]
    fn a_host_that_may_take_some_later_is_remembered_whomever_else_it_can_never_take() {
        let outcome = |verdict| Outcome::local(verdict, EnhancedStatus::new(4, 3, 0), "said");
        for verdicts in [[Verdict::Deferred, Verdict::Bounced], [Verdict::Bounced, Verdict::Deferred]] {
            let fates = verdicts.map(|verdict| (0, Fate::Elsewhere(outcome(verdict)))).to_vec();
            let (left, why) = sort_out(fates, &mut Vec::new());
            assert_eq!((left.len(), why.unwrap().verdict), (2, Verdict::Deferred));
        }
    }
}
