//! IPv6 extension headers, and fragments of both families.

use super::*;

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
