//! Frames for the tests, built byte by byte, and a second parser to read frames with.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::Packet as _;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;

use crate::wire::MacAddr;
use crate::wire::checksum;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::tcp_flags::{ACK, FIN, RST, SYN};
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// A frame as a ring passes it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub vlan: Option<VlanTag>,
    pub offload: Offload,
}

impl Frame {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, vlan: None, offload: Offload::NONE }
    }

    pub fn address(&mut self, source: MacAddr, destination: MacAddr) {
        if self.bytes.len() >= 12 {
            self.bytes[..6].copy_from_slice(&destination.0);
            self.bytes[6..12].copy_from_slice(&source.0);
        }
    }

    /// Sets the TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        if self.bytes[12] == 0x08 {
            self.bytes[22] = ttl;
            self.finish_v4();
        } else {
            self.bytes[21] = ttl;
        }
        self
    }

    /// Sets DF of an IPv4 packet.
    pub fn dont_fragment(mut self) -> Self {
        if self.bytes[12] == 0x08 {
            self.bytes[20] |= 0x40;
            self.finish_v4();
        }
        self
    }

    /// Recomputes the IPv4 header checksum after an edit.
    pub fn finish_v4(&mut self) {
        let header = 14 + usize::from(self.bytes[14] & 0x0f) * 4;
        self.bytes[24..26].fill(0);
        let sum = checksum::checksum(&self.bytes[14..header]);
        self.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

const MACS: MacPair = MacPair { source: MacAddr([0; 6]), destination: MacAddr([0; 6]) };

/// A packet of any protocol, with IPv4 without DF.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Frame {
    let pair = AddressPair::new(source, destination).expect("one family");
    let fill = |bytes: &mut [u8]| bytes.copy_from_slice(payload);
    let mut frame = Frame::new(emit::ip(MACS, pair, protocol, 64, payload.len(), fill));
    if source.is_ipv4() {
        frame.bytes[20] = 0;
        frame.finish_v4();
    }
    frame
}

fn with_checksum(source: IpAddr, destination: IpAddr, protocol: u8, at: usize, mut payload: Vec<u8>) -> Vec<u8> {
    let pseudo = checksum::pseudo_header(source, destination, protocol, payload.len() as u32);
    let sum = !checksum::add(pseudo, checksum::sum(&payload));
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    payload
}

pub fn tcp_with(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    data: &[u8],
) -> Frame {
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let (source, destination) = (source.ip(), destination.ip());
    ip(source, destination, 6, &with_checksum(source, destination, 6, 16, segment))
}

pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Frame {
    tcp_with(source, destination, flags, 1000, 2000, b"")
}

pub fn syn(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp_with(source, destination, SYN, 999, 0, b"")
}

pub fn syn_ack(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp_with(source, destination, SYN | ACK, 1999, 1000, b"")
}

pub fn ack(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp(source, destination, ACK)
}

pub fn fin(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp(source, destination, FIN | ACK)
}

/// The FIN of the server, after that of the client.
pub fn fin_back(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp_with(source, destination, FIN | ACK, 2000, 1001, b"")
}

/// The reset of the server.
pub fn rst_back(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp_with(source, destination, RST, 2000, 0, b"")
}

pub fn rst(source: SocketAddr, destination: SocketAddr) -> Frame {
    tcp(source, destination, RST)
}

