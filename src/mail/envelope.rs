//! The envelope: reverse-path, recipients and their parameters (RFC 5321 section 2.3.1, RFC 3461).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Address, ReversePath, SessionId, decode_unitext, encode_unitext};

/// Everything about a message that is not its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    pub body: BodyType,
    pub ret: Option<Ret>,
    /// ENVID, decoded from xtext (RFC 3461 section 4.4): printable US-ASCII, at most 100 characters as encoded.
    pub envid: Option<String>,
    pub recipients: Vec<Recipient>,
    /// SMTPUTF8 (RFC 6531): addresses or header fields of this message have characters outside US-ASCII, and it may go to
    /// no server that does not offer the extension.
    pub smtputf8: bool,
    /// HOLDFOR, or what is left until HOLDUNTIL (RFC 4865): counted from the arrival, in whole seconds. Until then
    /// nothing is tried, and the message does not age.
    pub hold_for: Option<Duration>,
    /// BY (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// REQUIRETLS (RFC 8689): it goes only over TLS that is verified, to servers that promise the same.
    pub require_tls: bool,
}

impl Envelope {
    /// An envelope without parameters.
    pub fn new(reverse_path: ReversePath, recipients: impl IntoIterator<Item = Address>) -> Self {
        let recipients = recipients.into_iter().map(Recipient::new).collect();
        Self {
            reverse_path,
            body: BodyType::SevenBit,
            ret: None,
            envid: None,
            recipients,
            smtputf8: false,
            hold_for: None,
            deliver_by: None,
            require_tls: false,
        }
    }
}

/// BY (RFC 2852 section 4): the time within which a message is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverBy {
    /// Seconds from the arrival here. Not above 0 only with [`ByMode::Notify`]: the time was over before.
    pub seconds: i64,
    pub mode: ByMode,
    /// `T`: each relay on the way is told about.
    pub trace: bool,
}

impl DeliverBy {
    /// Nine digits (RFC 2852 section 4).
    pub const SECONDS_MAX: i64 = 999_999_999;

    /// The same for the next hop, `age` after the arrival here.
    pub fn remaining(self, age: Duration) -> Self {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.seconds.saturating_sub(age).clamp(-Self::SECONDS_MAX, Self::SECONDS_MAX);
        Self { seconds, ..self }
    }
}

/// As it stands behind `BY=`.
impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            ByMode::Return => "R",
            ByMode::Notify => "N",
        };
        write!(f, "{};{mode}{}", self.seconds, if self.trace { "T" } else { "" })
    }
}

/// What happens when the time of BY is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByMode {
    /// `R`: the message is returned, with 5.4.7.
    Return,
    /// `N`: the sender is told of the delay, and the attempts go on.
    Notify,
}

/// One forward-path and what was asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub address: Address,
    /// `None`: nothing was asked, which means failure, and a delay where it is our custom (RFC 3461 section 4.1).
    pub notify: Option<Notify>,
    pub original: Option<OriginalRecipient>,
}

impl Recipient {
    pub fn new(address: Address) -> Self {
        Self { address, notify: None, original: None }
    }
}

/// BODY (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    #[default]
    SevenBit,
    EightBitMime,
    /// RFC 3030: any octets, also bare CR, LF and NUL; only BDAT brings them.
    BinaryMime,
}

/// RET (RFC 3461 section 4.3): what of the message a failure notice brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

/// NOTIFY (RFC 3461 section 4.1). All three false is NEVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

impl Notify {
    pub const NEVER: Notify = Notify { success: false, failure: false, delay: false };
}

/// As it stands behind `NOTIFY=`.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let asked = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> = asked.into_iter().filter_map(|(asked, word)| asked.then_some(word)).collect();
        f.write_str(&words.join(","))
    }
}

/// ORCPT (RFC 3461 section 4.2): address type and address, decoded from xtext, or from unitext where the type is `utf-8`
/// (RFC 6533 section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalRecipient {
    pub address_type: String,
    pub address: String,
}

/// A text that is no ORCPT value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address type and an address in xtext, such as rfc822;user@example.org")]
pub struct OriginalRecipientError;

/// From `rfc822;user+2Bbox@example.org`, still in xtext.
impl FromStr for OriginalRecipient {
    type Err = OriginalRecipientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address_type, address) = text.split_once(';').ok_or(OriginalRecipientError)?;
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
        if address_type.is_empty() || !address_type.bytes().all(atom) {
            return Err(OriginalRecipientError);
        }
        let is_utf8 = address_type.eq_ignore_ascii_case(Self::UTF8);
        let address = if is_utf8 { decode_unitext(address) } else { decode_xtext(address) };
        let address = address.filter(|address| !address.is_empty()).ok_or(OriginalRecipientError)?;
        Ok(Self { address_type: address_type.to_owned(), address })
    }
}

