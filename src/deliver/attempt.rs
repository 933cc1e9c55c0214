//! One attempt: the next hops in order, until every recipient has his outcome.

use std::sync::Arc;

use super::classify::{self, Broken, Ended, Trouble};
use super::connection::{Begun, Connection, Opener};
use super::convert::Conversion;
use super::fate::{self, Fate};
use super::lessons::{Known, Lessons};
use super::offer::Offer;
use super::own_answer;
use super::pool::Pool;
use super::redirected::Redirected;
use super::ruling::{Blame, Others, Stage};
use super::settings::Settings;
use super::telling::Teller;
use super::tls_wish;
use super::unfit;
use crate::clock::{Clock, Timestamp};
use crate::mail::{BodyType, EnhancedStatus, Host, Outcome, Verdict};
use crate::net::{ClientTls, Network};
use crate::queue::{Delivery, Job};
use crate::route::{NextHop, Pass, Plan, Router, TlsWish, Unroutable};
use crate::spool::CommitError;
use crate::tracking::Tracking;

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
    lessons: Lessons,
    tracking: Tracking,
    clock: Clock,
}

/// What one host made of the message.
enum AtHost {
    /// There was no talking with it.
    OutOfReach(Outcome),
    /// It could not be used at all.
    Failed(Outcome),
    /// A fate for each recipient that it was offered, by his number. Those for whom it had no room are not named: they
    /// wait as if there had been no attempt, and are offered again at once.
    Answered(Vec<(u32, Fate)>),
    /// It was not turned to: no connection may be opened before.
    NotBefore(Timestamp),
}

/// Why no host has taken the message now, though one may later.
#[derive(Default)]
struct Deferral {
    outcome: Option<Outcome>,
    /// It is that of a host which was talked with.
    talked: bool,
}

