//! Tests of mode `tunnel`: what reaches the server, and which ICMP errors the client gets.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, NetSlice, SlicedPacket};

use super::bench::ArrivesAt;
use super::packets::{Frame, Read, ack, fragments, icmp_error, read, syn, tcp_with, udp};
use super::services::{Farm, Web, ends, farms, read_checked};
use crate::engine::explain::{ArrivalPoint, explain};
use crate::engine::testbed::{self, Side};
use crate::engine::verdict::{IcmpError, PuntReason};
use crate::engine::{DropReason, Verdict};
use crate::flow::text;
use crate::id::{FirewallId, LinkId};
use crate::session::{ConversationState, TcpState};
use crate::slb::ForwardingMode;
use crate::time::Duration;
use crate::wire::checksum;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

/// The outer packet by the server's family: the server's address, the engine's, the header length in bytes.
#[derive(Debug, Clone, Copy)]
struct Carrier {
    server: IpAddr,
    engine: IpAddr,
    header: u16,
}

fn carriers() -> [Carrier; 2] {
    let [(v4, v6), _] = testbed::engine_addresses(Side::Inner);
    let [farm4, farm6] = farms();
    [
        Carrier { server: farm4.server.ip(), engine: v4, header: 20 },
        Carrier { server: farm6.server.ip(), engine: v6, header: 40 },
    ]
}

/// Every inner family in every outer family.
fn all() -> impl Iterator<Item = (Farm, Carrier)> {
    farms().into_iter().flat_map(|farm| carriers().map(|carrier| (farm, carrier)))
}

fn web(carrier: Carrier) -> Web {
    let mut web = Web::new(&[1]);
    web.change(|service| {
        service.mode = ForwardingMode::Tunnel;
        service.servers[0].port = None;
        service.servers[0].v4 = Some(carrier.server);
        service.servers[0].v6 = Some(carrier.server);
    });
    web
}

/// The outer packet, and the frame that the inner one would be.
struct Unpacked {
    outer: Read,
    /// Identification and DF of an outer IPv4 packet.
    ident: u16,
    dont_fragment: bool,
    inner: Vec<u8>,
}

fn unpack(bytes: &[u8]) -> Unpacked {
    let outer = read(bytes);
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let (number, ident, dont_fragment) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => (ip.header().protocol(), ip.header().identification(), ip.header().dont_fragment()),
        NetSlice::Ipv6(ip) => (ip.header().next_header(), 0, true),
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let ethertype = match number {
        IpNumber::IPV4 => [0x08, 0x00],
        IpNumber::IPV6 => [0x86, 0xdd],
        other => panic!("protocol {other:?} is no tunnel"),
    };
    let inner = [&[0; 12], &ethertype[..], &outer.payload].concat();
    Unpacked { outer, ident, dont_fragment, inner }
}

impl Web {
    /// Delivers a client's packet that must reach the server, and returns the frames that are sent to it.
    #[track_caller]
    fn carried(&mut self, frame: Frame) -> Vec<Vec<u8>> {
        let answer = self.lab.deliver(ArrivesAt::Firewall(1), frame);
        assert_eq!(answer.verdict, Verdict::Replaced);
        let frames = self.lab.transmits();
        assert!(frames.iter().all(|sent| sent.link == LinkId(1) && sent.offload == Offload::NONE));
        frames.into_iter().map(|sent| sent.bytes).collect()
    }

    /// Delivers a client's packet, and returns the one outer packet.
    #[track_caller]
    fn packed(&mut self, frame: Frame) -> Unpacked {
        let frames = self.carried(frame);
        assert_eq!(frames.len(), 1);
        unpack(&frames[0])
    }
}

