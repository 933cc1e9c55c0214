//! `POST /v1/messages`: a message is handed in by HTTP.
//!
//! Contract: the body is `message/rfc822` (LF line ends become CRLF), with its envelope in the query
//! (`?from=alice@example.org&to=bob@example.com&to=carol@example.net`, and `notify`, `ret`, `envid` of RFC 3461), or
//! above the message (`?envelope=fields`, [`EnvelopeFields`]), or in its To, Cc and Bcc, of which Bcc is taken away; or
//! it is `application/json`, a [`Draft`]. With an `Idempotency-Key`, the same request within 24 hours is answered as the first one was, and another one with 422.
//! Answers: 201 with [`Submitted`], after the commit and never before; 400 for what cannot be read, 409 while the same
//! key is under way, 413, 415; 422 for a refusal that is final and 503 with Retry-After for one that is not, both with
//! [`Declined`].
//! Not here: who may ask (`tokens`), what is made of a draft (`submission`).

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};

use super::Refused as Failed;
use crate::accept::Client;
use crate::mail::{Address, Content, EnhancedStatus, Envelope, QueueId, Reply, ReplyClass, ReversePath};
use crate::submission::{
    Desk, Draft, Dsn, EnvelopeFields, Fingerprint, Key, Letter, Refused, reply, with_crlf,
};
use crate::tracking::Rejected;

/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(300);
/// What a client is told to wait after a refusal that is not final.
const RETRY_AFTER: &str = "60";
/// The query that says where the envelope is: in X-Sender and X-Receiver.
pub(super) const ABOVE: &str = "envelope=fields";
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that the answer is that of an earlier request.
const REPLAYED: &str = "idempotency-replayed";

/// A message that is safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    pub id: QueueId,
}

/// A message that was refused, as an SMTP client would have been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    pub error: String,
    /// The reply code of SMTP: 4yz or 5yz.
    pub code: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The reply's text, behind code and status.
    pub text: String,
}

impl Declined {
    fn of(reply: &Reply) -> Self {
        let status = reply.status();
        let whole = reply.to_string();
        // Behind "550 ", and "5.7.1 " where there is one.
        let text = whole.splitn(2 + usize::from(status.is_some()), ' ').last().unwrap_or_default();
        Self { error: whole.clone(), code: reply.code(), status, text: text.to_owned() }
    }

    /// The reply that it tells of.
    pub fn reply(&self) -> Reply {
        // Whoever answers may say anything; what is no code is one of a failure that may pass.
        let code = if (400..600).contains(&self.code) { self.code } else { 451 };
        Reply::new(code, self.status, &self.text)
    }
}

/// A request that cannot be carried out, and why.
struct Fault(StatusCode, String);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, Json(Failed { error: self.1 })).into_response()
    }
}

fn bad_request(error: impl ToString) -> Fault {
    Fault(StatusCode::BAD_REQUEST, error.to_string())
}

/// What is handed in.
struct Handed {
    envelope: Envelope,
    content: Content,
    request: Fingerprint,
}

pub(super) async fn submit(State(desk): State<Desk>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    // From a network, the gate has put there who it is; over the socket it is this machine.
    let client = parts.extensions.get::<Client>().cloned().unwrap_or_else(Client::here);
    let read = async {
        let key = key(&parts.headers)?;
        let query = parts.uri.query().unwrap_or_default();
        let handed = match media_type(&parts.headers).as_str() {
            "message/rfc822" => raw(query, &take(body, &parts.headers, desk.max_message_size()).await?),
            // Base64 and escapes make it longer than what it holds.
            "application/json" if query.is_empty() => {
                let most = desk.max_message_size().saturating_mul(2);
                draft(&desk, &take(body, &parts.headers, most).await?)
            }
            "application/json" => Err(bad_request("JSON brings its envelope itself: take the query away")),
            _ => {
                let error = "send Content-Type: message/rfc822, or application/json".into();
                Err(Fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
            }
        }?;
        Ok((key, handed))
    };
    let (key, Handed { envelope, content, request }) = match read.await {
        Ok(read) => read,
        Err(fault) => return told(&desk, &client, fault),
    };
    let sender = envelope.reverse_path.to_string();
    let key = key.as_ref().map(|key| (key, request));
    match desk.hand_in(&client, key, envelope, content).await {
        Ok(handed) => {
            let mut response = (StatusCode::CREATED, Json(Submitted { id: handed.id })).into_response();
            if handed.again {
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            response
        }
        Err(refused) => {
            if !matches!(refused, Refused::Relay(_)) {
                tell(&desk, &client, Some(&sender), &reply(&refused));
            }
            answer(&refused)
        }
    }
}

/// A refusal that the policy has not told the log of.
fn told(desk: &Desk, client: &Client, fault: Fault) -> Response {
    let status = EnhancedStatus::new(5, 6, 0);
    tell(desk, client, None, &Reply::new(554, Some(status), &fault.1));
    fault.into_response()
}

fn tell(desk: &Desk, client: &Client, sender: Option<&str>, reply: &Reply) {
    let Client { session, address, user, .. } = client;
    desk.relay().tell_refused(&Rejected {
        session: *session,
        client: *address,
        user: user.as_deref(),
        sender,
        recipient: None,
        reply,
        reason: "POST /v1/messages",
    });
}

fn answer(refused: &Refused) -> Response {
    let reply = reply(refused);
    let temporary = reply.class() == ReplyClass::TransientFailure;
    let (status, wait) = match refused {
        Refused::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
        Refused::KeyUnderWay => (StatusCode::CONFLICT, Some("1")),
        _ if temporary => (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER)),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, None),
    };
    let mut response = (status, Json(Declined::of(&reply))).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(wait));
    }
    response
}

