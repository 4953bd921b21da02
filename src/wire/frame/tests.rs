use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::wire::checksum;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DESTINATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const B4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80);

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&DESTINATION.0[..], &SOURCE.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 frame with `options` (a multiple of 4 bytes), the flags-and-offset field as given.
fn v4_with(field: u16, options: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut header = vec![0x40 | (header_len / 4) as u8, 0x28];
    header.extend(((header_len + payload.len()) as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(field.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(A4.octets());
    header.extend(B4.octets());
    header.extend(options);
    let mut frame = ethernet(ethertype::IPV4, &[&header, payload].concat());
    mend(&mut frame);
    frame
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_with(0x4000, &[], protocol, payload)
}

/// Puts the IPv4 header checksum right again.
fn mend(frame: &mut [u8]) {
    let header_len = usize::from(frame[14] & 0x0f) * 4;
    frame[24..26].fill(0);
    let checksum = checksum::checksum(&frame[14..14 + header_len]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    header.extend(A6.octets());
    header.extend(B6.octets());
    ethernet(ethertype::IPV6, &[&header, payload].concat())
}

fn udp(payload_len: usize) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0x00, 0x35];
    datagram.extend(((8 + payload_len) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(8 + payload_len, 0x61);
    datagram
}

fn tcp(flags: u8, payload_len: usize) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    segment.resize(20 + payload_len, 0x61);
    segment
}

fn parse(bytes: &mut [u8]) -> Result<Frame<'_>, Malformed> {
    Frame::parse(bytes, &Offload::NONE)
}

#[test]
fn an_ipv4_udp_frame_reads_as_built() {
    let mut bytes = v4(17, &udp(5));
    let frame = parse(&mut bytes).unwrap();

    assert_eq!(frame.payload(), Payload::Ip);
    assert_eq!((frame.source_mac(), frame.destination_mac()), (SOURCE, DESTINATION));
    assert_eq!((frame.family(), frame.ttl(), frame.ip_len(), frame.dont_fragment()), (Family::V4, 64, 33, true));
    assert_eq!(
        frame.tuple(),
        Tuple { protocol: 17, source: A4.into(), source_port: 40000, destination: B4.into(), destination_port: 53 }
    );
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::Whole, None));
    assert_eq!((frame.tcp(), frame.icmp()), (None, None));
}

#[test]
fn an_ipv6_tcp_frame_reads_as_built() {
    let mut bytes = v6(6, &tcp(tcp_flags::SYN | tcp_flags::FIN, 3));
    let frame = parse(&mut bytes).unwrap();

    assert_eq!((frame.family(), frame.ttl(), frame.ip_len(), frame.dont_fragment()), (Family::V6, 64, 63, true));
    assert_eq!(
        frame.tuple(),
        Tuple { protocol: 6, source: A6.into(), source_port: 40000, destination: B6.into(), destination_port: 443 }
    );
    assert_eq!(frame.tcp(), Some(TcpSegment { flags: 3, sequence: 7, acknowledgement: 9, length: 5 }));
}

fn icmp_v4(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let checksum = checksum::checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn icmp_v6(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let pseudo = checksum::pseudo_header(A6.into(), B6.into(), 58, message.len() as u32);
    let checksum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// An extension header of 8 bytes.
fn extension(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let field = offset | u16::from(more);
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0x56, 0x78]].concat()
}

