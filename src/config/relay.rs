//! From settings that are in order to those of a relay: each module's own types.
//!
//! Contract: total: what could be wrong was found by `load`. Passwords are read here, from the files that `load` has
//! seen to be readable.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Configuration;
use super::elements::{Delivery, Limit, Limits, Listener, ListenerTls, Notices, Timeouts, Upstream};
use crate::accept;
use crate::deliver;
use crate::notice;
use crate::queue;
use crate::relay::{Keep, Settings, Track, Uncertainty};
use crate::route;
use crate::spool;

impl Configuration {
    /// The relay that this configuration describes.
    pub fn relay(&self) -> Settings {
        let mut spool = spool::Settings::new(&self.spool.path);
        spool.min_free = self.spool.min_free;
        let mut notices = notice::Settings::new(&self.hostname);
        notices.language = self.notices.language;
        Settings {
            hostname: self.hostname.clone(),
            memory: Some(super::load::memory(&self.spool.path)),
            keep: Keep::Folder(spool),
            track: Track::Folder { path: self.tracking.path.clone(), keep: self.tracking.keep },
            listeners: self.listeners.iter().map(|listener| self.listener(listener)).collect(),
            accept: accept::Settings {
                networks: self.relaying.networks.clone(),
                certificates: self.relaying.certificates.clone(),
                senders: self.relaying.senders.clone(),
                recipients: self.relaying.recipients.clone(),
                refuse_recipients: self.relaying.refuse_recipients.clone(),
                limits: self.limits.accept(),
                sessions: self.tracking.sessions,
                content: self.content,
                client_limits: self.client_limits.iter().map(Limit::accept).collect(),
                // What no listener takes is not taken by another way either.
                max_message_size: self.listeners.iter().map(|listener| listener.max_message_size).max(),
                auth: accept::AuthSettings {
                    users: self.relaying.users.clone(),
                    mechanisms: self.auth.mechanisms.clone(),
                    failures: self.auth.failures,
                    window: self.auth.window,
                },
                show_user: self.relaying.show_user,
            },
            routes: self.routes.clone(),
            route: route::Settings {
                groups: self.groups(),
                refuse: self.dns.refuse.clone(),
                mta_sts: self.dns.mta_sts,
                dane: self.dns.dane,
                mx_tls: self.mx_tls.clone(),
                ..route::Settings::new(&self.hostname)
            },
            uncertain: self.uncertain(),
            retry: self.retry.schedule(&self.notices),
            queue: queue::Settings {
                allowances: Arc::new(self.allowances()),
                safety_net: self.safety_net,
                ..self.delivery.queue(&self.limits, &self.notices)
            },
            deliver: self.delivery.deliver(&self.timeouts),
            notices,
            dns_servers: self.dns.servers.clone(),
            trust_anchor: self.dns.trust_anchor.clone(),
        }
    }

    fn listener(&self, listener: &Listener) -> accept::ListenerSettings {
        let tls = || {
            self.tls.as_ref().expect("a listener with TLS needs [tls]").asking(listener.client_certificates)
        };
        accept::ListenerSettings {
            name: listener.name.as_str().into(),
            address: listener.address,
            tls: match listener.tls {
                ListenerTls::None => accept::ListenerTls::None,
                ListenerTls::StartTls => accept::ListenerTls::StartTls(tls()),
                ListenerTls::Implicit => accept::ListenerTls::Implicit(tls()),
            },
            max_connections: listener.max_connections,
            max_message_size: listener.max_message_size,
            networks: listener.networks.clone(),
            proxy: listener.proxy.clone(),
            auth: listener.auth,
            auth_without_tls: listener.auth_without_tls,
        }
    }

    fn uncertain(&self) -> Uncertainty {
        let own = self.upstreams.iter();
        let own = own.filter_map(|(name, upstream)| Some((name.clone(), upstream.uncertain?)));
        Uncertainty { otherwise: self.delivery.uncertain, groups: own.collect() }
    }

    fn allowances(&self) -> queue::Allowances {
        let limited = self.upstreams.iter().filter(|(_, of)| of.allowance != queue::Allowance::default());
        queue::Allowances {
            groups: limited.map(|(name, upstream)| (name.clone(), upstream.allowance)).collect(),
            domains: self.destinations.iter().map(|one| (one.domains.clone(), one.allowance)).collect(),
        }
    }

    fn groups(&self) -> BTreeMap<String, route::Group> {
        self.upstreams.iter().map(|(name, upstream)| (name.clone(), group(name, upstream))).collect()
    }
}

impl Limits {
    pub(crate) fn accept(&self) -> accept::Limits {
        accept::Limits {
            sessions: self.sessions as usize,
            recipients: self.recipients as usize,
            bytes_in_flight: self.bytes_in_flight,
            idle_timeout: self.idle_timeout,
            content_time: self.content_time,
            received_fields: self.received_fields as usize,
            hold: self.hold,
        }
    }
}

impl Limit {
    pub(crate) fn accept(&self) -> accept::ClientLimit {
        let whom = accept::Whom { networks: self.networks.clone(), users: self.users.clone() };
        accept::ClientLimit {
            whom,
            connections: self.connections,
            connection_rate: self.connection_rate,
            messages: self.messages,
            recipients: self.recipients,
            max_message_size: self.max_message_size,
        }
    }
}

impl Delivery {
    pub(crate) fn queue(&self, limits: &Limits, notices: &Notices) -> queue::Settings {
        queue::Settings {
            per_destination: self.concurrency,
            total: self.total as usize,
            messages: limits.queued_messages as usize,
            notices: notices.rate,
            bytes_in_flight: self.bytes_in_flight,
            rate: self.rate,
            ..queue::Settings::default()
        }
    }

    pub(crate) fn deliver(&self, timeouts: &Timeouts) -> deliver::Settings {
        deliver::Settings {
            timeouts: deliver::Timeouts {
                connect: timeouts.connect,
                handshake: timeouts.connect,
                greeting: timeouts.greeting,
                command: timeouts.command,
                content: timeouts.content,
                least_pace: self.least_pace,
                ..deliver::Timeouts::default()
            },
            messages_per_connection: self.messages_per_connection,
            connection_age: self.connection_age,
            idle_connection: self.idle_connection,
            // A window that is full of deliveries finds a connection for each.
            idle_per_host: self.concurrency as usize,
        }
    }
}

fn group(name: &str, upstream: &Upstream) -> route::Group {
    let credentials = upstream.credentials.clone().map(Arc::new);
    let avoid_chunking = !upstream.chunking;
    let terms = route::Terms {
        group: Some(name.to_owned()),
        credentials,
        avoid_chunking,
        tls: upstream.way.tls.clone(),
        source_addresses: upstream.way.source_addresses.clone(),
    };
    let group = route::Group::new(upstream.hosts.clone(), terms);
    route::Group { fallback: upstream.fallback.clone(), ..group }
}
