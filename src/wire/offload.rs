//! What a network device left undone: partial checksums and segmentation, carried beside the bytes (virtio-net header).

use crate::wire::checksum;

/// A checksum that the last device to see the frame must finish.
///
/// The field at `start + offset` holds the *uncomplemented* pseudo-header sum (Linux `CHECKSUM_PARTIAL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where summing starts, in bytes from the first byte of the frame (without 802.1Q tag).
    pub start: u16,
    /// Where the checksum field lies, in bytes from `start`.
    pub offset: u16,
}

/// A partial checksum whose field or range lies outside the part of the frame that it can cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("partial checksum at {start}+{offset} lies outside what a frame of {length} bytes sums up")]
pub struct InvalidPartial {
    /// [`PartialChecksum::start`].
    pub start: u16,
    /// [`PartialChecksum::offset`].
    pub offset: u16,
    /// Bytes of the frame.
    pub length: usize,
}

/// Does what the device would do: completes the checksum over everything from `start` to the end of `bytes`, which must
/// therefore end where the packet ends, without link-layer padding.
///
/// A result of 0 is written as 0xffff, which UDP needs and the others read as the same number.
pub fn finish_checksum(bytes: &mut [u8], partial: PartialChecksum) -> Result<(), InvalidPartial> {
    let PartialChecksum { start, offset } = partial;
    let invalid = InvalidPartial { start, offset, length: bytes.len() };
    let covered = bytes.get_mut(usize::from(start)..).ok_or(invalid)?;
    let field = usize::from(offset)..usize::from(offset) + 2;
    if field.end > covered.len() {
        return Err(invalid);
    }
    let checksum = checksum::nonzero(checksum::checksum(covered));
    covered[field].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// What kind of super-frame waits for segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP segments of equal size (`UDP_SEGMENT`, QUIC).
    UdpSegments,
    /// UDP fragmentation offload: one datagram, to be fragmented by IP.
    UdpFragments,
}

/// Segmentation that was left to the egress device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Protocol of the super-frame.
    pub kind: GsoKind,
    /// TCP: the ECN CWR bit belongs to the first segment only.
    pub ecn: bool,
    /// Payload bytes of each segment.
    pub size: u16,
    /// Bytes of headers that every segment repeats, as the kernel told; a hint.
    pub header_len: u16,
}

/// Offload state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// A checksum that is still to be finished.
    pub partial: Option<PartialChecksum>,
    /// Segmentation that is still to be done.
    pub gso: Option<Gso>,
    /// The receiving device has verified the transport checksum.
    pub verified: bool,
}

impl Offload {
    /// An ordinary frame: complete, unverified.
    pub const NONE: Self = Self { partial: None, gso: None, verified: false };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::emit::{self, Macs, Pair};

    #[test]
    fn a_finished_checksum_is_the_one_that_the_sender_would_have_computed() {
        let macs = Macs { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };
        for pair in [
            Pair::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap(),
            Pair::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()).unwrap(),
        ] {
            let complete = emit::udp(macs, pair, 1000, 53, b"a question of odd length!");
            let start = complete.len() - 8 - 25;
            let mut partial = complete.clone();
            let sum = checksum::pseudo_header(pair.source(), pair.destination(), 17, 33);
            partial[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());

            finish_checksum(&mut partial, PartialChecksum { start: start as u16, offset: 6 }).unwrap();

            assert_eq!(partial, complete);
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut bytes = [0xff, 0xff, 0, 0];
        finish_checksum(&mut bytes, PartialChecksum { start: 0, offset: 2 }).unwrap();
        assert_eq!(bytes, [0xff; 4]);
    }

    #[test]
    fn a_field_outside_the_frame_is_refused() {
        for (start, offset) in [(0, 15), (14, 1), (15, 0), (16, 0), (17, 0), (u16::MAX, u16::MAX)] {
            let refused = finish_checksum(&mut [0; 16], PartialChecksum { start, offset });
            assert_eq!(refused, Err(InvalidPartial { start, offset, length: 16 }));
        }
        assert_eq!(finish_checksum(&mut [0; 16], PartialChecksum { start: 14, offset: 0 }), Ok(()));
    }
}
