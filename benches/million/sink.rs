//! The upstream: an SMTP server in a process of its own that takes everything as fast as it can, and counts.
//!
//! Contract: it offers PIPELINING; it answers 250 to all, but 451 to recipients called `later...`. In the other mood it
//! takes connections and says nothing. The question `report` is answered with what came since the start, also for each
//! of the addresses at which it came: all of 127.0.0.0/8 is the same listener.
//! Not here: an upstream that checks anything (`tests/interop`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::Failure;
use super::children::{self, Running, number};

/// What has come to one address.
#[derive(Clone, Copy)]
struct Came {
    messages: u64,
    first: f64,
    last: f64,
}

type Counts = Rc<RefCell<BTreeMap<IpAddr, Came>>>;

/// The sink, as the bench sees it.
pub struct Sink {
    child: Running,
    pub port: u16,
}

/// What has come to a sink.
pub struct Arrived {
    pub messages: u64,
    /// When the first came and when the last.
    pub first: f64,
    pub last: f64,
    /// When the first message came to each address, earliest first.
    pub firsts: Vec<f64>,
}

impl Sink {
    /// Port 0 is any. `silent`: it never says a word.
    pub fn start(port: u16, silent: bool) -> Result<Self, Failure> {
        let mut child = Running::start("sink", &[port.to_string(), silent.to_string()])?;
        let port = number(&child.hear()?, "port")? as u16;
        Ok(Self { child, port })
    }

    pub fn report(&mut self) -> Result<Arrived, Failure> {
        let answer = self.child.ask("report")?;
        let mut firsts: Vec<f64> =
            answer["firsts"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        firsts.sort_by(f64::total_cmp);
        let messages = number(&answer, "messages")? as u64;
        Ok(Arrived { messages, first: number(&answer, "first")?, last: number(&answer, "last")?, firsts })
    }
}

pub fn child(arguments: &[&str]) -> Result<(), Failure> {
    let [port, silent] = arguments else { return Err("sink: PORT SILENT".into()) };
    let (port, silent): (u16, bool) = (port.parse()?, silent.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(port, silent))
}

async fn serve(port: u16, silent: bool) -> Result<(), Failure> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    children::answer(&json!({ "port": listener.local_addr()?.port() }))?;
    let counts = Counts::default();
    let came = counts.clone();
    tokio::task::spawn_local(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            if silent {
                kept.push(stream);
            } else {
                tokio::task::spawn_local(session(stream, came.clone()));
            }
        }
    });
    let mut questions = questions();
    while let Some(question) = questions.recv().await {
        match question.as_str() {
            "report" => children::answer(&report(&counts))?,
            _ => return Err(format!("what is {question:?}?").into()),
        }
    }
    Ok(())
}

/// The lines of the input, as they come; none any more when it ends.
fn questions() -> mpsc::UnboundedReceiver<String> {
    let (questions, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if questions.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn report(counts: &Counts) -> Value {
    let counts = counts.borrow();
    let messages: u64 = counts.values().map(|came| came.messages).sum();
    let first = counts.values().map(|came| came.first).fold(f64::MAX, f64::min);
    let last = counts.values().map(|came| came.last).fold(0.0, f64::max);
    let firsts: Vec<f64> = counts.values().map(|came| came.first).collect();
    json!({ "messages": messages, "first": first, "last": last, "firsts": firsts })
}

/// One connection. A client that goes away ends it.
async fn session(mut stream: TcpStream, counts: Counts) {
    let _ = stream.set_nodelay(true);
    let Ok(here) = stream.local_addr() else { return };
    let (mut input, mut output) = (Vec::with_capacity(32 << 10), b"220 sink.example.net ESMTP\r\n".to_vec());
    let mut receiving = false;
    loop {
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let Some(len) = (if receiving { end_of_content(rest) } else { end_of_line(rest) }) else { break };
            used += len;
            if receiving {
                let now = children::now();
                let mut counts = counts.borrow_mut();
                let came = counts.entry(here.ip()).or_insert(Came { messages: 0, first: now, last: now });
                came.messages += 1;
                came.last = now;
                output.extend_from_slice(b"250 2.0.0 taken\r\n");
                receiving = false;
            } else {
                let reply = reply(&rest[..len]);
                receiving = reply.starts_with(b"354");
                output.extend_from_slice(reply);
            }
        }
        input.drain(..used);
    }
}

fn reply(line: &[u8]) -> &'static [u8] {
    let verb: Vec<u8> = line.iter().take(4).map(u8::to_ascii_uppercase).collect();
    match verb.as_slice() {
        b"EHLO" => b"250-sink.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
        b"RCPT" if line.windows(6).any(|part| part == b"<later") => b"451 4.7.1 later\r\n",
        b"DATA" => b"354 go on\r\n",
        b"QUIT" => b"221 2.0.0 bye\r\n",
        _ => b"250 2.0.0 ok\r\n",
    }
}

fn end_of_line(input: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', input).map(|at| at + 1)
}

fn end_of_content(input: &[u8]) -> Option<usize> {
    if input.starts_with(b".\r\n") {
        return Some(3);
    }
    memchr::memmem::find(input, b"\r\n.\r\n").map(|at| at + 5)
}
