//! `posthouse health`: does it answer, and does it take mail? For container platforms and monitors.
//!
//! Contract: one line and exit code 0 when all is well; else the reason and exit code 1, at the latest after [`LIMIT`].
//! The relay is asked over its control socket, so that the question is no session and counts against no limit; a
//! server that has none is asked by SMTP.
//! Not here: how the relay finds out (`posthouse::admin`), the dialogue (`posthouse::deliver`).

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use posthouse::admin::Status;
use posthouse::deliver::probe;
use serde::Serialize;

use crate::failed::{Failed, chain};
use crate::place::{Format, Place};
use crate::print;
use crate::queue::plural;

/// Real time: less than what container platforms give a check by default.
const LIMIT: Duration = Duration::from_secs(5);

/// Ask whether the relay runs and accepts new mail
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse health
  posthouse health --spool /var/spool/posthouse
  posthouse health --format json
  posthouse health --smtp 127.0.0.1:1025    any SMTP server, such as a lab's upstream

Exit code 0 when it is well, 1 when it does not answer within 5 seconds or accepts no mail.
--smtp connects, waits for the greeting, says EHLO and QUIT; a script's rules for these stages see
it.")]
pub struct Health {
    /// Ask the server at this address by SMTP, in place of the relay that owns the spool
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["config", "spool"])]
    smtp: Option<SocketAddr>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What was found out. People's scripts read it: fields may be added, never changed.
#[derive(Debug, Serialize)]
struct Finding {
    healthy: bool,
    /// One line for people: what is well, or why it is not.
    summary: String,
    /// What the relay says of itself; none when it did not answer, and of a server that was asked by SMTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl Health {
    pub async fn run(self) -> Result<(), Failed> {
        let finding = match self.smtp {
            Some(address) => of_server(address).await,
            None => self.of_relay().await?,
        };
        match (self.format, finding.healthy) {
            (Format::Table, true) => print::text(&format!("{}\n", finding.summary)),
            (Format::Table, false) => Err(Failed::Message(finding.summary)),
            (Format::Json, healthy) => {
                print::json(&finding)?;
                if healthy { Ok(()) } else { Err(Failed::Said(ExitCode::FAILURE)) }
            }
        }
    }

    /// Fails only when the configuration does not tell which relay is meant.
    async fn of_relay(&self) -> Result<Finding, Failed> {
        let client = self.place.client()?;
        Ok(match tokio::time::timeout(LIMIT, client.get("/v1/status")).await {
            Ok(Ok(status)) => Finding::of(status),
            Ok(Err(error)) => Finding::ill(chain(&error)),
            Err(_) => Finding::ill(format!(
                "posthouse runs, but gave no answer over its control socket within {} seconds",
                LIMIT.as_secs()
            )),
        })
    }
}

async fn of_server(address: SocketAddr) -> Finding {
    match probe(address, LIMIT).await {
        Ok(()) => Finding { healthy: true, summary: format!("{address} answers"), status: None },
        Err(error) => Finding::ill(chain(&error)),
    }
}

impl Finding {
    fn of(status: Status) -> Self {
        let mut summary = match (status.accepting, &status.not_accepting) {
            (true, _) => format!(
                "{} accepts new mail; {} in the queue, {}",
                status.hostname,
                counted(status.messages, "message", "messages"),
                counted(status.sessions, "session", "sessions"),
            ),
            (false, why) => {
                let why = why.as_deref().unwrap_or("it does not say why");
                format!("{} runs, but accepts no new mail: {why}", status.hostname)
            }
        };
        // No reason to call it ill: the rest of the queue does not suffer from it.
        if status.quarantined > 0 {
            let pieces = counted(status.quarantined, "damaged piece was", "damaged pieces were");
            summary.push_str(&format!("; {pieces} set aside, see posthouse queue list --quarantined"));
        }
        Self { healthy: status.accepting, summary, status: Some(status) }
    }

