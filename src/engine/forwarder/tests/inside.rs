//! GSO frames whose segments are inside a tunnel that the engine only forwards. No device segments them for a packet
//! socket, so that they are sent as the single packets.

use std::net::SocketAddr;

use super::bench::{ArrivesAt, ForwarderBench, Net, nets, v4};
use super::packets::{Frame, ip, read, tcp_with};
use crate::engine::DropReason;
use crate::engine::Verdict;
use crate::engine::verdict::{IcmpError, PuntReason, Transmit};
use crate::id::LinkId;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

const INNER_MSS: u16 = 1348;
const VXLAN_LEN: usize = 8;

/// `payload` bytes of a connection inside VXLAN, in segments of [`INNER_MSS`], as Linux passes them on.
fn vxlan(net: Net, payload: usize) -> Frame {
    let end = |last: u8| SocketAddr::new([192, 168, 77, last].into(), 5201);
    let inner = tcp_with(end(1), end(2), 0x18, 1000, 2000, &vec![7; payload]).dont_fragment();
    let mut datagram = Vec::new();
    datagram.extend(
        [50_000_u16, 4789, (8 + VXLAN_LEN + inner.bytes.len()) as u16, 0].iter().flat_map(|word| word.to_be_bytes()),
    );
    datagram.extend([8, 0, 0, 0, 0, 0, 7, 0]);
    datagram.extend(&inner.bytes);
    let mut frame = ip(net.client.ip(), net.server.ip(), 17, &datagram);
    let start = (frame.bytes.len() - payload - 20) as u16;
    frame.offload = Offload {
        partial: Some(PartialChecksum { start, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::Tcp4, ecn: false, size: INNER_MSS, header_len: start + 20 }),
        verified: false,
    };
    frame
}

/// The inner packets of VXLAN frames, which must be complete.
fn unpacked(transmits: &[Transmit]) -> Vec<u8> {
    let payload = |transmit: &Transmit| {
        assert_eq!(transmit.offload, Offload::NONE);
        let outer = read(&transmit.bytes);
        let inner = read(&outer.payload[8 + VXLAN_LEN..]);
        assert_eq!(outer.ttl, 63);
        inner.payload[20..].to_vec()
    };
    transmits.iter().flat_map(payload).collect()
}

#[test]
fn the_bulk_of_a_tunnel_leaves_as_the_packets_that_it_stands_for() {
    for net in nets() {
        for payload in [1, 500, 1348, 1349, 60_000] {
            let mut lab = ForwarderBench::outer(2);
            for round in 0..3 {
                // A small frame would fit the MTU as it is; the second one belongs to a known session.
                let answer = lab.deliver(ArrivesAt::Near, vxlan(net, payload));
                assert_eq!(answer.verdict, Verdict::Replaced, "{payload} bytes, round {round}");
                let sent = lab.transmits();
                assert_eq!(sent.len(), payload.div_ceil(INNER_MSS.into()));
                assert!(sent.iter().all(|transmit| transmit.link == LinkId(1) && transmit.bytes.len() <= 1514));
                assert_eq!(unpacked(&sent), vec![7; payload]);
            }
        }
    }
}

#[test]
fn segments_of_a_tunnel_that_do_not_fit_are_cut_or_refused_as_any_packet() {
    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.links[1].mtu = 1400;
    let answer = lab.deliver(ArrivesAt::Near, vxlan(v4(), 20_000));
    assert_eq!(answer.verdict, Verdict::Replaced);
    let sent = lab.transmits();
    assert!(sent.len() > 20 && sent.iter().all(|piece| piece.bytes.len() <= 1414));
    assert!(sent.iter().any(|piece| piece.bytes[20] & 0x20 != 0), "more fragments");

    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.links[1].mtu = 1400;
        let answer = lab.deliver(ArrivesAt::Near, vxlan(net, 20_000).dont_fragment());
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        assert_eq!(lab.punts.taken[0].reason, PuntReason::IcmpError(IcmpError::TooBig { mtu: 1400 }));
    }
}

#[test]
fn segments_of_a_tunnel_wait_for_a_neighbour_one_by_one() {
    let net = v4();
    let mut lab = ForwarderBench::inner(2);
    lab.snapshot.neighbors.remove(&(LinkId(1), net.server.ip()));

    let answer = lab.deliver(ArrivesAt::Firewall(0), vxlan(net, 5 * 1348));

    assert_eq!(answer.verdict, Verdict::Punted);
    assert_eq!(lab.punts.taken.len(), 5);
    assert!(lab.punts.taken.iter().all(|punt| punt.offload == Offload::NONE));
}

#[test]
fn what_cannot_be_segmented_has_its_reason() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    let mut frame = vxlan(net, 20_000);
    // A TCP header at the end, after headers that are not understood.
    let inner_length = 14 + 20 + 8 + VXLAN_LEN + 14 + 2;
    frame.bytes[inner_length] ^= 1;

    let answer = lab.deliver(ArrivesAt::Near, frame);

    assert_eq!(answer.verdict, Verdict::Dropped(DropReason::NotSegmentable));
    assert_eq!(lab.counters().drops[DropReason::NotSegmentable.index()], 1);
}
