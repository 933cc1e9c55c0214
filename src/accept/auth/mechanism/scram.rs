//! SCRAM-SHA-256: the client proves that it knows the password, and we prove that we know its keys (RFC 5802, RFC 7677).
//!
//! Contract: no channel binding: the client may say that it has none (`n`), or that it believes we have none (`y`); one
//! that demands it (`p=`) is refused, since SCRAM-SHA-256-PLUS is not offered.
//! Invariants: the nonce is the client's with ours behind it, which is never used twice.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::prepared;
use super::super::scram_keys::ScramKeys;
use super::{Turn, himself};

/// Octets of a client's nonce: far more than one needs, and few enough for the challenge that repeats it.
const NONCE_MAX: usize = 4096;

pub(super) use crate::smtp::scram::nonce;

#[derive(Debug)]
pub(super) struct Scram {
    /// The client's and ours, once the client's is known.
    nonce: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Begun,
    /// Waits for the user's keys.
    Named {
        gs2: String,
        first: String,
        name: String,
    },
    /// The server's first message is out.
    Challenged {
        gs2: String,
        messages: String,
        name: String,
        keys: ScramKeys,
    },
    /// The proof is in.
    Proven {
        name: String,
        signature: String,
    },
    /// The server's last message is out: an empty response ends it.
    Told {
        name: String,
    },
    Over,
}

impl Scram {
    /// With our part of the nonce.
    pub fn new(nonce: String) -> Self {
        Self { nonce, state: State::Begun }
    }

    pub fn hear(&mut self, response: &[u8]) -> Turn {
        let Ok(response) = std::str::from_utf8(response) else { return Turn::Malformed };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Begun => self.first(response).unwrap_or_else(|end| end),
            State::Challenged { gs2, messages, name, keys } => {
                self.last(response, &gs2, &messages, name, &keys).unwrap_or(Turn::Malformed)
            }
            State::Told { name } if response.is_empty() => Turn::Done { name },
            State::Told { .. } | State::Named { .. } | State::Proven { .. } | State::Over => Turn::Malformed,
        }
    }

    /// `n,,n=user,r=nonce`
    fn first(&mut self, message: &str) -> Result<Turn, Turn> {
        let mut parts = message.splitn(3, ',');
        let (flag, identity, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(flag @ ("n" | "y")), Some(identity), Some(bare)) => (flag, identity, bare),
            // `p=` and all else.
            _ => return Err(Turn::Malformed),
        };
        let mut attributes = bare.split(',');
        // An `m=` in front is an extension that must be understood, and none is.
        let name = attributes.next().and_then(|part| part.strip_prefix("n=")).ok_or(Turn::Malformed)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r=")).ok_or(Turn::Malformed)?;
        if !(1..=NONCE_MAX).contains(&nonce.len()) || !nonce.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(Turn::Malformed);
        }
        let name = unescaped(name).filter(|name| !name.is_empty()).ok_or(Turn::Malformed)?;
        let name = prepared::name(&name).ok_or(Turn::Nobody)?;
        let identity = match identity {
            "" => String::new(),
            _ => identity.strip_prefix("a=").and_then(unescaped).ok_or(Turn::Malformed)?,
        };
        if !himself(&identity, &name) {
            return Err(Turn::Impersonation { name });
        }
        let gs2 = message[..message.len() - bare.len()].to_owned();
        debug_assert!(gs2.starts_with(flag), "what stands in front of the bare message");
        self.nonce.insert_str(0, nonce);
        self.state = State::Named { gs2, first: bare.to_owned(), name: name.clone() };
        Ok(Turn::Keys { name })
    }

    pub fn keys(&mut self, keys: ScramKeys) -> Turn {
        let State::Named { gs2, first, name } = std::mem::replace(&mut self.state, State::Over) else {
            return Turn::Malformed;
        };
        let challenge = format!("r={},s={},i={}", self.nonce, STANDARD.encode(&keys.salt), keys.iterations);
        let messages = format!("{first},{challenge}");
        self.state = State::Challenged { gs2, messages, name, keys };
        Turn::Challenge(challenge.into_bytes())
    }

    /// `c=biws,r=nonce,p=proof`
    fn last(
        &mut self,
        message: &str,
        gs2: &str,
        messages: &str,
        name: String,
        keys: &ScramKeys,
    ) -> Option<Turn> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let proof = STANDARD.decode(proof).ok()?;
        let mut attributes = without_proof.split(',');
        let binding = STANDARD.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if attributes.any(|attribute| attribute.starts_with("m=")) || binding != gs2.as_bytes() {
            return None;
        }
        let signed = format!("{messages},{without_proof}");
        // Another nonce is another exchange: a proof that was heard elsewhere.
        let right = nonce == self.nonce && keys.is_proven(signed.as_bytes(), &proof);
        let signature = STANDARD.encode(keys.server_signature(signed.as_bytes()));
        if right {
            self.state = State::Proven { name: name.clone(), signature };
        }
        Some(Turn::Proof { name, right })
    }

    pub fn go_on(&mut self) -> Turn {
        let State::Proven { name, signature } = std::mem::replace(&mut self.state, State::Over) else {
            return Turn::Malformed;
        };
        self.state = State::Told { name };
        Turn::Challenge(format!("v={signature}").into_bytes())
    }
}

