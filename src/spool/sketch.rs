//! The living messages while a start takes them in: what their outlines will say, packed.
//!
//! Contract: `begin`, `settle` and `end` follow the log; [`Sketches::into_outlines`] then gives an outline of each, in the
//! order of ids, and gives the memory back as it goes.
//! Not here: where messages lie (`index`).

use std::sync::Arc;

use smallvec::SmallVec;

use super::interned::{DomainId, Interned, SourceId};
use super::note::{Lives, Standing, States, Times};
use super::outline::{Outline, WaitingDomain};
use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::packed::PackedMap;

struct Sketch {
    arrived_at: Timestamp,
    /// Octets of content.
    size: u32,
    source: SourceId,
    domains: SmallVec<[DomainId; 1]>,
    /// Few senders ask for any.
    times: Option<Box<Times>>,
    /// `None`: never settled. Few are, of those that wait behind a dead destination.
    states: Option<Box<States>>,
}

#[derive(Default)]
pub(super) struct Sketches(PackedMap<QueueId, Sketch>);

impl Sketches {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn begin(&mut self, lives: Lives) {
        let Lives { id, arrived_at, content, source, domains, times, states, .. } = lives;
        self.0.insert(id, Sketch { arrived_at, size: content.len(), source, domains, times, states });
    }

    /// Nothing happens when no such message lives.
    pub fn settle(&mut self, id: QueueId, states: Box<States>) {
        if let Some(sketch) = self.0.get_mut(&id) {
            sketch.states = Some(states);
        }
    }

    pub fn end(&mut self, id: QueueId) {
        self.0.remove(&id);
    }

    pub fn into_outlines(mut self, interned: &Interned) -> impl Iterator<Item = Outline> {
        std::iter::from_fn(move || self.0.pop_first().map(|(id, sketch)| sketch.outline(id, interned)))
    }
}

impl Sketch {
    fn outline(self, id: QueueId, interned: &Interned) -> Outline {
        let Self { arrived_at, size, source, domains, times, states } = self;
        let mut outline = Outline {
            id,
            arrived_at,
            held_since: None,
            held_for_ms: 0,
            delay_told: false,
            owes_report: false,
            uncertain: false,
            cut_off: false,
            handed_over: false,
            hold_for: times.as_ref().and_then(|times| times.hold_for),
            deliver_by: times.as_ref().and_then(|times| times.deliver_by),
            size: size.into(),
            kept_since: None,
            resubmitted: None,
            source: Arc::clone(interned.source(source)),
            waiting: SmallVec::new(),
        };
        if let Some(states) = &states {
            outline.held_since = states.held_since;
            outline.held_for_ms = states.held_for_ms;
            outline.delay_told = states.delay_told;
            outline.owes_report = states.owes_report;
            outline.kept_since = states.kept_since;
            outline.resubmitted.clone_from(&states.resubmitted);
            outline.uncertain = states.uncertain;
            outline.cut_off = states.cut_off;
            outline.handed_over = states.handed_over;
        }
        let mut known: SmallVec<[DomainId; 1]> = SmallVec::new();
        for (at, domain) in domains.into_iter().enumerate() {
            let standing =
                states.as_ref().map_or(Some(&Standing::Waits(None)), |states| states.recipients.get(at));
            let Some(Standing::Waits(next_attempt)) = standing else { continue };
            match known.iter().position(|known| *known == domain) {
                // `None` is the least.
                Some(at) => {
                    let waiting = &mut outline.waiting[at];
                    waiting.next_attempt = waiting.next_attempt.min(*next_attempt);
                }
                None => {
                    known.push(domain);
                    let domain = Arc::clone(interned.domain(domain));
                    outline.waiting.push(WaitingDomain { domain, next_attempt: *next_attempt });
                }
            }
        }
        outline
    }
}
