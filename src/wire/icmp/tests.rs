use pnet_packet::Packet;
use pnet_packet::icmp::{self as pnet_icmp, IcmpPacket};
use pnet_packet::icmpv6::{self as pnet_icmpv6, Icmpv6Packet as PnetIcmpv6};
use pnet_packet::ipv4::{self, Ipv4Packet as PnetIpv4};
use pnet_packet::ipv6::Ipv6Packet as PnetIpv6;
use proptest::prelude::*;

use super::*;

const ENGINE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const TO_ENGINE: MacPair = MacPair { source: HOST, destination: ENGINE };

fn pair(source: &str, destination: &str) -> AddressPair {
    AddressPair::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap()
}

fn v4() -> AddressPair {
    pair("198.51.100.7", "203.0.113.80")
}

fn v6() -> AddressPair {
    pair("2001:db8:1::7", "2001:db8:113::80")
}

fn request(data: &[u8]) -> Echo<'_> {
    Echo { kind: EchoKind::Request, ident: 77, sequence: 3, data }
}

/// The type, code and quoted bytes, after another parser has verified every checksum.
fn read_v4(frame: &[u8]) -> (u8, u8, Vec<u8>) {
    let ip = PnetIpv4::new(&frame[14..]).unwrap();
    assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
    let icmp = IcmpPacket::new(ip.payload()).unwrap();
    assert_eq!(icmp.get_checksum(), pnet_icmp::checksum(&icmp));
    (icmp.get_icmp_type().0, icmp.get_icmp_code().0, ip.payload()[8..].to_vec())
}

fn read_v6(frame: &[u8]) -> (u8, u8, Vec<u8>) {
    let ip = PnetIpv6::new(&frame[14..]).unwrap();
    let icmp = PnetIcmpv6::new(ip.payload()).unwrap();
    assert_eq!(icmp.get_checksum(), pnet_icmpv6::checksum(&icmp, &ip.get_source(), &ip.get_destination()));
    (icmp.get_icmpv6_type().0, icmp.get_icmpv6_code().0, ip.payload()[8..].to_vec())
}

#[test]
fn a_request_is_answered_in_place_with_its_options_and_without_its_padding() {
    let mut frame = emit::ip(TO_ENGINE, v4(), protocol::ICMP, 3, 4 + 8 + 5, |_| ());
    frame[14] = 0x46;
    frame[34..38].copy_from_slice(&[148, 4, 0, 0]);
    frame[38..46].copy_from_slice(&[8, 0, 0, 0, 0, 77, 0, 3]);
    frame[46..51].copy_from_slice(b"hello");
    frame.extend_from_slice(b"padding");

    assert!(reply_in_place(&mut frame, ENGINE));

    assert_eq!(frame.len(), 51);
    assert_eq!((&frame[..6], &frame[6..12]), (&HOST.0[..], &ENGINE.0[..]));
    let ip = PnetIpv4::new(&frame[14..]).unwrap();
    assert_eq!(
        (ip.get_source().to_string(), ip.get_destination().to_string(), ip.get_ttl()),
        ("203.0.113.80".to_owned(), "198.51.100.7".to_owned(), 64)
    );
    assert_eq!(&frame[34..38], [148, 4, 0, 0]);
    assert_eq!(read_v4(&frame), (0, 0, b"hello".to_vec()));
}

#[test]
fn other_messages_are_not_answered_in_place() {
    let reply = Echo { kind: EchoKind::Reply, ..request(b"x") };
    for frame in [reply.frame(TO_ENGINE, v4()), request(b"x").frame(TO_ENGINE, v6()), Vec::new(), vec![0; 20]] {
        let mut answered = frame.clone();
        assert!(!reply_in_place(&mut answered, ENGINE));
        assert_eq!(answered, frame);
    }
}

