//! Connections to servers that read from a script, over the network in memory.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::*;
use crate::mail::{Content, Envelope, ReversePath};
use crate::net::{Listener, MemoryNetwork};
use crate::route::{SecretSource, Terms, Token};

const ADDRESS: &str = "192.0.2.25:25";

/// A server that takes these connections, one after the other. It says the first line of a script at once, each further
/// one after a line of the client, and closes after one line more. Gives what it heard on each.
async fn server(scripts: &'static [&'static [&'static str]]) -> (Network, JoinHandle<Vec<String>>) {
    let (network, mut listener) = listener().await;
    let task = tokio::spawn(async move {
        let mut heard = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut octets = Vec::new();
            for (number, say) in script.iter().enumerate() {
                stream.write_all(format!("{say}\r\n").as_bytes()).await.unwrap();
                while octets.iter().filter(|octet| **octet == b'\n').count() <= number {
                    if stream.read_buf(&mut octets).await.unwrap() == 0 {
                        break;
                    }
                }
            }
            heard.push(String::from_utf8(octets).unwrap());
        }
        heard
    });
    (network, task)
}

/// A server at its address, for one that is no script.
async fn listener() -> (Network, Listener) {
    let network = Network::Memory(MemoryNetwork::new());
    let listener = network.bind(ADDRESS.parse().unwrap()).await.unwrap();
    (network, listener)
}

/// Takes one connection, and one transaction up to where its content begins.
async fn accept(mut listener: Listener, hello: &str, answers: &str) -> Stream {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"220 hi\r\n").await.unwrap();
    hear(&mut stream, &format!("{hello} relay.example.org\r\n")).await;
    stream.write_all(b"250-mx.example.org\r\n250 PIPELINING\r\n").await.unwrap();
    hear(&mut stream, "DATA\r\n").await;
    stream.write_all(answers.as_bytes()).await.unwrap();
    stream
}

/// Reads until it ends so, or there is no more.
async fn hear(stream: &mut Stream, end: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) && stream.read_buf(&mut heard).await.unwrap() > 0 {}
}

async fn open(network: &Network, hop: &NextHop) -> Result<Connection, (Stage, Trouble)> {
    open_within(network, hop, Timeouts::default()).await
}

async fn open_within(
    network: &Network,
    hop: &NextHop,
    timeouts: Timeouts,
) -> Result<Connection, (Stage, Trouble)> {
    let (tls, hostname) = (&ClientTls::trusting([]).unwrap(), "relay.example.org");
    Opener { network, tls, hostname, timeouts, in_clear: &|_| {} }.open(hop).await
}

fn hop() -> NextHop {
    NextHop::in_the_clear(ADDRESS.parse().unwrap())
}

