//! What rules promise: how they are read, what is refused and why, and when they decide.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::mail::{Address, ReversePath};

const START: Timestamp = Timestamp::from_millis(1_795_176_000_000);

/// Each with how it is displayed.
const GOOD: &[(&str, &str)] = &[
    ("rcpt: accept", "rcpt: accept"),
    ("  RCPT\t*@Example.test :  451   4.7.1 try  later ", "rcpt *@Example.test: 451 4.7.1 try  later"),
    ("connect: refuse", "connect: refuse"),
    ("connect attempt 2..: UNREACHABLE, 3 times", "connect attempt 2..: unreachable, 3 times"),
    ("greeting: 421 4.3.2 closing, for 120m", "greeting: 421 4.3.2 closing, for 2h"),
    ("ehlo: without dsn Size x-own", "ehlo: without DSN SIZE X-OWN"),
    ("starttls: certificate Wrong-Name, once", "starttls: certificate wrong-name, once"),
    ("starttls: certificate expired", "starttls: certificate expired"),
    ("starttls: certificate self-signed", "starttls: certificate self-signed"),
    ("auth: 535 5.7.8 no, 1 times", "auth: 535 5.7.8 no, once"),
    ("mail <>: 550 5.7.1 no notices", "mail <>: 550 5.7.1 no notices"),
    (
        "rcpt b* chance 30% over 10 in 1m until 4h after 2h first 5m attempt 2..3 from <>: 451 x",
        "rcpt b* from <> attempt 2..3 first 5m after 2h until 4h over 10 in 1m chance 30%: 451 x",
    ),
    ("rcpt attempt 2..2: close", "rcpt attempt 2: close"),
    ("rcpt chance 0.50%: close", "rcpt chance 0.5%: close"),
    ("rcpt chance 100%: close", "rcpt chance 100%: close"),
    ("rcpt first 2h 30m from a@*: close", "rcpt from a@* first 2h 30m: close"),
    ("rcpt u@[IPv6:2001:db8::1]: 550 5.1.1 no", "rcpt u@[IPv6:2001:db8::1]: 550 5.1.1 no"),
    ("rcpt \"a b: c\"@x.test: 550", "rcpt \"a b: c\"@x.test: 550"),
    ("data: delay 1m 30s, 354", "data: delay 1m 30s, 354"),
    ("data: drip 1s,delay 5s, 354 go on", "data: delay 5s, drip 1s, 354 go on"),
    ("content: reset", "content: reset"),
    ("dot: keep  and close , once", "dot: keep and close, once"),
    ("dot: keep and silence", "dot: keep and silence"),
    ("dot: lose", "dot: lose"),
    ("quit: silence", "quit: silence"),
    ("quit: garbage", "quit: garbage"),
    ("rcpt nth 11..: 452 4.5.3 too many", "rcpt nth 11..: 452 4.5.3 too many"),
    ("greeting: CLOSING , 554 5.7.1 no", "greeting: closing, 554 5.7.1 no"),
    ("dot: closing, drip 1s,delay 2s, accept, once", "dot: delay 2s, drip 1s, closing, accept, once"),
    (
        "greeting: raw 220\\x20hi\\r\\n250 \\xFF\\\\, early\\x20, once",
        "greeting: raw 220 hi\\r\\n250 \\xff\\\\\\x2c early\\x20, once",
    ),
    ("rcpt: raw \\x00, for now", "rcpt: raw \\x00\\x2c for now"),
    ("ehlo: flood LINE", "ehlo: flood line"),
    ("ehlo: drip 1s, flood lines", "ehlo: drip 1s, flood lines"),
    ("content: half-close", "content: half-close"),
    ("content: stall", "content: stall"),
    ("starttls: handshake Reset, once", "starttls: handshake reset, once"),
    // A reply's text holds what it likes; only the form of a limit is one.
    ("rcpt: 451 sorry, for now", "rcpt: 451 sorry, for now"),
    ("rcpt: 451 busy, wait, 3 times", "rcpt: 451 busy, wait, 3 times"),
    ("rcpt: 451 not once, once", "rcpt: 451 not once, once"),
    ("rcpt: 451 again, once, twice", "rcpt: 451 again, once, twice"),
    ("rcpt: 451 wait, 3 minutes", "rcpt: 451 wait, 3 minutes"),
    ("rcpt: 451 a: b, once", "rcpt: 451 a: b, once"),
    ("rcpt: 451,once", "rcpt: 451, once"),
    ("rcpt: 550 one\\ntwo\\n", "rcpt: 550 one\\ntwo\\n"),
    ("rcpt: 550 one\ntwo", "rcpt: 550 one\\ntwo"),
    ("rcpt: 550 \\ntwo", "rcpt: 550 \\ntwo"),
];

