//! Why a destination gets less than waits for it, in words for listings.
//!
//! Contract: `told` names what it has asked for itself, or else the rates that the configuration gives it while mail
//! waits for them; nothing where neither holds anything back.
//! Not here: what a destination is allowed (`posthouse::queue`); one that cannot be reached at all (`list`, `upstreams`).

use posthouse::clock::Timestamp;
use posthouse::queue::DestinationState;

use super::plural;
use crate::harmless::harmless;

/// `main gets at most 10/s; 34 messages wait for it`, or what it has said.
pub fn told(destination: &DestinationState, now: Timestamp) -> Option<String> {
    let waiting = destination.waiting;
    let waits = format!("{waiting} {} for it", plural(waiting, "message waits", "messages wait"));
    let name = harmless(&destination.destination);
    if let Some(slowed) = &destination.slowed {
        let next = match slowed.until > now {
            true => format!("nothing before {}", slowed.until),
            false => "it goes on".to_owned(),
        };
        let (since, reason) = (slowed.since, harmless(&slowed.reason));
        let (rate, window) = (&slowed.rate, destination.window);
        return Some(format!(
            "{name} has asked for less since {since}: {reason}\n  {next}, then {rate}, {window} at once; {waits}"
        ));
    }
    let connections = destination.connection_rate.as_ref().map(|rate| format!("{rate} connections"));
    let rates: Vec<String> = destination.rate.clone().into_iter().chain(connections).collect();
    let is_held_back = waiting > 0 && destination.asleep_since.is_none() && !rates.is_empty();
    is_held_back.then(|| format!("{name} gets at most {}, as configured; {waits}", rates.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(more: &str) -> DestinationState {
        let text = format!(r#"{{"destination":"main","waiting":34,"delivering":0,"window":10{more}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    #[test]
    fn a_rate_of_the_configuration_is_the_reason_while_mail_waits_for_it() {
        let rated = state(r#","rate":"10/s","connection_rate":"1/min""#);
        let said = "main gets at most 10/s and 1/min connections, as configured; 34 messages wait for it";
        assert_eq!(told(&rated, NOW).as_deref(), Some(said));
        assert_eq!(told(&DestinationState { waiting: 0, ..rated.clone() }, NOW), None);
        let asleep = DestinationState { asleep_since: Some(NOW), ..rated };
        assert_eq!(told(&asleep, NOW), None, "it gets nothing, and that is told elsewhere");
        assert_eq!(told(&state(""), NOW), None);
    }

    #[test]
    fn what_the_destination_has_asked_for_stands_before_a_rate() {
        let slowed = |until| {
            let said = format!(
                r#","rate":"10/s","slowed":{{"since":"{NOW}","until":"{until}","rate":"4/s","reason":"450 \u001bslower"}}"#
            );
            told(&state(&said), NOW).expect("it is slowed")
        };
        let later = NOW + std::time::Duration::from_secs(10);
        assert_eq!(
            slowed(later),
            format!(
                "main has asked for less since {NOW}: 450 ?slower\n  nothing before {later}, then 4/s, 10 at once; 34 messages \
                 wait for it"
            )
        );
        assert!(slowed(NOW).contains("\n  it goes on, then 4/s"));
    }
}
