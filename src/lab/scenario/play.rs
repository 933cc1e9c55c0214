//! Playing a scenario: a runtime of its own on paused time, a world in it, and what happens in order.
//!
//! Contract: messages and changes at their times, then on until nothing waits or the limit is reached; days pass in
//! milliseconds. Many scenarios can be played at once, each on a thread of its own.
//! Invariants: the same scenario gives the same story; nothing outside of the process is touched.
//! Not here: what is wrong with a story (`verdict`, `expect`).

use std::sync::Arc;
use std::time::Duration;

use super::file::span;
use super::record::{self, servfail};
use super::{Change, Failure, Scenario, Scripted, Which, verdict};
use crate::lab::{Offers, Rule, Story, World};
use crate::mail::{DomainPattern, QueueId, Route, RouteTable, Via};
use crate::queue::Matching;
use crate::relay;

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct Played {
    pub story: Story,
    /// Empty when all is as the scenario says.
    pub failures: Vec<Failure>,
}

impl Played {
    /// Attempts at delivery, over all messages, notices included.
    pub fn attempts(&self) -> usize {
        verdict::attempts(&self.story)
    }

    /// From the start to the end of the story.
    pub fn lasted(&self) -> Duration {
        self.story.end.since(self.story.start)
    }
}

/// Plays a scenario to its end, or its limit. To be called outside of any runtime.
pub fn play(scenario: &Scenario) -> Played {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime that only has time needs nothing of the system").block_on(tell(scenario))
}

async fn tell(scenario: &Scenario) -> Played {
    let mut world = build(scenario).await;
    let mut stage = Stage { said: scripts(scenario), failures: Vec::new() };
    for act in acts(scenario) {
        let moment = scenario.start + act.at();
        if world.clock().now() < moment {
            world.advance_to(moment).await;
        }
        match act {
            Act::Change(change) => stage.change(&world, change).await,
            Act::Submit(index, _) => stage.submit(&world, scenario, index).await,
        }
    }
    let ended = world.until_quiet(scenario.limit).await;
    let story = world.story().await;
    let mut failures = stage.failures;
    failures.extend(verdict::of_story(scenario, ended, &story));
    failures.extend(verdict::of_rules(&world, &stage.said, &story));
    failures.extend(scenario.expectations.compare(&story).into_iter().map(Failure::Difference));
    Played { story, failures }
}

async fn build(scenario: &Scenario) -> World {
    let mut builder = World::builder()
        .seed(scenario.seed)
        .start_at(scenario.start)
        .zone(Arc::new(record::zone(&scenario.zone)))
        .settings(|settings| change_settings(scenario, settings));
    for upstream in &scenario.upstreams {
        let Scripted { name, address, starttls, demands, script, domains, .. } = upstream;
        let offers = Offers { starttls: *starttls, ..Offers::default() };
        let rules: Vec<Rule> = script.iter().map(|line| line.rule.clone()).collect();
        builder = builder.upstream_at(name, *address, offers, rules).only_for(name, domains.clone());
        builder = builder.demanding(name, demands.clone());
    }
    builder.start().await.expect("in memory, with addresses of their own, everything starts")
}

fn change_settings(scenario: &Scenario, settings: &mut relay::Settings) {
    scenario.settings.apply(settings);
    if scenario.via_mx {
        let everything = Route::new([DomainPattern::All], Via::Mx);
        settings.routes = RouteTable { routes: vec![everything] };
    }
}

/// The rules that the upstreams begin with, as they are numbered there.
fn scripts(scenario: &Scenario) -> Vec<Said> {
    let said = |upstream: &Scripted| {
        let name = upstream.name.clone();
        let numbers = 1..=u32::try_from(upstream.script.len()).unwrap_or(u32::MAX);
        numbers.map(move |number| Said { upstream: name.clone(), number, at: scenario.start })
    };
    scenario.upstreams.iter().flat_map(said).collect()
}

/// A rule that an upstream has been told.
pub(super) struct Said {
    pub upstream: String,
    pub number: u32,
    pub at: crate::clock::Timestamp,
}

/// One thing to do.
#[derive(Clone, Copy)]
enum Act<'a> {
    Change(&'a Change),
    /// The message by its index.
    Submit(usize, Duration),
}

impl Act<'_> {
    fn at(&self) -> Duration {
        match self {
            Self::Change(change) => change.at,
            Self::Submit(_, at) => *at,
        }
    }
}

/// In the order of time; changes before messages, each in the order of the file.
fn acts(scenario: &Scenario) -> Vec<Act<'_>> {
    let changes = scenario.changes.iter().map(Act::Change);
    let messages =
        scenario.messages.iter().enumerate().map(|(index, message)| Act::Submit(index, message.at));
    let mut acts: Vec<Act<'_>> = changes.chain(messages).collect();
    acts.sort_by_key(Act::at);
    acts
}

/// What goes on beside the world.
struct Stage {
    said: Vec<Said>,
    failures: Vec<Failure>,
}

impl Stage {
    async fn submit(&mut self, world: &World, scenario: &Scenario, index: usize) {
        let message = &scenario.messages[index];
        for n in 1..=message.count {
            let (envelope, content) = message.build(index + 1, n, world.clock().now());
            if let Err(error) = world.submit(envelope, content.into_bytes()).await {
                self.failures.push(Failure::NotTaken { message: index + 1, reason: error.to_string() });
            }
        }
    }

    async fn change(&mut self, world: &World, change: &Change) {
        if let Some(records) = &change.zone {
            world.zone().replace(record::zone(records));
        }
        if let Some(down) = change.dns_down {
            world.zone().set_down(down.then(servfail));
        }
        // Each goes before all others, so that the first is said last.
        for (upstream, line) in change.say.iter().rev() {
            let number = world.upstream(upstream).say(line.rule.clone());
            self.said.push(Said { upstream: upstream.clone(), number, at: world.clock().now() });
        }
        self.operate(world, change).await;
    }

    async fn operate(&mut self, world: &World, change: &Change) {
        let relay = world.relay();
        if change.retry == Some(Which::All) {
            relay.retry_all(None);
        }
        let retry = match &change.retry {
            Some(Which::Recipient(address)) => Some(address),
            _ => None,
        };
        let deeds = [
            ("retry", retry),
            ("hold", change.hold.as_ref()),
            ("release", change.release.as_ref()),
            ("cancel", change.cancel.as_ref()),
        ];
        for (deed, address) in deeds {
            let Some(address) = address else { continue };
            let mut failed = |reason: String| {
                let act = format!("{deed} {address}");
                self.failures.push(Failure::NothingToActOn { at: span(change.at), act, reason });
            };
            let ids = waiting_for(world, address).await;
            if ids.is_empty() {
                failed("no message waits for this recipient then".into());
            }
            for id in ids {
                let done = match deed {
                    "retry" => relay.retry(id).await,
                    "hold" => relay.queue().hold(id).await,
                    "release" => relay.queue().release(id).await,
                    _ => relay.queue().cancel(id).await,
                };
                if let Err(error) = done {
                    failed(error.to_string());
                }
            }
        }
    }
}

/// The messages in the queue that have this recipient.
async fn waiting_for(world: &World, address: &str) -> Vec<QueueId> {
    let matching = Matching { recipient: Some(address.to_owned()), ..Matching::default() };
    let rows = world.relay().queue().list(&matching).await;
    let has =
        |row: &crate::queue::Listed| row.recipients.iter().any(|r| r.address.eq_ignore_ascii_case(address));
    rows.into_iter().filter(has).map(|row| row.id).collect()
}
