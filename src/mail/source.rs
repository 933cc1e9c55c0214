//! Where a message came from, as far as routes look at it.
//!
//! Contract: a [`Source`] follows from envelope and origin, and from nothing else, so that the same message has the same
//! after a restart.
//! Not here: what a route makes of it (`route_table`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Envelope, Origin, ReversePath};

/// What routes look at besides the recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source<'a> {
    /// The domain of the reverse-path, in lower case and A-labels; none for the null reverse-path.
    pub sender: Option<Cow<'a, str>>,
    /// Who the client has authenticated as.
    pub user: Option<Cow<'a, str>>,
    /// The listener that it came by ([`Origin::listener`]).
    pub listener: Option<Cow<'a, str>>,
}

impl<'a> Source<'a> {
    pub fn of(envelope: &'a Envelope, origin: &'a Origin) -> Self {
        Self::new(&envelope.reverse_path, origin.user.as_deref(), origin.listener.as_deref())
    }

    /// Of a message that is on its way in.
    pub fn new(reverse_path: &'a ReversePath, user: Option<&'a str>, listener: Option<&'a str>) -> Self {
        let sender = reverse_path.address().map(|address| address.ascii_domain());
        Self {
            sender: sender.map(lower_case),
            user: user.map(Cow::Borrowed),
            listener: listener.map(Cow::Borrowed),
        }
    }

    pub fn into_owned(self) -> Source<'static> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Source {
            sender: self.sender.map(owned),
            user: self.user.map(owned),
            listener: self.listener.map(owned),
        }
    }
}

fn lower_case(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        text
    }
}
