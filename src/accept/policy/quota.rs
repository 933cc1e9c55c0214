//! How much one client may do: `[[limit]]`, and which of them counts for whom.
//!
//! Contract: for each key (connections, messages, ...) the first limit counts that is for the client and has that key;
//! so an exception stands above the rule, and limits for users stand beside those for networks. What is counted is
//! counted for each user where the limit names users, and else for each address: an IPv6 client is its /64, as that is
//! what one client has.
//! Not here: the counting (`meters`), limits of all sessions together (`accept::Limits`).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::super::Client;
use super::super::client::network_of;
use super::is_within;
use crate::queue::Rate;

/// Who a limit is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whom {
    /// Clients in these networks; none: wherever they come from.
    pub networks: Vec<IpNet>,
    /// Clients that have authenticated as one of these, each counted by itself; `*` is any user. None: whoever they
    /// are, with or without AUTH.
    pub users: Vec<String>,
}

/// How much each of some clients may do. A rate lets its number through at once, and then evenly: `1000/h` is 1000, and
/// one more each 3.6 seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientLimit {
    pub whom: Whom,
    /// Sessions at once; a further one gets 421 4.7.0.
    pub connections: Option<u32>,
    /// Sessions in a time; a further one gets 421 4.7.0.
    pub connection_rate: Option<Rate>,
    /// MAIL commands that the rules accept, in a time; a further one gets 450 4.7.1.
    pub messages: Option<Rate>,
    /// RCPT commands that the rules accept, in a time; a further one gets 452 4.5.3.
    pub recipients: Option<Rate>,
    /// Octets of content; more get 552 5.3.4, at MAIL where SIZE says so.
    pub max_message_size: Option<u64>,
}

/// What is counted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Listener(SocketAddr),
    /// As [`network_of`] has it.
    Address(IpAddr),
    User(String),
}

impl Whom {
    /// As whom this limit counts the client, if it is for him.
    fn subject(&self, client: &Client) -> Option<Subject> {
        if !self.networks.is_empty()
            && !client.address.is_some_and(|address| is_within(&self.networks, address))
        {
            return None;
        }
        if self.users.is_empty() {
            return client.address.map(|address| Subject::Address(network_of(address)));
        }
        let user = client.user.as_deref()?;
        let named = self.users.iter().any(|name| name == "*" || name == user);
        named.then(|| Subject::User(user.to_owned()))
    }
}

/// The limit of this kind that counts for the client, and as whom he is counted.
pub(super) fn limit_for<T>(
    limits: &[ClientLimit],
    client: &Client,
    kind: impl Fn(&ClientLimit) -> Option<T>,
) -> Option<(T, Subject)> {
    limits.iter().find_map(|limit| Some((kind(limit)?, limit.whom.subject(client)?)))
}

/// As the client reads it: `your address 192.0.2.7`.
impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listener(address) => write!(f, "port {}", address.port()),
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "your address {address}"),
            Self::Address(address @ IpAddr::V6(_)) => write!(f, "your network {address}/64"),
            Self::User(_) => f.write_str("your user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str, user: Option<&str>) -> Client {
        Client { address: address.parse().ok(), user: user.map(str::to_owned), ..Client::default() }
    }

    fn limit(networks: &[&str], users: &[&str], connections: Option<u32>, size: Option<u64>) -> ClientLimit {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let whom = Whom { networks, users };
        ClientLimit { whom, connections, max_message_size: size, ..ClientLimit::default() }
    }

    #[test]
    fn for_each_key_the_first_limit_that_is_for_the_client_counts() {
        let limits = [
            limit(&[], &["app"], None, Some(5)),
            limit(&["192.0.2.0/25"], &[], Some(100), None),
            limit(&["192.0.2.0/24"], &["*"], Some(7), None),
            limit(&[], &[], Some(20), Some(3)),
        ];
        let connections = |client: &Client| limit_for(&limits, client, |limit| limit.connections);
        let size = |client: &Client| limit_for(&limits, client, |limit| limit.max_message_size);
        let address = |text: &str| Subject::Address(text.parse().unwrap());
        let user = |name: &str| Subject::User(name.into());

        let near = client("::ffff:192.0.2.9", None);
        assert_eq!(connections(&near), Some((100, address("192.0.2.9"))));
        assert_eq!(size(&near), Some((3, address("192.0.2.9"))));
        let app = client("192.0.2.200", Some("app"));
        assert_eq!(connections(&app), Some((7, user("app"))));
        assert_eq!(size(&app), Some((5, user("app"))));
        let far = client("198.51.100.1", Some("other"));
        assert_eq!(connections(&far), Some((20, address("198.51.100.1"))));
        // The program itself, and a user who comes over no network.
        assert_eq!(connections(&Client::here()), None);
        assert_eq!(size(&client("", Some("app"))), Some((5, user("app"))));
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let limits = [limit(&[], &[], Some(1), None)];
        let subject =
            |text: &str| limit_for(&limits, &client(text, None), |limit| limit.connections).unwrap().1;
        assert_eq!(subject("2001:db8:0:1::1"), subject("2001:db8:0:1:ffff::2"));
        assert_ne!(subject("2001:db8:0:1::1"), subject("2001:db8:0:2::1"));
        assert_eq!(subject("2001:db8:0:1::1").to_string(), "your network 2001:db8:0:1::/64");
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
    }
}
