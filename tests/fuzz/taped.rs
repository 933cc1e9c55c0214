//! What a tape of a session may not show, whatever was said.
//!
//! Contract: [`check`] is given all octets of the client and the server behind them. A text counts as a secret when it is
//! long enough and stands in the octets once, so that it can't have come onto the tape as something else.
//! Promises: no response of AUTH, nothing behind the mechanism of a line that begins with AUTH, and no line of content is
//! shown; lines are harmless to look at, and not more than there may be; what was taken is counted.
//! Not here: what is shown, and how (`smtp`'s own tests).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse::smtp::server::{Speaker, TAPE_LINES};

use super::wire::Wire;

/// Shorter ones may be on the tape by chance.
const LEAST: usize = 8;
/// What the tape says in place of others: it is on it whatever came.
const OWN: &str = "<secret> octets that are no command> <and octets more> octets of content in ms> <a line that is too long>";

pub fn check(said: &[u8], wire: &mut Wire) {
    let lines = wire.server.tape().lines();
    // An entry may have some lines, and each of the pieces one entry too many.
    assert!(lines.len() <= TAPE_LINES + 64, "{} lines on a tape", lines.len());
    let heard: Vec<&str> = (lines.iter())
        .inspect(|line| assert!(!line.text.contains(char::is_control), "{:?}", line.text))
        .filter(|line| line.by == Speaker::Client)
        .map(|line| line.text.as_str())
        .collect();
    let secrets = wire.responses.iter().map(|response| STANDARD.encode(response));
    let lines_of_content =
        wire.messages.iter().flat_map(|(_, content)| content.split(|octet| *octet == b'\n')).map(text);
    for secret in secrets.chain(behind_auth(said)).chain(lines_of_content) {
        if secret.len() >= LEAST && !OWN.contains(&secret) && stands_once(said, secret.as_bytes()) {
            assert!(!heard.iter().any(|line| line.contains(&secret)), "{secret:?} is on the tape: {heard:?}");
        }
    }
    assert_eq!(wire.server.tape().tally().messages as usize, wire.messages.len());
}

/// The words behind the mechanism of each line that begins with AUTH, command or not.
fn behind_auth(said: &[u8]) -> impl Iterator<Item = String> {
    let lines = said.split(|octet| *octet == b'\n').filter_map(|line| line.strip_suffix(b"\r"));
    let lines = lines.filter(|line| line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH ")));
    lines.flat_map(|line| line.split(|octet| *octet == b' ').skip(2)).map(text)
}

/// What is printable as it is would be shown as it is; all else is nothing to look for.
fn text(octets: &[u8]) -> String {
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    let is_plain = octets.iter().all(|octet| matches!(octet, b' '..=b'[' | b']'..=b'~'));
    if is_plain { String::from_utf8_lossy(octets).into_owned() } else { String::new() }
}

fn stands_once(said: &[u8], wanted: &[u8]) -> bool {
    said.windows(wanted.len()).filter(|window| *window == wanted).nth(1).is_none()
}
