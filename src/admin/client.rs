//! The other end of the socket, for the command line and for programs.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Refused, SOCKET};

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

    /// Takes something away, and reads the answer as JSON.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.no_connection(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(ClientError::Broken)?;
        // It ends with the sender; what goes wrong on it is seen there.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "posthouse")
            .body(Empty::<Bytes>::new())
            .expect("paths are made of ids and encoded words");
        let response = sender.send_request(request).await.map_err(ClientError::Broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(ClientError::Answer);
        }
        let refused: Refused = serde_json::from_slice(&body).map_err(ClientError::Answer)?;
        Err(ClientError::Refused(refused.error))
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
