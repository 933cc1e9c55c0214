//! Mail that is handed in without an SMTP dialogue: by HTTP, as a file, by a program that calls itself sendmail.
//!
//! Contract: whatever the way, a message ends at the [`Desk`], which gives it to [`Relay::submit_from`] and with that to
//! the same policy and the same commit as mail by SMTP. [`Letter`] reads what people write: a header section, of which
//! an envelope can be made. [`EnvelopeFields`] is an envelope that stands in a file, above the message,
//! and [`Draft`] a message in JSON.
//! Invariants: a recipient that cannot be read is an error, never left out. A [`Key`] that was remembered makes a
//! second copy impossible for [`KEPT`]; what is not remembered may come twice, but is never lost.
//! Not here: sockets, folders and command lines (`admin`, `pickup`, the program), what may be relayed (`accept`).
//!
//! [`Relay::submit_from`]: crate::relay::Relay::submit_from

mod addresses;
mod desk;
mod draft;
mod envelope_fields;
mod keys;
mod letter;

pub use addresses::{AddressListError, address_list};
pub use desk::{Desk, DeskError, HandedIn, Refused, reply};
pub use draft::{Attachment, Draft, DraftError, Dsn};
pub use envelope_fields::{EnvelopeFields, EnvelopeFieldsError};
pub use keys::{Fingerprint, KEPT, Key, KeyError};
pub use letter::{Letter, LetterError, with_crlf};
