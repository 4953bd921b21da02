//! The hash table from flows to servers: Maglev (Eisenbud et al., NSDI 2016, section 3.4) with weights and 65,537
//! slots.
//!
//! Every server visits the slots in its own order, which depends on its name, and takes the next free slot when it has
//! a turn. A server of weight w has w turns while the heaviest server has as many turns as its weight. The table is
//! built from all servers, whether up or down. A server that is down is skipped by the lookup, so that only its flows
//! move, and return to it later.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::flow::FlowKey;
use crate::random;
use crate::slb::HashOn;

/// The number of slots: a prime, and more than a hundred for each of 600 servers.
pub const SLOTS: usize = 65_537;

/// How many slots a flow tries before it searches for the next live server in order.
const TRIES: u64 = 32;

/// The table; see the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    /// For each slot the position of its server. Empty if there are no servers.
    slots: Box<[u16]>,
}

impl Maglev {
    /// The table of servers given by name and weight. A server of weight 0 gets no slots.
    ///
    /// # Panics
    /// If there are more than 65,535 servers. The configuration has a far lower limit.
    pub fn new<'a>(servers: impl IntoIterator<Item = (&'a str, u16)>) -> Self {
        let mut permutations: Vec<Permutation> =
            servers.into_iter().enumerate().filter(|(_, (_, weight))| *weight > 0).map(Permutation::new).collect();
        let heaviest = permutations.iter().map(|permutation| permutation.weight).max().unwrap_or(0);
        let mut slots = vec![None; if permutations.is_empty() { 0 } else { SLOTS }];
        let mut free = slots.len();
        let mut turn = 0;
        while free > 0 {
            turn += 1;
            for permutation in &mut permutations {
                if free == 0 {
                    break;
                }
                if turn * permutation.weight < permutation.due {
                    continue;
                }
                permutation.due += heaviest;
                let slot = permutation.next_free(&slots);
                slots[slot] = Some(permutation.position);
                free -= 1;
            }
        }
        Self { slots: slots.into_iter().map(|slot| slot.expect("no slot is free")).collect() }
    }

    /// The server for a flow with this hash, among those that `is_eligible` accepts.
    pub fn lookup(&self, hash: u64, mut is_eligible: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        // Each attempt looks at another place, so that the flows of a dead server are spread over all others.
        let tried = (0..TRIES).map(|attempt| self.at(mix(hash, attempt))).find(|&server| is_eligible(server));
        tried.or_else(|| {
            let start = (mix(hash, TRIES) % SLOTS as u64) as usize;
            (0..SLOTS).map(|step| usize::from(self.slots[(start + step) % SLOTS])).find(|&server| is_eligible(server))
        })
    }

    /// The largest ratio, over all servers, of a server's share of the slots to the share that its weight deserves; 1.0
    /// is perfect. `None` if there are no servers.
    pub fn imbalance(&self, weights: &[u16]) -> Option<f64> {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut counts = vec![0_u64; weights.len()];
        for &server in &self.slots {
            *counts.get_mut(usize::from(server))? += 1;
        }
        let over = |(&count, &weight): (&u64, &u16)| {
            (weight > 0).then(|| count as f64 * total as f64 / (SLOTS as f64 * f64::from(weight)))
        };
        counts.iter().zip(weights).filter_map(over).reduce(f64::max)
    }

    fn at(&self, hash: u64) -> usize {
        usize::from(self.slots[(hash % SLOTS as u64) as usize])
    }
}

/// The hash of the chosen parts of a flow. The protocol is left out, so that TCP and UDP of one client reach the same
/// server.
pub fn hash(flow: &FlowKey, on: HashOn) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6677_6c62_2f73_6c62, 0x666c_6f77);
    let mut address = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => hasher.write(&address.octets()),
        std::net::IpAddr::V6(address) => hasher.write(&address.octets()),
    };
    if on.source_address {
        address(flow.source.address);
    }
    if on.destination_address {
        address(flow.destination.address);
    }
    if on.source_port {
        hasher.write(&flow.source.port.to_be_bytes());
    }
    if on.destination_port {
        hasher.write(&flow.destination.port.to_be_bytes());
    }
    hasher.finish()
}

