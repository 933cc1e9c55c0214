//! How upstreams are and were: hosts with their breakers, and outages.
//!
//! Contract: a look at the running relay; nothing here changes anything.
//! Not here: what an outage is, and when a host is tried again (`route`).

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use crate::clock::Timestamp;
use crate::queue::DestinationState;
use crate::relay::Relay;
use crate::route::{Outage, UpstreamState, WhichOutages};

/// An upstream group as it is now, or the MX hosts that are down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    #[serde(flatten)]
    pub hosts: UpstreamState,
    /// The line of the queue for this group; absent while nothing waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<DestinationState>,
}

pub(super) fn routes() -> Router<Relay> {
    Router::new().route("/v1/upstreams", get(upstreams)).route("/v1/outages", get(outages))
}

async fn upstreams(State(relay): State<Relay>) -> Json<Vec<Upstream>> {
    let mut lines = relay.queue().destinations();
    let rows = relay.router().upstreams().into_iter().map(|hosts| {
        let mine = |line: &mut DestinationState| Some(&line.destination) == hosts.group.as_ref();
        let queue = lines.extract_if(.., mine).next();
        Upstream { hosts, queue }
    });
    Json(rows.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    since: Option<Timestamp>,
    host: Option<String>,
}

async fn outages(
    State(relay): State<Relay>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<Outage>> {
    let Query(Which { since, host }) = which?;
    Ok(Json(relay.router().outages(&WhichOutages { since, host })))
}