fn chain(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Changes a byte of a frame and puts the IPv4 header checksum right again.
fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    if frame[12..14] == [0x08, 0x00] && frame[14] == frame[14] & 0x4f | 0x40 && frame.len() >= 34 {
        let header_len = usize::from(frame[14] & 0x0f) * 4;
        if header_len >= 20 && 14 + header_len <= frame.len() {
            mend(&mut frame);
        }
    }
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

#[test]
fn each_way_of_being_malformed_has_its_name() {
    use Malformed::*;
    let tcp_doff = |doff: u8| with(v4(6, &tcp(0x10, 0)), 46, doff << 4);
    let tcp_doff_v6 = |doff: u8| with(v6(6, &tcp(0x10, 0)), 66, doff << 4);
    let udp_len = |length: u8| with(v4(17, &udp(5)), 39, length);
    let bare_tcp = |length: usize| tcp(0x10, 0)[..length].to_vec();
    let v6_first = |next: u8, payload: &[u8]| v6(44, &chain(&[&fragment_header(next, 0, true), payload]));
    let bad_sum = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 0x01;
        frame
    };
    let mut rh0 = extension(6);
    rh0[2] = 0;
    let cases: Vec<(&str, Vec<u8>, Malformed)> = vec![
        ("nothing at all", vec![], EthernetTruncated),
        ("13 bytes", cut(v4(17, &udp(0)), 13), EthernetTruncated),
        ("an IPv4 EtherType and nothing else", cut(v4(17, &udp(0)), 14), IpHeader),
        ("an IPv4 header of 19 bytes", cut(v4(17, &udp(0)), 33), IpHeader),
        ("IPv4 options beyond the frame", cut(v4_with(0, &[1; 8], 17, &[]), 38), IpHeader),
        ("IHL 0", with(v4(17, &udp(0)), 14, 0x40), IpHeader),
        ("IHL 4", with(v4(17, &udp(0)), 14, 0x44), IpHeader),
        ("an IPv4 option of length 0", v4_with(0, &[7, 0, 0, 0], 17, &udp(0)), IpHeader),
        ("an IPv4 option of length 1", v4_with(0, &[7, 1, 0, 0], 17, &udp(0)), IpHeader),
        ("an IPv4 option beyond the header", v4_with(0, &[7, 5, 0, 0], 17, &udp(0)), IpHeader),
        ("an IPv4 option without its length", v4_with(0, &[1, 1, 1, 7], 17, &udp(0)), IpHeader),
        ("an IPv6 EtherType and nothing else", cut(v6(17, &udp(0)), 14), IpHeader),
        ("an IPv6 header of 39 bytes", cut(v6(17, &udp(0)), 53), IpHeader),
        ("an extension header of 1 byte", v6(0, &[17]), IpHeader),
        ("an extension header beyond the payload", v6(60, &[17, 1, 0, 0, 0, 0, 0, 0]), IpHeader),
        ("an authentication header beyond the payload", v6(51, &[17, 2, 0, 0, 0, 0, 0, 0]), IpHeader),
        ("a fragment header of 7 bytes", v6(44, &[17, 0, 0, 1, 0, 0, 0]), IpHeader),
        ("a fragment of a fragment", v6_first(44, &chain(&[&fragment_header(17, 0, true), &udp(0)])), IpHeader),
        ("version 6 in IPv4", with(v4(17, &udp(0)), 14, 0x65), IpVersion),
        ("version 0 in IPv4", with(v4(17, &udp(0)), 14, 0x05), IpVersion),
        ("version 4 in IPv6", with(v6(17, &udp(0)), 14, 0x40), IpVersion),
        ("version 5 in one byte of IPv6", with(cut(v6(17, &udp(0)), 15), 14, 0x50), IpVersion),
        ("total length beyond the frame", cut(v4(17, &udp(9)), 50), IpLength),
        ("total length 0, as big TCP has it", with(v4(6, &tcp(0x10, 9)), 17, 0), IpLength),
        ("total length less than the header", with(v4(17, &udp(0)), 17, 19), IpLength),
        ("total length less than a header with options", with(v4_with(0, &[1; 4], 17, &udp(0)), 17, 23), IpLength),
        ("payload length beyond the frame", cut(v6(17, &udp(9)), 70), IpLength),
        ("a jumbogram", with(v6(0, &chain(&[&extension(17), &udp(0)])), 19, 0), IpLength),
        ("an IPv4 fragment without payload", v4_with(0x2000, &[], 17, &[]), IpLength),
        ("a last IPv4 fragment without payload", v4_with(0x0001, &[], 17, &[]), IpLength),
        ("12 bytes with more to follow", v4_with(0x2001, &[], 17, &[0; 12]), IpLength),
        ("an IPv4 fragment beyond 65,535", v4_with(0x1fff, &[], 17, &[0; 8]), IpLength),
        ("an IPv6 fragment without payload", v6(44, &fragment_header(17, 8, false)), IpLength),
        ("12 bytes of IPv6 with more to follow", v6(44, &chain(&[&fragment_header(17, 8, true), &[0; 12]])), IpLength),
        ("an IPv6 fragment beyond 65,535", v6(44, &chain(&[&fragment_header(17, 65528, false), &[0; 8]])), IpLength),
        ("one flipped bit in the IPv4 header", bad_sum(v4(17, &udp(0)), 22), IpChecksum),
        ("one flipped bit in the IPv4 checksum", bad_sum(v4(17, &udp(0)), 24), IpChecksum),
        ("a loose source route", v4_with(0, &[131, 7, 4, 10, 0, 0, 1, 0], 17, &udp(0)), SourceRoute),
        ("a strict source route", v4_with(0, &[1, 137, 7, 4, 10, 0, 0, 1], 17, &udp(0)), SourceRoute),
        ("a source route behind another option", v4_with(0, &[148, 4, 0, 0, 131, 3, 4, 0], 17, &udp(0)), SourceRoute),
        ("routing header type 0", v6(43, &chain(&[&rh0, &tcp(0x10, 0)])), SourceRoute),
        (
            "routing header type 0 behind another header",
            v6(0, &chain(&[&extension(43), &rh0, &tcp(0x10, 0)])),
            SourceRoute,
        ),
        ("TCP of 19 bytes", v4(6, &bare_tcp(19)), Transport),
        ("TCP of 0 bytes", v4(6, &[]), Transport),
        ("TCP data offset 4", tcp_doff(4), Transport),
        ("TCP data offset 0", tcp_doff(0), Transport),
        ("TCP data offset beyond the segment", tcp_doff(6), Transport),
        ("TCP of 19 bytes over IPv6", v6(6, &bare_tcp(19)), Transport),
        ("TCP data offset 4 over IPv6", tcp_doff_v6(4), Transport),
        ("TCP data offset beyond the segment over IPv6", tcp_doff_v6(15), Transport),
        ("UDP of 7 bytes", v4(17, &udp(0)[..7]), Transport),
        ("UDP length 7", udp_len(7), Transport),
        ("UDP length 0", udp_len(0), Transport),
        ("UDP length beyond the payload", udp_len(14), Transport),
        ("UDP of 7 bytes over IPv6", v6(17, &udp(0)[..7]), Transport),
        ("UDP length beyond the payload over IPv6", with(v6(17, &udp(5)), 59, 14), Transport),
        ("UDP length less than 8 in a first fragment", v4_with(0x2000, &[], 17, &[0; 8]), Transport),
        ("UDP-Lite of 7 bytes", v4(136, &[0; 7]), Transport),
        ("SCTP of 11 bytes", v4(132, &[0; 11]), Transport),
        ("DCCP of 11 bytes", v4(33, &[0; 11]), Transport),
        ("ICMP of 7 bytes", v4(1, &icmp_v4(8, &[0; 3])), Transport),
        ("ICMP of 0 bytes", v4(1, &[]), Transport),
        ("ICMPv6 of 3 bytes", v6(58, &[200, 0, 0]), Transport),
        ("an ICMPv6 echo of 7 bytes", v6(58, &icmp_v6(128, &[0; 3])), Transport),
        ("an ICMPv6 error of 7 bytes", v6(58, &icmp_v6(2, &[0; 3])), Transport),
        ("a TCP first fragment of 8 bytes", v4_with(0x2000, &[], 6, &bare_tcp(8)), TinyFragment),
        ("a TCP fragment at offset 1", v4_with(0x2001, &[], 6, &[0; 16]), TinyFragment),
        ("a last TCP fragment at offset 1", v4_with(0x0001, &[], 6, &[0; 12]), TinyFragment),
        ("a TCP first fragment of 16 bytes over IPv6", v6_first(6, &bare_tcp(16)), TinyFragment),
        ("TCP options beyond the first fragment over IPv6", v6_first(6, &with(tcp(0x10, 4), 12, 0x70)), TinyFragment),
        (
            "a TCP fragment at offset 1 over IPv6",
            v6(44, &chain(&[&fragment_header(6, 8, false), &[0; 9]])),
            TinyFragment,
        ),
        ("a chain that ends beyond the first fragment", v6_first(60, &[6, 1, 0, 0, 0, 0, 0, 0]), TinyFragment),
        ("a first fragment that holds only extension headers", v6_first(60, &extension(17)), TinyFragment),
        ("one flipped bit in an ICMP message", bad_sum(v4(1, &icmp_v4(8, &[0, 7, 0, 1, 9])), 42), IcmpChecksum),
        ("one flipped bit in an ICMPv6 message", bad_sum(v6(58, &icmp_v6(128, &[0, 7, 0, 1, 9])), 62), IcmpChecksum),
        ("ICMPv6 with one flipped address bit", bad_sum(v6(58, &icmp_v6(128, &[0, 7, 0, 1, 9])), 40), IcmpChecksum),
    ];
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for (what, mut bytes, expected) in cases {
        assert_eq!(parse(&mut bytes).map(|frame| frame.tuple()), Err(expected), "{what}");
    }
}

