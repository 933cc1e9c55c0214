//! Durations, sizes and rates: always with their unit.
//!
//! Contract: a duration is written as humantime writes it ("90s", "1d 12h"), a size as a whole number and a unit
//! ("35MiB", "10MB"), a rate as a whole number in a time ("100/s"). A bare number is refused, with the sentence that says
//! what to write instead.

use std::time::Duration;

use super::tree::{Kind, Value};
use crate::queue::Rate;

/// Why a value does not fit its key.
#[derive(Debug, Default)]
pub(crate) struct Mismatch {
    pub expected: String,
    pub hint: Option<String>,
}

impl Mismatch {
    pub fn new(expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

const DURATION: &str = "a duration with its unit, such as \"30s\", \"5m\" or \"1d 12h\"";
const SIZE: &str = "a size with its unit, such as \"35MiB\" or \"10MB\"";
const RATE: &str = "a whole number in a time, such as \"100/s\", \"6000/min\" or \"10/h\"";

pub(crate) fn duration(value: &Value) -> Result<Duration, Mismatch> {
    if let Some(number) = bare_number(value) {
        return Err(Mismatch::new(DURATION).hint(format!("write \"{number}s\" for {number} seconds")));
    }
    let text = value.text().ok_or_else(|| Mismatch::new(DURATION))?;
    humantime::parse_duration(text).map_err(|_| Mismatch::new(DURATION))
}

pub(crate) fn size(value: &Value) -> Result<u64, Mismatch> {
    if let Some(number) = bare_number(value) {
        return Err(Mismatch::new(SIZE).hint(format!("write \"{number}B\" for {number} bytes")));
    }
    let text = value.text().ok_or_else(|| Mismatch::new(SIZE))?.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        letter @ ("k" | "m" | "g" | "t") => {
            let unit = letter.to_uppercase();
            return Err(
                Mismatch::new(SIZE).hint(format!("write \"{number}{unit}iB\" or \"{number}{unit}B\""))
            );
        }
        _ => return Err(Mismatch::new(SIZE)),
    };
    let number: u64 = number.parse().map_err(|_| Mismatch::new(SIZE))?;
    number.checked_mul(factor).ok_or_else(|| Mismatch::new(SIZE).hint("this is more than there is"))
}

pub(crate) fn rate(value: &Value) -> Result<Rate, Mismatch> {
    let mismatch = || Mismatch::new(RATE);
    if let Some(number) = bare_number(value) {
        return Err(mismatch().hint(format!("write \"{number}/s\" for {number} in a second")));
    }
    let text = value.text().ok_or_else(mismatch)?;
    let (number, unit) = text.split_once('/').ok_or_else(mismatch)?;
    let (number, unit) = (number.trim(), unit.trim());
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        other => {
            let meant = match other.to_ascii_lowercase().as_str() {
                "s" | "sec" | "secs" | "second" | "seconds" => "s",
                "m" | "min" | "mins" | "minute" | "minutes" => "min",
                "h" | "hr" | "hour" | "hours" => "h",
                _ => return Err(mismatch()),
            };
            return Err(mismatch().hint(format!("write \"{number}/{meant}\"")));
        }
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(mismatch());
    }
    let count: u32 = number.parse().map_err(|_| mismatch().hint("this is more than can be"))?;
    if count == 0 {
        return Err(mismatch().hint("nothing would ever happen; write at least 1, such as \"1/h\""));
    }
    Ok(Rate { count, per: Duration::from_secs(seconds) })
}

/// As people read it: `35MiB`.
pub(crate) fn size_text(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

fn bare_number(value: &Value) -> Option<String> {
    match &value.kind {
        Kind::Integer(number) => Some(number.to_string()),
        Kind::Float(number) => Some(number.to_string()),
        Kind::Text(text) | Kind::Plain(text) => {
            text.trim().parse::<u64>().ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Place;

    fn plain(text: &str) -> Value {
        Value::plain(text, Place::Nowhere)
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration(&plain("1d 12h")).unwrap(), Duration::from_secs(36 * 3600));
        assert_eq!(duration(&plain("30")).unwrap_err().hint.as_deref(), Some("write \"30s\" for 30 seconds"));
        assert_eq!(duration(&plain("0")).unwrap_err().hint.as_deref(), Some("write \"0s\" for 0 seconds"));
        for bad in ["", "soon", "5 parsecs", "-5s", "99999999999999999999d"] {
            assert!(duration(&plain(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_need_a_time() {
        let read = |text: &str| rate(&plain(text)).unwrap();
        assert_eq!(read("100/s"), Rate::per_second(100));
        assert_eq!(read("6000 / min"), Rate { count: 6000, per: Duration::from_secs(60) });
        assert_eq!(read("10/h"), Rate { count: 10, per: Duration::from_secs(3600) });
        for (text, hint) in [
            ("100", "write \"100/s\" for 100 in a second"),
            ("100/sec", "write \"100/s\""),
            ("100/m", "write \"100/min\""),
            ("100/Hour", "write \"100/h\""),
            ("0/s", "nothing would ever happen; write at least 1, such as \"1/h\""),
            ("4294967296/s", "this is more than can be"),
        ] {
            assert_eq!(rate(&plain(text)).unwrap_err().hint.as_deref(), Some(hint), "{text}");
        }
        for bad in ["", "/s", "often", "-5/s", "+5/s", "1.5/s", "5/", "5/fortnight", "5/s/s"] {
            assert!(rate(&plain(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(size(&plain("35MiB")).unwrap(), 35 << 20);
        assert_eq!(size(&plain("10 MB")).unwrap(), 10_000_000);
        assert_eq!(size(&plain("35M")).unwrap_err().hint.as_deref(), Some("write \"35MiB\" or \"35MB\""));
        assert_eq!(size(&plain("35")).unwrap_err().hint.as_deref(), Some("write \"35B\" for 35 bytes"));
        for bad in ["", "MiB", "-5MiB", "1.5GiB", "99999999TiB", "5 bits"] {
            assert!(size(&plain(bad)).is_err(), "{bad}");
        }
        assert_eq!(size_text(35 << 20), "35MiB");
        assert_eq!(size_text(1_000), "1000B");
    }
}
