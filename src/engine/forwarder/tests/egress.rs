//! How packets are sent: size, next hop, VLAN tag, padding.

use pnet_packet::Packet as _;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::udp::{self as pnet_udp, UdpPacket};

use super::bench::{ArrivesAt, ForwarderBench, nets, v4, v6};
use super::packets::{Frame, read, syn, tcp_with, udp};
use crate::engine::testbed::{self, Side, engine_mac, host_mac};
use crate::engine::verdict::{DropReason, IcmpError, PuntReason, Verdict};
use crate::id::LinkId;
use crate::wire::frame::tcp_flags::ACK;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};
use crate::wire::vlan::VlanTag;

#[test]
fn only_hardware_addresses_and_ttl_change_on_the_way() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let sent = tcp_with(net.client, net.server, ACK, 1, 2, b"payload").dont_fragment();

        let left = lab.deliver(ArrivesAt::Near, sent.clone());

        let mut expected = sent.clone().ttl(63).bytes;
        expected[..12].copy_from_slice(&left.bytes[..12]);
        assert_eq!(left.bytes, expected);
    }
}

#[test]
fn padding_stays_behind() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let mut frame = syn(net.client, net.server);
        let length = frame.bytes.len();
        frame.bytes.extend([0xee; 40]);

        assert_eq!(lab.deliver(ArrivesAt::Near, frame).bytes.len(), length);
    }
}

#[test]
fn the_egress_tag_is_that_of_the_link_with_the_priority_of_the_packet() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.devices[0].tagged = vec![(10, LinkId(0))];
        lab.snapshot.links[0].vlan = Some(10);
        lab.snapshot.links[1].vlan = Some(20);
        let tagged = Frame { vlan: Some(VlanTag { tpid: 0x8100, tci: 0x600a }), ..syn(net.client, net.server) };

        assert_eq!(lab.deliver(ArrivesAt::Near, tagged).vlan, Some(VlanTag { tpid: 0x8100, tci: 0x6014 }));
    }
}

#[test]
fn a_packet_that_leaves_by_the_link_it_came_by_is_a_hairpin() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let mut other = net.client;
        other.set_ip(net.router);

        let answer = lab.deliver(ArrivesAt::Near, syn(net.client, other));

        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(0)));
        assert_eq!(read(&answer.bytes).destination_mac, host_mac(Side::Outer));
        lab.assert_moved([("received", 1), ("hairpinned", 1)]);
        assert!(lab.sessions().is_empty(), "what no firewall sees needs no session");
    }
}

#[test]
fn an_unresolved_neighbour_is_waited_for_with_the_finished_frame() {
    for net in nets() {
        let mut lab = ForwarderBench::inner(2);
        lab.snapshot.neighbors.remove(&(LinkId(1), net.server.ip()));
        lab.snapshot.links[1].vlan = Some(30);

        let answer = lab.deliver(ArrivesAt::Firewall(0), syn(net.client, net.server));

        assert_eq!(answer.verdict, Verdict::Punted);
        lab.assert_moved([("received", 1), ("punted", 1), ("sessions_created", 1), ("pin_learned", 1)]);
        let punt = &lab.punts.taken[0];
        let sender = testbed::firewall_mac(Side::Inner, 0);
        let reason = PuntReason::NeighborWait { link: LinkId(1), next_hop: net.server.ip(), sender };
        assert_eq!((punt.reason, punt.link, punt.vlan), (reason, LinkId(0), Some(VlanTag::new(30))));
        let waiting = read(&punt.bytes);
        assert_eq!((waiting.ttl, waiting.source_mac), (63, engine_mac(Side::Inner, 1)));
    }
}

#[test]
fn a_link_without_carrier_takes_nothing() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.links[1].up = false;

        let answer = lab.deliver(ArrivesAt::Near, syn(net.client, net.server));

        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::LinkDown));
        assert_eq!(lab.counters().drops_for(DropReason::LinkDown), 1);
    }
}

#[test]
fn what_does_not_fit_and_must_not_be_cut_is_dropped_and_told_the_mtu() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.links[1].mtu = 1400;
        let frame = udp(net.client, net.server, 1400).dont_fragment();

        let answer = lab.deliver(ArrivesAt::Near, frame.clone());

        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        assert_eq!(answer.bytes[12..], frame.bytes[12..]);
        let punt = &lab.punts.taken[0];
        assert_eq!(punt.reason, PuntReason::IcmpError(IcmpError::TooBig { mtu: 1400 }));
        assert_eq!(punt.bytes[14..], frame.bytes[14..14 + 1280]);
    }
}

#[test]
fn ipv4_without_df_is_cut_and_its_pieces_are_the_datagram() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.links[1].mtu = 600;
    lab.snapshot.links[1].vlan = Some(20);
    let mut frame = udp(net.client, net.server, 1400);
    // The checksum was left to the device.
    let whole = frame.bytes.clone();
    let pseudo = crate::wire::checksum::pseudo_header(net.client.ip(), net.server.ip(), 17, 1408);
    frame.bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
    frame.offload = Offload { partial: Some(PartialChecksum { start: 34, offset: 6 }), ..Offload::NONE };

    let answer = lab.deliver(ArrivesAt::Near, frame);

    assert_eq!(answer.verdict, Verdict::Replaced);
    lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_hashed", 1)]);
    let mut datagram = vec![0; 1408];
    let pieces = lab.transmits();
    assert_eq!(lab.counters().links[1].tx_packets, pieces.len() as u64);
    for piece in &pieces {
        assert_eq!((piece.link, piece.vlan, piece.offload), (LinkId(1), Some(VlanTag::new(20)), Offload::NONE));
        let ethernet = EthernetPacket::new(&piece.bytes).unwrap();
        let ip = Ipv4Packet::new(ethernet.payload()).unwrap();
        assert!(ip.get_total_length() <= 600 && ip.get_ttl() == 63);
        let offset = usize::from(ip.get_fragment_offset()) * 8;
        datagram[offset..offset + ip.payload().len()].copy_from_slice(ip.payload());
    }
    assert_eq!(datagram, whole[34..], "checksum included");
    let datagram = UdpPacket::new(&datagram).unwrap();
    let (source, destination) = ("198.51.100.7".parse().unwrap(), "203.0.113.80".parse().unwrap());
    assert_eq!(datagram.get_checksum(), pnet_udp::ipv4_checksum(&datagram, &source, &destination));
}

