//! The live lab as people use it: the real program, started, watched, told, asked and ended.
//!
//! Contract: `lab up --until-quiet` tells a deferral, a delay notice that says how long it goes on, a delivery and a
//! bounce, then ends well and leaves nothing behind. A lab that stays up takes rules and mail while it runs, shows what
//! came, and is gone after SIGTERM; so is the upstream alone.
//! Invariants: only processes that a test has started are ended, each test has a folder of its own, and each wait has
//! an end.
//! Not here: the words of every event (unit tests of the program's `lab/narrate.rs`), what rules do (`lab::script`).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");
/// For one line, or one end: far beyond what is needed, also with all cores at work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `posthouse lab ...` that runs.
struct Lab {
    child: Child,
    lines: Receiver<String>,
    told: String,
    dir: PathBuf,
}

impl Lab {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("lab").args(arguments).arg("--dir").arg(dir);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program is built");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, told: String::new(), dir: dir.to_owned() }
    }

    /// The first line from here on that has `words`.
    fn line_with(&mut self, words: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("{words:?} was not told; this was:\n{}", self.told);
            };
            self.told += &format!("{line}\n");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The end of a lab that ends by itself, or was told to: all lines. Panics when it did not end well.
    fn ended(mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.told += &format!("{line}\n");
        }
        let status = match self.child.try_wait().expect("it is ours") {
            Some(status) => status,
            // Its standard output is closed: it is about to end.
            None => self.child.wait().expect("it is ours"),
        };
        assert!(status.success(), "{status}\n{}", self.told);
        std::mem::take(&mut self.told)
    }

    fn terminate(self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        self.ended()
    }

    /// `posthouse lab ...` against this one.
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("lab").args(arguments).arg("--dir").arg(&self.dir);
        command.output().expect("the program is built")
    }

    fn answer(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

/// A test that fails leaves no process behind.
impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address with a port that a line names.
fn address(line: &str) -> String {
    let mut words = line.split_whitespace();
    words.find(|word| word.parse::<std::net::SocketAddr>().is_ok()).expect("an address").to_owned()
}

fn send(server: &str, to: &str, content: &str) {
    use std::io::Write;
    let mut command = Command::new(PROGRAM);
    command.args(["send", "--server", server, "--from", "alice@example.org", "--to", to]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program is built");
    child.stdin.take().expect("it is piped").write_all(content.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it is ours").success(), "{to} was not taken");
}

#[test]
fn the_first_lab_tells_a_deferral_a_delay_a_delivery_and_a_bounce_and_leaves_nothing_behind() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("lab");
    let lab = Lab::start(&dir, &["up", "--until-quiet", "--speed", "36000", "--listen", "127.0.0.1:0"]);
    let told = lab.ended();
    for words in [
        "bob@example.com, attempt 1: delivered",
        "451-3times@example.com, attempt 4: delivered",
        "451 means: not now",
        "550@example.com, attempt 1: refused for good",
        "next try in",
        "gives up in 1 day",
        "message to full@example.com is delayed",
        "will keep trying for 1 day",
        "full@example.com, attempt 5",
        "the time for this message is over",
        "could not be delivered",
        "4 messages: delivered to 3 recipients, failed for 2",
        "3 notices to senders; 0 messages still wait",
    ] {
        assert!(told.contains(words), "{words:?} is missing in\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "no colours where no terminal is");
    assert!(!dir.exists(), "its folder is gone");
}

#[test]
fn a_lab_that_stays_up_takes_rules_and_mail_while_it_runs_and_shows_what_came() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("lab");
    let mut lab = Lab::start(&dir, &["up", "--no-samples", "--speed", "36000", "--listen", "127.0.0.1:0"]);
    let relay = address(&lab.line_with("takes mail by SMTP"));
    lab.line_with("Join in");

    let said = lab.answer(&["say", "rcpt dora@example.test: 451 4.7.1 try later, 2 times"]);
    assert!(said.contains("rule 1 "), "{said}");
    lab.line_with("new rule, number 1: rcpt dora@example.test: 451");
    send(&relay, "dora@example.test", "Subject: for \u{1b}[31mDora\n\nHello\u{7}\n");
    lab.line_with("by SMTP from [127.0.0.1]");
    lab.line_with("said: 451 4.7.1 try later");
    lab.line_with("dora@example.test, attempt 3: delivered");

    let rules: serde_json::Value =
        serde_json::from_str(&lab.answer(&["say", "--list", "--format", "json"])).unwrap();
    assert_eq!((&rules[0]["number"], &rules[0]["used"]), (&1.into(), &2.into()), "{rules}");
    let inbox: serde_json::Value = serde_json::from_str(&lab.answer(&["inbox", "--format", "json"])).unwrap();
    assert_eq!(inbox.as_array().unwrap().len(), 1, "{inbox}");
    assert_eq!(inbox[0]["recipients"][0], "dora@example.test");
    let shown = lab.answer(&["inbox", "1"]) + &lab.answer(&["inbox"]);
    assert!(shown.contains("for ?[31mDora") && !shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    assert!(lab.answer(&["inbox", "1", "--raw"]).contains("Hello\u{7}\r\n"));
    let asked: serde_json::Value = serde_json::from_str(&lab.answer(&["asked", "--format", "json"])).unwrap();
    let decided: Vec<_> = asked.as_array().unwrap().iter().filter(|row| row["rule"] == 1).collect();
    assert_eq!(decided.len(), 2, "{asked}");
    assert_eq!((&decided[0]["stage"], &decided[0]["about"]), (&"rcpt".into(), &"dora@example.test".into()));
    assert!(lab.answer(&["asked"]).contains("451 4.7.1 try later"));
    // The relay's own requests are answered on the same socket.
    let queue = Command::new(PROGRAM).args(["queue", "list", "--spool"]).arg(&dir).output().unwrap();
    assert!(queue.status.success(), "{}", String::from_utf8_lossy(&queue.stderr));

    assert!(lab.answer(&["say", "--forget", "1"]).contains("rule 1 is forgotten"));
    lab.line_with("forgotten its rule 1");
    let told = lab.terminate();
    assert!(told.contains("1 message: delivered to 1 recipient"), "{told}");
    assert!(!dir.exists(), "its folder is gone");
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("lab");
    let mut lab = Lab::start(&dir, &["up", "--no-samples", "--listen", "127.0.0.1:0"]);
    lab.line_with("Join in");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = lab.ask(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        for words in words {
            assert!(told.contains(words), "{words:?} is missing in\n{told}");
        }
    };
    refused(
        &["say", "rctp bob@example.com: 451 x"],
        2,
        &["    | rctp bob", "\n    | ^^^^\n", "hint", "rcpt"],
    );
    refused(&["say", "--forget", "7"], 1, &["no rule 7", "--list"]);
    refused(&["inbox", "7"], 1, &["no message 7"]);
    refused(&["up", "--no-samples", "--listen", "127.0.0.1:0"], 1, &["a lab runs on", "--dir"]);
    assert_eq!(lab.answer(&["say", "--list"]), "there are no rules: everything is taken\n");
    let folder = dir.clone();
    lab.terminate();
    let nobody = Command::new(PROGRAM).args(["lab", "inbox", "--dir"]).arg(&folder).output().unwrap();
    let told = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(told.contains("no lab runs on") && told.contains("posthouse lab up"), "{told}");
}

#[test]
fn what_is_kept_waits_for_the_next_lab() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("lab");
    let arguments = ["up", "--no-samples", "--listen", "127.0.0.1:0", "--say", "rcpt: 451 busy"];
    let mut lab = Lab::start(&dir, &[&arguments[..], &["--keep"]].concat());
    let relay = address(&lab.line_with("takes mail by SMTP"));
    lab.line_with("Join in");
    send(&relay, "bob@example.com", "Subject: later\n\nHello\n");
    lab.line_with("not now");
    let told = lab.terminate();
    assert!(told.contains("1 message still waits") && told.contains("kept in"), "{told}");
    assert!(dir.exists());
    // Not delivered at once: the story begins a moment after the relay.
    let arguments = ["up", "--no-samples", "--listen", "127.0.0.1:0", "--say", "rcpt: 451 busy, 4 times"];
    let mut lab = Lab::start(&dir, &arguments);
    lab.line_with("what an earlier lab has kept there is tried again");
    let line = lab.line_with(": delivered");
    assert!(line.contains("bob@example.com, attempt "), "{line}");
    lab.terminate();
    assert!(!dir.exists(), "this one was not told to keep it");
}

#[test]
fn the_upstream_alone_tells_what_its_rules_decide_and_what_it_takes() {
    let outer = tempfile::tempdir().unwrap();
    let (dir, script) = (outer.path().join("lab"), outer.path().join("monday.rules"));
    std::fs::write(&script, "# Mondays\n\nrcpt bob@example.com: 451 4.7.1 it is monday, once\n").unwrap();
    let script = script.to_str().expect("a path in UTF-8");
    let mut lab = Lab::start(&dir, &["upstream", "--listen", "127.0.0.1:0", "--script", script]);
    let upstream = address(&lab.line_with("listening on"));
    let mut first = Command::new(PROGRAM);
    first.args(["send", "--server", &upstream, "--from", "alice@example.org", "--to", "bob@example.com"]);
    let first = first.arg(script).output().unwrap();
    assert_eq!(first.status.code(), Some(1), "the rule refuses it");
    let line = lab.line_with("rcpt bob@example.com");
    assert!(line.contains("451 4.7.1 it is monday (rule 1)"), "{line}");
    send(&upstream, "bob@example.com", "Subject: at last\n\nHello\n");
    lab.line_with("took message 1 from alice@example.org to bob@example.com: at last");
    assert!(lab.answer(&["inbox"]).contains("at last"));
    let told = lab.terminate();
    assert!(told.contains("1 message was taken"), "{told}");
    assert!(!dir.exists(), "its folder is gone");
}

#[test]
fn every_faulty_rule_of_a_script_is_shown_with_its_line() {
    let outer = tempfile::tempdir().unwrap();
    let script = outer.path().join("bad.rules");
    std::fs::write(&script, "rcpt: 451 busy\nrctp: 451 busy\n# fine\nrcpt: 99 busy\n").unwrap();
    let dir = outer.path().join("lab");
    let mut command = Command::new(PROGRAM);
    command.args(["lab", "up", "--script"]).arg(&script).arg("--dir").arg(&dir);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("bad.rules:2: ") && told.contains("bad.rules:4: "), "{told}");
    assert!(!dir.exists(), "nothing was begun");
}
