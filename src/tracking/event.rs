//! One event of the tracking log: a flat record, in which what does not apply is left out.
//!
//! Contract: this is what stands in the files and what subscribers get; scripts read its field names, so names may be
//! added but never changed. An unknown field is passed over when reading: an older posthouse reads newer files.
//! Not here: which event carries which fields (`facts`), files (`folder`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::session::{Ended, Stage};
use crate::clock::Timestamp;
use crate::mail::{EnhancedStatus, Host, QueueId, Reply, SessionId};

macro_rules! event_names {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What happened. The names are Exchange's where Exchange has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventName { $($(#[$doc])* $name,)* }

        impl EventName {
            pub const ALL: &[EventName] = &[$(EventName::$name,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(EventName::$name => $text,)* }
            }
        }
    };
}

event_names! {
    /// A message was accepted; it is durable.
    Receive = "RECEIVE",
    /// A client was told no, so nothing was promised.
    Reject = "REJECT",
    /// An accepted message differs from what the client sent, by a setting: `reason` says how.
    Convert = "CONVERT",
    /// A client sent octets that had to wait, and they were dropped unread: `reason` says where.
    Drop = "DROP",
    /// An attempt failed for now; or, without a number of an attempt, the message waits for a destination that cannot be
    /// reached: it has found that out itself if there is a duration, and otherwise was not tried.
    Defer = "DEFER",
    /// The next hop took responsibility.
    Send = "SEND",
    /// The connection died after the final dot: delivered or not, nobody knows.
    Uncertain = "UNCERTAIN",
    /// An attempt failed for good.
    Fail = "FAIL",
    /// The time of the schedule was up.
    Expire = "EXPIRE",
    /// A notice to the sender was made; `reference` is its queue id.
    Dsn = "DSN",
    /// Taken out of the schedule.
    Hold = "HOLD",
    /// Put back into the schedule.
    Release = "RELEASE",
    /// Given up by the operator.
    Cancel = "CANCEL",
    /// An attempt was asked for by the operator.
    Retry = "RETRY",
    /// A start found messages that wait for this destination.
    Load = "LOAD",
    /// Next hops were looked up: every candidate, and what was decided about it.
    Route = "ROUTE",
    /// One host failed and the next was turned to, within one attempt. Or the same host once more, in the clear, where
    /// STARTTLS failed and TLS is only an opportunity, or by DATA, where it does not know the BDAT that it offers.
    Failover = "FAILOVER",
    /// A route says that it goes nowhere.
    Discard = "DISCARD",
    /// What the safety net has kept is sent again.
    Resubmit = "RESUBMIT",
    /// A host is left alone for a while: its outage begins, or goes on after a probe.
    HostDown = "HOSTDOWN",
    /// One delivery finds out whether a host is well again.
    Probe = "PROBE",
    /// A host is well again: its outage has ended, and this is what it cost.
    HostUp = "HOSTUP",
    /// A destination gets less at once, or less often, than it might: it said so, or failed.
    Throttle = "THROTTLE",
    /// A destination cannot be reached; all that is for it waits.
    Sleep = "SLEEP",
    /// A destination answers again.
    Wake = "WAKE",
    /// A client has not authenticated: wrong, malformed, or too often.
    AuthFail = "AUTHFAIL",
    /// Something in the spool is damaged and was set aside.
    Quarantine = "QUARANTINE",
    /// A session ended that is worth a look: `posthouse track --session` has more.
    Session = "SESSION",
    /// The same, of one whose TLS handshake failed.
    TlsFail = "TLSFAIL",
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of an event, one of {}", names())]
pub struct EventNameError;

fn names() -> String {
    EventName::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// In any case of letters.
impl FromStr for EventName {
    type Err = EventNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|name| name.as_str().eq_ignore_ascii_case(text)).ok_or(EventNameError)
    }
}

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A next hop that was considered, and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub host: String,
    /// The upstream group that it is of; none for MX hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Where it is not 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// MX preference, or the place in an upstream group; the lowest goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<u16>,
    /// "chosen", or "skipped: " and the reason.
    pub decision: String,
}

/// `10 mx.example.org [192.0.2.1] chosen`, `0 relay.example.org:587 (main) [192.0.2.1] chosen`
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(preference) = self.preference {
            write!(f, "{preference} ")?;
        }
        match (self.port, self.host.contains(':')) {
            (None, _) => f.write_str(&self.host)?,
            (Some(port), false) => write!(f, "{}:{port}", self.host)?,
            (Some(port), true) => write!(f, "[{}]:{port}", self.host)?,
        }
        if let Some(group) = &self.group {
            write!(f, " ({group})")?;
        }
        for address in &self.addresses {
            write!(f, " [{address}]")?;
        }
        write!(f, " {}", self.decision)
    }
}

