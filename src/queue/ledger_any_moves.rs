//! Any moves in any order: the ledger's parts agree after each, and in the end nothing is left behind.

use proptest::prelude::*;

use super::super::deadlines::Deadline;
use super::*;
use crate::mail::{ByMode, EnhancedStatus, Verdict};
use crate::queue::{Allowance, Allowances, Rate};

const T0: Timestamp = Timestamp::from_millis(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const GROUPS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Move {
    /// To these groups, by bits; so many milliseconds after its name was given; with a release and a deadline of its own,
    /// in seconds.
    Enter(u8, u16, Option<u16>, Option<(u16, bool)>),
    Pass(u32),
    /// Takes the next piece of work.
    Take,
    /// One of those under way ends, in one of several ways.
    End(usize, u8),
    Hold(usize),
    Release(usize),
    Forget(usize),
    Hasten(usize),
    HastenAll(Option<u8>),
    Limits(u8),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (1u8..8, 0u16..2000, prop::option::weighted(0.2, 1u16..), any_deadline())
            .prop_map(|(groups, late, release, deadline)| Move::Enter(groups, late, release, deadline)),
        4 => (0u32..20_000_000).prop_map(Move::Pass),
        8 => Just(Move::Take),
        8 => (any::<usize>(), 0u8..8).prop_map(|(which, how)| Move::End(which, how)),
        1 => any::<usize>().prop_map(Move::Hold),
        1 => any::<usize>().prop_map(Move::Release),
        1 => any::<usize>().prop_map(Move::Forget),
        1 => any::<usize>().prop_map(Move::Hasten),
        1 => prop::option::of(0u8..3).prop_map(Move::HastenAll),
        1 => (1u8..60).prop_map(Move::Limits),
    ]
}

fn any_deadline() -> impl Strategy<Value = Option<(u16, bool)>> {
    prop::option::weighted(0.3, (1u16.., any::<bool>()))
}

struct World {
    ledger: Ledger,
    now: Timestamp,
    under_way: Vec<Task>,
    last: QueueId,
}

/// Each group has reins of its own.
fn allowances() -> Allowances {
    let rate = |count| Some(Rate { count, per: HOUR });
    let of = |at_once, messages, connections| Allowance { at_once, messages, connections };
    let groups = [("a", of(Some(2), None, rate(30))), ("b", of(None, rate(60), None))];
    let groups = groups.map(|(name, allowance)| (name.to_owned(), allowance)).into();
    Allowances { groups, domains: Vec::new() }
}

fn group(index: usize) -> Destination {
    Destination::Upstream(GROUPS[index].into())
}

