//! The load: so many sessions that send message after message for some seconds.
//!
//! Contract: `load PORT SESSIONS SECONDS OCTETS pipelined|stepwise [CERTIFICATE]`; with a certificate all sessions are under
//! STARTTLS. Opens the sessions, sends one message in each that does not count, says `ready`, waits for a line, sends for
//! the seconds given, and prints one line of JSON: messages that got their 250, the seconds until the last of them, and the
//! milliseconds from the end of content to its 250 (the middle one, that of the slowest hundredth, the longest).
//! Invariants: a refusal or a broken session ends the run as a failure. One thread, so that the rest of the machine is the
//! server's.
//! Not here: what the server spends (`run`).

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::session::{Session, connector};
use super::{Failure, ready};

/// Sessions that are opened at one time: a server's backlog is not what is measured.
pub const OPENING: usize = 50;

struct Task {
    content: Vec<u8>,
    pipelined: bool,
}

pub fn run(words: &[&str]) -> Result<(), Failure> {
    let [port, sessions, seconds, octets, manner, certificate @ ..] = words else {
        return Err("load PORT SESSIONS SECONDS OCTETS pipelined|stepwise [CERTIFICATE]".into());
    };
    let task = Rc::new(Task { content: content(octets.parse()?), pipelined: *manner == "pipelined" });
    let (port, sessions) = (port.parse()?, sessions.parse()?);
    let span = Duration::from_secs_f64(seconds.parse()?);
    let certificate = certificate.first().copied();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let opened = open(port, sessions, certificate, &task).await?;
        ready().await?;
        let began = Instant::now();
        let mut running = JoinSet::new();
        for session in opened {
            running.spawn_local(send(session, Rc::clone(&task), began + span));
        }
        let (mut took, mut last, mut open) = (Vec::new(), began, Vec::new());
        while let Some(ended) = running.join_next().await {
            let (session, times, at) = ended??;
            took.extend(times);
            last = last.max(at);
            open.push(session);
        }
        report(took, last - began);
        // The script has its figures before the sessions end.
        ready().await?;
        for mut session in open {
            session.quit().await?;
        }
        Ok(())
    })
}

/// All sessions, each with one message behind it.
async fn open(
    port: u16,
    sessions: usize,
    certificate: Option<&str>,
    task: &Rc<Task>,
) -> Result<Vec<Session>, Failure> {
    let connector = certificate.map(connector).transpose()?;
    let turns = Rc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for _ in 0..sessions {
        let (turns, task, connector) = (Rc::clone(&turns), Rc::clone(task), connector.clone());
        opening.spawn_local(async move {
            let _turn = turns.acquire().await?;
            let mut session = Session::open(port, connector.as_ref()).await?;
            session.submit(&task.content, task.pipelined).await?;
            Ok::<_, Failure>(session)
        });
    }
    let mut opened = Vec::new();
    while let Some(one) = opening.join_next().await {
        opened.push(one??);
    }
    Ok(opened)
}

type Sent = (Session, Vec<Duration>, Instant);

async fn send(mut session: Session, task: Rc<Task>, until: Instant) -> Result<Sent, Failure> {
    let mut took = Vec::new();
    let mut last = Instant::now();
    while last < until {
        took.push(session.submit(&task.content, task.pipelined).await?);
        last = Instant::now();
    }
    Ok((session, took, last))
}

fn report(mut took: Vec<Duration>, span: Duration) {
    took.sort();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).or(took.last());
    let ms = |time: Option<&Duration>| time.map(|time| time.as_secs_f64() * 1000.0);
    let figures = json!({
        "messages": took.len(), "seconds": span.as_secs_f64(),
        "p50_ms": ms(at(0.5)), "p99_ms": ms(at(0.99)), "max_ms": ms(took.last()),
    });
    println!("{figures}");
}

/// A message of so many octets, with its final dot behind them.
fn content(octets: usize) -> Vec<u8> {
    let mut content =
        b"From: alice@example.org\r\nTo: bob@example.com\r\nSubject: a message\r\n\r\n".to_vec();
    while content.len() + 66 <= octets {
        content.extend_from_slice(&[b'x'; 64]);
        content.extend_from_slice(b"\r\n");
    }
    let rest = octets.saturating_sub(content.len() + 2);
    content.extend(std::iter::repeat_n(b'y', rest));
    content.extend_from_slice(b"\r\n.\r\n");
    content
}
