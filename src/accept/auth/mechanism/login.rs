//! LOGIN: the name, then the password, each on a challenge of its own; the name may come with AUTH.

use super::super::prepared;
use super::super::secret::Secret;
use super::Turn;

/// What clients have come to expect, to the letter.
const NAME: &[u8] = b"Username:";
const PASSWORD: &[u8] = b"Password:";

#[derive(Debug, Default)]
pub(super) struct Login {
    asked_name: bool,
    name: Option<String>,
}

impl Login {
    pub fn hear(&mut self, response: Option<&[u8]>) -> Turn {
        let Some(response) = response else {
            self.asked_name = true;
            return Turn::Challenge(NAME.to_vec());
        };
        let Ok(text) = std::str::from_utf8(response) else { return Turn::Malformed };
        match self.name.take() {
            None if text.is_empty() && !self.asked_name => {
                // `AUTH LOGIN =`: an initial response that says nothing.
                self.asked_name = true;
                Turn::Challenge(NAME.to_vec())
            }
            None if text.is_empty() => Turn::Malformed,
            None => {
                self.name = Some(text.to_owned());
                Turn::Challenge(PASSWORD.to_vec())
            }
            Some(_) if text.is_empty() => Turn::Malformed,
            Some(name) => match (prepared::name(&name), prepared::password(text)) {
                (Some(name), Some(password)) => Turn::Password { name, password: Secret::new(password) },
                _ => Turn::Nobody,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Turn {
        Turn::Password { name: "alice".into(), password: Secret::new("pw") }
    }

    #[test]
    fn asks_for_what_has_not_come_with_auth() {
        let mut login = Login::default();
        assert_eq!(login.hear(None), Turn::Challenge(NAME.to_vec()));
        assert_eq!(login.hear(Some(b"alice")), Turn::Challenge(PASSWORD.to_vec()));
        assert_eq!(login.hear(Some(b"pw")), asked());

        let mut login = Login::default();
        assert_eq!(login.hear(Some(b"alice")), Turn::Challenge(PASSWORD.to_vec()));
        assert_eq!(login.hear(Some(b"pw")), asked());

        let mut login = Login::default();
        assert_eq!(login.hear(Some(b"")), Turn::Challenge(NAME.to_vec()));
        assert_eq!(login.hear(Some(b"")), Turn::Malformed);
    }

    #[test]
    fn an_empty_password_is_malformed_and_a_bad_name_is_found_out_only_with_the_password() {
        let mut login = Login::default();
        login.hear(Some(b"alice"));
        assert_eq!(login.hear(Some(b"")), Turn::Malformed);
        let mut login = Login::default();
        assert_eq!(login.hear(Some(b"a\x07")), Turn::Challenge(PASSWORD.to_vec()));
        assert_eq!(login.hear(Some(b"pw")), Turn::Nobody);
    }
}