#[test]
fn what_is_odd_but_legal_passes() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("40 bytes of options", v4_with(0, &[1; 40], 17, &udp(0))),
        ("an end of options before garbage", v4_with(0, &[0, 7, 0, 0], 17, &udp(0))),
        ("record route", v4_with(0, &[7, 7, 4, 0, 0, 0, 0, 0], 17, &udp(0))),
        ("timestamp", v4_with(0, &[68, 8, 5, 0, 0, 0, 0, 0], 17, &udp(0))),
        ("router alert", v4_with(0, &[148, 4, 0, 0], 17, &udp(0))),
        ("the reserved flag", v4_with(0x8000, &[], 17, &udp(0))),
        ("SYN and FIN", v4(6, &tcp(0x03, 0))),
        ("no TCP flag", v4(6, &tcp(0, 0))),
        ("every TCP flag", v4(6, &tcp(0xff, 0))),
        ("data in a SYN", v4(6, &tcp(0x02, 100))),
        ("UDP shorter than its packet", with(v4(17, &udp(5)), 39, 8)),
        ("a protocol nobody knows", v4(253, &[])),
        ("ESP", v4(50, &[0; 4])),
        ("no next header", v6(59, &[])),
        ("an IPv6 packet that ends after its header", v6(254, &[])),
        ("an ICMPv6 message nobody knows, of 4 bytes", v6(58, &icmp_v6(200, &[]))),
        ("SCTP of 12 bytes", v4(132, &[0; 12])),
        ("a last fragment of 1 byte", v4_with(0x0010, &[], 17, &[0])),
        ("the last byte of the largest datagram", v4_with(0x1fff, &[], 17, &[0; 7])),
        ("a first UDP fragment of 8 bytes", v4_with(0x2000, &[], 17, &udp(1000)[..8])),
        ("a first TCP fragment of 16 bytes", v4_with(0x2000, &[], 6, &tcp(0x10, 0)[..16])),
        ("a UDP fragment at offset 1", v4_with(0x2001, &[], 17, &[0; 8])),
    ];
    for (what, mut bytes) in cases {
        assert_eq!(parse(&mut bytes).map(|frame| frame.payload()), Ok(Payload::Ip), "{what}");
    }
}

