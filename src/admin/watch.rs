//! Watching single clients: all that they say is kept for a while.
//!
//! Not here: what is kept of a session, and who is watched (`accept`).

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use serde::Deserialize;

use super::answer::{Answer, Failure};
use crate::accept::Watched;
use crate::relay::Relay;

const DEFAULT_SECONDS: u64 = 600;
/// Longer than a day is no look any more, but a habit: `[tracking] sessions = "all"`.
const MOST_SECONDS: u64 = 86_400;

pub(super) fn routes() -> Router<Relay> {
    Router::new().route("/v1/watch", get(list).post(add).delete(remove))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    peer: String,
    seconds: Option<u64>,
}

async fn list(State(relay): State<Relay>) -> Json<Vec<Watched>> {
    Json(relay.watched())
}

async fn add(State(relay): State<Relay>, wish: Result<Query<Wish>, QueryRejection>) -> Answer<Vec<Watched>> {
    let Query(wish) = wish?;
    let seconds = wish.seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        let error = format!(
            "{seconds} seconds: expected 1 to {MOST_SECONDS}; to keep all sessions for good, set [tracking] sessions = \"all\""
        );
        return Err(Failure(StatusCode::BAD_REQUEST, error));
    }
    let added = relay.watch(peer(&wish.peer)?, Duration::from_secs(seconds));
    added.map_err(|error| Failure(StatusCode::CONFLICT, error.to_string()))?;
    Ok(Json(relay.watched()))
}

async fn remove(
    State(relay): State<Relay>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Answer<Vec<Watched>> {
    let Query(wish) = wish?;
    if !relay.unwatch(peer(&wish.peer)?) {
        return Err(Failure(StatusCode::NOT_FOUND, format!("{} is not watched", wish.peer)));
    }
    Ok(Json(relay.watched()))
}

/// An address, or a network.
fn peer(text: &str) -> Result<IpNet, Failure> {
    let address = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        let error =
            format!("{text:?} is neither an address such as 192.0.2.7 nor a network such as 192.0.2.0/24");
        Failure(StatusCode::BAD_REQUEST, error)
    })
}
