//! The better host is used again: once everything is well, mail goes by the preferred host of its group.
//!
//! Contract: after whatever happened before, and an outage for as long as the waits for its end can grow, a letter that
//! comes one wait of the breaker and one trial after everything is well goes to the first host of its group.
//! Not here: why it was left (`route`).

use std::time::Duration;

use super::chapter::Life;
use super::client::{self, Heard, Letter};
use super::plan::DOMAINS;
use super::story::Story;

/// The longest wait of a breaker, and a minute for the trial itself.
const WITHIN: Duration = Duration::from_secs(6 * 60);
/// For a letter to get where it goes.
const DELIVERED: Duration = Duration::from_secs(60);
/// Seconds between the letters of an outage. Each comes when the wait that is stated is over, and is the trial; the outage
/// ends right behind the last of them, when the next wait has just begun.
const OUTAGE: [u64; 11] = [10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 5];

impl Story {
    /// To be asked when nothing waits any more, and every host has been well for as long as anybody remembers.
    pub(super) async fn better_hosts_are_used_again(&mut self, life: &Life) -> Result<(), String> {
        for (host, domain) in [(0, DOMAINS[0]), (1, DOMAINS[1])] {
            let rule = format!("mail *: 421 4.3.2 closing, for {}s", OUTAGE.iter().sum::<u64>());
            life.upstreams[host].say(rule.parse().map_err(|error| format!("{rule}: {error}"))?);
            for seconds in OUTAGE {
                self.send(life, domain).await?;
                life.clock.wait(Duration::from_secs(seconds)).await;
            }
            // The first is on trial where the host's wait is over; its way is of no consequence.
            self.send(life, domain).await?;
            life.clock.wait(WITHIN).await;
            let message_id = self.send(life, domain).await?;
            life.clock.wait(DELIVERED).await;
            let came = |index: usize| {
                let mine = |message: &crate::lab::Received| message.content.contains(&message_id);
                life.upstreams[index].newest(mine).is_some()
            };
            if !came(host) {
                let by = (0..life.upstreams.len()).find(|index| came(*index));
                return Err(format!(
                    "{WITHIN:?} after all was well, mail for {domain} does not go to host {host} but to {by:?}"
                ));
            }
        }
        Ok(())
    }

    /// A letter to this domain; gives its Message-ID once it is promised.
    async fn send(&mut self, life: &Life, domain: &str) -> Result<String, String> {
        let (number, message_id) = {
            let mut letters = self.letters.lock().unwrap();
            let letter = Letter::plain(letters.len(), domain);
            let known = (letter.number, letter.message_id());
            letters.push(letter);
            known
        };
        self.tell(format!("a client brings letter {number} to {domain}"));
        client::submit(life.network.clone(), life.clock.clone(), self.letters.clone(), vec![number]).await;
        match self.letters.lock().unwrap()[number].heard {
            Heard::Promised => Ok(message_id),
            heard => Err(format!("all is well, and letter {number} heard {heard:?}")),
        }
    }
}