/// With or without the quotes that its specification asks for.
fn key(headers: &HeaderMap) -> Result<Option<Key>, Fault> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(bad_request("there is more than one Idempotency-Key"));
    }
    let text = value.to_str().unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    text.parse().map(Some).map_err(|error| bad_request(format!("Idempotency-Key: {error}")))
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn take(body: Body, headers: &HeaderMap, most: u64) -> Result<Bytes, Fault> {
    let too_large = || {
        Fault(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is too large: at most {most} octets are taken"),
        )
    };
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|declared: u64| declared > most) {
        return Err(too_large());
    }
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    match tokio::time::timeout(BODY_PATIENCE, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Fault(StatusCode::REQUEST_TIMEOUT, "the body took too long to come".into())),
    }
}

fn draft(desk: &Desk, body: &[u8]) -> Result<Handed, Fault> {
    // The error says the line and the column.
    let draft: Draft = serde_json::from_slice(body).map_err(|error| bad_request(format!("JSON: {error}")))?;
    let relay = desk.relay();
    let id = format!("{:016x}{:016x}", relay.clock().chance(), relay.clock().chance());
    let composed = draft.compose(relay.clock().now(), &id, relay.hostname());
    let (envelope, content) = composed.map_err(|error| bad_request(with_cause(&error)))?;
    Ok(Handed { envelope, content: content.into(), request: Fingerprint::of(body) })
}

fn raw(query: &str, body: &[u8]) -> Result<Handed, Fault> {
    let mut letter = Letter::read(body);
    if query == ABOVE {
        let fields = EnvelopeFields::take(&mut letter).map_err(bad_request)?;
        let fields = fields.ok_or_else(|| bad_request("there is no X-Sender on top of the message"))?;
        let (envelope, content) = (fields.envelope, Content::from(letter.into_content()));
        let request = Fingerprint::of_message(&envelope, &content);
        return Ok(Handed { envelope, content, request });
    }
    let asked = Asked::read(query)?;
    let (recipients, content) = if asked.to.is_empty() {
        let recipients = letter.recipients(None).map_err(|error| bad_request(with_cause(&error)))?;
        letter.remove_blind_copies();
        (recipients, None)
    } else {
        // Its envelope is known: all of the content stays as it is.
        (asked.to, Some(with_crlf(body)))
    };
    let reverse_path = match asked.from {
        Some(reverse_path) => reverse_path,
        None => letter.sender(None).map_err(|error| bad_request(with_cause(&error)))?.into(),
    };
    let mut envelope = Envelope::new(reverse_path, recipients);
    asked.dsn.fill(&mut envelope).map_err(bad_request)?;
    let content = Content::from(content.unwrap_or_else(|| letter.into_content()));
    let request = Fingerprint::of_message(&envelope, &content);
    Ok(Handed { envelope, content, request })
}

/// The envelope of a query.
#[derive(Default)]
struct Asked {
    from: Option<ReversePath>,
    to: Vec<Address>,
    dsn: Dsn,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Fault> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let address = || {
                let wrong = |error| bad_request(format!("the query's {name}={value}: {error}"));
                value.parse::<Address>().map_err(wrong)
            };
            match name.as_ref() {
                "from" if matches!(value.as_ref(), "" | "<>") => asked.from = Some(ReversePath::NULL),
                "from" => asked.from = Some(address()?.into()),
                "to" => asked.to.push(address()?),
                "notify" => asked.dsn.notify.push(value.into_owned()),
                "ret" => asked.dsn.ret = Some(value.into_owned()),
                "envid" => asked.dsn.envid = Some(value.into_owned()),
                _ => {
                    let known = "from, to, notify, ret, envid";
                    let error =
                        format!("the query has {name:?}, which is none of {known}; or it is {ABOVE} alone");
                    return Err(bad_request(error));
                }
            }
        }
        Ok(asked)
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
