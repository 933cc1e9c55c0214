//! One message, once, to one server: what a command or a test needs, without a queue.

use std::net::SocketAddr;

use super::classify::{self, Fate};
use super::connection::Opener;
use super::settings::Timeouts;
use crate::mail::{Address, Content, Envelope, Host, Outcome};
use crate::net::{ClientTls, Network};
use crate::route::NextHop;
use crate::smtp::client::Transaction;

/// Hands a message to the server at `address`, over TCP in the clear, and tells what it said to each recipient. Nothing
/// is tried again.
pub async fn submit(
    address: SocketAddr,
    envelope: Envelope,
    content: Content,
    timeouts: Timeouts,
) -> Vec<(Address, Outcome)> {
    let recipients: Vec<Address> = envelope.recipients.iter().map(|r| r.address.clone()).collect();
    let host = Host::at(address.ip().to_string(), address);
    let hop = NextHop::in_the_clear(address);
    // An address literal is a good name for a client without one (RFC 5321 section 4.1.4).
    let opener = Opener { network: &Network::System, tls: &no_tls(), hostname: &literal(address), timeouts };
    let outcomes: Vec<Outcome> = match opener.open(&hop).await {
        Err((stage, trouble)) => vec![classify::of_host(&host, stage, &trouble); recipients.len()],
        Ok(mut connection) => {
            let dsn = connection.extensions().dsn;
            let (report, trouble) = connection.send(Transaction::new(envelope, content)).await;
            let fates = classify::of_transaction(&host, &report, dsn, trouble.as_ref());
            if trouble.is_none() && connection.is_ready().await {
                connection.quit().await;
            }
            fates.into_iter().map(|(Fate::Settled(outcome) | Fate::Elsewhere(outcome))| outcome).collect()
        }
    };
    recipients.into_iter().zip(outcomes).collect()
}

/// For hops in the clear, which never ask for it: nobody is trusted, and no file of authorities is read.
pub(super) fn no_tls() -> ClientTls {
    ClientTls::trusting([]).expect("without authorities none can be faulty")
}

/// How a client without a name calls itself towards `address`.
pub(super) fn literal(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => format!("[{}]", address.ip()),
        SocketAddr::V6(address) => format!("[IPv6:{}]", address.ip()),
    }
}
