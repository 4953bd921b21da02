//! Reassembles datagrams to the engine itself that arrive in fragments, such as a ping of 4,000 bytes.
//!
//! Number, bytes and time are bounded. An overlap discards the whole datagram (RFC 5722; for IPv4 as Linux does).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use smoltcp::wire::Ipv4Packet;

use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::frame::{ETHERNET_LEN, Fragment, Frame, IPV6_LEN};
use crate::wire::{Family, MacAddr};

/// The largest number of datagrams at once. A new one replaces the oldest.
const DATAGRAMS_MAX: usize = 32;
/// The largest number of fragments of one datagram: 64 KiB in fragments of the smallest MTU.
const FRAGMENTS_MAX: usize = 128;
/// The largest number of bytes of all datagrams together.
const BYTES_MAX: usize = 512 * 1024;
/// A datagram that is not complete after this time is given up.
const REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(5);
const FRAGMENT_HEADER: usize = 8;

/// The result for a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReassemblyResult {
    /// Other fragments are still missing.
    Incomplete,
    /// The datagram is complete: its whole frame.
    Complete(Vec<u8>),
    /// The fragment is refused: it overlaps another, exceeds a limit, or has headers that are not reassembled here.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DatagramKey {
    link: LinkId,
    sender: MacAddr,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug, Clone)]
struct Datagram {
    key: DatagramKey,
    started: Instant,
    /// Ethernet and IP header of the first fragment, without fragment header.
    header: Option<Vec<u8>>,
    /// The payload of each fragment, by its offset in bytes.
    fragments: BTreeMap<u16, Vec<u8>>,
    /// Length of the whole payload, once the last fragment has arrived.
    length: Option<u16>,
}

/// Datagrams that wait for their missing fragments, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Reassembly {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl Reassembly {
    /// Takes a fragment, and returns the datagram if it was the last one missing.
    pub(super) fn add(&mut self, link: LinkId, frame: &Frame<'_>, now: Instant) -> ReassemblyResult {
        while self.datagrams.front().is_some_and(|oldest| now.since(oldest.started) >= REASSEMBLY_TIMEOUT) {
            self.forget(0);
        }
        let (Some(range), Some(start)) = (frame.fragment_range(), payload_start(frame)) else {
            return ReassemblyResult::Refused;
        };
        let (Fragment::First { id } | Fragment::Later { id }) = frame.fragment() else {
            return ReassemblyResult::Refused;
        };
        let piece = &frame.bytes()[start..ETHERNET_LEN + frame.ip_len()];
        let key = DatagramKey {
            link,
            sender: frame.source_mac(),
            source: frame.source(),
            destination: frame.destination(),
            protocol: frame.protocol(),
            id,
        };
        let index = self.datagrams.iter().position(|datagram| datagram.key == key).unwrap_or_else(|| {
            if self.datagrams.len() >= DATAGRAMS_MAX {
                self.forget(0);
            }
            let empty = Datagram { key, started: now, header: None, fragments: BTreeMap::new(), length: None };
            self.datagrams.push_back(empty);
            self.datagrams.len() - 1
        });
        if self.datagrams[index].fragments.get(&range.offset).is_some_and(|known| known == piece) {
            return ReassemblyResult::Incomplete;
        }
        if !self.datagrams[index].fits(range.offset, range.end(), range.last) || self.bytes + piece.len() > BYTES_MAX {
            self.forget(index);
            return ReassemblyResult::Refused;
        }
        let datagram = &mut self.datagrams[index];
        if range.offset == 0 {
            datagram.header = header(frame);
        }
        if range.last {
            datagram.length = Some(range.end());
        }
        datagram.fragments.insert(range.offset, piece.to_vec());
        self.bytes += piece.len();
        if !datagram.is_complete() {
            return ReassemblyResult::Incomplete;
        }
        match self.forget(index).and_then(Datagram::into_frame) {
            Some(whole) => ReassemblyResult::Complete(whole),
            None => ReassemblyResult::Refused,
        }
    }

    fn forget(&mut self, index: usize) -> Option<Datagram> {
        let datagram = self.datagrams.remove(index)?;
        self.bytes -= datagram.fragments.values().map(Vec::len).sum::<usize>();
        Some(datagram)
    }
}

impl Datagram {
    fn fits(&self, start: u16, end: u16, last: bool) -> bool {
        let before = self.fragments.range(..end).next_back();
        let overlaps = before.is_some_and(|(offset, piece)| usize::from(*offset) + piece.len() > usize::from(start));
        let beyond = self.length.is_some_and(|length| end > length || last);
        let behind = last && self.fragments.keys().next_back().is_some_and(|offset| *offset >= start);
        !overlaps && !beyond && !behind && self.fragments.len() < FRAGMENTS_MAX
    }

    fn is_complete(&self) -> bool {
        let received: usize = self.fragments.values().map(Vec::len).sum();
        self.fragments.contains_key(&0) && self.length.is_some_and(|length| usize::from(length) == received)
    }

    /// The packet as if it had never been fragmented. Its transport checksum is verified by whoever parses it.
    fn into_frame(self) -> Option<Vec<u8>> {
        let mut frame = self.header?;
        let header = frame.len() - ETHERNET_LEN;
        for piece in self.fragments.values() {
            frame.extend_from_slice(piece);
        }
        let ip = &mut frame[ETHERNET_LEN..];
        if ip[0] >> 4 == 6 {
            let length = u16::try_from(ip.len() - IPV6_LEN).ok()?;
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            return Some(frame);
        }
        let total = u16::try_from(ip.len()).ok()?;
        let mut packet = Ipv4Packet::new_unchecked(&mut ip[..]);
        packet.set_total_len(total);
        packet.set_more_frags(false);
        packet.set_frag_offset(0);
        debug_assert_eq!(usize::from(packet.header_len()), header);
        packet.fill_checksum();
        Some(frame)
    }
}

