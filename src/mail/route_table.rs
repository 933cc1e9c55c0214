//! The table that gives each recipient his destination: a pure value, the first match wins.
//!
//! Contract: a route looks at the recipient's domain and at the message's [`Source`]. A selector that names nothing is for
//! everybody; where several name something, all of them must match.
//! Invariants: the same recipient of the same message has the same destination for as long as the table is the same.
//! Not here: how a domain matches (`domain_pattern`), what becomes of a destination (`route`, `deliver`, `queue`).

use std::fmt;
use std::str::FromStr;

use super::{Address, Destination, DomainPattern, Reply, Source};

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// An upstream group, by its name.
    Upstream(String),
    /// The MX records of the recipient's domain, or of the one that is redirected to.
    Mx,
    /// Kept until the routes change.
    Hold,
    /// Done with, without a word to anybody.
    Discard,
    /// As if the next hop had given this reply, which is of 4yz or 5yz.
    Error(Reply),
}

/// Which senders a route is for: those of a domain, or the null reverse-path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderDomain {
    /// `<>`
    Null,
    /// As [`DomainPattern`] has it; the null reverse-path has no domain, so that not even `*` is for it.
    Domain(DomainPattern),
}

/// A text that says nothing about the domain of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"<>\" for the null reverse-path, \"*\" for all others, or the sender's domain: \"example.org\", \
     \"*.example.org\" for the domains below it, \".example.org\" for both"
)]
pub struct SenderDomainError;

impl FromStr for SenderDomain {
    type Err = SenderDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "<>" => Ok(Self::Null),
            domain => domain.parse().map(Self::Domain).map_err(|_| SenderDomainError),
        }
    }
}

impl fmt::Display for SenderDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

impl SenderDomain {
    /// `sender`: in lower case and A-labels; none for the null reverse-path ([`Source::sender`]).
    pub fn matches(&self, sender: Option<&str>) -> bool {
        match (self, sender) {
            (Self::Null, sender) => sender.is_none(),
            (Self::Domain(_), None) => false,
            (Self::Domain(domain), Some(sender)) => domain.matches(sender),
        }
    }
}

/// One `[[route]]` of the configuration. Each of the selectors is for everybody when it is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Of the recipient.
    pub domains: Vec<DomainPattern>,
    /// By the domain of the reverse-path.
    pub senders: Vec<SenderDomain>,
    /// Who has authenticated, by name.
    pub users: Vec<String>,
    /// By the name of the listener.
    pub listeners: Vec<String>,
    pub via: Via,
    /// The one address to which everything of this route goes.
    pub redirect_to: Option<Address>,
}

impl Route {
    /// A route that looks at the recipient's domain only.
    pub fn new(domains: impl IntoIterator<Item = DomainPattern>, via: Via) -> Self {
        Self {
            domains: domains.into_iter().collect(),
            senders: Vec::new(),
            users: Vec::new(),
            listeners: Vec::new(),
            via,
            redirect_to: None,
        }
    }

    /// Whether it is for this recipient's domain, in A-labels, of a message from there.
    pub fn matches(&self, domain: &str, source: &Source<'_>) -> bool {
        let named = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known == name))
        };
        self.is_for_domain(domain)
            && (self.senders.is_empty() || self.senders.iter().any(|s| s.matches(source.sender.as_deref())))
            && named(&self.users, source.user.as_deref())
            && named(&self.listeners, source.listener.as_deref())
    }

    fn is_for_domain(&self, domain: &str) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|pattern| pattern.matches(domain))
    }

    fn looks_at(&self) -> LooksAt {
        LooksAt {
            sender: !self.senders.is_empty(),
            user: !self.users.is_empty(),
            listener: !self.listeners.is_empty(),
        }
    }

    /// Whether it looks at anything but the recipient's domain.
    pub fn looks_at_source(&self) -> bool {
        self.looks_at() != LooksAt::default()
    }

    /// Whether nothing gets past it.
    pub fn takes_everything(&self) -> bool {
        !self.looks_at_source() && (self.domains.is_empty() || self.domains.contains(&DomainPattern::All))
    }

    /// The destination of a recipient of this domain.
    fn destination(&self, domain: &str) -> Destination {
        match &self.via {
            Via::Upstream(group) => Destination::Upstream(group.clone()),
            Via::Mx => {
                let redirected = self.redirect_to.as_ref().map(Address::ascii_domain);
                Destination::Mx(redirected.as_deref().unwrap_or(domain).to_ascii_lowercase())
            }
            Via::Hold => Destination::Hold,
            Via::Discard => Destination::Discard,
            Via::Error(reply) => Destination::Error(reply.clone()),
        }
    }
}

