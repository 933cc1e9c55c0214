//! Scenarios as their writers meet them: what is said about wrong ones, and that right ones are told the same each time.
//!
//! `tests/scenarios/NAME.toml` is a scenario in which something is wrong, `NAME.expected` what must be said about it:
//! its faults, or what is not as it says when it is played. `BLESS_SCENARIOS=1` writes the expected files anew, to be
//! read before they are kept.
//!
//! `tests/scenarios/upstream/*.toml` are the behaviours of upstreams, each named for its stage of the dialogue, with what
//! must come out: attempts, copies at the upstream, notices. `posthouse lab run --list tests/scenarios/upstream` lists them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use posthouse::lab::scenario::{Played, Scenario, play};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

fn played(text: &str) -> Played {
    play(&Scenario::read(Path::new("inline.toml"), text).unwrap_or_else(|faults| panic!("{faults}")))
}

fn failures(played: &Played) -> String {
    played.failures.iter().fold(String::new(), |mut text, failure| {
        writeln!(text, "{failure}").unwrap();
        text
    })
}

#[test]
fn every_wrong_scenario_gets_the_message_that_is_expected() {
    let folder = folder("tests/scenarios");
    let paths = scenarios(&folder);
    assert!(paths.len() >= 15, "{} files", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let said = match Scenario::load(&path) {
            Ok(scenario) => failures(&play(&scenario)),
            Err(faults) => format!("{faults}\n").replace(&format!("{}/", folder.display()), ""),
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS_SCENARIOS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        if said.is_empty() || std::fs::read_to_string(&expected).ok().as_deref() != Some(&said) {
            wrong.push(format!("{}: said\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_tells_the_same_story_and_another_seed_another() {
    let text = "
        seed = 7
        [upstream.main]
        script = [\"rcpt * chance 60%: 451 4.7.1 try later\"]
        [[message]]
        count = 20
        from = \"alice@example.org\"
        to = [\"reader{n}@example.com\", \"other{n}@example.com\"]
        subject = \"News {n}\"
        size = \"2KiB\"
    ";
    let told = |text: &str| format!("{:?}", played(text).story);
    let once = told(text);
    assert_eq!(once, told(text));
    assert_ne!(once, told(&text.replace("seed = 7", "seed = 8")));
}

#[test]
fn numbers_make_many_messages_of_one() {
    let text = "
        [upstream.main]
        [[message]]
        count = 3
        from = \"alice{n}@example.org\"
        to = [\"bob{n}@example.com\"]
        subject = \"News {n}\"
        size = \"1000B\"
    ";
    let story = played(text).story;
    let received = &story.received["main"];
    assert_eq!(received.len(), 3);
    for (message, n) in received.iter().zip(1..) {
        assert_eq!(message.envelope.reverse_path.to_string(), format!("alice{n}@example.org"));
        assert!(message.content.contains(&format!("Subject: News {n}\r\n")), "{}", message.content);
        assert_eq!(message.content.len(), 1000);
    }
}

#[test]
fn the_operator_acts_at_the_time_that_is_written() {
    let text = "
        settings.retry.preset = \"rfc5321\"
        settings.retry.jitter = 0.0
        [upstream.main]
        script = [\"rcpt bob@example.com until 10m: 450 4.2.0 later\"]
        [[message]]
        from = \"alice@example.org\"
        to = [\"bob@example.com\"]
        [[at]]
        time = \"11m\"
        retry = \"bob@example.com\"
    ";
    let played = played(text);
    assert_eq!(failures(&played), "");
    let received = &played.story.received["main"][0];
    assert_eq!(received.at.since(played.story.start).as_secs(), 11 * 60);
}

#[test]
fn what_is_said_later_goes_before_the_script_and_the_first_of_several_first() {
    let text = "
        settings.retry.jitter = 0.0
        [upstream.main]
        [[at]]
        time = \"1h\"
        say = { main = [\"rcpt bob@example.com: 550 5.1.1 first, once\", \"rcpt bob@example.com: 550 5.1.2 second, once\"] }
        [[message]]
        at = \"1h\"
        from = \"\"
        to = [\"bob@example.com\"]
        [[message]]
        at = \"2h\"
        from = \"\"
        to = [\"bob@example.com\"]
    ";
    let played = played(text);
    assert_eq!(failures(&played), "");
    let said: Vec<&str> =
        played.story.asked["main"].iter().filter(|a| a.rule.is_some()).map(|a| a.did.as_str()).collect();
    assert_eq!(said, ["550 5.1.1 first", "550 5.1.2 second"]);
}

#[test]
fn mail_by_mx_follows_the_zone_as_it_changes() {
    let text = "
        via = \"mx\"
        zone = [\"example.com MX 10 mx.example.com\", \"mx.example.com A 192.0.2.10\", \"example.org SERVFAIL\"]
        limit = \"5d\"
        [upstream.theirs]
        [[message]]
        from = \"\"
        to = [\"bob@example.com\", \"carol@gone.example\"]
        [[at]]
        time = \"1h\"
        zone = []
        [[message]]
        at = \"2h\"
        from = \"\"
        to = [\"bob@example.com\"]
    ";
    let played = played(text);
    assert_eq!(failures(&played), "");
    assert_eq!(played.story.received["theirs"].len(), 1, "the second had no MX any more");
    let failed: Vec<_> = played.story.events.iter().filter(|event| event.event.as_str() == "FAIL").collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
}

#[test]
fn our_scenarios_are_in_order_and_come_out_as_they_say() {
    let paths = scenarios(&folder("config/scenarios"));
    assert!(paths.len() >= 2, "{} scenarios", paths.len());
    for path in paths {
        let scenario = Scenario::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(scenario.warnings.is_empty(), "{}", scenario.warnings[0]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Who meets it: "), "{} tells no lesson", path.display());
        let once = play(&scenario);
        assert_eq!(failures(&once), "", "{}", path.display());
        assert_eq!(format!("{:?}", once.story), format!("{:?}", play(&scenario).story), "{}", path.display());
    }
}

/// Plays each file twice, on as many threads as there are processors, and gives what is not as it says.
fn told_wrong(paths: &[PathBuf]) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let scenario = Scenario::load(path).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(scenario.warnings.is_empty(), "{}", scenario.warnings[0]);
            let once = play(&scenario);
            if !once.failures.is_empty() {
                wrong.lock().unwrap().push(format!("{}:\n{}", path.display(), failures(&once)));
            } else if format!("{:?}", once.story) != format!("{:?}", play(&scenario).story) {
                wrong.lock().unwrap().push(format!("{}: another story the second time", path.display()));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    wrong
}

#[test]
fn whatever_an_upstream_does_comes_out_as_its_file_says() {
    let paths = scenarios(&folder("tests/scenarios/upstream"));
    assert!(paths.len() >= 60, "{} behaviours", paths.len());
    let mut titles = std::collections::BTreeSet::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let title = Scenario::read(path, &text).unwrap_or_else(|faults| panic!("{faults}")).title;
        let tells =
            text.starts_with("# ") && text.contains("\ntitle = ") && text.contains("\n[expect.outcomes]");
        assert!(
            tells && titles.insert(title),
            "{} says not what it is, or not what comes out",
            path.display()
        );
    }
    let wrong = told_wrong(&paths);
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), paths.len(), wrong.join("\n"));
}

#[test]
fn content_of_eight_bits_arrives_in_seven_where_that_is_all_there_is() {
    let path = folder("tests/scenarios/upstream/mail-without-8bitmime.toml");
    let played = play(&Scenario::load(&path).unwrap());
    let [received] = &played.story.received["main"][..] else { panic!("{}", failures(&played)) };
    let (header, body) = received.content.split_once("\r\n\r\n").unwrap();
    assert!(received.content.is_ascii(), "{}", received.content);
    assert!(header.contains("Content-Transfer-Encoding: quoted-printable"), "{header}");
    assert!(body.starts_with("Gr=C3=BC=C3=9Fe aus K=C3=B6ln"), "{body}");
}

#[test]
fn what_works_to_no_effect_is_a_warning() {
    let text = "
        zone = [\"example.com MX 10 mx.example.com\"]
        limit = \"3d\"
        [upstream.main]
        script = [\"rcpt * until 5d: 450 4.2.0 later\"]
        [[message]]
        from = \"alice@example.org\"
        to = [\"bob@example.com\"]
        [[at]]
        time = \"1h\"
        dns = \"down\"
    ";
    let scenario = Scenario::read(Path::new("inline.toml"), text).unwrap_or_else(|faults| panic!("{faults}"));
    let warnings: String = scenario.warnings.iter().map(ToString::to_string).collect();
    for said in [
        "inline.toml:2:16: warning: nobody asks the zone",
        "the rule ends at 5d, after the story",
        "nobody asks DNS",
    ] {
        assert!(warnings.contains(said), "{said}: {warnings}");
    }
    assert_eq!(scenario.warnings.len(), 3, "{warnings}");
}

fn lab_run(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_posthouse");
    let package = env!("CARGO_MANIFEST_DIR");
    Command::new(program).args(["lab", "run"]).args(arguments).current_dir(package).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const GOOD: &str = "config/scenarios/greylisting.toml";
const FAILING: &str = "tests/scenarios/story_that_does_not_end.toml";
const FAULTY: &str = "tests/scenarios/rule_for_nobody.toml";

#[test]
fn the_exit_code_tells_good_from_failing_and_from_faulty() {
    let good = lab_run(&[GOOD]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let said = text(&good.stdout);
    assert!(said.starts_with("ok    config/scenarios/greylisting.toml  Greylisting: "), "{said}");
    let failing = lab_run(&[GOOD, FAILING]);
    assert_eq!(failing.status.code(), Some(1), "{failing:?}");
    let said = text(&failing.stdout);
    assert!(said.contains("\nFAIL  tests/scenarios/") && said.contains("the story does not end"), "{said}");
    let faulty = lab_run(&[FAULTY, FAILING, GOOD]);
    assert_eq!(faulty.status.code(), Some(2), "{faulty:?}");
    assert!(text(&faulty.stderr).contains("rule_for_nobody.toml:3:"), "{faulty:?}");
    assert!(text(&faulty.stdout).contains("3 scenarios: 1 ok, 1 failed, 1 faulty"), "{faulty:?}");
}

#[test]
fn json_and_junit_are_the_same_bytes_each_time_however_many_run_side_by_side() {
    for format in ["json", "junit"] {
        let run = |jobs: &str| {
            text(&lab_run(&["--format", format, "--jobs", jobs, "--story", GOOD, FAULTY, FAILING]).stdout)
        };
        let once = run("1");
        assert_eq!(once, run("3"));
        assert!(once.contains("does not end"), "{once}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&lab_run(&["--format", "json", "--story", GOOD, FAILING]).stdout).unwrap();
    assert_eq!((&json["ok"], &json["failed"]), (&1.into(), &1.into()));
    assert_eq!(json["scenarios"][1]["failures"][0]["kind"], "does-not-end");
    assert!(json["scenarios"][0]["events"][0]["event"] == "RECEIVE", "{json}");
}

#[test]
fn results_go_to_a_file_and_a_summary_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.xml");
    let run = lab_run(&["--format", "junit", "--output", file.to_str().unwrap(), GOOD, FAILING, FAULTY]);
    assert!(text(&run.stdout).contains("1 ok, 1 failed, 1 faulty"), "{run:?}");
    let xml = std::fs::read_to_string(&file).unwrap();
    assert!(xml.contains("<testsuites tests=\"3\" failures=\"1\" errors=\"1\">"), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 3, "{xml}");
}

#[test]
fn what_happened_is_written_as_what_is_expected_and_a_change_of_the_upstream_then_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("full.toml");
    let told = "# A lesson.\nsettings.retry.jitter = 0.0\n\n[upstream.main]\n\
        script = [\"rcpt bob@example.com until 5m: 452 4.2.2 mailbox full\"] # for a while\n\n\
        [[message]]\nfrom = \"alice@example.org\"\nto = [\"bob@example.com\"]\n";
    std::fs::write(&file, told).unwrap();
    let path = file.to_str().unwrap();
    let wrote = lab_run(&["--write", path]);
    assert!(text(&wrote.stdout).starts_with("wrote "), "{wrote:?}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.starts_with(told) && written.contains("[expect"), "{written}");
    assert_eq!(lab_run(&[path]).status.code(), Some(0));
    std::fs::write(&file, written.replace("until 5m", "until 8m")).unwrap();
    let failed = lab_run(&[path]);
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stdout);
    assert!(said.contains("bob@example.com") && said.contains("7m") && said.contains("452 4.2.2"), "{said}");
}

#[test]
fn a_story_that_is_not_in_order_is_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("endless.toml");
    std::fs::copy(self::folder(FAILING), &file).unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    let run = lab_run(&["--write", file.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}
