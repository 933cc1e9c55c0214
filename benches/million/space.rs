//! What a spool takes of the disk when nearly all of what came has gone.
//!
//! Contract: of 200,000 messages of 10 KiB the upstream takes 99 in 100 and puts the others off; 60 s after the last
//! was taken the relay, which still runs, has given the space back.
//! Not here: how compaction does it (`spool`).

use super::figure::{Goal, Report};
use super::fill::Fill;
use super::place::{files, is_of_spool, octets_on_disk};
use super::posthouse::{Posthouse, pause};
use super::sink::Sink;
use super::{Bench, Failure};

const MESSAGES: u64 = 200_000;
const OCTETS: usize = 10 << 10;
const LIVING_EVERY: u64 = 100;
const SEGMENT: u64 = 64 << 20;

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let folder = bench.place.fresh("space")?;
    let messages = bench.scaled(MESSAGES);
    let mut fill = Fill::new(&folder.join("spool"), messages, OCTETS);
    fill.later_every = LIVING_EVERY;
    fill.run()?;
    let on_disk =
        || -> Result<u64, Failure> { Ok(octets_on_disk(&files(&folder.join("spool"), &is_of_spool)?)) };
    let full = on_disk()?;
    let mut sink = Sink::start(0, false)?;
    let relay = Posthouse::start(bench, &folder, &Posthouse::upstream(sink.port), &[])?;
    let taken = messages - messages.div_ceil(LIVING_EVERY);
    relay.wait_until(600.0, "nearly all to be taken", || Ok(sink.report()?.messages >= taken))?;
    let gone = on_disk()?;
    let before = relay.used()?;
    pause(60.0);
    let (left, living, after) = (on_disk()?, relay.status(bench)?, relay.used()?);
    let goal = 3 * living.live_bytes + 2 * SEGMENT;
    let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
    let baseline = format!(
        "{:.0} MiB full, {:.0} when the last had gone; {} living of {:.1} MiB; {:.1} s CPU in the 60 s",
        mib(full),
        mib(gone),
        living.messages,
        mib(living.live_bytes),
        after.cpu_seconds - before.cpu_seconds,
    );
    report.add("on disk 60 s later", mib(left), "MiB", Goal::AtMost(mib(goal)), baseline);
    Ok(())
}
