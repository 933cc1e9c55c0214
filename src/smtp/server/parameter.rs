//! The parameters behind a path: `SIZE=1024 BODY=8BITMIME`.
//!
//! Contract: [`split`] cuts them apart and checks their form; the functions below it read one value each.
//! Invariants: no keyword comes twice; a value that is refused is refused with the reply that says what it may be.
//! Not here: which parameters a command takes (`command`), xtext (`mail`).
//! RFC 5321 section 4.1.2 (esmtp-param) and RFC 6531 section 3.3 (values in UTF-8), RFC 1870, RFC 6152, RFC 3030, RFC 3461
//! section 4, RFC 2852 section 4, RFC 4954 section 5.

use crate::mail::{Address, BodyType, ByMode, DeliverBy, Notify, OriginalRecipient, Ret, decode_xtext};

use super::replies::{self, Fixed};

/// A keyword in upper case, and what stands behind its equals sign.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    pub keyword: String,
    pub value: Option<&'a str>,
}

/// Cuts `rest`, which is empty or begins with a blank. Blanks too many do no harm.
pub(super) fn split(rest: &[u8]) -> Result<Vec<Parameter<'_>>, Fixed> {
    let text = std::str::from_utf8(rest).map_err(|_| replies::NOT_UTF8)?;
    let mut parameters: Vec<Parameter<'_>> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword_octet = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let well_formed = !keyword.is_empty()
            && !keyword.starts_with('-')
            && keyword.bytes().all(keyword_octet)
            && value.is_none_or(|value| {
                !value.is_empty() && value.chars().all(|c| matches!(c, '!'..='<' | '>'..='~' | '\u{a0}'..))
            });
        if !well_formed {
            return Err(replies::PARAMETER_SYNTAX);
        }
        let keyword = keyword.to_ascii_uppercase();
        if parameters.iter().any(|other| other.keyword == keyword) {
            return Err(replies::PARAMETER_REPEATED);
        }
        parameters.push(Parameter { keyword, value });
    }
    Ok(parameters)
}

/// At most 20 digits (RFC 1870 section 5); what they say must fit.
pub(super) fn size(value: Option<&str>) -> Result<u64, Fixed> {
    value
        .filter(|digits| digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(replies::SIZE_VALUE)
}

pub(super) fn body(value: Option<&str>) -> Result<BodyType, Fixed> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("7BIT") => Ok(BodyType::SevenBit),
        Some(value) if value.eq_ignore_ascii_case("8BITMIME") => Ok(BodyType::EightBitMime),
        Some(value) if value.eq_ignore_ascii_case("BINARYMIME") => Ok(BodyType::BinaryMime),
        _ => Err(replies::BODY_VALUE),
    }
}

pub(super) fn ret(value: Option<&str>) -> Result<Ret, Fixed> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("FULL") => Ok(Ret::Full),
        Some(value) if value.eq_ignore_ascii_case("HDRS") => Ok(Ret::Headers),
        _ => Err(replies::RET_VALUE),
    }
}

/// RFC 3461 section 4.4: at most 100 characters as encoded.
pub(super) fn envid(value: Option<&str>) -> Result<String, Fixed> {
    value.filter(|value| value.len() <= 100).and_then(decode_xtext).ok_or(replies::ENVID_VALUE)
}

pub(super) fn notify(value: Option<&str>) -> Result<Notify, Fixed> {
    let value = value.ok_or(replies::NOTIFY_VALUE)?;
    let mut notify = Notify::NEVER;
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(notify);
    }
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return Err(replies::NOTIFY_VALUE),
        }
    }
    Ok(notify)
}

/// RFC 3461 section 4.2: at most 500 characters as encoded.
pub(super) fn original_recipient(value: Option<&str>) -> Result<OriginalRecipient, Fixed> {
    value.filter(|value| value.len() <= 500).and_then(|value| value.parse().ok()).ok_or(replies::ORCPT_VALUE)
}

pub(super) fn smtputf8(value: Option<&str>) -> Result<bool, Fixed> {
    if value.is_none() { Ok(true) } else { Err(replies::SMTPUTF8_VALUE) }
}

/// RFC 8689 section 2.
pub(super) fn require_tls(value: Option<&str>) -> Result<bool, Fixed> {
    if value.is_none() { Ok(true) } else { Err(replies::REQUIRETLS_VALUE) }
}

/// Who the client says has submitted the message. Nobody is trusted to say so here, which RFC 4954 section 5 answers by reading
/// `AUTH=<>`; so it is only checked.
pub(super) fn auth(value: Option<&str>) -> Result<bool, Fixed> {
    let is_mailbox = |text: String| text.parse::<Address>().is_ok();
    match value {
        Some("<>") => Ok(true),
        Some(value) if value.len() <= 500 && decode_xtext(value).is_some_and(is_mailbox) => Ok(true),
        _ => Err(replies::AUTH_VALUE),
    }
}

