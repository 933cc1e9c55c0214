//! How fast the spool commits: 64 tasks, each handing over a message of 10 KiB and waiting for its receipt.
//!
//! Contract: prints commits per second, fdatasyncs per message and bytes written per byte of content, for a folder
//! given as the argument (default: a temporary one). Run it with `cargo run --release --example spool_rate`.
//! Not here: the relay as a whole (`benches`).

use std::sync::Arc;
use std::time::Instant;

use posthouse::clock::Clock;
use posthouse::mail::{Content, Envelope, Origin, ReversePath};
use posthouse::spool::{Accepted, Log, Settings, Spool};

const TASKS: usize = 64;
const MESSAGES: usize = 20_000;
const OCTETS: usize = 10 << 10;

#[tokio::main]
#[allow(clippy::disallowed_methods)] // measures real time
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or(folder.path().join("spool"), Into::into);
    let settings = Settings { min_free: 0, ..Settings::new(path) };
    for tasks in [1, TASKS] {
        let (log, _) = Log::open(&settings, &mut |_| {})?;
        let log = Arc::new(log);
        let messages = if tasks == 1 { MESSAGES / 20 } else { MESSAGES };
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..tasks {
            running.spawn(hand_over(log.clone(), messages / tasks));
        }
        running.join_all().await;
        let seconds = started.elapsed().as_secs_f64();
        log.close().await;
        let status = log.status();
        let count = (messages / tasks * tasks) as f64;
        println!(
            "{tasks:>2} tasks: {:.0} commits/s, {:.3} syncs per message, {:.3} bytes per byte",
            count / seconds,
            status.syncs as f64 / count,
            status.written_bytes as f64 / count / OCTETS as f64,
        );
    }
    Ok(())
}

async fn hand_over(log: Arc<Log>, messages: usize) {
    let clock = Clock::system();
    let recipient = "recipient@example.org".parse().expect("an address");
    let envelope = Envelope::new(ReversePath::NULL, [recipient]);
    let content = Content::from(vec![b'x'; OCTETS]);
    for _ in 0..messages {
        let intake = log.announce();
        let (id, arrived_at) = (log.next_id(clock.now()), clock.now());
        let message =
            Accepted { id, arrived_at, envelope: envelope.clone(), origin: Origin::default(), strikes: None };
        let receipt = log.accept(message, content.clone()).await.expect("the disk works");
        drop(intake);
        log.remove(receipt.id());
    }
}
