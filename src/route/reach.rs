//! Which name servers DNSSEC can be asked of: those that give the root's signatures.
//!
//! Contract: [`Reach::servers`] names those whose answers count, beginning with the one that answered last. How a server is
//! looked at is handed in; that is done by a task of its own, so that mail waits for it only while nothing is known.
//!
//! | what is known of a server | what follows |
//! |---|---|
//! | nothing, or nothing newer than [`OLD`] | all such are looked at side by side; whoever asks waits for the first that is good, or for all |
//! | it is good, or bad | that counts |
//! | the same, since [`GOOD_FOR`] or [`BAD_FOR`] | that counts, while it is looked at anew |
//! | a question to it has failed | the same, but not within [`DOUBTED_EVERY`] |
//! | none is good, and one was within [`GOOD_FOR`] | DNS is out of order: nobody knows what is vouched for, and mail waits |
//! | none is good | DNSSEC is out of reach: mail goes as without it |
//!
//! Invariants: a server is looked at by one task at a time. Whoever can keep questions from being answered for a moment does
//! not switch DNSSEC off by that.
//! Not here: what a look is (`validating_names`).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
const BAD_FOR: Duration = Duration::from_secs(3 * 60);
const OLD: Duration = Duration::from_secs(60 * 60);
const DOUBTED_EVERY: Duration = Duration::from_secs(30);

/// Whether a server gives the root's signatures; the error says what it does instead, to stand behind its address.
pub(super) type Look = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Looks at the server of this number.
type Looks = Box<dyn Fn(usize) -> Look + Send + Sync>;

/// What is known of all name servers, which go by their numbers.
pub(super) struct Reach {
    addresses: Vec<String>,
    looks: Looks,
    standings: watch::Sender<Vec<Standing>>,
    /// The one that answered last.
    first: AtomicUsize,
    clock: Clock,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Standing {
    known: Option<Known>,
    last_good: Option<Timestamp>,
    /// A task looks at it.
    is_looked_at: bool,
    is_doubted: bool,
}

#[derive(Clone, Debug)]
struct Known {
    said: Result<(), String>,
    at: Timestamp,
}

/// No server's answers count; of each, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutOfReach {
    /// There was one a moment ago.
    Lost(String),
    /// DNSSEC does not come through here.
    Unavailable(String),
}

impl Standing {
    fn is_good(&self) -> bool {
        matches!(self.known, Some(Known { said: Ok(()), .. }))
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let Some(known) = &self.known else { return true };
        let counts = match (self.is_doubted, &known.said) {
            (true, _) => DOUBTED_EVERY,
            (false, Ok(())) => GOOD_FOR,
            (false, Err(_)) => BAD_FOR,
        };
        now.since(known.at) >= counts
    }

    /// What a look has brought.
    fn learn(&mut self, said: Result<(), String>, address: &str, now: Timestamp) {
        let was_good = self.known.as_ref().map(|known| known.said.is_ok());
        match &said {
            Err(why) if was_good != Some(false) => tracing::warn!(
                "DANE is unavailable by the name server {address}, which {why}; where no other gives signatures, mail \
                 goes as without DANE"
            ),
            Ok(()) if was_good == Some(false) => {
                tracing::info!("the name server {address} gives DNSSEC signatures again: DANE is available");
            }
            _ => {}
        }
        self.last_good = if said.is_ok() { Some(now) } else { self.last_good };
        self.known = Some(Known { said, at: now });
        (self.is_looked_at, self.is_doubted) = (false, false);
    }
}

impl Reach {
    pub fn new(
        addresses: Vec<String>,
        looks: impl Fn(usize) -> Look + Send + Sync + 'static,
        clock: Clock,
    ) -> Self {
        let standings = watch::Sender::new(vec![Standing::default(); addresses.len()]);
        Self { addresses, looks: Box::new(looks), standings, first: AtomicUsize::new(0), clock }
    }