#[test]
fn a_connection_reaches_the_server_as_its_client_sent_it_inside_packets_of_the_engines() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let original = syn(farm.client, farm.vip);

        let sent = web.packed(original.clone());

        let (outer, inner) = (sent.outer, read_checked(&sent.inner));
        assert_eq!((outer.source, outer.destination, outer.ttl), (carrier.engine, carrier.server, 64));
        assert_eq!(outer.destination_mac, testbed::host_mac(Side::Inner));
        let mut expected = original.ttl(63).bytes;
        expected[..12].fill(0);
        assert_eq!((sent.inner, inner.ttl), (expected, 63), "only the TTL differs");
        web.lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);

        web.packed(ack(farm.client, farm.vip));
        assert_eq!(
            web.lab.sessions()[0].state,
            ConversationState::Tcp(TcpState::Established),
            "half of it is all there is"
        );
        web.packed(tcp_with(farm.client, farm.vip, 0x11, 1000, 2000, b""));
        assert_eq!(web.lab.sessions()[0].state, ConversationState::Tcp(TcpState::Closing));
        assert_eq!(web.lab.counters().servers[0].packets(), 3);
        let (firewall, reply) = web.reply(ack(farm.vip, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)), "a server may route its replies here");
    }
}

#[test]
fn may_the_packet_be_fragmented_so_may_the_one_that_carries_it_and_then_it_has_a_number() {
    let [farm, _] = farms();
    let [carrier, _] = carriers();
    let mut web = web(carrier);
    let with = web.packed(udp(farm.client, farm.vip, 100).dont_fragment());
    let without: Vec<_> = (0..3).map(|_| web.packed(udp(farm.client, farm.vip, 100))).collect();

    assert_eq!((with.dont_fragment, with.ident), (true, 0));
    assert!(without.iter().all(|sent| !sent.dont_fragment));
    assert_eq!(without.iter().map(|sent| sent.ident).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_packet_that_does_not_fit_the_tunnel_is_refused_with_what_would() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let header = if farm.client.is_ipv4() { 20 } else { 40 };
        let room = 1500 - usize::from(carrier.header);
        let of = |bytes: usize| udp(farm.client, farm.vip, bytes - header - 8).dont_fragment();

        let sent = web.carried(of(room));
        assert_eq!(sent[0].len(), 14 + 1500);

        let answer = web.lab.deliver(ArrivesAt::Firewall(1), of(room + 1));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        let told = web.lab.punts.taken.pop().unwrap();
        assert_eq!(told.reason, PuntReason::IcmpError(IcmpError::TooBig { mtu: room as u16 }));
        assert_eq!(told.bytes[14..60], of(room + 1).bytes[14..60], "the packet as it was sent");
    }
}

#[test]
fn a_packet_that_may_be_fragmented_is_cut_before_it_is_packed() {
    let [farm, _] = farms();
    for carrier in carriers() {
        let mut web = web(carrier);
        let original = udp(farm.client, farm.vip, 3000);

        let frames = web.carried(original.clone());

        let pieces: Vec<_> = frames.iter().map(|frame| unpack(frame)).collect();
        assert_eq!(pieces.len(), 3);
        assert!(frames.iter().all(|frame| frame.len() <= 14 + 1500));
        assert!(pieces.iter().all(|piece| piece.outer.destination == carrier.server));
        let payload: Vec<u8> = pieces.iter().flat_map(|piece| read(&piece.inner).payload).collect();
        assert_eq!(payload, read(&original.bytes).payload);

        // Fragments that the client made itself are treated alike.
        let cut = fragments(&udp(farm.client, farm.vip, 3000), 1480, 7);
        let carried: Vec<_> = cut.into_iter().map(|piece| web.carried(piece).len()).collect();
        assert_eq!(carried, [2, 2, 1]);
    }
}

#[test]
fn the_packet_that_every_link_carries_goes_through_a_tunnel_that_is_too_narrow_for_it() {
    let [_, farm] = farms();
    for carrier in carriers() {
        let mut web = web(carrier);
        web.lab.snapshot.links[1].mtu = 1280;
        let original = udp(farm.client, farm.vip, 1280 - 48);

        let frames = web.carried(original.clone());

        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|frame| frame.len() <= 14 + 1280));
        let skip = if carrier.server.is_ipv4() { 0 } else { 8 };
        let packet: Vec<u8> = frames.iter().flat_map(|frame| read(frame).payload[skip..].to_vec()).collect();
        assert_eq!(packet, original.ttl(63).bytes[14..]);
        let answer = web.lab.deliver(ArrivesAt::Firewall(1), udp(farm.client, farm.vip, 1281 - 48));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        let told = web.lab.punts.taken.pop().unwrap();
        assert_eq!(told.reason, PuntReason::IcmpError(IcmpError::TooBig { mtu: 1280 }));
    }
}

