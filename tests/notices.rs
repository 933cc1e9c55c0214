//! Golden notices: each case below is written and compared, octet by octet, with its file in `tests/notices/`, and
//! then read by other software (Python's email package, `tests/notices/check.py`) that knows nothing of ours.
//!
//! After a change that was meant: `UPDATE_NOTICES=1 cargo test --test notices`, then read the difference in git.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use posthouse::clock::Timestamp;
use posthouse::mail::{
    Address, BodyType, ByMode, DeliverBy, EnhancedStatus, Envelope, Host, Notify, Origin, Outcome, QueueId,
    Reply, Ret, ReversePath, Verdict,
};
use posthouse::notice::{Kind, LanguageChoice, Notice, Original, Report, Reported, Settings, write};
use proptest::prelude::*;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);

const ORIGINAL: &str = "\
Received: from app.example.org ([192.0.2.10]) by relay.example.org with ESMTP id 0J7Z;\r
\tSun, 22 Nov 2026 03:33:07 +0000\r
Date: Sun, 22 Nov 2026 04:33:05 +0100\r
From: Anna <anna@example.org>\r
To: Rose <rose@example.net>\r
Subject: Quarterly figures\r
Message-ID: <q3.1@app.example.org>\r
References: <q1.1@app.example.org> <q2.1@app.example.org>\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=us-ascii\r
\r
The figures are attached.\r
--\r
Anna\r
";

/// A case: what is told about which message, and what a reader must find in it.
struct Case {
    name: &'static str,
    kind: Kind,
    settings: Settings,
    envelope: Envelope,
    /// One for each recipient of the envelope.
    outcomes: Vec<Option<Outcome>>,
    original: Vec<u8>,
    now: Timestamp,
    /// The third part, by its type; an empty text where there is none.
    returned: &'static str,
    /// Texts that the first part must hold once decoded and unwrapped, and texts it must not.
    says: Vec<&'static str>,
    says_not: Vec<&'static str>,
}

fn arrived_at() -> Timestamp {
    "2026-11-22T03:33:07.120Z".parse().unwrap()
}

/// The moment of Exchange's specimen: 4 hours 2 minutes and some seconds after arrival.
fn delayed() -> (Kind, Timestamp) {
    let now = arrived_at() + 4 * HOUR + Duration::from_secs(150);
    let kind = Kind::Delayed {
        retry_until: arrived_at() + 48 * HOUR,
        next_attempt: Some(now + Duration::from_secs(30 * 60)),
    };
    (kind, now)
}

fn host() -> Host {
    Host { name: "mx.example.net".into(), address: Some("192.0.2.25".parse().unwrap()), port: None }
}

fn replied(verdict: Verdict, code: u16, lines: &[&str]) -> Option<Outcome> {
    let reply = Reply::with_lines(code, lines.iter().map(|line| (*line).to_owned()).collect());
    let class = (code / 100) as u8;
    let status = reply.status().unwrap_or(EnhancedStatus::new(class, 0, 0));
    Some(Outcome {
        verdict,
        status,
        reason: "RCPT refused".into(),
        reply: Some(reply),
        host: Some(host()),
        tls: None,
    })
}

fn greylisted() -> Option<Outcome> {
    replied(Verdict::Deferred, 451, &["4.7.1 Greylisted, please try again later"])
}

fn envelope(recipients: &[&str]) -> Envelope {
    let sender: Address = "anna@example.org".parse().unwrap();
    Envelope::new(ReversePath::from(sender), recipients.iter().map(|text| text.parse().unwrap()))
}

impl Case {
    fn new(name: &'static str, kind: Kind, now: Timestamp, outcome: Option<Outcome>) -> Self {
        Case {
            name,
            kind,
            settings: Settings::new("relay.example.org"),
            envelope: envelope(&["rose@example.net"]),
            outcomes: vec![outcome],
            original: ORIGINAL.into(),
            now,
            returned: "text/rfc822-headers",
            says: vec![],
            says_not: vec![],
        }
    }

