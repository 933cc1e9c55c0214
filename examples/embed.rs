//! A relay inside a program: started, fed with a message, watched until the message has gone.
//!
//! ```text
//! cargo run --example embed -- smtp://127.0.0.1:2526 you@example.com
//! ```

use std::time::Duration;

use posthouse::Relay;
use posthouse::mail::{Address, Envelope, RouteTable};
use posthouse::relay::{Keep, Settings};
use posthouse::tracking::EventName;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(upstream), Some(recipient)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed UPSTREAM RECIPIENT, such as smtp://127.0.0.1:2526 you@example.com".into());
    };
    let folder = tempfile::tempdir()?;

    let mut settings = Settings::new("embedded.example.org");
    settings.keep = Keep::Folder(posthouse::spool::Settings::new(folder.path()));
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), upstream.parse()?);
    let relay = Relay::builder(settings).start().await?;

    let mut events = relay.events();
    let sender: Address = "me@example.org".parse()?;
    let envelope = Envelope::new(sender.into(), [recipient.parse()?]);
    let id = relay.submit(envelope, "Subject: hello\r\n\r\nFrom inside a program.\r\n").await?;
    println!("{id} is safe");

    while let Some(event) = events.next().await {
        let event = event?;
        let reason = event.reason.as_deref().unwrap_or_default();
        println!("{} {} {reason}", event.time, event.event);
        if event.id == Some(id) && matches!(event.event, EventName::Send | EventName::Fail) {
            break;
        }
    }
    relay.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