#[test]
fn a_super_frame_is_segmented_before_it_is_packed() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        web.packed(syn(farm.client, farm.vip));
        let is_v4 = farm.client.is_ipv4();
        let data: Vec<u8> = (0..4000_u32).map(|n| n as u8).collect();
        let mut frame = tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, &data);
        let start: u16 = if is_v4 { 34 } else { 54 };
        let length = frame.bytes.len() as u32 - u32::from(start);
        let at = usize::from(start) + 16;
        let partial = checksum::pseudo_header(farm.client.ip(), farm.vip.ip(), 6, length);
        frame.bytes[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let kind = if is_v4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        frame.offload = Offload {
            partial: Some(PartialChecksum { start, offset: 16 }),
            gso: Some(Gso { kind, ecn: false, size: 1400, header_len: start + 20 }),
            ..Offload::NONE
        };

        let segments: Vec<_> =
            web.carried(frame.clone()).iter().map(|bytes| read_checked(&unpack(bytes).inner)).collect();

        assert_eq!(segments.len(), 3);
        assert!(segments.iter().all(|segment| ends(segment) == (farm.client, farm.vip)));
        let carried: Vec<u8> = segments.iter().flat_map(|segment| segment.payload[20..].to_vec()).collect();
        assert_eq!(carried, data);

        // A client that does path MTU discovery learns the MTU of the tunnel.
        frame.offload.gso = frame.offload.gso.map(|gso| Gso { size: 1460, ..gso });
        let answer = web.lab.deliver(ArrivesAt::Firewall(1), Frame { offload: frame.offload, ..frame.dont_fragment() });
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
    }
}

#[test]
fn a_checksum_that_the_device_would_have_finished_is_finished() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let mut frame = udp(farm.client, farm.vip, 101);
        let start: u16 = if farm.client.is_ipv4() { 34 } else { 54 };
        let at = usize::from(start) + 6;
        let partial = checksum::pseudo_header(farm.client.ip(), farm.vip.ip(), 17, 109);
        frame.bytes[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        frame.offload.partial = Some(PartialChecksum { start, offset: 6 });

        read_checked(&web.packed(frame).inner);
    }
}

#[test]
fn a_smaller_path_mtu_is_learned_told_to_the_client_and_forgotten_in_time() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let mtu = 1280 - carrier.header.max(20);
        let big = || udp(farm.client, farm.vip, 1300).dont_fragment();
        let sent = web.carried(big()).remove(0);

        let router = testbed::engine_addresses(Side::Inner)[1];
        let router = if carrier.server.is_ipv4() { router.0 } else { router.1 };
        let router = match router {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() + 77).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() + 77).into()),
        };
        let answer = web.lab.deliver(ArrivesAt::Near, icmp_error(router, carrier.engine, &Frame::new(sent)));
        assert_eq!(answer.verdict, Verdict::Replaced);
        let told = web.lab.transmits().remove(0);
        assert_eq!((told.link, &told.bytes[..6]), (LinkId(0), &testbed::firewall_mac(Side::Inner, 1).0[..]));
        let told = read(&told.bytes);
        assert_eq!(told.destination, farm.client.ip());
        let expected = if farm.client.is_ipv4() { 1280 - carrier.header } else { 1280.max(mtu) };
        let number: [u8; 4] = told.payload[4..8].try_into().unwrap();
        assert_eq!(
            (told.payload[0], u32::from_be_bytes(number)),
            (if farm.client.is_ipv4() { 3 } else { 2 }, expected.into())
        );
        assert_eq!(told.payload[8..28], big().ttl(63).bytes[14..34], "about the packet that the client sent");

        let answer = web.lab.deliver(ArrivesAt::Firewall(1), big());
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        web.lab.now += Duration::from_secs(600);
        assert_eq!(web.carried(big()).len(), 1);
    }
}

