//! What may be reported to the tracking log, and which fields each event carries: the only place that makes events.
//!
//! Contract: one function for each event, in the words of the one who reports it. The arguments are borrowed facts;
//! all that is derived from them (text, milliseconds) is derived here, so that one thing reads the same everywhere.
//! Not here: how events are kept (`journal`).

use std::net::IpAddr;
use std::time::Duration;

use super::event::{Candidate, Event, EventName};
use super::journal::Tracking;
use super::session::{Ended, SessionRecord};
use crate::clock::Timestamp;
use crate::mail::{Address, Destination, Host, Origin, Outcome, QueueId, Reply, ReversePath, SessionId};

/// The message that an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub id: QueueId,
    pub origin: &'a Origin,
    pub reverse_path: &'a ReversePath,
}

/// A message was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub recipients: &'a [&'a Address],
    /// Octets of content.
    pub size: u64,
    /// From MAIL to the commit.
    pub duration: Option<Duration>,
    /// Of a notice: the message that it is about.
    pub reference: Option<QueueId>,
}

/// A client was told no: in the words that it used, which may be anything.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    pub session: Option<SessionId>,
    pub client: Option<IpAddr>,
    /// Who it has authenticated as.
    pub user: Option<&'a str>,
    pub sender: Option<&'a str>,
    pub recipient: Option<&'a str>,
    pub reply: &'a Reply,
    pub reason: &'a str,
}

/// A message that is taken was changed, or octets of a client were dropped.
#[derive(Clone, Copy, Debug)]
pub struct Altered<'a> {
    /// The message, where it is about one.
    pub id: Option<QueueId>,
    pub session: Option<SessionId>,
    pub client: Option<IpAddr>,
    pub sender: Option<&'a ReversePath>,
    pub reason: &'a str,
}

/// A client has not authenticated.
#[derive(Clone, Copy, Debug)]
pub struct AuthFailed<'a> {
    pub session: Option<SessionId>,
    pub client: Option<IpAddr>,
    /// As whom it tried, as far as it came.
    pub user: Option<&'a str>,
    pub mechanism: &'a str,
    pub reply: &'a Reply,
    pub reason: &'a str,
}

/// One attempt ended alike for these recipients, or they wait for a destination that sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    pub recipients: &'a [&'a Address],
    pub destination: &'a Destination,
    pub outcome: &'a Outcome,
    /// The how manieth, beginning with 1; 0 when its destination could not be reached, and then the event has none.
    pub attempt: u32,
    pub duration: Option<Duration>,
    pub next_attempt: Option<Timestamp>,
    pub expires: Option<Timestamp>,
}

/// A notice to the sender was made.
#[derive(Clone, Copy, Debug)]
pub struct Noticed<'a> {
    /// The notice's own queue id.
    pub notice: QueueId,
    /// The recipients that it tells about.
    pub recipients: &'a [&'a Address],
    /// The action of RFC 3464 section 2.3.3: `delayed`, `failed`, `relayed`.
    pub action: &'a str,
    /// `Will-Retry-Until` of a delay notice.
    pub expires: Option<Timestamp>,
}

/// Somebody, or a policy, interfered with the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Operated<'a> {
    pub recipients: &'a [&'a Address],
    /// Who and why: "by the operator".
    pub reason: &'a str,
}

/// A start found messages that wait for this destination.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    pub destination: &'a Destination,
    pub waiting: u64,
    /// The earliest of their next attempts.
    pub next_attempt: Option<Timestamp>,
}

/// Next hops were looked up.
#[derive(Clone, Debug)]
pub struct Routed<'a> {
    pub destination: &'a Destination,
    pub candidates: Vec<Candidate>,
    /// Why none of them will do.
    pub reason: Option<&'a str>,
    pub duration: Option<Duration>,
}

/// One host failed and the next is turned to.
#[derive(Clone, Copy, Debug)]
pub struct FailedOver<'a> {
    pub destination: &'a Destination,
    pub from: &'a Host,
    pub reply: Option<&'a Reply>,
    pub reason: &'a str,
    pub to: &'a Host,
    /// Every host of the plan, with what was decided about it when the attempt began.
    pub candidates: &'a [Candidate],
    /// What the failed host cost.
    pub duration: Duration,
}

