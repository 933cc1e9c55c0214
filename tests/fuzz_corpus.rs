//! The kept corpus of the fuzz targets, and every dialogue, through the targets on stable.
//!
//! Contract: each file in `fuzz/corpus/<target>/` goes through its target, and none breaks a promise; a target without
//! a corpus, or a corpus without a target, is a failure. What fuzzing has found is kept there under a name of its own.
//! Not here: the targets (`tests/fuzz`), the search for more (`cargo +nightly fuzz run <target>` in this repository).

mod dialogue;
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use dialogue::{Act, Dialogue};
use fuzz::{TARGETS, Target};

fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

/// Runs one input; what breaks is named.
fn play(target: Target, octets: &[u8], whose: &str) {
    if catch_unwind(|| target(octets)).is_err() {
        panic!("{whose} breaks a promise: {}", octets.escape_ascii());
    }
}

#[test]
fn nothing_that_was_ever_found_breaks_a_promise() {
    for (target, run) in TARGETS {
        let inputs = entries(&folder("fuzz/corpus").join(target));
        assert!(inputs.len() >= 10, "{target} has a corpus of {} files only", inputs.len());
        for path in inputs {
            play(*run, &fs::read(&path).expect("an input can be read"), &format!("{target}/{}", name(&path)));
        }
    }
}

#[test]
fn every_corpus_has_its_target_and_every_target_its_fuzzer() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(target, _)| target.to_string()).collect();
    let corpora: BTreeSet<String> = entries(&folder("fuzz/corpus")).iter().map(|path| name(path)).collect();
    assert_eq!(corpora, targets);
    let fuzzers = entries(&folder("fuzz/fuzz_targets"));
    let fuzzers: BTreeSet<String> = fuzzers.iter().map(|path| name(path).replace(".rs", "")).collect();
    assert_eq!(fuzzers, targets);
}

/// The client's part of every dialogue, in pieces of each of several lengths, with answers of every kind.
#[test]
fn no_dialogue_breaks_a_promise_of_a_session() {
    let dialogues = Dialogue::read_all(&folder("tests/dialogues"));
    for dialogue in &dialogues {
        let said: Vec<u8> = (dialogue.acts.iter())
            .flat_map(|act| if let Act::Send(octets) = act { octets.clone() } else { Vec::new() })
            .collect();
        for kind in [0, 1, 7, 15] {
            for answers in [[0; 4], [0, 1, 0, 1], [0x40, 0x80, 0xc0, 0x00], [0x1b; 4]] {
                for lengths in [[0, 0, 0], [1, 1, 1], [7, 2, 31]] {
                    let input = [&[kind][..], &answers, &lengths, &said].concat();
                    play(fuzz::session::run, &input, &dialogue.name);
                }
            }
        }
    }
}

#[test]
fn a_broken_promise_is_noticed() {
    for bad in [
        "250 fine\r\n299 no code of ours\r\n",
        "550 no status\r\n",
        "250-open\r\n",
        "250 a\r\n251 b",
        "250 \u{7}\r\n",
    ] {
        assert!(
            catch_unwind(|| fuzz::wire::check(bad.as_bytes(), fuzz::wire::Rest::NeedInput)).is_err(),
            "{bad:?}"
        );
    }
    let farewell = "221 2.0.0 bye\r\n250 2.0.0 still here\r\n";
    assert!(catch_unwind(|| fuzz::wire::check(farewell.as_bytes(), fuzz::wire::Rest::Closed)).is_err());
    fuzz::wire::check(b"220 relay.example.org\r\n250 2.0.0 fine\r\n", fuzz::wire::Rest::NeedInput);
}
