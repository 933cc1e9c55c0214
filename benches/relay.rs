//! `cargo bench --bench relay`: runs `benches/relay/run` with the program that cargo just built with optimisations.
//!
//! Not here: what is measured and how, which stands at the top of that script. Needs `tests/peers/install`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn main() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/relay/run");
    let error = Command::new(&script)
        .args(std::env::args_os().skip(1).filter(|argument| argument != "--bench"))
        .env("INTEROP_POSTHOUSE", env!("CARGO_BIN_EXE_posthouse"))
        .exec();
    eprintln!("{}: {error}", script.display());
    std::process::exit(1);
}
