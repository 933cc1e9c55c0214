//! `cargo bench --bench lab`: virtual days per second of `posthouse lab run`, with 1 message and with 10,000.
//!
//! Contract: each message is told 4yz for two days and then bounced, so that every attempt of the default schedule is
//! made; what is counted is the whole program, from its start to its exit. The first row is the baseline of the second:
//! attempts per second tell what a message costs when there are many. Five runs of the small one, one of the large.
//! Not here: how posthouse compares with others on real sockets (`benches/relay`).

use std::process::Command;
use std::time::Instant;

/// Attempts of the default schedule, as `posthouse plan` counts them.
const ATTEMPTS: f64 = 54.0;
const DAYS: f64 = 2.0;

fn main() {
    let folder = tempfile::tempdir().expect("a folder for scenarios");
    println!("{:>10}  {:>12}  {:>14}  {:>12}", "messages", "seconds", "virtual days/s", "attempts/s");
    for (messages, rounds) in [(1, 5), (10_000, 1)] {
        let file = folder.path().join(format!("{messages}.toml"));
        std::fs::write(&file, scenario(messages)).expect("a scenario of a few lines");
        let best = (0..rounds).map(|_| seconds(&file)).fold(f64::INFINITY, f64::min);
        let attempts = ATTEMPTS * f64::from(messages) / best;
        println!("{messages:>10}  {best:>12.3}  {:>14.1}  {attempts:>12.0}", DAYS / best);
    }
}

fn scenario(messages: u32) -> String {
    format!(
        "title = \"{messages} messages deferred for two days\"\n\
         settings.retry.jitter = 0.0\n\
         [upstream.main]\n\
         script = [\"rcpt *@example.com: 451 4.7.1 try later\"]\n\
         [[message]]\n\
         count = {messages}\n\
         from = \"alice@example.org\"\n\
         to = [\"bob{{n}}@example.com\"]\n"
    )
}

#[allow(clippy::disallowed_methods)] // a stopwatch, and no clock of a relay
fn seconds(file: &std::path::Path) -> f64 {
    let began = Instant::now();
    let played = Command::new(env!("CARGO_BIN_EXE_posthouse"))
        .args(["lab", "run"])
        .arg(file)
        .output()
        .expect("cargo has just built it");
    assert!(played.status.success(), "the scenario must pass:\n{}", String::from_utf8_lossy(&played.stdout));
    began.elapsed().as_secs_f64()
}