fn down() -> Outcome {
    Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "down")
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            expire_after: HOUR * 48,
            delay_after: Some(HOUR * 4),
            longest_wait: Duration::from_secs(365 * 86_400),
            per_destination: 3,
            total: 9,
            messages: 1000,
            notices: Rate { count: 60, per: HOUR },
            deliveries: Some(Rate { count: 600, per: HOUR }),
            allowances: allowances().into(),
            safety_net: None,
        };
        Self { ledger: Ledger::new(limits), now: T0, under_way: Vec::new(), last: QueueId::MIN }
    }

    fn entrant(&self, id: QueueId, groups: u8, late: u16) -> Entrant {
        let mine = (0..GROUPS.len()).filter(|index| groups & (1 << index) != 0);
        Entrant::waiting(
            id,
            self.now + Duration::from_millis(late.into()),
            mine.map(|index| (group(index), self.now)).collect(),
        )
    }

    fn some_id(&self, which: usize) -> Option<QueueId> {
        let ids: Vec<QueueId> = self.ledger.entries.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[which % ids.len()])
    }

    fn act(&mut self, act: Move) {
        let now = self.now;
        match act {
            Move::Enter(groups, late, release, deadline) => {
                self.last = self.last.next().max(QueueId::first_at(now.as_millis()));
                let mut entrant = self.entrant(self.last, groups, late);
                let after = |seconds: u16| Duration::from_secs(seconds.into());
                entrant.aged_from = entrant.aged_from + after(release.unwrap_or(0));
                let mode = |returns| if returns { ByMode::Return } else { ByMode::Notify };
                entrant.asked = Asked {
                    release: release.is_some(),
                    deadline: deadline
                        .map(|(seconds, returns)| Deadline { at: now + after(seconds), mode: mode(returns) }),
                };
                self.ledger.enter_new(entrant, now);
            }
            Move::Pass(millis) => self.now = now + Duration::from_millis(millis.into()),
            Move::Take => {
                if let Taken::Task(task) = self.ledger.take(now) {
                    self.under_way.push(task);
                }
            }
            Move::End(which, how) => self.end(which, how),
            Move::Hold(which) => {
                if let Some(id) = self.some_id(which) {
                    self.ledger.withdraw(id, true, now);
                }
            }
            Move::Release(which) => {
                if let Some(id) = self.some_id(which).filter(|id| self.ledger.is_held(*id)) {
                    self.ledger.withdraw(id, false, now);
                    self.ledger.enter(self.entrant(id, 1, 0), now);
                }
            }
            Move::Forget(which) => {
                if let Some(id) = self.some_id(which) {
                    self.ledger.forget(id, now);
                }
            }
            Move::Hasten(which) => {
                if let Some(id) = self.some_id(which) {
                    self.ledger.hasten(id, now);
                }
            }
            Move::HastenAll(which) => {
                let destination = which.map(|index| group(index.into()));
                self.ledger.wake(destination.as_ref(), now);
                self.ledger.hasten_some(destination.as_ref(), None, now);
            }
            Move::Limits(hours) => {
                let expire_after = HOUR * hours.into();
                self.ledger.set_limits(Limits { expire_after, ..self.ledger.limits.clone() }, now);
            }
        }
    }

    fn end(&mut self, which: usize, how: u8) {
        if self.under_way.is_empty() {
            return;
        }
        let task = self.under_way.swap_remove(which % self.under_way.len());
        let (now, duty) = (self.now, task.duty());
        let ledger = &mut self.ledger;
        let again_at = (how == 0).then(|| now + HOUR);
        match task {
            Task::Deliver { id, line, .. } => match how {
                0 => {
                    ledger.settle_share(id, line, Some(now + HOUR), now);
                }
                1 => ledger.put_back(id, line, Some(now), now),
                6 => {
                    ledger.settle_complaint(id, line, Some(now + HOUR), &down(), now);
                }
                7 => match ledger.may_connect(line, now) {
                    Err(until) => ledger.put_off(id, line, until, now),
                    Ok(()) => {
                        ledger.connects(line, now);
                        ledger.slow_down(line, &down(), now);
                        ledger.unreachable(id, line, true, down(), None, now);
                    }
                },
                2 | 3 => {
                    ledger.unreachable(id, line, true, down(), None, now);
                }
                _ => {
                    ledger.settle_share(id, line, None, now);
                }
            },
            Task::Expire { id, destination, .. } => {
                if how == 0 {
                    ledger.put_back_expired(id, &destination, now + HOUR, now);
                } else if how == 1 && ledger.contains(id) {
                    ledger.owes_report(id);
                }
            }
            Task::Doubt { id } => ledger.look_at_doubt_again(id, now + HOUR),
            Task::Delay { id } => ledger.delay_ended(id, again_at),
            Task::Report { id } => ledger.report_ended(id, again_at),
            Task::Tell { id } => {
                ledger.tell_asleep(id, now);
            }
        }
        ledger.end_work(duty);
    }

    /// Who waits by the entries waits by the lines, and nobody else.
    fn check(&self) {
        let ledger = &self.ledger;
        let mut waiting = 0;
        for (id, entry) in ledger.entries.iter() {
            for (line, due) in entry.waiting() {
                waiting += 1;
                assert!(ledger.lines.get(line).holds(*id, due), "{id} does not stand in its line");
            }
            assert!(!entry.held || entry.waiting().next().is_none(), "{id} is held and waits");
        }
        for line in ledger.lines() {
            assert!(line.window() <= line.limits().window_max, "{}", line.destination());
        }
        assert_eq!(waiting, ledger.lines().map(Line::waiting).sum::<usize>());
        assert_eq!(ledger.under_way, self.under_way.len());
        let deliveries = self.under_way.iter().filter(|task| matches!(task, Task::Deliver { .. })).count();
        assert_eq!(deliveries as u32, ledger.lines().map(Line::in_flight).sum::<u32>());
        assert!(ledger.by_age <= ledger.limits.by_age_max() && ledger.under_way <= ledger.limits.total);
    }

    /// From now on everybody answers: all that is not held is delivered.
    fn run_out(&mut self) {
        for _ in 0..100_000 {
            while !self.under_way.is_empty() {
                self.end(0, 5);
            }
            match self.ledger.take(self.now) {
                Taken::Task(task) => self.under_way.push(task),
                Taken::Again => {}
                Taken::Wait(Some(at)) => {
                    assert!(at > self.now, "whoever waits until now spins");
                    self.now = at;
                }
                Taken::Wait(None) => break,
            }
            self.check();
        }
        for (id, entry) in self.ledger.entries.iter() {
            assert!(entry.shares.as_slice().is_empty(), "{id} waits for ever");
        }
        assert_eq!(self.ledger.lines().count(), 0, "a line is left");
        let ids = self.ledger.ids_after(None);
        ids.into_iter().for_each(|id| self.ledger.forget(id, self.now));
        assert!(self.ledger.deadlines.is_idle(), "a deadline is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn after_any_moves_the_parts_agree_and_nothing_waits_for_ever(moves in prop::collection::vec(any_move(), 1..150)) {
        let mut world = World::new();
        for act in moves {
            world.act(act);
            world.check();
        }
        world.run_out();
    }
}
