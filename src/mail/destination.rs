//! Destinations: the line in which a message waits.
//!
//! Contract: a destination is named by its text everywhere (log, listings, API), and read back from it: `main`, `mx:example.org`,
//! `hold`, `discard`, `error:450 4.2.1 Mailbox busy`.
//! Not here: which recipient has which destination (`route_table`), which hosts it leads to (`route`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Reply;

/// The line in which a message waits: a configured upstream group, one domain by its MX records, or what the relay itself
/// does with it, without a connection to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    Upstream(String),
    /// The domain in lower case and A-labels: however a domain is spelled, it is one destination.
    Mx(String),
    /// Kept, and never tried, until the routes say otherwise: it does not expire, and nobody is told of a delay.
    Hold,
    /// Done with as if it were delivered, and nobody is told: neither of a success nor of a failure.
    Discard,
    /// Treated as if the next hop had given this reply, which is of 4yz or 5yz.
    Error(Reply),
}

impl Destination {
    /// Whether mail for it is ever tried. What is never tried neither expires nor is told of.
    pub fn is_tried(&self) -> bool {
        *self != Self::Hold
    }

    /// The words that no upstream group may have as its name, since they name something else.
    pub const OTHER_NAMES: [&str; 4] = ["mx", "hold", "discard", "error"];
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(group) => f.write_str(group),
            Self::Mx(domain) => write!(f, "mx:{domain}"),
            Self::Hold => f.write_str("hold"),
            Self::Discard => f.write_str("discard"),
            Self::Error(reply) => write!(f, "error:{reply}"),
        }
    }
}

/// A text that names no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the name of an upstream group, \"mx:\" and a domain, \"hold\", \"discard\", or \"error:\" and a reply"
)]
pub struct DestinationError;

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.split_once(':')) {
            ("hold", _) => Ok(Self::Hold),
            ("discard", _) => Ok(Self::Discard),
            ("" | "mx" | "error", _) | (_, Some(("mx", ""))) => Err(DestinationError),
            (_, Some(("mx", domain))) => Ok(Self::Mx(domain.to_ascii_lowercase())),
            (_, Some(("error", reply))) => reply.parse().map(Self::Error).map_err(|_| DestinationError),
            (group, _) => Ok(Self::Upstream(group.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_back_from_its_text() {
        for text in
            ["main", "mx:example.org", "hold", "discard", "error:450 4.2.1 Mailbox busy", "error:550 no"]
        {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.to_string(), text);
            assert_eq!(matches!(destination, Destination::Upstream(_)), text == "main");
        }
        assert_eq!("mx:Example.ORG".parse(), Ok(Destination::Mx("example.org".into())));
        for bad in ["", "mx", "mx:", "error", "error:", "error:later"] {
            assert_eq!(bad.parse::<Destination>(), Err(DestinationError), "{bad}");
        }
    }
}