    /// The servers to ask, one after the other.
    pub async fn servers(&self) -> Result<Vec<usize>, OutOfReach> {
        self.look_where_due();
        let mut standings = self.standings.subscribe();
        let is_enough = |all: &Vec<Standing>| {
            all.iter().any(Standing::is_good) || all.iter().all(|standing| standing.known.is_some())
        };
        let all = standings.wait_for(is_enough).await.expect("the sender is ours");
        let first = self.first.load(Ordering::Relaxed);
        let in_turn = (0..all.len()).map(|turn| (first + turn) % all.len());
        let good: Vec<usize> = in_turn.filter(|number| all[*number].is_good()).collect();
        if !good.is_empty() {
            return Ok(good);
        }
        let why = |(address, standing): (&String, &Standing)| match &standing.known {
            Some(Known { said: Err(why), .. }) => Some(format!("{address} {why}")),
            _ => None,
        };
        let why: Vec<String> = self.addresses.iter().zip(all.iter()).filter_map(why).collect();
        let now = self.clock.now();
        let was_good = |standing: &Standing| standing.last_good.is_some_and(|at| now.since(at) < GOOD_FOR);
        Err(match all.iter().any(was_good) {
            true => OutOfReach::Lost(why.join("; ")),
            false => OutOfReach::Unavailable(why.join("; ")),
        })
    }

    /// This server has answered, and is asked first from now on.
    pub fn prefer(&self, number: usize) {
        self.first.store(number, Ordering::Relaxed);
    }

    /// A question to this server has failed, which may be the fault of what was asked.
    pub fn doubt(&self, number: usize) {
        self.standings.send_modify(|all| all[number].is_doubted = true);
        self.look_where_due();
    }

