//! The program's looks at a spool: `spool check`, `spool export`, and `queue list` at any size.
//!
//! Contract: the real binary, on spools that a real relay has written: in order, damaged, in use, and what is none.
//! Nothing is changed by a look. What is exported is what was sent, octet for octet, and can be submitted again.
//! Not here: what damage does to a start (`src/spool/crash.rs`), how the queue comes to its rows.

mod client;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use posthouse::admin::{self, Control, ROWS_MAX};
use posthouse::mail::{Address, Envelope, RouteTable};
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::Listed;
use posthouse::relay::{Relay, Settings};
use posthouse::route::Zone;

use client::{Client, PATIENCE};

fn posthouse(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command.env_clear().args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

/// A relay whose upstream is down, ended at the latest with this value.
struct Program {
    child: Child,
    said: Receiver<String>,
    address: SocketAddr,
}

impl Program {
    fn start(spool: &Path) -> Self {
        // Nobody listens there when it is dropped.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command.env_clear().env("POSTHOUSE_SPOOL__MIN_FREE", "1MiB");
        command.args(["run", "--listen", "127.0.0.1:0", "--upstream", &format!("smtp://{nobody}")]);
        let mut child = command.arg("--spool").arg(spool).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, said) = mpsc::channel();
        // Ends with the program's standard error.
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let mut program = Self { child, said, address: nobody };
        loop {
            let line = program.said.recv_timeout(PATIENCE).expect("the program goes on talking");
            if let Some((_, address)) = line.split_once("listening address=") {
                program.address = address.trim().parse().unwrap();
            }
            if line.contains(" ready ") {
                return program;
            }
        }
    }

    /// By SIGTERM, as a supervisor would.
    fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        while self.said.recv_timeout(PATIENCE).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Submits contents from alice to bob, and tells their queue ids.
async fn submit(to: SocketAddr, contents: &[Vec<u8>]) -> Vec<String> {
    let mut client = Client::connect(&Network::System, to).await;
    assert!(client.reply().await.starts_with("220 "));
    client.talk(&[("EHLO client.example.org", "250-")]).await;
    let mut ids = Vec::new();
    for content in contents {
        let to_bob = [
            ("MAIL FROM:<alice@example.org> BODY=8BITMIME RET=HDRS ENVID=a+2Bb", "250 "),
            ("RCPT TO:<bob@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@example.com", "250 "),
            ("DATA", "354 "),
        ];
        client.talk(&to_bob).await;
        client.send(content).await;
        let reply = client.say(".").await;
        ids.push(reply.split(' ').nth(2).unwrap().to_owned());
    }
    client.leave().await;
    ids
}

/// Files below `folder` with their octets and what `ls` tells of them; sockets come and go.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let facts = path.symlink_metadata().unwrap();
        if facts.is_dir() {
            all.extend(snapshot(&path));
            all.push((path, Vec::new(), facts.modified().unwrap()));
        } else if facts.is_file() {
            all.push((path.clone(), fs::read(&path).unwrap(), facts.modified().unwrap()));
        }
    }
    all.sort();
    all
}

fn contents() -> Vec<Vec<u8>> {
    let mut eight_bit: Vec<u8> = (0..200_000u32).map(|at| 0x80 | ((at * 31) >> 5) as u8).collect();
    for end in (900..eight_bit.len()).step_by(900) {
        eight_bit[end..end + 2].copy_from_slice(b"\r\n");
    }
    vec![
        b"Subject: the plan\r\n\r\nHello.\r\n".to_vec(),
        [b"Subject: 8 bit\r\n\r\n".as_slice(), &eight_bit, b"\r\n"].concat(),
        b"Subject: the third\r\n\r\nX-Envelope-To: <mallory@example.net>\r\n".to_vec(),
        // Large enough for a file of its own.
        [b"Subject: large\r\n\r\n".to_vec(), b"as long as a line may well be\r\n".repeat(70_000)].concat(),
    ]
}

const ENVELOPE: &str = "Return-Path: <alice@example.org>\r\n\
    X-Envelope-Parameters: BODY=8BITMIME RET=HDRS ENVID=a+2Bb\r\n\
    X-Envelope-To: <bob@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@example.com\r\n";

