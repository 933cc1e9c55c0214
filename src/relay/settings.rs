//! Everything that a relay can be told, as the modules declare it for themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::mail::{Destination, RouteTable};
use crate::queue::WhenUncertain;
use crate::queue::schedule::{Preset, Retry};
use crate::route::{NamesError, SystemNames};
use crate::tracking::Event;
use crate::{accept, deliver, notice, queue, route, spool};

/// Where accepted messages are kept.
#[derive(Clone, Debug)]
pub enum Keep {
    /// In the segment log of a folder: what got a 250 survives a power cut.
    Folder(spool::Settings),
    /// In memory, for simulations and tests: everything is gone with the relay.
    Memory,
    /// On the lying disk of a simulated machine.
    #[cfg(test)]
    Site(spool::Site),
}

/// Where the tracking log goes.
#[derive(Clone, Debug)]
pub enum Track {
    /// JSON Lines files in a folder, each kept for a time after its day.
    Folder { path: PathBuf, keep: Duration },
    /// Nowhere but to [`Relay::events`](super::Relay::events).
    Subscribers,
    /// Into a channel, from the first event on and without a gap, and to [`Relay::events`](super::Relay::events). What
    /// is not taken from it stays in memory: for simulations and tests.
    Channel(UnboundedSender<Arc<Event>>),
}

/// What becomes of a message when the connection dies between its end and the answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uncertainty {
    pub otherwise: WhenUncertain,
    /// Of upstream groups that have a policy of their own.
    pub groups: BTreeMap<String, WhenUncertain>,
}

impl Uncertainty {
    /// The policy for a destination.
    pub fn of(&self, destination: &Destination) -> WhenUncertain {
        let own = match destination {
            Destination::Upstream(group) => self.groups.get(group).copied(),
            _ => None,
        };
        own.unwrap_or(self.otherwise)
    }
}

/// The settings of one relay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name it gives itself in greetings, EHLO, trace fields and notices: fully qualified.
    pub hostname: String,
    pub keep: Keep,
    pub track: Track,
    /// Where it listens; none for a relay that is only fed by [`Relay::submit`](super::Relay::submit).
    pub listeners: Vec<accept::ListenerSettings>,
    pub accept: accept::Settings,
    /// Which destination each recipient's mail has.
    pub routes: RouteTable,
    /// The upstream groups, and what MX routing must know.
    pub route: route::Settings,
    pub retry: Retry,
    pub uncertain: Uncertainty,
    pub queue: queue::Settings,
    pub deliver: deliver::Settings,
    pub notices: notice::Settings,
    /// The folder of `route`'s memory of hosts; without one it forgets them at a restart.
    pub memory: Option<PathBuf>,
    /// DNS servers for `via = "mx"` and host names; none: those of the system.
    pub dns_servers: Vec<std::net::SocketAddr>,
    /// By which keys DNSSEC is believed, for DANE.
    pub trust_anchor: route::TrustAnchor,
}

impl Settings {
    /// A relay in memory without listeners and routes, with the default schedule: a ground to build on.
    pub fn new(hostname: impl Into<String>) -> Self {
        let hostname = hostname.into();
        Self {
            keep: Keep::Memory,
            track: Track::Subscribers,
            listeners: Vec::new(),
            accept: accept::Settings::default(),
            routes: RouteTable::default(),
            route: route::Settings::new(&hostname),
            retry: Preset::Default.retry(),
            uncertain: Uncertainty::default(),
            queue: queue::Settings::default(),
            deliver: deliver::Settings::default(),
            notices: notice::Settings::new(&hostname),
            memory: None,
            dns_servers: Vec::new(),
            trust_anchor: route::TrustAnchor::default(),
            hostname,
        }
    }

    /// Whoever is asked for names.
    pub(super) fn names(&self) -> Result<SystemNames, NamesError> {
        SystemNames::trusting(&self.dns_servers, &self.trust_anchor)
    }
}
