//! The requests about one upstream of a lab: its rules, its inbox, what it was asked.
//!
//! Contract: HTTP with JSON, served over a socket beside the relay's own requests (`/v1/lab/...` is ours alone). An
//! error is a status of 4xx or 5xx with `{"error": "..."}`.
//! Invariants: paths and field names are used by people's scripts: they may be added to, never changed.
//! Not here: the socket and who may speak to it (`admin`); how answers look on a terminal (the program).
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/lab/inbox` | a list of [`InboxRow`] |
//! | `GET /v1/lab/inbox/N` | [`Received`] |
//! | `GET /v1/lab/asked?most=` | a list of [`Asked`], the last ones |
//! | `GET /v1/lab/rules` | a list of [`RuleRow`], in the order in which they are asked |
//! | `POST /v1/lab/rules?rule=` | [`RuleRow`] |
//! | `POST /v1/lab/rules/N/forget` | [`RuleRow`] as it was |

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::script::{Rule, RuleError, Standing};
use super::{Asked, Received, Upstream};
use crate::clock::Timestamp;

/// A message that the upstream has kept, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    pub number: u64,
    pub at: Timestamp,
    /// The reverse-path; `<>` is the null one, that of notices.
    pub sender: String,
    pub recipients: Vec<String>,
    /// The Subject field as it stands in the content, unfolded; empty where there is none.
    pub subject: String,
    /// Octets of content.
    pub size: u64,
}

/// A rule of the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    pub number: u32,
    pub rule: String,
    /// How often it has decided.
    pub used: u64,
}

impl From<&Received> for InboxRow {
    fn from(message: &Received) -> Self {
        Self {
            number: message.number,
            at: message.at,
            sender: message.envelope.reverse_path.to_string(),
            recipients: message.envelope.recipients.iter().map(|r| r.address.to_string()).collect(),
            subject: subject(&message.content),
            size: message.to_octets().len() as u64,
        }
    }
}

impl From<&Standing> for RuleRow {
    fn from(standing: &Standing) -> Self {
        Self { number: standing.number, rule: standing.rule.to_string(), used: standing.used }
    }
}

/// The Subject field, unfolded.
fn subject(content: &str) -> String {
    let header = content.split_once("\r\n\r\n").map_or(content, |(header, _)| header);
    let mut lines = header.split("\r\n").skip_while(|line| !is_subject(line));
    let Some(first) = lines.next() else { return String::new() };
    let folded = lines.take_while(|line| line.starts_with([' ', '\t']));
    let value = std::iter::once(&first["subject:".len()..]).chain(folded).map(str::trim);
    value.collect::<Vec<_>>().join(" ")
}

fn is_subject(line: &str) -> bool {
    line.get(.."subject:".len()).is_some_and(|name| name.eq_ignore_ascii_case("subject:"))
}

/// An error answer.
#[derive(Debug)]
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
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

/// All that is known, in one line.
impl From<RuleError> for Failure {
    fn from(error: RuleError) -> Self {
        let mut text = format!("no rule: {error}");
        for (label, more) in [("expected ", &error.expected), ("", &error.hint)] {
            if let Some(more) = more {
                text += &format!("; {label}{more}");
            }
        }
        Self(StatusCode::BAD_REQUEST, text)
    }
}

type Answer<T> = Result<Json<T>, Failure>;

/// The requests about `upstream`.
pub fn routes_alone(upstream: Upstream) -> Router {
    routes(upstream).route("/v1/{*rest}", axum::routing::any(no_relay))
}

async fn no_relay() -> Failure {
    let error = "no relay here: this is the folder of a lab upstream; `posthouse lab inbox`, `asked` and `say` speak to it";
    Failure(StatusCode::NOT_FOUND, error.to_owned())
}

/// The same where a relay answers beside it.
pub fn routes(upstream: Upstream) -> Router {
    Router::new()
        .route("/v1/lab/inbox", get(inbox))
        .route("/v1/lab/inbox/{number}", get(message))
        .route("/v1/lab/asked", get(asked))
        .route("/v1/lab/rules", get(rules).post(say))
        .route("/v1/lab/rules/{number}/forget", post(forget))
        .with_state(upstream)
}

async fn inbox(State(upstream): State<Upstream>) -> Json<Vec<InboxRow>> {
    Json(upstream.received().iter().map(InboxRow::from).collect())
}

async fn message(
    State(upstream): State<Upstream>,
    number: Result<Path<u64>, PathRejection>,
) -> Answer<Received> {
    let Path(number) = number?;
    let found = upstream.newest(|message| message.number == number);
    found
        .map(Json)
        .ok_or_else(|| Failure(StatusCode::NOT_FOUND, format!("there is no message {number} in the inbox")))
}

/// How many rows; 0 for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Most {
    #[serde(default)]
    most: usize,
}

async fn asked(
    State(upstream): State<Upstream>,
    most: Result<Query<Most>, QueryRejection>,
) -> Answer<Vec<Asked>> {
    let Query(Most { most }) = most?;
    let mut asked = upstream.asked();
    let skipped = if most == 0 { 0 } else { asked.len().saturating_sub(most) };
    asked.drain(..skipped);
    Ok(Json(asked))
}

async fn rules(State(upstream): State<Upstream>) -> Json<Vec<RuleRow>> {
    Json(upstream.rules().iter().map(RuleRow::from).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    rule: String,
}

async fn say(State(upstream): State<Upstream>, said: Result<Query<Said>, QueryRejection>) -> Answer<RuleRow> {
    let rule: Rule = said?.0.rule.parse()?;
    let text = rule.to_string();
    let number = upstream.say(rule);
    Ok(Json(RuleRow { number, rule: text, used: 0 }))
}

async fn forget(
    State(upstream): State<Upstream>,
    number: Result<Path<u32>, PathRejection>,
) -> Answer<RuleRow> {
    let Path(number) = number?;
    let row = upstream.rules().iter().find(|standing| standing.number == number).map(RuleRow::from);
    match row {
        Some(row) if upstream.forget(number) => Ok(Json(row)),
        _ => {
            let error = format!("there is no rule {number}; `posthouse lab say --list` shows them");
            Err(Failure(StatusCode::NOT_FOUND, error))
        }
    }
}
