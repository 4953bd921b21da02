use pcap_parser::Block as Parsed;
use pcap_parser::pcapng::PcapNGOption;
use pcap_parser::traits::PcapNGPacketBlock;
use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn whole_file(packets: &[CapturedPacket<'_>]) -> Vec<u8> {
    let mut file = Vec::new();
    section(&mut file, "fwlb 1.2.3");
    for name in ["outer/clients", "outer/firewalls"] {
        interface(&mut file, &CaptureInterface { name, description: "device eth0", mac: MAC, snaplen: 262_144 });
    }
    packets.iter().for_each(|one| packet(&mut file, one));
    statistics(&mut file, &InterfaceStatistics { interface: 1, from: 5, to: 1 << 40, received: 7, dropped: 3 });
    file
}

/// The file as another reader sees it.
fn parsed(file: &[u8]) -> Vec<Parsed<'_>> {
    let capture = pcap_parser::parse_pcapng(file).map(|(rest, capture)| (rest.len(), capture));
    let (rest, capture) = capture.expect("is a capture");
    assert_eq!(rest, 0);
    let mut blocks = Vec::new();
    for mut section in capture.sections {
        blocks.append(&mut section.blocks);
    }
    blocks
}

fn value<'a>(options: &'a [PcapNGOption<'_>], code: u16) -> Option<&'a [u8]> {
    let found = options.iter().find(|option| option.code.0 == code)?;
    Some(&found.value[..usize::from(found.len)])
}

fn a_packet<'a>(bytes: &'a [u8], comment: &'a str) -> CapturedPacket<'a> {
    CapturedPacket {
        interface: 1,
        at: 1_800_000_000_123_456_789,
        direction: CaptureDirection::Outbound,
        vlan: None,
        bytes,
        length: bytes.len(),
        comment,
    }
}

#[test]
fn another_reader_finds_links_frames_comments_and_counts() {
    let frame: Vec<u8> = (0..61).collect();
    let file = whole_file(&[a_packet(&frame, "forward -> fw1")]);

    let blocks = parsed(&file);

    let [
        Parsed::SectionHeader(header),
        Parsed::InterfaceDescription(first),
        Parsed::InterfaceDescription(second),
        rest @ ..,
    ] = blocks.as_slice()
    else {
        panic!("{blocks:?}")
    };
    assert_eq!(value(&header.options, SHB_USERAPPL), Some(b"fwlb 1.2.3".as_slice()));
    assert_eq!(value(&first.options, IF_NAME), Some(b"outer/clients".as_slice()));
    assert_eq!((first.linktype.0, first.snaplen), (1, 262_144));
    assert_eq!(value(&second.options, IF_MACADDR), Some(MAC.0.as_slice()));
    assert_eq!((second.if_tsresol, second.ts_resolution()), (9, Some(1_000_000_000)));
    let [Parsed::EnhancedPacket(packet), Parsed::InterfaceStatistics(counts)] = rest else { panic!("{rest:?}") };
    assert_eq!((packet.if_id, packet.packet_data(), packet.origlen), (1, frame.as_slice(), 61));
    assert_eq!(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low), 1_800_000_000_123_456_789);
    assert_eq!(value(&packet.options, EPB_FLAGS), Some([0b110, 0, 0, 0].as_slice()), "outbound, unicast");
    assert_eq!(value(&packet.options, OPT_COMMENT), Some(b"forward -> fw1".as_slice()));
    assert_eq!(counts.if_id, 1);
    assert_eq!(value(&counts.options, ISB_IFRECV), Some(7_u64.to_le_bytes().as_slice()));
    assert_eq!(value(&counts.options, ISB_IFDROP), Some(3_u64.to_le_bytes().as_slice()));
}

#[test]
fn a_tag_stands_where_it_stood_on_the_wire() {
    let mut frame = [0xff; 6].to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45]);
    let vlan = Some(VlanTag::new(100));
    let file = whole_file(&[CapturedPacket {
        vlan,
        length: 1000,
        direction: CaptureDirection::Inbound,
        ..a_packet(&frame, "")
    }]);

    let blocks = parsed(&file);

    let Parsed::EnhancedPacket(packet) = &blocks[3] else { panic!("{blocks:?}") };
    assert_eq!(packet.packet_data()[12..], [0x81, 0x00, 0x00, 0x64, 0x08, 0x00, 0x45]);
    assert_eq!((packet.caplen, packet.origlen), (19, 1004));
    assert_eq!(value(&packet.options, EPB_FLAGS), Some([0b1101, 0, 0, 0].as_slice()), "inbound, broadcast");
    assert_eq!(value(&packet.options, OPT_COMMENT), None);
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        comment in ".{0,40}",
        at in any::<u64>(),
    ) {
        let file = whole_file(&[CapturedPacket { at, ..a_packet(&bytes, &comment) }]);
        let blocks = parsed(&file);
        let Parsed::EnhancedPacket(packet) = &blocks[3] else { panic!("{blocks:?}") };
        prop_assert_eq!(packet.packet_data(), bytes.as_slice());
        prop_assert_eq!(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low), at);
        prop_assert_eq!(value(&packet.options, OPT_COMMENT).unwrap_or_default(), comment.as_bytes());
    }

    #[test]
    fn a_file_is_taken_apart_into_the_blocks_it_was_made_of(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let file = whole_file(&[a_packet(&bytes, "x")]);
        let mut rest = file.as_slice();
        let mut kinds = Vec::new();
        let mut again = Vec::new();
        while let Some(block) = next_block(rest).unwrap() {
            kinds.push(block.kind);
            block.write(1, &mut again);
            rest = &rest[block.bytes().len()..];
        }
        prop_assert_eq!(&again, &file);
        prop_assert_eq!(kinds, [
            BlockKind::Section,
            BlockKind::Interface,
            BlockKind::Interface,
            BlockKind::Packet { interface: 1, at: 1_800_000_000_123_456_789 },
            BlockKind::Statistics { interface: 1, received: 7, dropped: 3 },
        ]);

        // Wherever the file is cut, all complete blocks are found and the rest has to wait.
        let mut rest = &file[..cut.index(file.len())];
        while let Some(block) = next_block(rest).unwrap() {
            rest = &rest[block.bytes().len()..];
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = next_block(&bytes);
    }
}

#[test]
fn another_interface_is_told_by_its_new_number() {
    let file = whole_file(&[a_packet(&[1; 60], "x")]);
    let mut rest = file.as_slice();
    let mut again = Vec::new();
    while let Some(block) = next_block(rest).unwrap() {
        block.write(4, &mut again);
        rest = &rest[block.bytes().len()..];
    }
    assert_eq!(again.len(), file.len());
    let ids: Vec<_> = std::iter::successors(next_block(&again).unwrap(), |_| None).collect();
    assert_eq!(ids.len(), 1);
    let mut rest = again.as_slice();
    let mut seen = Vec::new();
    while let Some(block) = next_block(rest).unwrap() {
        if let BlockKind::Packet { interface, .. } | BlockKind::Statistics { interface, .. } = block.kind {
            seen.push(interface);
        }
        rest = &rest[block.bytes().len()..];
    }
    assert_eq!(seen, [4, 4]);
}

#[test]
fn a_block_of_another_length_than_it_may_have_is_refused() {
    let refused = next_block(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    assert!(refused.to_string().starts_with("not a capture"), "{refused}");
}
