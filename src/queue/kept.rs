//! The safety net: what was delivered, and is kept for a while, in case that whoever took it has lost it.
//!
//! Contract: `insert` takes in a message that is done with, `take` gives one back to the queue, and `let_go` tells which
//! have been kept long enough. What is in here lies in the spool, and nowhere else in the queue.
//! Invariants: a kept message costs 40 octets of memory and no timer of its own: all are looked at together, once a second
//! at most, and every ten at least. The oldest go first, whatever they go for: their time, a limit of the settings, or the
//! disk, of which the spool's reserve is not for what nobody waits for. A message that still waits for some of its
//! recipients is not in here, but known to be [in part](Kept::in_part): it lies in the spool as long as it waits.
//! Not here: what is sent again, and for whom (`resubmit`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Inner;
use super::ledger::{LOOKS, Ledger};
use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::packed::PackedMap;
use crate::spool::{HandedOver, Progress, SpoolStatus};

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafetyNet {
    /// From the end of a message, when nothing was left to do for it.
    pub hold: Duration,
    /// Beyond so many the oldest go before their time.
    pub max_messages: Option<u64>,
    /// The same, by octets of content.
    pub max_bytes: Option<u64>,
}

/// Between two looks.
const REST: Duration = Duration::from_secs(1);
/// The disk is looked at this much later although nothing moves: when others have filled it, mail is refused, and then
/// nothing would move while what is kept takes the room.
const PATROL: Duration = Duration::from_secs(10);
/// With less than this free above the spool's reserve, kept messages make room.
const NEAR_RESERVE: u64 = 128 << 20;
/// So much of them at one look: room comes back when whole segments are empty, and they lie there together.
const ROOM_OF_A_LOOK: u64 = 64 << 20;
/// Between two warnings that some go before their time.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60 * 60);

#[derive(Default)]
pub(super) struct Kept {
    settings: Option<SafetyNet>,
    /// Since when.
    messages: PackedMap<QueueId, Timestamp>,
    /// The same in the order of that, with octets of content.
    order: PackedMap<(Timestamp, QueueId), u64>,
    bytes: u64,
    /// Messages that wait for some recipients, and were handed over for others: they are there as long as they wait.
    in_part: BTreeSet<QueueId>,
    next_look: Timestamp,
    warned_at: Option<Timestamp>,
}

impl Kept {
    pub fn new(settings: Option<SafetyNet>) -> Self {
        Self { settings, ..Self::default() }
    }

    pub fn set(&mut self, settings: Option<SafetyNet>) {
        self.settings = settings;
        self.next_look = Timestamp::default();
    }