    fn failed(name: &'static str, outcome: Option<Outcome>) -> Self {
        Self::new(name, Kind::Failed, arrived_at() + Duration::from_secs(3), outcome)
    }

    fn delayed(name: &'static str, outcome: Option<Outcome>) -> Self {
        let (kind, now) = delayed();
        Self::new(name, kind, now, outcome)
    }

    fn write(&self) -> Notice {
        let origin = Origin::default();
        let report = Report {
            settings: &self.settings,
            kind: self.kind,
            id: QueueId::first_at(arrived_at().as_millis()),
            envelope: &self.envelope,
            origin: &origin,
            arrived_at: arrived_at(),
            aged_from: arrived_at(),
            now: self.now,
            recipients: self
                .envelope
                .recipients
                .iter()
                .zip(&self.outcomes)
                .map(|(recipient, outcome)| Reported {
                    recipient,
                    outcome: outcome.as_ref(),
                    last_attempt: outcome.as_ref().map(|_| self.now - Duration::from_secs(1)),
                })
                .collect(),
            original: Original::whole(&self.original),
            chance: 0x0123_4567_89ab_cdef,
        };
        write(&report).expect("there is a sender and a recipient")
    }

    /// What `check.py` must find.
    fn expectation(&self, file: &str) -> serde_json::Value {
        let action = match self.kind {
            Kind::Delayed { .. } => "delayed",
            Kind::Failed => "failed",
            Kind::Relayed => "relayed",
        };
        let retry_until = match self.kind {
            Kind::Delayed { retry_until, .. } => Some(retry_until.as_millis() / 1000),
            Kind::Failed | Kind::Relayed => None,
        };
        let recipients: Vec<_> = self
            .envelope
            .recipients
            .iter()
            .map(|recipient| {
                let original = recipient.original.as_ref();
                json!({
                    "final": recipient.address.as_str(),
                    "original": original.map(|original| format!("{};{}", original.address_type, original.address)),
                })
            })
            .collect();
        json!({
            "file": file,
            "action": action,
            "sender": self.envelope.reverse_path.address().unwrap().as_str(),
            "recipients": recipients,
            "envid": self.envelope.envid,
            "arrived_at": arrived_at().as_millis() / 1000,
            "date": self.now.as_millis() / 1000,
            "retry_until": retry_until,
            "returned": self.returned,
            "eight_bit": self.write().envelope.body == BodyType::EightBitMime,
            "says": self.says,
            "says_not": self.says_not,
        })
    }
}

fn delays() -> Vec<Case> {
    let mut english = Case::delayed("delay-en", greylisted());
    english.says = vec![
        "will keep trying for 1 day 19 hours 57 minutes (until Tue, 24 Nov 2026 03:33 UTC).",
        "The next attempt is at Sun, 22 Nov 2026 08:05 UTC.",
        "You don't need to send it again.",
        "mx.example.net [192.0.2.25] said: 451 4.7.1 Greylisted, please try again later",
        "Subject: Quarterly figures",
    ];

    let mut japanese = Case::delayed("delay-ja", greylisted());
    japanese.settings.language = LanguageChoice::Auto;
    japanese.original = ORIGINAL
        .replace(
            "Subject: Quarterly figures",
            "Subject: =?UTF-8?B?5Zub5Y2K5pyf44Gu5aCx5ZGK?=\r\nContent-Language: ja",
        )
        .into();
    japanese.says = vec![
        "今後 1 日 19 時間 57 分(2026年11月24日(火) 03:33 UTC まで)配信を試みます。",
        "次回の試行は 2026年11月22日(日) 08:05 UTC の予定です。",
        "再送していただく必要はありません。",
        "件名: 四半期の報告",
    ];

    let mut sleeping = Case::delayed("delay-never-tried", None);
    sleeping.kind = Kind::Delayed { retry_until: arrived_at() + 48 * HOUR, next_attempt: None };
    sleeping.says = vec!["It has not been possible to try yet."];
    sleeping.says_not = vec!["next attempt"];

    let mut full = Case::delayed("delay-ret-full", greylisted());
    full.envelope.ret = Some(Ret::Full);
    vec![english, japanese, sleeping, full]
}

