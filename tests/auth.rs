//! AUTH as clients meet it: every mechanism, users from a file and from a program, and the limits against guessing.
//!
//! Contract: a whole relay in memory on paused time; clients speak SASL by a code of their own (`sasl`).
//! Not here: the mechanisms' messages one by one, the users file, the tables of the limits (unit tests beside them).

mod client;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse::accept::{
    Authenticator, AuthenticatorError, ClientLimit, Cost, ListenerAuth, ListenerSettings, ListenerTls,
    Mechanism, NewUser, TokenRefusal, UsersAnswer, UsersFile, Whom,
};
use posthouse::clock::Clock;
use posthouse::mail::RouteTable;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::relay::{Builder, Relay, Settings};
use posthouse::route::Zone;
use posthouse::tracking::{Event, EventName, Events};

use client::Client;
use world::{FRIDAY_NOON, Say, Upstream};

/// A relay with listeners in the clear (25), by STARTTLS (587) and within TLS (465), and one user, alice.
struct Bench {
    clock: Clock,
    memory: MemoryNetwork,
    relay: Relay,
    upstream: Upstream,
    events: Events,
    settings: Settings,
    _folder: tempfile::TempDir,
}

const CLEAR: &str = "127.0.0.1:25";
const STARTTLS: &str = "127.0.0.1:587";
const IMPLICIT: &str = "127.0.0.1:465";
/// Somebody from a network that may not relay.
const STRANGER: &str = "198.51.100.7:4000";
const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

async fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    bench_with(change, |builder| builder).await
}

async fn bench_with(change: impl FnOnce(&mut Settings), build: impl FnOnce(Builder) -> Builder) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.toml");
    UsersFile::add(&users, &NewUser { cost: CHEAP, ..NewUser::new("alice", "s3cret") }).unwrap();
    let tls = client::certificate(folder.path());
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let mut settings = Settings::new("relay.example.org");
    for (address, tls) in [
        (CLEAR, ListenerTls::None),
        (STARTTLS, ListenerTls::StartTls(tls.clone())),
        (IMPLICIT, ListenerTls::Implicit(tls)),
    ] {
        settings.listeners.push(ListenerSettings { tls, ..ListenerSettings::new(address.parse().unwrap()) });
    }
    settings.accept.auth.users = Some(UsersFile::open(users).unwrap());
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    change(&mut settings);
    let builder =
        Relay::builder(settings.clone()).clock(clock.clone()).network(network).names(Arc::new(Zone::new()));
    let relay = build(builder).start().await.unwrap();
    let events = relay.events();
    Bench { clock, memory, relay, upstream, events, settings, _folder: folder }
}

impl Bench {
    /// A stranger who has said EHLO; and what is offered to him.
    async fn stranger(&self, to: &str) -> (Client, String) {
        self.client(STRANGER, to).await
    }

    async fn client(&self, from: &str, to: &str) -> (Client, String) {
        let address: SocketAddr = to.parse().unwrap();
        let mut client = Client::connect_from(&self.memory, from, address).await;
        if to == IMPLICIT {
            client = client.start_tls().await;
        }
        assert!(client.reply().await.starts_with("220 "));
        let mut offered = client.say("EHLO client.example.org").await;
        if to == STARTTLS {
            assert!(!offered.contains("AUTH"), "{offered}");
            client.talk(&[("STARTTLS", "220 ")]).await;
            client = client.start_tls().await;
            offered = client.say("EHLO client.example.org").await;
        }
        (client, offered)
    }

    async fn next(&mut self, name: EventName) -> Event {
        loop {
            let event = self.events.next().await.expect("the relay runs").expect("nobody lags");
            if event.event == name {
                return (*event).clone();
            }
        }
    }
}

fn base64(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64(format!("\0{name}\0{password}")))
}

