//! The password or token of AUTH, read where the configuration says that it is.
//!
//! Contract: [`Secret::of`] reads a file anew each time, so that a changed one counts from the next connection on. A
//! command is run when there is no token from before, or its time is nearly over; of several connections one runs it and
//! the others wait. [`forget`] is called when a kept token was refused.
//! Invariants: a command has [`COMMAND_LIMIT`]; nothing that it writes to stdout, and nothing of a file, stands in an
//! error or a log. What it writes to stderr goes to ours.
//! Not here: where it is configured (`route`), what AUTH makes of it (`smtp`). RFC 6750, RFC 6749 section 5.1.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::route::{Credentials, SecretSource, Token};

const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Octets of a file, or of what a command writes, that are read.
const LENGTH_MAX: u64 = 64 * 1024;
/// A token is renewed this long before its end, or a tenth of its life before, whichever is less.
const MARGIN: Duration = Duration::from_secs(60);

/// Why there is nothing to authenticate with. No text here has a word of what was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("the file {path} cannot be read: {cause}", path = path.display())]
    File { path: Box<Path>, cause: std::io::Error },
    #[error("{place} has nothing on its first line")]
    Empty { place: String },
    #[error("{place} has JSON without an \"access_token\"")]
    NoToken { place: String },
    #[error("{place} has characters that no token has")]
    NotAToken { place: String },
    #[error("the token_command {program} cannot be run: {cause}")]
    Command { program: String, cause: std::io::Error },
    #[error("the token_command {program} took longer than {}", humantime::format_duration(COMMAND_LIMIT))]
    Slow { program: String },
    #[error("the token_command {program} failed: {status}")]
    Failed { program: String, status: ExitStatus },
}

/// A password or a token.
pub(super) struct Secret {
    pub text: String,
    /// It was kept from before: should it be refused, a new one may do.
    pub kept: bool,
}

impl Secret {
    #[allow(clippy::disallowed_methods)] // tokens live in real time, as connections do
    pub async fn of(credentials: &Credentials) -> Result<Self, SecretError> {
        let fresh = |text| Self { text, kept: false };
        match &credentials.secret {
            SecretSource::Password(password) => Ok(fresh(password.clone())),
            SecretSource::PasswordFile(path) => {
                first_line(&read(path).await?, &place(path)).map(|line| fresh(line.to_owned()))
            }
            SecretSource::TokenFile(path) => Ok(fresh(token(&read(path).await?, &place(path))?.text)),
            SecretSource::TokenCommand(words) => {
                let mut kept = credentials.kept.0.lock().await;
                let now = Instant::now();
                if let Some(token) = kept.as_ref().filter(|token| token.until.is_none_or(|until| now < until))
                {
                    return Ok(Self { text: token.text.clone(), kept: true });
                }
                let token = run(words).await?;
                let text = token.text.clone();
                *kept = Some(token);
                Ok(fresh(text))
            }
        }
    }
}

/// The token that was kept is of no use. Another connection may have renewed it meanwhile: then that one stays.
pub(super) async fn forget(credentials: &Credentials, refused: &str) {
    let mut kept = credentials.kept.0.lock().await;
    kept.take_if(|token| token.text == refused);
}

fn place(path: &Path) -> String {
    format!("the file {}", path.display())
}

async fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |cause| SecretError::File { path: path.into(), cause };
    let owned = path.to_owned();
    // Not tokio's files: a read on the blocking pool holds a paused clock.
    let read = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(owned)?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, LENGTH_MAX), &mut text)?;
        Ok(text)
    });
    read.await.expect("reading does not panic").map_err(failed)
}

fn first_line<'a>(text: &'a str, place: &str) -> Result<&'a str, SecretError> {
    let line = text.lines().next().filter(|line| !line.is_empty());
    line.ok_or_else(|| SecretError::Empty { place: place.to_owned() })
}

async fn run(words: &[String]) -> Result<Token, SecretError> {
    let (program, arguments) = words.split_first().expect("the configuration refuses an empty command");
    let failed = |cause| SecretError::Command { program: program.clone(), cause };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("it was asked for");
    let mut said = Vec::new();
    let all = async {
        stdout.take(LENGTH_MAX).read_to_end(&mut said).await?;
        child.wait().await
    };
    match timeout(COMMAND_LIMIT, all).await {
        Err(_) => Err(SecretError::Slow { program: program.clone() }),
        Ok(Err(cause)) => Err(failed(cause)),
        Ok(Ok(status)) if !status.success() => Err(SecretError::Failed { program: program.clone(), status }),
        Ok(Ok(_)) => {
            let place = format!("what the token_command {program} writes");
            match std::str::from_utf8(&said) {
                Ok(said) => token(said, &place),
                Err(_) => Err(SecretError::NotAToken { place }),
            }
        }
    }
}