impl OriginalRecipient {
    /// The address type of addresses in UTF-8.
    pub const UTF8: &str = "utf-8";

    /// An address as whoever sends to it would name it.
    pub fn of(address: &Address) -> Self {
        let address_type = if address.is_ascii() { "rfc822" } else { Self::UTF8 };
        Self { address_type: address_type.to_owned(), address: address.to_string() }
    }

    /// Whether the address is of type `utf-8`.
    pub fn is_utf8(&self) -> bool {
        self.address_type.eq_ignore_ascii_case(Self::UTF8)
    }
}

/// As it stands behind `ORCPT=`, in xtext or in the unitext of seven bits: any server with DSN takes it.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = if self.is_utf8() { encode_unitext } else { encode_xtext };
        write!(f, "{};{}", self.address_type, encode(&self.address))
    }
}

/// Decodes xtext (RFC 3461 section 4); nothing when it is not xtext, or decodes to anything but printable US-ASCII.
pub fn decode_xtext(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = match bytes[at] {
            b'+' => {
                let hex = bytes.get(at + 1..at + 3)?;
                if !hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
                    return None;
                }
                at += 2;
                u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?
            }
            byte @ (b'!'..=b'<' | b'>'..=b'~') => byte,
            _ => return None,
        };
        if !matches!(byte, b' '..=b'~') {
            return None;
        }
        decoded.push(byte as char);
        at += 1;
    }
    Some(decoded)
}

/// Encodes as xtext (RFC 3461 section 4).
pub fn encode_xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'*' | b','..=b'<' | b'>'..=b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("+{byte:02X}")),
        }
    }
    encoded
}

/// Where a message came from: kept for the log and for `why`, never sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub session: Option<SessionId>,
    pub client: Option<IpAddr>,
    /// The Message-ID field of the content, without its angle brackets' meaning: as it stands there.
    pub message_id: Option<String>,
    /// Who the client has authenticated as.
    pub user: Option<String>,
    /// The listener that it came by, by its name, or its address as configured; none for what came another way.
    pub listener: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_survives_and_strangers_are_refused() {
        assert_eq!(decode_xtext("a+2Bb+3Dc").as_deref(), Some("a+b=c"));
        assert_eq!(encode_xtext("a+b=c d"), "a+2Bb+3Dc+20d");
        for bad in ["a+", "a+2", "a+2b", "a=b", "a b", "a+0Ab", "a+7F", "\u{e9}"] {
            assert_eq!(decode_xtext(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn by_counts_down_on_the_way_and_keeps_to_nine_digits() {
        let by = DeliverBy { seconds: 600, mode: ByMode::Return, trace: false };
        assert_eq!(by.remaining(Duration::from_millis(60_999)).to_string(), "540;R");
        let by = DeliverBy { seconds: 5, mode: ByMode::Notify, trace: true };
        assert_eq!(by.remaining(Duration::from_secs(65)).to_string(), "-60;NT");
        assert_eq!(by.remaining(Duration::MAX).seconds, -DeliverBy::SECONDS_MAX);
    }

    #[test]
    fn orcpt_of_type_utf_8_is_unitext() {
        let original: OriginalRecipient = "UTF-8;\\x{E9}\u{fc}\\x{2B}@example.org".parse().unwrap();
        assert_eq!(original.address, "\u{e9}\u{fc}+@example.org");
        assert_eq!(original.to_string(), "UTF-8;\\x{E9}\\x{FC}\\x{2B}@example.org");
        assert!("utf-8;a+2Bb@example.org".parse::<OriginalRecipient>().is_err());
        assert!("rfc822;\u{e9}@example.org".parse::<OriginalRecipient>().is_err());
    }

    #[test]
    fn orcpt_is_type_and_xtext() {
        let original: OriginalRecipient = "rfc822;user+2Bbox@example.org".parse().unwrap();
        assert_eq!(original.address, "user+box@example.org");
        assert_eq!(original.to_string(), "rfc822;user+2Bbox@example.org");
        let original: OriginalRecipient = "utf-8;\u{e9}\\x{2B}@example.org".parse().unwrap();
        assert_eq!(original.address, "\u{e9}+@example.org");
        assert_eq!(original.to_string(), "utf-8;\\x{E9}\\x{2B}@example.org");
        for bad in
            ["user@example.org", ";a@b", "rfc822;", "rf c;a@b", "rfc822;a b", "rfc822;\u{e9}", "utf-8;a+2Bb"]
        {
            assert!(bad.parse::<OriginalRecipient>().is_err(), "{bad}");
        }
    }
}
