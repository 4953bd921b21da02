//! Another source port for a flow that its server could not tell from a flow that it has: two virtual addresses that lead to one
//! server, or a client that speaks to the server itself too.

use std::ops::RangeInclusive;

/// Ports that are tried in the first round; each later one tries half as many, from another start.
const FIRST_ROUND: u32 = 128;
/// The smallest round.
const LAST_ROUND: u32 = 16;

/// The ports that may stand for `port`: of the same class, from random ones on, 240 at most, as `nf_nat_l4proto_unique_tuple` of
/// Linux (`nf_nat_core.c`) tries them. `random` is asked for the start of every round.
///
/// A port of a class tells what its owner may do (a service that answers to privileged ports only, RFC 6335 section 6), so
/// that a class is never left: below 512, from there to 1023, above.
pub fn other_ports(port: u16, mut random: impl FnMut() -> u64) -> impl Iterator<Item = u16> {
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

/// The ports of the class of `port`; the loose convention of `nf_nat_core.c` leaves out 512..=599.
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
            let ports: Vec<u16> = other_ports(port, || start.next().unwrap()).collect();

            prop_assert!((200..=240).contains(&ports.len()), "{} ports", ports.len());
            prop_assert!(ports.iter().all(|other| class(port).contains(other) && *other != port));
            prop_assert!(ports.iter().collect::<HashSet<_>>().len() >= 100);
        }
    }

    #[test]
    fn a_round_goes_on_at_the_first_port_of_its_class() {
        let ports: Vec<u16> = other_ports(40_000, || u64::from(u16::MAX - 1024)).take(3).collect();
        assert_eq!(ports, [u16::MAX, 1024, 1025]);
        let ports: Vec<u16> = other_ports(123, || 510).take(3).collect();
        assert_eq!(ports, [511, 1, 2]);
    }
}
