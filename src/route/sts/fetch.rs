//! A policy is fetched: `https://mta-sts.DOMAIN/.well-known/mta-sts.txt` (RFC 8461 section 3.3).
//!
//! Contract: [`PolicyServer::fetch`] ends within the time that it is given, reads 64 KiB at most, follows no redirect, and takes a policy
//! only over TLS whose certificate is verified for the name.
//! Invariants: whoever controls a domain cannot make us connect to where MX routing must not go either.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::policy::{Policy, PolicyError};
use crate::net::{ClientTls, Network, Stream, TlsCheck, TlsError};
use crate::route::names::{NameError, Names};

/// For all of it, while mail waits to hear what is demanded.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// For one address, so that a dead one leaves time for the next.
const CONNECT: Duration = Duration::from_secs(10);
const OCTETS_MAX: usize = 64 << 10;
const PATH: &str = "/.well-known/mta-sts.txt";

/// How policy servers are reached.
pub struct PolicyServer<'a> {
    pub names: &'a dyn Names,
    pub network: &'a Network,
    pub tls: &'a ClientTls,
    /// 443 in the real world.
    pub port: u16,
}

/// Why no policy came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("looking up {host}: {error}")]
    Names { host: String, error: NameError },
    #[error("{0}")]
    Refused(String),
    #[error("connecting to {address}: {error}")]
    Connect { address: SocketAddr, error: std::io::Error },
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the policy server answered {0}")]
    Status(StatusCode),
    #[error("what came is no text/plain")]
    MediaType,
    #[error("the policy cannot be read, or has more than {} KiB", OCTETS_MAX >> 10)]
    Body,
    #[error("it is no policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("no policy within {}", humantime::format_duration(*.0))]
    Late(Duration),
}

impl PolicyServer<'_> {
    /// The policy of `domain`. `refused` says why an address must not be connected to.
    pub(super) async fn fetch(
        &self,
        domain: &str,
        limit: Duration,
        refused: impl Fn(SocketAddr) -> Option<String>,
    ) -> Result<Policy, FetchError> {
        let work = async {
            let host = format!("mta-sts.{domain}");
            let stream = self.connect(&host, refused).await?;
            let stream = stream.start_tls_client(self.tls, TlsCheck::Verified, &host, limit).await?;
            Ok(Policy::parse(&get(stream, &host).await?)?)
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(FetchError::Late(limit)))
    }

    async fn connect(
        &self,
        host: &str,
        refused: impl Fn(SocketAddr) -> Option<String>,
    ) -> Result<Stream, FetchError> {
        let addresses = self.names.addresses(host).await;
        let addresses = addresses.map_err(|error| FetchError::Names { host: host.to_owned(), error })?;
        let mut last = FetchError::Names { host: host.to_owned(), error: NameError::NoRecords };
        for ip in addresses.records {
            let address = SocketAddr::new(ip, self.port);
            if let Some(reason) = refused(address) {
                last = FetchError::Refused(format!("{host} [{ip}]: {reason}"));
                continue;
            }
            match self.network.connect(address, CONNECT).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = FetchError::Connect { address, error },
            }
        }
        Err(last)
    }
}

async fn get(stream: Stream, host: &str) -> Result<String, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(PATH).header(HOST, host).body(Empty::<Bytes>::new());
    let request = request.expect("a path that is fixed and a domain make a request");
    let talk = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let media = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = media.map(|value| value.split(';').next().unwrap_or_default().trim());
        if !media.is_some_and(|media| media.eq_ignore_ascii_case("text/plain")) {
            return Err(FetchError::MediaType);
        }
        let body = Limited::new(response.into_body(), OCTETS_MAX).collect().await;
        let octets = body.map_err(|_| FetchError::Body)?.to_bytes();
        String::from_utf8(octets.to_vec()).map_err(|_| FetchError::Body)
    };
    // The connection ends with what it was made for: nothing of it is left behind.
    let mut connection = Box::pin(connection);
    tokio::pin!(talk);
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        // A server that has answered may hang up in any way it likes. Where it has not, the talk knows by now.
        _ = &mut connection => {
            drop(connection);
            talk.await
        }
    }
}
