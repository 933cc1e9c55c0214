//! The program under measurement: `posthouse run`, started, asked and ended, and what the system says of its process.
//!
//! Contract: it has the defaults of its reference configuration but for what a part sets. Dropping a [`Posthouse`]
//! kills it, which its spool is made for.
//! Not here: what is measured with it (the parts).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use posthouse::admin::{Client, Done, Status};

use super::{Bench, Failure, children};

pub struct Posthouse {
    process: Child,
    pub spool: PathBuf,
    /// Where it listens.
    pub port: u16,
    output: PathBuf,
}

/// Ticks of /proc in a second: the same on all of Linux.
const USER_HZ: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy)]
pub struct Used {
    pub cpu_seconds: f64,
    /// Octets given to write calls of any kind.
    pub written: f64,
    /// Octets that dirtied pages of files.
    pub to_disk: f64,
}

impl Posthouse {
    /// A configuration with one upstream of this machine for everything.
    pub fn upstream(port: u16) -> String {
        format!("[upstream.main]\nhosts = [\"smtp://127.0.0.1:{port}\"]\n")
    }

    /// Starts it in `folder`, whose `spool` it has, and waits until it greets and answers.
    pub fn start(bench: &Bench, folder: &Path, settings: &str, flags: &[&str]) -> Result<Self, Failure> {
        let relay = Self::launch(folder, settings, flags)?;
        relay.wait_until(300.0, "posthouse to be ready", || Ok(relay.status(bench).is_ok()))?;
        Ok(relay)
    }

    /// Starts it and doesn't wait.
    pub fn launch(folder: &Path, settings: &str, flags: &[&str]) -> Result<Self, Failure> {
        let (spool, port) = (folder.join("spool"), free_port()?);
        let file = folder.join("posthouse.toml");
        let common = format!(
            "hostname = \"relay.example.org\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n[spool]\npath = {:?}\n",
            spool.display().to_string()
        );
        fs::write(&file, common + settings)?;
        // One that was killed leaves it, and an answer must come from this one.
        let _ = fs::remove_file(spool.join(posthouse::admin::SOCKET));
        let output = folder.join("posthouse.out");
        let out = fs::File::create(&output)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command.arg("run").arg("--config").arg(&file).args(flags);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTHOUSE_")) {
            command.env_remove(name);
        }
        let process =
            command.current_dir(folder).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self { process, spool, port, output })
    }

    pub fn status(&self, bench: &Bench) -> Result<Status, Failure> {
        let client = Client::new(&self.spool);
        Ok(bench.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), client.get("/v1/status")).await
        })??)
    }

    /// The status once the spool writes nothing more: what was written without a sync is synced a second later.
    pub fn settled_status(&self, bench: &Bench) -> Result<Status, Failure> {
        let mut last = self.status(bench)?;
        for _ in 0..30 {
            pause(1.5);
            let now = self.status(bench)?;
            if (now.written_bytes, now.syncs) == (last.written_bytes, last.syncs) {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    /// All that waits is tried now.
    pub fn retry_all(&self, bench: &Bench) -> Result<u64, Failure> {
        let client = Client::new(&self.spool);
        let done: Done = bench.runtime.block_on(client.post("/v1/queue/retry"))?;
        Ok(done.messages)
    }

    pub fn used(&self) -> Result<Used, Failure> {
        let pid = self.process.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let cpu_seconds = ticks as f64 / USER_HZ;
        Ok(Used { cpu_seconds, written: field(&io, "wchar:")?, to_disk: field(&io, "write_bytes:")? })
    }

    /// Octets of memory: those resident now, and the most there ever were.
    pub fn memory(&self) -> Result<(f64, f64), Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        Ok((field(&status, "VmRSS:")? * 1024.0, field(&status, "VmHWM:")? * 1024.0))
    }

    /// Waits until a second passes in which it does nearly nothing.
    pub fn wait_until_quiet(&self) -> Result<(), Failure> {
        let mut before = self.used()?;
        self.wait_until(180.0, "posthouse to come to rest", || {
            pause(1.0);
            let now = self.used()?;
            let worked = now.cpu_seconds - before.cpu_seconds;
            before = now;
            Ok(worked < 0.03)
        })
    }

    /// Asks every 50 ms, as long as the program lives.
    pub fn wait_until(
        &self,
        seconds: f64,
        what: &str,
        ready: impl FnMut() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.wait_at(0.05, seconds, what, ready)
    }

    /// Asks `every` so many seconds.
    pub fn wait_at(
        &self,
        every: f64,
        seconds: f64,
        what: &str,
        mut ready: impl FnMut() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let began = children::now();
        while !ready()? {
            if !Path::new(&format!("/proc/{}/io", self.process.id())).exists() || self.has_ended() {
                return Err(format!("posthouse ended while waiting for {what}: {}", self.last_words()).into());
            }
            if children::now() - began > seconds {
                return Err(format!("waited {seconds} s for {what}: {}", self.last_words()).into());
            }
            pause(every);
        }
        Ok(())
    }

    /// Without reaping: a zombie has no files open.
    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Posthouse {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number behind `name` in a file of /proc.
fn field(text: &str, name: &str) -> Result<f64, Failure> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.ok_or_else(|| format!("/proc has no {name}").into())
}

/// A port of loopback at which nobody listens: free a moment ago.
pub fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub fn pause(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
