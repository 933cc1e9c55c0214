//! The relay's answers to the queue's questions: routes, schedule, and which notices are owed.

use std::sync::{Arc, RwLock};

use super::Uncertainty;
use crate::mail::{Address, Destination, Envelope, Recipient, RouteTable, Source};
use crate::notice;
use crate::queue::schedule::Retry;
use crate::queue::{Rules, WhenUncertain};

/// The destination of a recipient that no route is for: no group can have this name, so that the router says what is
/// wrong and the message waits, visibly, for a better table. New mail of this kind is refused at RCPT.
const NO_ROUTE: &str = "(no route)";

/// What may change while the relay runs.
pub(super) struct Answers {
    current: RwLock<Current>,
}

struct Current {
    routes: Arc<RouteTable>,
    retry: Arc<Retry>,
    uncertain: Uncertainty,
}

impl Answers {
    pub fn new(routes: RouteTable, retry: Retry, uncertain: Uncertainty) -> Self {
        let current = Current { routes: Arc::new(routes), retry: Arc::new(retry), uncertain };
        Self { current: RwLock::new(current) }
    }

    pub fn replace(&self, routes: RouteTable, retry: Retry, uncertain: Uncertainty) {
        let mut current = self.current.write().expect("no holder panics");
        *current = Current { routes: Arc::new(routes), retry: Arc::new(retry), uncertain };
    }

    pub fn routes(&self) -> Arc<RouteTable> {
        Arc::clone(&self.current.read().expect("no holder panics").routes)
    }
}

impl Rules for Answers {
    fn destination(&self, domain: &str, source: &Source<'_>) -> Destination {
        self.routes()
            .destination(domain, source)
            .unwrap_or_else(|| Destination::Upstream(NO_ROUTE.to_owned()))
    }

    fn redirect(&self, domain: &str, source: &Source<'_>) -> Option<Address> {
        self.routes().redirect(domain, source).cloned()
    }

    fn when_uncertain(&self, destination: &Destination) -> WhenUncertain {
        self.current.read().expect("no holder panics").uncertain.of(destination)
    }

    fn retry(&self) -> Arc<Retry> {
        Arc::clone(&self.current.read().expect("no holder panics").retry)
    }

    fn failure_owed(&self, envelope: &Envelope, recipient: &Recipient) -> bool {
        notice::owed::failure_owed(envelope, recipient)
    }

    fn success_owed(&self, envelope: &Envelope, recipient: &Recipient, dsn: bool) -> bool {
        notice::owed::success_owed(envelope, recipient, dsn)
    }

    fn delay_owed(&self, envelope: &Envelope, recipient: &Recipient) -> bool {
        notice::owed::delay_owed(envelope, recipient)
    }
}

impl crate::accept::Routes for Answers {
    fn routes(&self) -> Arc<RouteTable> {
        Answers::routes(self)
    }
}