/// The text with the wrong bytes in `{}`; words of the problem; words of what is expected or of the hint.
const BAD: &[(&str, &str, &str)] = &[
    ("{}", "empty", "a rule such as"),
    ("{  }", "empty", "a rule such as"),
    ("rcpt 451 try later{}", "no colon", "a rule such as"),
    ("{rctp} 451 try later", "no stage is called \"rctp\"", "write \"rcpt\""),
    ("{rctp}: close", "no stage is called \"rctp\"", "write \"rcpt\""),
    ("{helo}: close", "no stage", "write \"ehlo\""),
    ("{}: close", "names no stage", "a rule such as"),
    ("rcpt {\"}a: close", "quote is not closed", ""),
    ("rcpt a@{[}192.0.2.1: close", "bracket is not closed", ""),
    ("ehlo {*@example.org}: close", "no address is known at \"ehlo\"", "from \"mail\" on"),
    ("rcpt {atempt} 2: close", "no condition", "write \"attempt\""),
    ("rcpt {alice}: close", "no address fits it", "alice@*"),
    ("rcpt {<>}: close", "never \"<>\"", "from <>"),
    ("rcpt {<a@b.test>}: close", "no angle brackets", "write \"a@b.test\""),
    ("rcpt {ä@b.test}: close", "US-ASCII", ""),
    ("rcpt a@b {c@d}: close", "does not stand here", "one glob"),
    ("rcpt a@b {form} x@y: close", "no condition", "write \"from\""),
    ("rcpt from{}: close", "missing", "glob of senders"),
    ("rcpt from {bob}: close", "no address fits", "bob@*"),
    ("mail {from} a@*: close", "cannot stand at \"mail\"", "from \"rcpt\" on"),
    ("rcpt attempt{}: close", "missing", "2..3"),
    ("rcpt attempt {0}: close", "0 would be never", "2..3"),
    ("rcpt attempt {x}: close", "no number", "2..3"),
    ("rcpt attempt {..3}: close", "no start", "write \"1..3\""),
    ("rcpt attempt {3..2}: close", "ends before it starts", "write \"2..3\""),
    ("rcpt attempt 2..{x}: close", "no number", "whole number"),
    ("rcpt attempt {99999999999999999999}: close", "too large", ""),
    ("rcpt attempt 1 {attempt} 2: close", "said twice", "one \"attempt\""),
    ("rcpt first {5}: close", "no unit of time", "write \"5s\""),
    ("rcpt first 5{parsecs}: close", "no unit of time", "units are"),
    ("rcpt first {0s}: close", "zero", "above zero"),
    ("rcpt first {soon}: close", "no duration", "5m"),
    ("rcpt first 2h 30{q}: close", "no unit of time", "units are"),
    ("{rcpt after 4h until 2h}: close", "never", "from the start"),
    ("rcpt over {0} in 1m: close", "0 would be", ""),
    ("rcpt over {5000000000} in 1m: close", "too large", "4294967295"),
    ("rcpt over 10 {per} 1m: close", "rate", "write \"in\""),
    ("rcpt over 10 in{}: close", "missing", "duration"),
    ("rcpt chance {30}: close", "no chance", "write \"30%\""),
    ("rcpt chance {101%}: close", "no chance", "0% to 100%"),
    ("rcpt chance {0.00001%}: close", "no chance", "four decimals"),
    ("rcpt chance {-1%}: close", "no chance", "0% to 100%"),
    ("rcpt:{}", "does nothing", "\"accept\""),
    ("rcpt: delay 5s{}", "nothing follows \"delay\"", "comma"),
    ("rcpt: delay {x}, close", "no duration", "5m"),
    ("rcpt: delay 1s, {delay} 2s, close", "said twice", ""),
    ("rcpt: drip 1s, {close}", "could drip", "a reply"),
    ("content: drip 1s, {accept}", "could drip", "a reply"),
    ("rcpt: {closed}", "nothing an upstream does", "write \"close\""),
    ("rcpt: {timeout}", "nothing an upstream does", "write \"silence\""),
    ("rcpt: close {now}", "but a limit", "3 times"),
    ("rcpt: close, {twice}", "no limit", "\"once\""),
    ("rcpt: close, {3 tims}", "no limit", "write \"times\""),
    ("rcpt: 451 later, {3 tims}", "no limit", "write \"times\""),
    ("rcpt: 451 later, {0} times", "0 would be", ""),
    ("rcpt: 451 later, for {2}", "no unit of time", "write \"2s\""),
    ("rcpt: close, for {ages}", "no duration", "5m"),
    ("rcpt: {199} text", "no code", "200 to 599"),
    ("rcpt: {600} text", "no code", "200 to 599"),
    ("rcpt: {4510} text", "no code", "200 to 599"),
    ("rcpt: {451}-text", "no blank", "behind \\n"),
    ("rcpt: 451 a{\r}b", "control", "printable"),
    ("connect: {451 4.7.1 no}", "a reply cannot stand at \"connect\"", "\"greeting\""),
    ("connect: {garbage}", "cannot stand at \"connect\"", "\"greeting\""),
    ("rcpt: {refuse}", "cannot stand at \"rcpt\"", "at \"connect\" alone"),
    ("mail: {without DSN}", "cannot stand at \"mail\"", "at \"ehlo\" alone"),
    ("ehlo: {without}", "names no extension", "without DSN SIZE"),
    ("ehlo: without {DNS}", "no extension is called \"DNS\"", "write \"DSN\""),
    ("starttls: certificate {expird}", "no certificate", "write \"expired\""),
    ("starttls: {certificate}", "one fault", "\"self-signed\""),
    ("dot: {keep}", "half a deed", "keep and close"),
    ("dot: keep and {reset}", "half a deed", "keep and silence"),
    ("mail nth 2 {nth} 3: close", "said twice", "one \"nth\""),
    ("greeting {nth} 2: close", "has one \"greeting\"", "attempt"),
    ("dot: closing, {close}", "behind which it could close", "a reply"),
    ("dot: closing {soon}, accept", "nothing follows \"closing\"", ""),
    ("dot: closing{}", "nothing follows \"closing\"", "comma"),
    ("dot: closing, {closing}, accept", "said twice", ""),
    ("dot: {raw}", "sends nothing", "raw 250"),
    ("dot: raw a{\\q}", "no escape", "xNN"),
    ("dot: raw a{\\x}4", "no escape", "xNN"),
    ("dot: raw a{\\}", "no escape", "xNN"),
    ("connect: {raw a}", "cannot stand at \"connect\"", "\"greeting\""),
    ("connect: {stall}", "cannot stand at \"connect\"", "\"greeting\""),
    ("ehlo: {flood}", "one word follows", "\"lines\""),
    ("ehlo: flood {lins}", "no flood is called", "write \"lines\""),
    ("starttls: handshake {rest}", "no handshake is called", "write \"reset\""),
    ("ehlo: {handshake reset}", "at \"ehlo\"", "at \"starttls\" alone"),
    ("data: {lose}", "cannot stand at \"data\"", "at \"dot\" alone"),
];

