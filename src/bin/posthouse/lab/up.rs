//! `posthouse lab up`: a flaky upstream, a relay in front of it on a fast clock, and the story of their mail.
//!
//! Contract: everything that the relay takes goes to the lab's own upstream, so that nothing leaves this machine,
//! whatever address it is for; notices land in the same inbox. Ends on SIGINT, SIGTERM and SIGHUP, with exit code 0.
//! Not here: the story (`story`), the folder (`folder`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use posthouse::accept::ListenerSettings;
use posthouse::admin::{self, Control};
use posthouse::clock::Clock;
use posthouse::deliver::Timeouts;
use posthouse::lab::{self, Script, Upstream};
use posthouse::mail::RouteTable;
use posthouse::net::Network;
use posthouse::relay::{Keep, Relay, Settings, Track};
use posthouse::route::Zone;
use posthouse::spool;

use super::folder::{self, LabFolder};
use super::rules::Rules;
use super::samples;
use super::story::{Facts, Story, end_signal};
use crate::failed::Failed;

/// Where the relay listens when nobody says otherwise: where `posthouse send` sends to.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2525);
/// How long a step of a delivery may take, in real time: hours of a fast clock.
const STEP_MAX: Duration = Duration::from_secs(2);
/// Free disk that must be left; a lab needs little, and folders for temporary files are small.
const MIN_FREE: u64 = 16 << 20;
const STOP_DEADLINE: Duration = Duration::from_secs(3);
/// The name under which the relay knows the upstream.
const GROUP: &str = "upstream";

/// Start a relay in front of an upstream that misbehaves, and watch what becomes of a few messages
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse lab up
  posthouse lab up --until-quiet    for scripts: ends when nothing waits any more
  posthouse lab up --no-samples --say 'rcpt: 451 4.7.1 try later, 3 times'
  posthouse lab up --speed 60 --listen 127.0.0.1:2525 --script monday.rules

An hour passes in a second, unless --speed says otherwise. Whatever address mail is for, it goes to
the lab's own upstream and nowhere else. Magic addresses need no rule: 451-3times@example.com is
refused three times and then taken, 550@example.com for ever; timeout@, close@, reset@, garbage@,
slow@, lost@ and kept@ do what they say.")]
pub struct Up {
    /// Where the relay takes mail; 127.0.0.1:2525 without it, or a free port when that one is taken
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the upstream takes mail; a free port without it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    upstream_listen: SocketAddr,
    /// Seconds that pass in the lab for each real one
    #[arg(long, value_name = "N", default_value = "3600", value_parser = super::speed)]
    speed: f64,
    #[command(flatten)]
    rules: Rules,
    /// The folder of the lab: spool, tracking log, control socket; a well-known one without it
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the folder at the end; the next lab on it goes on with the mail that waits there
    #[arg(long)]
    keep: bool,
    /// Send no messages at the start
    #[arg(long)]
    no_samples: bool,
    /// End when nothing waits any more
    #[arg(long)]
    until_quiet: bool,
}

impl Up {
    pub async fn run(self) -> Result<(), Failed> {
        // Before the folder is made: a signal that comes later must not leave it behind.
        let ended = end_signal()?;
        let rules = self.rules.read()?;
        let path = self.dir.clone().unwrap_or_else(folder::well_known);
        let mut folder = LabFolder::claim(&path, self.keep)?;
        let clock = super::clock(self.speed);
        let mut script = Script::new(clock.now(), clock.chance());
        for rule in rules {
            script.add(rule);
        }
        if !self.no_samples {
            script.add(samples::RULE.parse().expect("a rule"));
        }
        let upstream = Upstream::start(&Network::System, self.upstream_listen, &clock, script).await?;
        let (listen, instead) = match self.listen {
            Some(address) => (address, false),
            None => free(LISTEN),
        };
        let relay = self.relay(&folder, listen, &upstream, clock).await?;
        folder.begin();
        let routes = admin::routes(relay.clone()).merge(lab::api::routes(upstream.clone()));
        let control = Control::serve(folder.path(), routes)?;
        let facts = Facts {
            speed: self.speed,
            folder: folder.path().to_owned(),
            taken_up: folder.taken_up(),
            keep: self.keep,
            taken_port: instead.then_some(LISTEN),
            samples: !self.no_samples,
            until_quiet: self.until_quiet,
        };
        let told = Story::new(facts, relay.clone(), upstream).tell(ended).await;
        drop(control);
        // What is under way is cut short; a folder that is kept has it all.
        let _ = relay.shutdown(STOP_DEADLINE).await;
        told
    }

    async fn relay(
        &self,
        folder: &LabFolder,
        listen: SocketAddr,
        upstream: &Upstream,
        clock: Clock,
    ) -> Result<Relay, Failed> {
        let mut settings = Settings::new("relay.example.org");
        let mut spool = spool::Settings::new(folder.path());
        spool.min_free = MIN_FREE;
        settings.keep = Keep::Folder(spool);
        let tracking = folder.path().join("tracking");
        settings.track = Track::Folder { path: tracking, keep: Duration::from_secs(30 * 86_400) };
        settings.listeners = vec![ListenerSettings::new(listen)];
        if !listen.ip().is_loopback() {
            // Whoever reaches a lab may use it (a container's host comes from anywhere): nothing leaves it.
            let everybody = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("a network"));
            settings.accept.networks = everybody.to_vec();
        }
        settings.routes = RouteTable::all_via(GROUP);
        let url = format!("smtp://{}", reachable(upstream.address()));
        settings.route.groups.insert(GROUP.into(), url.parse()?);
        settings.deliver.timeouts = Timeouts {
            connect: STEP_MAX,
            handshake: STEP_MAX,
            greeting: STEP_MAX,
            command: STEP_MAX,
            data: STEP_MAX,
            block: STEP_MAX,
            content: STEP_MAX,
            ..Timeouts::default()
        };
        // The upstream is an address: no name is asked for, and a machine without DNS rehearses as well.
        let names = Arc::new(Zone::default());
        Ok(Relay::builder(settings).clock(clock).names(names).start().await?)
    }
}

/// `address`, or a free port of the same address and `true` when another program has it.
fn free(address: SocketAddr) -> (SocketAddr, bool) {
    match std::net::TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            (SocketAddr::new(address.ip(), 0), true)
        }
        // Any other trouble is told better by the relay.
        _ => (address, false),
    }
}

/// Where a program on this machine connects to: a listener on all addresses is also on loopback.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_gives_way_to_a_free_one() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(free(address), ("127.0.0.1:0".parse().unwrap(), true));
        let any = "127.0.0.1:0".parse().unwrap();
        assert_eq!(free(any), (any, false));
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:25"), "127.0.0.1:25");
        assert_eq!(reached("[::]:25"), "[::1]:25");
        assert_eq!(reached("192.0.2.1:25"), "192.0.2.1:25");
    }
}