/// Seconds with an optional sign, a semicolon, R or N, and perhaps T.
pub(super) fn by(value: Option<&str>) -> Result<DeliverBy, Fixed> {
    let read = |value: &str| {
        let (time, mode) = value.split_once(';')?;
        let (sign, digits) = match time.strip_prefix(['+', '-']) {
            Some(digits) => (if time.starts_with('-') { -1 } else { 1 }, digits),
            None => (1, time),
        };
        let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (ByMode::Return, false),
            "RT" => (ByMode::Return, true),
            "N" => (ByMode::Notify, false),
            "NT" => (ByMode::Notify, true),
            _ => return None,
        };
        let seconds = sign * i64::from(nine_digits(digits)?);
        (seconds > 0 || mode == ByMode::Notify).then_some(DeliverBy { seconds, mode, trace })
    };
    value.and_then(read).ok_or(replies::BY_VALUE)
}

/// A number of seconds, as several extensions write it.
pub(super) fn nine_digits(digits: &str) -> Option<u32> {
    let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_keywords_in_any_case_and_refuses_what_is_malformed() {
        let parameters = split(b"  size=12 Body=8BITMIME FLAG ").unwrap();
        let seen: Vec<_> = parameters.iter().map(|p| (p.keyword.as_str(), p.value)).collect();
        assert_eq!(seen, [("SIZE", Some("12")), ("BODY", Some("8BITMIME")), ("FLAG", None)]);
        for bad in [
            &b" =1"[..],
            b" SIZE=",
            b" SIZE=1=2",
            b" -A",
            b" A_B",
            b" A\tB",
            b" A=\x7f",
            b" A=\xc2\x85",
            b" \xc3\xa9=1",
        ] {
            assert_eq!(split(bad), Err(replies::PARAMETER_SYNTAX), "{bad:?}");
        }
        assert_eq!(split(b" A=\xff"), Err(replies::NOT_UTF8));
        assert_eq!(split(" A=\u{e9}".as_bytes()).unwrap()[0].value, Some("\u{e9}"));
        assert_eq!(split(b" SIZE=1 size=1"), Err(replies::PARAMETER_REPEATED));
    }

    #[test]
    fn a_size_never_wraps() {
        assert_eq!(size(Some("0")), Ok(0));
        assert_eq!(size(Some("00000000000000000012")), Ok(12));
        assert_eq!(size(Some("18446744073709551615")), Ok(u64::MAX));
        for bad in [
            None,
            Some("18446744073709551616"),
            Some("+1"),
            Some("-1"),
            Some("1k"),
            Some("000000000000000000001"),
        ] {
            assert_eq!(size(bad), Err(replies::SIZE_VALUE), "{bad:?}");
        }
    }

    #[test]
    fn by_is_a_time_with_a_mode_and_returns_nothing_that_is_late_already() {
        let by_text = |text| by(Some(text)).map(|by| (by.seconds, by.mode, by.trace));
        assert_eq!(by_text("120;R"), Ok((120, ByMode::Return, false)));
        assert_eq!(by_text("+000000120;rt"), Ok((120, ByMode::Return, true)));
        assert_eq!(by_text("-999999999;NT"), Ok((-999_999_999, ByMode::Notify, true)));
        assert_eq!(by_text("0;n"), Ok((0, ByMode::Notify, false)));
        for bad in [
            "",
            "120",
            "120;",
            "120;X",
            "120;TR",
            "120;R;T",
            "0;R",
            "-1;R",
            "--1;N",
            ";R",
            "1e3;R",
            "1000000000;R",
        ] {
            assert_eq!(by(Some(bad)), Err(replies::BY_VALUE), "{bad}");
        }
        assert_eq!(by(None), Err(replies::BY_VALUE));
    }

    #[test]
    fn auth_is_a_mailbox_in_xtext_or_nobody() {
        for good in ["<>", "a@example.org", "a+2Bb@example.org"] {
            assert_eq!(auth(Some(good)), Ok(true), "{good}");
        }
        for bad in
            [None, Some("a"), Some("<a@example.org>"), Some("a+2b@example.org"), Some("+0D+0A@example.org")]
        {
            assert_eq!(auth(bad), Err(replies::AUTH_VALUE), "{bad:?}");
        }
    }

    #[test]
    fn never_stands_alone_in_notify() {
        assert_eq!(notify(Some("never")), Ok(Notify::NEVER));
        assert_eq!(notify(Some("success,DELAY")).unwrap().to_string(), "SUCCESS,DELAY");
        for bad in [None, Some("NEVER,SUCCESS"), Some("SUCCESS,"), Some("ALWAYS")] {
            assert_eq!(notify(bad), Err(replies::NOTIFY_VALUE), "{bad:?}");
        }
    }

    #[test]
    fn envid_and_orcpt_are_limited_as_encoded() {
        assert_eq!(envid(Some("QQ+2B314")).as_deref(), Ok("QQ+314"));
        assert_eq!(envid(Some(&"x".repeat(101))), Err(replies::ENVID_VALUE));
        assert_eq!(envid(Some("+zz")), Err(replies::ENVID_VALUE));
        assert_eq!(original_recipient(Some("rfc822;a@example.org")).unwrap().address, "a@example.org");
        assert_eq!(original_recipient(Some("a@example.org")), Err(replies::ORCPT_VALUE));
        assert_eq!(
            original_recipient(Some(&format!("rfc822;{}", "x".repeat(500)))),
            Err(replies::ORCPT_VALUE)
        );
    }
}
