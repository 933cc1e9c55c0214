//! The one way of a changed progress into the spool.
//!
//! Contract: [`Inner::write_down`] keeps spool, ledger and progress of a message together: a message with nothing left
//! to do leaves both, or stays in the spool for the safety net; reports that are owed get their turn; a recipient whose
//! route has changed gets into his line.
//! Invariants: a message stays while one of its deliveries runs or one of its notices is being committed.
//! Not here: how the progress changes (`progress`, `settle`, `operate`).

use super::intake::entrant;
use super::ledger::Ledger;
use super::{Inner, Open, progress};
use crate::clock::Timestamp;
use crate::mail::{Destination, QueueId};
use crate::spool::{Commit, Durability, Progress};

/// A progress on its way into the spool. Whoever has the message on lease waits for it before he gives the lease back,
/// so that nobody reads an older one.
#[derive(Default)]
#[must_use = "wait for it before the lease ends"]
pub(super) struct Written(Option<Commit<()>>);

impl Written {
    pub async fn wait(self) {
        let Some(commit) = self.0 else { return };
        if let Err(error) = commit.await {
            // It counts in memory, and the spool, which has said so to people, writes it itself once the disk works again.
            tracing::debug!(%error, "an outcome is not on disk yet");
        }
    }
}

impl Inner {
    pub(super) fn write_down(
        &self,
        ledger: &mut Ledger,
        open: &Open,
        id: QueueId,
        durability: Durability,
        now: Timestamp,
    ) -> Written {
        if !ledger.contains(id) {
            // Set aside or removed meanwhile by another who worked on it.
            return Written(None);
        }
        let over = progress::is_over(&open.progress) && open.paying == 0 && !ledger.is_delivering(id);
        if over && ledger.kept.wants(&open.progress) {
            let progress = Progress { kept_since: Some(now), ..open.progress.clone() };
            ledger.forget(id, now);
            ledger.kept.insert(id, now, open.stored.size);
            return Written(Some(self.spool.settle(id, &progress, durability)));
        }
        // What is removed is synced a little later; what must be on disk now is written first.
        let commit = (!over || durability == Durability::Synced)
            .then(|| self.spool.settle(id, &open.progress, durability));
        if over {
            self.spool.remove(id);
            ledger.forget(id, now);
            return Written(commit);
        }
        ledger.kept.set_in_part(id, !open.progress.handed_over.is_empty());
        ledger.set_uncertain(id, open.progress.recipients.iter().any(progress::is_uncertain));
        if progress::owes_report(&open.progress) {
            ledger.owes_report(id);
        }
        self.reline(ledger, open, id, now);
        Written(commit)
    }

    /// Puts the recipients who wait into the lines where they now belong, if one of them is not there.
    pub(super) fn reline(&self, ledger: &mut Ledger, open: &Open, id: QueueId, now: Timestamp) {
        let entrant = entrant(&open.stored, &open.progress, &open.in_hand, &*self.rules, now);
        let lines = ledger.shares(id);
        let in_line = |destination: &Destination| lines.iter().any(|(of, _)| of == destination);
        if !entrant.held && !entrant.shares.iter().all(|(destination, _)| in_line(destination)) {
            ledger.withdraw(id, false, now);
            ledger.enter(entrant, now);
        }
    }
}
