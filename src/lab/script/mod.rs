//! What an upstream shall do, as one-line rules.
//!
//! ```text
//! STAGE [GLOB] [CONDITION]...: [delay D,] [drip D,] [closing,] DEED [, N times | , once | , for D]
//! ```
//!
//! | Part | Written | Meaning |
//! |---|---|---|
//! | STAGE | `connect` `greeting` `ehlo` `starttls` `auth` `mail` `rcpt` `data` `content` `dot` `quit` | where in the dialogue; `content` amid it, `dot` after the final dot |
//! | GLOB | `*@example.org`, `a?@*`, `<>` | at `mail` the sender, from `rcpt` on a recipient (later: any accepted one); not before `mail` |
//! | CONDITION | `from GLOB` | the sender, from `rcpt` on |
//! | | `attempt 2`, `attempt 2..3`, `attempt 2..` | the how manieth time this stage is asked about this sender (`mail`) or recipient (later stages: the first one) since a message of it was taken; before `mail` the how manieth connection |
//! | | `nth 101..` | the how manieth question of this stage on its connection; at `rcpt`, of its transaction |
//! | | `first 5m` | less than so long after it was asked about this for the first time: greylisting |
//! | | `after 2h`, `until 4h` | at least, less than so long after the start |
//! | | `over 10 in 1m` | more than so many questions with this stage, GLOB and `from` in the last minute, this one included |
//! | | `chance 30%` | by the seed of the script |
//! | DEED | `accept` | what a good server does |
//! | | `451 4.7.1 text` | this reply; further lines behind `\n`, without the code; not at `connect` |
//! | | `silence`, `close`, `reset` | no answer; the end of the connection |
//! | | `refuse`, `unreachable` | at `connect` alone |
//! | | `garbage` | octets that are no reply; not at `connect` |
//! | | `raw 250 ok\x00\r\n` | these octets as they are (`\r`, `\n`, `\t`, `\\`, `\xNN`); not at `connect` |
//! | | `flood line`, `flood lines` | a line that never ends, a reply of ever more lines: 16 MiB; not at `connect` |
//! | | `half-close`, `stall` | ends the sending side and reads on; reads nothing more; not at `connect` |
//! | | `without DSN SIZE` | at `ehlo` alone: these extensions are missing |
//! | | `certificate expired`, `wrong-name`, `self-signed` | at `starttls` alone |
//! | | `handshake garbage`, `close`, `reset`, `silence` | at `starttls` alone: 220, and no handshake |
//! | | `keep and close`, `keep and silence`, `lose` | at `dot` alone: kept but not answered; answered but not kept |
//! | before DEED | `delay 30s,` `drip 1s,` | waits so long first; sends octet by octet, so far apart |
//! | | `closing,` | the connection ends behind what is sent |
//! | limit | `, 3 times`, `, once`, `, for 2h` | the rule decides so often in all; so long after it was said, or after the start |
//!
//! Words are read in any case, blanks are evened. The first rule that fits decides. After all rules come magic
//! addresses: the local part `CODE`, `timeout`, `close`, `reset`, `garbage`, `slow`, `lost` or `kept`, followed by any
//! of `-3times`, `-for-2h`, `-at-dot`, acts on its recipient (`lost` and `kept` after the dot, the others at RCPT);
//! times and durations count for each address, and anew after a message to it was taken.
//!
//! ```
//! use posthouse::lab::script::{Deed, Question, Script, Stage};
//! use posthouse::clock::Timestamp;
//!
//! let start = Timestamp::from_millis(1_795_176_000_000);
//! let mut script = Script::new(start, 1);
//! script.add("rcpt *@example.org: 451 4.7.1 try later, 2 times".parse()?);
//!
//! let alice = ["alice@example.org".parse()?];
//! let question = Question { stage: Stage::Rcpt, at: start, nth: 1, sender: None, recipients: &alice };
//! assert!(matches!(script.answer(&question).deed, Deed::Reply(reply) if reply.code() == 451));
//! assert!(matches!(script.answer(&question).deed, Deed::Reply(_)));
//! assert_eq!(script.answer(&question).deed, Deed::Accept);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Contract: a text becomes a [`Rule`] or a [`RuleError`] with its place; a [`Script`] gives the [`Answer`] to each
//! [`Question`], the same for the same seed and questions.
//! Not here: the dialogue and what is done in it (`upstream`).

mod condition;
mod decision;
mod deed;
mod glob;
mod grammar;
mod magic;
mod memory;
mod rule;
mod stage;
#[cfg(test)]
mod tests;

pub use decision::{Answer, Question, Script, Standing};
pub use deed::{BadCertificate, BadHandshake, Deed, Flood};
pub use rule::{Rule, RuleError};
pub use stage::{Stage, UnknownStage};
