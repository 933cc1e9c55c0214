pub mod clock;
pub mod config;
pub mod mail;
pub mod smtp;
pub mod notice;
pub mod queue;
pub mod tracking;
pub mod net;
