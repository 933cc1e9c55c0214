//! The way of a domain's mail, as the running relay sees it: its own DNS answers, its own view of which host is sick.
//!
//! Not here: the explanation (`relay`).

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::answer::{Answer, Failure};
use crate::mail::{Address, Source};
use crate::relay::{Explanation, Relay};

pub(super) fn routes() -> Router<Relay> {
    Router::new().route("/v1/route", get(explain))
}

/// Whose mail, and to where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    domain: String,
    /// The sender's address; the null reverse-path without one.
    from: Option<String>,
    user: Option<String>,
    listener: Option<String>,
}

async fn explain(
    State(relay): State<Relay>,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Explanation> {
    let Query(Which { domain, from, user, listener }) = which?;
    let wrong = |text: &str| {
        let error = format!("{text:?} is neither a domain nor an address");
        Failure(StatusCode::BAD_REQUEST, error)
    };
    let to: Address = format!("x@{domain}").parse().map_err(|_| wrong(&domain))?;
    let from: Option<Address> = match from {
        Some(from) => Some(from.parse().map_err(|_| wrong(&from))?),
        None => None,
    };
    let source = Source {
        sender: from.as_ref().map(|address| address.ascii_domain().to_ascii_lowercase().into()),
        user: user.map(Into::into),
        listener: listener.map(Into::into),
    };
    Ok(Json(relay.explain(&to.ascii_domain(), &source).await))
}
