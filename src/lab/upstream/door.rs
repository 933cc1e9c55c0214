//! Where connections come in: what the script says before the greeting.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Shared;
use super::session::Session;
use crate::lab::script::{Answer, Deed, Stage};
use crate::net::{Listener, Network, Stream, Weather};

/// Has the network in memory ask before there is a connection.
pub(super) fn guard(network: &Network, shared: &Arc<Shared>) {
    if let Network::Memory(memory) = network {
        // The gate lives in the network; it must not keep the upstream alive.
        let behind = Arc::downgrade(shared);
        memory.set_gate(shared.address, move || behind.upgrade().and_then(|shared| at_the_gate(&shared)));
    }
}

/// Accepts until it is aborted; the sessions end with it.
pub(super) async fn keep(mut listener: Listener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while sessions.try_join_next().is_some() {}
                sessions.spawn(connected(Arc::clone(&shared), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "the upstream cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// In memory a connection can be refused before it exists.
fn at_the_gate(shared: &Shared) -> Option<Weather> {
    let answer = ask_at_connect(shared);
    let weather = match answer.deed {
        Deed::Refuse => Some(Weather::Refused),
        Deed::Unreachable => Some(Weather::Unreachable),
        _ => None,
    };
    if weather.is_none() {
        shared.state().at_the_gate.push_back(answer);
    }
    weather
}

fn ask_at_connect(shared: &Shared) -> Answer {
    // Sessions are counted when they begin.
    shared.ask(0, 1, Stage::Connect, None, &[])
}

async fn connected(shared: Arc<Shared>, stream: Stream) {
    let asked = shared.state().at_the_gate.pop_front();
    let answer = asked.unwrap_or_else(|| ask_at_connect(&shared));
    tokio::time::sleep(answer.delay).await;
    match answer.deed {
        Deed::Refuse | Deed::Unreachable | Deed::Reset => stream.reset(),
        Deed::Close => drop(stream),
        Deed::Silence => super::deeds::stay_silent(stream).await,
        _ => {
            let number = {
                let mut state = shared.state();
                state.sessions += 1;
                state.sessions
            };
            Session::new(shared, stream, number).run().await;
        }
    }
}