#[test]
fn what_a_router_says_of_a_dead_tunnel_reaches_the_client_and_nobody_else() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let sent = web.carried(udp(farm.client, farm.vip, 10)).remove(0);
        let router = if carrier.server.is_ipv4() { "192.0.2.33" } else { "2001:db8:ffff::33" };
        let mut error = icmp_error(router.parse().unwrap(), carrier.engine, &Frame::new(sent.clone()));
        // Time exceeded, which has 4 unused bytes in both families.
        let is_v4 = carrier.server.is_ipv4();
        let at = if is_v4 { 34 } else { 54 };
        error.bytes[at] = if is_v4 { 11 } else { 3 };
        error.bytes[at + 1] = 0;
        error.bytes[at + 4..at + 8].fill(0);
        error.bytes[at + 2..at + 4].fill(0);
        let pseudo = match is_v4 {
            true => 0,
            false => {
                let length = (error.bytes.len() - at) as u32;
                checksum::pseudo_header(router.parse().unwrap(), carrier.engine, 58, length)
            }
        };
        let sum = !checksum::add(pseudo, checksum::sum(&error.bytes[at..]));
        error.bytes[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());

        let answer = web.lab.deliver(ArrivesAt::Near, error.clone());
        assert_eq!(answer.verdict, Verdict::Replaced);
        let told = read(&web.lab.transmits().remove(0).bytes);
        assert_eq!(told.destination, farm.client.ip());
        assert_eq!(told.payload[..2], if farm.client.is_ipv4() { [3, 1] } else { [1, 3] });

        // An error about an unknown session goes to the controller, because it may be about a health check.
        web.lab.wait(Duration::from_secs(400));
        let answer = web.lab.deliver(ArrivesAt::Near, error);
        assert_eq!((answer.verdict, web.lab.transmits().len()), (Verdict::Punted, 0));
    }
}

#[test]
fn a_packet_that_waits_for_its_neighbour_is_remembered_as_its_sender_knows_it() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        web.lab.snapshot.neighbors.remove(&(LinkId(1), carrier.server));
        let original = syn(farm.client, farm.vip);

        let answer = web.lab.deliver(ArrivesAt::Firewall(1), original.clone());

        assert_eq!(answer.verdict, Verdict::Punted);
        let punt = web.lab.punts.taken.pop().unwrap();
        assert_eq!(unpack(&punt.bytes).outer.destination, carrier.server);
        assert_eq!(punt.original.unwrap()[14..], original.bytes[14..]);
    }
}

#[test]
fn what_is_explained_of_a_tunnel_is_what_happens() {
    for (farm, carrier) in all() {
        let mut web = web(carrier);
        let flow = text::parse(&format!("tcp {} {}", farm.client, farm.vip)).unwrap();
        let from = Some(ArrivalPoint::Firewall(FirewallId(1)));
        let told = explain("inner", &web.lab.snapshot, &web.lab.table, &flow, from, web.lab.now);

        let outer = web.packed(syn(farm.client, farm.vip)).outer;
        let number = if farm.client.is_ipv4() { "ipip" } else { "41" };
        assert_eq!(told.translation, Some(format!("{number} {} {}", outer.source, outer.destination)));
        assert_eq!(told.egress.and_then(|egress| egress.next_hop), Some(carrier.server.to_string()));
        assert_eq!(told.decided_by.name(), "service");
    }
}

#[test]
fn the_buffer_of_a_frame_that_was_sent_carries_the_next_one() {
    let [farm, _] = farms();
    let [carrier, _] = carriers();
    let mut web = web(carrier);
    let first = web.carried(udp(farm.client, farm.vip, 600)).remove(0);
    let place = first.as_ptr();
    web.lab.workers[0].0.recycle(first);

    let second = web.carried(udp(farm.client, farm.vip, 500)).remove(0);
    assert_eq!(second.as_ptr(), place);
    let client = SocketAddr::new(farm.client.ip(), 41000);
    assert_eq!(ends(&read_checked(&unpack(&web.carried(udp(client, farm.vip, 9))[0]).inner)), (client, farm.vip));
    read_checked(&unpack(&second).inner);
}
