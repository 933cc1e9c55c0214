//! A server of the crate mailin-embedded in front of a relay: what it answers 250 is in the relay's queue.
//!
//! ```text
//! cargo run --example mailin --features mailin -- 127.0.0.1:2525 smtp://127.0.0.1:2526
//! ```

use std::time::Duration;

use posthouse::Relay;
use posthouse::mail::RouteTable;
use posthouse::mailin::Intake;
use posthouse::relay::{Keep, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(upstream)) = (arguments.next(), arguments.next()) else {
        return Err("usage: mailin ADDRESS UPSTREAM, such as 127.0.0.1:2525 smtp://127.0.0.1:2526".into());
    };
    let folder = tempfile::tempdir()?;

    let mut settings = Settings::new("embedded.example.org");
    settings.keep = Keep::Folder(posthouse::spool::Settings::new(folder.path()));
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), upstream.parse()?);
    let relay = Relay::builder(settings).start().await?;

    let mut server = mailin_embedded::Server::new(Intake::new(relay.clone()));
    server.with_name("embedded.example.org").with_addr(&address).map_err(|error| error.to_string())?;
    // It blocks, and it has no end but that of the process.
    std::thread::spawn(move || {
        if let Err(error) = server.serve() {
            eprintln!("the server ended: {error}");
        }
    });
    println!("listening on {address}; Ctrl-C ends it");

    let mut events = relay.events();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { break };
                let event = event?;
                let reason = event.reason.as_deref().unwrap_or_default();
                println!("{} {} {} {reason}", event.time, event.event, event.recipients.join(", "));
            }
            ended = &mut interrupted => {
                ended?;
                break;
            }
        }
    }
    relay.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