#[test]
fn echoes_are_read_back_in_both_families() {
    let frame = request(b"data").frame(TO_ENGINE, v4());
    assert_eq!(Echo::parse(Family::V4, &frame[34..]), Some(request(b"data")));
    assert_eq!(read_v4(&frame).0, 8);
    let frame = request(b"data").frame(TO_ENGINE, v6());
    assert_eq!(Echo::parse(Family::V6, &frame[54..]), Some(request(b"data")));
    assert_eq!(read_v6(&frame).0, 128);
    assert_eq!(Echo::parse(Family::V4, &[8, 0, 0]), None);
}

#[test]
fn an_error_quotes_the_packet_and_returns_to_the_sender() {
    let offender = request(&[7; 2000]).frame(TO_ENGINE, v4());
    let frame = error(ErrorKind::TooBig { mtu: 1400 }, &offender, "10.1.0.1".parse().unwrap(), ENGINE).unwrap();

    assert_eq!((&frame[..6], &frame[6..12]), (&HOST.0[..], &ENGINE.0[..]));
    assert_eq!(frame.len() - 14, ERROR_MAX_V4);
    let ip = PnetIpv4::new(&frame[14..]).unwrap();
    assert_eq!(
        (ip.get_source().to_string(), ip.get_destination().to_string()),
        ("10.1.0.1".to_owned(), "198.51.100.7".to_owned())
    );
    let (kind, code, quoted) = read_v4(&frame);
    assert_eq!((kind, code), (3, 4));
    assert_eq!(&frame[40..42], 1400_u16.to_be_bytes());
    assert_eq!(quoted, offender[14..14 + quoted.len()]);
}

#[test]
fn an_ipv6_error_fits_the_smallest_mtu() {
    let offender = request(&[7; 2000]).frame(TO_ENGINE, v6());
    let frame = error(ErrorKind::TooBig { mtu: 1400 }, &offender, "fd00:1::1".parse().unwrap(), ENGINE).unwrap();

    assert_eq!(frame.len() - 14, ERROR_MAX_V6);
    let (kind, code, quoted) = read_v6(&frame);
    assert_eq!((kind, code), (2, 0));
    assert_eq!(&frame[58..62], 1400_u32.to_be_bytes());
    assert_eq!(quoted, offender[14..14 + quoted.len()]);
}

#[test]
fn types_and_codes_are_those_of_the_rfcs() {
    let kinds = [
        (ErrorKind::TimeExceeded, (11, 0), (3, 0)),
        (ErrorKind::NoRoute, (3, 0), (1, 0)),
        (ErrorKind::HostUnreachable, (3, 1), (1, 3)),
        (ErrorKind::ProtocolUnreachable, (3, 2), (4, 1)),
        (ErrorKind::PortUnreachable, (3, 3), (1, 4)),
        (ErrorKind::TooBig { mtu: 1280 }, (3, 4), (2, 0)),
        (ErrorKind::Prohibited, (3, 13), (1, 1)),
    ];
    for (kind, in_v4, in_v6) in kinds {
        let offender = emit::udp(TO_ENGINE, v4(), 1, 2, b"x");
        let (message, code, _) = read_v4(&error(kind, &offender, "10.1.0.1".parse().unwrap(), ENGINE).unwrap());
        assert_eq!((message, code), in_v4);
        let offender = emit::udp(TO_ENGINE, v6(), 1, 2, b"x");
        let (message, code, _) = read_v6(&error(kind, &offender, "fd00:1::1".parse().unwrap(), ENGINE).unwrap());
        assert_eq!((message, code), in_v6);
    }
}

