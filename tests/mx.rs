//! MX routing against a real name server: NSD and hosts that take mail, in a network namespace of their own.
//!
//! Contract: the cases stand in tests/mx/cases.toml, those with signed zones (DANE) in tests/mx/dane.toml, those of MTA-STS in
//! tests/mx/sts.py; each is asked of `posthouse mx` and played through a running relay.
//! tests/mx/install must have been run (MX_PEERS moves where NSD is), and the machine must let us make a network
//! namespace (`unshare -rn`: as root, or where user namespaces are allowed); without either the test fails and says so.
//! MX_CASE names a single case.
//! Invariants: nothing leaves the namespace; every process started ends with it.
//! Not here: what follows from an answer, case by case (`src/route/mx/tests.rs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn what_dns_says_decides_where_mail_goes() {
    play("run.py");
}

#[test]
fn what_dnssec_vouches_for_decides_about_tls_and_nothing_else() {
    play("dane.py");
}

#[test]
fn what_mta_sts_policies_say_decides_about_tls_up_to_the_delivery() {
    play("sts.py");
}

fn play(script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peers = std::env::var_os("MX_PEERS").map_or_else(|| root.join("target/mx-peers"), PathBuf::from);
    assert!(peers.join("stamp").exists(), "no name server in {}: run tests/mx/install", peers.display());
    let unshare = |program: &[&str]| {
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=10",
            "280",
            "unshare",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        command.args(program).stdin(Stdio::null());
        command
    };
    let namespace =
        unshare(&["ip", "link", "set", "lo", "up"]).output().expect("timeout is part of coreutils");
    assert!(
        namespace.status.success(),
        "no network namespace can be made here (unshare of util-linux, ip of iproute2; root, or \
         kernel.unprivileged_userns_clone=1): {}",
        String::from_utf8_lossy(&namespace.stderr)
    );
    let output = unshare(&["python3", script])
        .current_dir(root.join("tests/mx"))
        .env("MX_POSTHOUSE", env!("CARGO_BIN_EXE_posthouse"))
        .env("MX_PEERS", &peers)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("timeout has just run");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "tests/mx/{script}: {}\n{said}", output.status);
    println!("{said}");
}
