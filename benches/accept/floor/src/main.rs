//! mailin-embedded on a port of 127.0.0.1: a server that answers, and does nothing else.
//!
//! Contract: `accept-floor PORT SESSIONS CERTIFICATE KEY` serves so many sessions at one time, with STARTTLS, until it is
//! ended. Content is dropped as it comes: nothing is durable, which is why it is the floor.

use mailin_embedded::{Handler, Server, SslConfig};

#[derive(Clone)]
struct Forget;

impl Handler for Forget {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, sessions, cert_path, key_path] = words.as_slice() else {
        return Err("accept-floor PORT SESSIONS CERTIFICATE KEY".into());
    };
    let mut server = Server::new(Forget);
    server
        .with_name("floor.example.org")
        .with_ssl(SslConfig::SelfSigned { cert_path: cert_path.clone(), key_path: key_path.clone() })?
        .with_num_threads(sessions.parse()?)
        .with_addr(format!("127.0.0.1:{port}"))?;
    server.serve()?;
    Ok(())
}