#[test]
fn what_is_not_ip_is_told_by_its_ethertype() {
    for (ethertype, expected) in [
        (0x0806, Payload::Arp),
        (0x0026, Payload::Llc),
        (0x05ff, Payload::Llc),
        (0x0600, Payload::Other(0x0600)),
        (0x8100, Payload::Other(0x8100)),
        (0x88cc, Payload::Other(0x88cc)),
    ] {
        let mut bytes = ethernet(ethertype, &[]);
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.payload(), frame.ethertype()), (expected, ethertype));
        assert_eq!(frame.bytes().len(), 14);
    }
}

#[test]
fn padding_is_neither_payload_nor_checksum_nor_length() {
    let mut bytes = v4(1, &icmp_v4(8, &[0x12, 0x34, 0, 1]));
    bytes.resize(60, 0xee);
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.ip_len(), frame.ip_bytes().len(), frame.transport_bytes().len()), (28, 28, 8));

    let mut bytes = v6(6, &tcp(0x10, 0));
    bytes.resize(80, 0xee);
    assert_eq!(parse(&mut bytes).unwrap().tcp().unwrap().length, 0);
}

#[test]
fn ports_lie_behind_ipv4_options() {
    for options in [&[][..], &[1; 4], &[1; 40]] {
        let mut bytes = v4_with(0, options, 6, &tcp(0x12, 9));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.tuple().source_port, frame.tuple().destination_port), (40000, 443));
        assert_eq!(frame.tcp().unwrap().length, 10);
        assert!(!frame.dont_fragment());
    }
}

