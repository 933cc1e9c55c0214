//! The API over TCP, for those who have a token.
//!
//! Contract: [`Door::start`] serves the routes of the control socket at an address, [`Door::reload`] takes new tokens.
//! Every request brings `Authorization: Bearer`; there is no request without. It is HTTP in the clear: for loopback,
//! for a network that is trusted, or behind something that speaks TLS. There are no CORS headers.
//! Invariants: at most [`CONNECTIONS_MAX`] connections; one that sends no request for [`HEADER_PATIENCE`] is closed.
//! Not here: what the requests do (`api`, `messages`), what a token permits (`tokens`).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::tokens::{Permitted, Tokens};
use super::{Refused, api};
use crate::accept;

/// Connections at one time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may go without the header of a request.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);

/// The API of one relay at an address, while it is served. Dropping it ends that, and cuts what is under way.
pub struct Door {
    task: JoinHandle<()>,
    address: SocketAddr,
    tokens: Arc<RwLock<Tokens>>,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the API at {address}, see [admin] address")]
pub struct DoorError {
    address: SocketAddr,
    source: io::Error,
}

impl Door {
    /// Listens at `address`; port 0 takes a free one.
    pub async fn start(address: SocketAddr, tokens: Tokens, routes: Router) -> Result<Self, DoorError> {
        let failed = |source| DoorError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let tokens = Arc::new(RwLock::new(tokens));
        let gate = from_fn_with_state(Arc::clone(&tokens), guarded);
        let task = tokio::spawn(serve(socket, routes.fallback(api::unknown_path).layer(gate)));
        Ok(Self { task, address, tokens })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the next request on.
    pub fn reload(&self, tokens: Tokens) {
        *self.tokens.write().expect("no holder panics") = tokens;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        while connections.try_join_next().is_some() {}
        match socket.accept().await {
            Ok((stream, peer)) => {
                let routes = routes.clone();
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, peer, routes).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, routes: Router) {
    let client = accept::Client {
        address: Some(peer.ip()),
        listener: stream.local_addr().ok(),
        ..accept::Client::default()
    };
    let service = TowerToHyperService::new(routes.layer(axum::Extension(client)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "a connection to the API ended");
    }
}

/// Lets a request pass that its token permits, as a client with the name of that token.
async fn guarded(State(tokens): State<Arc<RwLock<Tokens>>>, mut request: Request, next: Next) -> Response {
    let permitted = tokens.read().expect("no holder panics").permitted(request.headers());
    let user = match permitted {
        Permitted::Everything => "admin.token_file",
        Permitted::Submission if request.uri().path() == api::MESSAGES => "admin.submit_token_file",
        Permitted::Submission => {
            let error = format!("this token permits POST {} and nothing else", api::MESSAGES);
            return (StatusCode::FORBIDDEN, Json(Refused { error })).into_response();
        }
        Permitted::Nothing => {
            let error = "send Authorization: Bearer with the token of [admin] token_file".to_owned();
            let mut refusal = (StatusCode::UNAUTHORIZED, Json(Refused { error })).into_response();
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            // One answer fits into the socket whether it is read or not: a stranger holds no place by not reading.
            refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return refusal;
        }
    };
    if let Some(client) = request.extensions_mut().get_mut::<accept::Client>() {
        client.user = Some(user.to_owned());
    }
    next.run(request).await
}