fn failures() -> Vec<Case> {
    let mut mixed = Case::failed("failure-mixed", None);
    mixed.envelope = envelope(&["rose@example.net", "iris@example.net", "lily@example.com"]);
    let refused = Outcome {
        verdict: Verdict::Bounced,
        status: EnhancedStatus::new(5, 1, 10),
        reason: "the domain accepts no mail (null MX)".into(),
        reply: None,
        host: None,
        tls: None,
    };
    mixed.outcomes = vec![
        replied(Verdict::Bounced, 550, &["5.1.1 No such user here"]),
        replied(
            Verdict::Bounced,
            552,
            &["5.2.2 The mailbox is full,", "5.2.2 see https://example.net/quota"],
        ),
        Some(refused),
    ];
    mixed.says = vec![
        "these recipients:",
        "550 5.1.1 No such user here",
        "552 5.2.2 The mailbox is full, see https://example.net/quota",
        "the domain accepts no mail (null MX)",
        "Check the address",
        "mailbox is full. Send the message again later",
    ];

    let mut expired = Case::failed("failure-expired", greylisted());
    expired.now = arrived_at() + 48 * HOUR;
    expired.says =
        vec!["tried for 2 days without success and has stopped. You can send the message again later."];

    let mut uncertain = Case::failed("failure-uncertain-ja", None);
    uncertain.settings.language = "ja".parse().unwrap();
    uncertain.now = arrived_at() + 48 * HOUR;
    let broken = Outcome {
        verdict: Verdict::Uncertain,
        status: EnhancedStatus::new(4, 4, 2),
        reason: "connection lost after the final dot".into(),
        reply: None,
        host: Some(Host {
            name: "192.0.2.25".into(),
            address: Some("192.0.2.25".parse().unwrap()),
            port: None,
        }),
        tls: None,
    };
    uncertain.outcomes = vec![Some(broken)];
    uncertain.says = vec![
        "サーバー relay.example.org は 2 日にわたり配信を試みましたが",
        "再送する前に、相手にご確認ください。",
    ];
    vec![mixed, expired, uncertain]
}

fn returns() -> Vec<Case> {
    let refused = || replied(Verdict::Bounced, 554, &["5.7.1 Not here"]);
    let mut full = Case::failed("return-full", refused());
    full.envelope.ret = Some(Ret::Full);
    full.returned = "message/rfc822";

    let mut eight_bit = Case::failed("return-full-8bit", refused());
    eight_bit.envelope.ret = Some(Ret::Full);
    eight_bit.envelope.body = BodyType::EightBitMime;
    eight_bit.original = ORIGINAL
        .replace("charset=us-ascii", "charset=utf-8\r\nContent-Transfer-Encoding: 8bit")
        .replace("attached", "attach\u{e9}es")
        .into();
    eight_bit.returned = "message/rfc822";

    let mut large = Case::failed("return-full-too-large", refused());
    large.envelope.ret = Some(Ret::Full);
    large.settings.return_limit = ORIGINAL.len() as u64 - 1;

    let mut headers = Case::failed("return-headers", refused());
    headers.envelope.ret = Some(Ret::Headers);

    let mut raw = Case::failed("return-headers-8bit", refused());
    raw.original = ORIGINAL.replace("Anna <", "Ann\u{e9} <").into();

    let mut lost = Case::failed("return-nothing", refused());
    lost.original = Vec::new();
    lost.returned = "";
    vec![full, eight_bit, large, headers, raw, lost]
}

