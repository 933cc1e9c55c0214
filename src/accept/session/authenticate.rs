//! AUTH in a session.

use super::super::refusals::Refusal;
use super::Session;
use crate::smtp::server::AuthQuestion;

impl Session {
    pub(super) async fn authenticate(&mut self, question: AuthQuestion<'_>) {
        question.refuse(Refusal::MayNotRelay.reply());
    }
}
