//! Telling the sender.
