//! Where a stranger's DNS may not send us.
//!
//! Contract: [`refused`] judges the address that would be connected, not the way it is written.
//!
//! The policy, first match first:
//!
//! | address | decision |
//! |---|---|
//! | unspecified, multicast, broadcast | no host has it; skipped |
//! | our own, on the port of one of our listeners | we are the MX host: the list is cut there |
//! | in a network of `dns.refuse` | skipped |
//! | an IPv6 address that leads to an IPv4 address of such a network | skipped |
//!
//! IPv6 addresses that lead to an IPv4 address: mapped and compatible ones (RFC 4291 section 2.5.5), those of NAT64
//! (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
//! Not here: which hosts there are (`mx`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::group::Settings;
use super::paths::Paths;

/// Why an address is not connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Ourselves,
    /// In words.
    Because(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ourselves => f.write_str("it is this relay itself"),
            Self::Because(reason) => f.write_str(reason),
        }
    }
}

/// Why MX routing does not lead to `address`, if it doesn't.
pub(super) fn refused(settings: &Settings, paths: &Paths, address: SocketAddr) -> Option<Refusal> {
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
        return Some(Refusal::Because("no host can have this address".into()));
    }
    let own = |own: &SocketAddr| {
        own.port() == address.port()
            && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && paths.is_own_address(ip)))
    };
    if settings.own_addresses.iter().any(own) {
        return Some(Refusal::Ourselves);
    }
    let lies_in = |ip: IpAddr| settings.refuse.iter().find(|network| network.contains(&ip));
    if let Some(network) = lies_in(ip) {
        let reason = format!("it lies in {network}, which [dns] refuse keeps MX routing away from");
        return Some(Refusal::Because(reason));
    }
    let IpAddr::V6(v6) = ip else { return None };
    let v4 = leads_to(v6)?;
    let network = lies_in(v4.into())?;
    let reason = format!("it leads to {v4}, in {network}, which [dns] refuse keeps MX routing away from");
    Some(Refusal::Because(reason))
}

/// The IPv4 address that an IPv6 address stands for.
fn leads_to(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // The prefix for local use, which networks split as they like; at 96 bits nearly always.
        [0x64, 0xff9b, 1, _, _, _, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        // ::1 has been looked at as itself.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::net::Network;

    fn judge(address: &str) -> Option<String> {
        let mut settings = Settings::new("relay.example.org");
        settings.refuse.push("10.0.0.0/8".parse().unwrap());
        settings.own_addresses.push("[2001:db8::25]:25".parse().unwrap());
        let address = SocketAddr::new(address.parse().unwrap(), 25);
        refused(&settings, &Paths::new(Network::System, Clock::system()), address).map(
            |refusal| match refusal {
                Refusal::Ourselves => "ourselves".to_owned(),
                Refusal::Because(reason) => reason,
            },
        )
    }

    #[test]
    fn an_address_is_judged_by_where_it_leads_not_by_how_it_is_written() {
        for free in ["192.0.2.1", "2001:db8::1", "64:ff9b::c000:201", "2002:c000:201::1", "::ffff:192.0.2.1"]
        {
            assert_eq!(judge(free), None, "{free}");
        }
        for inside in
            ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "10.1.2.3", "::ffff:127.0.0.1", "::ffff:10.0.0.1"]
        {
            assert!(judge(inside).is_some_and(|why| why.starts_with("it lies in ")), "{inside}");
        }
        for disguised in
            ["64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1", "2002:a01:203::", "::127.0.0.1"]
        {
            assert!(judge(disguised).is_some_and(|why| why.starts_with("it leads to ")), "{disguised}");
        }
        for nobody in
            ["0.0.0.0", "::", "0.1.2.3", "255.255.255.255", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0"]
        {
            assert_eq!(judge(nobody).as_deref(), Some("no host can have this address"), "{nobody}");
        }
        assert_eq!(judge("2001:db8::25").as_deref(), Some("ourselves"));
    }
}
