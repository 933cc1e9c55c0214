//! Connections that wait for the next message to the same host.
//!
//! Contract: a connection that has finished a transaction may be `park`ed; `take` gives one that is still good.
//! Invariants: a parked connection is closed with QUIT when nobody wants it for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;
use crate::route::NextHop;

struct Parked {
    connection: Connection,
    /// Real time, as all that concerns connections.
    until: Instant,
}

#[derive(Default)]
pub(super) struct Pool {
    parked: Mutex<HashMap<NextHop, Vec<Parked>>>,
    /// The pool was empty and no longer is.
    filled: Notify,
}

impl Pool {
    /// A pool, with the task that closes what nobody wants. The task ends with the pool.
    pub fn start(idle: Duration) -> Arc<Self> {
        let pool = Arc::new(Self::default());
        tokio::spawn(tidy(Arc::downgrade(&pool), idle));
        pool
    }

    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn park(&self, connection: Connection, idle: Duration) {
        let until = Instant::now() + idle;
        let mut parked = self.parked.lock().expect("no holder panics");
        parked.entry(connection.hop().clone()).or_default().push(Parked { connection, until });
        drop(parked);
        self.filled.notify_one();
    }

    /// The connection that was used last, if it is still alive.
    pub fn take(&self, hop: &NextHop) -> Option<Connection> {
        let mut parked = self.parked.lock().expect("no holder panics");
        let waiting = parked.get_mut(hop)?;
        let mut found = None;
        while let Some(mut candidate) = waiting.pop() {
            if candidate.connection.is_quiet() {
                found = Some(candidate.connection);
                break;
            }
        }
        if waiting.is_empty() {
            parked.remove(hop);
        }
        found
    }

    /// Takes out all whose time is over by `moment`.
    fn expired(&self, moment: Instant) -> Vec<Connection> {
        let mut parked = self.parked.lock().expect("no holder panics");
        let mut expired = Vec::new();
        parked.retain(|_, waiting| {
            expired.extend(waiting.extract_if(.., |parked| parked.until <= moment).map(|p| p.connection));
            !waiting.is_empty()
        });
        expired
    }

    fn is_empty(&self) -> bool {
        self.parked.lock().expect("no holder panics").is_empty()
    }

    /// Says QUIT on all and forgets them.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub async fn close(&self) {
        let all = self.expired(Instant::now() + Duration::from_secs(86_400));
        let goodbyes: JoinSet<()> = all.into_iter().map(Connection::quit).collect();
        goodbyes.join_all().await;
    }
}

#[allow(clippy::disallowed_methods)] // connections live in real time
async fn tidy(pool: std::sync::Weak<Pool>, idle: Duration) {
    loop {
        let Some(strong) = pool.upgrade() else { return };
        if strong.is_empty() {
            // Held only while it waits for the first; an empty pool that is dropped takes its task along.
            let filled = Arc::clone(&strong);
            drop(strong);
            tokio::select! {
                biased;
                () = filled.filled.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
            }
            continue;
        }
        for connection in strong.expired(Instant::now()) {
            tokio::spawn(connection.quit());
        }
        drop(strong);
        tokio::time::sleep(idle.max(Duration::from_millis(200)) / 2).await;
    }
}
