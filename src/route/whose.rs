//! Whose delivery it was: which upstream group's host took a message.
//!
//! Contract: judged by the groups as they are now, since a delivery writes down the host and the destination, and a group
//! may have stood in for another.
//! Not here: which deliveries are asked about (`queue`, `admin`).

use super::router::Router;
use super::upstream_url::UpstreamHost;
use crate::mail::Host;

impl Router {
    /// Whether there is such a group.
    pub fn has_group(&self, name: &str) -> bool {
        self.settings().groups.contains_key(name)
    }

    /// Whether `upstream` took what was for this destination, as it is shown, from a delivery to this host. A host that
    /// several groups have took it for the one that the mail was for; one that no group has (any more) took it for the
    /// destination. `mx` stands for all domains that are reached by their MX records.
    pub fn took(&self, upstream: &str, destination: &str, host: Option<&Host>) -> bool {
        let settings = self.settings();
        let has = |group: &&String| {
            let hosts = &settings.groups[*group].hosts;
            host.is_some_and(|host| hosts.iter().any(|of| is(of, host)))
        };
        let owners: Vec<&String> = settings.groups.keys().filter(has).collect();
        let is_mx = destination.starts_with("mx:");
        if owners.is_empty() || is_mx || owners.iter().any(|owner| *owner == destination) {
            return upstream == destination || (upstream == "mx" && is_mx);
        }
        owners.iter().any(|owner| *owner == upstream)
    }
}

fn is(of: &UpstreamHost, host: &Host) -> bool {
    of.host.eq_ignore_ascii_case(&host.name) && of.port == host.port.unwrap_or(25)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Memory, Settings, Zone};
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::net::Network;

    #[tokio::test(start_paused = true)]
    async fn who_took_a_message_is_told_by_its_host_and_in_doubt_by_whom_it_was_for() {
        let mut settings = Settings::new("relay.example.org");
        for (name, urls) in
            [("main", "smtp://a.example"), ("backup", "smtp://b.example:2525"), ("twin", "smtp://a.example")]
        {
            settings.groups.insert(name.to_owned(), urls.parse().unwrap());
        }
        let clock = Clock::simulated(Timestamp::from_millis(1_000_000), 1);
        let router = Router::new(settings, clock, Network::System, Arc::new(Zone::new()), Memory::none());
        let host = |name: &str, port| Host { name: name.into(), address: None, port };
        let (a, b, gone) = (host("a.example", None), host("b.example", Some(2525)), host("c.example", None));
        for (upstream, destination, host, expected) in [
            ("main", "main", Some(&a), true),
            ("twin", "main", Some(&a), false),
            ("twin", "twin", Some(&a), true),
            ("main", "main", Some(&b), false),
            ("backup", "main", Some(&b), true),
            ("main", "main", Some(&gone), true),
            ("main", "main", None, true),
            ("mx", "mx:example.org", Some(&gone), true),
            ("mx:example.org", "mx:example.org", Some(&a), true),
            ("mx", "main", Some(&a), false),
        ] {
            assert_eq!(
                router.took(upstream, destination, host),
                expected,
                "{upstream} {destination} {host:?}"
            );
        }
        assert!(router.has_group("main") && !router.has_group("mx"));
    }
}