fn requests() -> Vec<Case> {
    let taken = replied(Verdict::Delivered { dsn: false }, 250, &["2.0.0 Ok: queued as 4F2A"]);
    let mut relayed = Case::new("relayed", Kind::Relayed, arrived_at() + Duration::from_secs(2), taken);
    relayed.envelope.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
    relayed.envelope.ret = Some(Ret::Full);
    relayed.says = vec!["handed on to the mail server of this recipient", "250 2.0.0 Ok: queued as 4F2A"];

    let mut asked = Case::delayed("envid-orcpt", greylisted());
    asked.envelope = envelope(&["\"r  ose\"@example.net"]);
    asked.envelope.envid = Some("order 4711 = <x>+y".into());
    asked.envelope.recipients[0].original = Some("rfc822;list+2Bsales@example.org".parse().unwrap());
    vec![relayed, asked]
}

/// RFC 6533: addresses and header sections outside of US-ASCII.
fn utf8() -> Vec<Case> {
    let refused = || replied(Verdict::Bounced, 550, &["5.1.1 No such user here"]);
    let original =
        || -> Vec<u8> { ORIGINAL.replace("Quarterly figures", "Zahlen f\u{fc}r B\u{fc}cher").into() };
    let to_utf8 = |name| {
        let mut case = Case::failed(name, refused());
        case.envelope = envelope(&["r\u{f6}s+e@b\u{fc}cher.example"]);
        case.envelope.smtputf8 = true;
        case.original = original();
        case.returned = "message/global-headers";
        case
    };
    let mut ascii_sender = to_utf8("utf8-recipient");
    ascii_sender.envelope.recipients[0].original =
        Some("utf-8;\\x{7528}\\x{2B}@example.net".parse().unwrap());
    ascii_sender.says = vec!["Subject: Zahlen f\u{fc}r B\u{fc}cher"];

    let mut ascii_full = to_utf8("utf8-recipient-ret-full");
    ascii_full.envelope.ret = Some(Ret::Full);
    ascii_full.returned = "message/global";

    let mut sender = to_utf8("utf8-sender");
    sender.envelope.reverse_path = "\u{e4}nna@b\u{fc}cher.example".parse::<Address>().unwrap().into();
    sender.envelope.recipients[0].original = Some("utf-8;\\x{7528}\\x{2B}@example.net".parse().unwrap());

    let mut sender_full = to_utf8("utf8-sender-ret-full");
    sender_full.envelope.reverse_path = sender.envelope.reverse_path.clone();
    sender_full.envelope.ret = Some(Ret::Full);
    sender_full.returned = "message/global";

    let mut sender_to_ascii = Case::failed("utf8-sender-ascii-recipient", refused());
    sender_to_ascii.envelope.reverse_path = sender.envelope.reverse_path.clone();
    sender_to_ascii.envelope.smtputf8 = true;
    vec![ascii_sender, ascii_full, sender, sender_full, sender_to_ascii]
}

/// What BINARYMIME and DELIVERBY bring with them.
fn extensions() -> Vec<Case> {
    let why = Outcome::local(
        Verdict::Bounced,
        EnhancedStatus::new(5, 6, 3),
        "the message is binary and needs BINARYMIME with CHUNKING, which the host does not offer",
    );
    let mut binary = Case::failed("return-full-binary", Some(why));
    binary.envelope.body = BodyType::BinaryMime;
    binary.envelope.ret = Some(Ret::Full);
    binary.original = ORIGINAL.replace("attached.\r\n", "attached.\0\n").into();
    binary.says = vec!["only its header section is attached", "needs BINARYMIME with CHUNKING"];

    let by = DeliverBy { seconds: 600, mode: ByMode::Return, trace: true };
    let late = Outcome {
        status: EnhancedStatus::new(4, 4, 7),
        reason: "the time within which the sender wanted it delivered (BY) is over".into(),
        ..greylisted().unwrap()
    };
    let mut returned = Case::failed("deliver-by-returned", Some(late));
    returned.envelope.deliver_by = Some(by);
    returned.now = arrived_at() + Duration::from_secs(600);
    returned.says = vec!["451 4.7.1 Greylisted", "tried for 10 minutes without success and has stopped"];

    let taken = replied(Verdict::Delivered { dsn: true }, 250, &["2.0.0 Ok"]);
    let mut trace =
        Case::new("deliver-by-trace", Kind::Relayed, arrived_at() + Duration::from_secs(2), taken);
    trace.envelope.deliver_by = Some(by);
    trace.says = vec!["your message asked for a trace of its way"];
    vec![binary, returned, trace]
}