#[tokio::test]
async fn a_message_is_exported_octet_for_octet_while_posthouse_runs_and_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let at = spool.to_str().unwrap();
    let relay = Program::start(&spool);
    let contents = contents();
    let ids = submit(relay.address, &contents).await;
    let mut kept = Vec::new();
    for (id, content) in ids.iter().zip(&contents) {
        let file = folder.path().join(format!("{id}.eml"));
        let to_file = posthouse(&[
            "spool",
            "export",
            id,
            "--spool",
            at,
            "--content-only",
            "-o",
            file.to_str().unwrap(),
        ]);
        assert_eq!((code(&to_file), err(&to_file).as_str()), (0, ""));
        let octets = fs::read(&file).unwrap();
        assert!(octets.starts_with(b"Received: from client.example.org") && octets.ends_with(content));
        assert_eq!(octets[octets.len() - content.len() - 2..][..2], *b"\r\n", "the trace field ends there");
        let whole = posthouse(&["spool", "export", id, "--spool", at]);
        assert_eq!(whole.stdout, [ENVELOPE.as_bytes(), &octets].concat());
        kept.push((file, octets));
    }
    let told = json(&posthouse(&["spool", "export", &ids[0], "--spool", at, "--format", "json"]));
    assert_eq!((&told["reverse_path"], &told["envid"]), (&"alice@example.org".into(), &"a+b".into()));
    assert_eq!(told["recipients"][0]["address"], "bob@example.com");
    let again = posthouse(&["spool", "export", &ids[0], "--spool", at, "-o", kept[0].0.to_str().unwrap()]);
    assert_eq!(code(&again), 1, "nothing is written over");
    assert!(err(&again).contains(": File exists"), "{}", err(&again));

    let server = relay.address.to_string();
    let file = kept[1].0.to_str().unwrap();
    let sent = posthouse(&[
        "send",
        "--server",
        &server,
        "--from",
        "alice@example.org",
        "--to",
        "bob@example.com",
        file,
    ]);
    assert_eq!(code(&sent), 0, "{}", err(&sent));
    let rows = json(&posthouse(&["queue", "list", "--spool", at, "--format", "json"]));
    let new = rows.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    assert!(!ids.contains(&new));
    let resent = posthouse(&["spool", "export", &new, "--spool", at, "--content-only"]).stdout;
    assert!(resent.ends_with(&kept[1].1), "the same message, with one more trace field on top");

    let unknown = posthouse(&["spool", "export", "000000000001", "--spool", at]);
    assert_eq!(code(&unknown), 1);
    assert!(err(&unknown).contains("posthouse track --id 000000000001"), "{}", err(&unknown));
    relay.stop();
    let stopped = posthouse(&["spool", "export", &ids[2], "--spool", at, "--content-only"]);
    assert_eq!(stopped.stdout, kept[2].1);
}

