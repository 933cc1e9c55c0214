//! `[settings]`: what the relay of a scenario is told, in the words of its own configuration.
//!
//! Contract: the sections that make a difference in a rehearsal, read as the configuration reads them; whatever is not
//! given is the default that it has there. Sections that have no meaning without sockets and disks are faults.
//! Not here: upstreams and routes, which are the scenario's own (`upstream`).

use std::path::Path;
use std::time::Duration;

use crate::config::section::Section;
use crate::config::{Delivery, Dns, Limits, Notices, Retry, Timeouts, hostname};
use crate::notice;
use crate::relay;

/// Changes to a relay's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    hostname: Option<String>,
    retry: Retry,
    notices: Notices,
    delivery: Delivery,
    timeouts: Timeouts,
    limits: Limits,
    dns: Dns,
}

impl Settings {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let hostname = hostname(&mut section);
        let retry = Retry::read(section.section("retry"));
        let notices = Notices::read(section.section("notices"), &retry);
        let delivery = Delivery::read(section.section("delivery"));
        let timeouts = Timeouts::read(section.section("timeouts"));
        let limits = Limits::read(section.section("limits"));
        let dns_section = section.section("dns");
        for key in ["servers", "trust_anchor"] {
            if dns_section.has(key) {
                let problem = "the DNS of a scenario is its zone";
                let hint = format!("take {key} out, and write what it shall answer into zone");
                section.report.fault(dns_section.place_of(key), problem, None, Some(hint));
            }
        }
        let dns = Dns::read(dns_section, Path::new(""));
        section.done();
        Self { hostname, retry, notices, delivery, timeouts, limits, dns }
    }

    /// When a message is given up.
    pub fn expire_after(&self) -> Duration {
        self.retry.expire_after
    }

    pub(super) fn apply(&self, settings: &mut relay::Settings) {
        if let Some(hostname) = &self.hostname {
            settings.hostname = hostname.clone();
            settings.route.hostname = hostname.clone();
            settings.notices = notice::Settings::new(hostname);
        }
        settings.notices.language = self.notices.language;
        settings.retry = self.retry.schedule(&self.notices);
        settings.queue = self.delivery.queue(&self.limits, &self.notices);
        settings.deliver = self.delivery.deliver(&self.timeouts);
        settings.accept.limits = self.limits.accept();
        settings.route.refuse = self.dns.refuse.clone();
        settings.route.dane = self.dns.dane;
    }
}