/// What an answer of RFC 6749 has of what we need. Some write the seconds as a text.
#[derive(serde::Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

#[allow(clippy::disallowed_methods)] // tokens live in real time, as connections do
fn token(text: &str, place: &str) -> Result<Token, SecretError> {
    let place = || place.to_owned();
    let (text, life) = match text.trim_start() {
        json if json.starts_with('{') => {
            let answer: Answer =
                serde_json::from_str(json).map_err(|_| SecretError::NoToken { place: place() })?;
            let seconds = answer.expires_in.and_then(|value| match value {
                serde_json::Value::String(digits) => digits.parse().ok(),
                value => value.as_u64(),
            });
            let text = answer.access_token.ok_or_else(|| SecretError::NoToken { place: place() })?;
            (text, seconds.map(Duration::from_secs))
        }
        _ => (first_line(text, &place())?.trim().to_owned(), None),
    };
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(SecretError::NotAToken { place: place() });
    }
    let until = life.and_then(|life| Instant::now().checked_add(life - MARGIN.min(life / 10)));
    Ok(Token { text, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_command(script: &str) -> Credentials {
        let words = ["sh", "-c", script].map(str::to_owned);
        Credentials::new("me", SecretSource::TokenCommand(words.to_vec()), None)
    }

    async fn text(credentials: &Credentials) -> Result<String, String> {
        Secret::of(credentials).await.map(|secret| secret.text).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let password = Credentials::new("me", SecretSource::PasswordFile(file.path().into()), None);
        let token = Credentials::new("me", SecretSource::TokenFile(file.path().into()), None);
        std::fs::write(file.path(), "first\nsecond\n").unwrap();
        assert_eq!(text(&password).await.unwrap(), "first");
        assert_eq!(text(&token).await.unwrap(), "first");
        std::fs::write(file.path(), "{\"access_token\": \"abc\", \"expires_in\": 3600}").unwrap();
        assert_eq!(text(&token).await.unwrap(), "abc");
        std::fs::write(file.path(), "").unwrap();
        assert!(text(&password).await.unwrap_err().contains("nothing on its first line"));
        drop(file);
        assert!(text(&password).await.unwrap_err().contains("cannot be read"));
    }

    #[tokio::test]
    async fn a_command_is_run_when_its_token_ends_or_was_refused_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let script = |life: u32| {
            let count = count.display();
            format!(
                "echo >> {count}; echo '{{\"access_token\": \"t'$(wc -l < {count})'\", \"expires_in\": \"{life}\"}}'"
            )
        };
        let credentials = by_command(&script(3600));
        assert_eq!(text(&credentials).await.unwrap(), "t1");
        let again = Secret::of(&credentials).await.unwrap();
        assert_eq!((again.text.as_str(), again.kept), ("t1", true));
        forget(&credentials, "another").await;
        assert_eq!(text(&credentials).await.unwrap(), "t1");
        forget(&credentials, "t1").await;
        let renewed = Secret::of(&credentials).await.unwrap();
        assert_eq!((renewed.text.as_str(), renewed.kept), ("t2", false));
        let ended = by_command(&script(0));
        assert_eq!(text(&ended).await.unwrap(), "t3");
        assert_eq!(text(&ended).await.unwrap(), "t4");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_a_word_of_what_was_written() {
        for (script, expected) in [
            ("echo hush; exit 3", "the token_command sh failed: exit status: 3"),
            ("true", "what the token_command sh writes has nothing on its first line"),
            ("echo 'hush hush'", "what the token_command sh writes has characters that no token has"),
            ("printf 'hush\\377'", "what the token_command sh writes has characters that no token has"),
            (
                "echo '{\"error\": \"hush\"}'",
                "what the token_command sh writes has JSON without an \"access_token\"",
            ),
        ] {
            assert_eq!(text(&by_command(script)).await.unwrap_err(), expected, "{script}");
        }
        let words = vec!["/no/such/program".to_owned()];
        let absent = Credentials::new("me", SecretSource::TokenCommand(words), None);
        assert!(text(&absent).await.unwrap_err().contains("/no/such/program cannot be run"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_given_up() {
        let error = text(&by_command("exec sleep 1000")).await.unwrap_err();
        assert_eq!(error, "the token_command sh took longer than 10s");
    }
}
