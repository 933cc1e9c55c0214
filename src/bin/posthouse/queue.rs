//! `posthouse queue`: what waits, and the operator's acts on it.

mod list;
pub mod restraint;

use std::fmt::Write;

use clap::{Args, Subcommand};
use posthouse::admin::{Client, Done, Status};
use posthouse::clock::Timestamp;
use posthouse::mail::QueueId;
use posthouse::notice::Language;
use posthouse::queue::{Listed, ListedState, RecipientStanding};

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;

/// Look at what waits in a running relay, and interfere
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  posthouse queue list
  posthouse queue list --recipient @example.com --format json
  posthouse queue list --most 0 --format json > all.json
  posthouse queue list --quarantined
  posthouse queue list --kept
  posthouse queue list --uncertain
  posthouse queue show 3A0S3EDZ1T00
  posthouse queue retry 3A0S3EDZ1T00
  posthouse queue retry --destination main
  posthouse queue retry --all
  posthouse queue hold 3A0S3EDZ1T00
  posthouse queue cancel 3A0S3EDZ1T00")]
pub enum Queue {
    /// List the messages that wait, the oldest first, and the destinations that they wait for
    List(list::List),
    /// Show one message: each recipient, what was said last, when it is tried next
    Show(One),
    /// Try now: one message, one destination, or everything. Messages that their senders want released later (FUTURERELEASE),
    /// and those that may have been delivered already and wait for a person, go only by their id
    Retry(Retry),
    /// Take a message out of the schedule; it does not age until it is released
    Hold(One),
    /// Put a held message back into the schedule, due now or at the release that its sender asked for
    Release(One),
    /// Give a message up, without a notice to its sender; also one that has turned out to be delivered
    Cancel(One),
}

#[derive(Args, Debug)]
pub struct One {
    /// The queue id, as the 250 and the listing give it
    id: QueueId,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
#[group(id = "what", required = true, multiple = false, args = ["id", "destination", "all"])]
pub struct Retry {
    /// The queue id of one message
    id: Option<QueueId>,
    /// All that waits for this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

impl Queue {
    pub async fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(one) => one.show().await,
            Self::Retry(retry) => retry.run().await,
            Self::Hold(one) => one.act("hold", "is held; `posthouse queue release` lets it go").await,
            Self::Release(one) => {
                one.act("release", "is released: due now, or when its sender asked for").await
            }
            Self::Cancel(one) => one.act("cancel", "is cancelled; its sender is not told").await,
        }
    }
}

/// A word of a query, percent-encoded.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

impl One {
    async fn show(self) -> Result<(), Failed> {
        let client = self.place.client()?;
        let row: Listed = client.get(&format!("/v1/queue/{}", self.id)).await?;
        if self.format == Format::Json {
            return print::json(&row);
        }
        let status: Status = client.get("/v1/status").await?;
        print::text(&shown(&row, status.now))
    }

    async fn act(self, act: &str, done: &str) -> Result<(), Failed> {
        let client = self.place.client()?;
        let result: Done = client.post(&format!("/v1/queue/{}/{act}", self.id)).await?;
        match self.format {
            Format::Json => print::json(&result),
            Format::Table => print::text(&format!("{} {done}\n", self.id)),
        }
    }
}