fn hop_with(credentials: Credentials) -> NextHop {
    let terms = Terms { credentials: Some(Arc::new(credentials)), ..Terms::default() };
    NextHop { terms: Arc::new(terms), ..hop() }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_after_ehlo_is_told_helo_on_a_new_connection() {
    let (network, heard) = server(&[&["220 old", "502 what?"], &["220 old", "250 old"]]).await;
    let connection = open(&network, &hop()).await.unwrap();
    assert_eq!(*connection.extensions(), Extensions::default());
    drop(connection);
    let [first, second] = &heard.await.unwrap()[..] else { panic!("two connections") };
    assert_eq!(first, "EHLO relay.example.org\r\nHELO relay.example.org\r\n");
    assert_eq!(second, "HELO relay.example.org\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_on_helo_too_is_given_up() {
    let (network, _heard) = server(&[&["220 old", "502 what?"], &["220 old"]]).await;
    let error = open(&network, &hop()).await.err().expect("it hangs up");
    assert!(matches!(error, (Stage::Hello, Trouble::Closed)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_greeting_octet_by_octet_has_no_more_time_than_one_at_once() {
    let (network, mut listener) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(b"2").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
    let began = Instant::now();
    let error = open(&network, &hop()).await.err().expect("there is no greeting");
    assert!(matches!(error, (Stage::Greeting, Trouble::Silent(_))), "{error:?}");
    assert_eq!(began.elapsed(), Timeouts::default().greeting);
}

#[tokio::test]
async fn a_token_that_was_kept_and_is_refused_is_renewed_once() {
    const OFFER: &str = "250-mx.example.org\r\n250 AUTH XOAUTH2";
    let words = ["echo", "new"].map(str::to_owned).to_vec();
    let credentials = Credentials::new("me", SecretSource::TokenCommand(words), None);
    *credentials.kept.0.lock().await = Some(Token { text: "old".into(), until: None });
    let (network, heard) = server(&[
        &["220 hi", OFFER, "535 5.7.8 expired"],
        &["220 hi", OFFER, "235 2.7.0 welcome"],
        &["220 hi", OFFER, "535 5.7.8 no"],
        &["220 hi", OFFER, "535 5.7.8 no"],
    ])
    .await;
    let hop = hop_with(credentials);
    drop(open(&network, &hop).await.unwrap());
    let error = open(&network, &hop).await.err().expect("both are refused");
    assert!(matches!(error, (Stage::Auth, Trouble::Auth(AuthTrouble::Refused { .. }))), "{error:?}");
    let heard = heard.await.unwrap();
    let said: Vec<&str> = heard.iter().map(|heard| heard.lines().nth(1).unwrap()).collect();
    assert!(said[0] != said[1], "the first is the old one: {said:?}");
    assert!(said[1..].iter().all(|line| *line == said[1]), "the command always says the same: {said:?}");
    assert_eq!(said.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_shows_the_password_is_said_in_the_clear() {
    let (network, heard) = server(&[&["220 hi", "250-mx.example.org\r\n250 AUTH PLAIN LOGIN"]]).await;
    let hop = NextHop { security: Security::Opportunistic, ..hop_with(Credentials::password("me", "hush")) };
    let (stage, trouble) = open(&network, &hop).await.err().expect("there is no way to authenticate");
    assert_eq!(stage, Stage::Auth);
    assert!(trouble.to_string().contains("in the clear, and PLAIN would show the secret"), "{trouble}");
    assert_eq!(heard.await.unwrap(), ["EHLO relay.example.org\r\n"]);
}

#[tokio::test(start_paused = true)]
async fn by_lmtp_each_recipient_is_answered() {
    let (network, listener) = listener().await;
    tokio::spawn(async move {
        let mut stream = accept(listener, "LHLO", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n").await;
        hear(&mut stream, "\r\n.\r\n").await;
        stream.write_all(b"250 stored\r\n").await.unwrap();
    });
    let mut connection = open(&network, &NextHop { protocol: Protocol::Lmtp, ..hop() }).await.unwrap();
    let recipients = ["b@example.com", "c@example.com"].map(|to| to.parse().unwrap());
    let envelope = Envelope::new(ReversePath::NULL, recipients);
    let (report, trouble) = connection.send(Transaction::new(envelope, Content::from("text\r\n"))).await;
    assert!(matches!(trouble, Some(Trouble::Closed)), "{trouble:?}");
    assert_eq!(report.end_of(0).unwrap().code(), 250);
    assert!(!report.is_uncertain_for(0) && report.is_uncertain_for(1));
}

/// Sends a large content to a server that says this amid it. Then it keeps still, or reads the rest and refuses it.
async fn answered_amid_content(says: &'static str, reads_on: bool) -> (TransactionReport, Option<Trouble>) {
    let (network, listener) = listener().await;
    tokio::spawn(async move {
        let mut stream = accept(listener, "EHLO", "250 ok\r\n250 ok\r\n354 go\r\n").await;
        hear(&mut stream, "octets\r\n").await;
        stream.write_all(says.as_bytes()).await.unwrap();
        if reads_on {
            hear(&mut stream, "\r\n.\r\n").await;
            let _ = stream.write_all(b"452 4.3.1 no room\r\n").await;
        }
        std::future::pending::<()>().await;
    });
    send_large(&network, Timeouts::default()).await
}

/// Eight MiB.
async fn send_large(network: &Network, timeouts: Timeouts) -> (TransactionReport, Option<Trouble>) {
    let mut connection = open_within(network, &hop(), timeouts).await.unwrap();
    let envelope = Envelope::new(ReversePath::NULL, ["b@example.com".parse().unwrap()]);
    let content = Content::from("octets\r\n".repeat(1 << 20));
    connection.send(Transaction::new(envelope, content)).await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_amid_content_and_takes_no_more_is_heard() {
    let (report, trouble) = answered_amid_content("552 5.3.4 too large\r\n", false).await;
    assert!(matches!(trouble, Some(Trouble::Slow { .. })), "{trouble:?}");
    assert_eq!(report.end_of(0).map(|reply| reply.code()), Some(552));
    for senseless in ["", "250 thanks\r\n", "354 more\r\n"] {
        let (report, _) = answered_amid_content(senseless, false).await;
        assert!(report.end.is_none() && !report.dot_sent, "{senseless:?}: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_yes_amid_content_is_no_answer_to_all_of_it() {
    let (report, trouble) = answered_amid_content("250 2.0.0 taken\r\n", true).await;
    assert!(matches!(trouble, Some(Trouble::Protocol(_))), "{trouble:?}");
    assert!(report.end.is_none() && !report.is_uncertain(), "{report:?}");
    let (report, trouble) = answered_amid_content("552 5.3.4 too large\r\n", true).await;
    assert_eq!(report.end_of(0).map(|reply| reply.code()), Some(552), "{trouble:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_content_drop_by_drop_is_given_up_and_a_slow_one_is_not() {
    // So many octets it takes in a second, and how that ends; with or without a least pace.
    for (octets, least_pace, too_slow) in
        [(1 << 10, 2 << 10, true), (3 << 10, 2 << 10, false), (1 << 10, 0, false)]
    {
        let (network, listener) = listener().await;
        tokio::spawn(async move {
            let mut stream = accept(listener, "EHLO", "250 ok\r\n250 ok\r\n354 go\r\n").await;
            let (mut drops, mut last) = (vec![0; octets], Vec::new());
            while !last.ends_with(b"\r\n.\r\n") {
                let read = stream.read(&mut drops).await.unwrap();
                last = [&last[last.len().saturating_sub(4)..], &drops[..read]].concat();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            stream.write_all(b"250 taken\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        let began = Instant::now();
        let (report, trouble) = send_large(&network, Timeouts { least_pace, ..Timeouts::default() }).await;
        if too_slow {
            let Some(trouble @ Trouble::Slow { .. }) = trouble else { panic!("{trouble:?}") };
            // Three minutes, and what it has taken in them and since.
            assert!((5 * 60..10 * 60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
            assert!(trouble.to_string().contains("and that is too slow"), "{trouble}");
            assert!(!report.dot_sent && report.end.is_none());
        } else {
            assert!(trouble.is_none(), "{octets}: {trouble:?}");
            assert_eq!(report.end.unwrap().code(), 250);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_message_waits_for_nothing_that_comes_after_it() {
    for (rest, ready) in [("", true), ("25", false), ("250-\r\n", false), ("421 bye\r\n", false)] {
        let (network, listener) = listener().await;
        tokio::spawn(async move {
            let mut stream = accept(listener, "EHLO", "250 ok\r\n250 ok\r\n354 go\r\n").await;
            hear(&mut stream, "\r\n.\r\n").await;
            stream.write_all(format!("250 taken\r\n{rest}").as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut connection = open(&network, &hop()).await.unwrap();
        let envelope = Envelope::new(ReversePath::NULL, ["b@example.com".parse().unwrap()]);
        let (report, trouble) = connection.send(Transaction::new(envelope, Content::from("x"))).await;
        assert!(trouble.is_none() && report.end.is_some());
        assert_eq!(connection.is_ready(), ready, "{rest:?}");
    }
}

fn letter_to(recipients: usize) -> Transaction {
    let to = (0..recipients).map(|number| format!("bob{number}@example.com").parse().unwrap());
    Transaction::new(Envelope::new(ReversePath::NULL, to), Content::from("Subject: x\r\n\r\n"))
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_carried_messages_must_answer_the_next_mail_soon() {
    let (network, mut listener) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for say in ["220 hi\r\n", "250 mx.example.org\r\n", "550 5.1.8 no\r\n"] {
            stream.write_all(say.as_bytes()).await.unwrap();
            hear(&mut stream, "\r\n").await;
        }
        std::future::pending::<()>().await;
    });
    let mut connection = open(&network, &hop()).await.unwrap();
    let (report, trouble) = connection.send(letter_to(1)).await;
    assert!(trouble.is_none() && report.mail.is_some(), "{trouble:?}");
    let (report, trouble) = connection.send(letter_to(1)).await;
    assert!(matches!(trouble, Some(Trouble::Silent(KEPT_MAIL))) && report.mail.is_none(), "{trouble:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_each_of_many_recipients_just_in_time_is_not_waited_for_to_the_end() {
    const EACH: Duration = Duration::from_secs(299);
    let (network, mut listener) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 hi\r\n").await.unwrap();
        loop {
            hear(&mut stream, "\r\n").await;
            tokio::time::sleep(EACH).await;
            if stream.write_all(b"250 ok\r\n").await.is_err() {
                return;
            }
        }
    });
    let mut connection = open(&network, &hop()).await.unwrap();
    let began = Instant::now();
    let (report, trouble) = connection.send(letter_to(1000)).await;
    assert!(matches!(trouble, Some(Trouble::Long(ENVELOPE))), "{trouble:?}");
    assert_eq!(began.elapsed().as_secs(), ENVELOPE.as_secs());
    assert_eq!(report.recipients.iter().flatten().count(), 5, "each after MAIL");
    assert!(!report.is_uncertain(), "no content went out");
}