#[test]
fn no_error_is_sent_about_what_the_rfcs_except() {
    let about = |frame: &[u8]| {
        let source = if frame[12..14] == [8, 0] { "10.1.0.1" } else { "fd00:1::1" };
        error(ErrorKind::TimeExceeded, frame, source.parse().unwrap(), ENGINE).map(|_| ())
    };
    let good = emit::udp(TO_ENGINE, v4(), 1, 2, b"x");
    let good6 = emit::udp(TO_ENGINE, v6(), 1, 2, b"x");
    assert_eq!((about(&good), about(&good6)), (Ok(()), Ok(())));

    let from = |source: &str, destination: &str| emit::udp(TO_ENGINE, pair(source, destination), 1, 2, b"x");
    let changed = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        frame
    };
    let error4 = error(ErrorKind::NoRoute, &good, "10.1.0.1".parse().unwrap(), HOST).unwrap();
    let error6 = error(ErrorKind::NoRoute, &good6, "fd00:1::1".parse().unwrap(), HOST).unwrap();
    let later_fragment6 = emit::ip(TO_ENGINE, v6(), 44, 9, 16, |bytes| bytes[..4].copy_from_slice(&[17, 0, 0, 8]));
    let hidden_error6 =
        emit::ip(TO_ENGINE, v6(), 60, 9, 16, |bytes| bytes[..2].copy_from_slice(&[protocol::ICMPV6, 0]));
    let cases = [
        ("an ICMP error", error4, ErrorSuppressed::AboutError),
        ("an ICMPv6 error", error6, ErrorSuppressed::AboutError),
        ("an ICMPv6 error behind options", hidden_error6, ErrorSuppressed::AboutError),
        (
            "ICMP cut before its type",
            emit::ip(TO_ENGINE, v4(), protocol::ICMP, 9, 0, |_| ()),
            ErrorSuppressed::AboutError,
        ),
        ("broadcast frame", changed(&good, 0, 0xff), ErrorSuppressed::MulticastOrBroadcast),
        ("multicast destination", from("10.0.0.1", "224.0.0.5"), ErrorSuppressed::MulticastOrBroadcast),
        ("broadcast destination", from("10.0.0.1", "255.255.255.255"), ErrorSuppressed::MulticastOrBroadcast),
        ("multicast destination v6", from("fd00::1", "ff0e::1"), ErrorSuppressed::MulticastOrBroadcast),
        ("later fragment", changed(&good, 21, 8), ErrorSuppressed::LaterFragment),
        ("later fragment v6", later_fragment6, ErrorSuppressed::LaterFragment),
        ("unspecified source", from("0.0.0.0", "10.0.0.1"), ErrorSuppressed::Source("0.0.0.0".parse().unwrap())),
        ("loopback source", from("127.0.0.1", "10.0.0.1"), ErrorSuppressed::Source("127.0.0.1".parse().unwrap())),
        ("multicast source", from("224.1.1.1", "10.0.0.1"), ErrorSuppressed::Source("224.1.1.1".parse().unwrap())),
        ("class E source", from("240.0.0.1", "10.0.0.1"), ErrorSuppressed::Source("240.0.0.1".parse().unwrap())),
        ("unspecified source v6", from("::", "fd00::1"), ErrorSuppressed::Source("::".parse().unwrap())),
        ("multicast source v6", from("ff02::1", "fd00::1"), ErrorSuppressed::Source("ff02::1".parse().unwrap())),
        ("too short", good[..20].to_vec(), ErrorSuppressed::NotIp),
    ];
    for (what, frame, reason) in cases {
        assert_eq!(about(&frame), Err(reason), "{what}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
        let source: IpAddr = if v6 { "fd00:1::1" } else { "10.1.0.1" }.parse().unwrap();
        let mut frame = bytes.clone();
        let _ = error(ErrorKind::TimeExceeded, &frame, source, ENGINE);
        let _ = reply_in_place(&mut frame, ENGINE);
        let _ = Echo::parse(Family::V4, &bytes);
        let _ = crate::wire::arp::Arp::parse(&bytes);
        let _ = crate::wire::ndp::Ndp::parse(&bytes);
        let _ = crate::wire::mld::is_query(&bytes);
    }

    #[test]
    fn errors_never_exceed_their_bound_nor_quote_padding(len in 8_usize..3000, padding in 0_usize..40) {
        let mut offender = emit::ip(TO_ENGINE, v4(), 17, 9, len, |_| ());
        offender.extend(std::iter::repeat_n(0xee, padding));
        let frame = error(ErrorKind::NoRoute, &offender, "10.1.0.1".parse().unwrap(), ENGINE).unwrap();
        prop_assert!(frame.len() - 14 <= ERROR_MAX_V4);
        prop_assert_eq!(frame.len() - 14, (28 + 20 + len).min(ERROR_MAX_V4));
    }
}