#[test]
fn protocols_with_ports_show_them_and_others_do_not() {
    let payload = [udp(20), vec![0; 12]].concat();
    for protocol in 0..=255 {
        let mut bytes = v4(protocol, &payload);
        let expected = match protocol {
            17 | 33 | 132 | 136 => (40000, 53),
            _ => (0, 0),
        };
        match protocol {
            1 | 6 => {}
            _ => {
                let frame = parse(&mut bytes).unwrap_or_else(|malformed| panic!("protocol {protocol}: {malformed}"));
                let tuple = frame.tuple();
                assert_eq!((tuple.source_port, tuple.destination_port), expected, "protocol {protocol}");
                assert_eq!((tuple.protocol, frame.icmp(), frame.tcp()), (protocol, None, None));
            }
        }
    }
}

#[test]
fn the_same_flow_with_and_without_extension_headers_has_one_tuple() {
    let mut plain = v6(6, &tcp(0x10, 0));
    let plain = parse(&mut plain).unwrap().tuple();
    let mut authentication = vec![6, 4, 0, 0];
    authentication.resize(24, 0xaa);
    let routed = |next: u8| vec![next, 0, 2, 0, 0, 0, 0, 0];
    let long = |next: u8| {
        let mut header = vec![next, 30];
        header.resize(248, 0);
        header
    };
    let tcp = tcp(0x10, 0);
    let chains: Vec<(&str, u8, Vec<u8>)> = vec![
        ("hop-by-hop", 0, chain(&[&extension(6), &tcp])),
        ("destination options", 60, chain(&[&extension(6), &tcp])),
        ("routing", 43, chain(&[&routed(6), &tcp])),
        ("authentication", 51, chain(&[&authentication, &tcp])),
        ("mobility", 135, chain(&[&extension(6), &tcp])),
        ("HIP", 139, chain(&[&extension(6), &tcp])),
        ("Shim6", 140, chain(&[&extension(6), &tcp])),
        ("atomic fragment", 44, chain(&[&fragment_header(6, 0, false), &tcp])),
        ("two atomic fragments", 44, chain(&[&fragment_header(44, 0, false), &fragment_header(6, 0, false), &tcp])),
        (
            "all in order",
            0,
            chain(&[&extension(60), &extension(43), &routed(51), &[60], &authentication[1..], &extension(6), &tcp]),
        ),
        ("eight headers", 60, chain(&[&extension(60).repeat(7), &extension(6), &tcp])),
        ("512 bytes", 60, chain(&[&long(60), &long(60), &extension(60), &extension(6), &tcp])),
    ];
    for (what, next, payload) in chains {
        let mut bytes = v6(next, &payload);
        let frame = parse(&mut bytes).unwrap_or_else(|malformed| panic!("{what}: {malformed}"));
        assert_eq!(frame.tuple(), plain, "{what}");
        assert_eq!((frame.fragment(), frame.is_fragment()), (Fragment::Whole, false), "{what}");
        assert_eq!(frame.tcp().unwrap().sequence, 7, "{what}");
    }
}

#[test]
fn a_chain_too_long_to_walk_has_no_ports_and_is_no_error() {
    let mut long = vec![60, 63];
    long.resize(512, 0);
    let chains = [
        ("nine headers", chain(&[&extension(60).repeat(8), &extension(6), &tcp(0x10, 0)])),
        ("520 bytes", chain(&[&long, &extension(6), &tcp(0x10, 0)])),
    ];
    for (what, payload) in chains {
        let mut bytes = v6(60, &payload);
        let frame = parse(&mut bytes).unwrap();
        let tuple = frame.tuple();
        assert_eq!((tuple.protocol, tuple.source_port, tuple.destination_port), (60, 0, 0), "{what}");
        assert_eq!((frame.tcp(), frame.icmp()), (None, None), "{what}");
    }
}

#[test]
fn fragments_tell_their_place() {
    let range = |offset, length, last| Some(FragmentRange { offset, length, last });

    let mut bytes = v4_with(0x2000, &[], 17, &udp(1000)[..200]);
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::First { id: 0x1234 }, range(0, 200, false)));
    assert_eq!((frame.tuple().source_port, frame.more_fragments()), (40000, true));

    let mut bytes = v4_with(25, &[], 17, &[0xff; 33]);
    bytes.resize(80, 0);
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::Later { id: 0x1234 }, range(200, 33, true)));
    assert_eq!((frame.tuple().source_port, frame.tuple().destination_port, frame.more_fragments()), (0, 0, false));

    // The fragmentable part begins with an extension header: it is part of what the fragment carries.
    let payload = chain(&[&extension(44), &fragment_header(60, 0, true), &extension(17), &udp(1000)[..192]]);
    let mut bytes = v6(0, &payload);
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::First { id: 0x5678 }, range(0, 200, false)));
    assert_eq!((frame.protocol(), frame.tuple().source_port), (17, 40000));

    let mut bytes = v6(0, &chain(&[&extension(44), &fragment_header(60, 200, false), &[0; 7]]));
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.fragment(), frame.fragment_range()), (Fragment::Later { id: 0x5678 }, range(200, 7, true)));
    assert_eq!((frame.protocol(), frame.tuple().source_port), (60, 0));
}

