//! `posthouse sendmail` and the drop folder, with the real program: exit codes, a relay that is down, kill -9.
//!
//! Contract: exit code 0 means that the message is in the queue once, whatever happens to the relay.
//! Not here: HTTP and pickup folders within one process (`ways`).

mod program;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use program::{PROGRAM, Program, posthouse};

/// Under the name `sendmail`, as its callers know it; the spool is told by the environment.
fn sendmail(spool: &Path, arguments: &[&str], message: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg0("/usr/sbin/sendmail").env_clear().env("POSTHOUSE_SPOOL__PATH", spool);
    command.env("POSTHOUSE_HOSTNAME", "relay.example.org").env("POSTHOUSE_LISTENER__ADDRESS", "127.0.0.1:0");
    finish(command.args(arguments), message)
}

fn finish(command: &mut Command, message: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(message.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The recipients of each message in the queue, sorted.
fn queue(spool: &Path) -> Vec<String> {
    let listed = posthouse(["queue", "list", "--format", "json", "--spool"]).arg(spool).output();
    let rows: serde_json::Value = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
    let recipients = |row: &serde_json::Value| {
        let all = row["recipients"].as_array().unwrap().iter();
        all.map(|recipient| recipient["address"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let mut messages: Vec<String> = rows.as_array().unwrap().iter().map(recipients).collect();
    messages.sort();
    messages
}

fn content(spool: &Path, id: &str) -> String {
    let exported = posthouse(["spool", "export", id, "--content-only", "--spool"]).arg(spool).output();
    String::from_utf8(exported.unwrap().stdout).unwrap()
}

fn dropped(spool: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool.join("drop")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

const MESSAGE: &str = "To: bob@example.com\nBcc: carol@example.com\nSubject: x\n\none\n.\ntwo\n";

#[test]
fn what_sendmail_took_while_the_relay_was_down_is_queued_once_also_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let down = sendmail(&spool, &["-t", "-i", "-v", "-falice@example.org"], MESSAGE);
    assert_eq!(code(&down), 0, "{}", err(&down));
    assert!(err(&down).contains("no posthouse runs on") && err(&down).contains("waits in"), "{}", err(&down));
    let quiet = sendmail(&spool, &["-f", "alice@example.org", "dan@example.com"], "Subject: y\n\n");
    assert_eq!((code(&quiet), err(&quiet).as_str()), (0, ""));
    // What the relay would refuse when nobody is there any more to be told is refused at once.
    let bare = sendmail(&spool, &["-f", "alice@example.org", "dan@example.com"], "Subject: z\n\na\rb\n");
    assert_eq!(code(&bare), 65, "{}", err(&bare));
    let files = dropped(&spool);
    assert_eq!(files.len(), 2);
    let kept: Vec<(PathBuf, Vec<u8>)> =
        files.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();

    let relay = Program::start(&spool);
    for _ in 0..2 {
        relay.says("again=false");
    }
    let both = ["bob@example.com carol@example.com", "dan@example.com"];
    assert_eq!(queue(&spool), both);
    relay.kill_9();
    // As if it had died between the commits and the removal of the files.
    for (path, octets) in &kept {
        fs::write(path.with_extension("eml.taking"), octets).unwrap();
    }
    let relay = Program::start(&spool);
    for _ in 0..2 {
        relay.says("again=true");
    }
    assert_eq!(queue(&spool), both, "nothing is lost and nothing is there twice");

    let up = sendmail(&spool, &["-oi", "-v", "-r", "<>", "eve@example.com"], "Subject: z\n\n");
    assert_eq!(code(&up), 0, "{}", err(&up));
    let said = err(&up);
    let id = said.trim().strip_prefix("sendmail: queued as ").unwrap_or_else(|| panic!("{said}"));
    let text = content(&spool, id);
    for line in ["From: MAILER-DAEMON@relay.example.org\r\n", "\r\nDate: ", "\r\nMessage-ID: <"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert_eq!(queue(&spool).len(), 3);
    relay.kill_9();
    let relay = Program::start(&spool);
    assert_eq!(queue(&spool).len(), 3);
    relay.kill_9();
}

#[test]
fn options_of_sendmail_are_understood_and_its_exit_codes_kept() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let relay = Program::start(&spool);
    let queued = |arguments: &[&str], message: &str| {
        let output = sendmail(&spool, arguments, message);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
        let id = err(&output).trim().rsplit(' ').next().unwrap().to_owned();
        content(&spool, &id)
    };
    let usual =
        ["-v", "-bm", "-oem", "-odb", "-B", "8BITMIME", "-O", "DeliveryMode=b", "-N", "success,delay"];
    let text = queued(
        &[&usual[..], &["-R", "hdrs", "-V", "id", "-F", "Älice", "-fa@example.org", "-t"]].concat(),
        MESSAGE,
    );
    assert!(text.contains("From: =?UTF-8?B?w4RsaWNl?= <a@example.org>\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\none\r\n") && !text.contains("Bcc"), "the lone dot ended it: {text}");
    let text = queued(&["-v", "-fa@example.org", "-i", "--", "b@example.com"], "no field\n.\n");
    assert!(text.ends_with("\r\n\r\nno field\r\n.\r\n"), "{text}");

    for (arguments, message, expected, said) in [
        (&["-t", "-fa@example.org"][..], "Subject: x\n\n", 64, "no recipient"),
        (&["-t", "-fa@example.org"], "To: b@@example.com\n\n", 65, "field to"),
        (&["-fa@example.org", "b@example.com c@example.com"], "", 67, "c"),
        (&["-fa@example.org", "b@example.com", "-N", "sometimes"], "", 64, "sometimes"),
        (&["-bs"], "", 64, "SMTP"),
        (&["-bp"], "", 64, "queue list"),
        (&["-Z"], "", 64, "-Z"),
        (&["-fa@example.org", "b@example.com"], "Subject: x\n\na\rb\n", 65, "5.6.11"),
        (&["-bi"], "", 0, ""),
    ] {
        let output = sendmail(&spool, arguments, message);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(said), "{arguments:?}: {}", err(&output));
    }
    assert_eq!(queue(&spool).len(), 2);
    // Where the spool is out of reach, SMTP to the listener will do; where nobody listens either, it says what to do.
    let elsewhere = folder.path().join("elsewhere");
    let mut command = posthouse(["sendmail", "-v", "-f", "a@example.org", "c@example.com", "--spool"]);
    command.arg(&elsewhere).env("POSTHOUSE_LISTENER__ADDRESS", relay.address().to_string());
    let output = finish(&mut command, "Subject: by SMTP\n\n");
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(queue(&spool).len(), 3);
    let output = sendmail(&elsewhere, &["-fa@example.org", "c@example.com"], "");
    assert_eq!(code(&output), 75);
    assert!(err(&output).contains("no spool folder"), "{}", err(&output));
    assert!(!elsewhere.exists());
}

#[test]
fn send_takes_recipients_from_the_message_too() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let relay = Program::start(&spool);
    let mut command = posthouse(["send", "--server", &relay.address().to_string(), "-t", "-i"]);
    let output = finish(&mut command, &format!("From: alice@example.org\n{MESSAGE}"));
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(queue(&spool), ["bob@example.com carol@example.com"]);
}
