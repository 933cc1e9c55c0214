//! One exchange with the mechanisms themselves: PLAIN, LOGIN, SCRAM-SHA-256, OAUTHBEARER, XOAUTH2.
//!
//! Contract: one octet chooses the mechanism and whether AUTH brings the first message; then the client's messages, one on
//! each line. With SCRAM `\x0e` stands for the nonce of both and `\x0f` for the proof of the password, which a client
//! computes and nobody guesses.
//! Promises: who is asked for is named in the message, within the limits, and as nobody else; what any server must
//! understand is understood; a proof is right when it is the one of RFC 5802, computed here by the letter, and at no other
//! time; only that leads to a user; a challenge is the mechanism's to the letter; what is secret is not shown.
//! Not here: lines and base64 (`session`), what the users answer and limits (`accept`'s gate).
//! RFC 4616, RFC 5802, RFC 7628.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse::accept::{Exchange, MAX_NAME, Mechanism, Secret, TokenRefusal, Turn};
use ring::{digest, hmac, pbkdf2};

use super::Input;
use super::gate::{ITERATIONS, NONCE, PASSWORD, SALT, begin, keys};

pub fn run(octets: &[u8]) {
    let mut input = Input(octets);
    let choice = input.choice();
    let mechanism = Mechanism::ALL[usize::from(choice >> 1) % Mechanism::ALL.len()];
    let mut messages = input.octets().split(|octet| *octet == b'\n');
    let mut exchange = begin(mechanism);
    if choice & 1 == 0 {
        let asked = if mechanism == Mechanism::Login { b"Username:".to_vec() } else { Vec::new() };
        assert_eq!(exchange.hear(None), Turn::Challenge(asked));
    }
    match mechanism {
        Mechanism::Plain => plain(&mut exchange, messages.next().unwrap_or_default()),
        Mechanism::Login => login(&mut exchange, messages, choice & 1 == 0),
        Mechanism::ScramSha256 => scram(&mut exchange, messages),
        Mechanism::OauthBearer | Mechanism::Xoauth2 => bearer(&mut exchange, messages),
    }
}

/// What every machine promises of a turn.
fn check(turn: &Turn) {
    let shown = format!("{turn:?}");
    match turn {
        Turn::Password { name, password } => {
            check_name(name);
            check_secret(password);
            assert_eq!(shown, format!("Password {{ name: {name:?}, password: (not shown) }}"));
        }
        Turn::Token { claimed, token } => {
            claimed.iter().for_each(|name| check_name(name));
            check_secret(token);
            assert_eq!(shown, format!("Token {{ claimed: {claimed:?}, token: (not shown) }}"));
        }
        Turn::Keys { name }
        | Turn::Proof { name, .. }
        | Turn::Done { name }
        | Turn::Impersonation { name } => check_name(name),
        Turn::Challenge(_) | Turn::Refused | Turn::Nobody | Turn::Malformed => {}
    }
}

fn check_name(name: &str) {
    assert!((1..=MAX_NAME).contains(&name.len()), "a name of {} octets", name.len());
    assert!(!name.contains(char::is_control), "{name:?}");
}

fn check_secret(secret: &Secret) {
    assert!(!secret.is_empty() && !secret.contains(char::is_control));
}

/// Text that SASLprep leaves as it is.
fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// The turn of a name and a password that came as they are.
fn check_password(turn: &Turn, identity: &str, name: &str, password: &str) {
    if !is_plain(name, MAX_NAME) || !is_plain(password, 1024) {
        return;
    }
    match turn {
        Turn::Password { name: asked, password: secret } => {
            assert!((asked.as_str(), &**secret) == (name, password), "somebody else is asked for");
        }
        Turn::Impersonation { name: himself } => {
            assert!(himself == name && !identity.is_empty() && identity != name, "he is himself");
        }
        turn => panic!("{name:?} is not understood: {turn:?}"),
    }
}

fn plain(exchange: &mut Exchange, message: &[u8]) {
    let turn = exchange.hear(Some(message));
    check(&turn);
    let text = std::str::from_utf8(message).unwrap_or_default();
    let parts: Vec<&str> = text.split('\0').collect();
    match parts[..] {
        [identity, name, password] => check_password(&turn, identity, name, password),
        _ => assert_eq!(turn, Turn::Malformed),
    }
}

fn login<'a>(exchange: &mut Exchange, messages: impl Iterator<Item = &'a [u8]>, mut was_asked: bool) {
    let mut name = None;
    for message in messages {
        let turn = exchange.hear(Some(message));
        check(&turn);
        let text = std::str::from_utf8(message);
        match (name, turn) {
            (None, Turn::Challenge(asked)) if message.is_empty() && !was_asked => {
                assert_eq!(asked, b"Username:");
                was_asked = true;
            }
            (None, Turn::Challenge(asked)) => {
                assert_eq!(asked, b"Password:");
                name = text.ok();
            }
            (None, turn) => return assert!(turn == Turn::Malformed && (message.is_empty() || text.is_err())),
            (Some(name), turn) => return check_password(&turn, "", name, text.unwrap_or_default()),
        }
    }
}

