//! Notices in English.
//!
//! Contract: plain words for somebody who has never heard of SMTP; what happened, how long it goes on, what comes
//! next, and what he can do, in this order. Details for administrators come last.

use super::{Advice, Block, recipients};
use crate::clock::Timestamp;
use crate::mail::Outcome;
use crate::notice::Language;
use crate::notice::report::{Kind, Report};

pub(in crate::notice) const SENDER_NAME: &str = "Mail Delivery System";

pub(super) fn subject_prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Delayed { .. } => "Delivery delayed:",
        Kind::Failed => "Delivery failed:",
        Kind::Relayed => "Message relayed:",
    }
}

/// Days, hours and minutes.
pub(in crate::notice) fn duration(units: [u64; 3]) -> String {
    let words: Vec<String> = units
        .into_iter()
        .zip(["day", "hour", "minute"])
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
        .collect();
    if words.is_empty() { "less than a minute".to_owned() } else { words.join(" ") }
}

pub(in crate::notice) fn moment(moment: Timestamp) -> String {
    moment.to_jiff().strftime("%a, %d %b %Y %H:%M UTC").to_string()
}

fn last_words(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(|| "It has not been possible to try yet.".to_owned(), Outcome::to_string)
}

pub(super) fn blocks(report: &Report<'_>, subject: Option<&str>) -> Vec<Block> {
    let recipient = if report.recipients.len() == 1 { "this recipient" } else { "these recipients" };
    let opening = match report.kind {
        Kind::Delayed { .. } => format!("Delivery is delayed to {recipient}:"),
        Kind::Failed => format!("Your message could not be delivered to {recipient}:"),
        Kind::Relayed => format!("Your message was handed on to the mail server of {recipient}:"),
    };
    let advised = |outcome: &super::Reported<'_>, what| match report.kind {
        Kind::Failed => Some(advice(report, outcome.expired(), what)),
        Kind::Delayed { .. } | Kind::Relayed => None,
    };
    let mut blocks = vec![Block::Prose(opening)];
    blocks.extend(recipients(report, last_words, advised));
    blocks.extend(subject.map(|subject| Block::Prose(format!("Subject: {subject}"))));
    match report.kind {
        Kind::Delayed { retry_until, next_attempt } => {
            blocks.extend(delayed(report, retry_until, next_attempt).map(Block::Prose));
        }
        Kind::Failed => {}
        Kind::Relayed if report.is_trace() => blocks.push(Block::Prose(
            "That server has accepted the message. You are told because your message asked for a trace of its way."
                .to_owned(),
        )),
        Kind::Relayed if report.lacks_deadline() => blocks.push(Block::Prose(
            "That server has accepted the message. It will not tell you if the message is late: from here on nobody \
             watches the time within which you wanted it delivered."
                .to_owned(),
        )),
        Kind::Relayed => blocks.push(Block::Prose(
            "That server has accepted the message and does not send confirmations of its own. You will hear from it \
             only if something goes wrong."
                .to_owned(),
        )),
    }
    if report.lacks_content() {
        blocks.push(Block::Prose(
            "A notice cannot carry the message itself, because of its size or its form: only its header section is \
             attached."
                .to_owned(),
        ));
    }
    blocks.push(Block::Prose(details(report)));
    blocks
}

fn delayed(
    report: &Report<'_>,
    retry_until: Timestamp,
    next_attempt: Option<Timestamp>,
) -> impl Iterator<Item = String> {
    let english = Language::English;
    if report.is_undecided() {
        return [
            "It may have arrived all the same: the connection broke before the other server confirmed it. You don't need \
             to send it again."
                .to_owned(),
            format!(
                "So that it does not arrive twice, the server {} does not try again by itself. Its administrator decides \
                 whether the message is sent once more.",
                report.settings.hostname,
            ),
            format!("You will be told if that has not happened by {}.", english.moment(retry_until)),
        ]
        .into_iter();
    }
    let next = match next_attempt {
        Some(at) if at > report.now => format!(" The next attempt is at {}.", english.moment(at)),
        Some(_) => " The next attempt is about to be made.".to_owned(),
        None => String::new(),
    };
    [
        "The message has not been delivered yet, and it is not lost. You don't need to send it again."
            .to_owned(),
        format!(
            "The server {} will keep trying for {} (until {}).{next}",
            report.settings.hostname,
            english.duration(retry_until.since(report.now)),
            english.moment(retry_until),
        ),
        "You will be told if it cannot be delivered by then.".to_owned(),
    ]
    .into_iter()
}

fn advice(report: &Report<'_>, expired: bool, advice: Advice) -> String {
    let what = match advice {
        Advice::SendAgainLater => {
            "You can send the message again later. If it fails again, reach the recipient in another way."
        }
        Advice::AskWhetherItArrived => {
            "It may have arrived all the same: the connection broke before the other server confirmed it. Ask the \
             recipient before you send it again."
        }
        Advice::CheckAddress => {
            "Check the address for misspellings and send the message again to the right one."
        }
        Advice::MailboxFull => {
            "The recipient's mailbox is full. Send the message again later, or reach the recipient in another way."
        }
        Advice::MakeSmaller => {
            "The message is too large. Send it again with smaller attachments, or in several messages."
        }
        Advice::RefusedByPolicy => {
            "The other server does not accept this message. Its words above may say why; if you think it is wrong, \
             pass this notice on to your administrator."
        }
        Advice::AskRecipientOrPostmaster => {
            "The other server's words above may say why. If they don't help, pass this notice on to your \
             administrator, or reach the recipient in another way."
        }
    };
    if !expired {
        return what.to_owned();
    }
    let tried = Language::English.duration(report.now.since(report.aged_from));
    format!(
        "The server {} tried for {tried} without success and has stopped. {what}",
        report.settings.hostname
    )
}

fn details(report: &Report<'_>) -> String {
    format!(
        "For administrators: queue id {}, accepted by {} at {}. The full report is attached.",
        report.id,
        report.settings.hostname,
        Language::English.moment(report.arrived_at),
    )
}
