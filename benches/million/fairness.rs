//! Whether dead destinations hold up those that live.
//!
//! Contract: a thousand destinations with as many messages each, a third of them dead: half of those refuse
//! connections, the other half take them and say nothing. How long the last of the living waits for its first
//! delivery, from the first of all on, and how fast the living empty; beside a run with fewer messages in which all live.
//! Not here: one destination (`drain`).

use std::fmt::Write;

use super::figure::{Goal, Report};
use super::fill::Fill;
use super::posthouse::{Posthouse, free_port};
use super::sink::{Arrived, Sink};
use super::{Bench, Failure, children};

const DESTINATIONS: u64 = 1000;
const OCTETS: usize = 2 << 10;
/// The bound: no living destination waits longer for its first delivery than this after the first delivery of all.
const FIRST_WITHIN: f64 = 60.0;

pub fn run(bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let each = (bench.messages / DESTINATIONS).max(1);
    // Alone with fewer messages: it is a rate that is compared.
    let alone = drain(bench, each.div_ceil(5), None)?;
    let amid = drain(bench, each, Some(alone.rate))?;
    let baseline =
        format!("{:.2} s when all live; {} of {} were reached", alone.longest, amid.reached, amid.living);
    report.add(
        "longest wait of a living destination",
        amid.longest,
        "s",
        Goal::AtMost(FIRST_WITHIN),
        baseline,
    );
    let baseline = format!(
        "{:.0} messages/s, {:.0} when all live; {} of {} delivered in {:.1} s",
        amid.rate, alone.rate, amid.messages, amid.expected, amid.seconds
    );
    report.add(
        "the living's messages/s, of those when all live",
        amid.rate / alone.rate,
        "",
        Goal::AtLeast(0.8),
        baseline,
    );
    Ok(())
}

struct Drained {
    living: u64,
    reached: usize,
    /// Until the last of the living had its first delivery; until the end where one had none.
    longest: f64,
    expected: u64,
    messages: u64,
    seconds: f64,
    rate: f64,
}

/// Which mood a destination is in.
fn is_dead(number: u64) -> bool {
    number % 3 == 1
}

/// `amid_dead`: a third is dead, and without them the living would have so many messages/s.
fn drain(bench: &Bench, each: u64, amid_dead: Option<f64>) -> Result<Drained, Failure> {
    let with_dead = amid_dead.is_some();
    let folder = bench.place.fresh("fairness")?;
    let mut fill = Fill::new(&folder.join("spool"), DESTINATIONS * each, OCTETS);
    fill.domains = DESTINATIONS;
    fill.run()?;
    let (mut living, silent, refusing) = (Sink::start(0, false)?, Sink::start(0, true)?, free_port()?);
    let mut settings = String::new();
    for number in 0..DESTINATIONS {
        let port = match number % 6 {
            1 if with_dead => refusing,
            4 if with_dead => silent.port,
            _ => living.port,
        };
        // Each has an address of its own, so that health is each one's own too.
        let (high, low) = (1 + number / 250, 1 + number % 250);
        writeln!(settings, "[upstream.u{number}]\nhosts = [\"smtp://127.1.{high}.{low}:{port}\"]")?;
        writeln!(settings, "[[route]]\ndomains = [\"d{number}.test\"]\nvia = \"u{number}\"")?;
    }
    let relay = Posthouse::launch(&folder, &settings, &[])?;
    relay.wait_until(600.0, "a first message to arrive", || Ok(living.report()?.messages > 0))?;
    let began = living.report()?.first;
    let destinations = (0..DESTINATIONS).filter(|number| !with_dead || !is_dead(*number)).count() as u64;
    let expected = destinations * each;
    // What takes longer than this is a missed goal, and is shown as such.
    let limit = amid_dead.map_or(600.0, |rate| 90.0 + 2.0 * expected as f64 / rate);
    let all = relay.wait_until(limit, "the living to be empty", || Ok(living.report()?.messages >= expected));
    let Arrived { messages, last, firsts, .. } = living.report()?;
    let seconds = if amid_dead.is_some() && all.is_err() { children::now() - began } else { last - began };
    if amid_dead.is_none() {
        all?;
    }
    let unreached = (firsts.len() as u64) < destinations;
    let longest = firsts.last().filter(|_| !unreached).map_or(seconds, |first| first - began);
    let rate = messages as f64 / seconds;
    Ok(Drained { living: destinations, reached: firsts.len(), longest, expected, messages, seconds, rate })
}
