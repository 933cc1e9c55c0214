//! `cargo bench --bench accept`: runs `benches/accept/run` with the program that cargo just built with optimisations.
//!
//! Contract: without a word of its own this is the script, which is given this program as the client; `load` and `idle` are that
//! client (see `load`, `idle`). Needs `tests/peers/install`.
//! Not here: what is measured and how, which stands at the top of that script; whole ways through a relay (`relay`).

mod idle;
mod load;
mod session;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["load", rest @ ..] => load::run(rest),
        ["idle", rest @ ..] => idle::run(rest),
        rest => script(rest),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("accept: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn script(words: &[&str]) -> Result<(), Failure> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/accept/run");
    let failure = Command::new(&script)
        .args(words)
        .env("INTEROP_POSTHOUSE", env!("CARGO_BIN_EXE_posthouse"))
        .env("ACCEPT_CLIENT", std::env::current_exe()?)
        .exec();
    Err(format!("{}: {failure}", script.display()).into())
}

/// Says that all is prepared, and waits for the word to go on: the script measures what lies between.
async fn ready() -> Result<(), Failure> {
    println!("ready");
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
    Ok(())
}
