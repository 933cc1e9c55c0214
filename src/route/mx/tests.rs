//! What follows from each answer of DNS, on a scripted zone.
//!
//! Not here: that a real server's answers are read as what they are (`system_names`, tests/mx).

use std::collections::HashSet;

use super::super::{Candidate, Decision, Memory, Plan, Unroutable, Zone};
use super::*;
use crate::clock::Timestamp;
use crate::mail::Destination;
use crate::net::{MemoryNetwork, Network};

fn router(zone: &Arc<Zone>, seed: u64) -> Router {
    let clock = Clock::simulated(Timestamp::from_millis(0), seed);
    let mut settings = Settings::new("relay.example.org");
    settings.own_addresses.push("203.0.113.9:25".parse().unwrap());
    let names = Arc::clone(zone) as Arc<dyn Names>;
    Router::new(settings, clock, Network::Memory(MemoryNetwork::new()), names, Memory::none())
}

async fn plan(zone: &Arc<Zone>, domain: &str, seed: u64) -> Result<Plan, Unroutable> {
    router(zone, seed).plan(&Destination::Mx(domain.to_owned())).await
}

async fn end(zone: &Arc<Zone>, domain: &str) -> (Verdict, String, String) {
    let outcome = plan(zone, domain, 1).await.unwrap_err().outcome;
    (outcome.verdict, outcome.status.to_string(), outcome.reason)
}

fn hosts(plan: &Plan) -> Vec<&str> {
    plan.hops.iter().map(|hop| hop.host.as_str()).collect()
}

fn skipped<'a>(candidates: &'a [Candidate], host: &str) -> &'a str {
    let reason = candidates.iter().find_map(|candidate| match &candidate.decision {
        Decision::Skipped(reason) if candidate.host == host => Some(reason.as_str()),
        _ => None,
    });
    reason.unwrap_or_else(|| panic!("{host} is not passed over: {candidates:?}"))
}

/// Each host with an address of its own.
fn set(zone: &Zone, domain: &str, records: &[(u16, &str)]) {
    zone.set_mx(domain, records.iter().copied());
    for (number, (_, host)) in records.iter().enumerate() {
        zone.set_addresses(host, [IpAddr::from([192, 0, 2, number as u8 + 1])]);
    }
}

