//! May this be relayed? The one place that decides it.
//!
//! Who may relay: clients whose address lies in one of the configured networks, to any domain that has a route. Nobody
//! else may send to anybody: posthouse has no mailboxes of its own. IPv4-mapped IPv6 addresses count as IPv4.

use std::net::IpAddr;

use ipnet::IpNet;

use super::refusals::Refusal;
use crate::mail::{Address, RouteTable};

pub(super) fn may_relay(
    networks: &[IpNet],
    routes: &RouteTable,
    client: IpAddr,
    recipient: &Address,
) -> Result<(), Refusal> {
    let client = client.to_canonical();
    if !networks.iter().any(|network| network.contains(&client)) {
        return Err(Refusal::MayNotRelay);
    }
    match routes.destination(&recipient.ascii_domain()) {
        Some(_) => Ok(()),
        None => Err(Refusal::NoRoute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_networks_relay_and_only_where_a_route_leads() {
        let networks = ["192.0.2.0/24".parse().unwrap(), "::1/128".parse().unwrap()];
        let routes = RouteTable {
            routes: vec![crate::mail::Route {
                domains: vec!["example.org".parse().unwrap()],
                via: crate::mail::Via::Mx,
            }],
        };
        let ask = |client: &str, recipient: &str| {
            may_relay(&networks, &routes, client.parse().unwrap(), &recipient.parse().unwrap())
        };
        assert_eq!(ask("192.0.2.7", "a@example.org"), Ok(()));
        assert_eq!(ask("::ffff:192.0.2.7", "a@example.org"), Ok(()));
        assert_eq!(ask("::1", "a@EXAMPLE.org"), Ok(()));
        assert_eq!(ask("192.0.3.7", "a@example.org"), Err(Refusal::MayNotRelay));
        assert_eq!(ask("127.0.0.1", "a@example.org"), Err(Refusal::MayNotRelay));
        assert_eq!(ask("192.0.2.7", "a@example.com"), Err(Refusal::NoRoute));
    }
}
