//! Which policy is in force for which domain: what is remembered, and when it is asked for anew.
//!
//! The rules (RFC 8461 sections 3.3, 5.1 and 10.2): another id in DNS has the policy fetched, and so has one that was
//! fetched more than a day ago; a fetch that fails is not repeated within five minutes, and changes nothing about a
//! policy that is in force. A policy in force stays so until its max_age is over, also when DNS knows of none any more.
//! Invariants: one fetch at a time for a domain; domains without a policy cost no memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fetch::{LIMIT, PolicyServer};
use super::policy::Policy;
use super::record;
use crate::clock::Timestamp;
use crate::route::memory::Memory;

const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// The time of a fetch that mail need not wait for, since it may as well go by the policy in force.
const LIMIT_IN_FORCE: Duration = Duration::from_secs(5);
const REFRESH_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// What the memory of destinations calls its drawer.
const DRAWER: &str = "mta-sts";

/// A policy as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: String,
    fetched_at: Timestamp,
    policy: Policy,
}

impl Kept {
    fn is_in_force(&self, now: Timestamp) -> bool {
        // One from a future comes from a clock that was set back: it ends after its age all the same.
        now < self.fetched_at + Duration::from_secs(self.policy.max_age)
    }
}

/// What is known of one domain.
#[derive(Debug, Default)]
struct Known {
    kept: Option<Kept>,
    /// The last fetch, when it failed.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    id: String,
    at: Timestamp,
    why: String,
}

/// What is known of a domain's policy at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sts {
    pub in_force: Option<InForce>,
    /// Why the policy that DNS tells of could not be fetched; one that is in force stays so.
    pub trouble: Option<String>,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    pub id: String,
    pub policy: Policy,
    pub fetched_at: Timestamp,
    /// It was fetched for this question; else it was kept.
    pub is_new: bool,
}

/// The policies of all domains that have one.
#[derive(Debug, Default)]
pub struct Policies {
    domains: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

impl Policies {
    /// With what is remembered and in force.
    pub fn recall(memory: &Memory, now: Timestamp) -> Self {
        let kept: Vec<(String, Kept)> = memory.recall(DRAWER);
        let (kept, over): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(_, kept)| kept.is_in_force(now));
        over.iter().for_each(|(domain, _)| memory.forget(DRAWER, domain));
        let known = |kept| Arc::new(tokio::sync::Mutex::new(Known { kept: Some(kept), failed: None }));
        let domains = kept.into_iter().map(|(domain, kept)| (domain, known(kept)));
        Self { domains: Mutex::new(domains.collect()) }
    }

    /// What is in force for `domain` (in lower case) at `now`; fetched where it has to be.
    pub async fn of(
        &self,
        domain: &str,
        server: &PolicyServer<'_>,
        refused: impl Fn(SocketAddr) -> Option<String>,
        memory: &Memory,
        now: Timestamp,
    ) -> Sts {
        // An answer that does not come is like none: what is in force stays so.
        let texts = server.names.txt(&format!("_mta-sts.{domain}")).await.unwrap_or_default();
        let id = record::id(&texts);
        let Some(slot) = self.slot(domain, id.is_some()) else { return Sts::default() };
        let mut known = slot.lock().await;
        let mut is_new = false;
        if let Some(id) = id.filter(|id| known.wants(id, now)) {
            let in_force = known.kept.as_ref().is_some_and(|kept| kept.is_in_force(now));
            let limit = if in_force { LIMIT_IN_FORCE } else { LIMIT };
            match server.fetch(domain, limit, refused).await {
                Ok(policy) => {
                    known.keep(domain, id, policy, memory, now);
                    is_new = true;
                }
                Err(error) => {
                    tracing::warn!(
                        domain, %error, in_force,
                        "the MTA-STS policy cannot be fetched; one that is in force stays so until its max_age is over"
                    );
                    known.failed = Some(Failed { id: id.to_owned(), at: now, why: error.to_string() });
                }
            }
        }
        if known.kept.as_ref().is_some_and(|kept| !kept.is_in_force(now)) {
            known.kept = None;
            memory.forget(DRAWER, &domain);
        }
        let in_force = known.kept.as_ref().map(|kept| InForce {
            id: kept.id.clone(),
            policy: kept.policy.clone(),
            fetched_at: kept.fetched_at,
            is_new,
        });
        let of_this_id = |failed: &&Failed| id == Some(failed.id.as_str());
        let trouble = known.failed.as_ref().filter(of_this_id).map(|failed| failed.why.clone());
        Sts { in_force, trouble }
    }

    /// The place of a domain; one that has no record and no policy gets none.
    fn slot(&self, domain: &str, has_record: bool) -> Option<Arc<tokio::sync::Mutex<Known>>> {
        let mut domains = self.domains.lock().expect("no holder panics");
        if !has_record {
            // Its last policy is over, and nobody fetches.
            let over = domains.get(domain)?.try_lock().is_ok_and(|known| known.kept.is_none());
            if over {
                domains.remove(domain);
                return None;
            }
            return domains.get(domain).cloned();
        }
        Some(Arc::clone(domains.entry(domain.to_owned()).or_default()))
    }
}

impl Known {
    fn wants(&self, id: &str, now: Timestamp) -> bool {
        if let Some(failed) = &self.failed
            && failed.id == id
            && now < failed.at + RETRY_AFTER
        {
            return false;
        }
        match &self.kept {
            Some(kept) => kept.id != id || !kept.is_in_force(now) || now >= kept.fetched_at + REFRESH_AFTER,
            None => true,
        }
    }

    fn keep(&mut self, domain: &str, id: &str, policy: Policy, memory: &Memory, now: Timestamp) {
        if self.kept.as_ref().is_none_or(|kept| kept.policy != policy) {
            tracing::info!(domain, id, mode = policy.mode.as_str(), "an MTA-STS policy is in force");
        }
        let kept = Kept { id: id.to_owned(), fetched_at: now, policy };
        memory.remember(DRAWER, &domain, &kept);
        self.kept = Some(kept);
        self.failed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{ClientTls, MemoryNetwork, Network};
    use crate::route::Zone;

    const T0: Timestamp = Timestamp::from_millis(1_795_176_000_000);

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_is_over_is_forgotten_on_disk_and_a_domain_without_one_costs_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path());
        let policy = Policy::parse("version: STSv1\r\nmode: enforce\r\nmx: mx.example\r\nmax_age: 86400\r\n");
        let policy = policy.unwrap();
        Known::default().keep("one.example", "1", policy.clone(), &memory, T0);
        let policies = Policies::recall(&memory, T0);
        let (zone, network) = (Zone::new(), Network::Memory(MemoryNetwork::new()));
        let tls = ClientTls::system();
        let server = PolicyServer { names: &zone, network: &network, tls: &tls, port: 443 };
        let of = async |domain: &str, now| {
            let known = policies.of(domain, &server, |_| None, &memory, now).await;
            known.in_force.map(|in_force| in_force.policy)
        };
        let on_disk = || memory.recall::<String, Kept>(DRAWER).len();
        let in_memory = || policies.domains.lock().unwrap().len();
        assert_eq!(of("one.example", T0).await, Some(policy));
        assert_eq!((of("none.example", T0).await, in_memory(), on_disk()), (None, 1, 1));
        let over = T0 + Duration::from_secs(86_400);
        assert_eq!((of("one.example", over).await, on_disk()), (None, 0));
        assert_eq!((of("one.example", over).await, in_memory()), (None, 0));
    }
}