#[tokio::test]
async fn a_spool_is_checked_when_nobody_runs_on_it_and_each_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let at = spool.to_str().unwrap();
    let relay = Program::start(&spool);
    let ids = submit(relay.address, &contents()).await;
    let pid = relay.child.id();
    let running = posthouse(&["spool", "check", "--spool", at]);
    assert_eq!((code(&running), out(&running).as_str()), (2, ""));
    let expected =
        format!("posthouse runs on the spool folder {at} (process {pid}), and what is in it would change");
    assert!(err(&running).contains(&expected), "{}", err(&running));
    let nothing = posthouse(&["queue", "list", "--quarantined", "--spool", at]);
    assert_eq!(out(&nothing), "Nothing is quarantined.\n");
    let nothing = posthouse(&["queue", "list", "--quarantined", "--spool", at, "--format", "json"]);
    assert_eq!(out(&nothing), "[]\n");
    relay.stop();

    let before = snapshot(&spool);
    let good = posthouse(&["spool", "check", "--spool", at]);
    assert_eq!((code(&good), err(&good).as_str()), (0, ""), "{}", out(&good));
    assert_eq!(out(&good).lines().last(), Some("The spool is in order."));
    assert!(out(&good).contains("\nMessages    4 wait, "), "{}", out(&good));
    let told = json(&posthouse(&["spool", "check", "--spool", at, "--format", "json"]));
    assert_eq!((&told["in_order"], &told["messages"]), (&true.into(), &4.into()));
    assert!(told["live_octets"].as_u64().unwrap() > 2_300_000, "{told}");
    assert_eq!(snapshot(&spool), before, "a look changes nothing");

    let segment = told["segments"][0]["file"].as_str().unwrap().to_owned();
    let mut octets = fs::read(spool.join(&segment)).unwrap();
    let place = octets.windows(6).position(|six| six == b"8 bit\r").expect("the subject of the second");
    octets[place + 50] ^= 0x10;
    fs::write(spool.join(&segment), &octets).unwrap();
    let before = snapshot(&spool);
    let bad = posthouse(&["spool", "check", "--spool", at]);
    assert_eq!(code(&bad), 1);
    let line = out(&bad).lines().find(|line| line.contains("wrong checksum")).unwrap().to_owned();
    assert!(line.starts_with(&segment) && line.contains(&ids[1]), "{line}");
    assert!(
        out(&bad).lines().last().unwrap().starts_with("The spool is damaged in 1 place: "),
        "{}",
        out(&bad)
    );
    let told = json(&posthouse(&["spool", "check", "--spool", at, "--format", "json"]));
    assert_eq!((&told["in_order"], &told["messages"]), (&false.into(), &3.into()));
    let export = posthouse(&["spool", "export", &ids[1], "--spool", at]);
    assert_eq!((code(&export), export.stdout.len()), (1, 0));
    assert!(err(&export).contains(&format!("message {} is damaged on disk", ids[1])), "{}", err(&export));
    assert_eq!(code(&posthouse(&["spool", "export", &ids[2], "--spool", at])), 0);
    assert_eq!(snapshot(&spool), before, "a look at damage changes nothing either");

    // So that the start reads the segment.
    let files = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|is| is == "hint"))
        .for_each(|file| fs::remove_file(file).unwrap());
    let relay = Program::start(&spool);
    let listed = json(&posthouse(&["queue", "list", "--quarantined", "--spool", at, "--format", "json"]));
    let [piece] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&piece["id"], &piece["kind"]), (&ids[1].as_str().into(), &"record".into()));
    let told = out(&posthouse(&["queue", "list", "--quarantined", "--spool", at]));
    assert!(told.contains(&format!("\n1 piece lies in {at}/quarantine; ")), "{told}");
    let queue = out(&posthouse(&["queue", "list", "--spool", at]));
    assert!(queue.contains("\n1 damaged piece of the spool was set aside; "), "{queue}");
    relay.stop();
    let after = posthouse(&["spool", "check", "--spool", at]);
    assert_eq!(code(&after), 0, "the start has set it aside: {}", out(&after));
    assert!(out(&after).contains("\nMessages    3 wait, "), "{}", out(&after));
    assert!(out(&after).contains(piece["file"].as_str().unwrap()), "{}", out(&after));

    let content = spool.join(format!("{}.content", ids[3]));
    let mut octets = fs::read(&content).unwrap();
    octets[1_000_000] ^= 1;
    fs::write(&content, &octets).unwrap();
    let bad = json(&posthouse(&["spool", "check", "--spool", at, "--format", "json"]));
    assert_eq!((&bad["messages"], &bad["contents"]["files"]), (&2.into(), &1.into()));
    let [fault] = &bad["damages"].as_array().unwrap()[..] else { panic!("{bad}") };
    assert_eq!(fault["file"], content.file_name().unwrap().to_str().unwrap());
    assert_eq!(fault["reason"], "the content file is missing, or has a wrong checksum");
    let export = posthouse(&["spool", "export", &ids[3], "--spool", at]);
    assert_eq!((code(&export), export.stdout.len()), (1, 0), "{}", err(&export));
    fs::remove_file(&content).unwrap();
    let bad = json(&posthouse(&["spool", "check", "--spool", at, "--format", "json"]));
    assert_eq!((&bad["messages"], bad["damages"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(!content.exists());
}

#[test]
fn what_is_no_spool_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, other) = (folder.path().join("empty"), folder.path().join("other"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "of somebody").unwrap();
    let missing = folder.path().join("missing");
    let before = snapshot(folder.path());
    for (path, said) in [
        (&empty, "is not the folder of a spool: it has no segments"),
        (&other, "is not the folder of a spool: it has no segments"),
        (&missing, "name a folder that exists, as a user who may read it: No such file"),
        (&other.join("letter.txt"), "name a folder that exists"),
    ] {
        let path = path.to_str().unwrap();
        let check = posthouse(&["spool", "check", "--spool", path]);
        assert_eq!((code(&check), out(&check).as_str()), (2, ""), "{path}");
        assert!(err(&check).contains(said) && err(&check).contains(path), "{}", err(&check));
        let export = posthouse(&["spool", "export", "000000000001", "--spool", path]);
        assert_eq!(code(&export), 1, "{path}");
        assert!(err(&export).contains(said), "{}", err(&export));
    }
    assert_eq!(snapshot(folder.path()), before);
}

/// A relay in memory whose upstream is nowhere, with this many messages.
async fn crowded(messages: usize) -> Relay {
    let mut settings = Settings::new("relay.example.org");
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    let builder = Relay::builder(settings).network(Network::Memory(MemoryNetwork::new()));
    let relay = builder.names(Arc::new(Zone::new())).start().await.unwrap();
    let sender: Address = "alice@example.org".parse().unwrap();
    for number in 0..messages {
        let to: Address = format!("bob{number}@example.com").parse().unwrap();
        relay.submit(Envelope::new(sender.clone().into(), [to]), "Subject: x\r\n\r\n").await.unwrap();
    }
    relay
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_is_listed_whole_in_pages_and_each_message_once() {
    let messages = ROWS_MAX + 50;
    let relay = crowded(messages).await;
    let folder = tempfile::tempdir().unwrap();
    let _control = Control::start(relay.clone(), folder.path()).unwrap();
    let client = admin::Client::new(folder.path());
    for query in ["/v1/queue", "/v1/queue?most=0", "/v1/queue?most=1000000"] {
        let rows: Vec<Listed> = client.get(query).await.unwrap();
        assert_eq!(rows.len(), ROWS_MAX, "{query}");
        let rest: Vec<Listed> =
            client.get(&format!("/v1/queue?after={}", rows[ROWS_MAX - 1].id)).await.unwrap();
        assert_eq!(rest.len(), 50, "{query}");
        assert!(rest[0].id > rows[ROWS_MAX - 1].id);
    }

    let at = folder.path().to_str().unwrap().to_owned();
    let list = async |arguments: &[&str]| {
        let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        arguments.splice(0..0, ["queue".into(), "list".into(), "--spool".into(), at.clone()]);
        let run = move || posthouse(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    for (most, expected) in [("0", messages), ("1500", 1500), ("1000", 1000), ("1", 1)] {
        let listed = list(&["--most", most, "--format", "json"]).await;
        let rows: Vec<Listed> = serde_json::from_slice(&listed.stdout).unwrap();
        let ids: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!((rows.len(), ids.len()), (expected, expected), "--most {most}");
        assert!(rows.is_sorted_by_key(|row| row.id), "the oldest first");
    }
    // The last page of a search may be the first, and empty.
    let none = list(&["--recipient", "carol", "--most", "0", "--format", "json"]).await;
    assert_eq!(out(&none), "[]\n");
    let few = list(&["--recipient", "bob1004", "--format", "json"]).await;
    assert_eq!(json(&few).as_array().unwrap().len(), 11, "bob1004 and bob10040 to bob10049");

    let table = out(&list(&["--most", "2500"]).await);
    assert_eq!(table.lines().filter(|line| line.starts_with("ID ")).count(), 1);
    assert_eq!(table.lines().filter(|line| line.contains("@example.com")).count(), 2500);
    assert!(table.contains(&format!("\n2500 of {messages} messages\n")), "{}", &table[table.len() - 600..]);
    assert!(table.contains("main takes no mail since "));
    relay.shutdown(PATIENCE).await.unwrap();
}