#[test]
fn a_rule_is_displayed_in_one_spelling_and_read_again_as_the_same() {
    for (text, display) in GOOD {
        let rule: Rule = text.parse().unwrap_or_else(|error: RuleError| panic!("{text:?}: {error:?}"));
        assert_eq!(rule.to_string(), *display, "{text:?}");
        assert_eq!(display.parse(), Ok(rule), "{text:?}");
    }
}

#[test]
fn a_fault_names_its_bytes_the_reason_and_how_to_mend_it() {
    for (marked, problem, help) in BAD {
        let start = marked.find('{').unwrap();
        let end = marked.find('}').unwrap() - 1;
        let text = marked.replace(['{', '}'], "");
        let Err(fault) = text.parse::<Rule>() else { panic!("{text:?} was taken") };
        assert_eq!(fault.at, start..end, "{text:?}: {fault:?}");
        assert!(fault.problem.contains(problem), "{text:?}: {fault:?}");
        let given = format!("{} {}", fault.expected.unwrap_or_default(), fault.hint.unwrap_or_default());
        assert!(given.contains(help), "{text:?}: {given}");
    }
}

/// A script under test, with its time.
struct Rehearsal {
    script: Script,
    now: Timestamp,
    nth: u64,
}

impl Rehearsal {
    fn new(rules: &[&str]) -> Self {
        let mut script = Script::new(START, 7);
        for rule in rules {
            script.add(rule.parse().unwrap());
        }
        Self { script, now: START, nth: 1 }
    }