    fn ill(summary: String) -> Self {
        Self { healthy: false, summary, status: None }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", plural(count, one, many))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use posthouse::admin::Control;
    use posthouse::relay::{Keep, Relay, Settings};
    use posthouse::spool;

    use super::*;

    /// A relay on `folder` that wants this much free disk; its API lives as long as the answer.
    async fn relay(folder: &Path, min_free: u64) -> (Relay, Control) {
        relay_with(folder, min_free, |_| {}).await
    }

    async fn relay_with(
        folder: &Path,
        min_free: u64,
        change: impl FnOnce(&mut Settings),
    ) -> (Relay, Control) {
        let mut settings = Settings::new("relay.example.org");
        let mut spool = spool::Settings::new(folder);
        spool.min_free = min_free;
        settings.keep = Keep::Folder(spool);
        change(&mut settings);
        let relay = Relay::builder(settings).start().await.unwrap();
        let control = Control::start(relay.clone(), folder).unwrap();
        (relay, control)
    }

    async fn found(folder: &Path) -> Finding {
        let command = ["health", "--spool", folder.to_str().unwrap()];
        let health = <Health as clap::FromArgMatches>::from_arg_matches(
            &Health::augment_args(clap::Command::new("health")).get_matches_from(command),
        );
        match health.unwrap().of_relay().await {
            Ok(finding) => finding,
            Err(failed) => panic!("{:?}", failed.code()),
        }
    }

    #[tokio::test]
    async fn a_relay_that_accepts_mail_is_healthy() {
        let folder = tempfile::tempdir().unwrap();
        let _relay = relay(folder.path(), 0).await;
        let finding = found(folder.path()).await;
        assert!(finding.healthy);
        assert_eq!(
            finding.summary,
            "relay.example.org accepts new mail; 0 messages in the queue, 0 sessions"
        );
        assert_eq!(finding.status.unwrap().hostname, "relay.example.org");
    }

    #[tokio::test]
    async fn what_was_set_aside_is_told_and_makes_no_relay_ill() {
        let folder = tempfile::tempdir().unwrap();
        let _relay = relay(folder.path(), 0).await;
        let mut status = found(folder.path()).await.status.unwrap();
        assert_eq!(status.quarantined, 0);
        status.quarantined = 2;
        let finding = Finding::of(status);
        assert!(finding.healthy);
        let told = "; 2 damaged pieces were set aside, see posthouse queue list --quarantined";
        assert!(finding.summary.ends_with(told), "{}", finding.summary);
    }

    #[tokio::test]
    async fn a_relay_without_room_is_ill_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let _relay = relay(folder.path(), u64::MAX).await;
        let finding = found(folder.path()).await;
        assert!(!finding.healthy);
        let why = finding.status.unwrap().not_accepting.expect("a reason");
        assert_eq!(finding.summary, format!("relay.example.org runs, but accepts no new mail: {why}"));
    }

    #[tokio::test]
    async fn a_relay_with_as_many_messages_as_may_wait_is_ill_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let _relay = relay_with(folder.path(), 0, |settings| settings.queue.messages = 0).await;
        let finding = found(folder.path()).await;
        assert!(!finding.healthy);
        let why = "as many messages wait as may; see [limits] queued_messages";
        assert_eq!(finding.summary, format!("relay.example.org runs, but accepts no new mail: {why}"));
    }

    #[tokio::test]
    async fn a_relay_that_does_not_run_is_ill() {
        let folder = tempfile::tempdir().unwrap();
        let finding = found(folder.path()).await;
        assert!(!finding.healthy && finding.status.is_none());
        assert!(finding.summary.starts_with("no posthouse runs on "), "{}", finding.summary);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_hangs_is_ill_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = tokio::net::UnixListener::bind(folder.path().join("control.sock")).unwrap();
        let finding = found(folder.path()).await;
        assert!(!finding.healthy);
        assert!(finding.summary.contains("no answer over its control socket"), "{}", finding.summary);
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_ill() {
        // Bound, so that nobody else gets the port, and without a listener.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let finding = of_server(socket.local_addr().unwrap()).await;
        assert!(!finding.healthy);
        assert!(finding.summary.contains("Connection refused"), "{}", finding.summary);
    }
}
