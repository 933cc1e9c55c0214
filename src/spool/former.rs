//! The bodies of records as former versions wrote them.
//!
//! Contract: what an older posthouse accepted is read as what it meant: parameters that it did not know were not asked for,
//! and what it did not write down of a delivery is not known.
//! Invariants: nothing here is ever written, and nothing here ever changes.
//! Not here: the bodies of today (`record`).

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::message::{self, RecipientState};
use super::record::{self, AcceptedBody, MovedBody, decode};
use crate::clock::Timestamp;
use crate::mail::{
    BodyType, DeliverBy, Envelope, Origin, Outcome, QueueId, Recipient, Ret, ReversePath, SessionId,
};

/// Of versions 1 and 2.
#[derive(Deserialize)]
struct RecipientProgress {
    state: RecipientState,
    attempts: u32,
    next_attempt: Option<Timestamp>,
    last: Option<u16>,
    owed: bool,
}

/// Of versions 1 and 2.
#[derive(Deserialize)]
struct Progress {
    held_since: Option<Timestamp>,
    held_for_ms: u64,
    delay_told: bool,
    outcomes: Vec<Outcome>,
    recipients: Vec<RecipientProgress>,
}

#[derive(Deserialize)]
struct Strike {
    id: QueueId,
    progress: Option<Progress>,
}

#[derive(Deserialize)]
struct Accepted1 {
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
struct Accepted2 {
    arrived_at: Timestamp,
    reverse_path: ReversePath,
    body: BodyType,
    ret: Option<Ret>,
    envid: Option<String>,
    recipients: Vec<Recipient>,
    smtputf8: bool,
    hold_for: Option<Duration>,
    deliver_by: Option<DeliverBy>,
    session: Option<SessionId>,
    client: Option<IpAddr>,
    message_id: Option<String>,
    user: Option<String>,
    strikes: Option<Strike>,
}

#[derive(Deserialize)]
struct Moved<A> {
    accepted: A,
    progress: Option<Progress>,
}

pub(super) fn progress(body: &[u8]) -> Option<message::Progress> {
    decode(body).map(Progress::today)
}

pub(super) fn accepted_1(body: &[u8]) -> Option<AcceptedBody> {
    decode(body).map(|accepted: Accepted1| accepted.second().today())
}

pub(super) fn accepted_2(body: &[u8]) -> Option<AcceptedBody> {
    decode(body).map(Accepted2::today)
}

pub(super) fn moved_1(body: &[u8]) -> Option<MovedBody> {
    let Moved::<Accepted1> { accepted, progress } = decode(body)?;
    Some(MovedBody { accepted: accepted.second().today(), progress: progress.map(Progress::today) })
}

pub(super) fn moved_2(body: &[u8]) -> Option<MovedBody> {
    let Moved::<Accepted2> { accepted, progress } = decode(body)?;
    Some(MovedBody { accepted: accepted.today(), progress: progress.map(Progress::today) })
}

impl RecipientProgress {
    fn today(self) -> message::RecipientProgress {
        let Self { state, attempts, next_attempt, last, owed } = self;
        message::RecipientProgress { state, attempts, next_attempt, last, owed, heard: None }
    }
}

impl Progress {
    fn today(self) -> message::Progress {
        let Self { held_since, held_for_ms, delay_told, outcomes, recipients } = self;
        message::Progress {
            held_since,
            held_for_ms,
            delay_told,
            outcomes,
            recipients: recipients.into_iter().map(RecipientProgress::today).collect(),
            ..message::Progress::default()
        }
    }
}

impl Strike {
    fn today(self) -> message::Strike {
        message::Strike { id: self.id, progress: self.progress.map(Progress::today) }
    }
}

impl Accepted1 {
    fn second(self) -> Accepted2 {
        let Self { arrived_at, reverse_path, body, ret, envid, recipients, .. } = self;
        Accepted2 {
            arrived_at,
            reverse_path,
            body,
            ret,
            envid,
            recipients,
            smtputf8: false,
            hold_for: None,
            deliver_by: None,
            session: self.session,
            client: self.client,
            message_id: self.message_id,
            user: None,
            strikes: self.strikes,
        }
    }
}

impl Accepted2 {
    fn today(self) -> record::AcceptedBody {
        let Self { arrived_at, reverse_path, body, ret, envid, recipients, .. } = self;
        let Self { smtputf8, hold_for, deliver_by, session, client, message_id, user, strikes, .. } = self;
        let envelope = Envelope {
            reverse_path,
            body,
            ret,
            envid,
            recipients,
            smtputf8,
            hold_for,
            deliver_by,
            require_tls: false,
        };
        let origin = Origin { session, client, message_id, user, listener: None };
        AcceptedBody { arrived_at, envelope, origin, strikes: strikes.map(Strike::today) }
    }
}
