//! `[retry]`: when a message that was deferred is tried again, and when posthouse gives up.
//!
//! Contract: a preset, whose numbers keys of one's own replace. Only the default preset is a curve with a first
//! wait, a factor and a longest wait; the others are tables, of which only jitter and the end can be changed.
//! Not here: the tables themselves and the next attempt (`queue`).

use std::time::Duration;

use crate::config::quantity::Mismatch;
use crate::config::section::Section;

/// A schedule of the code. peers.md says where each comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Default,
    Rfc5321,
    Exchange,
    Postfix,
    Transactional,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Preset {
    pub const ALL: [(&str, Preset); 5] = [
        ("default", Self::Default),
        ("rfc5321", Self::Rfc5321),
        ("exchange", Self::Exchange),
        ("postfix", Self::Postfix),
        ("transactional", Self::Transactional),
    ];

    pub fn as_str(self) -> &'static str {
        let (name, _) =
            Self::ALL.iter().find(|(_, preset)| *preset == self).expect("every preset has a name");
        name
    }

    /// After which age it gives up.
    pub fn expire_after(self) -> Duration {
        match self {
            Self::Default | Self::Exchange => 2 * DAY,
            Self::Rfc5321 | Self::Postfix => 5 * DAY,
            Self::Transactional => HOUR,
        }
    }

    /// After which age the sender is told of the delay; nothing: never.
    pub fn delay_after(self) -> Option<Duration> {
        match self {
            Self::Default | Self::Exchange | Self::Rfc5321 => Some(4 * HOUR),
            Self::Postfix => None,
            Self::Transactional => Some(Duration::from_secs(300)),
        }
    }
}

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
            expire_after: preset.expire_after(),
        }
    }
}

impl Retry {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let preset = section.word("preset", &Preset::ALL).unwrap_or(Preset::Default);
        let retry = Self {
            preset,
            first: section.duration("first", SECOND),
            factor: section.number("factor", "a number from 1 to 100", |n| (1.0..=100.0).contains(&n)),
            max: section.duration("max", SECOND),
            jitter: section
                .number("jitter", "a fraction from 0 to 1, such as 0.1", |n| (0.0..=1.0).contains(&n)),
            expire_after: section.duration("expire_after", SECOND).unwrap_or(preset.expire_after()),
        };
        for key in ["first", "factor", "max"] {
            if preset != Preset::Default && section.has(key) {
                let name = preset.as_str();
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