/// What is looked at besides the recipient's domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LooksAt {
    pub sender: bool,
    pub user: bool,
    pub listener: bool,
}

/// All routes in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    pub routes: Vec<Route>,
}

impl RouteTable {
    /// Everything by way of one upstream group.
    pub fn all_via(group: impl Into<String>) -> Self {
        Self { routes: vec![Route::new([DomainPattern::All], Via::Upstream(group.into()))] }
    }

    /// The route of the recipients of a domain, which is in A-labels ([`Address::ascii_domain`]).
    fn route(&self, domain: &str, source: &Source<'_>) -> Option<&Route> {
        self.routes.iter().find(|route| route.matches(domain, source))
    }

    /// The destination of the recipients of a domain, which is in A-labels ([`Address::ascii_domain`]), or nothing when no
    /// route is for it.
    pub fn destination(&self, domain: &str, source: &Source<'_>) -> Option<Destination> {
        self.route(domain, source).map(|route| route.destination(domain))
    }

    /// The route of the recipients of a domain, which is in A-labels, with its place in the table, counted from 0.
    pub fn matching(&self, domain: &str, source: &Source<'_>) -> Option<(usize, &Route)> {
        self.routes.iter().enumerate().find(|(_, route)| route.matches(domain, source))
    }

    /// Whether there is a route for the recipients of a domain, which is in A-labels.
    pub fn leads_somewhere(&self, domain: &str, source: &Source<'_>) -> bool {
        self.route(domain, source).is_some()
    }

    /// What the routes look at, besides a domain, that are for it: nothing when none is for it, whatever the message's source.
    pub fn looks_at_for(&self, domain: &str) -> Option<LooksAt> {
        let for_domain = |route: &&Route| route.is_for_domain(domain);
        self.routes.iter().filter(for_domain).map(Route::looks_at).reduce(|one, other| LooksAt {
            sender: one.sender || other.sender,
            user: one.user || other.user,
            listener: one.listener || other.listener,
        })
    }

    /// The one address that the recipients of a domain are sent to in place of their own, where their route has one.
    pub fn redirect(&self, domain: &str, source: &Source<'_>) -> Option<&Address> {
        if !self.redirects() {
            return None;
        }
        self.route(domain, source).and_then(|route| route.redirect_to.as_ref())
    }

    /// Whether any route looks at where a message comes from. While none does, any [`Source`] gives the same answers, and
    /// nobody needs to make one.
    pub fn looks_at_source(&self) -> bool {
        self.routes.iter().any(Route::looks_at_source)
    }

