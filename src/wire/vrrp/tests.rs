use etherparse::{NetSlice, SlicedPacket};
use proptest::prelude::*;

use super::*;

const SOURCE: MacAddr = MacAddr([0x00, 0x00, 0x5e, 0x00, 0x01, 51]);

fn macs(family: Family) -> MacPair {
    MacPair { source: virtual_mac(family, 51), destination: group_mac(family) }
}

fn v4() -> AddressPair {
    AddressPair::V4(Ipv4Addr::new(10, 1, 0, 2), GROUP_V4)
}

fn v6() -> AddressPair {
    AddressPair::V6("fe80::2".parse().unwrap(), GROUP_V6)
}

fn advertisement(version: Version, addresses: &[&str]) -> Advertisement {
    Advertisement {
        version,
        vrid: 51,
        priority: 200,
        interval: Duration::from_millis(if version == Version::V2 { 1000 } else { 30 }),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Frames that scapy 2.6 makes of the same values.
#[test]
fn frames_of_another_implementation_are_read_and_messages_are_the_same_bytes() {
    let v3 = "01005e000012 00005e000133 0800 45c00020 00000000 ff70d098 0a010002 e0000012 3133c801 0003 1234 0a010001";
    let v2 = "01005e000012 00005e000133 0800 45c00028 00000000 ff70d090 0a010002 e0000012 2133c801 0001 0cc8 0a010001 \
              0000000000000000";
    let over_v6 = "333300000012 00005e000233 86dd 6c000000 0018 70 ff fe800000000000000000000000000002 \
                   ff020000000000000000000000000012 3133c801 0003 746d fe800000000000000000000095680051";
    let cases = [
        (v3, advertisement(Version::V3, &["10.1.0.1"]), v4(), ChecksumForm::PseudoHeader),
        (v2, advertisement(Version::V2, &["10.1.0.1"]), v4(), ChecksumForm::MessageAlone),
        (over_v6, advertisement(Version::V3, &["fe80::9568:51"]), v6(), ChecksumForm::PseudoHeader),
    ];
    for (theirs, advertisement, pair, checksum) in cases {
        let theirs = hex(theirs);
        let family = pair.family();
        let source_mac = virtual_mac(family, 51);
        let expected = Received { advertisement: advertisement.clone(), source_mac, pair, checksum };
        assert_eq!(parse(&theirs), Ok(expected));

        let ours = advertisement.frame(macs(family), pair, checksum);
        let header = ETHERNET_LEN + if family == Family::V4 { IPV4_LEN } else { 40 };
        assert_eq!(ours[header..], theirs[header..]);
    }
}

#[test]
fn a_second_parser_reads_the_headers() {
    let frame = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), v4(), ChecksumForm::PseudoHeader);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("IPv4") };
    let header = ip.header().to_header();
    assert_eq!((header.time_to_live, header.protocol.0, header.dscp.value()), (255, 112, 48));
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.source, header.destination), ([10, 1, 0, 2], [224, 0, 0, 18]));
    assert_eq!(frame[..12], [[0x01, 0, 0x5e, 0, 0, 0x12], SOURCE.0].concat());

    let frame =
        advertisement(Version::V3, &["fe80::9568:51"]).frame(macs(Family::V6), v6(), ChecksumForm::PseudoHeader);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("IPv6") };
    let header = ip.header().to_header();
    assert_eq!((header.hop_limit, header.next_header.0, header.traffic_class), (255, 112, 0xc0));
    assert_eq!((header.flow_label.value(), usize::from(header.payload_length)), (0, HEADER + 16));
    assert_eq!(frame[..12], [0x33, 0x33, 0, 0, 0, 0x12, 0, 0, 0x5e, 0, 2, 51]);
}

#[test]
fn both_checksums_of_version_3_over_ipv4_are_read_and_told_apart() {
    for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageAlone] {
        let frame = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), v4(), form);
        assert_eq!(parse(&frame).unwrap().checksum, form);
    }
    let frame = advertisement(Version::V3, &["fe80::1"]).frame(macs(Family::V6), v6(), ChecksumForm::MessageAlone);
    assert_eq!(parse(&frame).unwrap().checksum, ChecksumForm::PseudoHeader, "IPv6 has one form");
}

#[test]
fn a_unicast_checksum_has_the_real_destination() {
    let unicast = AddressPair::V4(Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3));
    let frame = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), unicast, ChecksumForm::PseudoHeader);
    let received = parse(&frame).unwrap();
    assert_eq!((received.pair, received.checksum), (unicast, ChecksumForm::PseudoHeader));
}

