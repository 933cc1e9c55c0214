//! MTA-STS (RFC 8461) as routing does it: the policy comes over HTTPS from a server of the test, is kept, and decides about the
//! MX hosts. In memory, on paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::{Destination, Verdict};
use posthouse::net::{ClientTls, MemoryNetwork, Network, ServerTls, Stream};
use posthouse::route::{Memory, Plan, Router, Security, Settings, Zone};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const SERVER: &str = "192.0.2.80";

/// What the policy server does with a request.
#[derive(Clone)]
enum Answer {
    Says(String),
    /// One octet every ten seconds.
    Drips(String),
    Silence,
    /// The handshake is not even begun.
    Closes,
}

/// A policy server, a domain with three MX hosts, and a relay's routing.
struct Town {
    zone: Arc<Zone>,
    clock: Clock,
    network: Network,
    authority: CertifiedIssuer<'static, KeyPair>,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
    router: Router,
}

fn policy(mode: &str, mx: &[&str], max_age: u64) -> String {
    let mx: String = mx.iter().map(|mx| format!("mx: {mx}\r\n")).collect();
    format!("version: STSv1\r\nmode: {mode}\r\n{mx}max_age: {max_age}\r\n")
}

fn http(status: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Says(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
}

fn good(policy: &str) -> Answer {
    http("200 OK", "Content-Type: text/plain; charset=utf-8\r\n", policy)
}

/// Names the first two hosts, one of them by a wildcard, and not the third.
fn enforce() -> Answer {
    good(&policy("enforce", &["mx1.example.com", "*.example.net"], 3 * 86_400))
}

/// Every way in which no policy comes.
fn failures() -> Vec<(&'static str, Answer)> {
    let plain = "Content-Type: text/plain\r\n";
    let body = policy("enforce", &["mx1.example.com"], 86_400);
    let moved = format!("{plain}Location: https://mta-sts.example.com/.well-known/mta-sts.txt\r\n");
    let long = format!("{body}{}", "x".repeat(64 << 10));
    let chunked = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    vec![
        ("redirect", http("301 Moved Permanently", &moved, &body)),
        ("not there", http("404 Not Found", plain, "no")),
        ("broken", http("500 Internal Server Error", plain, &body)),
        ("media type", http("200 OK", "Content-Type: text/html\r\n", &body)),
        ("no media type", http("200 OK", "", &body)),
        ("too long", http("200 OK", plain, &long)),
        (
            "too long, and does not say so",
            Answer::Says(format!("HTTP/1.1 200 OK\r\n{plain}Transfer-Encoding: chunked\r\n\r\n{chunked}")),
        ),
        ("no policy", good("<html>welcome</html>")),
        ("no mx", good(&policy("enforce", &[], 86_400))),
        ("no HTTP", Answer::Says("220 mail.example.com ESMTP\r\n".into())),
        ("slow", Answer::Drips(format!("HTTP/1.1 200 OK\r\n{plain}\r\n{body}"))),
        ("silent", Answer::Silence),
        ("closed", Answer::Closes),
    ]
}

impl Town {
    async fn new(answer: Answer) -> Self {
        Self::with(answer, "mta-sts.example.com", Memory::none()).await
    }

    /// `name`: whom the policy server's certificate is for.
    async fn with(answer: Answer, name: &str, memory: Memory) -> Self {
        let zone = Arc::new(Zone::new());
        let hosts = ["mx1.example.com", "mx2.example.net", "mx3.example.org"];
        zone.set_mx("example.com", (10..).zip(hosts));
        for (number, host) in (1..).zip(hosts) {
            zone.set_addresses(host, [[192, 0, 2, number].into()]);
        }
        zone.set_addresses("mta-sts.example.com", [SERVER.parse().unwrap()]);
        zone.set_txt("_mta-sts.example.com", ["v=STSv1; id=1;"]);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let network = Network::Memory(MemoryNetwork::new());
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::default());
        serve(&network, certificate(&authority, name), Arc::clone(&answer), Arc::clone(&requests)).await;
        let clock = Clock::simulated(Timestamp::from_millis(1_795_176_000_000), 1);
        let router = router(&authority, &clock, &network, &zone, memory);
        Self { zone, clock, network, authority, answer, requests, router }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    async fn plan(&self) -> Plan {
        self.router.plan(&Destination::Mx("example.com".into())).await.expect("a host can be used")
    }

    /// The security of each hop, in order.
    async fn security(&self) -> Vec<Security> {
        self.plan().await.hops.into_iter().map(|hop| hop.security).collect()
    }
}

fn certificate(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerTls::from_der(vec![made.der().clone()], private).unwrap()
}

fn settings(authority: &CertifiedIssuer<'static, KeyPair>) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.sts_port = 8443;
    settings.sts_tls = Some(ClientTls::trusting([authority.der().clone()]).unwrap());
    settings
}

fn router(
    authority: &CertifiedIssuer<'static, KeyPair>,
    clock: &Clock,
    network: &Network,
    zone: &Arc<Zone>,
    memory: Memory,
) -> Router {
    let settings = settings(authority);
    Router::new(settings, clock.clone(), network.clone(), Arc::clone(zone) as _, memory)
}

async fn serve(
    network: &Network,
    tls: ServerTls,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut listener = network.bind(format!("{SERVER}:8443").parse().unwrap()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), answer.lock().unwrap().clone());
            tokio::spawn(one_request(stream, tls, answer, Arc::clone(&requests)));
        }
    });
}