/// How a transaction went.
enum Offered {
    Answered(AtHost),
    /// The server had ended the connection, which had been open: that says nothing about the message.
    Stale,
    /// Nothing was taken, for the host fails on BDAT: the same again by DATA.
    NotByBdat,
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
        Self {
            settings,
            hostname,
            network,
            tls: ClientTls::system(),
            router,
            pool,
            lessons: Lessons::default(),
            tracking,
            clock,
        }
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
        self.tells(job).route(&plan, began);
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
        let mut deferral = Deferral::default();
        let conversion = Conversion::default();
        for (index, hop) in plan.hops.iter().enumerate() {
            let began = self.clock.now();
            let next = plan.hops.get(index + 1);
            let others = match next {
                Some(_) => Others::Now,
                None if deferral.outcome.is_some() || !plan.complete => Others::Later,
                None => Others::None,
            };
            let first = index == 0;
            let before = deferral.outcome.as_ref();
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
            let (failure, talked) = match self.try_hop(turn).await {
                AtHost::NotBefore(at) => return Report::NotBefore(at),
                AtHost::OutOfReach(outcome) => (outcome, false),
                AtHost::Failed(outcome) => (outcome, true),
                AtHost::Answered(fates) => {
                    answered = true;
                    let (left, elsewhere) = fate::sort_out(fates, &mut outcomes);
                    waiting = left;
                    match elsewhere {
                        Some(outcome) => (outcome, true),
                        None => return Report::Answered(outcomes),
                    }
                }
            };
            if let Some(next) = next {
                self.router.diverted(hop);
                self.tells(job).failover(plan, hop, &failure, next, began);
            }
            deferral.hear(failure, talked);
        }
        let last =
            deferral.outcome.expect("a plan has hops, and the last one settles everybody or has failed");
        if !answered {
            return Report::Unreachable { outcome: last, not_before: self.router.retry_at(plan) };
        }
        outcomes.extend(for_all(&waiting, &last));
        Report::Answered(outcomes)
    }

    /// Offers the message to one host: over a connection that is open already, or a new one, if one may be opened.
    async fn try_hop(&self, turn: Turn<'_>) -> AtHost {
        let hop = turn.hop;
        let pass = match self.router.admit(hop) {
            Ok(pass) => pass,
            Err(outcome) => return AtHost::OutOfReach(outcome),
        };
        let mut by_data = false;
        loop {
            let mut known = self.lessons.of(hop.address);
            known.breaks_chunking |= by_data;
            let connection = match self.kept(hop, &known) {
                Some(connection) => connection,
                // Whoever goes on by DATA has begun already.
                None => match self.open(&turn, &pass, &known, turn.first && !by_data).await {
                    Ok(connection) => connection,
                    Err(at_host) => return at_host,
                },
            };
            match self.offer(connection, &turn, &pass).await {
                Offered::Answered(at_host) => return at_host,
                Offered::Stale => {}
                Offered::NotByBdat => by_data = true,
            }
        }
    }

    /// A connection that is open already, and may carry one more message.
    fn kept(&self, hop: &NextHop, known: &Known) -> Option<Connection> {
        while let Some(mut connection) = self.pool.take(hop) {
            connection.heed(known);
            if self.has_room(&connection) {
                return Some(connection);
            }
            tokio::spawn(connection.quit());
        }
        None
    }

    /// A new connection. Only an attempt that has not begun `asks` whether one may be opened.
    async fn open(
        &self,
        turn: &Turn<'_>,
        pass: &Pass<'_>,
        known: &Known,
        asks: bool,
    ) -> Result<Connection, AtHost> {
        let hop = turn.hop;
        match &turn.job.permits {
            Some(permits) if asks => permits.may_connect().map_err(AtHost::NotBefore)?,
            Some(permits) => permits.connects(),
            None => {}
        }
        let began = self.clock.now();
        let in_clear = |trouble: &Trouble| self.tells(turn.job).in_clear(hop, trouble, began);
        let opener = Opener {
            network: &self.network,
            tls: &self.tls,
            hostname: &self.hostname,
            timeouts: self.settings.timeouts.of_turn(turn.others, pass.is_trial()),
            in_clear: &in_clear,
        };
        match opener.open(hop).await {
            Ok(mut connection) => {
                connection.heed(known);
                Ok(connection)
            }
            Err((stage, trouble)) => Err(not_opened(turn, pass, stage, &trouble)),
        }
    }

    /// One transaction.
    async fn offer(&self, mut connection: Connection, turn: &Turn<'_>, pass: &Pass<'_>) -> Offered {
        let &Turn { hop, delivery, job, of, recipients, others, before, .. } = turn;
        let host = host(hop);
        let began = self.clock.now();
        let age = began.since(job.message.counts_from());
        let envelope = &job.message.envelope;
        let (offered, secured) = (connection.extensions(), connection.tls().is_some());
        let offer = Offer::of(envelope, &job.content, recipients, offered, secured, age, turn.conversion);
        if let Some(facts) = &offer.converted {
            delivery.holds_besides(turn.conversion.octets());
            self.tells(job).converted(&host, facts);
        }
        let unfit = offer
            .unfit
            .iter()
            .map(|(index, why)| (*index, unfit::unfit(&host, *why, others).in_earlier_words(before)));
        let unfit: Vec<(u32, Fate)> = unfit.collect();
        if offer.recipients.is_empty() {
            self.finish(connection);
            return Offered::Answered(AtHost::Answered(unfit));
        }
        let carried = connection.used();
        let goes_by_data = !offered.avoid_chunking
            && (offer.transaction.body != BodyType::BinaryMime || job.content.is_lines());
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
                    return Offered::Answered(AtHost::Answered(fates.chain(unfit).collect()));
                }
                connection.finish().await
            }
        };
        self.lessons.hear(hop.address, &report, carried, trouble.as_ref());
        if report.is_chunking_broken() && goes_by_data {
            self.tells(job).by_data(hop, &report, began);
            return Offered::NotByBdat;
        }
        let ended =
            Ended { host: &host, report: &report, dsn: offer.notifies, lost: trouble.as_ref(), others };
        let broken = ended.broken();
        let before_any = broken.as_ref().is_some_and(|broken| broken.stage == Stage::Mail);
        // Servers end connections that were idle, or that have carried enough; a new one tells more.
        if carried > 0 && before_any {
            return Offered::Stale;
        }
        match &broken {
            None => pass.succeeded(),
            Some(Broken { stage, blame: Blame::Host, outcome }) => pass.failed(stage.word(), outcome),
            Some(Broken { stage, outcome, .. }) => pass.struck(stage.word(), outcome),
        }
        if let Some(broken) = broken.filter(|broken| before_any && broken.outcome.reply.is_some()) {
            return Offered::Answered(AtHost::Failed(broken.outcome));
        }
        let fates = fate::over(connection.tls(), ended.fates());
        let fates = fate::once_more(offer.recipients.into_iter().zip(fates).collect());
        if trouble.is_none() {
            self.finish(connection);
        }
        Offered::Answered(AtHost::Answered(fates.into_iter().chain(unfit).collect()))
    }

    /// Keeps the connection for the next message, or closes it.
    fn finish(&self, mut connection: Connection) {
        if !connection.is_ready() {
            return;
        }
        if self.has_room(&connection) {
            self.pool.park(connection);
        } else {
            tokio::spawn(connection.quit());
        }
    }

    /// For one more message.
    fn has_room(&self, connection: &Connection) -> bool {
        let mail_max = connection.extensions().limits.mail_max.unwrap_or(u32::MAX);
        connection.used() < self.settings.messages_per_connection.min(mail_max)
    }

    fn tells<'a>(&'a self, job: &'a Job) -> Teller<'a> {
        Teller { tracking: &self.tracking, clock: &self.clock, job }
    }

    /// Closes the connections that are kept.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// There is no connection.
