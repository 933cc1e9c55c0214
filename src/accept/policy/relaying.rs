//! Who may relay, from whom, and to whom: the configured rules, as functions of facts.
//!
//! Who may relay: clients whose address lies in one of the configured networks (the listener's own, where it has some),
//! who have authenticated, or who have shown a trusted certificate; and what comes over no network at all. To any
//! domain that has a route, for mail of this sender, user and listener. Nobody else may send to anybody: posthouse has no mailboxes of its own.
//! From whom: a user who is held to addresses, from those; everybody else from those of `[relaying] senders`, or from
//! the null reverse-path, without which no notice could be sent.
//! To whom: none of `refuse_recipients`, and only those of `recipients` where there are some.
//! Invariants: IPv4-mapped IPv6 addresses count as IPv4.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::refusals::{Refusal, Refused};
use super::super::{Client, ListenerSettings, Settings};
use crate::mail::{Address, LooksAt, ReversePath, RouteTable, SenderPattern, Source};

/// A recipient, whoever he is sent to by.
pub(super) fn recipient(
    settings: &Settings,
    listener: Option<&ListenerSettings>,
    routes: &RouteTable,
    client: &Client,
    sender: &ReversePath,
    recipient: &Address,
) -> Result<(), Refused> {
    let networks = listener.and_then(|listener| listener.networks.as_deref()).unwrap_or(&settings.networks);
    if !is_trusted(settings, networks, client) {
        return Err(match client.address {
            Some(address) => Refusal::MayNotRelay.to(address),
            None => Refusal::MayNotRelay.into(),
        });
    }
    if settings.refuse_recipients.iter().any(|pattern| pattern.matches(recipient)) {
        return Err(Refusal::RecipientRefused.into());
    }
    if let Some(allowed) = &settings.recipients
        && !allowed.iter().any(|pattern| pattern.matches(recipient))
    {
        return Err(Refusal::RecipientNotAllowed.into());
    }
    // As the queue will ask, once the message is there.
    let source = if routes.looks_at_source() {
        Source::new(sender, client.user.as_deref(), client.listener_name.as_deref())
    } else {
        Source::default()
    };
    let domain = recipient.ascii_domain();
    if routes.leads_somewhere(&domain, &source) {
        return Ok(());
    }
    Err(match routes.looks_at_for(&domain) {
        None => Refusal::NoRoute.into(),
        Some(looks_at) => Refusal::NoRouteForThese.of(&seen_by(looks_at, &source)),
    })
}

/// What routes have seen of a message that none of them is for.
fn seen_by(looks_at: LooksAt, source: &Source<'_>) -> String {
    let mut seen = "mail".to_owned();
    if looks_at.sender {
        let _ = write!(seen, " from {}", source.sender.as_deref().unwrap_or("<>"));
    }
    if looks_at.user {
        let _ = match &source.user {
            Some(user) => write!(seen, " of user {user}"),
            None => write!(seen, " without authentication"),
        };
    }
    if looks_at.listener {
        let _ = match &source.listener {
            Some(listener) => write!(seen, " by listener {listener}"),
            None => write!(seen, " by no listener"),
        };
    }
    seen
}

fn is_trusted(settings: &Settings, networks: &[IpNet], client: &Client) -> bool {
    let Some(address) = client.address else { return true };
    client.user.is_some()
        || is_within(networks, address)
        || client.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()).is_some_and(|certificate| {
            settings.certificates.iter().any(|pattern| pattern.matches(certificate))
        })
}