/// A host could not be used, and is left alone until a trial.
#[derive(Clone, Copy, Debug)]
pub struct HostDown<'a> {
    pub host: &'a Host,
    /// The upstream group for which it was used; none for an MX host.
    pub destination: Option<&'a str>,
    /// How far we came.
    pub stage: &'a str,
    pub outcome: &'a Outcome,
    /// When its outage began.
    pub since: Timestamp,
    pub failures: u32,
    /// The trial.
    pub next_attempt: Timestamp,
}

/// A delivery finds out whether a host is well again.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    pub host: &'a Host,
    pub destination: Option<&'a str>,
    /// When its outage began.
    pub since: Timestamp,
}

/// A host is well again.
#[derive(Clone, Copy, Debug)]
pub struct HostUp<'a> {
    pub host: &'a Host,
    pub destination: Option<&'a str>,
    /// When its outage began.
    pub since: Timestamp,
    pub failures: u32,
    /// Attempts that went on to another host meanwhile.
    pub diverted: u64,
}

/// A destination cannot be reached.
#[derive(Clone, Copy, Debug)]
pub struct Slept<'a> {
    pub destination: &'a Destination,
    /// What happened there last.
    pub outcome: &'a Outcome,
    pub since: Timestamp,
    pub next_attempt: Timestamp,
    /// Messages behind it.
    pub waiting: u64,
}

/// A destination has asked us to come less often, or is held back no more.
#[derive(Clone, Copy)]
pub struct Throttled<'a> {
    pub destination: &'a Destination,
    pub outcome: &'a Outcome,
    /// Since its first complaint.
    pub since: Timestamp,
    /// Nothing goes there before.
    pub until: Timestamp,
    /// How many deliveries may run at once, where that was changed by it.
    pub window: Option<u32>,
    /// How often one may begin, as it is shown: one in two seconds. `None`: as often as before it asked.
    pub rate: Option<&'a dyn std::fmt::Display>,
    pub waiting: u64,
}

/// A message that had been delivered is sent again, by the operator's will.
#[derive(Clone, Copy, Debug)]
pub struct SentAgain<'a> {
    pub recipients: &'a [&'a Address],
    /// Who had taken it.
    pub upstream: &'a str,
    /// The group that it goes by now; `None`: as the routes say.
    pub via: Option<&'a str>,
    /// When it had been delivered.
    pub since: Option<Timestamp>,
}

/// A destination answers again.
#[derive(Clone, Copy, Debug)]
pub struct Woke<'a> {
    pub destination: &'a Destination,
    /// Who answered.
    pub host: Option<&'a Host>,
    /// Since when it had not.
    pub since: Timestamp,
    pub waiting: u64,
}

/// Something in the spool was set aside.
#[derive(Clone, Copy, Debug)]
pub struct Quarantined<'a> {
    /// Where it is known.
    pub id: Option<QueueId>,
    /// What is damaged and where it is now.
    pub reason: &'a str,
}

/// Sessions that ended alike, too many to tell of each.
#[derive(Clone, Copy, Debug)]
pub struct Alike {
    /// Whose they were; `None`: of many clients.
    pub client: Option<IpAddr>,
    /// How many more there were.
    pub count: u64,
    /// Since when.
    pub since: Timestamp,
}

impl Tracking {
    /// RECEIVE: the message is durable.
    pub fn received(&self, message: Message<'_>, facts: &Received<'_>) {
        self.tell(EventName::Receive, |event| {
            about(event, message);
            event.client = message.origin.client;
            event.user = message.origin.user.clone();
            event.recipients = texts(facts.recipients);
            event.size = Some(facts.size);
            event.duration_ms = facts.duration.map(millis);
            event.reference = facts.reference;
        });
    }

