//! The program's looks at sessions: `track --session`, `track --sessions`, `track --watch`, and the way there from a REJECT.
//!
//! Contract: the real binary over loopback.
//! Not here: which sessions are kept (`tests/sessions.rs`).

mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use program::{PATIENCE, Program, posthouse};

/// Says these lines, each after the reply to the one before, and closes.
fn session(with: &Program, lines: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(with.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut heard = Vec::new();
    let mut reply = || loop {
        let line = replies.next().expect("the server goes on").expect("and is in time");
        if line.as_bytes()[3] == b' ' {
            heard.push(line);
            return;
        }
    };
    reply();
    for line in lines {
        (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        reply();
    }
    heard
}

fn track(spool: &Path, arguments: &[&str]) -> Output {
    posthouse(["track"]).args(arguments).arg("--spool").arg(spool).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asks again until the log has this many lines: it is written a moment after the reply.
fn lines(spool: &Path, arguments: &[&str], count: usize) -> Vec<serde_json::Value> {
    // Each look is a program of its own, so that these are some seconds at least.
    for _ in 0..2000 {
        let text = out(&track(spool, arguments));
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "{text}");
            return lines;
        }
    }
    panic!("{arguments:?} never comes to {count} lines");
}

#[test]
fn from_a_refusal_to_all_that_was_said_in_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let program = Program::start(&spool);
    let refused = ["EHLO client.example.org", "MAIL FROM:<alice@example.org>", "RCPT TO:<>", "QUIT"];
    assert!(session(&program, &refused)[3].starts_with('5'));
    let well =
        ["EHLO client.example.org", "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.com>", "DATA"];
    session(&program, &[&well[..], &["Subject: x\r\n\r\n.", "QUIT"]].concat());

    let kept = lines(&spool, &["--sessions", "--client", "127.0.0.1", "--format", "json"], 1);
    assert_eq!(kept[0]["refusals"], 1);
    let id = kept[0]["session"].as_str().unwrap();
    let table = out(&track(&spool, &["--sessions"]));
    assert!(
        table.starts_with("BEGAN ") && table.contains(id) && table.contains("client or server"),
        "{table}"
    );
    assert!(out(&track(&spool, &["--sessions", "--format", "csv"])).contains(&format!(",{id},127.0.0.1,")));
    assert_eq!(out(&track(&spool, &["--sessions", "--client", "192.0.2.7"])), "");

    let screen = out(&track(&spool, &["--session", id]));
    for part in [
        &format!("Session  {id}\n")[..],
        "Client   127.0.0.1, says it is client.example.org\n",
        "Look at  client or server. We refused something",
        "  C  RCPT TO:<>\n",
        "What was reported of it\n",
        "  SESSION  ",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    let whole: serde_json::Value =
        serde_json::from_str(&out(&track(&spool, &["--session", id, "--format", "json"]))).unwrap();
    assert_eq!(whole["session"], kept[0]);
    assert_eq!(whole["side"], "client or server");
    assert_eq!(whole["events"][0]["event"], "SESSION");

    // The session of the message that was taken is known by its events, and no more.
    let received = lines(&spool, &["--event", "RECEIVE", "--format", "json"], 1);
    let well = out(&track(&spool, &["--session", received[0]["session"].as_str().unwrap()]));
    assert!(
        well.contains("What was said in it is not kept. It went well") && well.contains("RECEIVE"),
        "{well}"
    );
    let unknown = track(&spool, &["--session", "00000000"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no session 00000000") && said.contains("older than [tracking] keep"), "{said}");
}

#[test]
fn a_client_is_watched_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let nobody = track(&spool, &["--watch", "127.0.0.1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("no posthouse runs on"));
    let program = Program::start(&spool);
    let said = out(&track(&spool, &["--watch", "127.0.0.1", "--for", "30m"]));
    assert!(
        said.starts_with("127.0.0.1/32 is watched for another 30 minutes") || said.contains("29 minutes"),
        "{said}"
    );
    assert_eq!(out(&track(&spool, &["--watched"])), said);
    session(&program, &["EHLO client.example.org", "QUIT"]);
    let kept = lines(&spool, &["--sessions", "--format", "json"], 1);
    assert_eq!(kept[0]["ended"], "quit");
    assert_eq!(out(&track(&spool, &["--unwatch", "127.0.0.1"])), "nobody is watched\n");
    assert_eq!(track(&spool, &["--unwatch", "127.0.0.1"]).status.code(), Some(1));
    assert_eq!(track(&spool, &["--watch", "somebody"]).status.code(), Some(2));
    assert_eq!(track(&spool, &["--watch", "127.0.0.1", "--for", "2d"]).status.code(), Some(1));
}
