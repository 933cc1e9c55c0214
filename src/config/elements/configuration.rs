//! The whole configuration, and the checks that need more than one section.
//!
//! Contract: [`Configuration::read`] reads every section, in the order of the reference file, and reports all faults.
//! Not here: where the tree comes from (`load`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{
    Admin, Auth, Delivery, Destination, Dns, Limit, Limits, Listener, Notices, Pickup, Relaying, Retry,
    Spool, Timeouts, Tls, Tracking, Upstream, content, destination, limit, listener, route, safety_net,
    upstream,
};
use crate::accept::ListenerAuth;
use crate::config::fault::Report;
use crate::config::quantity::{Mismatch, size_text};
use crate::config::section::Section;
use crate::config::tree::{Entry, Node, Table};
use crate::mail::{RouteTable, is_domain_name};
use crate::queue::SafetyNet;
use crate::route::MxTlsRules;
use crate::smtp::server::ContentRules;

/// Settings that are in order.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The name in greetings, trace fields and notices; the machine's own by default.
    pub hostname: String,
    pub spool: Spool,
    pub listeners: Vec<Listener>,
    pub limits: Limits,
    /// What content may have.
    pub content: ContentRules,
    /// How much each client may do.
    pub client_limits: Vec<Limit>,
    pub tls: Option<Tls>,
    pub relaying: Relaying,
    pub auth: Auth,
    pub routes: RouteTable,
    /// What the routes with `via = "mx"` say about TLS.
    pub mx_tls: MxTlsRules,
    /// Upstream groups by name.
    pub upstreams: BTreeMap<String, Upstream>,
    pub retry: Retry,
    pub notices: Notices,
    pub tracking: Tracking,
    pub dns: Dns,
    pub timeouts: Timeouts,
    pub delivery: Delivery,
    /// What domains are allowed that are reached by their MX records.
    pub destinations: Vec<Destination>,
    /// What was delivered is kept for a while.
    pub safety_net: Option<SafetyNet>,
    pub pickup: Pickup,
    /// The API over TCP, where it is served.
    pub admin: Option<Admin>,
    /// Seconds that pass for each real one.
    pub speed: f64,
}

impl Configuration {
    /// `folder` is what relative paths in the file count from.
    pub(in crate::config) fn read(tree: &Table, folder: &Path, report: &Report) -> Self {
        let mut top = Section::top(tree, report);
        let hostname = hostname(&mut top).unwrap_or_else(own_name);
        let spool_section = top.section("spool");
        let spool_place = spool_section.place_of("path");
        let spool = Spool::read(spool_section, folder);
        spool.check(spool_place, report);
        let (listeners, wants_tls) = listener::read(&mut top);
        let limits = Limits::read(top.section("limits"));
        let content = content::read(top.section("content"));
        let client_limits = limit::read(&mut top);
        let tls = Tls::read(top.section("tls"), folder, &spool.path, &hostname);
        if let (Some(place), false) = (wants_tls, tree.get("tls").is_some()) {
            let hint = "add a [tls] section with certificate and key, or with self_signed = true for a lab, or write tls = \"none\"";
            report.fault(&place, "TLS is asked for, but there is no certificate", None, Some(hint.into()));
        }
        let relaying = Relaying::read(top.section("relaying"), folder);
        let auth = Auth::read(top.section("auth"));
        let delivery = Delivery::read(top.section("delivery"));
        let upstreams = upstream::read(&mut top, folder, delivery.total);
        let named =
            route::Named { groups: &upstreams, listeners: &listeners, users: relaying.users.as_ref() };
        let (routes, mx_tls) = route::read(&mut top, &named);
        let retry_section = top.section("retry");
        let notices_section = top.section("notices");
        let retry = Retry::read(retry_section);
        let notices = Notices::read(notices_section, &retry);
        let tracking = Tracking::read(top.section("tracking"), &spool.path);
        let dns = Dns::read(top.section("dns"), folder);
        let timeouts = Timeouts::read(top.section("timeouts"));
        let destinations = destination::read(&mut top, delivery.total);
        let safety_net = safety_net::read(top.section("safety_net"));
        let speed = speed(top.section("clock"));
        let pickup = Pickup::read(top.section("pickup"), &spool.path);
        let admin = Admin::read(top.section("admin"), folder);
        top.done();
        check_users_can_come_in(&listeners, tree, report);
        check_room_for_a_message(&listeners, &limits, tree, report);
        check_upstreams_lead_away(&listeners, &upstreams, tree, report);
        Self {
            hostname,
            spool,
            listeners,
            limits,
            content,
            client_limits,
            tls,
            relaying,
            auth,
            routes,
            mx_tls,
            upstreams,
            retry,
            notices,
            tracking,
            dns,
            timeouts,
            delivery,
            destinations,
            safety_net,
            pickup,
            admin,
            speed,
        }
    }
}

