//! `posthouse why`: one screen about one message: history, reason, next step, end.

use clap::Args;
use posthouse::mail::QueueId;

use crate::queue::Asking;

/// Say where a message is, why, what comes next and when it ends
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  posthouse why 06K2V9QH7R00")]
pub struct Why {
    pub id: QueueId,
    #[command(flatten)]
    pub asking: Asking,
}
