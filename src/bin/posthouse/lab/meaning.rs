//! What reply codes mean, for somebody who has never seen one.
//!
//! Contract: one sentence for every code, in the words of RFC 5321 section 4.2.3 made plain; a code that is not known
//! is explained by its first digit, as a mail server would treat it.
//! Not here: who said it, and what comes next (`narrate`).

use posthouse::mail::{Reply, ReplyClass};

/// `not now, try again`, to stand behind "451 means".
pub fn of(reply: &Reply) -> &'static str {
    match reply.code() {
        250 => "yes, done: the message is the upstream's now",
        421 => "not now: the upstream closes the connection; try again",
        450 => "not now: the mailbox cannot be used at the moment; try again",
        451 => "not now: something went wrong over there; try again",
        452 => "not now: no room over there; try again",
        454 => "not now: a part of the upstream does not work at the moment; try again",
        530 | 535 => "no: the upstream wants a password, and not this one",
        550 => "no, and it will stay so: there is no such mailbox, or it takes nothing from us",
        551 => "no, and it will stay so: the mailbox is not there any more",
        552 => "no, and it will stay so: the message is too large for the mailbox",
        553 => "no, and it will stay so: that is no name for a mailbox there",
        554 => "no, and it will stay so: the upstream does not want this message, or any",
        _ => match reply.class() {
            ReplyClass::Completed => "yes, done",
            ReplyClass::Intermediate => "go on",
            ReplyClass::TransientFailure => "not now; try again",
            ReplyClass::PermanentFailure => "no, and it will stay so",
        },
    }
}