    fn look_where_due(&self) {
        let now = self.clock.now();
        let mut due = Vec::new();
        self.standings.send_if_modified(|all| {
            for (number, standing) in all.iter_mut().enumerate() {
                if standing.known.as_ref().is_some_and(|known| now.since(known.at) >= OLD) {
                    standing.known = None;
                }
                if !standing.is_looked_at && standing.is_due(now) {
                    standing.is_looked_at = true;
                    due.push(number);
                }
            }
            !due.is_empty()
        });
        for number in due {
            let look = tokio::spawn((self.looks)(number));
            let (standings, clock, address) =
                (self.standings.clone(), self.clock.clone(), self.addresses[number].clone());
            tokio::spawn(async move {
                let said = look.await.unwrap_or_else(|_| Err("cannot be looked at".to_owned()));
                standings.send_modify(|all| all[number].learn(said, &address, clock.now()));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a server does when it is looked at.
    #[derive(Clone, Copy)]
    enum Does {
        Good,
        Bad,
        /// Says nothing for as long as a look may take.
        Silent,
    }

    struct Bench {
        reach: Reach,
        does: Arc<Mutex<Vec<Does>>>,
        looks: Arc<Mutex<Vec<usize>>>,
        clock: Clock,
    }

    fn bench(servers: &[Does]) -> Bench {
        let clock = Clock::simulated(Timestamp::from_millis(1_000_000), 1);
        let does = Arc::new(Mutex::new(servers.to_vec()));
        let looks = Arc::new(Mutex::new(Vec::new()));
        let (act, seen) = (Arc::clone(&does), Arc::clone(&looks));
        let look = move |number: usize| -> Look {
            seen.lock().unwrap().push(number);
            let does = act.lock().unwrap()[number];
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                match does {
                    Does::Good => Ok(()),
                    Does::Bad => Err("gives no signatures".to_owned()),
                    Does::Silent => {
                        tokio::time::sleep(SECOND * 15).await;
                        Err("timed out".to_owned())
                    }
                }
            })
        };
        let addresses = (1..=servers.len()).map(|number| format!("192.0.2.{number}")).collect();
        let reach = Reach::new(addresses, look, clock.clone());
        Bench { reach, does, looks, clock }
    }

    impl Bench {
        /// What is said, and how long it took.
        async fn ask(&self) -> (Result<Vec<usize>, OutOfReach>, Duration) {
            let began = self.clock.now();
            (self.reach.servers().await, self.clock.now().since(began))
        }

        fn turn(&self, number: usize, does: Does) {
            self.does.lock().unwrap()[number] = does;
        }

        fn looks(&self) -> usize {
            self.looks.lock().unwrap().len()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_never_waited_for_while_another_is_good() {
        let bench = bench(&[Does::Silent, Does::Good]);
        assert_eq!(bench.ask().await, (Ok(vec![1]), Duration::from_millis(100)));
        for minutes in [1, 3, 10, 30] {
            bench.clock.wait(SECOND * 60 * minutes).await;
            assert_eq!(bench.ask().await, (Ok(vec![1]), Duration::ZERO), "{minutes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_counts_while_it_is_looked_at_anew_and_not_for_ever() {
        let bench = bench(&[Does::Bad]);
        let unavailable = OutOfReach::Unavailable("192.0.2.1 gives no signatures".into());
        assert_eq!(bench.ask().await, (Err(unavailable.clone()), Duration::from_millis(100)));
        bench.clock.wait(BAD_FOR - SECOND).await;
        assert_eq!((bench.ask().await.0.is_err(), bench.looks()), (true, 1), "not yet");
        bench.turn(0, Does::Good);
        bench.clock.wait(SECOND).await;
        for _ in 0..3 {
            assert_eq!(bench.ask().await, (Err(unavailable.clone()), Duration::ZERO));
        }
        bench.clock.wait(SECOND).await;
        assert_eq!(bench.ask().await, (Ok(vec![0]), Duration::ZERO));
        assert_eq!(bench.looks(), 2, "one task looks");
        bench.turn(0, Does::Bad);
        bench.clock.wait(GOOD_FOR - SECOND).await;
        assert_eq!((bench.ask().await.0, bench.looks()), (Ok(vec![0]), 2));
        bench.clock.wait(SECOND * 2).await;
        assert_eq!((bench.ask().await.0, bench.looks()), (Ok(vec![0]), 3));
        bench.clock.wait(OLD + SECOND).await;
        assert_eq!(bench.ask().await, (Err(unavailable), Duration::from_millis(100)), "too long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_is_looked_at_and_passed_over_and_the_one_that_answers_goes_first() {
        let bench = bench(&[Does::Good, Does::Good]);
        bench.ask().await.0.unwrap();
        bench.clock.wait(SECOND).await;
        assert_eq!(bench.ask().await.0, Ok(vec![0, 1]));
        bench.turn(0, Does::Silent);
        bench.clock.wait(DOUBTED_EVERY).await;
        for _ in 0..3 {
            bench.reach.doubt(0);
        }
        bench.reach.prefer(1);
        assert_eq!(bench.ask().await.0, Ok(vec![1, 0]), "it may have been the question's fault");
        assert_eq!(bench.looks(), 3, "one look, however many doubt");
        bench.clock.wait(SECOND * 16).await;
        assert_eq!(bench.ask().await.0, Ok(vec![1]));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_last_good_server_fails_mail_waits_before_it_goes_as_without_dane() {
        let bench = bench(&[Does::Good]);
        bench.ask().await.0.unwrap();
        bench.turn(0, Does::Silent);
        bench.reach.doubt(0);
        bench.clock.wait(SECOND * 20).await;
        assert_eq!((bench.ask().await.0, bench.looks()), (Ok(vec![0]), 1), "it has just been looked at");
        bench.clock.wait(SECOND * 10).await;
        bench.ask().await.0.unwrap();
        bench.clock.wait(SECOND * 16).await;
        assert_eq!(bench.ask().await.0, Err(OutOfReach::Lost("192.0.2.1 timed out".into())));
        bench.clock.wait(GOOD_FOR).await;
        let after = bench.ask().await;
        assert_eq!(after, (Err(OutOfReach::Unavailable("192.0.2.1 timed out".into())), Duration::ZERO));
        bench.turn(0, Does::Good);
        bench.clock.wait(BAD_FOR + SECOND * 16).await;
        bench.ask().await.0.unwrap_err();
        bench.clock.wait(SECOND).await;
        assert_eq!(bench.ask().await.0, Ok(vec![0]), "and it is well again");
    }
}
