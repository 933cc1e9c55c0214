//! `posthouse upstreams`: every host that mail goes to, how it is, and how it was during the last day.
//!
//! Contract: a look at the running relay. JSON is the relay's own answer; the table is for people and may change.
//! Not here: what makes a host well or down (`posthouse::route`), single outages (`outages`).

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use posthouse::admin::{Status, Upstream};
use posthouse::clock::Timestamp;
use posthouse::queue::DestinationState;
use posthouse::route::{HostCondition, HostState, Outage, OutageKind};

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;
use crate::queue::{encoded, plural, restraint, rough, until};
use crate::table::Table;

/// Show the hosts that mail goes to: well, down or on trial, and what went there
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse upstreams
  posthouse upstreams --format json
  posthouse outages --since 2d                what went wrong, from when to when
  posthouse queue retry --destination main    try its hosts now

Each group stands with its hosts in the order in which they are preferred; of MX hosts only those
that are down, or were within the last five minutes. A host that is down is tried again by one
message, after 10 seconds at first and every 5 minutes at last; the others pass it over meanwhile.
On a terminal the last 24 hours stand beside each host, an hour for each sign: ▁ well, ▄ down for
less than half of it, █ down for more.")]
pub struct Upstreams {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl Upstreams {
    pub async fn run(self) -> Result<(), Failed> {
        let client = self.place.client()?;
        let upstreams: Vec<Upstream> = client.get("/v1/upstreams").await?;
        if self.format == Format::Json {
            return print::json(&upstreams);
        }
        let status: Status = client.get("/v1/status").await?;
        let day = if io::stdout().is_terminal() {
            let since = encoded(&(status.now - DAY).to_string());
            Some(client.get::<Vec<Outage>>(&format!("/v1/outages?since={since}")).await?)
        } else {
            None
        };
        let mut held_up: Vec<DestinationState> = client.get("/v1/destinations").await?;
        held_up.retain(|line| {
            line.destination.starts_with(MX) && (line.asleep_since.is_some() || line.slowed.is_some())
        });
        print::text(&shown(&upstreams, &held_up, day.as_deref(), status.now))
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How listings write what goes by MX records: `mx:example.com`.
const MX: &str = "mx:";
/// Domains that are told of.
const MOST: usize = 20;

/// `held_up`: the domains whose mail cannot go now. `day`: the outages of the last day, where they are to be seen.
fn shown(
    upstreams: &[Upstream],
    held_up: &[DestinationState],
    day: Option<&[Outage]>,
    now: Timestamp,
) -> String {
    if upstreams.is_empty() && held_up.is_empty() {
        return "No upstream is configured, and no MX host or domain is down.\n".to_owned();
    }
    let mut table = Table::new([
        "upstream",
        "host",
        "state",
        "next trial",
        "now",
        "transactions",
        "failures",
        if day.is_some() { "last 24 hours" } else { "" },
        "last failure",
    ]);
    for upstream in upstreams {
        let group = upstream.hosts.group.as_deref();
        for (index, host) in upstream.hosts.hosts.iter().enumerate() {
            table.row([
                if index == 0 { group.unwrap_or("(MX hosts)").to_owned() } else { String::new() },
                name(host),
                state(host, now),
                trial(host, now),
                host.delivering.to_string(),
                host.transactions.to_string(),
                host.failures.to_string(),
                day.map(|outages| picture(outages, group, host, now)).unwrap_or_default(),
                last(host),
            ]);
        }
    }
    let mut text = if upstreams.is_empty() { String::new() } else { table.to_string() };
    let of_groups = upstreams.iter().filter_map(|upstream| upstream.queue.as_ref());
    for line in of_groups.chain(held_up.iter().take(MOST)) {
        let _ = write!(text, "\n{}", waiting(line, now));
    }
    if held_up.len() > MOST {
        let _ = writeln!(text, "\nand {} more domains; see posthouse queue list", held_up.len() - MOST);
    }
    text.trim_start_matches('\n').to_owned()
}

/// What waits for a destination, and why it does.
fn waiting(line: &DestinationState, now: Timestamp) -> String {
    let messages = plural(line.waiting, "message waits", "messages wait");
    let (name, waiting) = (harmless(&line.destination), line.waiting);
    let (Some(since), Some(next)) = (line.asleep_since, line.next_probe) else {
        let restraint = restraint::told(line, now).map(|told| format!("{told}\n"));
        return format!(
            "{name}: {waiting} {messages}, {} under way of {} that may be\n{}",
            line.delivering,
            line.window,
            restraint.unwrap_or_default()
        );
    };
    // The hosts of a group stand above with what each of them said.
    let is_group = !line.destination.starts_with(MX);
    let reason =
        line.reason.as_deref().filter(|_| !is_group).map(|reason| format!(" ({})", harmless(reason)));
    format!(
        "{name} takes no mail since {since}{}: {waiting} {messages}; next probe {}; now: posthouse queue retry \
         --destination {name}\n",
        reason.unwrap_or_default(),
        until(now, next)
    )
}

/// Mail tries a host, and no sooner than at its time: a spare one waits until the others cannot be used.
fn trial(host: &HostState, now: Timestamp) -> String {
    match host.next_trial {
        Some(at) if at > now => until(now, at),
        Some(_) if host.condition == HostCondition::Down => "when mail needs it".to_owned(),
        Some(_) => "now".to_owned(),
        None => String::new(),
    }
}

fn name(host: &HostState) -> String {
    match host.address {
        Some(address) if address.ip().to_string() == host.host => {
            format!("[{}]:{}", address.ip(), address.port())
        }
        Some(address) => format!("{} [{}]:{}", host.host, address.ip(), address.port()),
        None => match (host.host.parse::<IpAddr>(), host.port) {
            (Ok(ip), Some(port)) => format!("[{ip}]:{port}"),
            (Err(_), Some(port)) => format!("{}:{port}", host.host),
            (_, None) => host.host.clone(),
        },
    }
}

fn state(host: &HostState, now: Timestamp) -> String {
    let down = || host.down_since.map(|since| rough(now.since(since))).unwrap_or_default();
    match host.condition {
        HostCondition::Unused => "not used yet".to_owned(),
        HostCondition::Well => "well".to_owned(),
        HostCondition::Down => format!("down for {}", down()),
        HostCondition::OnTrial => format!("on trial, down for {}", down()),
    }
}

fn last(host: &HostState) -> String {
    match (&host.stage, &host.last) {
        (Some(stage), Some(last)) => format!("{stage}: {last}"),
        _ => String::new(),
    }
}

/// The last 24 hours, an hour for each sign.
fn picture(outages: &[Outage], group: Option<&str>, host: &HostState, now: Timestamp) -> String {
    let is_mine = |outage: &&Outage| {
        outage.kind == OutageKind::Host
            && outage.host.as_ref() == Some(&host.host)
            && outage.address == host.address
            && outage.destination.as_deref() == group
    };
    let mine: Vec<&Outage> = outages.iter().filter(is_mine).collect();
    let sign = |hour: u32| {
        let from = now - DAY + HOUR * hour;
        let to = from + HOUR;
        let overlap = |outage: &&Outage| outage.end.unwrap_or(now).min(to).since(outage.start.max(from));
        let down: Duration = mine.iter().map(overlap).sum();
        match down {
            Duration::ZERO => '▁',
            down if down < HOUR / 2 => '▄',
            _ => '█',
        }
    };
    (0..24).map(sign).collect()
}

#[cfg(test)]
mod tests {
    use posthouse::route::UpstreamState;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn host(name: &str, condition: HostCondition) -> HostState {
        let is_down = matches!(condition, HostCondition::Down | HostCondition::OnTrial);
        HostState {
            host: name.into(),
            port: Some(25),
            address: (condition != HostCondition::Unused).then(|| "192.0.2.1:25".parse().unwrap()),
            condition,
            down_since: is_down.then_some(NOW - HOUR),
            next_trial: is_down.then_some(NOW + Duration::from_secs(90)),
            stage: is_down.then(|| "connect".into()),
            last: is_down.then(|| "connecting: \u{1b}refused".into()),
            delivering: 0,
            transactions: 7,
            failures: 2,
        }
    }

    fn outage(start: Timestamp, end: Option<Timestamp>) -> Outage {
        let text = serde_json::json!({
            "id": 1, "kind": "host", "destination": "main", "host": "mx.example.org", "address": "192.0.2.1:25",
            "start": start, "end": end, "last_seen": start, "cause": "refused", "last": "refused",
            "failures": 1, "diverted": 0, "held": 0,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn each_group_stands_with_its_hosts_and_what_waits_for_it() {
        let hosts = vec![
            host("mx.example.org", HostCondition::Down),
            host("192.0.2.1", HostCondition::Well),
            host("spare.example.org", HostCondition::Unused),
        ];
        assert_eq!(trial(&hosts[0], NOW + HOUR), "when mail needs it", "nobody asks a host without mail");
        let queue = DestinationState {
            destination: "main".into(),
            waiting: 3,
            delivering: 1,
            window: 20,
            asleep_since: None,
            next_probe: None,
            reason: None,
            ..serde_json::from_str(r#"{"destination":"","waiting":0,"delivering":0,"window":0}"#).unwrap()
        };
        let main =
            Upstream { hosts: UpstreamState { group: Some("main".into()), hosts }, queue: Some(queue) };
        let text = shown(std::slice::from_ref(&main), &[], None, NOW);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("main      mx.example.org [192.0.2.1]:25  down for 1 hour  in "),
            "{text}"
        );
        assert!(lines[1].ends_with("connect: connecting: ?refused"), "{text}");
        assert!(lines[2].starts_with("          [192.0.2.1]:25                 well"), "{text}");
        assert!(lines[3].contains("spare.example.org:25  ") && lines[3].contains("not used yet"), "{text}");
        assert_eq!(lines[5], "main: 3 messages wait, 1 under way of 20 that may be");
        let rated = DestinationState { rate: Some("10/s".into()), ..main.queue.clone().unwrap() };
        let text = shown(&[Upstream { queue: Some(rated), ..main }], &[], None, NOW);
        let said = "main gets at most 10/s, as configured; 3 messages wait for it";
        assert_eq!(text.lines().last(), Some(said), "a rate is no stall");
        assert_eq!(
            shown(&[], &[], None, NOW),
            "No upstream is configured, and no MX host or domain is down.\n"
        );
    }

    #[test]
    fn a_domain_that_dns_says_nothing_of_is_told_though_it_has_no_hosts() {
        let text = format!(
            r#"{{"destination":"mx:example.com","waiting":1,"delivering":0,"window":1,"asleep_since":"{NOW}","next_probe":"{}",
            "reason":"DNS gives no answer"}}"#,
            NOW + Duration::from_secs(10)
        );
        let asleep: DestinationState = serde_json::from_str(&text).unwrap();
        let said = shown(&[], std::slice::from_ref(&asleep), None, NOW);
        assert!(
            said.contains("mx:example.com takes no mail since 2026-11-18T11:06:40.000Z (DNS gives no answer): 1 message waits"),
            "{said}"
        );
        assert!(said.starts_with("mx:example.com"), "{said}");
        let many = vec![asleep; MOST + 3];
        assert!(shown(&[], &many, None, NOW).ends_with("\nand 3 more domains; see posthouse queue list\n"));
    }

    #[test]
    fn the_picture_shows_the_hours_in_which_a_host_was_down() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let outages = [
            outage(NOW - DAY - HOUR, Some(NOW - DAY + minutes(61))),
            outage(NOW - HOUR * 3, Some(NOW - HOUR * 3 + minutes(29))),
            outage(NOW - minutes(31), None),
        ];
        let down = host("mx.example.org", HostCondition::Down);
        assert_eq!(picture(&outages, Some("main"), &down, NOW), "█▄▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▄▁█");
        assert_eq!(picture(&outages, Some("other"), &down, NOW), "▁".repeat(24));
    }
}