fn hostile() -> Vec<Case> {
    let injection = "5.7.1 no\r\nBcc: mallory@example.com\r\nAction: delivered\r\n\r\n\
                     --=_posthouse_0123456789abcdef--\r\nfree text \u{1b}[31m\u{e9}\u{202e}\0";
    let mut reply =
        Case::failed("hostile-reply", replied(Verdict::Bounced, 550, &[injection, "\r\n.\r\nQUIT"]));
    reply.says = vec!["550 5.7.1 no Bcc: mallory@example.com Action: delivered"];

    let mut words = String::from("5.7.1 ");
    words.push_str(&"x".repeat(2_500));
    words.push_str(&" and on".repeat(400));
    let long = Case::failed("hostile-reply-long", replied(Verdict::Bounced, 550, &[&words]));

    let mut subject = Case::failed("hostile-subject", replied(Verdict::Bounced, 550, &["5.1.1 no"]));
    let encoded = "=?utf-8?q?a=0D=0ABcc:_mallory=40example.com?= ".repeat(30);
    subject.original = ORIGINAL
        .replace("Quarterly figures", &format!("{encoded}\0\u{b} \r\n\t{}", "y".repeat(900)))
        .replace("<q3.1@app.example.org>", "<q3.1@app.example.org> \0x <a b@c>")
        .into();

    let mut boundary = Case::failed("hostile-boundary", replied(Verdict::Bounced, 550, &["5.1.1 no"]));
    boundary.envelope.ret = Some(Ret::Full);
    boundary.original = ORIGINAL
        .replace(
            "--\r\nAnna",
            "--=_posthouse_0123456789abcdef\r\n\r\nforged\r\n--=_posthouse_0123456789abcdef--",
        )
        .into();
    boundary.returned = "message/rfc822";
    vec![reply, long, subject, boundary]
}

fn cases() -> Vec<Case> {
    [delays(), failures(), returns(), requests(), utf8(), extensions(), hostile()]
        .into_iter()
        .flatten()
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/notices")
}

#[test]
fn every_notice_is_its_golden_file() {
    let update = std::env::var_os("UPDATE_NOTICES").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let path = folder().join(case.name).with_extension("eml");
        let written = case.write().content.to_bytes();
        if update {
            std::fs::write(&path, &written).unwrap();
        } else if std::fs::read(&path).ok().as_deref() != Some(&written) {
            differing.push(format!("{}:\n{}", path.display(), String::from_utf8_lossy(&written)));
        }
    }
    assert!(
        differing.is_empty(),
        "these differ from their files; if that is meant, run with UPDATE_NOTICES=1:\n{}",
        differing.join("\n")
    );
}

#[test]
fn no_golden_file_is_without_its_case() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".eml").map(str::to_owned))
        .collect();
    let mut names: Vec<String> = cases().iter().map(|case| case.name.to_owned()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
}

