//! The loop that carries out what the queue hands out: deliveries, expiries, notices.
//!
//! Contract: each piece of work runs as a task of its own; the queue decides how many run at once. A task that
//! panics loses its lease, nothing else: the message goes back in line.
//! Not here: what a failure means (`deliver`), when something is tried again (`queue`), what a notice says (`notice`).

use std::sync::{Arc, RwLock};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::deliver::{Courier, Report};
use crate::mail::{Content, Origin};
use crate::notice;
use crate::queue::{Debt, Delivery, Dispatch, Incoming, Owed, OwedMessage, Slumber, Work};
use crate::route::{Asleep, Router};

/// Whoever does the work of one relay.
pub(super) struct Workers {
    pub queue: Dispatch,
    pub courier: Courier,
    /// Keeps the outages.
    pub router: Arc<Router>,
    pub clock: Clock,
    pub notices: Arc<RwLock<notice::Settings>>,
}

impl Workers {
    /// Works until the queue is closed, then finishes what is under way.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                work = self.queue.next() => match work {
                    Some(work) => {
                        let workers = Arc::clone(&self);
                        tasks.spawn(async move { workers.carry_out(work).await });
                    }
                    None => break,
                },
                Some(ended) = tasks.join_next() => report_panic(ended),
            }
        }
        while let Some(ended) = tasks.join_next().await {
            report_panic(ended);
        }
        self.courier.close().await;
    }

    async fn carry_out(&self, work: Work) {
        match work {
            Work::Deliver(delivery) => self.deliver(delivery).await,
            Work::Expire(expiry) => expiry.expire().await,
            Work::Notify(owed) => self.notify(owed).await,
            Work::Tell(parked) => parked.tell().await,
        }
    }

    async fn deliver(&self, mut delivery: Delivery) {
        let Some(job) = delivery.open().await else { return };
        let began = self.clock.now();
        let report = self.courier.attempt(&delivery, &job).await;
        let taken = self.clock.now().since(began);
        let arrived = job.message.arrived_at;
        let asleep = |Slumber { since, waiting }| Asleep { since, waiting, arrived };
        match report {
            Report::Answered(outcomes) => {
                if let Some(slumber) = delivery.settle(&job, &outcomes, taken).await {
                    self.router.destination_woke(&job.destination, &asleep(slumber));
                }
            }
            Report::Unreachable { outcome, not_before } => {
                let found = delivery.unreachable(&job, outcome.clone(), not_before, taken).await;
                if let Some(slumber) = found {
                    self.router.destination_slept(&job.destination, &asleep(slumber), &outcome);
                }
            }
            Report::NotBefore(at) => delivery.put_off(at),
        }
    }

    async fn notify(&self, mut owed: Owed) {
        let Some(message) = owed.open().await else { return };
        for debt in &message.debts {
            // Nobody to tell: the rules owe nothing to the null reverse-path, so there is no such debt.
            let Some(notice) = self.write(&message, debt) else { continue };
            if let Err(error) = owed.pay(debt, notice).await {
                owed.postpone(&error);
                return;
            }
        }
    }

    fn write(&self, owed: &OwedMessage, debt: &Debt) -> Option<Incoming> {
        let stored = &owed.message;
        let kind = match debt {
            Debt::Delayed { retry_until, next_attempt, .. } => {
                notice::Kind::Delayed { retry_until: *retry_until, next_attempt: *next_attempt }
            }
            Debt::Failed { .. } => notice::Kind::Failed,
            Debt::Relayed { .. } => notice::Kind::Relayed,
        };
        let settings = self.notices.read().expect("no holder panics").clone();
        let original: Option<Bytes> = owed.content.as_ref().map(Content::to_bytes);
        let recipients = debt.recipients().iter().map(|(index, outcome)| notice::Reported {
            recipient: &stored.envelope.recipients[*index as usize],
            outcome: outcome.as_ref(),
            last_attempt: None,
        });
        let report = notice::Report {
            settings: &settings,
            kind,
            id: stored.id,
            envelope: &stored.envelope,
            origin: &stored.origin,
            arrived_at: stored.arrived_at,
            aged_from: owed.aged_from,
            now: self.clock.now(),
            recipients: recipients.collect(),
            original: original.as_deref().map_or_else(notice::Original::lost, notice::Original::whole),
            chance: self.clock.chance(),
        };
        let notice = notice::write(&report)?;
        let origin = Origin { message_id: Some(notice.message_id), ..Origin::default() };
        Some(Incoming { envelope: notice.envelope, origin, content: notice.content, taken: None })
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a worker panicked; its message is back in line and is tried again in 5 minutes");
    }
}
