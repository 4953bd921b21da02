use pnet_packet::Packet as _;
use pnet_packet::ipv4::{self, Ipv4Packet};
use proptest::prelude::*;

use super::*;
use crate::wire::frame::{Fragment, FragmentRange};
use crate::wire::offload::Offload;

/// A UDP datagram in an IPv4 frame with `options`, and the flags-and-offset field as given; its last bytes are padding.
fn packet(field: u16, options: &[u8], payload: &[u8], padding: usize) -> Vec<u8> {
    let header_len = IPV4_FIXED_HEADER_LEN + options.len();
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    bytes.extend([0, 0xb8, 0, 0, 0x12, 0x34, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(options);
    bytes.extend(payload);
    finish_header(&mut bytes[ETHERNET_LEN..], header_len, field);
    bytes.extend(vec![0xee; padding]);
    bytes
}

fn datagram(payload_len: usize) -> Vec<u8> {
    let mut bytes = vec![0x9c, 0x40, 0, 53];
    bytes.extend(((8 + payload_len) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((0..payload_len).map(|i| (i % 251) as u8));
    bytes
}

fn split_bytes(bytes: &mut [u8], mtu: u16) -> Result<Vec<Vec<u8>>, SplitError> {
    split(&Frame::parse(bytes, &Offload::NONE).expect("the test's packet is legal"), None, mtu)
}

/// Checks what holds for every fragment; returns its range and payload.
fn check(piece: &mut [u8], mtu: u16) -> (FragmentRange, Vec<u8>) {
    {
        let packet = Ipv4Packet::new(&piece[ETHERNET_LEN..]).expect("a second parser reads it");
        assert_eq!(packet.get_checksum(), ipv4::checksum(&packet));
        assert_eq!(usize::from(packet.get_total_length()), piece.len() - ETHERNET_LEN);
        assert_eq!((packet.get_identification(), packet.get_ttl(), packet.get_dscp()), (0x1234, 64, 46));
        assert!(packet.get_total_length() <= mtu);
    }
    let frame = Frame::parse(piece, &Offload::NONE).expect("our parser reads it");
    let range = frame.fragment_range().expect("a piece is a fragment");
    (range, frame.transport_bytes().to_vec())
}

#[test]
fn a_datagram_of_4000_bytes_crosses_an_ethernet_in_three_pieces() {
    let mut bytes = packet(0, &[], &datagram(3972), 0);
    let pieces = split_bytes(&mut bytes, 1500).unwrap();

    let ranges: Vec<_> = pieces.into_iter().map(|mut piece| check(&mut piece, 1500).0).collect();
    let range = |offset, length, last| FragmentRange { offset, length, last };
    assert_eq!(ranges, [range(0, 1480, false), range(1480, 1480, false), range(2960, 1020, true)]);
}

#[test]
fn a_second_parser_finds_the_payload_again() {
    let sent = datagram(2000);
    let mut bytes = packet(0, &[], &sent, 6);
    let mut received = Vec::new();
    for piece in split_bytes(&mut bytes, 576).unwrap() {
        assert_eq!(piece[..ETHERNET_LEN], bytes[..ETHERNET_LEN]);
        received.extend_from_slice(Ipv4Packet::new(&piece[ETHERNET_LEN..]).unwrap().payload());
    }
    assert_eq!(received, sent, "padding is no payload");
}

#[test]
fn options_stay_in_the_first_piece_unless_they_say_copied() {
    // Record route (7, not copied), no-operation, router alert (148, copied), end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0, 0, 0, 0, 0];
    let mut bytes = packet(0, &options, &datagram(1000), 0);
    let pieces = split_bytes(&mut bytes, 576).unwrap();

    assert_eq!(pieces[0][34..50], options);
    for piece in &pieces[1..] {
        assert_eq!(piece[14], 0x46);
        assert_eq!(piece[34..38], [148, 4, 0, 0]);
    }
    let payload: usize = pieces.into_iter().map(|mut piece| check(&mut piece, 576).1.len()).sum();
    assert_eq!(payload, 1008);
}

#[test]
fn a_fragment_is_split_further_and_keeps_its_place() {
    for (field, last) in [(MORE_FRAGMENTS | 100, false), (100, true)] {
        let payload = vec![7; 1600];
        let mut bytes = packet(field, &[], &payload, 0);
        let pieces = split_bytes(&mut bytes, 820).unwrap();
        let ranges: Vec<_> = pieces.into_iter().map(|mut piece| check(&mut piece, 820).0).collect();
        let range = |offset, length, last| FragmentRange { offset, length, last };
        assert_eq!(ranges, [range(800, 800, false), range(1600, 800, last)]);
    }
}

#[test]
fn a_partial_checksum_is_finished_before_the_split() {
    let sent = datagram(2000);
    let mut bytes = packet(0, &[], &sent, 0);
    let pseudo = checksum::pseudo_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, sent.len() as u32);
    bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let partial = PartialChecksum { start: 34, offset: 6 };
    let frame = Frame::parse(&mut bytes, &Offload { partial: Some(partial), ..Offload::NONE }).unwrap();

    let pieces = split(&frame, Some(partial), 1500).unwrap();

    let received: Vec<u8> = pieces.iter().flat_map(|piece| piece[34..].to_vec()).collect();
    assert_eq!(checksum::add(pseudo, checksum::sum(&received)), 0xffff);
    for (start, offset) in [(2042, 0), (33, 7), (0, 24)] {
        let elsewhere = PartialChecksum { start, offset };
        assert!(matches!(split(&frame, Some(elsewhere), 1500), Err(SplitError::Checksum(_))), "{elsewhere:?}");
    }
}

#[test]
fn what_must_not_be_split_is_not() {
    let mut bytes = packet(0x4000, &[], &datagram(2000), 0);
    assert_eq!(split_bytes(&mut bytes, 1500), Err(SplitError::DontFragment));

    let mut bytes = packet(0, &[1; 40], &datagram(2000), 0);
    assert_eq!(split_bytes(&mut bytes, 67), Err(SplitError::MtuTooSmall { mtu: 67, header_len: 60 }));
    assert!(split_bytes(&mut bytes, 68).is_ok());
}

proptest! {
    #[test]
    fn pieces_cover_the_payload_without_gap_or_overlap(
        payload_len in 1_usize..6000, mtu in 68_u16..1600, options in 0_usize..=10, offset in 0_u16..100, more: bool,
    ) {
        let payload_len = if more { payload_len.next_multiple_of(8) } else { payload_len };
        // At offset 0 the parser would take the bytes for a UDP header and compare its length with the payload.
        let payload: Vec<u8> = (0..payload_len).map(|i| i as u8).collect();
        let field = offset + 1 + if more { MORE_FRAGMENTS } else { 0 };
        let mut bytes = packet(field, &vec![1; options * 4], &payload, 3);

        let pieces = split_bytes(&mut bytes, mtu).unwrap();

        let mut at = usize::from(offset + 1) * 8;
        let mut received = Vec::new();
        let count = pieces.len();
        for (i, mut piece) in pieces.into_iter().enumerate() {
            let (range, payload) = check(&mut piece, mtu);
            prop_assert_eq!(usize::from(range.offset), at);
            prop_assert_eq!(range.last, !more && i + 1 == count);
            let parsed = Frame::parse(&mut piece, &Offload::NONE).unwrap().fragment();
            prop_assert_eq!(parsed, Fragment::Later { id: 0x1234 });
            at += payload.len();
            received.extend(payload);
        }
        prop_assert_eq!(received, payload);
    }
}