/// Where the fragment's payload begins; `None` for IPv6 with other headers before the fragment header.
fn payload_start(frame: &Frame<'_>) -> Option<usize> {
    let range = frame.fragment_range()?;
    let start = (ETHERNET_LEN + frame.ip_len()).checked_sub(range.length.into())?;
    match frame.family() {
        Family::V4 => Some(start),
        Family::V6 => (start == ETHERNET_LEN + IPV6_LEN + FRAGMENT_HEADER).then_some(start),
    }
}

/// Ethernet and IP header without the fragment header.
fn header(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let start = payload_start(frame)?;
    match frame.family() {
        Family::V4 => Some(frame.bytes()[..start].to_vec()),
        Family::V6 => {
            let (mut header, fragment) =
                (frame.bytes()[..start - FRAGMENT_HEADER].to_vec(), &frame.bytes()[start - 8..]);
            header[ETHERNET_LEN + 6] = fragment[0];
            Some(header)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::emit::{AddressPair, MacPair};
    use crate::wire::fragment;
    use crate::wire::icmp::{Echo, EchoKind};
    use crate::wire::offload::Offload;

    const LINK: LinkId = LinkId(0);

    /// An echo request of `len` bytes, and its fragments.
    fn split(family: Family, len: usize, id: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
        let macs = MacPair { source: MacAddr([2, 0, 0, 0, 0, 9]), destination: MacAddr([2, 0, 0, 0, 0, 1]) };
        let ends = match family {
            Family::V4 => ("198.51.100.7", "198.51.100.1"),
            Family::V6 => ("2001:db8:1::7", "2001:db8:1::1"),
        };
        let pair = AddressPair::new(ends.0.parse().unwrap(), ends.1.parse().unwrap()).unwrap();
        let data: Vec<u8> = (0..len).map(|n| (n * 31 + n / 251) as u8).collect();
        let mut frame = Echo { kind: EchoKind::Request, ident: 1, sequence: 2, data: &data }.frame(macs, pair);
        if family == Family::V6 {
            let pieces = fragment::split_v6(&frame, 1280, id);
            return (frame, pieces);
        }
        frame[18..20].copy_from_slice(&(id as u16).to_be_bytes());
        frame[20] = 0;
        Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        let pieces = fragment::split(&Frame::parse(&mut frame, &Offload::NONE).unwrap(), None, 1400).unwrap();
        (frame, pieces)
    }

    fn add(reassembly: &mut Reassembly, piece: &[u8], now: Instant) -> ReassemblyResult {
        let mut bytes = piece.to_vec();
        reassembly.add(LINK, &Frame::parse(&mut bytes, &Offload::NONE).unwrap(), now)
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_and_again_make_the_datagram(
            v6 in any::<bool>(),
            len in 1_500_usize..9_000,
            order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
            again in 0_usize..8,
        ) {
            let (whole, pieces) = split(if v6 { Family::V6 } else { Family::V4 }, len, 77);
            let mut reassembly = Reassembly::default();
            let order: Vec<usize> = order.into_iter().filter(|index| *index < pieces.len()).collect();
            let mut collected = Vec::new();
            for (n, index) in order.iter().enumerate() {
                collected.push(add(&mut reassembly, &pieces[*index], Instant::ZERO));
                if n == again && n + 1 < order.len() {
                    prop_assert_eq!(add(&mut reassembly, &pieces[*index], Instant::ZERO), ReassemblyResult::Incomplete);
                }
            }
            let last = collected.pop();
            prop_assert!(collected.iter().all(|collected| *collected == ReassemblyResult::Incomplete));
            prop_assert_eq!(last, Some(ReassemblyResult::Complete(whole)));
            prop_assert_eq!((reassembly.bytes, reassembly.datagrams.len()), (0, 0));
        }
    }

    #[test]
    fn an_overlap_ends_the_datagram() {
        let (_, pieces) = split(Family::V4, 4_000, 77);
        let (_, others) = split(Family::V4, 4_001, 77);
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, &pieces[0], Instant::ZERO), ReassemblyResult::Incomplete);
        let mut shifted = pieces[1].clone();
        shifted[21] -= 1;
        Ipv4Packet::new_unchecked(&mut shifted[14..]).fill_checksum();
        assert_eq!(add(&mut reassembly, &shifted, Instant::ZERO), ReassemblyResult::Refused);
        assert_eq!((reassembly.bytes, reassembly.datagrams.len()), (0, 0));

        add(&mut reassembly, &pieces[2], Instant::ZERO);
        assert_eq!(add(&mut reassembly, &others[2], Instant::ZERO), ReassemblyResult::Refused, "two ends");
    }

    #[test]
    fn heads_without_tails_are_bounded_and_given_up() {
        let mut reassembly = Reassembly::default();
        for id in 0..10_000 {
            let (_, pieces) = split(Family::V6, 1_400, id);
            assert_eq!(
                add(&mut reassembly, &pieces[0], Instant::from_millis(u64::from(id))),
                ReassemblyResult::Incomplete
            );
            assert!(reassembly.datagrams.len() <= DATAGRAMS_MAX && reassembly.bytes <= BYTES_MAX);
        }
        let (_, pieces) = split(Family::V4, 1_500, 1);
        add(&mut reassembly, &pieces[0], Instant::from_millis(60_000));
        assert_eq!(reassembly.datagrams.len(), 1, "the old ones are gone");
    }
}
