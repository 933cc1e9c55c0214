//! AUTH, mechanism by mechanism.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn authentication(mechanism: Mechanism, secret: &str) -> Authentication {
    Authentication {
        mechanism,
        username: "user".into(),
        secret: secret.into(),
        host: "mx.example.org".into(),
        port: 587,
        nonce: "rOprNGfwEbeRWgbNEkqO".into(),
    }
}

fn begun(mechanism: Mechanism, secret: &str) -> Driver {
    let mut driver = Driver::ready(&["AUTH ANY"]);
    driver.client.authenticate(&authentication(mechanism, secret)).unwrap();
    driver.run();
    driver
}

fn challenge(text: &str) -> String {
    format!("334 {}\r\n", STANDARD.encode(text))
}

#[test]
fn authenticates_by_plain_or_login() {
    let mut driver = begun(Mechanism::Plain, "secret");
    assert!(matches!(driver.hear("235 welcome\r\n"), Step::Authenticated));
    assert!(matches!(driver.run(), Step::Ready));
    assert_eq!(driver.take_sent(), "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n");

    let mut driver = begun(Mechanism::Login, "secret");
    driver.hear("334 VXNlcm5hbWU6\r\n");
    driver.hear("334 UGFzc3dvcmQ6\r\n");
    let Step::AuthenticationRefused { reply, detail: None } = driver.hear("535 5.7.8 no\r\n") else {
        panic!("535 is a refusal")
    };
    assert_eq!(reply.code(), 535);
    assert_eq!(driver.take_sent(), "AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n");
    assert!(matches!(driver.run(), Step::Ready));
}

#[test]
fn authenticates_by_scram_as_in_rfc_7677_and_believes_only_who_knows_the_password() {
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let computed = || {
        let mut driver = begun(Mechanism::ScramSha256, "pencil");
        let sent = format!("AUTH SCRAM-SHA-256 {}\r\n", STANDARD.encode("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        assert_eq!(driver.take_sent(), sent);
        let Step::Compute(work) = driver.hear(&challenge(first)) else { panic!("there is hashing to do") };
        driver.client.worked(&work.run());
        driver.run();
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(driver.take_sent(), format!("{}\r\n", STANDARD.encode(last)));
        driver
    };
    let mut driver = computed();
    driver.hear(&challenge("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    assert_eq!(driver.take_sent(), "\r\n");
    assert!(matches!(driver.hear("235 welcome\r\n"), Step::Authenticated));
    assert!(matches!(computed().hear("235 welcome\r\n"), Step::Failed(ProtocolError::Unproven)));
    let step = computed().hear(&challenge("v=AAAA"));
    assert!(matches!(step, Step::Failed(ProtocolError::Scram(ScramError::Unproven))), "{step:?}");
    assert!(matches!(computed().hear("535 wrong\r\n"), Step::AuthenticationRefused { .. }));
    let step =
        begun(Mechanism::ScramSha256, "pencil").hear(&challenge("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1000000"));
    assert!(matches!(step, Step::Failed(ProtocolError::Scram(ScramError::Iterations(_)))), "{step:?}");
    assert!(matches!(begun(Mechanism::ScramSha256, "pencil").hear("235 ok\r\n"), Step::Failed(_)));
}

#[test]
fn a_refused_token_is_told_with_what_the_server_says_of_it() {
    for (mechanism, sent, farewell) in [
        (Mechanism::XOAuth2, "user=user\x01auth=Bearer token\x01\x01", "\r\n"),
        (
            Mechanism::OAuthBearer,
            "n,a=user,\x01host=mx.example.org\x01port=587\x01auth=Bearer token\x01\x01",
            "AQ==\r\n",
        ),
    ] {
        let mut driver = begun(mechanism, "token");
        assert_eq!(driver.take_sent(), format!("AUTH {mechanism} {}\r\n", STANDARD.encode(sent)));
        driver.hear(&challenge("{\"status\":\"401\"}\x1b[31m"));
        assert_eq!(driver.take_sent(), farewell);
        let Step::AuthenticationRefused { detail, .. } = driver.hear("535 5.7.8 no\r\n") else {
            panic!("535 is a refusal")
        };
        assert_eq!(detail.as_deref(), Some("{\"status\":\"401\"}\u{fffd}[31m"));
        assert!(matches!(driver.run(), Step::Ready));
        assert!(matches!(begun(mechanism, "token").hear("235 ok\r\n"), Step::Authenticated));
    }
}

#[test]
fn a_long_token_waits_for_its_turn() {
    let token = "x".repeat(600);
    let mut driver = begun(Mechanism::XOAuth2, &token);
    assert_eq!(driver.take_sent(), "AUTH XOAUTH2\r\n");
    driver.hear("334 \r\n");
    let sent = driver.take_sent();
    let message = STANDARD.decode(sent.trim_end()).unwrap();
    assert_eq!(message, format!("user=user\x01auth=Bearer {token}\x01\x01").into_bytes());
    assert!(matches!(driver.hear("235 ok\r\n"), Step::Authenticated));
}

#[test]
fn a_server_may_overlook_an_initial_response_once() {
    for mechanism in [Mechanism::Plain, Mechanism::XOAuth2, Mechanism::OAuthBearer, Mechanism::ScramSha256] {
        let mut driver = begun(mechanism, "secret");
        let sent = driver.take_sent();
        let response = sent.trim_end().rsplit_once(' ').unwrap().1.to_owned();
        driver.hear("334 \r\n");
        assert_eq!(driver.take_sent(), format!("{response}\r\n"), "{mechanism}");
        let mut step = driver.hear("334 \r\n");
        for _ in 0..2 {
            step = if matches!(step, Step::Failed(_)) { step } else { driver.hear("334 \r\n") };
        }
        assert!(matches!(step, Step::Failed(_)), "{mechanism} does not end: {step:?}");
    }
}

#[test]
fn nothing_of_a_secret_is_shown() {
    assert!(!format!("{:?}", authentication(Mechanism::Plain, "hush")).contains("hush"));
}