fn not_opened(turn: &Turn<'_>, pass: &Pass<'_>, stage: Stage, trouble: &Trouble) -> AtHost {
    let outcome = classify::of_host(&host(turn.hop), stage, trouble);
    let no_tls = stage == Stage::StartTls;
    // What one message demands of its TLS makes the host no worse for all others.
    if !(no_tls && turn.hop.security.is_of_one_message()) {
        pass.failed(stage.word(), &outcome);
    }
    if no_tls && tls_wish::is_demanded(&turn.job.message.envelope) {
        let fate = unfit::without_tls(outcome, trouble, turn.others).in_earlier_words(turn.before);
        return AtHost::Answered(turn.recipients.iter().map(|to| (*to, fate.clone())).collect());
    }
    match stage {
        Stage::Connect => AtHost::OutOfReach(outcome),
        _ => AtHost::Failed(outcome),
    }
}

/// Under `uncertain = "hold"` nothing goes out of which a crash would leave no trace.
fn unwritten(host: &Host, error: &CommitError) -> Outcome {
    const NOT_WRITTEN: EnhancedStatus = EnhancedStatus::new(4, 3, 0);
    let reason = format!("not sent, because the spool could not write down first that it would be: {error}");
    Outcome { host: Some(host.clone()), ..Outcome::local(Verdict::Deferred, NOT_WRITTEN, reason) }
}

pub(super) fn host(hop: &NextHop) -> Host {
    Host::at(&hop.host, hop.address)
}

fn for_all(recipients: &[u32], outcome: &Outcome) -> Vec<(u32, Outcome)> {
    recipients.iter().map(|recipient| (*recipient, outcome.clone())).collect()
}

impl Deferral {
    /// The last one counts, but one that was talked with before one that was out of reach: an address that refuses
    /// connections, as that of localhost in the other family, would hide the trouble to look at.
    fn hear(&mut self, failure: Outcome, talked: bool) {
        if failure.verdict != Verdict::Bounced && (talked || !self.talked) {
            *self = Self { outcome: Some(failure), talked };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_out_of_reach_does_not_hide_what_another_did() {
        let outcome = |reason: &str| Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), reason);
        for (heard, last) in [
            (&[("refused", false)][..], "refused"),
            (&[("silent", true), ("refused", false)], "silent"),
            (&[("refused", false), ("silent", true)], "silent"),
            (&[("silent", true), ("shut", true)], "shut"),
            (&[("refused", false), ("no route", false)], "no route"),
        ] {
            let mut deferral = Deferral::default();
            heard.iter().for_each(|(reason, talked)| deferral.hear(outcome(reason), *talked));
            assert_eq!(deferral.outcome.unwrap().reason, last);
        }
    }
}
