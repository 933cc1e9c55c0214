//! What every request is answered with: JSON, or why it was not carried out.
//!
//! Contract: a refusal is a status of HTTP and one sentence in `{"error": ...}`. 404: there is no such thing. 409: it is
//! there, and not in a state for this. 400: the request cannot be read.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::queue::OperateError;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub error: String,
}

/// An error answer.
pub(super) struct Failure(pub StatusCode, pub String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(Refused { error: self.1 })).into_response()
    }
}

impl From<OperateError> for Failure {
    fn from(error: OperateError) -> Self {
        let status = match &error {
            OperateError::Unknown(_) => StatusCode::NOT_FOUND,
            OperateError::Held(_)
            | OperateError::NotHeld(_)
            | OperateError::HeldByRoute(_)
            | OperateError::NothingWaits(_)
            | OperateError::NotKept(_)
            | OperateError::Uncertain(_) => StatusCode::CONFLICT,
            OperateError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            OperateError::Load(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;
