//! The client: so many SMTP sessions that send message after message, in a process of its own.
//!
//! Contract: each session is one connection that stays open and does not pipeline; a refusal ends the whole run as a
//! failure. Tells when it began, when the last 250 came, and how long a message took from MAIL to its 250.
//! Not here: clients that behave badly (`tests/limits`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::children::{self, Running, number};
use super::{Failure, fill};

/// How long the relay may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a run of the client went.
pub struct Sent {
    pub began: f64,
    pub accepted: f64,
    /// Milliseconds from MAIL to the 250: the middle one, and that of the slowest hundredth.
    pub median_ms: f64,
    pub slow_ms: f64,
}

/// Sends `messages` of `octets` over `sessions` connections, and waits until all are accepted.
pub fn send(port: u16, sessions: u64, messages: u64, octets: u64) -> Result<Sent, Failure> {
    let arguments = [u64::from(port), sessions, messages, octets].map(|number| number.to_string());
    let answer = Running::start("source", &arguments)?.hear()?;
    Ok(Sent {
        began: number(&answer, "began")?,
        accepted: number(&answer, "accepted")?,
        median_ms: number(&answer, "median_ms")?,
        slow_ms: number(&answer, "slow_ms")?,
    })
}

struct Task {
    port: u16,
    left: Cell<u64>,
    /// Content with its final dot.
    content: Bytes,
    took: RefCell<Vec<f64>>,
}

pub fn child(arguments: &[&str]) -> Result<(), Failure> {
    let [port, sessions, messages, octets] = arguments else {
        return Err("source: PORT SESSIONS MESSAGES OCTETS".into());
    };
    let mut content = fill::content(octets.parse()?).to_vec();
    content.extend_from_slice(b".\r\n");
    let took = RefCell::default();
    let task =
        Task { port: port.parse()?, left: Cell::new(messages.parse()?), content: content.into(), took };
    let task = Rc::new(task);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = children::now();
    let sessions: u64 = sessions.parse()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut running = tokio::task::JoinSet::new();
        for number in 0..sessions {
            let task = Rc::clone(&task);
            running.spawn_local(async move {
                session(&task, number).await.map_err(|failure| failure.to_string())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok::<(), Failure>(())
    })?;
    let accepted = children::now();
    let mut took = task.took.take();
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or(0.0) * 1000.0;
    let answer = json!({
        "began": began, "accepted": accepted, "median_ms": at(0.5), "slow_ms": at(0.99),
    });
    children::answer(&answer)
}

async fn session(task: &Task, number: u64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", task.port)).await?;
    stream.set_nodelay(true)?;
    expect(&mut stream, b"220").await?;
    say(&mut stream, b"EHLO client.example.org\r\n", b"250").await?;
    let recipient = format!("RCPT TO:<bob{number}@example.com>\r\n");
    while let Some(left) = task.left.get().checked_sub(1) {
        task.left.set(left);
        let began = children::now();
        say(&mut stream, b"MAIL FROM:<alice@example.org>\r\n", b"250").await?;
        say(&mut stream, recipient.as_bytes(), b"250").await?;
        say(&mut stream, b"DATA\r\n", b"354").await?;
        say(&mut stream, &task.content, b"250").await?;
        task.took.borrow_mut().push(children::now() - began);
    }
    say(&mut stream, b"QUIT\r\n", b"221").await
}

async fn say(stream: &mut TcpStream, what: &[u8], code: &[u8; 3]) -> Result<(), Failure> {
    stream.write_all(what).await?;
    expect(stream, code).await
}

/// Reads one reply, of one line or several.
async fn expect(stream: &mut TcpStream, code: &[u8; 3]) -> Result<(), Failure> {
    let mut reply = Vec::with_capacity(512);
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut reply)).await;
        if read.map_err(|_| "the relay said nothing for a minute")?? == 0 {
            return Err("the relay hung up".into());
        }
        let last = reply.strip_suffix(b"\r\n").map(|lines| lines.rsplit(|&octet| octet == b'\n').next());
        if let Some(Some(last)) = last
            && last.get(3) == Some(&b' ')
        {
            let text = String::from_utf8_lossy(last);
            return if last.starts_with(code) {
                Ok(())
            } else {
                Err(format!("the relay said {text}").into())
            };
        }
    }
}