#[test]
fn every_notice_goes_from_the_null_reverse_path_and_asks_for_no_notice() {
    for case in cases() {
        let notice = case.write();
        assert!(notice.envelope.reverse_path.is_null());
        assert_eq!(notice.envelope.recipients.len(), 1);
        let sender = case.envelope.reverse_path.address().unwrap();
        assert_eq!(notice.envelope.recipients[0].address, *sender);
        assert_eq!(notice.envelope.smtputf8, !sender.is_ascii(), "{}", case.name);
        assert_eq!(notice.envelope.recipients[0].notify, Some(Notify::NEVER));
        assert_eq!((notice.envelope.ret, &notice.envelope.envid), (None, &None));
        let content = notice.content.to_bytes();
        assert_eq!(content.is_ascii(), notice.envelope.body == BodyType::SevenBit, "{}", case.name);
    }
}

#[test]
fn nothing_is_written_to_nobody_or_about_nobody() {
    let case = Case::failed("unused", greylisted());
    let settings = Settings::new("relay.example.org");
    let mut null = case.envelope.clone();
    null.reverse_path = ReversePath::NULL;
    let reported = Reported { recipient: &case.envelope.recipients[0], outcome: None, last_attempt: None };
    for (envelope, recipients) in [(&null, vec![reported]), (&case.envelope, vec![])] {
        let report = Report {
            settings: &settings,
            kind: Kind::Failed,
            id: QueueId::MIN,
            envelope,
            origin: &Origin::default(),
            arrived_at: arrived_at(),
            aged_from: arrived_at(),
            now: arrived_at(),
            recipients,
            original: Original::lost(),
            chance: 1,
        };
        assert!(write(&report).is_none());
    }
}

#[test]
fn pythons_email_package_reads_every_notice_as_it_was_meant() {
    let scratch = tempfile::tempdir().unwrap();
    let expectations: Vec<_> = cases()
        .iter()
        .map(|case| {
            let file = scratch.path().join(case.name).with_extension("eml");
            std::fs::write(&file, case.write().content.to_bytes()).unwrap();
            case.expectation(file.to_str().unwrap())
        })
        .collect();
    let mut python = Command::new("python3")
        .arg(folder().join("check.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs python3 (no packages)");
    let input = serde_json::to_vec(&expectations).unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.trim(), format!("{} notices read", expectations.len()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_words_of_strangers_make_a_part_or_a_field(
        lines in proptest::collection::vec("(\\PC|[\r\n\t\0 :=-]|--=_posthouse_0123456789abcdef|Action: x){0,60}", 1..5),
        host in "(\\PC|[\r\n :]){0,40}",
        subject in proptest::collection::vec(any::<u8>(), 0..2_000),
        japanese in any::<bool>(),
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut outcome = replied(Verdict::Bounced, 550, &lines);
        outcome.as_mut().unwrap().host = Some(Host { name: host, address: None, port: None });
        let mut case = Case::failed("unused", outcome);
        if japanese {
            case.settings.language = "ja".parse().unwrap();
        }
        case.original = [b"Subject: ".as_slice(), &subject, b"\r\n\r\nbody\r\n"].concat();
        let content = String::from_utf8(case.write().content.to_bytes().to_vec()).unwrap();
        prop_assert!(content.is_ascii());
        prop_assert!(content.replace("\r\n", "").bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)));
        let (_, rest) = content.split_once("boundary=\"").unwrap();
        let delimiter = format!("\r\n--{}", rest.split_once('"').unwrap().0);
        let parts: Vec<&str> = content.split(&delimiter).collect();
        // Before the first, text, status, header section (unless the subject was an end of header), the end.
        prop_assert!(parts.len() == 5 || parts.len() == 4, "{}", content);
        prop_assert_eq!(*parts.last().unwrap(), "--\r\n");
        let (_, status) = parts[2].split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> =
            status.lines().filter(|l| !l.starts_with(' ')).map(|l| l.split(':').next().unwrap()).collect();
        prop_assert_eq!(names, [
            "Reporting-MTA", "X-Posthouse-Queue-ID", "Arrival-Date", "", "Final-Recipient", "Action", "Status",
            "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
        ]);
    }
}
