//! `[auth]`: how clients authenticate, and how often they may fail.
//!
//! Contract: known mechanisms, each once; limits that hold for every listener.
//! Not here: the users (`relaying`), where AUTH is offered (`listener`), the limits' work (`accept`).

use std::time::Duration;

use crate::accept::Mechanism;
use crate::config::quantity::Mismatch;
use crate::config::section::{Section, nearest};
use crate::config::tree::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// What may be offered, the best first.
    pub mechanisms: Vec<Mechanism>,
    /// Failures of one client address, or one name, after which both wait.
    pub failures: u32,
    /// For how long a failure counts, and the longest wait.
    pub window: Duration,
}

impl Default for Auth {
    fn default() -> Self {
        Self { mechanisms: Mechanism::ALL.to_vec(), failures: 5, window: Duration::from_secs(15 * 60) }
    }
}

impl Auth {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let mechanisms = section.list("mechanisms", mechanism);
        if section.is_empty_list("mechanisms") {
            let hint = "name one at least; auth = \"none\" in [[listener]] turns AUTH off";
            let problem = "auth.mechanisms is empty";
            section.report.fault(section.place_of("mechanisms"), problem, None, Some(hint.into()));
        }
        let auth = Self {
            mechanisms: mechanisms.unwrap_or(default.mechanisms),
            failures: section.count("failures", 1, 1_000).unwrap_or(default.failures),
            window: section.duration("window", Duration::from_secs(60)).unwrap_or(default.window),
        };
        section.done();
        auth
    }
}

fn mechanism(value: &Value) -> Result<Mechanism, Mismatch> {
    let names = Mechanism::ALL.map(Mechanism::name);
    let mismatch = || Mismatch::new(format!("one of {}", names.map(|name| format!("\"{name}\"")).join(", ")));
    let text = value.text().ok_or_else(mismatch)?;
    text.parse().map_err(|()| match nearest(&text.to_ascii_uppercase(), &names) {
        Some(near) => mismatch().hint(format!("write \"{near}\"")),
        None => mismatch(),
    })
}