    /// What is done, as a rule writes it, when `sender` (empty: not known) is asked about with these recipients.
    fn ask(&mut self, stage: Stage, from: &str, to: &[&str]) -> String {
        let sender = (stage.knows_sender()).then(|| sender(from));
        let recipients = addresses(to);
        let question =
            Question { stage, at: self.now, nth: self.nth, sender: sender.as_ref(), recipients: &recipients };
        self.script.answer(&question).deed.to_string()
    }

    fn rcpt(&mut self, to: &str) -> String {
        self.ask(Stage::Rcpt, "bob@example.org", &[to])
    }

    fn pass(&mut self, duration: &str) {
        self.now = self.now + humantime::parse_duration(duration).unwrap();
    }
}

fn sender(text: &str) -> ReversePath {
    if text == "<>" { ReversePath::NULL } else { ReversePath::from(text.parse::<Address>().unwrap()) }
}

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn without_rules_everything_is_accepted() {
    let mut rehearsal = Rehearsal::new(&[]);
    for stage in Stage::ALL {
        assert_eq!(rehearsal.ask(stage, "bob@example.org", &["alice@a.test"]), "accept", "{stage}");
    }
}

#[test]
fn the_first_rule_that_fits_decides_and_what_is_said_comes_before_all() {
    let mut rehearsal = Rehearsal::new(&["rcpt a@*: 450", "rcpt *@a.test: 451", "mail <>: 452", "mail: 453"]);
    assert_eq!(rehearsal.rcpt("A@a.test"), "450");
    assert_eq!(rehearsal.rcpt("b@A.TEST"), "451");
    assert_eq!(rehearsal.rcpt("b@b.test"), "accept");
    assert_eq!(rehearsal.ask(Stage::Mail, "<>", &[]), "452");
    assert_eq!(rehearsal.ask(Stage::Mail, "x@y.test", &[]), "453");
    let number = rehearsal.script.say("rcpt: 459".parse().unwrap(), rehearsal.now);
    assert_eq!(number, 5);
    assert_eq!(rehearsal.rcpt("a@a.test"), "459");
    assert_eq!(rehearsal.script.rules()[0].number, 5);
    assert!(rehearsal.script.forget(5) && !rehearsal.script.forget(5));
    assert_eq!(rehearsal.rcpt("a@a.test"), "450");
    assert_eq!(rehearsal.script.rules()[0].used, 2);
    assert_eq!(rehearsal.script.add("rcpt: accept".parse().unwrap()), 6);
}

#[test]
fn a_decision_names_its_rule_its_delay_and_its_drip() {
    let mut script = Script::new(START, 1);
    let number = script.add("greeting: delay 5s, drip 10ms, accept, once".parse().unwrap());
    let question = Question { stage: Stage::Greeting, at: START, nth: 1, sender: None, recipients: &[] };
    let (answer, rule) = script.decide(&question);
    assert_eq!(rule, Some(number));
    assert_eq!((answer.delay, answer.drip), (Duration::from_secs(5), Some(Duration::from_millis(10))));
    assert_eq!(script.decide(&question).1, None);
    assert!(script.rules()[0].is_spent(START));
}

