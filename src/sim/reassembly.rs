//! Reassembles fragmented datagrams, as hosts and firewalls do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::sim::packet::Packet;
use crate::time::{Duration, Instant};

/// Reassembles datagrams; one that is not complete in time is given up and counted.
#[derive(Debug, Default)]
pub struct Reassembly {
    pending: BTreeMap<(IpAddr, IpAddr, u8, u32), Datagram>,
    /// Number of datagrams given up.
    pub incomplete: u64,
}

/// How a datagram was fragmented when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragmentation {
    /// Identification.
    pub id: u32,
    /// Payload bytes of the largest fragment.
    pub largest: usize,
}

#[derive(Debug)]
struct Datagram {
    since: Instant,
    fragments: Vec<Packet>,
}

impl Reassembly {
    /// How long a datagram may stay incomplete; longer than any delay of the simulation.
    const TIMEOUT: Duration = Duration::from_secs(3);

    /// Takes a packet; returns the datagram when it is complete, and how it was fragmented.
    pub fn add(&mut self, packet: Packet, now: Instant) -> Option<(Packet, Option<Fragmentation>)> {
        let Some(piece) = packet.fragment else { return Some((packet, None)) };
        let key = (packet.source, packet.destination, packet.protocol, piece.id);
        let datagram = self.pending.entry(key).or_insert_with(|| Datagram { since: now, fragments: Vec::new() });
        if datagram.fragments.iter().all(|other| other.fragment != packet.fragment) {
            datagram.fragments.push(packet);
        }
        let (whole, largest) = datagram.assembled()?;
        self.pending.remove(&key);
        Some((whole, Some(Fragmentation { id: piece.id, largest })))
    }

    /// Gives up datagrams that are too old; returns one fragment of each.
    pub fn expire(&mut self, now: Instant) -> Vec<Packet> {
        let old: Vec<_> =
            self.pending.iter().filter(|(_, d)| now.since(d.since) >= Self::TIMEOUT).map(|(key, _)| *key).collect();
        self.incomplete += old.len() as u64;
        old.into_iter().filter_map(|key| self.pending.remove(&key)?.fragments.into_iter().next()).collect()
    }

    /// Forgets everything, as after a restart.
    pub fn clear(&mut self) {
        self.pending.clear();
    }
}

impl Datagram {
    fn assembled(&mut self) -> Option<(Packet, usize)> {
        self.fragments.sort_by_key(|packet| packet.fragment.map(|piece| piece.offset));
        let mut end = 0;
        for packet in &self.fragments {
            if packet.fragment?.offset != end {
                return None;
            }
            end += packet.payload.len();
        }
        if self.fragments.last()?.fragment?.more {
            return None;
        }
        let largest = self.fragments.iter().map(|packet| packet.payload.len()).max()?;
        let payload = self.fragments.iter().flat_map(|packet| packet.payload.iter().copied()).collect();
        let first = self.fragments.first()?;
        Some((Packet { fragment: None, payload, ..first.clone() }, largest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(IpAddr, IpAddr); 2] {
        [("198.51.100.10", "203.0.113.10"), ("2001:db8::1", "2001:db8::2")]
            .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
    }

    #[test]
    fn fragments_come_together_in_any_order() {
        for (source, destination) in pairs() {
            let whole = Packet::udp((source, 5), (destination, 7), &[7; 4000]);
            let mut pieces = whole.clone().fragments(1500, 99);
            assert_eq!(pieces.len(), 3);
            pieces.rotate_left(1);
            let mut reassembly = Reassembly::default();

            let mut done = None;
            for piece in pieces {
                assert!(piece.len() <= 1500);
                done = reassembly.add(Packet::parse(&piece.emit()).unwrap(), Instant::ZERO);
            }

            let (packet, cut) = done.unwrap();
            assert_eq!(packet.payload, whole.payload);
            assert_eq!(cut.unwrap().id, 99);
            assert!(packet.checksum_ok());
        }
    }
}
