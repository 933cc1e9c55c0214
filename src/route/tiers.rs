//! Which host of a group goes first.
//!
//! The policy: tiers in their order, the lowest number first; hosts that name none are a tier each, in the order in which
//! they stand. Within a tier the order is drawn anew for each attempt: each host comes first as often as its weight says
//! among the weights of those that are left, so that one of weight 3 gets three times what one of weight 1 does. One of
//! weight 0 gets what the others of its tier cannot take, and comes after them.
//! Invariants: every host comes once; no chance is drawn where there is nothing to choose.
//! Not here: whether a host can be used now (`weigh`), the next group (`group`).

use std::collections::BTreeMap;

use super::upstream_url::UpstreamHost;
use crate::clock::Clock;

/// What a host weighs that does not say.
const WEIGHT: u16 = 1;

/// The hosts in the order in which to try them, each with the place of its tier, beginning with 0.
pub(super) fn drawn<'a>(hosts: &'a [UpstreamHost], clock: &Clock) -> Vec<(u16, &'a UpstreamHost)> {
    let mut drawn = Vec::with_capacity(hosts.len());
    for (place, tier) in tiers(hosts).into_iter().enumerate() {
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        drawn.extend(shuffled(tier, clock).into_iter().map(|host| (place, host)));
    }
    drawn
}

/// The tiers in their order, each with its hosts as they stand.
pub(super) fn tiers(hosts: &[UpstreamHost]) -> Vec<Vec<&UpstreamHost>> {
    let mut tiers: BTreeMap<(u16, usize), Vec<&UpstreamHost>> = BTreeMap::new();
    for (place, host) in hosts.iter().enumerate() {
        let tier = match host.tier {
            Some(tier) => (tier, 0),
            None => (u16::MAX, place),
        };
        tiers.entry(tier).or_default().push(host);
    }
    tiers.into_values().collect()
}

fn shuffled<'a>(mut left: Vec<&'a UpstreamHost>, clock: &Clock) -> Vec<&'a UpstreamHost> {
    let mut order = Vec::with_capacity(left.len());
    while left.len() > 1 {
        let weights: Vec<u64> = left.iter().map(|host| u64::from(host.weight.unwrap_or(WEIGHT))).collect();
        // When only those are left that weigh nothing, they are equal.
        let all: u64 = weights.iter().sum();
        let weight = |index: usize| if all == 0 { 1 } else { weights[index] };
        let mut mark = clock.chance() % (0..left.len()).map(weight).sum::<u64>();
        let first = (0..left.len()).find(|index| match mark.checked_sub(weight(*index)) {
            Some(rest) => {
                mark = rest;
                false
            }
            None => true,
        });
        order.push(left.remove(first.expect("the mark is below the sum of all weights")));
    }
    order.extend(left);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn hosts(urls: &[&str]) -> Vec<UpstreamHost> {
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    fn order(hosts: &[UpstreamHost], clock: &Clock) -> Vec<(u16, String)> {
        drawn(hosts, clock).into_iter().map(|(tier, host)| (tier, host.host.clone())).collect()
    }

    #[test]
    fn without_tiers_the_order_is_that_of_the_list_and_nothing_is_drawn() {
        let hosts = hosts(&["smtp://c.example", "smtp://a.example", "smtp://b.example"]);
        let (clock, other) =
            (Clock::simulated(Timestamp::default(), 7), Clock::simulated(Timestamp::default(), 7));
        for _ in 0..10 {
            let expected = [(0, "c.example".to_owned()), (1, "a.example".into()), (2, "b.example".into())];
            assert_eq!(order(&hosts, &clock), expected);
        }
        assert_eq!(clock.chance(), other.chance());
    }

    #[test]
    fn who_names_no_tier_comes_last_and_alone() {
        let hosts = hosts(&[
            "smtp://b.example",
            "smtp://second.example?tier=2",
            "smtp://a.example",
            "smtp://first.example?tier=1",
        ]);
        let order = order(&hosts, &Clock::simulated(Timestamp::default(), 1));
        let expected = ["first.example", "second.example", "b.example", "a.example"];
        assert_eq!(order, (0..).zip(expected.map(str::to_owned)).collect::<Vec<_>>());
    }

    #[test]
    fn tiers_go_in_their_order_and_each_host_gets_the_part_that_its_weight_says() {
        let hosts = hosts(&[
            "smtp://last.example?tier=2",
            "smtp://three.example?tier=1&weight=3",
            "smtp://one.example?tier=1",
            "smtp://none.example?tier=1&weight=0",
            "smtp://idle.example?tier=1&weight=0",
        ]);
        let clock = Clock::simulated(Timestamp::default(), 1);
        let mut first: BTreeMap<String, u32> = BTreeMap::new();
        let mut third: BTreeMap<String, u32> = BTreeMap::new();
        const DRAWS: u32 = 4000;
        for _ in 0..DRAWS {
            let order = order(&hosts, &clock);
            let tiers: Vec<u16> = order.iter().map(|(tier, _)| *tier).collect();
            assert_eq!((tiers, order[4].1.as_str()), (vec![0, 0, 0, 0, 1], "last.example"));
            *first.entry(order[0].1.clone()).or_default() += 1;
            *third.entry(order[2].1.clone()).or_default() += 1;
        }
        let of = |counts: &BTreeMap<String, u32>, host: &str| counts.get(host).copied().unwrap_or_default();
        let three = of(&first, "three.example");
        assert!((2850..3150).contains(&three), "{first:?}");
        assert_eq!(three + of(&first, "one.example"), DRAWS, "{first:?}");
        assert!((1850..2150).contains(&of(&third, "idle.example")), "{third:?}");
        assert_eq!(of(&third, "none.example") + of(&third, "idle.example"), DRAWS);
    }
}