#[test]
fn a_later_tcp_or_icmp_fragment_is_not_read_as_a_header() {
    let mut bytes = v4_with(0x0010, &[], 6, &tcp(0x02, 0));
    assert_eq!(parse(&mut bytes).unwrap().tcp(), None);
    let mut bytes = v4_with(0x0010, &[], 1, &icmp_v4(8, &[0, 7, 0, 0]));
    let frame = parse(&mut bytes).unwrap();
    assert_eq!((frame.icmp(), frame.tuple().source_port), (None, 0));
}

#[test]
fn the_identifier_of_a_query_is_the_port_of_both_ends() {
    let body = [0x12, 0x34, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for kind in [0, 8, 13, 14, 15, 16, 17, 18] {
        let mut bytes = v4(1, &icmp_v4(kind, &body));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!(frame.icmp(), Some(Icmp::Query), "type {kind}");
        assert_eq!((frame.tuple().source_port, frame.tuple().destination_port), (0x1234, 0x1234), "type {kind}");
    }
    for kind in [128, 129] {
        let mut bytes = v6(58, &icmp_v6(kind, &body));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.icmp(), frame.tuple().destination_port), (Some(Icmp::Query), 0x1234), "type {kind}");
    }
    let mut bytes = v4_with(0x2000, &[], 1, &icmp_v4(8, &body)[..16]);
    assert_eq!(parse(&mut bytes).unwrap().tuple().source_port, 0x1234, "the first fragment of a large ping");
}

#[test]
fn every_icmp_type_has_its_class() {
    for kind in 0..=255 {
        let mut bytes = v4(1, &icmp_v4(kind, &[0; 4]));
        let frame = parse(&mut bytes).unwrap();
        let expected = match kind {
            0 | 8 | 13..=18 => Icmp::Query,
            3 | 4 | 5 | 11 | 12 => Icmp::Error(None),
            9 | 10 => Icmp::LinkLocal,
            _ => Icmp::Other,
        };
        assert_eq!((frame.icmp(), frame.tuple().source_port), (Some(expected), 0), "ICMP type {kind}");

        let mut bytes = v6(58, &icmp_v6(kind, &[0; 4]));
        let expected = match kind {
            0..=127 => Icmp::Error(None),
            128 | 129 => Icmp::Query,
            130..=137 | 141..=143 | 148 | 149 | 151..=153 => Icmp::LinkLocal,
            _ => Icmp::Other,
        };
        assert_eq!(parse(&mut bytes).unwrap().icmp(), Some(expected), "ICMPv6 type {kind}");
    }
    let mut bytes = v6(1, &icmp_v4(8, &[0; 4]));
    assert_eq!(parse(&mut bytes).unwrap().icmp(), None, "ICMP for IPv4 means nothing over IPv6");
}

