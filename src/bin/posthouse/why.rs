//! `posthouse why`: one screen about one message.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use posthouse::admin;
use posthouse::mail::QueueId;
use posthouse::queue::{Listed, ListedState, RecipientStanding};
use posthouse::tracking::{Event, EventName};

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;
use crate::queue::{rough, shown, until};
use crate::track::over;

/// Say where a message is, why, what comes next and when it ends
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  posthouse why 3A0S3EDZ1T00
  posthouse why 3A0S3EDZ1T00 --format json")]
pub struct Why {
    /// The queue id, as the 250, the listing and the log give it
    id: QueueId,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

impl Why {
    pub async fn run(self) -> Result<(), Failed> {
        let why: admin::Why = self.place.client()?.get(&format!("/v1/why/{}", self.id)).await?;
        match self.format {
            Format::Json => print::json(&why),
            Format::Table => print::text(&screen(&why)),
        }
    }
}

fn screen(why: &admin::Why) -> String {
    let mut text = match &why.message {
        Some(message) => shown(message, why.now),
        None => format!(
            "Message     {}\nState       it has left the queue: {}\n",
            why.id,
            harmless(&end(&why.events))
        ),
    };
    text.push_str("\nWhat happened\n");
    let mut probes = 0;
    for (index, event) in why.events.iter().enumerate() {
        // A long outage is many failed probes of the destination: the first and the last tell it.
        let next_is_probe = why.events.get(index + 1).is_some_and(|next| next.event == EventName::Sleep);
        if event.event == EventName::Sleep && probes > 0 && next_is_probe {
            probes += 1;
            continue;
        }
        if event.event != EventName::Sleep {
            probes = 0;
        } else {
            if probes > 1 {
                let _ = writeln!(text, "  {:24}  ... {} more failed probes ...", "", probes - 1);
            }
            probes += 1;
        }
        let _ =
            writeln!(text, "  {:24}  {:11}  {}", event.time.to_string(), event.event.as_str(), told(event));
    }
    if let Some(message) = &why.message {
        text.push_str("\nWhat comes next\n");
        let next = message.recipients.iter().filter_map(|recipient| recipient.next_attempt).min();
        match (message.state, next) {
            (ListedState::Held, _) => {
                let _ = writeln!(text, "  nothing before it is released: posthouse queue release {}", why.id);
            }
            (ListedState::HeldByRoute, _) => {
                text.push_str(
                    "  nothing while a route holds it (via = \"hold\"): change the routes and reload\n",
                );
            }
            (ListedState::Waiting | ListedState::Asleep, _) if message.release.is_some() => {
                let release = message.release.expect("it was just seen");
                let _ = writeln!(
                    text,
                    "  {release}  it is released ({}), as its sender asked; nothing is tried before",
                    until(why.now, release)
                );
            }
            (ListedState::Active, _) => text.push_str("  the attempt that is under way ends\n"),
            (ListedState::Uncertain, _) => {
                let _ = writeln!(
                    text,
                    "  a person decides: posthouse queue retry {0} sends it again, posthouse queue cancel {0} ends it",
                    why.id
                );
            }
            (ListedState::Kept, _) => {
                if let Some(end) = message.kept_until {
                    let _ = writeln!(text, "  {end}  the safety net lets it go ({})", until(why.now, end));
                }
            }
            (ListedState::Notice, _) => text.push_str("  a notice to the sender is written\n"),
            (ListedState::Asleep, Some(next)) => {
                let _ = writeln!(
                    text,
                    "  {next}  the destination is probed ({}); when it answers, mail flows",
                    until(why.now, next)
                );
            }
            (_, Some(next)) => {
                let _ = writeln!(text, "  {next}  it is tried again ({})", until(why.now, next));
            }
            (_, None) => {}
        }
        if let Some(expires) = message.expires {
            let by_wish = if message.deliver_by == Some(expires) { ", as he asked" } else { "" };
            let _ = writeln!(
                text,
                "  {expires}  it is given up, and its sender told{by_wish} ({})",
                until(why.now, expires)
            );
        }
        text.push_str(&act(why, message));
    }
    if let Some(session) = why.events.iter().find_map(|event| event.session) {
        let _ = writeln!(text, "\nThe session in which it came: posthouse track --session {session}");
    }
    text
}

/// What a person can do about it now.
fn act(why: &admin::Why, message: &Listed) -> String {
    match message.state {
        // What to do stands among what comes next.
        ListedState::Held | ListedState::HeldByRoute | ListedState::Uncertain => String::new(),
        ListedState::Kept => {
            let by = message.recipients.first().map_or("NAME", |recipient| &recipient.destination);
            let since = message.arrived;
            let again = if message.sent_again.is_some() { " --again" } else { "" };
            format!(
                "\nTo send it again: posthouse resubmit --upstream {} --since {since} --id {}{again}\n",
                harmless(by),
                why.id
            )
        }
        _ => format!("\nTo try it now: posthouse queue retry {}\n{}", why.id, way(message)),
    }
}

/// Where mail goes by MX records, they are half of the story.
fn way(message: &Listed) -> String {
    let waiting = message.recipients.iter().filter(|recipient| recipient.state == RecipientStanding::Waiting);
    let domain = waiting.filter_map(|recipient| recipient.destination.strip_prefix("mx:")).next();
    let said =
        |domain| format!("To see what DNS and the hosts say: posthouse mx {} --probe\n", harmless(domain));
    domain.map(said).unwrap_or_default()
}

/// How it ended, from its events: one word for each way in which it ended for somebody.
fn end(events: &[Event]) -> String {
    let word = |event: &Event| match event.event {
        EventName::Send => Some("delivered"),
        EventName::Fail => Some("bounced"),
        EventName::Discard => Some("discarded by a route"),
        EventName::Expire => Some("given up, since its time was over"),
        EventName::Cancel => Some("cancelled by the operator"),
        _ => None,
    };
    let mut ends: Vec<String> = Vec::new();
    for event in events {
        if let Some(word) = word(event) {
            ends.push(format!("{word} for {}", event.recipients.join(", ")));
        }
    }
    if ends.is_empty() { "how is not in the log any more".to_owned() } else { ends.join("; ") }
}

/// One event in a line.
fn told(event: &Event) -> String {
    let mut text = String::new();
    let who = event.recipients.join(", ");
    let host = event.host().map(|host| host.to_string()).unwrap_or_default();
    let said = match (&event.reply, &event.reason) {
        (Some(reply), _) => reply.to_string(),
        (None, Some(reason)) => reason.clone(),
        (None, None) => String::new(),
    };
    let destination = event.destination.as_deref().unwrap_or_default();
    match event.event {
        EventName::Receive if event.reference.is_some() => {
            let notice = event.id.map(|id| id.to_string()).unwrap_or_default();
            let _ = write!(text, "notice {notice} to {who} is in the queue");
        }
        EventName::Receive => {
            let client = event.client.map(|client| format!(" from {client}")).unwrap_or_default();
            let session = event.session.map(|session| format!(", session {session}")).unwrap_or_default();
            let _ = write!(text, "accepted{client} for {who}{session}");
        }
        // No client's session: it was changed for a host.
        EventName::Convert => {
            let way = if event.session.is_some() { "in" } else { "out" };
            let _ = write!(text, "changed on the way {way}: {said}");
        }
        EventName::Dsn => {
            let notice = event.reference.map(|id| id.to_string()).unwrap_or_default();
            let _ = write!(text, "the sender was told: {said} (notice {notice})");
        }
        EventName::Route => {
            let candidates: Vec<String> = event.candidates.iter().map(ToString::to_string).collect();
            let _ = write!(text, "{destination}: {}", candidates.join("; "));
            if candidates.is_empty() {
                text.push_str(event.reason.as_deref().unwrap_or_default());
            }
        }
        EventName::Failover => {
            let to = event.next_host.as_deref().unwrap_or_default();
            // The same host once more: what was left out is told by the reason alone.
            let less = event.reason.as_ref().filter(|_| to == host && event.reply.is_some());
            let said = less.map_or(said.clone(), |less| format!("{said}; {less}"));
            let cost = event.duration_ms.filter(|ms| *ms >= 1000);
            let cost = cost.map(|ms| format!(" after {}", rough(Duration::from_millis(ms))));
            let _ = write!(text, "{host}: {said}; turned to {to}{}", cost.unwrap_or_default());
        }
        EventName::HostDown => {
            let stage = event.host_stage.as_deref().unwrap_or_default();
            // Where it has answered, what we make of that: which setting to look at.
            let hint = event.reply.as_ref().and(event.reason.as_ref());
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            let _ = write!(
                text,
                "{host} is down ({stage}): {said}{hint}; mail passes it over until a trial succeeds"
            );
        }
        EventName::HostUp => {
            let cost = event.duration_ms.map(|ms| format!(" after {}", rough(Duration::from_millis(ms))));
            let _ = write!(text, "{host} is well again{}", cost.unwrap_or_default());
        }
        EventName::Sleep if host.is_empty() => {
            let _ = write!(text, "{destination} takes no mail: {said}");
        }
        EventName::Sleep => {
            let _ = write!(text, "{destination} takes no mail: {host}: {said}");
        }
        EventName::Load => {
            let waiting = event.waiting.unwrap_or(0);
            let s = if waiting == 1 { "" } else { "s" };
            let _ = write!(text, "posthouse started, with {waiting} message{s} for {destination}");
        }
        EventName::Wake => {
            let _ = write!(text, "{destination} answers again");
        }
        EventName::Send => {
            let _ = write!(text, "{who} at {host}: {said}");
            // Where it went in place of its recipient.
            let elsewhere = event.reason.clone().filter(|reason| reason != "delivered");
            for more in elsewhere.into_iter().chain(over(event).map(|tls| format!("over {tls}"))) {
                let _ = write!(text, " ({more})");
            }
        }
        _ if host.is_empty() => {
            let _ = write!(text, "{who}: {said}");
        }
        _ => {
            let _ = write!(text, "{who} at {host}: {said}");
        }
    }
    if let Some(next) = event.next_attempt {
        let _ = write!(text, "; next {next}");
    }
    harmless(&text)
}

#[cfg(test)]
mod tests {
    use posthouse::clock::Timestamp;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn why(message: &str, events: &str) -> String {
        let text =
            format!(r#"{{"id":"38G1V25TJ000","now":"{NOW}","message":{message},"events":[{events}]}}"#);
        screen(&serde_json::from_str(&text).unwrap())
    }

    fn message(state: &str, recipient: &str, more: &str) -> String {
        format!(
            r#"{{"id":"38G1V25TJ000","state":"{state}","arrived":"{NOW}","size":1,"sender":"a@example.org"{more},"recipients":[
            {{"address":"b@example.com","state":"{recipient}","destination":"main","attempts":1}}]}}"#
        )
    }

    #[test]
    fn what_a_person_can_do_suits_the_state() {
        let said = why(&message("waiting", "waiting", ""), "");
        assert!(said.ends_with("\nTo try it now: posthouse queue retry 38G1V25TJ000\n"), "{said}");
        let by_mx = message("asleep", "waiting", "").replace("\"main\"", "\"mx:example.com\"");
        let said = why(&by_mx, "");
        assert!(
            said.ends_with("\nTo see what DNS and the hosts say: posthouse mx example.com --probe\n"),
            "{said}"
        );
        let until = NOW + Duration::from_secs(3600);
        let said = why(&message("kept", "delivered", &format!(r#","kept_until":"{until}""#)), "");
        assert!(said.contains(&format!("\n  {until}  the safety net lets it go (in 1 hour)\n")), "{said}");
        let act = format!(
            "\nTo send it again: posthouse resubmit --upstream main --since {NOW} --id 38G1V25TJ000\n"
        );
        assert!(said.ends_with(&act), "{said}");
        let sent_again = format!(r#","sent_again":"{NOW}","kept_until":"{until}""#);
        let said = why(&message("kept", "delivered", &sent_again), "");
        assert!(said.ends_with(" --id 38G1V25TJ000 --again\n"), "else it is passed over: {said}");
        for state in ["held", "held-by-route", "uncertain"] {
            let said = why(&message(state, "waiting", ""), "");
            assert!(!said.contains("To try it now"), "what to do stands above: {said}");
        }
    }

    #[test]
    fn where_a_redirected_message_goes_and_went_is_told() {
        let redirected = message("waiting", "waiting", "").replace(
            r#""destination":"main""#,
            r#""destination":"main","redirect_to":"staging@example.org""#,
        );
        let sent = format!(
            r#"{{"time":"{NOW}","event":"SEND","host":"192.0.2.1","recipients":["b@example.com"],"reply":"250 ok","reason":"redirected to staging@example.org"}}"#
        );
        let said = why(&redirected, &sent);
        assert!(
            said.contains("b@example.com by way of main, redirected to staging@example.org: waiting"),
            "{said}"
        );
        assert!(
            said.contains("b@example.com at 192.0.2.1: 250 ok (redirected to staging@example.org)\n"),
            "{said}"
        );
    }

    #[test]
    fn what_a_route_discarded_has_left_so() {
        let event = format!(
            r#"{{"time":"{NOW}","event":"DISCARD","id":"38G1V25TJ000","recipients":["b@example.com"],"reason":"discarded by a route"}}"#
        );
        let said = why("null", &event);
        assert!(said.contains("it has left the queue: discarded by a route for b@example.com"), "{said}");
    }

    #[test]
    fn a_refused_password_is_told_with_the_setting_to_look_at() {
        let event = format!(
            r#"{{"time":"{NOW}","event":"HOSTDOWN","host":"192.0.2.1","host_stage":"auth","reply":"535 5.7.8 no","reason":"check password_file"}}"#
        );
        let said = why(&message("asleep", "waiting", ""), &event);
        assert!(
            said.contains(" is down (auth): 535 5.7.8 no (check password_file); mail passes it over"),
            "{said}"
        );
    }

    #[test]
    fn what_a_host_was_sent_with_less_is_told() {
        let event = |more: &str| {
            format!(
                r#"{{"time":"{NOW}","event":"FAILOVER","host":"mx.example.com","next_host":"{more}","reply":"502 what?","reason":"going on with DATA"}}"#
            )
        };
        let said = why("null", &event("mx.example.com"));
        assert!(
            said.contains("mx.example.com: 502 what?; going on with DATA; turned to mx.example.com"),
            "{said}"
        );
        let said = why("null", &event("mx2.example.com"));
        assert!(said.contains("mx.example.com: 502 what?; turned to mx2.example.com"), "{said}");
        let converted = format!(r#"{{"time":"{NOW}","event":"CONVERT","reason":"to seven bits"}}"#);
        assert!(why("null", &converted).contains("changed on the way out: to seven bits"));
    }
}
