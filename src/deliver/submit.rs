//! One message, once, to one server: what a command or a test needs, without a queue.

use std::net::SocketAddr;
use std::time::Duration;

use super::classify::{self, Ended, Trouble};
use super::connection::{Connection, Opener};
use super::convert::Conversion;
use super::fate::Fate;
use super::offer::Offer;
use super::ruling::{Others, Stage};
use super::settings::Timeouts;
use super::unfit;
use crate::mail::{Address, Content, Envelope, Host, Outcome};

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
    let outcomes: Vec<Outcome> = match Opener::open_in_clear(address, timeouts).await {
        Err((stage, trouble)) => vec![classify::of_host(&host, stage, &trouble); recipients.len()],
        Ok(connection) => hand_over(connection, &host, &envelope, &content).await,
    };
    recipients.into_iter().zip(outcomes).collect()
}

/// An outcome for each recipient. There is more than one transaction only where the host's limits leave no room for all in
/// one.
async fn hand_over(
    mut connection: Connection,
    host: &Host,
    envelope: &Envelope,
    content: &Content,
) -> Vec<Outcome> {
    let mut outcomes = vec![None; envelope.recipients.len()];
    let mut waiting: Vec<u32> = (0..outcomes.len() as u32).collect();
    let conversion = Conversion::default();
    while !waiting.is_empty() && connection.is_ready() {
        let extensions = connection.extensions();
        let offer = Offer::of(envelope, content, &waiting, extensions, false, Duration::ZERO, &conversion);
        let unfit = offer.unfit.iter().map(|(index, why)| (*index, unfit::unfit(host, *why, Others::None)));
        let mut fates: Vec<(u32, Fate)> = unfit.collect();
        if !offer.recipients.is_empty() {
            let (report, trouble) = connection.send(offer.transaction).await;
            let lost = trouble.as_ref();
            let ended = Ended { host, report: &report, dsn: offer.notifies, lost, others: Others::None };
            fates.extend(offer.recipients.into_iter().zip(ended.fates()));
        }
        // Asked again only while somebody else gets an answer: else they would be asked about for ever.
        let room = fates.iter().any(|(_, fate)| !matches!(fate, Fate::Again(_)));
        for (index, fate) in fates {
            match fate {
                Fate::Again(_) if room => {}
                Fate::Settled(outcome) | Fate::Elsewhere(outcome) | Fate::Again(outcome) => {
                    outcomes[index as usize] = Some(outcome);
                }
            }
        }
        waiting.retain(|index| outcomes[*index as usize].is_none());
    }
    if connection.is_ready() {
        connection.quit().await;
    }
    let unsaid = || classify::of_host(host, Stage::Mail, &Trouble::Closed);
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unsaid)).collect()
}