macro_rules! event_fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty, $absent:literal $(, $with:literal)?;)*) => {
        /// One line of the log.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Event {
            /// When, by the relay's clock.
            pub time: Timestamp,
            pub event: EventName,
            $($(#[$doc])* #[serde(default, skip_serializing_if = $absent $(, with = $with)?)] pub $field: $type,)*
        }

        impl Event {
            /// An event of which nothing is known but when and what.
            pub fn new(time: Timestamp, event: EventName) -> Self {
                Self { time, event, $($field: Default::default(),)* }
            }

            /// The names of all fields, in the order of [`Event::cells`].
            pub const COLUMNS: &[&str] = &["time", "event", $(stringify!($field),)*];

            /// Each field as text, in the order of [`Event::COLUMNS`]; empty where it is absent. Lists are joined by
            /// semicolons, as Exchange's are.
            pub fn cells(&self) -> Vec<String> {
                vec![self.time.to_string(), self.event.to_string(), $(Cell::text(&self.$field),)*]
            }
        }
    };
}

event_fields! {
    /// The message.
    id: Option<QueueId>, "Option::is_none";
    /// Its Message-ID field, as it stands in the content.
    message_id: Option<String>, "Option::is_none";
    /// The session in which it came.
    session: Option<SessionId>, "Option::is_none";
    /// The client's address.
    client: Option<IpAddr>, "Option::is_none";
    /// The reverse-path; `<>` is the null one.
    sender: Option<String>, "Option::is_none";
    /// The recipients that this event is about.
    recipients: Vec<String>, "Vec::is_empty";
    /// The line in which they wait: an upstream group, or `mx:` and a domain.
    destination: Option<String>, "Option::is_none";
    /// The other server, by the name that led there.
    host: Option<String>, "Option::is_none";
    /// The other server's address.
    host_address: Option<IpAddr>, "Option::is_none";
    /// The other server's port, where it is not 25.
    host_port: Option<u16>, "Option::is_none";
    /// The reply that decided, as it came: lines of a longer one are separated by line feeds.
    reply: Option<Reply>, "Option::is_none", "reply_text";
    /// The enhanced status code of the outcome; ours where the other side gave none.
    status: Option<EnhancedStatus>, "Option::is_none";
    /// Why, in our words.
    reason: Option<String>, "Option::is_none";
    /// The how manieth attempt this was for these recipients, beginning with 1. What their destination could not be
    /// reached for is none of theirs.
    attempt: Option<u32>, "Option::is_none";
    next_attempt: Option<Timestamp>, "Option::is_none";
    /// When posthouse gives up.
    expires: Option<Timestamp>, "Option::is_none";
    /// Octets of content.
    size: Option<u64>, "Option::is_none";
    /// The message that this one belongs to: of a DSN event the notice, of a notice's RECEIVE what it is about.
    reference: Option<QueueId>, "Option::is_none";
    /// Of a ROUTE event: every next hop that was considered.
    candidates: Vec<Candidate>, "Vec::is_empty";
    /// Of a FAILOVER event: the host that is tried next.
    next_host: Option<String>, "Option::is_none";
    /// Since when a destination, or a host, cannot be reached.
    since: Option<Timestamp>, "Option::is_none";
    /// Messages waiting for the destination.
    waiting: Option<u64>, "Option::is_none";
    /// How long it took, in milliseconds.
    duration_ms: Option<u64>, "Option::is_none";
    /// How far we came with a host that is down: connect, greeting, ehlo, starttls, auth, transaction.
    host_stage: Option<String>, "Option::is_none";
    /// Failures of a host in a row; those that came at once count once.
    failures: Option<u32>, "Option::is_none";
    /// Of a HOSTUP event: attempts that went on to another host meanwhile.
    diverted: Option<u64>, "Option::is_none";
    /// How far a session had come when it ended.
    stage: Option<Stage>, "Option::is_none";
    /// How a session ended.
    ended: Option<Ended>, "Option::is_none";
    /// Messages that a session brought.
    messages: Option<u64>, "Option::is_none";
    /// Of an event that stands for many: how many more there were like it.
    alike: Option<u64>, "Option::is_none";
    /// Who the client has authenticated as; of an AUTHFAIL event as whom it tried.
    user: Option<String>, "Option::is_none";
    /// Of an AUTHFAIL event: the SASL mechanism.
    mechanism: Option<String>, "Option::is_none";
    /// Of a SEND event, where the message went over TLS: TLSv1.3 or TLSv1.2.
    tls_version: Option<String>, "Option::is_none";
    /// The same: the cipher suite by its IANA name.
    tls_cipher: Option<String>, "Option::is_none";
    /// The same: how the server's certificate was verified: none (any would have done), ca, dane, sts.
    tls_verified_by: Option<String>, "Option::is_none";
}

impl Event {
    /// Something was tried: not so where a message only waits for a destination that cannot be reached.
    pub fn tells_of_a_try(&self) -> bool {
        self.attempt.is_some() || self.duration_ms.is_some()
    }

