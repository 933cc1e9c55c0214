//! Upstreams as a client sees them, octet for octet.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::lab::FRIDAY_NOON;
use crate::net::{ClientTls, MemoryNetwork, Stream, TlsCheck};

const LIMIT: Duration = Duration::from_secs(30);

struct Bench {
    network: Network,
    upstream: Upstream,
}

async fn bench(rules: &[&str]) -> Bench {
    let network = Network::Memory(MemoryNetwork::new());
    let clock = Clock::simulated(FRIDAY_NOON, 7);
    let mut script = Script::new(FRIDAY_NOON, 7);
    for rule in rules {
        script.add(rule.parse().unwrap_or_else(|error| panic!("{rule}: {error}")));
    }
    let address = "192.0.2.10:25".parse().unwrap();
    let offers = Offers { starttls: true, ..Offers::default() };
    let upstream = Upstream::start_with(&network, address, &clock, script, offers).await.unwrap();
    Bench { network, upstream }
}

impl Bench {
    async fn connect(&self) -> std::io::Result<Stream> {
        self.network.connect(self.upstream.address(), LIMIT).await
    }

    /// Sends everything at once and reads until the upstream closes, or says nothing more for an hour.
    async fn talk(&self, input: &str) -> String {
        let mut stream = self.connect().await.expect("the upstream listens");
        let _ = stream.write_all(input.as_bytes()).await;
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(3600), stream.read_to_end(&mut said)).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The codes of all replies.
    async fn codes(&self, input: &str) -> String {
        let said = self.talk(input).await;
        let last = said.lines().filter(|line| line.get(3..4) != Some("-"));
        last.map(|line| line.get(..3).unwrap_or(line)).collect::<Vec<_>>().join(" ")
    }
}

const LETTER: &str = "EHLO client.example\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n\
                      Subject: dots\r\n\r\n..\r\n.\r\nQUIT\r\n";

#[tokio::test(start_paused = true)]
async fn takes_everything_where_the_script_is_silent() {
    let bench = bench(&[]).await;
    assert_eq!(bench.codes(LETTER).await, "220 250 250 250 354 250 221");
    let received = bench.upstream.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].content, "Subject: dots\r\n\r\n.\r\n");
    assert_eq!(received[0].envelope.recipients[0].address.as_str(), "bob@example.com");
    let stages: Vec<String> = bench.upstream.asked().iter().map(|asked| asked.stage.to_string()).collect();
    assert_eq!(stages.join(" "), "connect greeting ehlo mail rcpt data content dot quit");
}

