//! SASLprep: names and passwords that look alike are alike (RFC 4013).
//!
//! Contract: what is typed and what is kept go through the same preparation, so that they can be compared as octets.
//! Not here: the tables of Unicode (crate `stringprep`).

use super::MAX_NAME;

/// Octets of a password; longer ones are wrong without a look.
const MAX_PASSWORD: usize = 1024;

/// The name as it is compared; `None` for one that no user can have.
pub(super) fn name(typed: &str) -> Option<String> {
    prepared(typed).filter(|name| name.len() <= MAX_NAME)
}

/// The password as it is hashed; `None` for one that no user can have.
pub(super) fn password(typed: &str) -> Option<String> {
    prepared(typed).filter(|password| password.len() <= MAX_PASSWORD)
}

/// What becomes empty verifies nothing (RFC 4616 section 2). The bound before it keeps the work small.
fn prepared(typed: &str) -> Option<String> {
    if typed.len() > 4 * MAX_PASSWORD {
        return None;
    }
    let prepared = stringprep::saslprep(typed).ok()?;
    (!prepared.is_empty()).then(|| prepared.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4013_come_out_as_it_says() {
        assert_eq!(name("I\u{ad}X").as_deref(), Some("IX"));
        assert_eq!(name("user").as_deref(), Some("user"));
        assert_eq!(name("USER").as_deref(), Some("USER"));
        assert_eq!(name("\u{aa}").as_deref(), Some("a"));
        assert_eq!(name("\u{2168}").as_deref(), Some("IX"));
        assert_eq!(name("\u{7}"), None);
        assert_eq!(name("\u{627}\u{31}"), None);
    }

    #[test]
    fn what_is_empty_or_too_long_is_nobodys() {
        assert_eq!(name(""), None);
        assert_eq!(name("\u{ad}"), None);
        assert_eq!(name(&"a".repeat(255)).map(|name| name.len()), Some(255));
        assert_eq!(name(&"a".repeat(256)), None);
        assert_eq!(password(&"a".repeat(1025)), None);
    }
}