#[test]
fn an_error_shows_the_tuple_of_the_packet_that_it_quotes() {
    let quote = |mut frame: Vec<u8>| frame.split_off(14);
    let v4_tuple = |protocol, source_port, destination_port| Tuple {
        protocol,
        source: A4.into(),
        source_port,
        destination: B4.into(),
        destination_port,
    };
    let v6_tuple = |protocol, source_port, destination_port| Tuple {
        protocol,
        source: A6.into(),
        source_port,
        destination: B6.into(),
        destination_port,
    };
    let ping = icmp_v4(8, &[0x12, 0x34, 0, 1]);
    let cases_v4: Vec<(&str, Vec<u8>, Option<Tuple>)> = vec![
        ("UDP", quote(v4(17, &udp(0))), Some(v4_tuple(17, 40000, 53))),
        ("TCP cut after 8 bytes", cut(quote(v4(6, &tcp(0x10, 1000))), 28), Some(v4_tuple(6, 40000, 443))),
        ("UDP behind options", quote(v4_with(0, &[1; 40], 17, &udp(0))), Some(v4_tuple(17, 40000, 53))),
        ("a ping", quote(v4(1, &ping)), Some(v4_tuple(1, 0x1234, 0x1234))),
        ("an error about an error", quote(v4(1, &icmp_v4(3, &[0, 7, 0, 9]))), Some(v4_tuple(1, 0, 0))),
        ("ESP", quote(v4(50, &[9; 8])), Some(v4_tuple(50, 0, 0))),
        ("a first fragment", quote(v4_with(0x2000, &[], 17, &udp(0))), Some(v4_tuple(17, 40000, 53))),
        ("a later fragment", quote(v4_with(0x0010, &[], 17, &udp(0))), Some(v4_tuple(17, 0, 0))),
        ("a header checksum that a router broke", with(quote(v4(17, &udp(0))), 10, 0), Some(v4_tuple(17, 40000, 53))),
        ("4 bytes of UDP", cut(quote(v4(17, &udp(0))), 24), Some(v4_tuple(17, 40000, 53))),
        ("3 bytes of UDP", cut(quote(v4(17, &udp(0))), 23), None),
        ("no payload", cut(quote(v4(17, &udp(0))), 20), None),
        ("5 bytes of a ping", cut(quote(v4(1, &ping)), 25), None),
        ("options beyond the quote", cut(quote(v4_with(0, &[1; 40], 17, &udp(0))), 40), None),
        ("19 bytes", cut(quote(v4(17, &udp(0))), 19), None),
        ("IHL 4", with(quote(v4(17, &udp(0))), 0, 0x44), None),
        ("IPv6 in an ICMP error", quote(v6(17, &udp(0))), None),
        ("nothing", vec![], None),
    ];
    for (what, quoted, expected) in cases_v4 {
        let mut bytes = v4(1, &icmp_v4(3, &[&[0; 4][..], &quoted].concat()));
        assert_eq!(parse(&mut bytes).unwrap().icmp(), Some(Icmp::Error(expected)), "{what}");
    }

    let echo = icmp_v6(128, &[0x12, 0x34, 0, 1]);
    let first = chain(&[&fragment_header(17, 0, true), &udp(8)]);
    let later = chain(&[&fragment_header(17, 64, true), &udp(8)]);
    let cases_v6: Vec<(&str, Vec<u8>, Option<Tuple>)> = vec![
        ("UDP", quote(v6(17, &udp(0))), Some(v6_tuple(17, 40000, 53))),
        ("an echo", quote(v6(58, &echo)), Some(v6_tuple(58, 0x1234, 0x1234))),
        (
            "TCP behind extension headers",
            quote(v6(0, &chain(&[&extension(60), &extension(6), &tcp(0x10, 0)]))),
            Some(v6_tuple(6, 40000, 443)),
        ),
        ("a first fragment", quote(v6(44, &first)), Some(v6_tuple(17, 40000, 53))),
        ("a later fragment", quote(v6(44, &later)), Some(v6_tuple(17, 0, 0))),
        ("no next header", quote(v6(59, &[])), Some(v6_tuple(59, 0, 0))),
        ("a payload length that went on", cut(quote(v6(17, &udp(1000))), 48), Some(v6_tuple(17, 40000, 53))),
        ("an extension header cut short", cut(quote(v6(60, &extension(17))), 44), None),
        ("no payload", cut(quote(v6(17, &udp(0))), 40), None),
        ("39 bytes", cut(quote(v6(17, &udp(0))), 39), None),
        ("IPv4 in an ICMPv6 error", quote(v4(17, &udp(40))), None),
    ];
    for (what, quoted, expected) in cases_v6 {
        let mut bytes = v6(58, &icmp_v6(2, &[&[0; 4][..], &quoted].concat()));
        assert_eq!(parse(&mut bytes).unwrap().icmp(), Some(Icmp::Error(expected)), "{what}");
    }
}

