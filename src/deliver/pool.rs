//! Connections that wait for the next message to the same host.
//!
//! Contract: a connection that has finished a transaction may be `park`ed; `take` gives one that is still good. Which hop
//! it leads to includes the terms on which it was opened: nobody sends over another one's TLS or password.
//! Invariants: a parked connection is closed with QUIT when nobody has wanted it for a while, when it is too old, and at
//! once when enough are kept for its host. One task sees to that while there is anything to see to.
//! Not here: how many are in use at once, which the windows of the destinations decide (`queue`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use super::settings::Settings;
use crate::route::NextHop;

struct Parked {
    connection: Connection,
    /// Real time, as all that concerns connections.
    until: Instant,
}

pub(super) struct Pool {
    idle: Duration,
    age: Duration,
    per_host: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parked: HashMap<NextHop, Vec<Parked>>,
    /// The task that closes what nobody wants is running.
    watched: bool,
}

impl Pool {
    pub fn new(settings: &Settings) -> Arc<Self> {
        let Settings { idle_connection: idle, connection_age: age, idle_per_host: per_host, .. } = *settings;
        Arc::new(Self { idle, age, per_host, state: Mutex::default() })
    }

    /// Keeps it for the next message, unless that is not worth while.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn park(self: &Arc<Self>, connection: Connection) {
        let now = Instant::now();
        let until = (now + self.idle).min(connection.opened() + self.age);
        let mut state = self.state.lock().expect("no holder panics");
        let waiting = state.parked.get(connection.hop()).map_or(0, Vec::len);
        if until <= now || waiting >= self.per_host {
            // No trace of it stays: there may be any number of hosts.
            drop(state);
            tokio::spawn(connection.quit());
            return;
        }
        state.parked.entry(connection.hop().clone()).or_default().push(Parked { connection, until });
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(Arc::clone(self).watch());
        }
    }

    /// The connection that was used last, if it is still alive.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn take(&self, hop: &NextHop) -> Option<Connection> {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no holder panics");
        let waiting = state.parked.get_mut(hop)?;
        let mut found = None;
        while let Some(mut candidate) = waiting.pop() {
            if candidate.until <= now {
                tokio::spawn(candidate.connection.quit());
            } else if candidate.connection.is_quiet() {
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

#[cfg(test)]
mod tests {
    use super::super::connection::Opener;
    use super::super::settings::Timeouts;
    use super::*;
    use crate::net::{ClientTls, MemoryNetwork, Network};

    #[tokio::test(start_paused = true)]
    async fn of_a_connection_that_is_not_kept_nothing_is() {
        let network = Network::Memory(MemoryNetwork::new());
        let address = "192.0.2.25:25".parse().unwrap();
        let mut listener = network.bind(address).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for say in ["220 hi\r\n", "250 hello\r\n"] {
                tokio::io::AsyncWriteExt::write_all(&mut stream, say.as_bytes()).await.unwrap();
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut Vec::new()).await.unwrap();
            }
        });
        let (tls, timeouts) = (ClientTls::trusting([]).unwrap(), Timeouts::default());
        let in_clear = &|_: &super::super::classify::Trouble| {};
        let opener =
            Opener { network: &network, tls: &tls, hostname: "relay.example.org", timeouts, in_clear };
        let connection = opener.open(&NextHop::in_the_clear(address)).await.unwrap();
        let pool = Pool::new(&Settings { idle_connection: Duration::ZERO, ..Settings::default() });
        pool.park(connection);
        assert!(pool.state.lock().unwrap().parked.is_empty());
    }
}
