//! `posthouse track --watch`: asks a running relay to keep all sessions of a client.
//!
//! Not here: who is watched (`posthouse::accept`).

use std::time::Duration;

use ipnet::IpNet;
use posthouse::accept::Watched;
use posthouse::admin::Client;
use tracing::Level;

use super::Format;
use crate::failed::Failed;
use crate::print;
use crate::queue::{encoded, rough};

/// What is wished.
pub enum Wish {
    Watch(IpNet, Duration),
    Unwatch(IpNet),
    List,
}

pub fn run(client: Client, wish: Wish, format: Format) -> Result<(), Failed> {
    crate::block_on(Level::WARN, async {
        let watched: Vec<Watched> = match wish {
            Wish::Watch(peer, time) => {
                let path =
                    format!("/v1/watch?peer={}&seconds={}", encoded(&peer.to_string()), time.as_secs());
                client.post(&path).await?
            }
            Wish::Unwatch(peer) => {
                client.delete(&format!("/v1/watch?peer={}", encoded(&peer.to_string()))).await?
            }
            Wish::List => client.get("/v1/watch").await?,
        };
        if format == Format::Json {
            return print::json(&watched);
        }
        if watched.is_empty() {
            return print::text("nobody is watched\n");
        }
        let row = |watched: &Watched| {
            let left = rough(Duration::from_secs(watched.seconds_left));
            format!(
                "{} is watched for another {left}; see `posthouse track --sessions --client {0}`\n",
                watched.peer
            )
        };
        print::text(&watched.iter().map(row).collect::<String>())
    })
}