pub fn udp(source: SocketAddr, destination: SocketAddr, length: usize) -> Frame {
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend((8 + length as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend((0..length).map(|byte| byte as u8));
    let (source, destination) = (source.ip(), destination.ip());
    ip(source, destination, 17, &with_checksum(source, destination, 17, 6, datagram))
}

const fn icmp_protocol(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 58,
    }
}

fn icmp(source: IpAddr, destination: IpAddr, message: Vec<u8>) -> Frame {
    let protocol = icmp_protocol(source);
    let message = match source {
        IpAddr::V4(_) => {
            let mut message = message;
            let sum = checksum::checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            message
        }
        IpAddr::V6(_) => with_checksum(source, destination, protocol, 2, message),
    };
    ip(source, destination, protocol, &message)
}

/// An echo request or an echo reply.
pub fn echo(source: IpAddr, destination: IpAddr, reply: bool, identifier: u16) -> Frame {
    let kind = match (source, reply) {
        (IpAddr::V4(_), false) => 8,
        (IpAddr::V4(_), true) => 0,
        (IpAddr::V6(_), false) => 128,
        (IpAddr::V6(_), true) => 129,
    };
    let [high, low] = identifier.to_be_bytes();
    icmp(source, destination, vec![kind, 0, 0, 0, high, low, 0, 1, 1, 2, 3, 4])
}

/// An ICMP error about `quoted`; "too big" has an MTU of 1280.
pub fn icmp_error(source: IpAddr, destination: IpAddr, quoted: &Frame) -> Frame {
    let mut message = match source {
        IpAddr::V4(_) => vec![3, 4, 0, 0, 0, 0, 5, 0],
        IpAddr::V6(_) => vec![2, 0, 0, 0, 0, 0, 5, 0],
    };
    let packet = &quoted.bytes[14..];
    message.extend(&packet[..packet.len().min(100)]);
    icmp(source, destination, message)
}

/// Cuts a packet into fragments with this many bytes of payload each, a multiple of 8.
pub fn fragments(frame: &Frame, size: usize, id: u16) -> Vec<Frame> {
    let is_v4 = frame.bytes[12] == 0x08;
    let header = if is_v4 { 34 } else { 54 };
    let payload = &frame.bytes[header..];
    let count = payload.len().div_ceil(size);
    let cut = |(index, data): (usize, &[u8])| {
        let offset = (index * size / 8) as u16;
        let more = index + 1 < count;
        let mut bytes = frame.bytes[..header].to_vec();
        if is_v4 {
            bytes.extend(data);
            let length = (bytes.len() - 14) as u16;
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
            bytes[18..20].copy_from_slice(&id.to_be_bytes());
            bytes[20..22].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
            let mut frame = Frame::new(bytes);
            frame.finish_v4();
            frame
        } else {
            let protocol = std::mem::replace(&mut bytes[20], 44);
            bytes.extend([protocol, 0]);
            bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(id.to_be_bytes());
            bytes.extend(data);
            let length = (bytes.len() - 54) as u16;
            bytes[18..20].copy_from_slice(&length.to_be_bytes());
            Frame::new(bytes)
        }
    };
    payload.chunks(size).enumerate().map(cut).collect()
}

/// What the second parser reads of a frame that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub source_mac: MacAddr,
    pub destination_mac: MacAddr,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

pub fn read(bytes: &[u8]) -> Read {
    let ethernet = EthernetPacket::new(bytes).expect("an Ethernet frame");
    let source_mac = MacAddr(ethernet.get_source().octets());
    let destination_mac = MacAddr(ethernet.get_destination().octets());
    match ethernet.get_ethertype().0 {
        0x0800 => {
            let ip = Ipv4Packet::new(ethernet.payload()).expect("an IPv4 packet");
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip), "IPv4 header checksum");
            Read {
                source_mac,
                destination_mac,
                source: ip.get_source().into(),
                destination: ip.get_destination().into(),
                ttl: ip.get_ttl(),
                protocol: ip.get_next_level_protocol().0,
                payload: ip.payload().to_vec(),
            }
        }
        0x86dd => {
            let ip = Ipv6Packet::new(ethernet.payload()).expect("an IPv6 packet");
            Read {
                source_mac,
                destination_mac,
                source: ip.get_source().into(),
                destination: ip.get_destination().into(),
                ttl: ip.get_hop_limit(),
                protocol: ip.get_next_header().0,
                payload: ip.payload().to_vec(),
            }
        }
        other => panic!("EtherType {other:#06x}"),
    }
}
