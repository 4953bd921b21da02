//! What a network device left undone: partial checksums and segmentation, carried beside the bytes (virtio-net header).

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
