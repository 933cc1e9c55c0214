//! Durable records and contents, and what a crash leaves behind.
//!
//! Contract: what a commit has promised survives a crash, a power cut and a full disk. Calls take effect in the order
//! in which they are made (but see [`Spool::accept`]), whether or not their futures are polled. Nothing here knows SMTP, DNS or the schedule.
//! [`Log`] is the spool on disk, [`Memory`] its twin without one. The trait is kept narrow enough for a shared store.
//! Not here: who waits until when (`queue`), which reply a refusal becomes (`accept`).
//!
//! # The log
//!
//! A folder with segment files of about 64 MiB, each with a hint file once it is sealed; a content file for each content
//! above 1 MiB; `lock`; and `quarantine/`. Records are only ever appended, and every opening begins a fresh segment.
//! One thread writes: it takes all that waits, makes one write and, when anybody waits for it, one fdatasync, then
//! answers. Another keeps house: it writes hints, and moves what still lives out of segments that are mostly dead. A
//! segment goes when nothing living uses it, and nothing is left on disk of which it alone tells the end.
//!
//! Versions: every file says its format. An older one is read; a later one is refused with a sentence, and never guessed
//! at. What a program writes anew is of its own format. (A hint of another format is made anew from its segment.)
//!
//! # What a crash leaves, and why each case is safe
//!
//! | # | found at the start | how it came | what is done | why it is safe |
//! |---|---|---|---|---|
//! | 1 | a file without a whole header and without records, behind the newest segment | cut while a segment was begun: before its sync, or the folder's | ignored; unlinked when the fresh segment is synced; one with more than zeros behind the header is set aside first, for it could be the medium's doing | nothing is written to a segment before its header and its folder entry are synced |
//! | 2 | octets behind the last whole record of the newest segment | cut during a write | ignored; the fresh segment's header says where the log ended | no answer precedes the sync, so nothing there was promised |
//! | 3 | a damaged stretch followed by whole records, in the newest segment | cut before a sync, the disk kept a later part only; or real damage | set aside as damage | at worst a false alarm: an unsynced record is reported |
//! | 4 | a whole accepted record that was never answered | cut between write and answer | the message lives | the client had no 250 and sends again: a second delivery, no loss |
//! | 5 | records behind the place where the next header says that the log went on | a write or sync failed there; the batch was answered with an error | ignored | nothing there was promised; what it held of settled and removed stands again at the head of the next segment |
//! | 6 | whole segments between that place and that header | attempts to open a segment that failed | ignored and unlinked | as 5; their heads stand again in the next segment |
//! | 7 | a failed batch, and no later segment | cut after the failure, before a new segment was synced | as 2 and 4: what is whole counts | accepts in it: a second delivery; settled and removed in it are true |
//! | 8 | an accepted record without the removed or settled one that was written later | power cut before the lazy sync (at most about 1 s) | the message lives with its former progress | at worst a second delivery or an early retry; `kill -9` loses nothing that was written, and a start syncs what it has found before it builds on it |
//! | 9 | a notice without the strike of its debt, or the other way round | never: they are one record | | |
//! | 10 | a removed record whose message is in no segment | the message's segment was unlinked | ignored | |
//! | 11 | a segment that was unlinked | cut before the folder's sync | read again; the segments that tell the ends of its messages are still there, since they go only after that sync | nothing rises again |
//! | 12 | a damaged accepted record in an older segment | the medium | set aside, reported with the id where it can be told; the rest lives | loss by the medium is never silent |
//! | 13 | a damaged settled or removed record in an older segment | the medium | set aside; the former progress counts; found by a read, the message goes on as if it had never been tried | at worst a second delivery |
//! | 14 | a damaged header | the medium | the file's name has number and marker: the records are found; the header is set aside | |
//! | 15 | a segment that is shorter than the next header says | the medium, or people | reported | loss is never silent |
//! | 16 | a message in two segments | cut between the sync of its move and the unlinking of where it stood | the later one counts | one record holds message and progress, and was made from the latest |
//! | 17 | a moved record behind the last sync | cut during compaction | as 2 or 4 | where it stood goes only after the sync |
//! | 18 | a content file of which no record speaks | cut between the two, or between the end of its message and the unlinking | unlinked; while anything is quarantined, set aside | its record is not on disk, so nothing was promised; or it may be what was damaged |
//! | 19 | a message without its content file, or with a damaged one | the medium, or people: the file is synced, with its name, before the record is written, and unlinked only after its end is synced | the record is set aside, the message removed, and reported | loss by the medium is never silent |
//! | 20 | no hint, or one of another length or format | cut before it was written; or bytes were cut off or added behind the segment | the segment is read, and its hint made anew | a hint says nothing that its segment does not |
//! | 21 | a damaged hint | the medium: a hint gets its name when it is synced | set aside, reported; as 20 | |