/// Sets a byte of the VRRP message and makes its checksum right again.
fn with(frame: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = frame.to_owned();
    let message = &mut frame[ETHERNET_LEN + IPV4_LEN..];
    for (at, value) in changes {
        message[*at] = *value;
    }
    message[6..8].fill(0);
    let sum = checksum::checksum(message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// RFC 9568 section 7.1, each rule with what breaks it alone.
#[test]
fn what_must_be_discarded_is_discarded_with_its_reason() {
    let good = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), v4(), ChecksumForm::MessageAlone);
    let old = advertisement(Version::V2, &["10.1.0.1"]).frame(macs(Family::V4), v4(), ChecksumForm::MessageAlone);
    assert!(parse(&good).is_ok() && parse(&old).is_ok());
    let ttl = {
        let mut frame = good.clone();
        frame[ETHERNET_LEN + 8] = 254;
        let header = &mut frame[ETHERNET_LEN..];
        header[10..12].fill(0);
        let sum = checksum::checksum(&header[..IPV4_LEN]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        (ttl, InvalidAdvertisement::HopLimit(254)),
        (with(&good, &[(0, 0x41)]), InvalidAdvertisement::Version(4)),
        (with(&good, &[(0, 0x32)]), InvalidAdvertisement::Type(2)),
        (with(&good, &[(3, 2)]), InvalidAdvertisement::Length),
        (damaged, InvalidAdvertisement::Checksum),
        (with(&good, &[(1, 0)]), InvalidAdvertisement::Vrid),
        (with(&good, &[(4, 0), (5, 0)]), InvalidAdvertisement::Interval),
        (with(&good, &[(3, 0)]), InvalidAdvertisement::Count),
        (with(&old, &[(4, 1)]), InvalidAdvertisement::Authentication(1)),
        (good[..ETHERNET_LEN + IPV4_LEN + 4].to_vec(), InvalidAdvertisement::Length),
    ];
    for (frame, why) in cases {
        assert_eq!(parse(&frame), Err(why), "{}", why.as_str());
    }
    let mut old_over_v6 =
        advertisement(Version::V3, &["fe80::1"]).frame(macs(Family::V6), v6(), ChecksumForm::PseudoHeader);
    old_over_v6[ETHERNET_LEN + 40] = 0x21;
    assert_eq!(parse(&old_over_v6), Err(InvalidAdvertisement::Version(2)));
}

#[test]
fn reserved_bits_before_the_interval_are_ignored() {
    let good = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), v4(), ChecksumForm::MessageAlone);
    assert_eq!(parse(&with(&good, &[(4, 0xf0)])).unwrap().advertisement.interval, Duration::from_millis(30));
}

#[test]
fn timers_are_those_of_the_standard() {
    let interval = Duration::from_millis(1000);
    assert_eq!(skew_time(254, interval), Duration::from_micros(7812) + Duration::from_nanos(500));
    assert_eq!(skew_time(100, interval), Duration::from_micros(609_375));
    assert_eq!(active_down_interval(100, interval), Duration::from_micros(3_609_375));
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_received(
        vrid in 1_u8.., priority: u8, centiseconds in 1_u64..4096, count in 1_usize..100, is_v4: bool, old: bool,
        alone: bool,
    ) {
        let version = if old && is_v4 { Version::V2 } else { Version::V3 };
        let interval = match version {
            Version::V2 => Duration::from_secs(centiseconds % 255 + 1),
            Version::V3 => Duration::from_millis(centiseconds * 10),
        };
        let (pair, family) = if is_v4 { (v4(), Family::V4) } else { (v6(), Family::V6) };
        let addresses = (0..count).map(|host| match family {
            Family::V4 => IpAddr::from([10, 1, 0, host as u8]),
            Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host as u16]),
        }).collect();
        let sent = Advertisement { version, vrid, priority, interval, addresses };
        let form = if alone { ChecksumForm::MessageAlone } else { ChecksumForm::PseudoHeader };
        let received = parse(&sent.frame(macs(family), pair, form)).unwrap();
        prop_assert_eq!(received.advertisement, sent);
        prop_assert_eq!((received.pair, received.source_mac), (pair, virtual_mac(family, 51)));
    }

    #[test]
    fn no_bytes_make_the_parser_fail(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), is_v4: bool) {
        if bytes.len() > ETHERNET_LEN + 10 {
            bytes[12..14].copy_from_slice(if is_v4 { &[8, 0] } else { &[0x86, 0xdd] });
            bytes[ETHERNET_LEN] = if is_v4 { 0x45 } else { 0x60 };
            bytes[ETHERNET_LEN + if is_v4 { 9 } else { 6 }] = PROTOCOL;
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn every_flipped_bit_of_a_message_is_noticed(byte in 0_usize..12, bit in 0_u8..8, alone: bool) {
        let form = if alone { ChecksumForm::MessageAlone } else { ChecksumForm::PseudoHeader };
        let mut frame = advertisement(Version::V3, &["10.1.0.1"]).frame(macs(Family::V4), v4(), form);
        frame[ETHERNET_LEN + IPV4_LEN + byte] ^= 1 << bit;
        prop_assert!(parse(&frame).is_err());
    }
}
