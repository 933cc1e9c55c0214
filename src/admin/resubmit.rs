//! `POST /v1/resubmit`: what an upstream took and lost is sent again.
//!
//! Not here: what that means (`relay`), the question whether it is meant (the command line).

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;

use super::answer::{Answer, Failure};
use crate::relay::{Relay, Resubmission, ResubmitError, SentAgain};

pub(super) async fn resubmit(
    State(relay): State<Relay>,
    asked: Result<Json<Resubmission>, JsonRejection>,
) -> Answer<SentAgain> {
    let Json(asked) = asked.map_err(|rejection| Failure(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    match relay.resubmit(&asked).await {
        Ok(sent) => Ok(Json(sent)),
        Err(ResubmitError::Queue(error)) => Err(error.into()),
        Err(error @ ResubmitError::NoSafetyNet) => Err(Failure(StatusCode::CONFLICT, error.to_string())),
        Err(error) => Err(Failure(StatusCode::NOT_FOUND, error.to_string())),
    }
}