    /// Whether any route sends anything to another address than its own.
    pub fn redirects(&self) -> bool {
        self.routes.iter().any(|route| route.redirect_to.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(domain: &str, via: Via) -> Route {
        Route::new([domain.parse().unwrap()], via)
    }

    fn upstream(group: &str) -> Via {
        Via::Upstream(group.into())
    }

    #[test]
    fn the_first_match_wins_and_below_is_not_the_domain_itself() {
        let table = RouteTable {
            routes: vec![
                route("*.example.org", upstream("below")),
                route("Example.org", upstream("exact")),
                route("example.com", Via::Mx),
                route("*.b\u{fc}cher.example", Via::Mx),
            ],
        };
        let to = |address: &str| {
            table
                .destination(&address.parse::<Address>().unwrap().ascii_domain(), &Source::default())
                .map(|d| d.to_string())
        };
        assert_eq!(to("a@example.ORG").as_deref(), Some("exact"));
        assert_eq!(to("a@b.example.org").as_deref(), Some("below"));
        assert_eq!(to("a@bexample.org"), None);
        assert_eq!(to("a@EXAMPLE.com").as_deref(), Some("mx:example.com"));
        assert_eq!(to("a@elsewhere.example"), None);
        for spelled in
            ["a@www.b\u{fc}cher.example", "a@WWW.B\u{dc}CHER.example", "a@www.XN--bcher-kva.example"]
        {
            assert_eq!(to(spelled).as_deref(), Some("mx:www.xn--bcher-kva.example"), "{spelled}");
        }
    }

    #[test]
    fn a_selector_left_out_is_for_everybody_and_several_must_all_match() {
        let senders = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let any = |via: &str| Route::new([], upstream(via));
        let table = RouteTable {
            routes: vec![
                Route { senders: senders(&["<>"]), ..any("notices") },
                Route {
                    senders: senders(&["shop.example"]),
                    users: names(&["app"]),
                    ..route("example.org", upstream("all three"))
                },
                Route { senders: senders(&[".shop.example"]), ..any("shop") },
                Route { users: names(&["app", "web"]), ..any("users") },
                Route { listeners: names(&["submission"]), ..any("listener") },
                Route { senders: senders(&["*"]), ..any("any sender") },
            ],
        };
        let to = |domain: &str,
                  sender: Option<&'static str>,
                  user: Option<&'static str>,
                  listener: &'static str| {
            let source = Source {
                sender: sender.map(Into::into),
                user: user.map(Into::into),
                listener: Some(listener.into()),
            };
            table.destination(domain, &source).expect("the last but one takes the rest").to_string()
        };
        assert_eq!(to("example.org", None, Some("app"), "submission"), "notices");
        assert_eq!(to("example.org", Some("shop.example"), Some("app"), ""), "all three");
        assert_eq!(to("example.com", Some("shop.example"), Some("app"), ""), "shop");
        assert_eq!(to("example.org", Some("shop.example"), None, ""), "shop");
        assert_eq!(to("example.org", Some("eu.shop.example"), Some("app"), ""), "shop");
        assert_eq!(to("example.org", Some("example.net"), Some("web"), "submission"), "users");
        assert_eq!(to("example.org", Some("example.net"), Some("other"), "submission"), "listener");
        assert_eq!(to("example.org", Some("example.net"), None, "elsewhere"), "any sender");
        assert!(table.looks_at_source() && !RouteTable::all_via("main").looks_at_source());
    }

    #[test]
    fn what_the_relay_does_itself_is_a_destination_and_a_redirect_has_its_own_domain() {
        let staging: Address = "staging@Example.NET".parse().unwrap();
        let redirected = |domain, via| Route { redirect_to: Some(staging.clone()), ..route(domain, via) };
        let table = RouteTable {
            routes: vec![
                route("hold.example", Via::Hold),
                route("discard.example", Via::Discard),
                route("busy.example", Via::Error("450 4.2.1 Mailbox busy".parse().unwrap())),
                redirected("mx.example", Via::Mx),
                redirected("main.example", upstream("main")),
            ],
        };
        let to = |domain: &str| {
            let source = Source::default();
            let address = table.redirect(domain, &source).map_or("", Address::as_str);
            (table.destination(domain, &source).unwrap().to_string(), address)
        };
        assert_eq!(to("hold.example"), ("hold".into(), ""));
        assert_eq!(to("discard.example"), ("discard".into(), ""));
        assert_eq!(to("busy.example"), ("error:450 4.2.1 Mailbox busy".into(), ""));
        assert_eq!(to("mx.example"), ("mx:example.net".into(), "staging@Example.NET"));
        assert_eq!(to("main.example"), ("main".into(), "staging@Example.NET"));
    }
}
