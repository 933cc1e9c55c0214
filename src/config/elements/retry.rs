//! `[retry]`: when a message that was deferred is tried again, and when posthouse gives up.
//!
//! Contract: a preset, whose numbers keys of one's own replace. Only the default preset is a curve with a first
//! wait, a factor and a longest wait; the others are tables, of which only jitter and the end can be changed.
//! Not here: the tables themselves and the next attempt (`queue`).

use std::time::Duration;

use super::Notices;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::queue::schedule::{self, Preset, Steps};

#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub preset: Preset,
    /// The keys that were given, in place of the preset's.
    pub first: Option<Duration>,
    pub factor: Option<f64>,
    pub max: Option<Duration>,
    pub jitter: Option<f64>,
    /// The preset's where it was not given.
    pub expire_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let preset = Preset::Default;
        Self {
            preset,
            first: None,
            factor: None,
            max: None,
            jitter: None,
            expire_after: preset.retry().expire_after,
        }
    }
}

impl Retry {
    /// The schedule: the preset with the keys that were given.
    pub fn schedule(&self, notices: &Notices) -> schedule::Retry {
        let mut retry = self.preset.retry();
        if let Steps::Exponential { first, factor, max } = &mut retry.steps {
            *first = self.first.unwrap_or(*first);
            *factor = self.factor.unwrap_or(*factor);
            *max = self.max.unwrap_or(*max);
        }
        retry.jitter = self.jitter.unwrap_or(retry.jitter);
        retry.expire_after = self.expire_after;
        retry.delay_after = notices.delay_after;
        retry
    }

    pub(crate) fn read(mut section: Section<'_>) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let presets = Preset::ALL.map(|preset| (preset.name(), preset));
        let preset = section.word("preset", &presets).unwrap_or_default();
        let retry = Self {
            preset,
            first: section.duration("first", SECOND),
            factor: section.number("factor", "a number from 1 to 100", |n| (1.0..=100.0).contains(&n)),
            max: section.duration("max", SECOND),
            jitter: section
                .number("jitter", "a fraction from 0 to 1, such as 0.1", |n| (0.0..=1.0).contains(&n)),
            expire_after: section.duration("expire_after", SECOND).unwrap_or(preset.retry().expire_after),
        };
        for key in ["first", "factor", "max"] {
            if preset != Preset::Default && section.has(key) {
                let name = preset.name();
                let problem = format!(
                    "retry.{key} does not go with the preset \"{name}\", which is a table of its own"
                );
                let hint = format!("take {key} out, or the preset");
                section.report.fault(section.place_of(key), problem, None, Some(hint));
            }
        }
        if let (Some(first), Some(max)) = (retry.first, retry.max)
            && first > max
        {
            let mismatch = Mismatch::new(format!("at most max, {}", humantime::format_duration(max)));
            let problem = format!("retry.first is {}", humantime::format_duration(first));
            section.report.fault(section.place_of("first"), problem, Some(mismatch.expected), None);
        }
        section.done();
        retry
    }
}
