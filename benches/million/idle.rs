//! What waiting costs: CPU and writes in an hour of the relay's clock, nothing being due but the upstream's probes.
//!
//! Contract: the upstream refuses connections; no notice falls due and nothing expires. Measured at speed 1 for a
//! minute, and at speed 60 for an hour of the relay's clock, after the start has come to rest.
//! Not here: memory (`memory`).

use std::path::Path;

use super::figure::{Goal, Report};
use super::fill::Fill;
use super::posthouse::{Posthouse, Used, free_port, pause};
use super::{Bench, Failure, start};

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    at_speed(bench, report, 1, &bench.place.waiting(bench)?)?;
    bench.place.forget_waiting()?;
    // A spool goes on at the speed at which it began.
    let folder = bench.place.fresh("idle")?;
    let mut fill = Fill::new(&folder.join("spool"), bench.messages, 2 << 10);
    fill.speed = 60;
    fill.run()?;
    at_speed(bench, report, 60, &folder)
}

fn at_speed(bench: &Bench, report: &mut Report, speed: u32, folder: &Path) -> Result<(), Failure> {
    let settings = Posthouse::upstream(free_port()?)
        + "[retry]\nexpire_after = \"30d\"\n[notices]\ndelay_after = \"never\"\n";
    start::forget_hosts(folder)?;
    let relay = Posthouse::start(bench, folder, &settings, &["--speed", &speed.to_string()])?;
    relay.wait_until_quiet()?;
    let before = relay.used()?;
    pause(60.0);
    let after = relay.used()?;
    // 60 s at this speed are so many hours.
    let hours = f64::from(speed) / 60.0;
    let per_hour = |what: fn(&Used) -> f64| (what(&after) - what(&before)) / hours;
    let (goal, note) = match speed {
        1 => (Goal::None, "speed 1, a minute times 60"),
        _ => (Goal::AtMost(1.0), "speed 60, an hour"),
    };
    report.add("CPU in an hour", per_hour(|used| used.cpu_seconds), "s", goal, note);
    let to_disk = per_hour(|used| used.to_disk) / f64::from(1 << 20);
    let written = format!("{note}; {:.0} KiB given to write calls", per_hour(|used| used.written) / 1024.0);
    report.add("written to disk in an hour", to_disk, "MiB", goal, written);
    Ok(())
}
