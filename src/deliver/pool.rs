//! Connections that wait for the next message to the same host.
//!
//! Contract: a connection that has finished a transaction may be `park`ed; `take` gives one that is still good.
//! Invariants: a parked connection is closed with QUIT when nobody has wanted it for a while. One task sees to that while
//! there is anything to see to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use crate::route::NextHop;

struct Parked {
    connection: Connection,
    /// Real time, as all that concerns connections.
    until: Instant,
}

pub(super) struct Pool {
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parked: HashMap<NextHop, Vec<Parked>>,
    /// The task that closes what nobody wants is running.
    watched: bool,
}

impl Pool {
    /// Connections are kept for `idle`, real time.
    pub fn new(idle: Duration) -> Arc<Self> {
        Arc::new(Self { idle, state: Mutex::default() })
    }

    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn park(self: &Arc<Self>, connection: Connection) {
        let until = Instant::now() + self.idle;
        let mut state = self.state.lock().expect("no holder panics");
        state.parked.entry(connection.hop().clone()).or_default().push(Parked { connection, until });
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(Arc::clone(self).watch());
        }
    }

    /// The connection that was used last, if it is still alive.
    pub fn take(&self, hop: &NextHop) -> Option<Connection> {
        let mut state = self.state.lock().expect("no holder panics");
        let waiting = state.parked.get_mut(hop)?;
        let mut found = None;
        while let Some(mut candidate) = waiting.pop() {
            if candidate.connection.is_quiet() {
                found = Some(candidate.connection);
                break;
            }
        }
        if waiting.is_empty() {
            state.parked.remove(hop);
        }
        found
    }

    /// Says QUIT on all and forgets them.
    pub async fn close(&self) {
        let all = std::mem::take(&mut self.state.lock().expect("no holder panics").parked);
        let all = all.into_values().flatten().map(|parked| parked.connection.quit());
        all.collect::<JoinSet<()>>().join_all().await;
    }

    /// Closes what nobody wants, until nothing is left.
    async fn watch(self: Arc<Self>) {
        while let Some(expired) = self.expired() {
            for connection in expired {
                tokio::spawn(connection.quit());
            }
            tokio::time::sleep(self.idle.max(Duration::from_millis(200)) / 2).await;
        }
    }

    /// Takes out all whose time is over; `None` when nothing was there.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    fn expired(&self) -> Option<Vec<Connection>> {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no holder panics");
        if state.parked.is_empty() {
            state.watched = false;
            return None;
        }
        let mut expired = Vec::new();
        state.parked.retain(|_, waiting| {
            expired.extend(waiting.extract_if(.., |parked| parked.until <= now).map(|p| p.connection));
            !waiting.is_empty()
        });
        Some(expired)
    }
}