/// A separate hash for each attempt.
const fn mix(hash: u64, attempt: u64) -> u64 {
    random::mix(hash ^ attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The order in which one server visits the slots, and how far it has got.
struct Permutation {
    position: u16,
    weight: u64,
    /// The server has a turn when the number of the turn times its weight reaches this.
    due: u64,
    slot: usize,
    skip: usize,
}

impl Permutation {
    fn new((position, (name, weight)): (usize, (&str, u16))) -> Self {
        let half = |key: u64| {
            let mut hasher = SipHasher13::new_with_keys(0x6677_6c62_2f6d_6167, key);
            hasher.write(name.as_bytes());
            hasher.finish()
        };
        Self {
            position: u16::try_from(position).expect("configuration bounds the servers of a service"),
            weight: u64::from(weight),
            due: 1,
            slot: (half(0) % SLOTS as u64) as usize,
            skip: (half(1) % (SLOTS as u64 - 1) + 1) as usize,
        }
    }

    fn next_free(&mut self, slots: &[Option<u16>]) -> usize {
        loop {
            let slot = self.slot;
            self.slot = (self.slot + self.skip) % SLOTS;
            if slots[slot].is_none() {
                return slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("s{i}")).collect()
    }

    fn table(names: &[String], weight: impl Fn(usize) -> u16) -> Maglev {
        Maglev::new(names.iter().enumerate().map(|(i, name)| (name.as_str(), weight(i))))
    }

    #[test]
    fn every_slot_has_a_server_whoever_takes_the_last_one() {
        for heavy in 1..=16 {
            let table = table(&names(3), |i| if i == 0 { heavy } else { 1 });
            assert_eq!(table.slots.len(), SLOTS, "weights {heavy}, 1, 1");
        }
    }

    const FLOWS: u64 = 50_000;

    #[test]
    fn shares_follow_weights_within_a_percent() {
        let names = names(6);
        for weights in [[1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6], [256, 1, 1, 100, 0, 7]] {
            let table = table(&names, |i| weights[i]);
            let imbalance = table.imbalance(&weights).expect("there are servers");
            assert!((1.0..1.01).contains(&imbalance), "{weights:?}: {imbalance}");
        }
    }

    #[test]
    fn a_server_that_is_down_moves_its_own_flows_alone_and_they_spread() {
        let table = table(&names(8), |_| 1);
        let mut taken = [0; 8];
        for hash in (0..FLOWS).map(|flow| mix(flow, 99)) {
            let before = table.lookup(hash, |_| true).expect("all are up");
            let after = table.lookup(hash, |server| server != 3).expect("seven are up");
            if before == 3 {
                taken[after] += 1;
            } else {
                assert_eq!(before, after, "a flow of a live server moved");
            }
        }
        assert_eq!(taken[3], 0);
        let fair = f64::from(taken.iter().sum::<i32>()) / 7.0;
        assert!(
            taken.iter().enumerate().all(|(i, &n)| i == 3 || (f64::from(n) - fair).abs() < 0.2 * fair),
            "{taken:?}"
        );
    }

    #[test]
    fn a_new_server_takes_its_share_and_moves_little_else() {
        let names = names(9);
        let (before, after) = (table(&names[..8], |_| 1), table(&names, |_| 1));
        let mut to_new = 0;
        let mut innocent = 0;
        for hash in (0..FLOWS).map(|flow| mix(flow, 7)) {
            let (old, new) = (before.lookup(hash, |_| true), after.lookup(hash, |_| true));
            to_new += u64::from(new == Some(8));
            innocent += u64::from(new != Some(8) && new != old);
        }
        assert!(to_new.abs_diff(FLOWS / 9) < FLOWS / 100, "{to_new}");
        assert!(innocent < FLOWS / 100, "{innocent} flows moved between old servers");
    }

    #[test]
    fn thousands_of_servers_all_have_slots_and_one_survivor_is_found() {
        let table = table(&names(4128), |_| 1);
        let mut seen = vec![false; 4128];
        for &server in &table.slots {
            seen[usize::from(server)] = true;
        }
        assert!(seen.into_iter().all(|seen| seen));
        assert_eq!(table.lookup(42, |server| server == 4000), Some(4000));
        assert_eq!(table.lookup(42, |_| false), None);
    }

    #[test]
    fn without_weight_there_is_no_server() {
        assert_eq!(table(&names(3), |_| 0).lookup(1, |_| true), None);
        assert_eq!(Maglev::new([]).imbalance(&[]), None);
    }
}