#[test]
fn from_and_any_accepted_recipient_fit_later_stages() {
    let mut rehearsal = Rehearsal::new(&["dot b@* from *@example.org: 452", "quit *: close"]);
    assert_eq!(rehearsal.ask(Stage::Dot, "x@example.org", &["a@a.test", "b@a.test"]), "452");
    assert_eq!(rehearsal.ask(Stage::Dot, "<>", &["a@a.test", "b@a.test"]), "accept");
    assert_eq!(rehearsal.ask(Stage::Dot, "x@example.org", &["a@a.test"]), "accept");
    assert_eq!(rehearsal.ask(Stage::Quit, "x@example.org", &[]), "accept");
    assert_eq!(rehearsal.ask(Stage::Quit, "x@example.org", &["a@a.test"]), "close");
}

#[test]
fn attempts_count_for_each_recipient_until_a_message_is_taken() {
    let mut rehearsal =
        Rehearsal::new(&["rcpt attempt 1..2: 451", "mail attempt 2: 452", "dot attempt 1: 453"]);
    let seen: Vec<_> = (0..3).map(|_| rehearsal.rcpt("a@a.test")).collect();
    assert_eq!(seen, ["451", "451", "accept"]);
    assert_eq!(rehearsal.rcpt("b@a.test"), "451");
    assert_eq!(rehearsal.rcpt("A@A.test"), "accept");
    let mail: Vec<_> = (0..3).map(|_| rehearsal.ask(Stage::Mail, "x@y.test", &[])).collect();
    assert_eq!(mail, ["accept", "452", "accept"]);
    assert_eq!(rehearsal.ask(Stage::Dot, "x@y.test", &["a@a.test"]), "453");
    assert_eq!(rehearsal.ask(Stage::Dot, "x@y.test", &["a@a.test"]), "accept");

    rehearsal.script.taken(&sender("X@y.test"), &addresses(&["A@a.test"]));
    assert_eq!(rehearsal.rcpt("a@a.test"), "451");
    assert_eq!(rehearsal.rcpt("b@a.test"), "451");
    assert_eq!(rehearsal.rcpt("b@a.test"), "accept");
    assert_eq!(rehearsal.ask(Stage::Mail, "x@y.test", &[]), "accept");
    assert_eq!(rehearsal.ask(Stage::Mail, "x@y.test", &[]), "452");
    assert_eq!(rehearsal.ask(Stage::Dot, "x@y.test", &["a@a.test"]), "453");
}

#[test]
fn before_mail_attempts_are_connections_and_a_second_ehlo_is_none() {
    let mut rehearsal = Rehearsal::new(&["connect attempt 2: refuse", "ehlo attempt 3: 421"]);
    let mut connect = |expected: &[&str]| {
        let asked = [Stage::Connect, Stage::Ehlo, Stage::Ehlo];
        let done: Vec<_> = asked.iter().map(|stage| rehearsal.ask(*stage, "", &[])).collect();
        assert_eq!(done, expected);
    };
    connect(&["accept", "accept", "accept"]);
    connect(&["refuse", "accept", "accept"]);
    connect(&["accept", "421", "421"]);
}

#[test]
fn first_is_greylisting_and_is_not_forgotten() {
    let mut rehearsal = Rehearsal::new(&["rcpt first 5m: 451"]);
    assert_eq!(rehearsal.rcpt("a@a.test"), "451");
    rehearsal.pass("4m 59s 999ms");
    assert_eq!(rehearsal.rcpt("a@a.test"), "451");
    rehearsal.pass("1ms");
    assert_eq!(rehearsal.rcpt("a@a.test"), "accept");
    assert_eq!(rehearsal.rcpt("b@a.test"), "451");
    rehearsal.script.taken(&ReversePath::NULL, &addresses(&["a@a.test"]));
    assert_eq!(rehearsal.rcpt("a@a.test"), "accept");
}