#[test]
fn pieces_wait_for_an_unresolved_neighbour_one_by_one() {
    let net = v4();
    let mut lab = ForwarderBench::inner(2);
    lab.snapshot.links[1].mtu = 600;
    lab.snapshot.neighbors.remove(&(LinkId(1), net.server.ip()));

    let answer = lab.deliver(ArrivesAt::Firewall(0), udp(net.client, net.server, 1400));

    assert_eq!(answer.verdict, Verdict::Punted);
    lab.assert_moved([("received", 1), ("punted", 1), ("sessions_created", 1), ("pin_learned", 1)]);
    assert_eq!(lab.punts.taken.len(), 3);
    assert!(lab.transmits().is_empty());
}

#[test]
fn pieces_without_room_in_the_queue_are_a_counted_drop() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.links[1].mtu = 68;
    let mut dropped = 0;
    while dropped == 0 {
        match lab.deliver(ArrivesAt::Near, udp(net.client, net.server, 1400)).verdict {
            Verdict::Replaced => {}
            Verdict::Dropped(DropReason::TransmitQueueFull) => dropped += 1,
            other => panic!("{other:?}"),
        }
    }
    let waiting = lab.transmits().len();
    assert!(waiting <= crate::engine::Forwarder::TRANSMITS_MAX && waiting > 4000, "{waiting}");
    assert_eq!(lab.deliver(ArrivesAt::Near, udp(net.client, net.server, 1400)).verdict, Verdict::Replaced);
}

/// A GSO frame with 20,000 bytes of payload in segments of `size`.
fn super_frame(net: super::bench::Net, kind: GsoKind, size: u16) -> Frame {
    let mut frame = match kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => tcp_with(net.client, net.server, ACK, 1, 2, &[7; 20_000]),
        GsoKind::UdpSegments | GsoKind::UdpFragments => udp(net.client, net.server, 20_000),
    };
    let start = if net.client.is_ipv4() { 34 } else { 54 };
    let offset = match kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => 16,
        GsoKind::UdpSegments | GsoKind::UdpFragments => 6,
    };
    frame.offload = Offload {
        partial: Some(PartialChecksum { start, offset }),
        gso: Some(Gso { kind, ecn: false, size, header_len: start + 20 }),
        verified: false,
    };
    frame
}

#[test]
fn a_super_frame_is_judged_by_its_segments() {
    for net in nets() {
        let tcp = if net.client.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        let header = if net.client.is_ipv4() { 20 } else { 40 };
        for (kind, headers) in [(tcp, header + 20), (GsoKind::UdpSegments, header + 8)] {
            let mut lab = ForwarderBench::outer(2);
            let fits = super_frame(net, kind, 1500 - headers).dont_fragment();
            let answer = lab.deliver(ArrivesAt::Near, fits.clone());
            assert_eq!((answer.verdict, answer.offload), (Verdict::Forward(LinkId(1)), fits.offload));

            let exceeds = super_frame(net, kind, 1501 - headers).dont_fragment();
            let answer = lab.deliver(ArrivesAt::Near, exceeds);
            assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig), "{kind:?}");
            assert_eq!(lab.punts.taken[0].reason, PuntReason::IcmpError(IcmpError::TooBig { mtu: 1500 }));
        }
    }
}

#[test]
fn tcp_segments_without_df_are_made_smaller() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.links[1].mtu = 1400;

    let answer = lab.deliver(ArrivesAt::Near, super_frame(net, GsoKind::Tcp4, 1460));

    assert_eq!(answer.verdict, Verdict::Forward(LinkId(1)));
    assert_eq!(answer.offload.gso.map(|gso| gso.size), Some(1360));
}

#[test]
fn a_datagram_left_to_be_fragmented_by_the_device_is_cut_here_if_its_fragments_do_not_fit() {
    let mut lab = ForwarderBench::outer(2);
    let answer = lab.deliver(ArrivesAt::Near, super_frame(v4(), GsoKind::UdpFragments, 1480));
    assert_eq!(answer.verdict, Verdict::Forward(LinkId(1)));

    lab.snapshot.links[1].mtu = 1400;
    let answer = lab.deliver(ArrivesAt::Near, super_frame(v4(), GsoKind::UdpFragments, 1480));
    assert_eq!(answer.verdict, Verdict::Replaced);
    assert!(lab.transmits().iter().all(|piece| piece.bytes.len() <= 1414));

    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.links[1].mtu = 1400;
    let answer = lab.deliver(ArrivesAt::Near, super_frame(v6(), GsoKind::UdpFragments, 1448));
    assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
}
