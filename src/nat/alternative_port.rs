//! Another source port for a flow that its server could not distinguish from an existing one. This happens when two
//! virtual addresses lead to one server, or when a client also connects to the server directly.

use std::ops::RangeInclusive;

/// The number of ports tried in the first round. Each later round tries half as many, from another random start.
const FIRST_ROUND: u32 = 128;
/// The number of ports tried in the last round.
const LAST_ROUND: u32 = 16;

/// The source ports to try instead of `port`: at most 240 ports of the same class, from random starts, in the way of
/// Linux `nf_nat_l4proto_unique_tuple` (`nf_nat_core.c`). `random` is called once for the start of every round.
/// The classes are below 512, 512 to 1023, and above. A class is never left, because some services accept privileged
/// source ports only (RFC 6335 section 6).
pub fn alternative_source_ports(port: u16, mut random: impl FnMut() -> u64) -> impl Iterator<Item = u16> {
    let class = class(port);
    let size = u32::from(class.end() - class.start()) + 1;
    let rounds = std::iter::successors(Some(FIRST_ROUND), |round| Some(round / 2).filter(|round| *round >= LAST_ROUND));
    rounds
        .flat_map(move |round| {
            let start = (random() % u64::from(size)) as u32;
            (0..round.min(size)).map(move |step| (start + step) % size)
        })
        .map(move |offset| class.start() + offset as u16)
        .filter(move |other| *other != port)
}

/// The ports of the class of `port`. Like `nf_nat_core.c`, it leaves out 512 to 599.
const fn class(port: u16) -> RangeInclusive<u16> {
    match port {
        0..=511 => 1..=511,
        512..=1023 => 600..=1023,
        1024.. => 1024..=u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn other_ports_are_of_the_same_class_few_and_not_the_port_itself(port: u16, starts: [u64; 4]) {
            let mut start = starts.into_iter().cycle();
            let ports: Vec<u16> = alternative_source_ports(port, || start.next().unwrap()).collect();

            prop_assert!((200..=240).contains(&ports.len()), "{} ports", ports.len());
            prop_assert!(ports.iter().all(|other| class(port).contains(other) && *other != port));
            prop_assert!(ports.iter().collect::<HashSet<_>>().len() >= 100);
        }
    }

    #[test]
    fn a_round_goes_on_at_the_first_port_of_its_class() {
        let ports: Vec<u16> = alternative_source_ports(40_000, || u64::from(u16::MAX - 1024)).take(3).collect();
        assert_eq!(ports, [u16::MAX, 1024, 1025]);
        let ports: Vec<u16> = alternative_source_ports(123, || 510).take(3).collect();
        assert_eq!(ports, [511, 1, 2]);
    }
}
