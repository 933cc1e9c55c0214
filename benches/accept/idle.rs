//! Connections that say EHLO and nothing more.
//!
//! Contract: `idle PORT SESSIONS [CERTIFICATE]` opens them, says `ready`, and keeps them until it is given a line.
//! Not here: what they take of the server's memory (`run`).

use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::load::OPENING;
use super::session::{Session, connector};
use super::{Failure, ready};

pub fn run(words: &[&str]) -> Result<(), Failure> {
    let [port, sessions, certificate @ ..] = words else {
        return Err("idle PORT SESSIONS [CERTIFICATE]".into());
    };
    let (port, sessions): (u16, usize) = (port.parse()?, sessions.parse()?);
    let connector = certificate.first().map(|certificate| connector(certificate)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let turns = Rc::new(Semaphore::new(OPENING));
        let mut opening = JoinSet::new();
        for _ in 0..sessions {
            let (turns, connector) = (Rc::clone(&turns), connector.clone());
            opening.spawn_local(async move {
                let _turn = turns.acquire().await?;
                Session::open(port, connector.as_ref()).await
            });
        }
        let mut kept = Vec::new();
        while let Some(session) = opening.join_next().await {
            kept.push(session??);
        }
        ready().await
    })
}
