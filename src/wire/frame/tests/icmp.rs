//! ICMP classes, quoted packets and ICMP checksums.

use super::*;

#[test]
fn the_identifier_of_a_query_is_the_port_of_both_ends() {
    let body = [0x12, 0x34, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for kind in [0, 8, 13, 14, 15, 16, 17, 18] {
        let mut bytes = v4(1, &icmp_v4(kind, &body));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!(frame.icmp(), Some(IcmpClass::Query), "type {kind}");
        assert_eq!((frame.tuple().source_port, frame.tuple().destination_port), (0x1234, 0x1234), "type {kind}");
    }
    for kind in [128, 129] {
        let mut bytes = v6(58, &icmp_v6(kind, &body));
        let frame = parse(&mut bytes).unwrap();
        assert_eq!((frame.icmp(), frame.tuple().destination_port), (Some(IcmpClass::Query), 0x1234), "type {kind}");
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
            0 | 8 | 13..=18 => IcmpClass::Query,
            3 | 4 | 5 | 11 | 12 => IcmpClass::Error(None),
            9 | 10 => IcmpClass::LinkLocal,
            _ => IcmpClass::Other,
        };
        assert_eq!((frame.icmp(), frame.tuple().source_port), (Some(expected), 0), "ICMP type {kind}");

        let mut bytes = v6(58, &icmp_v6(kind, &[0; 4]));
        let expected = match kind {
            0..=127 => IcmpClass::Error(None),
            128 | 129 => IcmpClass::Query,
            130..=137 | 141..=143 | 148 | 149 | 151..=153 => IcmpClass::LinkLocal,
            _ => IcmpClass::Other,
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
        assert_eq!(parse(&mut bytes).unwrap().icmp(), Some(IcmpClass::Error(expected)), "{what}");
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
        assert_eq!(parse(&mut bytes).unwrap().icmp(), Some(IcmpClass::Error(expected)), "{what}");
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
    assert_eq!(parse(&mut v6(43, &arrived)).map(|frame| frame.icmp()), Ok(Some(IcmpClass::Query)));
    assert_eq!(parse(&mut wrong(v6(43, &arrived))).unwrap_err(), Malformed::IcmpChecksum, "no segments left");
}
