//! What proves something and what does not, of answers whose records have been looked at one by one.
//!
//! Not here: signatures themselves, and a real name server (tests/mx/dane.py).

use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::{A, CNAME, NS};

use super::*;

fn named(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn record(name: &str, data: RData, proof: Proof) -> Record {
    let mut record = Record::from_rdata(named(name), 60, data);
    record.proof = proof;
    record
}

fn alias(name: &str, target: &str, proof: Proof) -> Record {
    record(name, RData::CNAME(CNAME(named(target))), proof)
}

fn address(name: &str, proof: Proof) -> Record {
    record(name, RData::A(A::new(192, 0, 2, 1)), proof)
}

fn nsec(name: &str, next: &str) -> Record {
    let nsec = NSEC::new(named(next), [RecordType::TLSA]);
    record(name, RData::DNSSEC(DNSSECRData::NSEC(nsec)), Proof::Secure)
}

fn nothing(name: &str, authorities: Vec<Record>) -> NoRecords {
    let mut none = NoRecords::new(Query::query(named(name), RecordType::TLSA), ResponseCode::NoError);
    none.authorities = Some(authorities.into());
    none
}

#[test]
fn a_chain_is_as_secure_as_its_weakest_link() {
    use Proof::{Bogus, Indeterminate, Insecure, Secure};
    let weigh = |link, end| {
        let answers = [alias("mx.example.", "real.example.", link), address("real.example.", end)];
        answer(&named("MX.example."), &answers, RecordType::A).ok().map(|(said, good_for)| {
            assert_eq!((said.target().as_deref(), good_for.as_secs()), (Some("real.example"), 60));
            said.is_secure
        })
    };
    assert_eq!(weigh(Secure, Secure), Some(true));
    assert_eq!(weigh(Secure, Insecure), Some(false));
    assert_eq!(weigh(Insecure, Secure), Some(false));
    for unproved in [Bogus, Indeterminate] {
        assert_eq!((weigh(unproved, Secure), weigh(Secure, unproved)), (None, None));
    }
}

#[test]
fn records_of_another_name_are_no_answer() {
    let others = [address("other.example.", Proof::Secure)];
    assert!(answer(&named("mx.example."), &others, RecordType::A).is_err());
    let circle =
        [alias("a.example.", "b.example.", Proof::Secure), alias("b.example.", "a.example.", Proof::Secure)];
    assert_eq!(answer(&named("a.example."), &circle, RecordType::A).unwrap_err(), ENDLESS);
}

#[test]
fn that_there_is_nothing_is_proved_by_the_zone_itself_and_by_nobody_else() {
    let soa = |zone: &str, proof| record(zone, RData::NS(NS(named("ns.example."))), proof);
    let name = "_25._tcp.mx.example.";
    let insecure = Proof::Insecure;
    assert_eq!(is_proved(&nothing(name, vec![soa("example.", insecure)])), Some(false));
    assert_eq!(is_proved(&nothing(name, vec![nsec("mx.example.", "example.")])), Some(true));
    // Whoever forges an answer can add what belongs to an unsigned zone of his own.
    assert_eq!(is_proved(&nothing(name, vec![soa("attacker.example.", insecure)])), None);
    assert_eq!(is_proved(&nothing(name, vec![soa("example.", Proof::Secure)])), None);
    assert_eq!(is_proved(&nothing(name, Vec::new())), None);
}

#[test]
fn a_wildcard_stands_only_for_a_name_that_is_not_there() {
    let name = named("_25._tcp.mx.example.");
    let of = |authorities| wildcard_of(&name, &nothing("_25._tcp.mx.example.", authorities));
    let wildcard = || nsec("*._tcp.mx.example.", "example.");
    assert_eq!(of(vec![wildcard()]), Some(named("*._tcp.mx.example.")));
    assert_eq!(of(vec![nsec("*.example.", "a.example."), wildcard()]), Some(named("*._tcp.mx.example.")));
    assert_eq!(of(vec![nsec("_25._tcp.mx.example.", "example."), wildcard()]), None, "it is there");
    assert_eq!(of(vec![nsec("*.other.example.", "example.")]), None);
    let mut unproved = wildcard();
    unproved.proof = Proof::Bogus;
    assert_eq!(of(vec![unproved]), None);
}