    pub fn is_on(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether a message that is done with is kept: somebody has taken responsibility for some of it.
    pub fn wants(&self, progress: &Progress) -> bool {
        self.is_on() && !progress.handed_over.is_empty()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Since when a message is kept.
    pub fn since(&self, id: QueueId) -> Option<Timestamp> {
        self.messages.get(&id).copied()
    }

    /// Until when.
    pub fn until(&self, id: QueueId) -> Option<Timestamp> {
        Some(self.since(id)? + self.settings?.hold)
    }

    /// `size`: octets of content.
    pub fn insert(&mut self, id: QueueId, since: Timestamp, size: u64) {
        self.take(id);
        self.messages.insert(id, since);
        self.order.insert((since, id), size);
        self.bytes += size;
    }

    /// It is kept no longer. Gives back since when it was.
    pub fn take(&mut self, id: QueueId) -> Option<(Timestamp, u64)> {
        let since = self.messages.remove(&id)?;
        let size = self.order.remove(&(since, id)).expect("who is kept stands in the order");
        self.bytes -= size;
        Some((since, size))
    }

    /// Whether a message that waits was handed over for some of its recipients.
    pub fn set_in_part(&mut self, id: QueueId, is_in_part: bool) {
        if is_in_part && self.is_on() {
            self.in_part.insert(id);
        } else {
            self.in_part.remove(&id);
        }
    }

    pub fn is_in_part(&self, id: QueueId) -> bool {
        self.in_part.contains(&id)
    }

    /// All of these.
    pub fn in_part(&self) -> Vec<QueueId> {
        self.in_part.iter().copied().collect()
    }

    /// Some messages behind this place, in the order in which they came here.
    pub fn after(&self, place: (Timestamp, QueueId)) -> Vec<(Timestamp, QueueId)> {
        self.order.iter_after(&place).map(|(place, _)| *place).take(LOOKS).collect()
    }

    /// Some messages behind this one, in the order of their names.
    pub fn ids_after(&self, id: Option<QueueId>) -> Vec<QueueId> {
        match id {
            Some(id) => self.messages.iter_after(&id).map(|(id, _)| *id).take(LOOKS).collect(),
            None => self.messages.keys().copied().take(LOOKS).collect(),
        }
    }

    /// When somebody is to look again; `None`: nothing is kept.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let ((since, _), _) = self.order.first_key_value()?;
        let hold = self.settings.map_or(Duration::ZERO, |settings| settings.hold);
        let at = if self.is_beyond() { self.next_look } else { (*since + hold).max(self.next_look) };
        Some(at.min(self.next_look + PATROL))
    }

    /// Whether a look is worth it now: not more often than once a second.
    pub fn is_time(&self, now: Timestamp) -> bool {
        // A clock that was set back is looked at, too.
        !self.order.is_empty() && (self.next_look <= now || now + REST < self.next_look)
    }

    fn is_beyond(&self) -> bool {
        let Some(SafetyNet { max_messages, max_bytes, .. }) = self.settings else { return true };
        max_messages.is_some_and(|max| self.len() as u64 > max)
            || max_bytes.is_some_and(|max| self.bytes > max)
    }

    /// The messages that go now. They are not kept any more.
    pub fn let_go(&mut self, spool: &SpoolStatus, now: Timestamp) -> Vec<QueueId> {
        let is_low = spool.free_bytes.is_some_and(|free| free < spool.min_free + NEAR_RESERVE);
        let room_from = self.bytes;
        let (mut gone, mut early) = (Vec::new(), 0);
        while let Some(((since, id), _)) = self.order.first_key_value().map(|(key, size)| (*key, *size)) {
            let is_old = self.settings.is_none_or(|settings| since + settings.hold <= now);
            let makes_room = is_low && room_from - self.bytes < ROOM_OF_A_LOOK;
            if gone.len() >= LOOKS || !(is_old || makes_room || self.is_beyond()) {
                break;
            }
            self.take(id);
            gone.push(id);
            early += u64::from(!is_old);
        }
        // A full look may have left some.
        self.next_look = if gone.len() >= LOOKS { now } else { now + REST };
        self.warn(early, is_low, now);
        gone
    }

    fn warn(&mut self, early: u64, is_low: bool, now: Timestamp) {
        let is_known = self.warned_at.is_some_and(|at| at <= now && now < at + BETWEEN_WARNINGS);
        if early == 0 || is_known {
            return;
        }
        self.warned_at = Some(now);
        let (kept, octets) = (self.len(), self.bytes);
        if is_low {
            tracing::warn!(
                kept,
                octets,
                "the disk is nearly full: the safety net lets the oldest messages go before their time"
            );
        } else {
            tracing::warn!(
                kept,
                octets,
                "the safety net is full: the oldest messages go before their time; see [safety_net]"
            );
        }
    }
}

/// Somebody took responsibility for these recipients; what was known of them before is of no use any more.
pub(super) fn hand_over(progress: &mut Progress, at: Timestamp, destination: &str, recipients: Vec<u32>) {
    take_back(progress, &recipients);
    if !recipients.is_empty() {
        let destination = destination.to_owned();
        progress.handed_over.push(HandedOver { at, destination, recipients });
    }
}

/// Nobody has responsibility for these recipients but we.
pub(super) fn take_back(progress: &mut Progress, recipients: &[u32]) {
    for known in &mut progress.handed_over {
        known.recipients.retain(|index| !recipients.contains(index));
    }
    progress.handed_over.retain(|known| !known.recipients.is_empty());
}

impl Inner {
    /// Forgets what the safety net has kept long enough.
    pub(super) fn let_go(&self, ledger: &mut Ledger, now: Timestamp) {
        if ledger.kept.is_time(now) {
            for id in ledger.kept.let_go(&self.spool.status(), now) {
                self.spool.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn id(n: u64) -> QueueId {
        QueueId::from_u64(n)
    }

    fn kept(settings: SafetyNet) -> Kept {
        let mut kept = Kept::new(Some(settings));
        for n in 0..10_u32 {
            kept.insert(id(n.into()), T0 + Duration::from_secs(1) * n, 1000);
        }
        kept
    }

    const PLAIN: SafetyNet = SafetyNet { hold: HOUR, max_messages: None, max_bytes: None };

    fn roomy() -> SpoolStatus {
        SpoolStatus { free_bytes: Some(u64::MAX), ..SpoolStatus::default() }
    }

    #[test]
    fn the_oldest_go_when_their_time_is_over() {
        let mut kept = kept(PLAIN);
        assert_eq!(kept.let_go(&roomy(), T0), []);
        assert_eq!(kept.wakes_at(), Some(T0 + REST + PATROL), "the disk may fill by others");
        let now = T0 + HOUR + Duration::from_secs(3);
        assert_eq!(kept.let_go(&roomy(), now), [id(0), id(1), id(2), id(3)]);
        assert!(!kept.is_time(now), "not at once again");
        assert_eq!(kept.wakes_at(), Some(now + REST));
        assert_eq!((kept.len(), kept.since(id(3)), kept.until(id(4))), (6, None, Some(now + REST)));
        assert_eq!(kept.let_go(&roomy(), now + HOUR).len(), 6);
        assert_eq!((kept.wakes_at(), kept.bytes), (None, 0));
    }

    #[test]
    fn more_than_one_look_takes_go_at_once_and_a_clock_that_was_set_back_stops_nothing() {
        let mut kept = Kept::new(Some(PLAIN));
        for n in 0..=LOOKS as u64 {
            kept.insert(id(n), T0, 1);
        }
        let now = T0 + HOUR;
        assert_eq!(kept.let_go(&roomy(), now).len(), LOOKS);
        assert!(kept.is_time(now), "the last one goes now");
        assert_eq!(kept.let_go(&roomy(), now).len(), 1);
        kept.insert(id(0), T0, 1);
        assert!(!kept.is_time(now) && kept.is_time(now - HOUR), "by a clock that was set back");
    }

    #[test]
    fn beyond_a_limit_the_oldest_go_before_their_time() {
        for settings in
            [SafetyNet { max_messages: Some(7), ..PLAIN }, SafetyNet { max_bytes: Some(7999), ..PLAIN }]
        {
            let mut kept = kept(settings);
            assert_eq!(kept.wakes_at(), Some(Timestamp::default()), "at once");
            assert_eq!(kept.let_go(&roomy(), T0), [id(0), id(1), id(2)]);
        }
    }

    #[test]
    fn they_make_room_when_the_disk_is_nearly_full_and_all_go_when_the_net_is_taken_away() {
        let mut kept = kept(PLAIN);
        kept.insert(id(11), T0 - HOUR / 2, 100 << 20);
        let low = SpoolStatus { free_bytes: Some(600 << 20), min_free: 512 << 20, ..SpoolStatus::default() };
        assert_eq!(kept.let_go(&low, T0), [id(11)], "enough for one look");
        kept.set(None);
        assert!(kept.is_time(T0));
        assert_eq!(kept.let_go(&roomy(), T0).len(), 10);
    }

    #[test]
    fn that_some_go_early_is_said_once_an_hour() {
        let mut kept = kept(SafetyNet { max_messages: Some(5), ..PLAIN });
        let mut told = Vec::new();
        for second in 0..2 * 3600 {
            let now = T0 + Duration::from_secs(1) * second;
            kept.insert(id(100 + u64::from(second)), now, 1000);
            kept.let_go(&roomy(), now);
            if kept.warned_at == Some(now) {
                told.push(second);
            }
        }
        assert_eq!(told, [0, 3600]);
    }

    #[test]
    fn a_kept_message_costs_40_octets_before_the_maps() {
        assert_eq!(
            size_of::<QueueId>() + size_of::<Timestamp>() + size_of::<((Timestamp, QueueId), u64)>(),
            40
        );
    }

    #[test]
    fn who_is_handed_over_again_is_so_only_by_the_later_one() {
        let mut progress = Progress::untried(3);
        hand_over(&mut progress, T0, "main", vec![0, 1]);
        hand_over(&mut progress, T0 + HOUR, "backup", vec![1]);
        hand_over(&mut progress, T0 + HOUR, "backup", Vec::new());
        let of = |at: usize| {
            let known = &progress.handed_over[at];
            (known.destination.as_str(), known.recipients.as_slice())
        };
        assert_eq!((of(0), of(1), progress.handed_over.len()), (("main", &[0][..]), ("backup", &[1][..]), 2));
    }
}
