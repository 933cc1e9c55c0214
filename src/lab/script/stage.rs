//! The points of the dialogue at which a script is asked.
//!
//! Contract: a [`Stage`] is written and read as its word, in any case: `rcpt`. Stages are ordered as the dialogue is.
//! Not here: what may stand at a stage (`deed`, `grammar`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::grammar::nearest;

/// A point of the dialogue at which the script is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before a connection stands.
    Connect,
    /// When the server greets.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT, once for each recipient.
    Rcpt,
    /// DATA.
    Data,
    /// Amid the content.
    Content,
    /// After the final dot.
    Dot,
    /// QUIT.
    Quit,
}

impl Stage {
    /// Every stage, in the order of the dialogue.
    pub const ALL: [Stage; 11] = [
        Self::Connect,
        Self::Greeting,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Content,
        Self::Dot,
        Self::Quit,
    ];

    /// How a rule writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Content => "content",
            Self::Dot => "dot",
            Self::Quit => "quit",
        }
    }

    /// Whether a sender is known.
    pub fn knows_sender(self) -> bool {
        self >= Self::Mail
    }

    /// Whether recipients are known.
    pub fn knows_recipients(self) -> bool {
        self >= Self::Rcpt
    }

    /// Every word, in the order of the dialogue.
    pub(super) fn words() -> Vec<&'static str> {
        Self::ALL.iter().map(|stage| stage.word()).collect()
    }
}

/// A word that is no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no stage of the dialogue is called \"{word}\"; the stages are {}", Stage::words().join(", "))]
pub struct UnknownStage {
    /// As it was written.
    pub word: String,
    /// What was probably meant.
    pub near: Option<Stage>,
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let by_word =
            |word: &str| Self::ALL.into_iter().find(|stage| stage.word().eq_ignore_ascii_case(word));
        by_word(text).ok_or_else(|| UnknownStage {
            word: text.to_owned(),
            near: nearest(text, &Self::words()).and_then(by_word),
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_written_and_read_as_its_word_in_any_case() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
            assert_eq!(stage.to_string().to_uppercase().parse(), Ok(stage));
            let json = serde_json::to_string(&stage).unwrap();
            assert_eq!(json, format!("\"{stage}\""));
            assert_eq!(serde_json::from_str::<Stage>(&json).unwrap(), stage);
        }
        assert!(Stage::ALL.is_sorted());
        assert_eq!("rctp".parse::<Stage>().unwrap_err().near, Some(Stage::Rcpt));
        assert_eq!("zzz".parse::<Stage>().unwrap_err().near, None);
    }
}
