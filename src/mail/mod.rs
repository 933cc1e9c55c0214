//! The vocabulary of mail: values that every module shares, and nothing that does anything.
//!
//! Contract: parse, don't validate: a value that exists is well formed. Addresses keep the bytes they came with.
//! Not here: I/O, time, async, the dialogue's grammar (`smtp`), where a destination leads (`route`).
//! RFC 5321 (paths, replies), RFC 3461 (DSN parameters), RFC 3463 (enhanced status codes).

mod address;
mod address_pattern;
mod content;
mod destination;
mod domain_pattern;
mod envelope;
mod hidden;
mod id;
mod outcome;
mod reply;
mod route_table;
mod source;
mod unitext;

pub(crate) use address::is_domain_name;
pub use address::{Address, AddressError, ReversePath};
pub use address_pattern::{AddressPattern, AddressPatternError, SenderPattern, SenderPatternError};
pub use content::Content;
pub use destination::{Destination, DestinationError};
pub use domain_pattern::{DomainPattern, DomainPatternError};
pub use envelope::{
    BodyType, ByMode, DeliverBy, Envelope, Notify, Origin, OriginalRecipient, OriginalRecipientError,
    Recipient, Ret, decode_xtext, encode_xtext,
};
pub use hidden::is_hidden;
pub use id::{ParseIdError, QueueId, Receipt, SessionId};
pub use outcome::{Host, Outcome, TlsUsed, Verdict};
pub use reply::{EnhancedStatus, EnhancedStatusError, Reply, ReplyClass, ReplyError};
pub use route_table::{LooksAt, Route, RouteTable, SenderDomain, SenderDomainError, Via};
pub use source::Source;
pub use unitext::{decode_unitext, encode_unitext};