fn bearer<'a>(exchange: &mut Exchange, mut messages: impl Iterator<Item = &'a [u8]>) {
    let message = messages.next().unwrap_or_default();
    let turn = exchange.hear(Some(message));
    check(&turn);
    let Turn::Token { claimed, token } = &turn else {
        return assert!(matches!(turn, Turn::Malformed | Turn::Nobody), "{turn:?}");
    };
    assert!(String::from_utf8_lossy(message).contains(&**token), "a token that nobody has sent");
    if claimed.as_ref().is_none_or(|name| name.is_ascii()) {
        let written = match (exchange.mechanism(), claimed) {
            (Mechanism::Xoauth2, None) => panic!("XOAUTH2 names its user"),
            (Mechanism::Xoauth2, Some(name)) => format!("user={name}\u{1}"),
            (_, None) => "n,,\u{1}".into(),
            (_, Some(name)) => format!("n,a={},\u{1}", name.replace('=', "=3D").replace(',', "=2C")),
        };
        let written = format!("{written}auth=Bearer {}\u{1}\u{1}", &**token);
        assert_eq!(begin(exchange.mechanism()).hear(Some(written.as_bytes())), turn, "{written:?}");
    }
    let Turn::Challenge(told) = exchange.token_refused(&TokenRefusal::invalid_token()) else {
        panic!("the client is not told why");
    };
    let told: serde_json::Value = serde_json::from_slice(&told).expect("the reason is JSON");
    assert!(told["status"].is_string(), "{told}");
    assert_eq!(exchange.hear(Some(messages.next().unwrap_or_default())), Turn::Refused);
}

fn scram<'a>(exchange: &mut Exchange, mut messages: impl Iterator<Item = &'a [u8]>) {
    let first = messages.next().unwrap_or_default();
    let turn = exchange.hear(Some(first));
    check(&turn);
    let Turn::Keys { name } = turn else {
        assert!(matches!(turn, Turn::Malformed | Turn::Nobody | Turn::Impersonation { .. }), "{turn:?}");
        return is_over(exchange);
    };
    let first = std::str::from_utf8(first).expect("what is understood is UTF-8");
    let parts: Vec<&str> = first.splitn(3, ',').collect();
    let (gs2, bare) = (format!("{},{},", parts[0], parts[1]), parts[2]);
    let nonce = bare.split(',').nth(1).and_then(|part| part.strip_prefix("r=")).expect("a nonce");
    let nonce = format!("{nonce}{NONCE}");
    let challenge = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(SALT));
    assert_eq!(exchange.keys(keys()), Turn::Challenge(challenge.clone().into_bytes()));

    let mut last = Vec::new();
    for octet in messages.next().unwrap_or_default() {
        match octet {
            0x0e => last.extend_from_slice(nonce.as_bytes()),
            0x0f => {
                let without_proof = last.strip_suffix(b",p=").unwrap_or(&last);
                let signed = [bare.as_bytes(), b",", challenge.as_bytes(), b",", without_proof].concat();
                last.extend_from_slice(proof_and_signature(&signed).0.as_bytes());
            }
            octet => last.push(*octet),
        }
    }
    let turn = exchange.hear(Some(&last));
    check(&turn);
    let expected = expected(&last, &gs2, &nonce, &format!("{bare},{challenge}"));
    match expected {
        None => assert!(matches!(turn, Turn::Malformed | Turn::Proof { right: false, .. }), "{turn:?}"),
        Some(signature) => {
            assert_eq!(turn, Turn::Proof { name: name.clone(), right: true });
            assert_eq!(exchange.go_on(), Turn::Challenge(format!("v={signature}").into_bytes()));
            let after = messages.next().unwrap_or_default();
            let end = if after.is_empty() { Turn::Done { name } } else { Turn::Malformed };
            assert_eq!(exchange.hear(Some(after)), end);
        }
    }
    is_over(exchange);
}

/// Nothing leads on from here.
fn is_over(exchange: &mut Exchange) {
    assert_eq!(exchange.go_on(), Turn::Malformed);
    assert_eq!(exchange.keys(keys()), Turn::Malformed);
    for message in ["", "n,,n=user,r=nonce"] {
        assert_eq!(exchange.hear(Some(message.as_bytes())), Turn::Malformed);
    }
}

/// Our proof of the keys for a client that has proven to know the password.
fn expected(last: &[u8], gs2: &str, nonce: &str, messages: &str) -> Option<String> {
    let last = std::str::from_utf8(last).ok()?;
    let (without_proof, proof) = last.rsplit_once(",p=")?;
    let must = format!("c={},r={nonce}", STANDARD.encode(gs2));
    let extensions = without_proof.strip_prefix(&must)?;
    let known = extensions.is_empty() || extensions.starts_with(',') && !extensions.contains(",m=");
    let (right, signature) = proof_and_signature(format!("{messages},{without_proof}").as_bytes());
    (known && proof == right).then_some(signature)
}

/// RFC 5802 section 3: ClientProof and ServerSignature for [`PASSWORD`], in base64.
fn proof_and_signature(signed: &[u8]) -> (String, String) {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    let iterations = NonZeroU32::new(ITERATIONS).expect("there is one");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, SALT, PASSWORD.as_bytes(), &mut salted);
    let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let signature = sign(stored_key.as_ref(), signed);
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let server_key = sign(&salted, b"Server Key");
    (STANDARD.encode(proof), STANDARD.encode(sign(server_key.as_ref(), signed)))
}