/// `=2C` is a comma and `=3D` an equals sign; no other one may stand there.
fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    (!plain.contains('\0')).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST_WITHOUT_PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn keys() -> ScramKeys {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        ScramKeys::derive("pencil", &salt, 4096).unwrap()
    }

    fn challenged(first: &str) -> (Scram, Turn) {
        let mut scram = Scram::new(SERVER_NONCE.into());
        assert!(matches!(scram.hear(first.as_bytes()), Turn::Keys { .. }), "{first}");
        let challenge = scram.keys(keys());
        (scram, challenge)
    }

    #[test]
    fn the_exchange_of_rfc_7677_section_3() {
        let (mut scram, challenge) = challenged(CLIENT_FIRST);
        let expected =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(challenge, Turn::Challenge(expected.into()));
        let last = format!("{LAST_WITHOUT_PROOF},p={PROOF}");
        assert_eq!(scram.hear(last.as_bytes()), Turn::Proof { name: "user".into(), right: true });
        let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.go_on(), Turn::Challenge(signature.into()));
        assert_eq!(scram.hear(b""), Turn::Done { name: "user".into() });
        assert_eq!(scram.hear(b""), Turn::Malformed, "once");
    }

    #[test]
    fn a_wrong_proof_or_another_nonce_proves_nothing_and_goes_no_further() {
        let wrong = Turn::Proof { name: "user".into(), right: false };
        let other_proof = PROOF.replacen('d', "e", 1);
        let cut = LAST_WITHOUT_PROOF.trim_end_matches("k0");
        for last in [
            format!("{LAST_WITHOUT_PROOF},p={other_proof}"),
            format!("{LAST_WITHOUT_PROOF},p="),
            format!("{LAST_WITHOUT_PROOF},p=AAAA"),
            format!("{cut},p={PROOF}"),
        ] {
            let (mut scram, _) = challenged(CLIENT_FIRST);
            assert_eq!(scram.hear(last.as_bytes()), wrong, "{last}");
            assert_eq!(scram.go_on(), Turn::Malformed);
            assert_eq!(scram.hear(b""), Turn::Malformed);
        }
    }

    #[test]
    fn channel_binding_may_be_lacking_but_not_demanded_nor_changed_on_the_way() {
        let (mut scram, _) = challenged("y,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        // The header of another first message: somebody stands in between.
        let last = format!("{LAST_WITHOUT_PROOF},p={PROOF}");
        assert_eq!(scram.hear(last.as_bytes()), Turn::Malformed);
        let (mut scram, _) = challenged("y,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = last.replacen("biws", "eSws", 1);
        assert!(matches!(scram.hear(last.as_bytes()), Turn::Proof { .. }));
        let mut scram = Scram::new(SERVER_NONCE.into());
        assert_eq!(scram.hear(b"p=tls-exporter,,n=user,r=abc"), Turn::Malformed);
    }

    #[test]
    fn names_are_unescaped_and_nobody_acts_for_another() {
        let first = |message: &str| Scram::new("x".into()).hear(message.as_bytes());
        assert_eq!(first("n,,n=a=2Cb=3Dc,r=abc"), Turn::Keys { name: "a,b=c".into() });
        assert_eq!(first("n,a=user,n=user,r=abc"), Turn::Keys { name: "user".into() });
        assert_eq!(first("n,a=root,n=user,r=abc"), Turn::Impersonation { name: "user".into() });
        assert_eq!(first("n,,n=user,r=abc,x=later"), Turn::Keys { name: "user".into() });
        assert_eq!(first("n,,n=a\x07,r=abc"), Turn::Nobody);
        assert_eq!(
            first(&format!("n,,n=user,r={}", "x".repeat(NONCE_MAX))),
            Turn::Keys { name: "user".into() }
        );
        assert_eq!(first(&format!("n,,n=user,r={}", "x".repeat(NONCE_MAX + 1))), Turn::Malformed);
        for wrong in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=user",
            "n,,n=,r=abc",
            "n,,n=user,r=",
            "n,,r=abc,n=user",
            "n,,m=1,n=user,r=abc",
            "n,,n=a=2cb,r=abc",
            "n,,n=a=,r=abc",
            "x,,n=user,r=abc",
            "n,root,n=user,r=abc",
            "n,,n=user,r=a c",
        ] {
            assert_eq!(first(wrong), Turn::Malformed, "{wrong}");
        }
    }
}