#[tokio::test(start_paused = true)]
async fn says_what_the_script_says_at_each_stage() {
    // Content whose DATA was refused is read as commands.
    for (rule, codes) in [
        ("greeting: 421 4.3.2 come back later", "421"),
        ("greeting: 554 5.7.1 no service", "554 503 503 503 503 500 500 500 500 221"),
        ("ehlo: 502 5.5.1 what?", "220 502 503 503 503 500 500 500 500 221"),
        ("mail alice@*: 451 4.1.8 who?", "220 250 451 503 503 500 500 500 500 221"),
        ("rcpt bob@*: 550 5.1.1 nobody\\nreally nobody", "220 250 250 550 554 500 500 500 500 221"),
        ("data: 451 4.3.0 not now", "220 250 250 250 451 500 500 500 500 221"),
        ("dot: 452 4.2.2 full", "220 250 250 250 354 452 221"),
        ("dot: 250 2.6.0 queued elsewhere", "220 250 250 250 354 250 221"),
        ("mail *: 354 go ahead", "220 250 354 503 503 500 500 500 500 221"),
        ("content: close", "220 250 250 250 354"),
        ("content: 421 4.3.0 enough", "220 250 250 250 354 421"),
        ("dot: close", "220 250 250 250 354"),
        ("dot: silence", "220 250 250 250 354"),
        ("rcpt *: 421 4.7.0 too much", "220 250 250 421"),
        ("quit: 221 2.0.0 and stay away", "220 250 250 250 354 250 221"),
        ("connect: close", ""),
    ] {
        let bench = bench(&[rule]).await;
        assert_eq!(bench.codes(LETTER).await, codes, "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_or_loses_a_message_whatever_it_answers() {
    for (rule, codes, kept) in [
        ("dot: keep and close", "220 250 250 250 354", 1),
        ("dot: keep and silence", "220 250 250 250 354", 1),
        ("dot: lose", "220 250 250 250 354 250 221", 0),
        ("dot: reset", "220 250 250 250 354", 0),
    ] {
        let bench = bench(&[rule]).await;
        assert_eq!(bench.codes(LETTER).await, codes, "{rule}");
        assert_eq!(bench.upstream.received().len(), kept, "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_refused_or_reset_as_the_script_says() {
    use std::io::ErrorKind;
    for (rule, kind) in [
        ("connect: refuse", ErrorKind::ConnectionRefused),
        ("connect: unreachable", ErrorKind::HostUnreachable),
    ] {
        assert_eq!(bench(&[rule]).await.connect().await.unwrap_err().kind(), kind);
    }
    let bench = bench(&["connect attempt 2: refuse", "connect: reset"]).await;
    let mut stream = bench.connect().await.unwrap();
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(bench.connect().await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "the second attempt");
    assert!(bench.connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn delays_and_drips_take_their_time() {
    let bench = bench(&["greeting: delay 10s, accept", "ehlo: drip 1s, 250 hello"]).await;
    let clock = Clock::simulated(FRIDAY_NOON, 7);
    let mut stream = bench.connect().await.unwrap();
    let mut said = [0; 512];
    let octets = stream.read(&mut said).await.unwrap();
    assert!(said[..octets].starts_with(b"220 "));
    assert_eq!(clock.now().since(FRIDAY_NOON).as_secs(), 10);
    stream.write_all(b"EHLO client.example\r\n").await.unwrap();
    for octet in b"250 hello\r\n" {
        assert_eq!(stream.read_u8().await.unwrap(), *octet);
    }
    assert_eq!(clock.now().since(FRIDAY_NOON).as_secs(), 21);
}

#[tokio::test(start_paused = true)]
async fn hides_extensions_and_takes_any_password() {
    let bench = bench(&["ehlo: without DSN pipelining"]).await;
    let said = bench.talk("EHLO client.example\r\nAUTH LOGIN\r\nbWU=\r\nc2VjcmV0\r\nAUTH PLAIN AG1lAHNlY3JldA==\r\nQUIT\r\n").await;
    assert!(said.contains("250-SIZE") && said.contains("250 AUTH PLAIN LOGIN"), "{said}");
    assert!(!said.contains("DSN") && !said.contains("PIPELINING"), "{said}");
    assert_eq!(said.matches("235 2.7.0").count(), 2, "{said}");
    assert!(said.ends_with("221 2.0.0 closing the connection\r\n"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn magic_addresses_need_no_script() {
    let bench = bench(&[]).await;
    let letter = LETTER.replace("bob@", "451-2times@");
    for expected in ["451 554", "451 554", "250 354"] {
        assert!(bench.codes(&letter).await.starts_with(&format!("220 250 250 {expected}")), "{expected}");
    }
    assert_eq!(bench.upstream.received().len(), 1);
}

/// A handshake against what the rule says, by a client that trusts the upstream's own certificate.
async fn handshake(rule: &[&str]) -> Result<Stream, crate::net::TlsError> {
    let bench = bench(rule).await;
    let mut stream = bench.connect().await.unwrap();
    stream.write_all(b"EHLO client.example\r\nSTARTTLS\r\n").await.unwrap();
    let mut said = String::new();
    while !said.contains("\r\n220 ") {
        let mut octets = [0; 512];
        let read = stream.read(&mut octets).await.unwrap();
        said.push_str(&String::from_utf8_lossy(&octets[..read]));
        if said.starts_with("220 ") {
            said.insert_str(0, "greeting: ");
        }
    }
    let tls = ClientTls::trusting([bench.upstream.authority().into()]).unwrap();
    stream.start_tls_client(&tls, TlsCheck::Verified, "upstream.example", LIMIT).await
}

#[tokio::test(start_paused = true)]
async fn certificates_are_good_unless_the_script_says_otherwise() {
    handshake(&[]).await.expect("the good certificate is trusted");
    for kind in ["expired", "wrong-name", "self-signed"] {
        let rule = format!("starttls: certificate {kind}");
        let said = handshake(&[rule.as_str()]).await.unwrap_err().to_string().to_lowercase();
        let fault = match kind {
            "expired" => "expired",
            "wrong-name" => "not valid for",
            _ => "not from an authority",
        };
        assert!(said.contains(fault), "{kind}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn starttls_is_offered_while_a_rule_speaks_of_it() {
    let network = Network::Memory(MemoryNetwork::new());
    let clock = Clock::simulated(FRIDAY_NOON, 7);
    let script = Script::new(FRIDAY_NOON, 7);
    let upstream = Upstream::start(&network, "192.0.2.10:25".parse().unwrap(), &clock, script).await.unwrap();
    let bench = Bench { network, upstream };
    let offers = async || bench.talk("EHLO client.example\r\nQUIT\r\n").await.contains("STARTTLS");
    assert!(!offers().await);
    let rule = bench.upstream.say("starttls: accept".parse().unwrap());
    assert!(offers().await);
    bench.upstream.forget(rule);
    assert!(!offers().await);
}

#[tokio::test(start_paused = true)]
async fn the_script_changes_while_it_runs() {
    let bench = bench(&["rcpt *: 550 5.1.1 nobody"]).await;
    let number = bench.upstream.say("rcpt bob@example.com: 451 4.7.1 later, 1 times".parse().unwrap());
    assert!(bench.codes(LETTER).await.starts_with("220 250 250 451"));
    assert!(bench.codes(LETTER).await.starts_with("220 250 250 550"), "the new rule is spent");
    assert!(bench.upstream.forget(number) && !bench.upstream.forget(number));
    assert_eq!(bench.upstream.rules().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tells_what_is_new_since_it_was_looked_last() {
    let bench = bench(&[]).await;
    bench.codes(LETTER).await;
    let (known, first) = bench.upstream.asked_since(0);
    assert_eq!((known, first.len()), (9, 9));
    assert_eq!(bench.upstream.asked_since(known), (known, Vec::new()));
    bench.codes(LETTER).await;
    let (_, second) = bench.upstream.asked_since(known);
    assert_eq!((second.len(), second[1].session), (9, 2));
    let numbers = |number| {
        bench.upstream.received_since(number).iter().map(|message| message.number).collect::<Vec<_>>()
    };
    assert_eq!((numbers(0), numbers(1), numbers(2)), (vec![1, 2], vec![2], vec![]));
    assert_eq!(bench.upstream.newest(|message| message.content.contains("dots")).unwrap().number, 2);
    assert_eq!(bench.upstream.newest(|message| message.number > 2), None);
}

#[tokio::test]
async fn a_real_port_is_free_again_once_the_upstream_is_dropped() {
    let upstream = Upstream::on_port(["connect: refuse, once"]).await.unwrap();
    let address = upstream.address();
    let mut stream = Network::System.connect(address, LIMIT).await.unwrap();
    assert!(stream.read(&mut [0; 9]).await.is_err(), "a refusal on a real port is a reset");
    let mut stream = Network::System.connect(address, LIMIT).await.unwrap();
    assert!(stream.read(&mut [0; 9]).await.unwrap() > 0);
    drop((upstream, stream));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        if Network::System.connect(address, LIMIT).await.is_err() {
            return;
        }
    }
    panic!("it still listens");
}

#[tokio::test(start_paused = true)]
async fn octets_go_out_as_they_are_and_what_they_begin_with_decides_whether_it_goes_on() {
    for (rule, codes, kept) in [
        (r"rcpt *: raw 250 yes\x00\r\n", "220 250 250 250 354 250 221", 1),
        (r"rcpt *: raw what?\r\n", "220 250 250 wha 554 500 500 500 500 221", 0),
        (r"data: raw 354 go\r\n250 and done\r\n", "220 250 250 250 354 250 250 221", 1),
        (r"ehlo: raw 250-x\r\n250 SIZE =1\r\n", "220 250 250 250 354 250 221", 1),
        (r"dot: raw 250 2.0.0 fine\n", "220 250 250 250 354 250 221", 1),
        (r"dot: raw 25\r\n", "220 250 250 250 354 25 221", 1),
        ("mail nth 2: 421 4.7.0 one is enough", "220 250 250 250 354 250 221", 1),
        ("rcpt nth 1: 452 4.5.3 too many", "220 250 250 452 554 500 500 500 500 221", 0),
    ] {
        let bench = bench(&[rule]).await;
        assert_eq!(bench.codes(LETTER).await, codes, "{rule}");
        assert_eq!(bench.upstream.received().len(), kept, "{rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_ends_behind_what_is_said_or_half_of_it_does() {
    for (rule, codes) in [
        ("greeting: closing, 554 5.7.1 no", "554"),
        ("rcpt *: closing, 550 5.1.1 no", "220 250 250 550"),
        ("dot: closing, accept", "220 250 250 250 354 250"),
        ("mail *: half-close", "220 250"),
    ] {
        assert_eq!(bench(&[rule]).await.codes(LETTER).await, codes, "{rule}");
    }
    let stalled = bench(&["mail *: stall"]).await;
    let mut stream = stalled.connect().await.unwrap();
    stream.write_all(b"EHLO client.example\r\nMAIL FROM:<alice@example.org>\r\n").await.unwrap();
    let more = vec![b'x'; 1 << 20];
    let writing = tokio::time::timeout(Duration::from_secs(3600), stream.write_all(&more)).await;
    assert!(writing.is_err(), "nobody reads");
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_by_itself_or_with_the_client() {
    for (rule, begins) in
        [("ehlo: flood line", "250 and on and"), ("ehlo: flood lines", "250 250-and on\r\n250-")]
    {
        let flooding = bench(&[rule]).await;
        let said = flooding.talk("EHLO client.example\r\n").await;
        let said = &said[said.find("\r\n").unwrap() + 2..];
        assert!(said.starts_with(begins), "{}", &said[..40]);
        assert!((15 << 20..=16 << 20).contains(&said.len()), "{}", said.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_gone_ahead_with_and_does_not_come() {
    for fault in ["garbage", "close", "reset", "silence"] {
        let error = handshake(&[&format!("starttls: handshake {fault}")]).await.unwrap_err();
        let timed_out = matches!(error, crate::net::TlsError::TimedOut(_));
        assert_eq!(timed_out, fault == "silence", "{fault}: {error}");
    }
}