/// What the client was challenged with.
fn challenge(reply: &str) -> String {
    let text = reply.strip_prefix("334 ").unwrap_or_else(|| panic!("{reply}"));
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// SCRAM-SHA-256 as a client speaks it (RFC 5802 section 3).
mod sasl {
    use ring::{digest, hmac, pbkdf2};

    use super::*;

    fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
    }

    /// The final reply. The server must have proven that it knows the user too, where it lets him in.
    pub async fn scram(client: &mut Client, name: &str, password: &str) -> String {
        let bare = format!("n={name},r=clientnonce");
        let reply = client.say(&format!("AUTH SCRAM-SHA-256 {}", base64(format!("n,,{bare}")))).await;
        let first = challenge(&reply);
        let mut parts = first.splitn(3, ',').map(|part| &part[2..]);
        let [nonce, salt, iterations] = [(); 3].map(|()| parts.next().unwrap());
        assert!(nonce.starts_with("clientnonce") && nonce.len() > 30, "{first}");
        let mut salted = [0; 32];
        let rounds = iterations.parse().unwrap();
        let salt = STANDARD.decode(salt).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let last = format!("c=biws,r={nonce}");
        let message = format!("{bare},{first},{last}");
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let reply = client.say(&base64(format!("{last},p={}", base64(proof)))).await;
        if !reply.starts_with("334 ") {
            return reply;
        }
        let server = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        assert_eq!(challenge(&reply), format!("v={}", base64(server)));
        client.say("").await
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_may_relay_from_anywhere_by_each_mechanism_and_tracking_names_him() {
    let mut bench = bench(|_| {}).await;
    for (number, to) in [STARTTLS, IMPLICIT, STARTTLS, IMPLICIT, STARTTLS].into_iter().enumerate() {
        let (mut client, offered) = bench.stranger(to).await;
        assert!(offered.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
        let (name, password) = (base64("alice"), base64("s3cret"));
        let reply = match number {
            0 => client.say(&plain("alice", "s3cret")).await,
            1 => {
                assert_eq!(client.say("auth plain").await, "334 ");
                client.say(&base64("alice\0alice\0s3cret")).await
            }
            2 => {
                assert_eq!(challenge(&client.say("AUTH LOGIN").await), "Username:");
                assert_eq!(challenge(&client.say(&name).await), "Password:");
                client.say(&password).await
            }
            3 => {
                assert_eq!(challenge(&client.say(&format!("AUTH LOGIN {name}")).await), "Password:");
                client.say(&password).await
            }
            _ => sasl::scram(&mut client, "alice", "s3cret").await,
        };
        assert!(reply.starts_with("235 2.7.0 "), "{number}: {reply}");
        assert!(client.say("AUTH PLAIN").await.starts_with("503 5.5.1 "), "once");
        client.transaction().await;
        client.talk(&[("Subject: hello\r\n\r\ntext\r\n.", "250 2.0.0 "), ("QUIT", "221 ")]).await;
        let received = bench.next(EventName::Receive).await;
        assert_eq!(received.user.as_deref(), Some("alice"));
        bench.next(EventName::Send).await;
    }
    for received in bench.upstream.received() {
        assert!(received.content.contains(" with ESMTPSA id "), "{}", received.content);
        assert!(!received.content.contains("authenticated"), "{}", received.content);
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_field_names_the_user_only_when_asked() {
    let mut bench = bench(|settings| settings.accept.show_user = true).await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    client.talk(&[(&plain("alice", "s3cret"), "235 ")]).await;
    client.transaction().await;
    client.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    bench.next(EventName::Send).await;
    let content = bench.upstream.received().remove(0).content;
    assert!(content.contains("\r\n\t(authenticated as alice)\r\n\tby relay.example.org"), "{content}");
}

#[tokio::test(start_paused = true)]
async fn in_the_clear_auth_is_offered_only_where_that_is_allowed_by_name() {
    let bench_without = bench(|_| {}).await;
    let (mut client, offered) = bench_without.stranger(CLEAR).await;
    assert!(!offered.contains("AUTH"), "{offered}");
    assert!(client.say(&plain("alice", "s3cret")).await.starts_with("538 5.7.11 "));
    let bench_with = bench(|settings| settings.listeners[0].auth_without_tls = true).await;
    let (mut client, offered) = bench_with.stranger(CLEAR).await;
    assert!(offered.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
    client.talk(&[(&plain("alice", "s3cret"), "235 ")]).await;
    let none = bench(|settings| settings.listeners[2].auth = ListenerAuth::None).await;
    let (mut client, offered) = none.stranger(IMPLICIT).await;
    assert!(!offered.contains("AUTH"), "{offered}");
    assert!(client.say(&plain("alice", "s3cret")).await.starts_with("503 5.5.1 "));
}

#[tokio::test(start_paused = true)]
async fn who_becomes_another_user_behind_starttls_is_counted_as_that_one() {
    let bench = bench(|settings| {
        settings.listeners[1].auth_without_tls = true;
        let whom = Whom { networks: vec![], users: vec!["*".into()] };
        let limit = ClientLimit { whom, connections: Some(1), ..ClientLimit::default() };
        settings.accept.client_limits = vec![limit];
    })
    .await;
    let users = bench.settings.accept.auth.users.clone().unwrap();
    UsersFile::add(users.path(), &NewUser { cost: CHEAP, ..NewUser::new("bob", "another") }).unwrap();
    let (mut bob, _) = bench.stranger(IMPLICIT).await;
    let (mut alice, _) = bench.stranger(IMPLICIT).await;
    bob.talk(&[(&plain("bob", "another"), "235 "), ("MAIL FROM:<>", "250 ")]).await;

    let mut client = Client::connect_from(&bench.memory, STRANGER, STARTTLS.parse().unwrap()).await;
    assert!(client.reply().await.starts_with("220 "));
    let (hello, sender) = (("EHLO client.example.org", "250-"), ("MAIL FROM:<>", "250 "));
    client.talk(&[hello, (&plain("alice", "s3cret"), "235 "), sender, ("STARTTLS", "220 ")]).await;
    let mut client = client.start_tls().await;
    client.talk(&[hello, (&plain("bob", "another"), "235 ")]).await;
    client
        .talk(&[("MAIL FROM:<>", "421 4.7.0 too many connections from your user: at most 1 at once")])
        .await;
    // As alice it was counted no longer.
    alice.talk(&[(&plain("alice", "s3cret"), "235 "), sender]).await;
}

#[tokio::test(start_paused = true)]
async fn where_auth_is_required_there_is_no_mail_without_it_for_nobody() {
    let mut bench = bench(|settings| settings.listeners[2].auth = ListenerAuth::Required).await;
    let (mut client, _) = bench.client("127.0.0.1:4000", IMPLICIT).await;
    client
        .talk(&[(
            "MAIL FROM:<alice@example.org>",
            "530 5.7.0 authentication is required here, send AUTH first",
        )])
        .await;
    let rejected = bench.next(EventName::Reject).await;
    assert_eq!(rejected.sender.as_deref(), Some("alice@example.org"));
    client.talk(&[(&plain("alice", "s3cret"), "235 "), ("MAIL FROM:<alice@example.org>", "250 ")]).await;
    // Elsewhere clients of the networks need none, and strangers may not relay.
    let (mut client, _) = bench.client("127.0.0.1:4000", STARTTLS).await;
    client.transaction().await;
    let (mut client, _) = bench.stranger(STARTTLS).await;
    client.talk(&[("MAIL FROM:<a@example.org>", "250 "), ("RCPT TO:<b@example.com>", "550 5.7.1 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_user_is_answered_like_a_known_one_after_the_same_time() {
    let mut bench = bench(|_| {}).await;
    let mut heard = Vec::new();
    for (address, name, scram) in [
        ("198.51.100.1:1", "alice", false),
        ("198.51.100.2:1", "nobody", false),
        ("198.51.100.3:1", "mallory", true),
        ("198.51.100.4:1", "bob", true),
    ] {
        let (mut client, _) = bench.client(address, IMPLICIT).await;
        let began = bench.clock.now();
        let reply = match scram {
            false => client.say(&plain(name, "wrong")).await,
            true => sasl::scram(&mut client, name, "wrong").await,
        };
        heard.push((reply, bench.clock.now().since(began).as_secs()));
        let failed = bench.next(EventName::AuthFail).await;
        let mechanism = if scram { "SCRAM-SHA-256" } else { "PLAIN" };
        assert_eq!((failed.user.as_deref(), failed.mechanism.as_deref()), (Some(name), Some(mechanism)));
        assert!(failed.session.is_some() && failed.client.is_some() && failed.status.is_some());
        // The session goes on, and the right password is right.
        client.talk(&[("NOOP", "250 ")]).await;
    }
    assert_eq!(heard[0].1, 1, "{heard:?}");
    assert!(heard[0].0.starts_with("535 5.7.8 authentication failed"), "{heard:?}");
    assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_malformed_cancelled_or_for_somebody_else_leaves_the_session_as_it_was() {
    let mut bench = bench(|_| {}).await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    client
        .talk(&[
            ("AUTH PLAIN", "334 "),
            ("*", "501 5.7.0 "),
            ("AUTH LOGIN", "334 "),
            ("no base64!", "501 5.5.2 "),
            ("AUTH CRAM-MD5", "504 5.5.4 "),
            ("AUTH PLAIN YWxpY2U=", "501 5.5.2 "),
            // n,,n=alice with channel binding demanded
            (
                &format!("AUTH SCRAM-SHA-256 {}", base64("p=tls-exporter,,n=alice,r=abc")),
                "501 5.5.2 the response is not what this mechanism says",
            ),
            (
                &format!("AUTH PLAIN {}", base64("root\0alice\0s3cret")),
                "535 5.7.8 nobody may act as somebody else here, leave the authorization identity empty",
            ),
            ("AUTH SCRAM-SHA-256", "334 "),
            (&base64("n,,n=alice,r=abc"), "334 "),
            ("*", "501 5.7.0 "),
            (&plain("alice", "s3cret"), "235 2.7.0 "),
        ])
        .await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(bench.next(EventName::AuthFail).await.reason.unwrap());
    }
    assert!(said[0].contains("malformed") && said[1].contains("channel binding"), "{said:?}");
    assert!(said[2].contains("not the user's own name"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn after_five_failures_a_client_waits_and_others_do_not() {
    let mut bench = bench(|_| {}).await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    for number in 0..5 {
        // Five names, so that no name is locked.
        client.talk(&[(&plain(&format!("user{number}"), "guess"), "535 5.7.8 ")]).await;
    }
    assert!(client.say(&plain("alice", "s3cret")).await.starts_with("421 4.7.0 "), "right or wrong");
    client.ends_here().await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    client
        .talk(&[
            (&plain("alice", "s3cret"), "454 4.7.0 too many failed authentications, try again later"),
            ("AUTH SCRAM-SHA-256", "334 "),
        ])
        .await;
    client.talk(&[(&base64("n,,n=alice,r=abc"), "421 4.7.0 ")]).await;
    let (mut neighbour, _) = bench.client("198.51.100.8:4000", IMPLICIT).await;
    neighbour.talk(&[(&plain("alice", "s3cret"), "235 ")]).await;
    for _ in 0..5 {
        assert_eq!(bench.next(EventName::AuthFail).await.status.unwrap().to_string(), "5.7.8");
    }
    assert_eq!(bench.next(EventName::AuthFail).await.status.unwrap().to_string(), "4.7.0");
    bench.clock.wait(Duration::from_secs(60)).await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    client.talk(&[(&plain("alice", "s3cret"), "235 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn users_mechanisms_and_limits_change_by_a_reload_and_locks_stay() {
    let bench = bench(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("others.toml");
    UsersFile::add(&users, &NewUser { cost: CHEAP, ..NewUser::new("bob", "another") }).unwrap();
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    client.talk(&[(&plain("user1", "guess"), "535 ")]).await;
    let mut settings = bench.settings.clone();
    settings.accept.auth.users = Some(UsersFile::open(users).unwrap());
    settings.accept.auth.mechanisms = vec![Mechanism::Plain];
    settings.accept.auth.failures = 2;
    bench.relay.reload(settings).await.unwrap();
    let (mut client, offered) = bench.stranger(IMPLICIT).await;
    assert!(offered.ends_with("AUTH PLAIN") || offered.contains("AUTH PLAIN\n"), "{offered}");
    client
        .talk(&[
            (&plain("alice", "s3cret"), "535 "),
            (
                &plain("bob", "another"),
                "421 4.7.0 too many failed authentications, closing the connection; try again later",
            ),
        ])
        .await;
    let (mut client, _) = bench.client("198.51.100.8:4000", IMPLICIT).await;
    client.talk(&[(&plain("bob", "another"), "235 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_holds_from_an_open_sessions_next_auth_on() {
    let bench = bench(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("others.toml");
    UsersFile::add(&users, &NewUser { cost: CHEAP, ..NewUser::new("bob", "another") }).unwrap();
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    let mut settings = bench.settings.clone();
    settings.accept.auth.users = Some(UsersFile::open(users).unwrap());
    bench.relay.reload(settings).await.unwrap();
    client.talk(&[(&plain("alice", "s3cret"), "535 "), (&plain("bob", "another"), "235 ")]).await;
}

/// Locks are short for those who may relay anyway, and that is up to the listener.
#[tokio::test(start_paused = true)]
async fn locks_are_as_long_as_for_anybody_where_the_listeners_networks_do_not_trust_the_client() {
    for (own, after_a_while) in [(Some(Vec::new()), "454 4.7.0 "), (None, "235 ")] {
        let bench = bench(|settings| {
            settings.accept.networks = vec!["198.51.100.0/24".parse().unwrap()];
            settings.listeners[2].networks = own;
        })
        .await;
        let (mut client, _) = bench.stranger(IMPLICIT).await;
        for _ in 0..5 {
            client.talk(&[(&plain("alice", "guess"), "535 5.7.8 ")]).await;
        }
        bench.clock.wait(Duration::from_secs(11)).await;
        let (mut client, _) = bench.stranger(IMPLICIT).await;
        client.talk(&[(&plain("alice", "s3cret"), after_a_while)]).await;
    }
}

/// Who was held to one address must not be free because he is no user any more.
#[tokio::test(start_paused = true)]
async fn a_user_who_is_taken_out_or_disabled_sends_nothing_more_in_sessions_that_are_open() {
    let bench = bench(|_| {}).await;
    let users = bench.settings.accept.auth.users.clone().unwrap();
    let own = Some(vec!["alice@example.org".to_owned()]);
    let held = NewUser { cost: CHEAP, senders: own, replace: true, ..NewUser::new("alice", "s3cret") };
    UsersFile::add(users.path(), &held).unwrap();
    let in_order = std::fs::read_to_string(users.path()).unwrap();
    let gone = "421 4.7.0 your user was removed or disabled, closing the connection";
    for number in 0..3 {
        let (mut client, _) = bench.stranger(IMPLICIT).await;
        client.talk(&[(&plain("alice", "s3cret"), "235 ")]).await;
        client.talk(&[("MAIL FROM:<alice@example.org>", "250 "), ("RSET", "250 ")]).await;
        match number {
            0 => UsersFile::remove(users.path(), "alice").unwrap(),
            1 => std::fs::write(users.path(), format!("{in_order}disabled = true\n")).unwrap(),
            _ => {
                let mut settings = bench.settings.clone();
                settings.accept.auth.users = None;
                bench.relay.reload(settings).await.unwrap();
            }
        }
        assert_eq!(client.say("MAIL FROM:<boss@example.org>").await, gone, "{number}");
        client.ends_here().await;
        std::fs::write(users.path(), &in_order).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_delay_of_a_failure() {
    let bench = bench(|_| {}).await;
    let (mut client, _) = bench.stranger(IMPLICIT).await;
    for number in 0..3 {
        client.talk(&[(&plain(&format!("user{number}"), "guess"), "535 ")]).await;
    }
    client.send(format!("{}\r\n", plain("user3", "guess")).as_bytes()).await;
    // Eight seconds of delay have begun.
    bench.clock.wait(Duration::from_secs(1)).await;
    let began = bench.clock.now();
    bench.relay.shutdown(Duration::from_secs(30)).await.unwrap();
    assert!(client.reply().await.starts_with("421 4.3.2 "));
    assert!(bench.clock.now().since(began) < Duration::from_secs(1));
}

/// A program's own users: tokens for one, and trouble with passwords.
struct Tokens;

impl Authenticator for Tokens {
    fn serves(&self, mechanism: Mechanism) -> bool {
        mechanism != Mechanism::ScramSha256
    }

    fn password<'a>(&'a self, name: &'a str, _: &'a str) -> UsersAnswer<'a, bool> {
        Box::pin(async move {
            match name {
                "busy" => Err(AuthenticatorError::Busy),
                _ => Err(AuthenticatorError::Unavailable("the directory is gone".into())),
            }
        })
    }

    fn token<'a>(
        &'a self,
        _: Option<&'a str>,
        token: &'a str,
    ) -> UsersAnswer<'a, Result<String, TokenRefusal>> {
        let refusal = TokenRefusal::invalid_token().scope("mail.send");
        Box::pin(async move { Ok(if token == "abc" { Ok("bob".to_owned()) } else { Err(refusal) }) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_brings_its_own_users_and_tokens() {
    let mut bench = bench_with(|_| {}, |builder| builder.authenticator(Arc::new(Tokens))).await;
    let (mut client, offered) = bench.stranger(IMPLICIT).await;
    assert!(offered.contains("AUTH PLAIN LOGIN OAUTHBEARER XOAUTH2"), "{offered}");
    client
        .talk(&[
            (&plain("busy", "x"), "454 4.7.0 too many authentications at once, try again in a moment"),
            (&plain("alice", "x"), "454 4.7.0 authentication does not work at the moment, try again later"),
        ])
        .await;
    let bearer = |claimed: &str, token: &str| {
        format!("AUTH OAUTHBEARER {}", base64(format!("n,{claimed},\u{1}auth=Bearer {token}\u{1}\u{1}")))
    };
    let json = r#"{"status":"invalid_token","scope":"mail.send"}"#;
    assert_eq!(challenge(&client.say(&bearer("", "abd")).await), json);
    client.talk(&[(&base64("\u{1}"), "535 5.7.8 ")]).await;
    for (user, status) in [(Some("busy"), "4.7.0"), (Some("alice"), "4.7.0"), (None, "5.7.8")] {
        let failed = bench.next(EventName::AuthFail).await;
        assert_eq!((failed.user.as_deref(), failed.status.unwrap().to_string().as_str()), (user, status));
    }
    // A token that is good, but of somebody else.
    assert!(challenge(&client.say(&bearer("a=alice", "abc")).await).contains("invalid_token"));
    client.talk(&[(&base64("\u{1}"), "535 5.7.8 "), (&bearer("a=bob", "abc"), "235 ")]).await;
    client.transaction().await;
    client.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    assert_eq!(bench.next(EventName::Receive).await.user.as_deref(), Some("bob"));

    let (mut client, _) = bench.stranger(IMPLICIT).await;
    let xoauth2 = |token: &str| base64(format!("user=bob\u{1}auth=Bearer {token}\u{1}\u{1}"));
    assert_eq!(client.say("AUTH XOAUTH2").await, "334 ");
    assert!(challenge(&client.say(&xoauth2("abd")).await).starts_with(r#"{"status":"401","#));
    client.talk(&[("", "535 5.7.8 "), (&format!("AUTH XOAUTH2 {}", xoauth2("abc")), "235 ")]).await;
}
