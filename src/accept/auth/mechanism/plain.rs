//! PLAIN: identity, name and password in one message (RFC 4616).

use super::super::prepared;
use super::super::secret::Secret;
use super::{Turn, himself};

pub(super) fn read(message: &[u8]) -> Turn {
    let Ok(message) = std::str::from_utf8(message) else { return Turn::Malformed };
    let parts: Vec<&str> = message.split('\0').collect();
    let [identity, name, password] = parts[..] else { return Turn::Malformed };
    if name.is_empty() || password.is_empty() {
        return Turn::Malformed;
    }
    let (Some(name), Some(password)) = (prepared::name(name), prepared::password(password)) else {
        return Turn::Nobody;
    };
    if !himself(identity, &name) {
        return Turn::Impersonation { name };
    }
    Turn::Password { name, password: Secret::new(password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_and_password_and_lets_nobody_act_for_another() {
        let asked = |name: &str, password: &str| Turn::Password {
            name: name.into(),
            password: Secret::new(password),
        };
        assert_eq!(read(b"\0tim\0tanstaaftanstaaf"), asked("tim", "tanstaaftanstaaf"));
        assert_eq!(read(b"tim\0tim\0secret"), asked("tim", "secret"));
        // RFC 4616 section 4: an identity of his own that is another's name.
        assert_eq!(read(b"Ursel\0Kurt\0xipj3plmq"), Turn::Impersonation { name: "Kurt".into() });
        assert_eq!(read("\0\u{2168}\0p\u{ad}w".as_bytes()), asked("IX", "pw"));
        assert_eq!(read(b"\0a\x07\0pw"), Turn::Nobody);
    }

    #[test]
    fn what_is_not_three_parts_of_utf_8_is_malformed() {
        for wrong in
            [&b""[..], b"alice", b"\0alice", b"\0alice\0pw\0", b"\0\0pw", b"\0alice\0", b"\0a\xff\0pw"]
        {
            assert_eq!(read(wrong), Turn::Malformed, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn debug_output_shows_no_password() {
        assert!(!format!("{:?}", read(b"\0alice\0s3cret")).contains("s3cret"));
    }
}