#[tokio::test(start_paused = true)]
async fn lowest_preference_first_and_equal_ones_by_chance() {
    let zone = Arc::new(Zone::new());
    set(
        &zone,
        "example.com",
        &[(9, "first.example"), (100, "last.example"), (20, "a.example"), (20, "b.example")],
    );
    let mut orders = HashSet::new();
    for seed in 0..20 {
        let plan = plan(&zone, "example.com", seed).await.unwrap();
        let hosts = hosts(&plan);
        assert_eq!(
            (hosts[0], hosts[3]),
            ("first.example", "last.example"),
            "a preference is a number, not a text"
        );
        orders.insert(hosts[1].to_owned());
    }
    assert_eq!(orders.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_answer_about_the_domain_has_its_consequence() {
    let zone = Arc::new(Zone::new());
    zone.set_mx("null.example", [(0, ".")]);
    zone.set_mx("empty.example", []);
    zone.set_failure("broken.example", Some(NameError::Unavailable("SERVFAIL".into())));
    let status = async |domain: &str| {
        let (verdict, status, _) = end(&zone, domain).await;
        (verdict == Verdict::Bounced, status)
    };
    assert_eq!(status("null.example").await, (true, "5.1.10".into()));
    assert_eq!(status("absent.example").await, (true, "5.1.2".into()));
    assert_eq!(status("empty.example").await, (true, "5.1.2".into()));
    assert_eq!(status("broken.example").await, (false, "4.4.3".into()));
    assert_eq!(status("[X400:c=test]").await, (true, "5.1.2".into()));
    zone.set_addresses("implicit.example", ["192.0.2.1".parse().unwrap()]);
    assert_eq!(hosts(&plan(&zone, "implicit.example", 1).await.unwrap()), ["implicit.example"]);
    let own = &plan(&zone, "implicit.example", 1).await.unwrap().candidates[0];
    assert_eq!(own.decision.to_string(), "chosen: no MX records, its own address");
    for (literal, address) in [("[192.0.2.7]", "192.0.2.7:25"), ("[ipv6:2001:db8::1]", "[2001:db8::1]:25")] {
        assert_eq!(plan(&zone, literal, 1).await.unwrap().hops[0].address.to_string(), address);
    }
}

#[tokio::test(start_paused = true)]
async fn a_null_mx_beside_others_says_nothing() {
    let zone = Arc::new(Zone::new());
    set(&zone, "example.com", &[(10, "mx.example")]);
    zone.add_mx("example.com", 0, ".");
    let plan = plan(&zone, "example.com", 1).await.unwrap();
    assert_eq!(hosts(&plan), ["mx.example"]);
    assert!(skipped(&plan.candidates, ".").contains("RFC 7505"));
}

#[tokio::test(start_paused = true)]
async fn hosts_without_an_address_are_passed_over_and_never_replaced_by_the_domains_own() {
    let zone = Arc::new(Zone::new());
    zone.set_addresses("example.com", ["192.0.2.80".parse().unwrap()]);
    zone.set_mx("example.com", [(10, "gone.example"), (20, "empty.example"), (30, "192.0.2.66")]);
    zone.set_addresses("empty.example", []);
    let (verdict, status, reason) = end(&zone, "example.com").await;
    assert_eq!((verdict, status.as_str()), (Verdict::Bounced, "5.4.4"), "{reason}");
    assert!(reason.contains("none of the MX hosts of example.com has an address"), "{reason}");
    zone.set_mx("example.net", [(10, "192.0.2.66")]);
    let (verdict, _, reason) = end(&zone, "example.net").await;
    assert!(verdict == Verdict::Bounced && reason.contains("has the address 192.0.2.66 where"), "{reason}");
    zone.add_mx("example.com", 40, "silent.example");
    zone.set_failure("silent.example", Some(NameError::Unavailable("192.0.2.53 timed out".into())));
    let (verdict, status, reason) = end(&zone, "example.com").await;
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.3"), "it may have one");
    assert!(reason.contains("192.0.2.53 timed out"), "{reason}");
    zone.set_failure("silent.example", None);
    zone.set_addresses("silent.example", ["192.0.2.4".parse().unwrap()]);
    let plan = plan(&zone, "example.com", 1).await.unwrap();
    assert_eq!(hosts(&plan), ["silent.example"]);
    assert!(plan.complete, "nobody else can ever be tried");
    assert_eq!(skipped(&plan.candidates, "gone.example"), "the MX host gone.example does not exist in DNS");
    assert_eq!(skipped(&plan.candidates, "empty.example"), "the MX host empty.example has no address");
    assert!(skipped(&plan.candidates, "192.0.2.66").contains("must name a host"));
}

#[tokio::test(start_paused = true)]
async fn we_cut_the_list_by_our_name_and_by_our_address() {
    let zone = Arc::new(Zone::new());
    for ourselves in ["Relay.Example.ORG.", "another-name.example"] {
        let ourselves = ourselves.strip_suffix('.').unwrap_or(ourselves);
        set(
            &zone,
            "example.com",
            &[(10, "better.example"), (20, ourselves), (20, "equal.example"), (30, "worse.example")],
        );
        zone.set_addresses(ourselves, ["203.0.113.9".parse().unwrap()]);
        for seed in 0..4 {
            let plan = plan(&zone, "example.com", seed).await.unwrap();
            assert_eq!(hosts(&plan), ["better.example"], "{ourselves}");
            assert_eq!(plan.candidates.len(), 4);
        }
        zone.remove("better.example");
        let (verdict, status, reason) = end(&zone, "example.com").await;
        assert_eq!((verdict, status.as_str()), (Verdict::Bounced, "5.4.6"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_dead_hosts_do_not_hide_a_living_one_and_are_no_end_for_good() {
    let zone = Arc::new(Zone::new());
    let names: Vec<String> = (0..100).map(|number| format!("mx{number:02}.example")).collect();
    zone.set_mx("example.com", names.iter().enumerate().map(|(number, name)| (number as u16, name.as_str())));
    zone.set_addresses("mx12.example", ["192.0.2.12".parse().unwrap()]);
    let found = plan(&zone, "example.com", 1).await.unwrap();
    assert_eq!(hosts(&found), ["mx12.example"]);
    assert_eq!(skipped(&found.candidates, "mx15.example"), "enough others come before it");
    zone.remove("mx12.example");
    zone.set_addresses("mx90.example", ["192.0.2.90".parse().unwrap()]);
    let (verdict, status, reason) = end(&zone, "example.com").await;
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.4"), "{reason}");
    assert!(reason.contains("none of the 20 MX hosts"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn one_host_with_many_addresses_does_not_take_all_places() {
    let zone = Arc::new(Zone::new());
    zone.set_mx("example.com", [(10, "many.example"), (20, "other.example")]);
    let v4 = (1..50).map(|number| IpAddr::from([192, 0, 2, number]));
    zone.set_addresses(
        "many.example",
        v4.chain((1..50).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]))),
    );
    zone.set_addresses("other.example", ["198.51.100.1".parse().unwrap()]);
    let mut firsts = HashSet::new();
    for seed in 0..20 {
        let plan = plan(&zone, "example.com", seed).await.unwrap();
        assert_eq!((plan.hops.len(), plan.hops[5].host.as_str()), (6, "other.example"));
        let families: Vec<bool> = plan.hops[..5].iter().map(|hop| hop.address.is_ipv6()).collect();
        assert!(families.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {families:?}");
        firsts.insert(families[0]);
    }
    assert_eq!(firsts.len(), 2, "either family may begin");
}

#[tokio::test(start_paused = true)]
async fn what_works_against_the_rules_is_used_and_remarked() {
    let zone = Arc::new(Zone::new());
    zone.set_mx("example.com", [(10, "alias.example"), (20, "alias.example")]);
    zone.set_alias("alias.example", Some("real.example"));
    zone.set_addresses("real.example", ["192.0.2.1".parse().unwrap()]);
    let survey = router(&zone, 1).survey(&Destination::Mx("example.com".into()), TlsWish::None).await;
    assert_eq!(survey.plan.unwrap().hops.len(), 1);
    assert_eq!(survey.asked.len(), 2);
    assert!(survey.remarks[0].contains("is an alias (CNAME) of real.example"), "{:?}", survey.remarks);
}
