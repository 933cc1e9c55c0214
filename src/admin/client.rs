//! The other end of the socket, for the command line and for programs.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::messages::{ABOVE, IDEMPOTENCY_KEY};
use super::{Declined, Refused, SOCKET, Submitted, api};
use crate::mail::{QueueId, Reply};
use crate::submission::{EnvelopeFields, Key};

/// Speaks to the relay that owns a spool folder.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no posthouse runs on {}: there is no control socket; is --spool (or --config) the folder of the running one?", folder.display())]
    NotRunning { folder: PathBuf },
    #[error("may not open {}: run this as the user that posthouse runs as, or as root", path.display())]
    NotAllowed { path: PathBuf },
    #[error("cannot reach posthouse at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the connection to posthouse broke")]
    Broken(#[source] hyper::Error),
    /// What posthouse said.
    #[error("{0}")]
    Refused(String),
    /// A message that was not taken.
    #[error("the message was refused: {0}")]
    Declined(Reply),
    #[error("posthouse gave an answer that this program does not understand; are they of the same version?")]
    Answer(#[source] serde_json::Error),
}

impl Client {
    /// For the relay whose spool is `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { socket: folder.join(SOCKET) }
    }

    /// Asks, and reads the answer as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path).await
    }

    /// Acts, and reads the answer as JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::POST, path).await
    }

    /// Acts as the JSON says, and reads the answer as JSON.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("plain values always encode");
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Takes something away, and reads the answer as JSON.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path).await
    }

    /// Hands in a message; durable when it returns. The key makes a second try the first one again.
    pub async fn submit(
        &self,
        fields: &EnvelopeFields,
        content: &[u8],
        key: &Key,
    ) -> Result<QueueId, ClientError> {
        let body = [fields.to_string().as_bytes(), content].concat();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}?{ABOVE}", api::MESSAGES))
            .header(hyper::header::HOST, "posthouse")
            .header(hyper::header::CONTENT_TYPE, "message/rfc822")
            .header(IDEMPOTENCY_KEY, format!("\"{key}\""))
            .body(Full::new(Bytes::from(body)))
            .expect("a key is printable");
        let response = self.exchange(request).await?;
        if response.status() == StatusCode::CREATED {
            let submitted: Submitted =
                serde_json::from_slice(response.body()).map_err(ClientError::Answer)?;
            return Ok(submitted.id);
        }
        match serde_json::from_slice::<Declined>(response.body()) {
            Ok(declined) => Err(ClientError::Declined(declined.reply())),
            Err(_) => Err(refused(response.body())),
        }
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        self.ask(method, path, None).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        json: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let mut request =
            Request::builder().method(method).uri(path).header(hyper::header::HOST, "posthouse");
        if json.is_some() {
            request = request.header(hyper::header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::from(json.unwrap_or_default()))
            .expect("paths are made of ids and encoded words");
        let response = self.exchange(request).await?;
        if response.status() == StatusCode::OK {
            return serde_json::from_slice(response.body()).map_err(ClientError::Answer);
        }
        Err(refused(response.body()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.no_connection(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(ClientError::Broken)?;
        // It ends with the sender; what goes wrong on it is seen there.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(ClientError::Broken)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(ClientError::Broken)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    fn no_connection(&self, error: io::Error) -> ClientError {
        let path = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let folder = path.parent().map(Path::to_owned).unwrap_or_default();
                ClientError::NotRunning { folder }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path },
            _ => ClientError::Connect { path, source: error },
        }
    }
}

fn refused(body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => ClientError::Refused(refused.error),
        Err(error) => ClientError::Answer(error),
    }
}
