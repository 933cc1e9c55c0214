//! How fast a queue empties once its upstream is back, beside fresh relaying.
//!
//! Contract: messages that have waited behind a dead upstream are tried at once when it answers again; from the first
//! that arrives to the last. Fresh relaying is the same relay with the same upstream and as many SMTP sessions as it
//! delivers at once, from the client's first octet to the last that arrives. In turn, so that both have the same disk.
//! Not here: many destinations (`fairness`).

use super::figure::{Goal, Report, median};
use super::posthouse::{Posthouse, free_port};
use super::sink::Sink;
use super::{Bench, Failure, fill, source};

const MESSAGES: u64 = 100_000;
const OCTETS: u64 = 2 << 10;
/// `delivery.concurrency`.
const AT_ONCE: u64 = 20;
const ROUNDS: usize = 3;

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let (mut drained, mut relayed, mut to_first) = (Vec::new(), Vec::new(), Vec::new());
    let messages = bench.scaled(MESSAGES);
    for _ in 0..ROUNDS {
        let (rate, first) = drain(bench, messages)?;
        drained.push(rate);
        to_first.push(first);
        relayed.push(relay(bench, messages)?);
    }
    let ratio = drained.iter().zip(&relayed).map(|(drained, relayed)| drained / relayed).collect();
    let baseline = format!("drain {:.0} messages/s, fresh {:.0}", median(drained), median(relayed));
    report.add("messages/s, of fresh relaying", median(ratio), "", Goal::AtLeast(1.0), baseline);
    report.add("from retry --all to the first arrival", median(to_first), "s", Goal::None, "");
    Ok(())
}

/// Messages per second, and seconds from the retry to the first that arrived.
fn drain(bench: &Bench, messages: u64) -> Result<(f64, f64), Failure> {
    let folder = bench.place.fresh("drain")?;
    fill::Fill::new(&folder.join("spool"), messages, OCTETS as usize).run()?;
    let port = free_port()?;
    let relay = Posthouse::start(bench, &folder, &Posthouse::upstream(port), &[])?;
    relay.wait_until_quiet()?;
    let mut sink = Sink::start(port, false)?;
    let retried = super::children::now();
    relay.retry_all(bench)?;
    let arrived = wait_for(&relay, &mut sink, messages)?;
    Ok((messages as f64 / (arrived.last - arrived.first), arrived.first - retried))
}

fn relay(bench: &Bench, messages: u64) -> Result<f64, Failure> {
    let folder = bench.place.fresh("fresh")?;
    let mut sink = Sink::start(0, false)?;
    let relay = Posthouse::start(bench, &folder, &Posthouse::upstream(sink.port), &[])?;
    let sent = source::send(relay.port, AT_ONCE, messages, OCTETS)?;
    let arrived = wait_for(&relay, &mut sink, messages)?;
    Ok(messages as f64 / (arrived.last - sent.began))
}

/// Until so many have come.
fn wait_for(relay: &Posthouse, sink: &mut Sink, messages: u64) -> Result<super::sink::Arrived, Failure> {
    relay.wait_until(600.0, "all messages to arrive", || Ok(sink.report()?.messages >= messages))?;
    sink.report()
}