#[test]
fn after_is_inclusive_and_until_is_not() {
    let mut rehearsal = Rehearsal::new(&["rcpt after 2h until 4h: 451"]);
    let mut done = Vec::new();
    for step in ["0s", "1h 59m 59s", "1s", "1h 59m 59s", "1s"] {
        rehearsal.pass(step);
        done.push(rehearsal.rcpt("a@a.test"));
    }
    assert_eq!(done, ["accept", "accept", "451", "451", "accept"]);
}

#[test]
fn over_measures_the_questions_the_rule_is_about_whoever_decides() {
    let mut rehearsal = Rehearsal::new(&["rcpt x@*: accept", "rcpt *@a.test over 2 in 1m: 421"]);
    assert_eq!(rehearsal.rcpt("x@a.test"), "accept");
    assert_eq!(rehearsal.rcpt("a@b.test"), "accept");
    assert_eq!(rehearsal.rcpt("b@a.test"), "accept");
    assert_eq!(rehearsal.rcpt("c@a.test"), "421");
    rehearsal.pass("59s");
    assert_eq!(rehearsal.rcpt("d@a.test"), "421");
    rehearsal.pass("1s");
    assert_eq!(rehearsal.rcpt("d@a.test"), "accept");
    assert_eq!(rehearsal.rcpt("d@a.test"), "421");
}

#[test]
fn chance_follows_the_seed_and_no_other_rule_disturbs_it() {
    let draws = |seed: u64, first: Option<&str>| {
        let mut script = Script::new(START, seed);
        script.add("rcpt chance 30%: 451".parse().unwrap());
        first.map(|rule| script.say(rule.parse().unwrap(), START));
        let to = addresses(&["a@a.test"]);
        let question = Question { stage: Stage::Rcpt, at: START, nth: 1, sender: None, recipients: &to };
        (0..1000).map(|_| script.answer(&question).deed == Deed::Accept).collect::<Vec<_>>()
    };
    let accepted = draws(1, None);
    let count = accepted.iter().filter(|accepted| **accepted).count();
    assert!((640..760).contains(&count), "{count} of 1000");
    assert_eq!(accepted, draws(1, None));
    assert_eq!(accepted, draws(1, Some("mail chance 50%: 451")));
    assert_ne!(accepted, draws(2, None));

    let mut rehearsal = Rehearsal::new(&["rcpt chance 0%: 450", "rcpt chance 100%: 451"]);
    assert!((0..100).all(|_| rehearsal.rcpt("a@a.test") == "451"));
}

#[test]
fn nth_is_of_the_connection() {
    let mut rehearsal = Rehearsal::new(&["rcpt nth 3..: 452", "rcpt nth 2: 451"]);
    for (nth, done) in [(1, "accept"), (2, "451"), (3, "452"), (4, "452"), (1, "accept")] {
        rehearsal.nth = nth;
        assert_eq!(rehearsal.rcpt("a@a.test"), done);
    }
}

#[test]
fn limits_count_decisions_in_all_or_time_since_it_was_said() {
    let mut rehearsal = Rehearsal::new(&["rcpt: 450, 2 times", "rcpt: 451, for 1h"]);
    let done: Vec<_> = ["a@a.test", "b@a.test", "c@a.test"].iter().map(|to| rehearsal.rcpt(to)).collect();
    assert_eq!(done, ["450", "450", "451"]);
    rehearsal.pass("1h");
    assert_eq!(rehearsal.rcpt("a@a.test"), "accept");
    rehearsal.script.say("rcpt: 452, for 1h".parse().unwrap(), rehearsal.now);
    rehearsal.pass("59m");
    assert_eq!(rehearsal.rcpt("a@a.test"), "452");
    rehearsal.pass("1m");
    assert_eq!(rehearsal.rcpt("a@a.test"), "accept");
}

