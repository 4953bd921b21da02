//! Any bytes as a frame: no panic, and what is accepted obeys the laws of `wire::frame`.
//!
//! The first byte of the input chooses the offload state, the rest is the frame.

use fwlb::flow::{FlowHasher, FlowKey, FragmentKey, HashMode, Seed};
use fwlb::wire::MacAddr;
use fwlb::wire::fragment;
use fwlb::wire::frame::{Fragment, Frame, FrameKind, IcmpClass};
use fwlb::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

/// Runs one input; panics if a law is broken.
pub fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let offload = offload(choice);
    let mut bytes = bytes.to_vec();
    let Ok(frame) = Frame::parse(&mut bytes, &offload) else { return };
    assert!(frame.bytes().len() >= 14);
    if frame.kind() != FrameKind::Ip {
        return;
    }
    reads_agree(&frame);
    let end = 14 + frame.ip_len();
    let before = (frame.tuple(), frame.tcp(), frame.icmp(), frame.fragment_range());

    // Whatever follows the packet is padding.
    let mut padded = frame.bytes()[..end].to_vec();
    padded.extend([0xa5; 7]);
    let other = Frame::parse(&mut padded, &offload).expect("the same packet with other padding");
    assert_eq!(before, (other.tuple(), other.tcp(), other.icmp(), other.fragment_range()));

    splits_cover(&frame, &offload);

    // An edit leaves a legal frame.
    let mut edited = frame;
    let ttl = edited.ttl();
    edited.set_macs(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    if ttl >= 2 {
        edited.decrement_ttl();
        assert_eq!(edited.ttl(), ttl - 1);
    }
    let again = Frame::parse(&mut bytes, &offload).expect("an edited frame is legal");
    assert_eq!(before, (again.tuple(), again.tcp(), again.icmp(), again.fragment_range()));
}

fn offload(choice: u8) -> Offload {
    let partial = (choice & 1 != 0).then_some(PartialChecksum { start: u16::from(choice), offset: 16 });
    let kind = match choice >> 4 & 3 {
        0 => GsoKind::Tcp4,
        1 => GsoKind::Tcp6,
        2 => GsoKind::UdpSegments,
        _ => GsoKind::UdpFragments,
    };
    let gso = (choice & 2 != 0).then_some(Gso { kind, ecn: false, size: 1448, header_len: 54 });
    Offload { partial, gso, verified: choice & 4 != 0 }
}

fn reads_agree(frame: &Frame<'_>) {
    let tuple = frame.tuple();
    assert_eq!((tuple.source, tuple.destination), (frame.source(), frame.destination()));
    assert_eq!(frame.ip_bytes().len(), frame.ip_len());
    assert!(frame.ip_len() + 14 <= frame.bytes().len());
    assert_eq!(frame.is_fragment(), frame.fragment_range().is_some());
    assert_eq!(frame.is_fragment(), FragmentKey::of(0, frame).is_some());
    if let Some(range) = frame.fragment_range() {
        assert!(range.length > 0 && range.offset.is_multiple_of(8));
        assert!(u32::from(range.offset) + u32::from(range.length) <= 65_535);
        assert_eq!(range.offset == 0, matches!(frame.fragment(), Fragment::First { .. }));
    }
    if let Some(segment) = frame.tcp() {
        assert!(segment.length as usize <= frame.transport_bytes().len());
    }
    if let Some(IcmpClass::Query) = frame.icmp() {
        assert_eq!(tuple.source_port, tuple.destination_port);
    }
    let flow = FlowKey::from(tuple);
    let (key, direction) = flow.canonical();
    assert_eq!(key.in_direction(direction), flow);
    let hasher = FlowHasher::new(Seed::from_text("fuzz"), HashMode::FiveTuple);
    assert_eq!(hasher.flow_hash(&flow), hasher.flow_hash(&flow.reversed()));
}

/// Every piece is a legal fragment, small enough, and the pieces follow each other without gap or overlap.
fn splits_cover(frame: &Frame<'_>, offload: &Offload) {
    for mtu in [68, 576] {
        let Ok(pieces) = fragment::split(frame, offload.partial, mtu) else { continue };
        let mut at = frame.fragment_range().map_or(0, |range| range.offset);
        let count = pieces.len();
        for (i, mut piece) in pieces.into_iter().enumerate() {
            let Ok(piece) = Frame::parse(&mut piece, &Offload { partial: None, gso: None, verified: true }) else {
                // A fragment may be too small for the headers of the whole packet; its receiver will report that.
                return;
            };
            assert!(piece.ip_len() <= usize::from(mtu));
            let Some(range) = piece.fragment_range() else {
                assert_eq!(count, 1, "a whole piece is the only one");
                return;
            };
            assert_eq!(range.offset, at);
            assert_eq!(range.last, i + 1 == count && !frame.more_fragments());
            at = range.end();
        }
    }
}
