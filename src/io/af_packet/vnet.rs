//! Converts between [`Offload`] and the virtio-net header (virtio 1.2 section 5.1.6, the legacy layout without
//! `num_buffers`), which AF_PACKET writes in the byte order of the machine.

use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

/// Bytes of the header.
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Reads the header of a received frame; `None` if it announces a kind of super-frame that could not be sent on.
pub fn decode(header: [u8; LEN]) -> Option<Offload> {
    let [flags, gso_type, ..] = header;
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => None,
        GSO_TCPV4 => Some(GsoKind::Tcp4),
        GSO_TCPV6 => Some(GsoKind::Tcp6),
        GSO_UDP => Some(GsoKind::UdpFragments),
        GSO_UDP_L4 => Some(GsoKind::UdpSegments),
        _ => return None,
    };
    Some(Offload {
        partial: (flags & NEEDS_CSUM != 0).then(|| PartialChecksum { start: word(6), offset: word(8) }),
        gso: kind.map(|kind| Gso { kind, ecn: gso_type & GSO_ECN != 0, size: word(4), header_len: word(2) }),
        verified: flags & DATA_VALID != 0,
    })
}

/// The header for a frame of `frame_len` bytes that leaves with a tag of `tag_len` bytes (0 or 4) behind its MAC
/// addresses. `frame_len` includes the tag.
pub fn encode(offload: &Offload, tag_len: u16, frame_len: usize) -> [u8; LEN] {
    let mut header = [0; LEN];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    let mut flags = 0;
    let mut gso_type = GSO_NONE;
    if let Some(partial) = offload.partial {
        flags |= NEEDS_CSUM;
        put(6, partial.start.saturating_add(tag_len));
        put(8, partial.offset);
    }
    if let Some(gso) = offload.gso {
        gso_type = match gso.kind {
            GsoKind::Tcp4 => GSO_TCPV4,
            GsoKind::Tcp6 => GSO_TCPV6,
            GsoKind::UdpSegments => GSO_UDP_L4,
            GsoKind::UdpFragments => GSO_UDP,
        };
        if gso.ecn {
            gso_type |= GSO_ECN;
        }
        // The kernel refuses a header length that exceeds the frame.
        let hint = usize::from(gso.header_len.saturating_add(tag_len)).min(frame_len);
        put(2, u16::try_from(hint).unwrap_or(u16::MAX));
        put(4, gso.size);
    }
    header[0] = flags;
    header[1] = gso_type;
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offloads() -> impl Strategy<Value = Offload> {
        let partial = proptest::option::of((14u16..200, 0u16..40));
        let kind = prop_oneof![
            Just(GsoKind::Tcp4),
            Just(GsoKind::Tcp6),
            Just(GsoKind::UdpSegments),
            Just(GsoKind::UdpFragments)
        ];
        let gso = proptest::option::of((kind, any::<bool>(), 1u16..9000, 0u16..200));
        (partial, gso).prop_map(|(partial, gso)| Offload {
            partial: partial.map(|(start, offset)| PartialChecksum { start, offset }),
            gso: gso.map(|(kind, ecn, size, header_len)| Gso { kind, ecn, size, header_len }),
            verified: false,
        })
    }

    proptest! {
        #[test]
        fn what_was_received_untagged_is_sent_untagged_unchanged(offload in offloads()) {
            prop_assert_eq!(decode(encode(&offload, 0, 65_000)), Some(offload));
        }

        #[test]
        fn an_inserted_tag_shifts_the_start_of_the_checksum_and_the_headers_alone(offload in offloads()) {
            let tagged = decode(encode(&offload, 4, 65_000)).unwrap();

            prop_assert_eq!(
                tagged.partial,
                offload.partial.map(|partial| PartialChecksum { start: partial.start + 4, ..partial })
            );
            prop_assert_eq!(tagged.gso, offload.gso.map(|gso| Gso { header_len: gso.header_len + 4, ..gso }));
        }

        #[test]
        fn no_header_from_outside_makes_it_panic(header in any::<[u8; LEN]>(), len in 0usize..70_000) {
            if let Some(offload) = decode(header) {
                encode(&offload, 4, len);
            }
        }
    }

    #[test]
    fn a_frame_as_linux_hands_it_over_is_read_field_by_field() {
        // TCP over IPv4 from a veth peer with default offloads: checksum at 34 + 16, segments of 1448 bytes.
        let mut header = [NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 0, 0, 0, 0, 0, 0, 0, 0];
        for (at, value) in [(2, 66u16), (4, 1448), (6, 34), (8, 16)] {
            header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }

        let offload = decode(header).unwrap();

        assert_eq!(offload.partial, Some(PartialChecksum { start: 34, offset: 16 }));
        assert_eq!(offload.gso, Some(Gso { kind: GsoKind::Tcp4, ecn: true, size: 1448, header_len: 66 }));
        assert!(!offload.verified);
    }

    #[test]
    fn a_verified_checksum_is_told_and_an_unknown_kind_is_refused() {
        assert!(decode([DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap().verified);
        assert_eq!(decode([0, 2, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn the_header_hint_never_exceeds_the_frame() {
        let gso = Some(Gso { kind: GsoKind::Tcp4, ecn: false, size: 100, header_len: 66 });
        let header = encode(&Offload { gso, ..Offload::NONE }, 0, 60);

        assert_eq!(decode(header).unwrap().gso.unwrap().header_len, 60);
    }
}