    /// REJECT: nothing was promised.
    pub fn rejected(&self, facts: &Rejected<'_>) {
        self.tell(EventName::Reject, |event| {
            event.session = facts.session;
            event.client = facts.client;
            event.user = facts.user.map(str::to_owned);
            event.sender = facts.sender.map(str::to_owned);
            event.recipients = facts.recipient.map(str::to_owned).into_iter().collect();
            event.status = facts.reply.status();
            event.reply = Some(facts.reply.clone());
            event.reason = Some(facts.reason.to_owned());
        });
    }

    /// CONVERT: what goes on is not what came.
    pub fn converted(&self, facts: &Altered<'_>) {
        self.altered(EventName::Convert, facts);
    }

    /// DROP: what came too early was not read.
    pub fn dropped(&self, facts: &Altered<'_>) {
        self.altered(EventName::Drop, facts);
    }

    fn altered(&self, name: EventName, facts: &Altered<'_>) {
        self.tell(name, |event| {
            event.id = facts.id;
            event.session = facts.session;
            event.client = facts.client;
            event.sender = facts.sender.map(ReversePath::to_string);
            event.reason = Some(facts.reason.to_owned());
        });
    }

    /// AUTHFAIL: the session goes on without a user, or ends.
    pub fn auth_failed(&self, facts: &AuthFailed<'_>) {
        self.tell(EventName::AuthFail, |event| {
            event.session = facts.session;
            event.client = facts.client;
            event.user = facts.user.map(str::to_owned);
            event.mechanism = Some(facts.mechanism.to_owned());
            event.status = facts.reply.status();
            event.reply = Some(facts.reply.clone());
            event.reason = Some(facts.reason.to_owned());
        });
    }

