//! TCP segments over IPv4: parsed where they lie, and written one after the other.

use std::net::{IpAddr, SocketAddrV4};

use fwlb::wire::checksum;
use fwlb::wire::emit::{HOP_LIMIT, MacPair};
use fwlb::wire::frame::{ETHERNET_LEN, Frame, IPV4_LEN, TCP_LEN, ethertype, protocol, tcp_flags};
use fwlb::wire::offload::Offload;

/// Receive window in bytes, which nothing here ever fills.
const WINDOW: u16 = 0xfaf0;
/// The option for a maximum segment size of 1460, which belongs to an MTU of 1500 (RFC 9293 section 3.7.1).
const MAXIMUM_SEGMENT_SIZE: [u8; 4] = [2, 4, 0x05, 0xb4];
/// The shortest Ethernet frame without its check sequence.
const FRAME_MIN: usize = 60;

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its source.
    pub from: SocketAddrV4,
    /// Its destination.
    pub to: SocketAddrV4,
    /// Flag bits, [`tcp_flags`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; 0 without [`tcp_flags::ACK`].
    pub acknowledgement: u32,
    /// The data.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment in a frame; `None` if the frame has no segment of TCP over IPv4, or only a part of one.
    pub fn read(bytes: &'a mut [u8], offload: &Offload) -> Option<Self> {
        let frame = Frame::parse(bytes, offload).ok().filter(|frame| !frame.is_fragment())?;
        let (tuple, tcp) = (frame.tuple(), frame.tcp()?);
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (tuple.source, tuple.destination) else { return None };
        let start = frame.transport_offset();
        let end = start + frame.transport_bytes().len();
        let bytes: &'a [u8] = frame.into_bytes();
        let header = usize::from(bytes[start + 12] >> 4) * 4;
        Some(Self {
            from: SocketAddrV4::new(source, tuple.source_port),
            to: SocketAddrV4::new(destination, tuple.destination_port),
            flags: tcp.flags,
            sequence: tcp.sequence,
            acknowledgement: tcp.acknowledgement,
            payload: bytes.get(start + header..end)?,
        })
    }

    /// Whether it has this flag.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number after the segment: data, SYN and FIN count.
    pub const fn end(&self) -> u32 {
        let flags = self.has(tcp_flags::SYN) as u32 + self.has(tcp_flags::FIN) as u32;
        self.sequence.wrapping_add(self.payload.len() as u32).wrapping_add(flags)
    }
}

/// Frames to be sent, one after the other in one piece of memory.
#[derive(Debug)]
pub struct Outbox {
    macs: MacPair,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// An empty outbox for frames with these MAC addresses.
    pub const fn new(macs: MacPair) -> Self {
        Self { macs, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Appends the frame of a segment, with all checksums.
    pub fn push(&mut self, segment: &Segment<'_>) {
        let options: &[u8] = if segment.has(tcp_flags::SYN) { &MAXIMUM_SEGMENT_SIZE } else { &[] };
        let tcp_length = TCP_LEN + options.len() + segment.payload.len();
        let start = self.bytes.len();
        self.bytes.resize(start + (ETHERNET_LEN + IPV4_LEN + tcp_length).max(FRAME_MIN), 0);
        let (ethernet, rest) = self.bytes[start..].split_at_mut(ETHERNET_LEN);
        let (ip, rest) = rest.split_at_mut(IPV4_LEN);
        let tcp = &mut rest[..tcp_length];
        ethernet[..6].copy_from_slice(&self.macs.destination.0);
        ethernet[6..12].copy_from_slice(&self.macs.source.0);
        ethernet[12..].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        let total = u16::try_from(IPV4_LEN + tcp_length).expect("requests and pages are short");
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        // Not to be fragmented, so the identification may be 0 (RFC 6864).
        ip[6] = 0x40;
        ip[8] = HOP_LIMIT;
        ip[9] = protocol::TCP;
        ip[12..16].copy_from_slice(&segment.from.ip().octets());
        ip[16..20].copy_from_slice(&segment.to.ip().octets());
        let sum = checksum::checksum(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        tcp[0..2].copy_from_slice(&segment.from.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&segment.to.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&segment.acknowledgement.to_be_bytes());
        tcp[12] = (((TCP_LEN + options.len()) / 4) as u8) << 4;
        tcp[13] = segment.flags;
        tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
        tcp[TCP_LEN..TCP_LEN + options.len()].copy_from_slice(options);
        tcp[TCP_LEN + options.len()..].copy_from_slice(segment.payload);
        // The pseudo-header: both addresses, which are last in the header, protocol and length.
        let pseudo = checksum::add(checksum::sum(&ip[12..20]), u16::from(protocol::TCP) + total - IPV4_LEN as u16);
        let sum = !checksum::add(pseudo, checksum::sum(tcp));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        self.ends.push(self.bytes.len());
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Forgets the frames.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Whether there are no frames.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}
