//! How a command ends when it does not end well.

use std::process::ExitCode;

/// Why a command failed.
pub enum Failed {
    /// It has said so itself.
    Said(ExitCode),
    /// To be said on standard error; exit code 1.
    Message(String),
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Message(chain(&error))
    }
}

/// The whole chain: what could not be done, and because of what.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = next.source();
    }
    message
}

impl Failed {
    pub fn code(self) -> ExitCode {
        match self {
            Self::Said(code) => code,
            Self::Message(message) => {
                eprintln!("posthouse: {message}");
                ExitCode::FAILURE
            }
        }
    }
}