    /// DEFER: will be tried again.
    pub fn deferred(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Defer, message, facts);
    }

    /// SEND: the next hop took responsibility.
    pub fn sent(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Send, message, facts);
    }

    /// DISCARD: a route said so; nobody has it, and nobody is told.
    pub fn discarded(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Discard, message, facts);
    }

    /// UNCERTAIN: the connection died after the final dot; may come to a second delivery.
    pub fn uncertain(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Uncertain, message, facts);
    }

    /// FAIL: will not be tried again.
    pub fn failed(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Fail, message, facts);
    }

    /// EXPIRE: the time is up; `outcome` is what the last attempt brought.
    pub fn expired(&self, message: Message<'_>, facts: &Attempted<'_>) {
        self.attempted(EventName::Expire, message, facts);
    }

    fn attempted(&self, name: EventName, message: Message<'_>, facts: &Attempted<'_>) {
        self.tell(name, |event| {
            about(event, message);
            event.recipients = texts(facts.recipients);
            event.destination = Some(facts.destination.to_string());
            ended(event, facts.outcome);
            event.attempt = (facts.attempt > 0).then_some(facts.attempt);
            event.duration_ms = facts.duration.map(millis);
            event.next_attempt = facts.next_attempt;
            event.expires = facts.expires;
        });
    }

    /// DSN: a notice about `message` was made.
    pub fn noticed(&self, message: Message<'_>, facts: &Noticed<'_>) {
        self.tell(EventName::Dsn, |event| {
            about(event, message);
            event.recipients = texts(facts.recipients);
            event.reference = Some(facts.notice);
            event.reason = Some(facts.action.to_owned());
            event.expires = facts.expires;
        });
    }

    /// HOLD: out of the schedule until released, or until the routes change.
    pub fn held(&self, message: Message<'_>, facts: &Operated<'_>) {
        self.operated(EventName::Hold, message, facts);
    }

    /// RELEASE: back in the schedule.
    pub fn released(&self, message: Message<'_>, facts: &Operated<'_>) {
        self.operated(EventName::Release, message, facts);
    }

    /// CANCEL: given up without a notice.
    pub fn cancelled(&self, message: Message<'_>, facts: &Operated<'_>) {
        self.operated(EventName::Cancel, message, facts);
    }

    /// RETRY: due now.
    pub fn retried(&self, message: Message<'_>, facts: &Operated<'_>) {
        self.operated(EventName::Retry, message, facts);
    }

    /// RETRY: all that waits for a destination, or for any, is due now.
    pub fn retried_all(&self, destination: Option<&Destination>, messages: u64, reason: &str) {
        self.tell(EventName::Retry, |event| {
            event.destination = destination.map(ToString::to_string);
            event.waiting = Some(messages);
            event.reason = Some(reason.to_owned());
        });
    }

    fn operated(&self, name: EventName, message: Message<'_>, facts: &Operated<'_>) {
        self.tell(name, |event| {
            about(event, message);
            event.recipients = texts(facts.recipients);
            event.reason = Some(facts.reason.to_owned());
        });
    }

    /// LOAD: found again in the spool, all that waits for one destination.
    pub fn loaded(&self, facts: &Loaded<'_>) {
        self.tell(EventName::Load, |event| {
            event.destination = Some(facts.destination.to_string());
            event.waiting = Some(facts.waiting);
            event.next_attempt = facts.next_attempt;
        });
    }

    /// ROUTE: the decision where to, with everything that was considered. `message` is the one that asked.
    pub fn routed(&self, message: Option<Message<'_>>, facts: Routed<'_>) {
        self.tell(EventName::Route, |event| {
            maybe_about(event, message);
            event.destination = Some(facts.destination.to_string());
            event.candidates = facts.candidates;
            event.reason = facts.reason.map(str::to_owned);
            event.duration_ms = facts.duration.map(millis);
        });
    }

    /// FAILOVER: from one host to the next within one attempt.
    pub fn failed_over(&self, message: Option<Message<'_>>, facts: &FailedOver<'_>) {
        self.tell(EventName::Failover, |event| {
            maybe_about(event, message);
            event.destination = Some(facts.destination.to_string());
            at_host(event, facts.from);
            event.reply = facts.reply.cloned();
            event.status = facts.reply.and_then(Reply::status);
            event.reason = Some(facts.reason.to_owned());
            event.next_host = Some(facts.to.to_string());
            event.candidates = facts.candidates.to_vec();
            event.duration_ms = Some(millis(facts.duration));
        });
    }

    /// HOSTDOWN: an outage begins, or goes on after a trial.
    pub fn host_down(&self, facts: &HostDown<'_>) {
        self.tell(EventName::HostDown, |event| {
            event.destination = facts.destination.map(str::to_owned);
            ended(event, facts.outcome);
            at_host(event, facts.host);
            event.host_stage = Some(facts.stage.to_owned());
            event.since = Some(facts.since);
            event.failures = Some(facts.failures);
            event.next_attempt = Some(facts.next_attempt);
        });
    }

    /// PROBE: a delivery is let in on trial.
    pub fn probed(&self, facts: &Probed<'_>) {
        self.tell(EventName::Probe, |event| {
            event.destination = facts.destination.map(str::to_owned);
            at_host(event, facts.host);
            event.since = Some(facts.since);
            event.duration_ms = Some(millis(event.time.since(facts.since)));
        });
    }

    /// HOSTUP: the outage is over.
    pub fn host_up(&self, facts: &HostUp<'_>) {
        self.tell(EventName::HostUp, |event| {
            event.destination = facts.destination.map(str::to_owned);
            at_host(event, facts.host);
            event.since = Some(facts.since);
            event.duration_ms = Some(millis(event.time.since(facts.since)));
            event.failures = Some(facts.failures);
            event.diverted = Some(facts.diverted);
        });
    }

    /// SLEEP: the destination cannot be reached.
    pub fn slept(&self, facts: &Slept<'_>) {
        self.tell(EventName::Sleep, |event| {
            event.destination = Some(facts.destination.to_string());
            ended(event, facts.outcome);
            event.since = Some(facts.since);
            event.next_attempt = Some(facts.next_attempt);
            event.waiting = Some(facts.waiting);
        });
    }

    /// THROTTLE: the destination has asked for less, and gets it; or gets what it can take again.
    pub fn throttled(&self, facts: &Throttled<'_>) {
        self.tell(EventName::Throttle, |event| {
            event.destination = Some(facts.destination.to_string());
            event.since = Some(facts.since);
            event.waiting = Some(facts.waiting);
            event.reason = Some("it has not asked for less again, and is held back no more".into());
            let Some(rate) = facts.rate else { return };
            ended(event, facts.outcome);
            let at_once = facts.window.map(|window| format!("{window} at once, ")).unwrap_or_default();
            let pause = humantime::format_duration(facts.until.since(event.time));
            let said = event.reason.take().map(|said| format!(" ({said})")).unwrap_or_default();
            event.reason = Some(format!("it asks for less: a pause of {pause}, then {at_once}{rate}{said}"));
            event.next_attempt = Some(facts.until);
        });
    }

    /// RESUBMIT: what was delivered and kept is sent again.
    pub fn resubmitted(&self, message: Message<'_>, facts: &SentAgain<'_>) {
        self.tell(EventName::Resubmit, |event| {
            about(event, message);
            event.recipients = texts(facts.recipients);
            event.destination = facts.via.map(str::to_owned);
            event.since = facts.since;
            let way = facts.via.map_or("as the routes say".to_owned(), |via| format!("by way of {via}"));
            event.reason = Some(format!("by the operator: {} had taken it; again {way}", facts.upstream));
        });
    }

    /// WAKE: the destination answers again.
    pub fn woke(&self, facts: &Woke<'_>) {
        self.tell(EventName::Wake, |event| {
            event.destination = Some(facts.destination.to_string());
            if let Some(host) = facts.host {
                at_host(event, host);
            }
            event.since = Some(facts.since);
            event.duration_ms = Some(millis(event.time.since(facts.since)));
            event.waiting = Some(facts.waiting);
        });
    }

    /// SESSION, or TLSFAIL where the handshake failed: a session ended that is worth a look.
    pub fn session_ended(&self, session: &SessionRecord) {
        let name = match session.ended {
            Ended::TlsFailed => EventName::TlsFail,
            _ => EventName::Session,
        };
        self.tell(name, |event| {
            event.session = Some(session.session);
            event.client = Some(session.client);
            event.user = session.user.clone();
            event.stage = Some(session.stage);
            event.ended = Some(session.ended);
            event.messages = (session.messages > 0).then_some(session.messages.into());
            event.duration_ms = Some(session.duration_ms);
            event.reason = Some(session.verdict().sentence);
        });
    }

    /// SESSION: so many more ended that they are only counted.
    pub fn sessions_alike(&self, facts: &Alike) {
        self.tell(EventName::Session, |event| {
            event.client = facts.client;
            event.since = Some(facts.since);
            event.alike = Some(facts.count);
            let whose = if facts.client.is_some() { "this client" } else { "other clients" };
            let sessions = if facts.count == 1 { "session" } else { "sessions" };
            event.reason = Some(format!("{} more {sessions} of {whose} ended badly", facts.count));
        });
    }

    /// QUARANTINE: damaged, set aside, the rest keeps working.
    pub fn quarantined(&self, facts: &Quarantined<'_>) {
        self.tell(EventName::Quarantine, |event| {
            event.id = facts.id;
            event.reason = Some(facts.reason.to_owned());
        });
    }
}

fn about(event: &mut Event, message: Message<'_>) {
    event.id = Some(message.id);
    event.message_id = message.origin.message_id.clone();
    event.session = message.origin.session;
    event.sender = Some(message.reverse_path.to_string());
}

fn maybe_about(event: &mut Event, message: Option<Message<'_>>) {
    if let Some(message) = message {
        about(event, message);
    }
}

fn at_host(event: &mut Event, host: &Host) {
    event.host = Some(host.name.clone());
    event.host_address = host.address;
    event.host_port = host.port;
}

fn ended(event: &mut Event, outcome: &Outcome) {
    if let Some(host) = &outcome.host {
        at_host(event, host);
    }
    event.reply = outcome.reply.clone();
    event.status = Some(outcome.status);
    event.reason = Some(outcome.reason.clone());
    if let Some(tls) = &outcome.tls {
        event.tls_version = Some(tls.version.to_owned());
        event.tls_cipher = Some(tls.cipher.clone());
        event.tls_verified_by = Some(tls.verified_by.to_owned());
    }
}

fn texts(recipients: &[&Address]) -> Vec<String> {
    recipients.iter().map(|address| address.to_string()).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
