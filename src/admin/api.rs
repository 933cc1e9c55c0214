//! The requests and their answers.

use axum::Json;
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure};
use super::why::{self, Why};
use super::{messages, resubmit, upstreams, watch, way};
use crate::clock::Timestamp;
use crate::mail::{Destination, DestinationError, QueueId};
use crate::queue::{DestinationState, Listed, Matching, OperateError};
use crate::relay::Relay;
use crate::spool::Quarantined;
use crate::submission::Desk;

/// Where messages are handed in.
pub(super) const MESSAGES: &str = "/v1/messages";

/// How the relay is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub hostname: String,
    /// By the relay's clock.
    pub now: Timestamp,
    /// Seconds of the relay's clock in a real one.
    pub speed: f64,
    pub messages: u64,
    /// Messages that are done with, and kept by the safety net.
    #[serde(default)]
    pub kept: u64,
    pub sessions: u64,
    /// Whether new mail is accepted; if not, `not_accepting` says why.
    pub accepting: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_accepting: Option<String>,
    /// Damaged pieces of the spool that were set aside.
    pub quarantined: u64,
    /// Attempts since the start of which nobody knows whether they delivered (UNCERTAIN events).
    #[serde(default)]
    pub uncertain: u64,
    /// Octets of the living messages in the spool.
    pub live_bytes: u64,
    /// Octets written to the spool since the start, and syncs of it.
    pub written_bytes: u64,
    pub syncs: u64,
}

/// Rows of one answer, at most: some megabytes of JSON.
pub const ROWS_MAX: usize = 10_000;

/// What an act did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Messages that it concerned.
    pub messages: u64,
}

type Id = Result<Path<QueueId>, PathRejection>;

/// The requests about one relay, to be served by [`Control::serve`](super::Control::serve) or
/// [`Door::start`](super::Door::start). Given a bare relay, keys of submissions are forgotten with the process.
pub fn routes(desk: impl Into<Desk>) -> Router {
    let desk = desk.into();
    let relay = desk.relay().clone();
    Router::new()
        .route(MESSAGES, post(messages::submit).with_state(desk))
        .route("/v1/status", get(status))
        .route("/v1/queue", get(list))
        .route("/v1/queue/retry", post(retry_all))
        .route("/v1/queue/{id}", get(show))
        .route("/v1/queue/{id}/{act}", post(act))
        .route("/v1/destinations", get(destinations))
        .route("/v1/resubmit", post(resubmit::resubmit))
        .route("/v1/quarantine", get(quarantine))
        .route("/v1/why/{id}", get(why))
        .merge(watch::routes())
        .merge(upstreams::routes())
        .merge(way::routes())
        .with_state(relay)
}

pub(super) async fn unknown_path() -> Failure {
    Failure(StatusCode::NOT_FOUND, "there is no such path here".into())
}

async fn status(State(relay): State<Relay>) -> Json<Status> {
    let (spool, refusal) = (relay.spool_status(), relay.queue().refusal());
    Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: relay.hostname().into(),
        now: relay.clock().now(),
        speed: relay.clock().speed(),
        messages: relay.queue().len() as u64,
        kept: relay.queue().kept_len() as u64,
        sessions: relay.sessions() as u64,
        accepting: refusal.is_none(),
        not_accepting: refusal.map(|why| why.to_string()),
        quarantined: spool.quarantined,
        uncertain: relay.queue().uncertain(),
        live_bytes: spool.live_bytes,
        written_bytes: spool.written_bytes,
        syncs: spool.syncs,
    })
}

async fn list(
    State(relay): State<Relay>,
    matching: Result<Query<Matching>, QueryRejection>,
) -> Answer<Vec<Listed>> {
    let Query(mut matching) = matching?;
    matching.most = match matching.most {
        0 => ROWS_MAX,
        most => most.min(ROWS_MAX),
    };
    Ok(Json(relay.queue().list(&matching).await))
}

async fn quarantine(State(relay): State<Relay>) -> Answer<Vec<Quarantined>> {
    let read = relay.quarantined().await;
    let failed = |error| format!("cannot read the folder quarantine of the spool: {error}");
    Ok(Json(read.map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, failed(error)))?))
}

async fn show(State(relay): State<Relay>, id: Id) -> Answer<Listed> {
    Ok(Json(relay.queue().show(id?.0).await?))
}

async fn destinations(State(relay): State<Relay>) -> Json<Vec<DestinationState>> {
    Json(relay.queue().destinations())
}

async fn act(
    State(relay): State<Relay>,
    target: Result<Path<(QueueId, String)>, PathRejection>,
) -> Answer<Done> {
    let Path((id, act)) = target?;
    match act.as_str() {
        "retry" => relay.retry(id).await?,
        "hold" => relay.queue().hold(id).await?,
        "release" => relay.queue().release(id).await?,
        "cancel" => relay.queue().cancel(id).await?,
        _ => return Err(Failure(StatusCode::NOT_FOUND, format!("there is no act {act:?}"))),
    }
    Ok(Json(Done { messages: 1 }))
}

/// Which destination to retry: as listings write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    destination: Option<String>,
}

async fn retry_all(State(relay): State<Relay>, which: Result<Query<Which>, QueryRejection>) -> Answer<Done> {
    let destination: Option<Destination> = match which?.0.destination {
        Some(text) => {
            let destination = text.parse();
            Some(destination.map_err(|error: DestinationError| {
                Failure(StatusCode::BAD_REQUEST, format!("{text:?} is no destination: {error}"))
            })?)
        }
        None => None,
    };
    if let Some(destination) = &destination {
        let there = relay.queue().destinations();
        if there.iter().all(|row| row.destination != destination.to_string()) {
            let error = format!("nothing waits for {destination}; see `posthouse queue list`");
            return Err(Failure(StatusCode::NOT_FOUND, error));
        }
    }
    Ok(Json(Done { messages: relay.retry_all(destination.as_ref()) as u64 }))
}

async fn why(State(relay): State<Relay>, id: Id) -> Answer<Why> {
    let Path(id) = id?;
    match why::story(&relay, id).await {
        Ok(Some(why)) => Ok(Json(why)),
        Ok(None) => Err(OperateError::Unknown(id).into()),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
