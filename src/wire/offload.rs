//! The work that network devices left undone, carried beside the bytes of a frame as in the virtio-net header:
//! checksums and segmentation.

use crate::wire::checksum;

/// A checksum that the last device to handle the frame must complete.
///
/// The field at `start + offset` holds the sum of the pseudo-header, not complemented (Linux `CHECKSUM_PARTIAL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where summing starts, in bytes from the first byte of the frame, which is without its 802.1Q tag.
    pub start: u16,
    /// Where the checksum field lies, in bytes after `start`.
    pub offset: u16,
}

/// A partial checksum starts, or has its field, beyond the end of the bytes that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("partial checksum at {start}+{offset} lies outside what a frame of {length} bytes sums up")]
pub struct InvalidPartial {
    /// See [`PartialChecksum::start`].
    pub start: u16,
    /// See [`PartialChecksum::offset`].
    pub offset: u16,
    /// Length of the frame in bytes.
    pub length: usize,
}

/// Completes a partial checksum in software, as a device would. The checksum covers everything from `start` to the end
/// of `bytes`, so that `bytes` must end with the packet, without link-layer padding.
///
/// A result of 0 is written as 0xffff, which UDP requires and which is the same number to all other protocols.
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

/// The kind of a super-frame that is still to be segmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of equal size (Linux `UDP_SEGMENT`, as QUIC uses it).
    UdpSegments,
    /// UDP fragmentation offload (UFO): one datagram that IP is to fragment.
    UdpFragments,
}

/// Generic segmentation offload (GSO): segmentation that was left to the egress device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// The kind of the super-frame.
    pub kind: GsoKind,
    /// For TCP with ECN: the CWR flag belongs to the first segment only.
    pub ecn: bool,
    /// Payload of each segment in bytes.
    pub size: u16,
    /// Length in bytes of the headers that every segment repeats. The kernel gives it as a hint only.
    pub header_len: u16,
}

/// The offload state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// The checksum that is still to be completed.
    pub partial: Option<PartialChecksum>,
    /// The segmentation that is still to be done.
    pub gso: Option<Gso>,
    /// Whether the receiving device has verified the transport checksum.
    pub verified: bool,
}

impl Offload {
    /// The state of an ordinary frame: complete, and not verified by a device.
    pub const NONE: Self = Self { partial: None, gso: None, verified: false };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::emit::{self, AddressPair, MacPair};

    #[test]
    fn a_finished_checksum_is_the_one_that_the_sender_would_have_computed() {
        let macs = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };
        for pair in [
            AddressPair::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap(),
            AddressPair::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()).unwrap(),
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