#[test]
fn an_icmp_checksum_is_left_alone_where_it_cannot_be_judged() {
    let wrong = |mut frame: Vec<u8>| {
        let last = frame.len() - 1;
        frame[last] ^= 0xff;
        frame
    };
    let ping_v4 = wrong(v4(1, &icmp_v4(8, &[0, 7, 0, 1])));
    let ping_v6 = wrong(v6(58, &icmp_v6(128, &[0, 7, 0, 1])));
    let gso = Gso { kind: GsoKind::Tcp4, ecn: false, size: 1448, header_len: 54 };
    let offloads = [
        Offload { partial: Some(PartialChecksum { start: 34, offset: 2 }), ..Offload::NONE },
        Offload { verified: true, ..Offload::NONE },
        Offload { gso: Some(gso), ..Offload::NONE },
    ];
    for offload in offloads {
        for bytes in [&ping_v4, &ping_v6] {
            assert!(Frame::parse(&mut bytes.clone(), &offload).is_ok(), "{offload:?}");
            assert_eq!(parse(&mut bytes.clone()).unwrap_err(), Malformed::IcmpChecksum);
        }
    }
    let first = v4_with(0x2000, &[], 1, &icmp_v4(8, &[0; 4]));
    assert!(parse(&mut wrong(first)).is_ok(), "a fragment");
    let routed = chain(&[&[58, 0, 2, 1, 0, 0, 0, 0], &icmp_v6(128, &[0, 7, 0, 1])]);
    assert!(parse(&mut wrong(v6(43, &routed))).is_ok(), "segments left");
    let arrived = chain(&[&[58, 0, 2, 0, 0, 0, 0, 0], &icmp_v6(128, &[0, 7, 0, 1])]);
    assert_eq!(parse(&mut v6(43, &arrived)).map(|frame| frame.icmp()), Ok(Some(Icmp::Query)));
    assert_eq!(parse(&mut wrong(v6(43, &arrived))).unwrap_err(), Malformed::IcmpChecksum, "no segments left");
}

#[test]
fn a_super_frame_of_64_kib_is_a_frame() {
    let offload = Offload {
        partial: Some(PartialChecksum { start: 34, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::Tcp4, ecn: false, size: 1448, header_len: 54 }),
        verified: false,
    };
    let mut bytes = v4(6, &tcp(0x18, 65535 - 40));
    assert_eq!(bytes.len(), 65_549);
    let frame = Frame::parse(&mut bytes, &offload).unwrap();
    assert_eq!((frame.ip_len(), frame.tcp().unwrap().length), (65_535, 65_495));

    let mut bytes = v6(6, &tcp(0x18, 65535 - 20));
    let frame = Frame::parse(&mut bytes, &offload).unwrap();
    assert_eq!((frame.ip_len(), frame.tcp().unwrap().length), (65_575, 65_515));
}

#[test]
fn an_edit_changes_macs_ttl_and_header_checksum_and_no_other_byte() {
    for original in [v4_with(0x8000, &[148, 4, 0, 0], 17, &udp(7)), v6(17, &udp(7))] {
        let mut bytes = original.clone();
        let mut frame = parse(&mut bytes).unwrap();
        let v4 = frame.family() == Family::V4;

        frame.set_macs(MacAddr([2, 9, 9, 9, 9, 1]), MacAddr([2, 9, 9, 9, 9, 2]));
        frame.decrement_ttl();

        assert_eq!(frame.source_mac(), MacAddr([2, 9, 9, 9, 9, 1]));
        assert_eq!(frame.destination_mac(), MacAddr([2, 9, 9, 9, 9, 2]));
        assert_eq!(frame.ttl(), 63);
        let changed: Vec<usize> = (14..bytes.len()).filter(|&at| bytes[at] != original[at]).collect();
        assert_eq!(changed, if v4 { vec![22, 24] } else { vec![21] });
        assert!(parse(&mut bytes).is_ok(), "the header checksum is right");
    }
}

#[test]
fn groups_are_told_from_hosts() {
    for (address, expected) in
        [([224, 0, 0, 18], true), ([239, 255, 255, 255], true), ([255; 4], true), ([240, 0, 0, 1], false)]
    {
        let mut bytes = v4(17, &udp(0));
        bytes[30..34].copy_from_slice(&address);
        mend(&mut bytes);
        assert_eq!(parse(&mut bytes).unwrap().is_to_group(), expected, "{address:?}");
    }
    let mut bytes = v6(17, &udp(0));
    assert!(!parse(&mut bytes).unwrap().is_to_group());
    bytes[38] = 0xff;
    assert!(parse(&mut bytes).unwrap().is_to_group());
}
