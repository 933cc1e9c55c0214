//! The bodies of records as former versions wrote them.
//!
//! Contract: what an older posthouse accepted is read as what it meant: parameters that it did not know were not asked for.
//! Invariants: nothing here is ever written, and nothing here ever changes.
//! Not here: the bodies of today (`record`).

use std::net::IpAddr;

use serde::Deserialize;

use super::message::{Progress, Strike};
use super::record::{AcceptedBody, MovedBody, decode};
use crate::clock::Timestamp;
use crate::mail::{BodyType, Envelope, Origin, Recipient, Ret, ReversePath, SessionId};

/// Version 1.
#[derive(Deserialize)]
struct Accepted {
    arrived_at: Timestamp,
    reverse_path: ReversePath,
    body: BodyType,
    ret: Option<Ret>,
    envid: Option<String>,
    recipients: Vec<Recipient>,
    session: Option<SessionId>,
    client: Option<IpAddr>,
    message_id: Option<String>,
    strikes: Option<Strike>,
}

#[derive(Deserialize)]
struct Moved {
    accepted: Accepted,
    progress: Option<Progress>,
}

pub(super) fn accepted(body: &[u8]) -> Option<AcceptedBody> {
    decode(body).map(Accepted::today)
}

pub(super) fn moved(body: &[u8]) -> Option<MovedBody> {
    let Moved { accepted, progress } = decode(body)?;
    Some(MovedBody { accepted: accepted.today(), progress })
}

impl Accepted {
    fn today(self) -> AcceptedBody {
        let Self { arrived_at, reverse_path, body, ret, envid, recipients, .. } = self;
        let envelope = Envelope {
            reverse_path,
            body,
            ret,
            envid,
            recipients,
            smtputf8: false,
            hold_for: None,
            deliver_by: None,
        };
        let origin =
            Origin { session: self.session, client: self.client, message_id: self.message_id, user: None };
        AcceptedBody { arrived_at, envelope, origin, strikes: self.strikes }
    }
}
