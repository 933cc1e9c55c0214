//! The real program among other makers' programs: clients in front of it, servers behind it, kill -9, bad disks.
//!
//! Contract: each test runs one file of scenarios in `tests/interop/` (Python, unittest) against the program that cargo
//! just built, and shows what it printed when it fails. `tests/peers/install` must have been run; without it every test
//! fails and says so. INTEROP_PEERS moves where the peers are, INTEROP_KILLS sets the rounds of `crash`, INTEROP_DIALOGUES
//! those of `hostile`, INTEROP_SEED the chance of `crash`, `hostile` and `disk_*`. What a machine cannot do (mounts,
//! strace) is left out, which is always said.
//! To run one scenario: `INTEROP_POSTHOUSE=target/debug/posthouse python3 -m unittest -v test_tls` in `tests/interop`.
//! Invariants: loopback only, free ports, every process started is ended by its id, every file ends within its time.
//! Not here: what needs no other program (`src/**/tests`).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock};

/// `crash` loads the machine and has it to itself; the others run side by side.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs the scenarios of `tests/interop/test_<name>.py`.
fn scenarios(name: &str) {
    // A file that failed leaves nothing behind that would disturb the next.
    let (_alone, _beside) = match name {
        "crash" => (Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)), None),
        _ => (None, Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner))),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let output = Command::new("timeout")
        // A relay that hangs is ended by its scenario; this is for a scenario that hangs.
        .args(["--kill-after=10", "900", "python3", "-m", "unittest", "-v", &format!("test_{name}")])
        .current_dir(folder)
        .env("INTEROP_POSTHOUSE", env!("CARGO_BIN_EXE_posthouse"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .expect("python3 should be installed: apt-get install python3");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "tests/interop/test_{name}.py: {}\n{said}", output.status);
    // Past the harness, which shows nothing of a test that passes.
    let worth_knowing = |line: &&str| line.contains("skipped '") || line.ends_with("expected failure");
    for line in said.lines().filter(worth_knowing) {
        let _ = writeln!(std::io::stderr(), "tests/interop/test_{name}.py: {line}");
    }
    // Seen with --nocapture: the counts of lost and duplicate messages.
    println!("{said}");
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                scenarios(stringify!($name));
            }
        )*
    };
}

scenarios! {
    bad_input clients clients_auth commands crash delivery disk_failing disk_full endurance envelope failover flaky_upstream hostile
    lab outcomes relaying spool_folder stop tls upstreams
}

#[test]
fn every_file_of_scenarios_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .expect("tests/interop should be readable")
        .filter_map(|entry| entry.expect("its entries too").file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_prefix("test_")?.strip_suffix(".py")?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}