#[test]
fn magic_addresses_come_after_all_rules_and_count_for_themselves() {
    let mut rehearsal = Rehearsal::new(&["rcpt 550@*: 250 yes"]);
    assert_eq!(rehearsal.rcpt("550@a.test"), "250 yes");
    for to in ["451-2times@a.test", "451-2times@b.test"] {
        let done: Vec<_> = (0..3).map(|_| rehearsal.rcpt(to)).collect();
        assert_eq!(done, ["451 4.7.1 as the address asks", "451 4.7.1 as the address asks", "accept"]);
    }
    // The next message to it finds it anew.
    rehearsal.script.taken(&ReversePath::NULL, &addresses(&["451-2times@a.test"]));
    assert_eq!(rehearsal.rcpt("451-2Times@a.test"), "451 4.7.1 as the address asks");
    assert_eq!(rehearsal.rcpt("451-2times@b.test"), "accept");

    rehearsal.pass("1day");
    assert_eq!(rehearsal.rcpt("452-for-2h@a.test"), "452 4.2.2 as the address asks");
    rehearsal.pass("2h");
    assert_eq!(rehearsal.rcpt("452-for-2h@a.test"), "accept");

    rehearsal.script = Script::new(START, 1).without_magic();
    assert_eq!(rehearsal.rcpt("451-2times@a.test"), "accept");
}

#[test]
fn magic_after_the_dot_finds_its_recipient_among_others_and_lost_messages_count_in_all() {
    let mut rehearsal = Rehearsal::new(&[]);
    let to = ["a@a.test", "lost-1times@a.test", "kept-1times@a.test"];
    assert_eq!(rehearsal.rcpt(to[1]), "accept");
    let mut done = Vec::new();
    for _ in 0..3 {
        done.push(rehearsal.ask(Stage::Dot, "<>", &to));
        rehearsal.script.taken(&ReversePath::NULL, &addresses(&to));
    }
    assert_eq!(done, ["lose", "keep and close", "accept"]);
}

#[test]
fn a_rule_hides_a_later_one_only_when_that_can_never_decide() {
    for (first, later, expected) in [
        ("rcpt: 451", "rcpt a@a.test first 5m: 550, once", true),
        ("rcpt *: 451", "rcpt: 550", true),
        ("rcpt *@a.test: 451", "rcpt b@A.test: 550", true),
        ("rcpt *@a.test: 451", "rcpt b@b.test: 550", false),
        ("rcpt *@a.test: 451", "rcpt: 550", false),
        ("rcpt: 451", "mail: 550", false),
        ("rcpt: 451, 3 times", "rcpt: 550", false),
        ("rcpt: 451, for 2h", "rcpt: 550", false),
        ("rcpt attempt 1: 451", "rcpt: 550", false),
        ("rcpt from *@b.test: 451", "rcpt from a@b.test: 550", true),
        ("rcpt from *@b.test: 451", "rcpt: 550", false),
        ("mail *: 451", "mail: 550", true),
        ("quit *: close", "quit: silence", false),
    ] {
        let (first, later): (Rule, Rule) = (first.parse().unwrap(), later.parse().unwrap());
        assert_eq!(first.hides(&later), expected, "{first} | {later}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_rule_or_a_fault_within_it(text in "\\PC{0,60}|[ -~\\n]{0,60}") {
        read(&text)?;
    }

    #[test]
    fn any_words_of_the_language_are_a_rule_or_a_fault_within_them(words in proptest::collection::vec(
        prop::sample::select(vec![
            "rcpt", "mail", "ehlo", "dot", "*@a.test", "<>", "from", "attempt", "2..3", "first", "5m", "over", "in",
            "10", "chance", "30%", ":", ":", "delay", "drip", ",", "451", "text", "\\n", "\n", "once", "3", "times", "raw", "closing", "nth", "flood", "lines", "\\", "x0a",
            "for", "2h", "close", "keep", "and", "without", "DSN", "\"", "[", "é", "..", "0",
        ]), 0..14), glue in " ?") {
        read(&words.join(&glue))?;
        if let Some((first, rest)) = words.split_first() {
            read(&format!("rcpt: 451 {first} {}", rest.join(&glue)))?;
        }
    }
}

/// Reads `text` and holds the result to what the grammar promises.
fn read(text: &str) -> Result<(), TestCaseError> {
    match text.parse::<Rule>() {
        Ok(rule) => prop_assert_eq!(rule.to_string().parse(), Ok(rule)),
        Err(fault) => prop_assert!(text.get(fault.at.clone()).is_some(), "{:?}: {:?}", text, fault),
    }
    Ok(())
}
