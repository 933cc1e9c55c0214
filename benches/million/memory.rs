//! What a waiting message takes of memory.
//!
//! Contract: octets resident above those of the same program with an empty spool, divided by the messages; at rest
//! behind an upstream that refuses connections, and at the most there were during the start.
//! Not here: how long the start takes (`start`).

use super::figure::{Goal, Report};
use super::posthouse::{Posthouse, free_port};
use super::{Bench, Failure, start};

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let settings = Posthouse::upstream(free_port()?);
    let empty = Posthouse::start(bench, &bench.place.fresh("empty")?, &settings, &[])?;
    empty.wait_until_quiet()?;
    let (empty, _) = empty.memory()?;

    let folder = bench.place.waiting(bench)?;
    start::forget_hosts(&folder)?;
    let relay = Posthouse::start(bench, &folder, &settings, &[])?;
    relay.wait_until_quiet()?;
    let (steady, peak) = relay.memory()?;
    let found = relay.status(bench)?.messages;
    if found != bench.messages {
        return Err(format!("{found} messages wait in place of {}", bench.messages).into());
    }
    let each = |octets: f64| (octets - empty) / bench.messages as f64;
    let mib = |octets: f64| octets / f64::from(1 << 20);
    let baseline = format!("{:.1} MiB, empty {:.1}", mib(steady), mib(empty));
    report.add("resident octets per waiting message", each(steady), "", Goal::AtMost(150.0), baseline);
    let baseline = format!("{:.1} MiB, empty {:.1}", mib(peak), mib(empty));
    report.add("the same at the peak of a start", each(peak), "", Goal::AtMost(300.0), baseline);
    Ok(())
}
