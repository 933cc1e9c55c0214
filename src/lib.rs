pub mod clock;
pub mod mail;
