//! Affinity: flows of some hosts are hashed by less than the other flows of their group, so that connections which belong
//! together cross the same firewall.
//!
//! FTP, SIP, RTSP and IPsec open connections beside the one that agreed on them. A stateful firewall lets them pass only
//! where it saw that one. Nothing is read out of packets for this, so that it works for encrypted control connections
//! and after a restart, and both engines choose alike.

use std::cmp::Reverse;

use ipnet::IpNet;

use crate::flow::{FlowKey, HashMode, PrefixTable};

/// Flows with an end in `prefix` are hashed in `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AffinityRule {
    /// The addresses.
    pub prefix: IpNet,
    /// The fields of their flows that enter the hash.
    pub mode: HashMode,
}

/// The rules of one group, at most one for each prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affinity(PrefixTable<AffinityRule>);

impl FromIterator<AffinityRule> for Affinity {
    fn from_iter<I: IntoIterator<Item = AffinityRule>>(rules: I) -> Self {
        Self(rules.into_iter().map(|rule| (rule.prefix, rule)).collect())
    }
}

impl Affinity {
    /// The rule that applies to `flow`; `None` if neither end is in a prefix.
    ///
    /// Each end has the rule of the longest prefix that contains it. If both have one, the mode in which more flows share
    /// a hash decides; between equal ones the longer prefix, then the lower address. The rule is therefore the same for
    /// both directions, and on both sides of the firewalls.
    pub fn rule(&self, flow: &FlowKey) -> Option<AffinityRule> {
        let (source, destination) = (self.0.lookup(flow.source.address), self.0.lookup(flow.destination.address));
        let precedence =
            |rule: &AffinityRule| (rule.mode.breadth(), rule.prefix.prefix_len(), Reverse(rule.prefix.network()));
        source.into_iter().chain(destination).max_by_key(precedence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Endpoint, FlowHasher, Seed};
    use crate::wire::frame::protocol;

    fn rule(prefix: &str, mode: HashMode) -> AffinityRule {
        AffinityRule { prefix: prefix.parse().unwrap(), mode }
    }

    fn flow(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> FlowKey {
        let end = |(address, port): (&str, u16)| Endpoint { address: address.parse().unwrap(), port };
        FlowKey { protocol, source: end(source), destination: end(destination) }
    }

    #[test]
    fn the_longest_prefix_of_an_end_decides_and_of_two_ends_the_more_general_mode() {
        let affinity: Affinity = [
            rule("203.0.113.0/24", HashMode::ThreeTuple),
            rule("203.0.113.21/32", HashMode::Addresses),
            rule("198.51.100.0/24", HashMode::FiveTuple),
            rule("2001:db8:113::21/128", HashMode::Addresses),
        ]
        .into_iter()
        .collect();

        for (source, destination, mode) in [
            ("192.0.2.1", "203.0.113.21", Some(HashMode::Addresses)),
            ("192.0.2.1", "203.0.113.22", Some(HashMode::ThreeTuple)),
            ("198.51.100.7", "203.0.113.22", Some(HashMode::ThreeTuple)),
            ("198.51.100.7", "192.0.2.1", Some(HashMode::FiveTuple)),
            ("2001:db8::1", "2001:db8:113::21", Some(HashMode::Addresses)),
            ("2001:db8::1", "2001:db8:113::22", None),
            ("192.0.2.1", "192.0.2.2", None),
        ] {
            let flow = flow(protocol::TCP, (source, 40_000), (destination, 21));
            assert_eq!(affinity.rule(&flow).map(|rule| rule.mode), mode, "{source} to {destination}");
            assert_eq!(affinity.rule(&flow.reversed()), affinity.rule(&flow));
        }
    }

    #[test]
    fn what_an_ipsec_gateway_sends_has_one_hash_and_what_others_send_has_many() {
        let hasher = FlowHasher::new(Seed::from_text("a seed for affinity"), HashMode::FiveTuple)
            .with_affinity([rule("203.0.113.21/32", HashMode::Addresses)].into_iter().collect());
        let to =
            |gateway: &str, protocol, port| hasher.flow_hash(&flow(protocol, ("198.51.100.7", port), (gateway, port)));

        let all = |gateway| [to(gateway, protocol::UDP, 500), to(gateway, protocol::UDP, 4500), to(gateway, 50, 0)];
        let [ike, nat_traversal, esp] = all("203.0.113.21");
        assert_eq!((ike, ike), (nat_traversal, esp));
        let [ike, nat_traversal, esp] = all("203.0.113.22");
        assert!(ike != nat_traversal && nat_traversal != esp && ike != esp);
    }

    proptest! {
        #[test]
        fn both_engines_choose_alike_where_source_here_is_destination_there(
            rules in proptest::collection::vec((0u32..64, 26u8..=32, 0..HashMode::ALL.len()), 0..8),
            ends in proptest::collection::vec((0u32..64, 1u16..4), 2),
        ) {
            let rules: Vec<_> = rules
                .into_iter()
                .map(|(bits, length, mode)| AffinityRule {
                    prefix: ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc().into(),
                    mode: HashMode::ALL[mode],
                })
                .collect();
            let mirrored = |mode| match mode {
                HashMode::Source => HashMode::Destination,
                HashMode::Destination => HashMode::Source,
                HashMode::FiveTuple | HashMode::ThreeTuple | HashMode::Addresses => mode,
            };
            let hasher = FlowHasher::new(Seed::from_text("a seed for affinity"), HashMode::FiveTuple);
            let here = hasher.clone().with_affinity(rules.iter().copied().collect());
            let there = rules.iter().map(|rule| AffinityRule { mode: mirrored(rule.mode), ..*rule });
            let there = hasher.with_affinity(there.collect());
            let end = |(bits, port): (u32, u16)| Endpoint { address: std::net::Ipv4Addr::from(bits).into(), port };
            let flow = FlowKey { protocol: 6, source: end(ends[0]), destination: end(ends[1]) };

            prop_assert_eq!(here.flow_hash(&flow), there.flow_hash(&flow.reversed()));
        }
    }
}