/// Whether the address lies in one of the networks.
pub(in super::super) fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// `held_to`: the addresses of the user, where he is held to some.
pub(super) fn sender(
    settings: &Settings,
    held_to: Option<&[SenderPattern]>,
    reverse_path: &ReversePath,
) -> Result<(), Refused> {
    let matches = |patterns: &[SenderPattern]| patterns.iter().any(|pattern| pattern.matches(reverse_path));
    match (held_to, &settings.senders) {
        (Some(own), _) if !matches(own) => Err(Refusal::SenderNotTheUsers.into()),
        (None, Some(allowed)) if !reverse_path.is_null() && !matches(allowed) => {
            Err(Refusal::SenderNotAllowed.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{ClientCertificate, TlsFacts};

    fn settings() -> Settings {
        let networks = vec!["192.0.2.0/24".parse().unwrap(), "::1/128".parse().unwrap()];
        Settings { networks, ..Settings::default() }
    }

    fn routes() -> RouteTable {
        let route = crate::mail::Route::new(["example.org".parse().unwrap()], crate::mail::Via::Mx);
        RouteTable { routes: vec![route] }
    }

    fn from(address: &str) -> Client {
        Client { address: Some(address.parse().unwrap()), ..Client::default() }
    }

    fn asked(settings: &Settings, client: &Client, to: &str) -> Result<(), Refusal> {
        recipient(settings, None, &routes(), client, &ReversePath::NULL, &to.parse().unwrap())
            .map_err(|refused| refused.refusal)
    }

    #[test]
    fn only_the_configured_networks_relay_and_only_where_a_route_leads() {
        let ask = |client: &str, to: &str| asked(&settings(), &from(client), to);
        assert_eq!(ask("192.0.2.7", "a@example.org"), Ok(()));
        assert_eq!(ask("::ffff:192.0.2.7", "a@example.org"), Ok(()));
        assert_eq!(ask("::1", "a@EXAMPLE.org"), Ok(()));
        assert_eq!(ask("192.0.3.7", "a@example.org"), Err(Refusal::MayNotRelay));
        assert_eq!(ask("127.0.0.1", "a@example.org"), Err(Refusal::MayNotRelay));
        assert_eq!(ask("192.0.2.7", "a@example.com"), Err(Refusal::NoRoute));
    }

    #[test]
    fn a_user_a_trusted_certificate_and_the_program_itself_relay_from_anywhere() {
        let mut settings = settings();
        settings.certificates.push("app.example.org".parse().unwrap());
        let ask = |client: &Client| asked(&settings, client, "a@example.org");
        let shown = |name: &str| {
            let names = vec![name.to_owned()];
            let certificate = ClientCertificate { fingerprint: "ab".repeat(32), names, verified: true };
            let tls = TlsFacts {
                version: "TLSv1.3",
                cipher: "TLS_AES_256_GCM_SHA384".into(),
                verified: false,
                resumed: false,
                server_certificate: None,
                client_certificate: Some(certificate),
            };
            Client { tls: Some(tls), ..from("198.51.100.1") }
        };
        assert_eq!(ask(&Client { user: Some("app".into()), ..from("198.51.100.1") }), Ok(()));
        assert_eq!(ask(&shown("app.example.org")), Ok(()));
        assert_eq!(ask(&shown("other.example.org")), Err(Refusal::MayNotRelay));
        assert_eq!(ask(&Client::here()), Ok(()));
        assert_eq!(ask(&from("198.51.100.1")), Err(Refusal::MayNotRelay));
    }

    #[test]
    fn a_listener_has_networks_of_its_own_in_place_of_the_others() {
        let mut listener = ListenerSettings::new("127.0.0.1:25".parse().unwrap());
        listener.networks = Some(vec![]);
        let ask = |client: &Client| {
            let to = "a@example.org".parse().unwrap();
            recipient(&settings(), Some(&listener), &routes(), client, &ReversePath::NULL, &to)
                .map_err(|refused| refused.refusal)
        };
        assert_eq!(ask(&from("192.0.2.7")), Err(Refusal::MayNotRelay));
        assert_eq!(ask(&Client { user: Some("app".into()), ..from("192.0.2.7") }), Ok(()));
    }

    #[test]
    fn a_route_for_others_is_no_route_for_this_sender_user_or_listener() {
        let route = |of: &str| {
            let any = crate::mail::Route::new([], crate::mail::Via::Mx);
            let name = vec![of.to_owned()];
            match of {
                "app" => crate::mail::Route { users: name, ..any },
                "inner" => crate::mail::Route { listeners: name, ..any },
                _ => crate::mail::Route { senders: vec![of.parse().unwrap()], ..any },
            }
        };
        let ask = |of: &str, client: &Client, sender: &str| {
            let sender = ReversePath::from(sender.parse::<Address>().unwrap());
            let routes = RouteTable { routes: vec![route(of)] };
            let to = "b@example.net".parse().unwrap();
            let refused = recipient(&settings(), None, &routes, client, &sender, &to);
            refused.map_err(|refused| {
                assert_eq!(refused.refusal, Refusal::NoRouteForThese);
                refused.reply.to_string().split_once(" here for ").unwrap().1.to_owned()
            })
        };
        let none = |text: &str| Err(text.to_owned());
        let plain = from("192.0.2.7");
        assert_eq!(ask("example.org", &plain, "a@Example.ORG"), Ok(()));
        assert_eq!(ask("example.org", &plain, "a@example.com"), none("mail from example.com"));
        let user = Client { user: Some("app".into()), ..plain.clone() };
        assert_eq!(ask("app", &user, "a@example.org"), Ok(()));
        assert_eq!(ask("app", &plain, "a@example.org"), none("mail without authentication"));
        let other = Client { user: Some("other".into()), ..plain.clone() };
        assert_eq!(ask("app", &other, "a@example.org"), none("mail of user other"));
        let inner = Client { listener_name: Some("inner".into()), ..plain.clone() };
        assert_eq!(ask("inner", &inner, "a@example.org"), Ok(()));
        assert_eq!(ask("inner", &plain, "a@example.org"), none("mail by no listener"));
        let outer = Client { listener_name: Some("outer".into()), ..plain.clone() };
        assert_eq!(ask("inner", &outer, "a@example.org"), none("mail by listener outer"));
    }

    #[test]
    fn recipients_are_those_allowed_without_those_refused() {
        let mut settings = settings();
        let client = from("192.0.2.7");
        settings.refuse_recipients.push("abuse@example.org".parse().unwrap());
        assert_eq!(asked(&settings, &client, "a@example.org"), Ok(()));
        assert_eq!(asked(&settings, &client, "Abuse@example.org"), Err(Refusal::RecipientRefused));
        settings.recipients = Some(vec!["*@*.example.org".parse().unwrap(), "abuse@*".parse().unwrap()]);
        assert_eq!(asked(&settings, &client, "a@example.org"), Err(Refusal::RecipientNotAllowed));
        assert_eq!(asked(&settings, &client, "abuse@example.org"), Err(Refusal::RecipientRefused));
        // Who may not relay does not learn who is there.
        let stranger = from("198.51.100.1");
        assert_eq!(asked(&settings, &stranger, "abuse@example.org"), Err(Refusal::MayNotRelay));
    }

    #[test]
    fn a_user_is_held_to_his_own_addresses_and_everybody_else_to_those_of_all() {
        let mut settings = settings();
        let path = |text: &str| match text {
            "<>" => ReversePath::NULL,
            address => ReversePath::from(address.parse::<Address>().unwrap()),
        };
        let ask = |settings: &Settings, held_to: Option<&[&str]>, from: &str| {
            let held_to: Option<Vec<SenderPattern>> =
                held_to.map(|patterns| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect());
            sender(settings, held_to.as_deref(), &path(from)).map_err(|refused| refused.refusal)
        };
        assert_eq!(ask(&settings, None, "a@example.net"), Ok(()));
        settings.senders = Some(vec!["*@example.org".parse().unwrap()]);
        assert_eq!(ask(&settings, None, "a@example.org"), Ok(()));
        assert_eq!(ask(&settings, None, "<>"), Ok(()));
        assert_eq!(ask(&settings, None, "a@example.net"), Err(Refusal::SenderNotAllowed));
        assert_eq!(ask(&settings, Some(&["a@example.net"]), "a@example.net"), Ok(()));
        assert_eq!(
            ask(&settings, Some(&["a@example.net"]), "a@example.org"),
            Err(Refusal::SenderNotTheUsers)
        );
        assert_eq!(ask(&settings, Some(&["a@example.net"]), "<>"), Err(Refusal::SenderNotTheUsers));
        assert_eq!(ask(&settings, Some(&["a@example.net", "<>"]), "<>"), Ok(()));
        assert_eq!(ask(&settings, Some(&[]), "a@example.org"), Err(Refusal::SenderNotTheUsers));
    }
}
