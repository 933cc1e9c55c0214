//! A name server on loopback that answers by the first label of the name: what the real world may say.
//!
//! Not here: what follows for mail (`mx`), zones of a real server (tests/mx).

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, NS};
use tokio::net::UdpSocket;

use super::*;

/// Answers by the first label of the name asked: what a zone of the real world may say.
async fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut octets).await {
            let asked = Message::from_vec(&octets[..length]).unwrap();
            if let Some(answer) = answer(&asked) {
                socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        }
    });
    address
}

fn named(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn answer(asked: &Message) -> Option<Message> {
    let query = asked.queries.first()?.clone();
    let name = query.name().clone();
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match (name.to_ascii().split('.').next()?, query.query_type()) {
        ("silent", _) => return None,
        // EDNS is more than it knows.
        ("old", _) if asked.edns.is_some() => return None,
        ("no-six", RecordType::AAAA) => return None,
        ("old" | "no-six", RecordType::A) => {
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("broken", _) => answer.metadata.response_code = ResponseCode::ServFail,
        ("absent", _) => answer.metadata.response_code = ResponseCode::NXDomain,
        ("two", RecordType::MX) => {
            for (preference, host) in [(20, "mx-b.example."), (10, "MX-A.example.")] {
                let mx = MX::new(preference, Name::from_ascii(host).unwrap());
                answer.add_answer(Record::from_rdata(name.clone(), 60, RData::MX(mx)));
            }
        }
        ("null", RecordType::MX) => {
            let mx = MX::new(0, Name::root());
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::MX(mx)));
        }
        ("mx-a", RecordType::A) => {
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("lame", _) => {
            answer.add_authority(Record::from_rdata(name, 60, RData::NS(NS(named("ns.example.")))));
        }
        ("upward", _) => {
            answer.metadata.recursion_available = false;
            answer.add_authority(Record::from_rdata(Name::root(), 60, RData::NS(NS(named("a.root.")))));
        }
        ("stranger", _) => answer.metadata.recursion_available = false,
        ("terse", _) => {
            answer.metadata.recursion_available = false;
            answer.metadata.authoritative = true;
        }
        ("circle", _) => {
            answer.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(named("circle.example.")))));
        }
        ("dangling", _) => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(named("absent.example.")))));
        }
        ("alias", kind) => {
            answer.add_answer(Record::from_rdata(name, 30, RData::CNAME(CNAME(named("mx-a.example.")))));
            if kind == RecordType::A {
                let address = RData::A(A::new(192, 0, 2, 1));
                answer.add_answer(Record::from_rdata(named("mx-a.example."), 60, address));
            }
        }
        // One half fails, the other has nothing.
        ("half", RecordType::A) => answer.metadata.response_code = ResponseCode::ServFail,
        _ => {}
    }
    Some(answer)
}

#[tokio::test]
async fn tells_apart_what_does_not_exist_from_what_gives_no_answer() {
    let names =
        SystemNames::with_timeout(&[server().await], &TrustAnchor::default(), Duration::from_millis(200))
            .unwrap();
    let mut two = names.mx("two.example").await.unwrap();
    two.records.sort();
    assert_eq!((two.ttl, two.aliases.len()), (60, 0));
    assert_eq!(two.records, [(10, "mx-a.example".to_owned()), (20, "mx-b.example".to_owned())]);
    assert_eq!(names.mx("null.example").await.unwrap().records, [(0, ".".to_owned())]);
    assert_eq!(
        names.addresses("mx-a.example").await.unwrap().records,
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(names.mx("absent.example").await, Err(NameError::NoSuchDomain));
    assert_eq!(names.addresses("absent.example").await, Err(NameError::NoSuchDomain));
    assert_eq!(names.mx("empty.example").await, Err(NameError::NoRecords));
    assert!(matches!(names.mx("broken.example").await, Err(NameError::Unavailable(_))));
    assert!(matches!(names.addresses("half.example").await, Err(NameError::Unavailable(_))));
    assert!(matches!(names.mx("silent.example").await, Err(NameError::Unavailable(_))));
}

#[tokio::test]
async fn what_is_no_answer_is_never_read_as_no_records() {
    let names =
        SystemNames::with_timeout(&[server().await], &TrustAnchor::default(), Duration::from_millis(200))
            .unwrap();
    let unavailable = async |name: &str| match names.mx(name).await {
        Err(NameError::Unavailable(why)) => why,
        other => panic!("{name}: {other:?}"),
    };
    assert!(unavailable("broken.example").await.ends_with("answers SERVFAIL"));
    assert!(unavailable("silent.example").await.ends_with("timed out"));
    assert!(unavailable("lame.example").await.contains("sends us on to other servers"));
    assert!(unavailable("upward.example").await.contains("sends us on to other servers"));
    assert!(unavailable("stranger.example").await.ends_with("does not have the domain itself"));
    assert_eq!(names.mx("terse.example").await, Err(NameError::NoRecords), "its own servers may say so");
    assert!(unavailable("circle.example").await.contains("go in circles"));
    assert_eq!(names.mx("dangling.example").await, Err(NameError::NoSuchDomain), "its target is not there");
    assert_eq!(names.mx(&format!("{}.example", "x".repeat(64))).await, Err(NameError::NoSuchDomain));
    let found = names.addresses("alias.example").await.unwrap();
    assert_eq!((found.ttl, found.aliases), (30, vec!["mx-a.example".to_owned()]));
}

#[tokio::test]
async fn a_server_without_edns_answers_and_one_that_drops_a_type_costs_little() {
    let timeout = Duration::from_secs(2);
    let names = SystemNames::with_timeout(&[server().await], &TrustAnchor::default(), timeout).unwrap();
    let address = ["192.0.2.1".parse::<IpAddr>().unwrap()];
    let old = names.addresses("old.example").await.unwrap();
    assert_eq!((old.records.as_slice(), old.missing), (address.as_slice(), None));
    let found = tokio::time::timeout(timeout, names.addresses("no-six.example")).await.unwrap().unwrap();
    assert_eq!(found.records, address);
    assert!(found.missing.is_some_and(|why| why.contains("too long")));
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_the_next_which_then_stays_the_first() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = [nobody.local_addr().unwrap(), server().await];
    let names =
        SystemNames::with_timeout(&servers, &TrustAnchor::default(), Duration::from_millis(100)).unwrap();
    assert_eq!(names.mx("two.example").await.unwrap().records.len(), 2);
    assert_eq!(names.first.load(Ordering::Relaxed), 1);
    match names.mx("broken.example").await {
        Err(NameError::Unavailable(why)) => {
            assert_eq!(why, format!("{} answers SERVFAIL; {} timed out", servers[1], servers[0]));
        }
        other => panic!("{other:?}"),
    }
}