/// The name that was given.
pub(crate) fn hostname(section: &mut Section<'_>) -> Option<String> {
    section.get("hostname", |value| {
        let name = value.text().filter(|name| is_domain_name(name)).map(str::to_owned);
        name.ok_or_else(|| Mismatch::new("a domain name, such as \"relay.example.org\""))
    })
}

/// The machine's own.
pub(in crate::config) fn own_name() -> String {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim();
    if is_domain_name(own) { own.to_owned() } else { "localhost".to_owned() }
}

fn speed(mut section: Section<'_>) -> f64 {
    let expected = "a number above 0 and up to 1000000; 1 is real time, 60 makes a minute of each second";
    let speed = section.number("speed", expected, |n| n > 0.0 && n <= 1_000_000.0);
    section.done();
    speed.unwrap_or(1.0)
}

/// Users that no listener lets authenticate, and listeners that demand users of whom there are none.
fn check_users_can_come_in(listeners: &[Listener], tree: &Table, report: &Report) {
    let has_users = matches!(tree.get("relaying"), Some(Entry { node: Node::Table(table), .. }) if table.get("users").is_some());
    if has_users && !listeners.iter().any(Listener::offers_auth) {
        let problem = "no listener offers AUTH, so that the users cannot come in";
        let hint = "give a [[listener]] TLS, or auth_without_tls = true";
        report.warn(tree.place_at(&["relaying", "users"]), problem, hint);
    }
    let required = |listener: &&Listener| listener.auth == ListenerAuth::Required;
    if let (false, Some(listener)) = (has_users, listeners.iter().find(required)) {
        let problem = format!("{} has auth = \"required\", but there are no users", listener.address);
        let hint = "name a users file: users = \"users.toml\" in [relaying]";
        report.fault(tree.place_at(&["listener"]), problem, None, Some(hint.into()));
    }
}

fn check_room_for_a_message(listeners: &[Listener], limits: &Limits, tree: &Table, report: &Report) {
    let largest = listeners.iter().map(|listener| listener.max_message_size).max().unwrap_or(0);
    if limits.bytes_in_flight < largest {
        let (flight, largest) = (size_text(limits.bytes_in_flight), size_text(largest));
        let problem = format!(
            "limits.bytes_in_flight ({flight}) has no room for one message of max_message_size ({largest})"
        );
        let place = match tree.get("limits") {
            Some(_) => tree.place_at(&["limits", "bytes_in_flight"]),
            None => tree.place_at(&["listener"]),
        };
        let hint = "raise bytes_in_flight in [limits], or lower max_message_size in [[listener]]";
        report.fault(place, problem, None, Some(hint.into()));
    }
}

/// An upstream that is our own listener would send every message round and round.
fn check_upstreams_lead_away(
    listeners: &[Listener],
    upstreams: &BTreeMap<String, Upstream>,
    tree: &Table,
    report: &Report,
) {
    for (group, upstream) in upstreams {
        for host in &upstream.hosts {
            let address: Option<IpAddr> = match host.host.as_str() {
                "localhost" => Some(std::net::Ipv4Addr::LOCALHOST.into()),
                name => name.parse().ok(),
            };
            let Some(address) = address else { continue };
            let own = listeners.iter().find(|listener| is_reached(listener.address, address, host.port));
            if let Some(own) = own {
                let problem = format!("upstream {group} leads back to our own listener, {}", own.address);
                let hint = "name the server that mail shall go to, or listen on another port";
                let place = tree.place_at(&["upstream", group, "hosts"]);
                report.fault(place, problem, None, Some(hint.into()));
            }
        }
    }
}

fn is_reached(listener: SocketAddr, address: IpAddr, port: u16) -> bool {
    port == listener.port()
        && (listener.ip() == address || (listener.ip().is_unspecified() && address.is_loopback()))
}