mod commit;
mod committer;
mod compaction;
mod content_file;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_by_chance;
mod damage;
mod disk;
mod export;
#[cfg(test)]
mod faults;
mod former;
mod hint;
mod index;
mod inspect;
mod interned;
mod keeper;
mod log;
#[cfg(test)]
mod lying_disk;
mod memory;
mod message;
mod note;
mod outline;
mod quarantine;
mod read;
mod read_only;
mod record;
mod recovery;
mod request;
mod scan;
mod segment;
mod shared;
mod sketch;
mod staged;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unthreaded;
mod walk;
mod writer;

use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::clock::Timestamp;
use crate::mail::{Content, QueueId, Receipt};

pub use commit::{Announcement, Commit, CommitError};
pub use damage::Damage;
pub use disk::Owner;
pub use export::{ExportError, export};
pub use inspect::{Fault, Files, InspectedSegment, Inspection, inspect};
pub use log::{Log, Settings};
pub use memory::Memory;
pub use message::{
    Accepted, HandedOver, Intent, Progress, RecipientProgress, RecipientState, Resubmitted, Stored, Strike,
};
pub use outline::{Outline, WaitingDomain};
pub use quarantine::{Kind as QuarantinedKind, Quarantined};
pub use read::{DamagedPlace, LoadError};
pub use read_only::LookError;
pub use recovery::{OpenError, Recovery, TimeBase};
pub use shared::SpoolStatus;
#[cfg(test)]
pub use unthreaded::{Site, Ways};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// When a settle counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After a sync: for outcomes that must not be forgotten.
    Synced,
    /// After the write; synced with the next batch or within about a second. It survives `kill -9`, but a power cut
    /// may bring the former progress back: for deferrals, where that costs an early retry.
    Soon,
    /// Written along with what is written next, and at once where nothing else has been for a millisecond; left out if
    /// something newer about the message comes before that. For what matters only if nothing newer comes.
    Along,
}

/// A keeper of messages.
pub trait Spool: Send + Sync + 'static {
    /// A name for a message: larger than all before, and at least [`QueueId::first_at`] `now`. Over restarts this
    /// holds for every name under which a message was accepted.
    fn next_id(&self, now: Timestamp) -> QueueId;

    /// Says that an intake has begun which will probably end in [`accept`](Spool::accept). While such guards live,
    /// a commit may wait a few milliseconds for company. Drop it when the intake has ended.
    fn announce(&self) -> Announcement;

    /// Keeps a message; durable when the future yields `Ok`, and only then may a 250 be sent. The content is written
    /// without a copy. After an error nothing was promised, but a power cut may still bring the message back. A large
    /// content is made durable before its message takes its turn: until then later calls go first, and a close refuses
    /// it as `Closed`.
    fn accept(&self, message: Accepted, content: Content) -> Commit<Receipt>;

    /// Replaces the progress of a message. After `Full` or `Failing` it counts in memory all the same and is written
    /// by the spool itself once the disk works again; the caller need not repeat it.
    fn settle(&self, id: QueueId, progress: &Progress, durability: Durability) -> Commit<()>;

    /// Forgets a message. Written at once (it survives `kill -9`), synced with the next batch or within about a
    /// second: at worst a power cut brings a second delivery. Unknown names are ignored.
    fn remove(&self, id: QueueId);

    /// Everything but the content, as of the last call that was answered.
    fn load(&self, id: QueueId) -> BoxFuture<'_, Result<Stored, LoadError>>;

    /// The content, read from disk at every call.
    fn content(&self, id: QueueId) -> BoxFuture<'_, Result<Content, LoadError>>;

    /// What was set aside as damaged, the oldest first.
    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>>;

    fn status(&self) -> SpoolStatus;

    /// Yields when everything is written and synced. Later writes are refused as `Closed`; reads still work.
    fn close(&self) -> BoxFuture<'_, ()>;
}
