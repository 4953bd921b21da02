//! Malformed frames: one frame for every reason.

use super::*;

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
        assert_eq!(parse(&mut bytes).map(|frame| frame.kind()), Ok(FrameKind::Ip), "{what}");
    }
}

#[test]
fn what_is_not_ip_is_told_by_its_ethertype() {
    for (ethertype, expected) in [
        (0x0806, FrameKind::Arp),
        (0x0026, FrameKind::Llc),
        (0x05ff, FrameKind::Llc),
        (0x0600, FrameKind::Other(0x0600)),
        (0x8100, FrameKind::Other(0x8100)),
        (0x88cc, FrameKind::Other(0x88cc)),
    ] {
        let mut bytes = ethernet(ethertype, &[]);
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.kind(), frame.ethertype()), (expected, ethertype));
        assert_eq!(frame.bytes().len(), 14);
    }
}