/// One message, whole.
pub fn shown(row: &Listed, now: Timestamp) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Message     {}", row.id);
    let _ = writeln!(text, "From        {}", harmless(&row.sender));
    if let Some(message_id) = &row.message_id {
        let _ = writeln!(text, "Message-ID  {}", harmless(message_id));
    }
    let _ = writeln!(text, "Arrived     {} ({} ago), {}", row.arrived, age(now, row.arrived), size(row.size));
    let _ = writeln!(text, "State       {}", state_in_words(row.state));
    if let Some(release) = row.release {
        let _ = writeln!(text, "Release     {release} ({}), asked by the sender", until(now, release));
    }
    if let Some(deadline) = row.deliver_by {
        let _ = writeln!(text, "Deliver by  {deadline} ({}), asked by the sender", until(now, deadline));
    }
    if let Some(expires) = row.expires {
        let _ = writeln!(text, "Gives up    {expires} ({})", until(now, expires));
    }
    if let Some(at) = row.sent_again {
        let _ = writeln!(text, "Sent again  {at} ({} ago), by the operator", age(now, at));
    }
    if let Some(kept_until) = row.kept_until {
        let _ = writeln!(text, "Kept until  {kept_until} ({})", until(now, kept_until));
    }
    for recipient in &row.recipients {
        let standing = match recipient.state {
            RecipientStanding::Waiting => "waiting",
            RecipientStanding::Uncertain => "uncertain, he may have it already",
            done => standing(row.state, done),
        };
        let (attempts, word) = (recipient.attempts, plural(recipient.attempts.into(), "attempt", "attempts"));
        let by = &recipient.destination;
        let redirect = recipient.redirect_to.as_ref().map(|to| format!(", redirected to {}", harmless(to)));
        let _ = write!(
            text,
            "\n{} by way of {by}{}: {standing}, {attempts} {word}",
            harmless(&recipient.address),
            redirect.unwrap_or_default()
        );
        if let Some(tries) = recipient.unreached {
            let word = plural(tries.into(), "try", "tries");
            let _ = write!(text, "; {by} took no mail, {tries} {word} so far");
        }
        text.push('\n');
        if let Some(last) = &recipient.last {
            let _ = writeln!(text, "  last    {}", harmless(last));
        }
        if let Some(next) = recipient.next_attempt {
            let _ = writeln!(text, "  next    {next} ({})", until(now, next));
        }
    }
    text
}

impl Retry {
    async fn run(self) -> Result<(), Failed> {
        let client: Client = self.place.client()?;
        let path = match (&self.id, &self.destination) {
            (Some(id), _) => format!("/v1/queue/{id}/retry"),
            (None, Some(destination)) => format!("/v1/queue/retry?destination={}", encoded(destination)),
            (None, None) => "/v1/queue/retry".to_owned(),
        };
        let Done { messages } = client.post(&path).await?;
        let tried = plural(messages, "message is", "messages are");
        let see = match (&self.id, messages) {
            (_, 0) => String::new(),
            (Some(id), _) => format!("; what comes of it: posthouse why {id}"),
            (None, _) => "; what comes of it: posthouse upstreams, posthouse queue list".to_owned(),
        };
        print::text(&format!("{messages} {tried} tried now{see}\n"))
    }
}

pub fn plural<'a>(count: u64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// Where a recipient stands: while he waits, where the message does.
fn standing(message: ListedState, recipient: RecipientStanding) -> &'static str {
    match (recipient, message) {
        (RecipientStanding::Delivered, _) => "delivered",
        (RecipientStanding::Bounced, _) => "bounced",
        (RecipientStanding::Cancelled, _) => "cancelled",
        (_, ListedState::Active) => "active",
        (_, ListedState::Asleep) => "asleep",
        (_, ListedState::Held) => "held",
        (_, ListedState::HeldByRoute) => "held by route",
        (RecipientStanding::Uncertain, _) => "uncertain",
        (RecipientStanding::Waiting, ListedState::Waiting) => "waiting",
        (RecipientStanding::Waiting, ListedState::Notice | ListedState::Uncertain) => "notice",
        (RecipientStanding::Waiting, ListedState::Kept) => "kept",
    }
}

fn state_in_words(state: ListedState) -> &'static str {
    match state {
        ListedState::Active => "an attempt is under way",
        ListedState::Waiting => "waiting for its next attempt",
        ListedState::Asleep => "waiting for its destination, which takes no mail now",
        ListedState::Held => "held by the operator; it does not age",
        ListedState::Kept => "done, and kept by the safety net",
        ListedState::HeldByRoute => "held by a route until the routes change; its age begins anew then",
        ListedState::Notice => "done, but for a notice to its sender",
        ListedState::Uncertain => {
            "it may have been delivered; a person decides (queue retry, or queue cancel)"
        }
    }
}

/// `1 day 4 hours`, `3 minutes`, `12 seconds`.
fn age(now: Timestamp, then: Timestamp) -> String {
    rough(now.since(then))
}

/// `in 3 minutes`, or `now`.
pub fn until(now: Timestamp, then: Timestamp) -> String {
    if then <= now { "now".into() } else { format!("in {}", rough(then.since(now))) }
}

/// Seconds below a minute; else as the notices say it.
pub fn rough(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} {}", plural(seconds, "second", "seconds")),
        _ => Language::English.duration(duration),
    }
}

pub fn size(octets: u64) -> String {
    match octets {
        0..1024 => format!("{octets} B"),
        1024..1_048_576 => format!("{:.1} KiB", octets as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", octets as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", octets as f64 / 1_073_741_824.0),
    }
}