/// Whatever the client makes of it.
async fn one_request(stream: Stream, tls: ServerTls, answer: Answer, requests: Arc<Mutex<Vec<String>>>) {
    if let Answer::Closes = answer {
        requests.lock().unwrap().push(String::new());
        return;
    }
    let Ok(mut stream) = stream.start_tls_server(&tls, MINUTE * 2).await else {
        requests.lock().unwrap().push("no TLS".into());
        return;
    };
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    requests.lock().unwrap().push(String::from_utf8(request).unwrap());
    match answer {
        Answer::Says(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::Drips(text) => {
            for octet in text.bytes() {
                if stream.write_all(&[octet]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        }
        Answer::Silence | Answer::Closes => tokio::time::sleep(DAY).await,
    }
}

#[tokio::test(start_paused = true)]
async fn under_enforce_only_hosts_that_the_policy_names_are_used_and_verified() {
    let town = Town::new(enforce()).await;
    let plan = town.plan().await;
    let hosts: Vec<_> = plan.hops.iter().map(|hop| (hop.host.as_str(), &hop.security)).collect();
    assert_eq!(hosts, [("mx1.example.com", &Security::Sts), ("mx2.example.net", &Security::Sts)]);
    assert!(plan.hops.iter().all(|hop| hop.named_securely));
    let third = plan.candidates.iter().find(|candidate| candidate.host == "mx3.example.org").unwrap();
    let decision = third.decision.to_string();
    assert_eq!(decision, "skipped: the domain's MTA-STS policy does not name it");
    let request = town.requests.lock().unwrap()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /.well-known/mta-sts.txt http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: mta-sts.example.com"), "{request}");

    let town = Town::new(good(&policy("enforce", &["elsewhere.example"], 86_400))).await;
    let none = town.router.plan(&Destination::Mx("example.com".into())).await.unwrap_err();
    assert_eq!((none.outcome.verdict, none.outcome.status.to_string()), (Verdict::Deferred, "4.7.5".into()));
    assert!(none.waivable, "a message may say TLS-Required: No");
}

#[tokio::test(start_paused = true)]
async fn a_policy_server_is_no_way_to_where_mail_must_not_go() {
    let town = Town::new(enforce()).await;
    let mut settings = settings(&town.authority);
    settings.refuse.push("192.0.2.80/32".parse().unwrap());
    town.router.reload(settings);
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    assert_eq!(town.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn testing_and_none_change_nothing_and_testing_is_told() {
    let text = policy("testing", &["mx1.example.com"], 86_400);
    let town = Town::new(good(&text)).await;
    let plan = town.plan().await;
    assert!(plan.hops.len() == 3 && plan.hops.iter().all(|hop| hop.security == Security::Opportunistic));
    let told: Vec<String> = plan.candidates.iter().map(|candidate| candidate.decision.to_string()).collect();
    assert_eq!(told[0], "chosen: MTA-STS in testing");
    assert_eq!(told[2], "chosen: the domain's MTA-STS policy, in testing, does not name it");

    let town = Town::new(good(&policy("none", &[], 86_400))).await;
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    assert_eq!(town.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_come_is_none_and_is_asked_for_again_after_five_minutes() {
    for (which, answer) in failures() {
        let town = Town::new(answer).await;
        let began = tokio::time::Instant::now();
        assert_eq!(town.security().await, vec![Security::Opportunistic; 3], "{which}");
        assert!(began.elapsed() <= MINUTE + Duration::from_secs(1), "{which}: {:?}", began.elapsed());
        town.security().await;
        assert_eq!(town.requests(), 1, "{which}: what failed is not asked for at once");
        town.clock.wait(MINUTE * 5).await;
        town.answers(enforce());
        assert_eq!(town.security().await, vec![Security::Sts; 2], "{which}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_in_force_stays_so_until_its_max_age_whatever_the_server_does_meanwhile() {
    for (which, answer) in failures() {
        let town = Town::new(enforce()).await;
        assert_eq!(town.security().await, vec![Security::Sts; 2], "{which}");
        town.answers(answer);
        town.zone.set_txt("_mta-sts.example.com", ["v=STSv1; id=2;"]);
        let began = tokio::time::Instant::now();
        assert_eq!(town.security().await, vec![Security::Sts; 2], "{which}");
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{which}: mail need not wait, {:?}",
            began.elapsed()
        );
        assert_eq!(town.requests(), 2, "{which}");
        town.clock.wait(DAY * 3 - MINUTE * 10).await;
        assert_eq!(town.security().await, vec![Security::Sts; 2], "{which}");
        town.clock.wait(MINUTE * 10).await;
        assert_eq!(town.security().await, vec![Security::Opportunistic; 3], "{which}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_id_has_the_policy_fetched_at_once_and_the_same_one_after_a_day() {
    let town = Town::new(enforce()).await;
    for _ in 0..3 {
        assert_eq!(town.security().await, vec![Security::Sts; 2]);
    }
    assert_eq!(town.requests(), 1);
    town.answers(good(&policy("none", &[], 3 * 86_400)));
    assert_eq!(town.security().await, vec![Security::Sts; 2], "the id is the same");
    town.zone.set_txt("_mta-sts.example.com", ["v=STSv1; id=2;"]);
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    assert_eq!(town.requests(), 2);
    town.answers(enforce());
    town.clock.wait(DAY).await;
    assert_eq!(town.security().await, vec![Security::Sts; 2]);
    assert_eq!(town.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_gone_ends_no_policy() {
    let town = Town::new(enforce()).await;
    town.security().await;
    town.zone.remove("_mta-sts.example.com");
    assert_eq!(town.security().await, vec![Security::Sts; 2]);
    town.clock.wait(DAY * 3).await;
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    assert_eq!(town.requests(), 1, "nobody says that there is one");
}

#[tokio::test(start_paused = true)]
async fn a_policy_comes_only_with_a_certificate_for_its_server() {
    let town = Town::with(enforce(), "mta-sts.example.net", Memory::none()).await;
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    // The server hears of it a moment later.
    town.clock.wait(Duration::from_secs(1)).await;
    assert_eq!(*town.requests.lock().unwrap(), ["no TLS"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_server_is_no_way_into_networks_that_are_refused() {
    let town = Town::new(enforce()).await;
    town.zone.set_addresses("mta-sts.example.com", ["127.0.0.1".parse().unwrap()]);
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
    assert_eq!(town.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_remembered_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let town = Town::with(enforce(), "mta-sts.example.com", Memory::open(folder.path())).await;
    assert_eq!(town.security().await, vec![Security::Sts; 2]);
    let Town { zone, clock, network, authority, answer, requests, router: before } = town;
    drop(before);
    *answer.lock().unwrap() = Answer::Closes;
    let router = router(&authority, &clock, &network, &zone, Memory::open(folder.path()));
    let town = Town { zone, clock, network, authority, answer, requests, router };
    assert_eq!(town.security().await, vec![Security::Sts; 2]);
    assert_eq!(town.requests(), 1, "it is not fetched again, since its id is the same");
    town.clock.wait(DAY * 3).await;
    assert_eq!(town.security().await, vec![Security::Opportunistic; 3]);
}
