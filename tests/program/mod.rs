//! The real program as a relay over loopback, in a process of its own.
//!
//! Contract: [`Program`] is ready when it is there, and is killed at the latest with this value. What it says can be waited
//! for, at most [`PATIENCE`].
//! Invariants: the upstream that is down stays so: its port is bound as long as the value lives, and nobody listens there.

#![allow(dead_code)] // each test binary uses its part

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tokio::net::TcpSocket;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

pub struct Program {
    child: Child,
    said: Receiver<String>,
    /// Where it listens, in the order of its configuration.
    pub addresses: Vec<SocketAddr>,
    nobody: Option<TcpSocket>,
}

/// A port of our own that refuses: bound, and nobody listens.
pub fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

/// The program with these arguments, and with no setting of whoever runs the tests.
pub fn posthouse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

impl Program {
    /// On this spool and a free port; everything goes to an upstream that is down.
    pub fn start(spool: &Path) -> Self {
        let nobody = nobody();
        let upstream = format!("smtp://{}", nobody.local_addr().unwrap());
        let mut command = posthouse(["run", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--spool"]);
        command.arg(spool).env("POSTHOUSE_SPOOL__MIN_FREE", "1MiB");
        let mut program = Self::run(command);
        program.nobody = Some(nobody);
        program
    }

    /// Waits until it is ready.
    pub fn run(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, said) = mpsc::channel();
        // Ends with the program's standard error, which must not fill up.
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let mut program = Self { child, said, addresses: Vec::new(), nobody: None };
        loop {
            let line = program.said.recv_timeout(PATIENCE).expect("the program goes on talking");
            if let Some((_, address)) = line.split_once("listening address=") {
                program.addresses.push(address.trim().parse().unwrap());
            }
            if line.contains(" ready ") {
                return program;
            }
        }
    }

    /// Where it listens first.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line with these words.
    pub fn says(&self, words: &str) -> String {
        loop {
            let line =
                self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not say {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// By SIGTERM, as a supervisor would.
    pub fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let mut said = Vec::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            said.push(line);
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said:#?}");
        assert!(said.last().is_some_and(|line| line.contains(" stopped ")), "{said:#?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
