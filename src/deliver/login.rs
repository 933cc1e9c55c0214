//! AUTH on a new connection, and what its refusal means in words.
//!
//! Contract: [`Plea::of`] finds the mechanism and the secret for a server that offers what it offers; a refusal becomes
//! [`AuthTrouble`], which tells what to look at.
//! Invariants: no text here has a word of the secret: a server's words are kept, but not where they repeat it.
//! Not here: the exchange (`smtp`), reading the secret (`secret`), that a refusal concerns the host (`classify`).
//! RFC 4954 sections 4 and 6, RFC 5248.

use super::classify::Trouble;
use super::secret::{Secret, SecretError};
use crate::mail::Reply;
use crate::route::{Credentials, NextHop, Security};
use crate::smtp::client::{
    Authentication, Extensions, Mechanism, NoMechanismError, ScramError, SecretKind, choose,
};

/// Why we are nobody to the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthTrouble {
    #[error("{}", advice(*mechanism, reply, detail.as_deref()))]
    Refused { mechanism: Mechanism, reply: Reply, detail: Option<String> },
    #[error(transparent)]
    NoMechanism(#[from] NoMechanismError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Scram(#[from] ScramError),
    #[error("the host answered AUTH with what is no answer to it, and repeated the secret")]
    Repeated,
}

impl AuthTrouble {
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. } => Some(reply),
            _ => None,
        }
    }
}

fn advice(mechanism: Mechanism, reply: &Reply, detail: Option<&str>) -> String {
    let secret = match mechanism.needs() {
        SecretKind::Password => "username and password_file",
        SecretKind::Token => "username, and token_file or token_command,",
    };
    let advice = match reply.code() {
        421 => "the host ended the session".to_owned(),
        432 => format!(
            "it was refused: the host must learn the password once more; log in there once with PLAIN, or pin auth = \"plain\" until it says yes to {mechanism}"
        ),
        454 => "the host cannot check who we are at the moment".to_owned(),
        500..=504 => {
            format!("the host offers AUTH {mechanism} and does not know it: pin another mechanism with auth")
        }
        534 => format!("the host demands a stronger mechanism than {mechanism}"),
        538 => format!("the host demands TLS before AUTH {mechanism}: use tls=required or tls=verified"),
        _ => format!("it was refused: check {secret} of this upstream"),
    };
    match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{advice}; the host says of the token: {detail}"),
        None => advice,
    }
}

/// What is said to one server.
pub(super) struct Plea {
    pub authentication: Authentication,
    /// The token was kept from before.
    pub kept: bool,
}

impl Plea {
    /// `secured`: the connection has TLS.
    pub async fn of(
        credentials: &Credentials,
        hop: &NextHop,
        offered: &Extensions,
        secured: bool,
    ) -> Result<Self, AuthTrouble> {
        // tls=none is only there when somebody wrote it: with a username the default is another.
        let open = !secured && !hop.address.ip().is_loopback() && hop.security != Security::None;
        let mechanism = choose(offered.auth, credentials.secret.kind(), credentials.mechanism, open)?;
        let Secret { text, kept } = Secret::of(credentials).await?;
        let authentication = Authentication {
            mechanism,
            username: credentials.username.clone(),
            secret: text,
            host: hop.host.clone(),
            port: hop.address.port(),
            nonce: crate::smtp::scram::nonce(),
        };
        Ok(Self { authentication, kept })
    }

    /// A refusal, with what the host said beside it. A host that repeats the secret is not quoted.
    pub fn refused(&self, reply: Reply, detail: Option<String>) -> AuthTrouble {
        let Authentication { mechanism, .. } = &self.authentication;
        let repeats = |text: &str| self.authentication.is_repeated_in(text);
        let detail = detail.filter(|detail| !repeats(detail));
        let reply = match reply.lines().iter().any(|line| repeats(line)) {
            true => Reply::new(reply.code(), reply.status(), "(the host repeated the secret)"),
            false => reply,
        };
        AuthTrouble::Refused { mechanism: *mechanism, reply, detail }
    }

    /// What came in place of an answer; its words are not kept where they repeat the secret.
    pub fn broken_off(&self, trouble: Trouble) -> Trouble {
        match self.authentication.is_repeated_in(&trouble.to_string()) {
            true => AuthTrouble::Repeated.into(),
            false => trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::ProtocolError;

    fn plea(mechanism: Mechanism) -> Plea {
        let text = |text: &str| text.to_owned();
        let authentication = Authentication {
            mechanism,
            username: text("me"),
            secret: text("hush"),
            host: text("mx.example.org"),
            port: 25,
            nonce: text("nonce"),
        };
        Plea { authentication, kept: false }
    }

    #[test]
    fn each_refusal_tells_what_to_look_at() {
        let told = |mechanism, code, detail: Option<&str>| {
            plea(mechanism).refused(Reply::new(code, None, "no"), detail.map(str::to_owned)).to_string()
        };
        assert!(
            told(Mechanism::Plain, 535, None).ends_with("check username and password_file of this upstream")
        );
        let bearer = told(Mechanism::XOAuth2, 535, Some("{\"status\":\"401\"}"));
        assert!(
            bearer.contains("token_command") && bearer.ends_with("the token: {\"status\":\"401\"}"),
            "{bearer}"
        );
        assert!(told(Mechanism::Plain, 454, None).contains("at the moment"));
        assert!(told(Mechanism::Plain, 534, None).contains("stronger mechanism than PLAIN"));
        assert!(told(Mechanism::Plain, 538, None).contains("TLS before AUTH PLAIN"));
        assert!(told(Mechanism::ScramSha256, 432, None).contains("auth = \"plain\""));
        assert!(told(Mechanism::Login, 504, None).contains("does not know it"));
    }

    #[test]
    fn a_host_that_repeats_the_secret_is_not_quoted() {
        let reply = Reply::new(535, None, "5.7.8 no such password: hush");
        let trouble = plea(Mechanism::XOAuth2).refused(reply, Some("token hush".into()));
        assert_eq!(trouble.reply().unwrap().to_string(), "535 5.7.8 (the host repeated the secret)");
        assert!(!trouble.to_string().contains("hush"));
        // As it was sent, whole or cut short: "\0me\0hush".
        for line in ["unknown command: \"AUTH PLAIN AG1lAGh1c2g=\"", "AUTH PLAIN AG1lAGh1c..."] {
            let trouble = plea(Mechanism::Plain).refused(Reply::new(500, None, line), None);
            assert!(!format!("{trouble} {:?}", trouble.reply()).contains("AG1lAGh"), "{line}");
            let no_reply = Trouble::Protocol(ProtocolError::NotAReply { line: line.to_owned() });
            let told = plea(Mechanism::Plain).broken_off(no_reply).to_string();
            assert!(!told.contains("AG1lAGh") && told.contains("AUTH"), "{told}");
        }
        let other = plea(Mechanism::Plain).broken_off(Trouble::Closed);
        assert!(matches!(other, Trouble::Closed));
    }
}