    /// The other server.
    pub fn host(&self) -> Option<Host> {
        let (address, port) = (self.host_address, self.host_port);
        self.host.clone().map(|name| Host { name, address, port })
    }
}

/// How a field stands in one cell of a table.
trait Cell {
    fn text(&self) -> String;
}

impl<T: fmt::Display> Cell for Option<T> {
    fn text(&self) -> String {
        self.as_ref().map(T::to_string).unwrap_or_default()
    }
}

impl<T: fmt::Display> Cell for Vec<T> {
    fn text(&self) -> String {
        self.iter().map(T::to_string).collect::<Vec<_>>().join(";")
    }
}

/// A reply as text: `550-5.7.1 blocked`, line feed, `550 5.7.1 see our page`. Nothing of it is lost.
mod reply_text {
    use super::*;

    pub fn serialize<S: Serializer>(reply: &Option<Reply>, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(reply) = reply else { return serializer.serialize_none() };
        let last = reply.lines().len().saturating_sub(1);
        let mut text = String::new();
        for (index, line) in reply.lines().iter().enumerate() {
            let (mark, end) = if index == last { (' ', "") } else { ('-', "\n") };
            fmt::Write::write_fmt(&mut text, format_args!("{}{mark}{line}{end}", reply.code()))
                .expect("a String takes everything");
        }
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reply>, D::Error> {
        let Some(text) = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? else {
            return Ok(None);
        };
        parse(&text)
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom("expected a reply such as \"451 4.7.1 try later\""))
    }

    fn parse(text: &str) -> Option<Reply> {
        let code: u16 = text.get(..3)?.parse().ok().filter(|code| (200..600).contains(code))?;
        let lines =
            text.split('\n').map(|line| line.get(4..).map(str::to_owned)).collect::<Option<Vec<_>>>()?;
        Some(Reply::with_lines(code, lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Event {
        let mut event = Event::new(Timestamp::from_millis(1_795_318_387_120), EventName::Defer);
        event.id = Some(QueueId::from_u64(7));
        event.message_id = Some("<a@example.org>".into());
        event.session = Some(SessionId::from_chance(9));
        event.recipients = vec!["b@example.org".into(), "c@example.org".into()];
        event.host = Some("mx.example.org".into());
        event.host_address = Some("192.0.2.1".parse().unwrap());
        event.reply =
            Some(Reply::with_lines(451, vec!["4.7.1 greylisted,".into(), "4.7.1 come back".into()]));
        event.status = Some(EnhancedStatus::new(4, 7, 1));
        event.attempt = Some(2);
        event.next_attempt = Some(event.time + std::time::Duration::from_secs(60));
        event.candidates = vec![Candidate {
            host: "mx.example.org".into(),
            group: None,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            port: None,
            preference: Some(10),
            decision: "chosen".into(),
        }];
        event
    }

    #[test]
    fn a_line_is_flat_and_leaves_out_what_is_absent() {
        let event = Event::new(Timestamp::from_millis(0), EventName::Receive);
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"time":"1970-01-01T00:00:00.000Z","event":"RECEIVE"}"#
        );
        let line = serde_json::to_string(&full()).unwrap();
        assert!(line.contains(r#""reply":"451-4.7.1 greylisted,\n451 4.7.1 come back""#), "{line}");
        assert!(line.contains(r#""host":"mx.example.org","host_address":"192.0.2.1""#), "{line}");
        assert!(!line.contains("null"), "{line}");
    }

    #[test]
    fn a_line_is_read_back_whole_and_unknown_fields_are_passed_over() {
        let line = serde_json::to_string(&full()).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), full());
        let newer = line.replacen('{', r#"{"flavour":"sweet","#, 1);
        assert_eq!(serde_json::from_str::<Event>(&newer).unwrap(), full());
        for bad in [r#""451""#, r#""45""#, r#""abc def""#, r#""999 no""#, r#""451 a\n45""#] {
            let line = format!(r#"{{"time":"1970-01-01T00:00:00Z","event":"DEFER","reply":{bad}}}"#);
            assert!(serde_json::from_str::<Event>(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_name_is_read_back_in_any_case() {
        for name in EventName::ALL {
            assert_eq!(name.as_str().to_lowercase().parse(), Ok(*name));
        }
        let error = "SENT".parse::<EventName>().unwrap_err().to_string();
        assert!(error.contains("SEND, UNCERTAIN"), "{error}");
    }

    #[test]
    fn cells_stand_under_their_columns() {
        let cells = full().cells();
        assert_eq!(cells.len(), Event::COLUMNS.len());
        let cell = |name| cells[Event::COLUMNS.iter().position(|column| *column == name).unwrap()].as_str();
        assert_eq!(cell("recipients"), "b@example.org;c@example.org");
        assert_eq!(cell("reply"), "451 4.7.1 greylisted, come back");
        assert_eq!(cell("candidates"), "10 mx.example.org [192.0.2.1] [2001:db8::1] chosen");
        assert_eq!(cell("expires"), "");
    }
}
