//! Which events somebody wants to see.
//!
//! Contract: an event passes when it meets every condition that is set; a filter without conditions passes all.
//! Addresses are compared without regard to case; `@example.org` stands for everybody there.
//! Not here: the words of the command line.

use ipnet::IpNet;

use super::event::{Event, EventName};
use crate::clock::Timestamp;
use crate::mail::{QueueId, SessionId};

/// Conditions on an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this message, or about its notice (`reference`).
    pub id: Option<QueueId>,
    pub message_id: Option<String>,
    pub session: Option<SessionId>,
    /// The client's address, or its network.
    pub client: Option<IpNet>,
    /// The reverse-path, `@domain`, or `<>`.
    pub sender: Option<String>,
    /// One of the recipients, or `@domain`.
    pub recipient: Option<String>,
    /// One of these; none set means all.
    pub events: Vec<EventName>,
    /// At this moment or later.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// Any field contains this text, without regard to the case of US-ASCII letters.
    pub text: Option<String>,
}

impl Filter {
    pub fn passes(&self, event: &Event) -> bool {
        self.id.is_none_or(|id| event.id == Some(id) || event.reference == Some(id))
            && self.session.is_none_or(|session| event.session == Some(session))
            && self.client.is_none_or(|net| event.client.is_some_and(|ip| net.contains(&ip.to_canonical())))
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time < until)
            && (self.events.is_empty() || self.events.contains(&event.event))
            && self
                .message_id
                .as_ref()
                .is_none_or(|wanted| same_message_id(event.message_id.as_deref(), wanted))
            && self
                .sender
                .as_ref()
                .is_none_or(|wanted| event.sender.as_deref().is_some_and(|s| is_address(s, wanted)))
            && self
                .recipient
                .as_ref()
                .is_none_or(|wanted| event.recipients.iter().any(|r| is_address(r, wanted)))
            && self.text.as_ref().is_none_or(|wanted| contains(event, wanted))
    }
}

fn is_address(address: &str, wanted: &str) -> bool {
    if !wanted.starts_with('@') {
        return address.eq_ignore_ascii_case(wanted);
    }
    let Some(start) = address.len().checked_sub(wanted.len()) else { return false };
    address.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(wanted))
}

/// Written with or without its angle brackets.
fn same_message_id(message_id: Option<&str>, wanted: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
    message_id.is_some_and(|message_id| bare(message_id) == bare(wanted))
}

fn contains(event: &Event, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    event.cells().iter().any(|cell| cell.to_ascii_lowercase().contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(Timestamp::from_millis(5_000), EventName::Defer);
        event.id = Some(QueueId::from_u64(7));
        event.message_id = Some("<m1@example.org>".into());
        event.sender = Some("Alice@Example.org".into());
        event.recipients = vec!["bob@example.com".into(), "carol@example.net".into()];
        event.reason = Some("connection refused".into());
        event
    }

    #[test]
    fn an_event_passes_when_it_meets_every_condition() {
        let any = Filter::default();
        let pass = |filter: Filter| filter.passes(&event());
        assert!(pass(any.clone()));
        let both = Filter {
            sender: Some("alice@example.ORG".into()),
            recipient: Some("@example.net".into()),
            ..any.clone()
        };
        assert!(pass(both.clone()));
        assert!(!pass(Filter { recipient: Some("@net".into()), ..both.clone() }));
        assert!(!pass(Filter { recipient: Some("dave@example.net".into()), ..both }));
        assert!(pass(Filter { message_id: Some("m1@example.org".into()), ..any.clone() }));
        assert!(!pass(Filter { message_id: Some("M1@example.org".into()), ..any.clone() }));
        assert!(pass(Filter { events: vec![EventName::Send, EventName::Defer], ..any.clone() }));
        assert!(!pass(Filter { events: vec![EventName::Send], ..any.clone() }));
        assert!(pass(Filter { text: Some("REFUSED".into()), ..any.clone() }));
        assert!(!pass(Filter { text: Some("timeout".into()), ..any.clone() }));
        assert!(!pass(Filter { session: Some(SessionId::from_chance(1)), ..any }));
    }

    #[test]
    fn since_includes_its_moment_and_until_does_not() {
        let at = |millis| Some(Timestamp::from_millis(millis));
        let passes = |since, until| Filter { since, until, ..Filter::default() }.passes(&event());
        assert!(passes(at(5_000), at(5_001)));
        assert!(!passes(at(5_001), None));
        assert!(!passes(None, at(5_000)));
    }

    #[test]
    fn an_id_finds_the_message_and_what_refers_to_it() {
        let filter = Filter { id: Some(QueueId::from_u64(7)), ..Filter::default() };
        let mut notice = Event::new(Timestamp::from_millis(6_000), EventName::Receive);
        notice.id = Some(QueueId::from_u64(8));
        assert!(!filter.passes(&notice));
        notice.reference = Some(QueueId::from_u64(7));
        assert!(filter.passes(&notice) && filter.passes(&event()));
    }
}
