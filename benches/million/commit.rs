//! How fast messages become durable, and what that costs.
//!
//! Contract: 64 tasks hand messages of 10 KiB to a `Log`, in turn with a bare loop over batches of the size that the
//! log was seen to make; the middle of the rounds counts. Then 64 SMTP sessions send through the whole relay, which
//! tells how many syncs and octets a message costs from its MAIL to its removal, the tracking log apart.
//! Not here: messages/s beside other relays (`benches/relay`).

use std::path::Path;
use std::sync::Arc;

use posthouse::clock::Clock;
use posthouse::mail::{Address, Content, Envelope, Origin};
use posthouse::spool::{Accepted, Log, Settings, Spool};
use serde_json::json;

use super::bare::Bare;
use super::children::{self, number};
use super::figure::{Goal, Report, median};
use super::posthouse::Posthouse;
use super::sink::Sink;
use super::{Bench, Failure, fill, source};

const PRODUCERS: u64 = 64;
const OCTETS: u64 = 10 << 10;
const ROUNDS: usize = 5;
const MESSAGES: u64 = 6_400;
const RELAYED: u64 = 20_000;

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    of_the_log(bench, report)?;
    of_the_relay(bench, report)
}

fn of_the_log(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let messages = bench.scaled(MESSAGES);
    let (mut spool, mut bare, mut batch, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = bench.place.fresh("commit")?;
        let arguments = [folder.join("spool").display().to_string(), messages.to_string()];
        let answer = children::answer_of("commit", &arguments)?;
        let (syncs, written) = (number(&answer, "syncs")?, number(&answer, "written_bytes")?);
        let per_batch = (messages as f64 / syncs).max(1.0);
        spool.push(messages as f64 / number(&answer, "seconds")?);
        batch.push(per_batch);
        bytes.push(written / (messages * OCTETS) as f64);
        let bare_loop = Bare {
            folder: bench.place.fresh("bare")?,
            batches: (messages as f64 / per_batch.round()).round() as u64,
            messages: per_batch.round() as u64,
            record: (written / messages as f64) as u64,
        };
        bare.push((bare_loop.batches * bare_loop.messages) as f64 / bare_loop.seconds()?);
    }
    let ratios = spool.iter().zip(&bare).map(|(spool, bare)| spool / bare).collect();
    let (spool, bare, batch) = (median(spool), median(bare), median(batch));
    let baseline = format!("spool {spool:.0} messages/s, bare loop {bare:.0}; {batch:.1} messages a batch");
    report.add("messages/s, of a bare loop's", median(ratios), "", Goal::AtLeast(0.8), baseline);
    report.add("spool octets per content octet, at commit", median(bytes), "", Goal::AtMost(1.05), "");
    Ok(())
}

fn of_the_relay(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let mut sink = Sink::start(0, false)?;
    let folder = bench.place.fresh("relay")?;
    let relay = Posthouse::start(bench, &folder, &Posthouse::upstream(sink.port), &[])?;
    // The first messages find connections closed and threads not yet started.
    for messages in [200, bench.scaled(RELAYED)] {
        let expected = sink.report()?.messages + messages;
        let before = relay.settled_status(bench)?;
        let sent = source::send(relay.port, PRODUCERS, messages, OCTETS)?;
        relay.wait_until(300.0, "the messages to arrive", || Ok(sink.report()?.messages >= expected))?;
        if messages == 200 {
            continue;
        }
        let (last, after) = (sink.report()?.last, relay.settled_status(bench)?);
        let (syncs, written) = (after.syncs - before.syncs, after.written_bytes - before.written_bytes);
        let baseline = format!(
            "{:.0} messages/s, {:.0} accepted/s; MAIL to 250 in {:.1} ms, 99% in {:.1} ms",
            messages as f64 / (last - sent.began),
            messages as f64 / (sent.accepted - sent.began),
            sent.median_ms,
            sent.slow_ms
        );
        let per_message = syncs as f64 / messages as f64;
        report.add(
            "fdatasyncs per message, 64 sessions",
            per_message,
            "",
            Goal::AtMost(1.0 / 16.0),
            baseline,
        );
        let per_octet = written as f64 / (messages * OCTETS) as f64;
        let what = "spool octets per octet of the client's content, whole life";
        report.add(what, per_octet, "", Goal::AtMost(1.08), "one Received field more than the client sent");
    }
    Ok(())
}

pub fn child(arguments: &[&str]) -> Result<(), Failure> {
    let [spool, messages] = arguments else { return Err("commit: SPOOL MESSAGES".into()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(commit(Path::new(spool), messages.parse()?))
}

async fn commit(spool: &Path, messages: u64) -> Result<(), Failure> {
    let (log, _) = Log::open(&Settings { min_free: 0, ..Settings::new(spool) }, &mut |_| {})?;
    let log = Arc::new(log);
    let before = log.status();
    let began = children::now();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..PRODUCERS {
        let mine = messages / PRODUCERS + u64::from(number < messages % PRODUCERS);
        running.spawn(hand_over(log.clone(), mine));
    }
    for ended in running.join_all().await {
        ended.map_err(Failure::from)?;
    }
    let seconds = children::now() - began;
    let after = log.status();
    log.close().await;
    children::answer(&json!({
        "seconds": seconds,
        "syncs": after.syncs - before.syncs,
        "written_bytes": after.written_bytes - before.written_bytes,
    }))
}

async fn hand_over(log: Arc<Log>, messages: u64) -> Result<(), String> {
    let clock = Clock::system();
    let address = |text: &str| text.parse::<Address>().map_err(|error| error.to_string());
    let envelope = Envelope::new(address("alice@example.org")?.into(), [address("bob@example.com")?]);
    let content = fill::content(OCTETS as usize);
    for _ in 0..messages {
        let intake = log.announce();
        let (id, arrived_at) = (log.next_id(clock.now()), clock.now());
        let origin = Origin::default();
        let message = Accepted { id, arrived_at, envelope: envelope.clone(), origin, strikes: None };
        let receipt = log.accept(message, Content::from(content.clone())).await;
        let _ = receipt.map_err(|error| error.to_string())?;
        drop(intake);
    }
    Ok(())
}
