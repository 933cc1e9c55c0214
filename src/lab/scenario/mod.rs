//! A story told in a file: what the scenario says, how it is played, what is expected of it.
//!
//! Contract: [`Scenario::load`] gives a scenario that is in order, or every fault at once with its line;
//! [`play`] tells its story on paused time and says what is not as the file says. The same file and the same seed give
//! the same bytes.
//! Invariants: a scenario is never played while anything in it is faulty; a story that does not end is a failure that
//! names what still waits, never a hang.
//! Not here: the world in which it happens (`World`); how results look on a terminal (the program).
//!
//! Every key but those of `[expect]`, of which `posthouse lab run --write` makes examples:
//!
//! ```
//! # use std::path::Path;
//! use posthouse::lab::scenario::{Scenario, play};
//!
//! let text = r#"
//! title = "A house move"
//! seed = 7                              # 1
//! start = "2026-11-20T12:00:00Z"        # this, a Friday noon
//! limit = "3d"                          # a day longer than anything can wait
//! via = "mx"                            # "upstreams": straight to them, in their order
//! zone = ["example.com MX 10 mx.example.com", "mx.example.com A 192.0.2.10", "broken.example SERVFAIL"]
//!
//! [settings]                            # hostname, retry, notices, delivery, timeouts, limits, dns.refuse
//! retry.jitter = 0.0                    # as in the relay's configuration
//!
//! [upstream.main]
//! address = "192.0.2.10:25"             # .10, .11 and so on
//! tls = "starttls"                      # "none"
//! ## policy = "required"                 # of the relay, not with mx: "none", "opportunistic", "verified"
//! ## username = "me"                     # the relay logs in, not with mx; every password is right there
//! script = ["rcpt * first 5m: 450 4.2.0 greylisted, come back later"]
//!
//! [[message]]
//! at = "10m"                            # "0s"
//! from = "alice{n}@example.org"         # "<>" is the null reverse-path
//! to = ["bob@example.com"]
//! subject = "message {n}"               # or content, with its header
//! size = "10KiB"                        # filled up to so many octets
//! count = 3                             # so many of the same, {n} is the number
//! notify = ["failure", "delay"]         # or "never"; ret = "full" | "hdrs", envid = "..."
//! require_tls = false                   # true: REQUIRETLS (RFC 8689)
//!
//! [[at]]
//! time = "12m"
//! dns = "up"                            # or "down"
//! zone = ["example.com MX 10 mx.example.com", "mx.example.com A 192.0.2.10"]      # all of it, from now on
//! say = { main = ["connect: refuse, once"] }
//! retry = "all"                         # or a recipient, as hold, release and cancel
//! "#;
//! let played = play(&Scenario::read(Path::new("move.toml"), text)?);
//! assert!(played.failures.is_empty());
//! assert_eq!(played.story.received["main"].len(), 3);
//! # Ok::<(), posthouse::config::Faults>(())
//! ```

mod change;
pub mod expect;
mod failure;
mod file;
mod message;
mod play;
mod record;
mod scripted;
mod sense;
mod settings;
mod verdict;

pub use change::{Change, Which};
pub use failure::Failure;
pub use file::{Scenario, span};
pub use message::Message;
pub use play::{Played, play};
pub use record::{Kind, Record};
pub use scripted::{Line, Scripted};
pub use settings::Settings;
