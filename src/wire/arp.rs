//! ARP for IPv4 over Ethernet: requests, replies, announcements and address probes (RFC 826, RFC 5227).
//!
//! This module reads and builds packets. What is learned from them is decided by [`crate::neighbor`].

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetProtocol};

use crate::wire::MacAddr;
use crate::wire::emit::{self, MacPair};
use crate::wire::frame::ETHERNET_LEN;

/// The operation of an ARP packet (RFC 826, `ar$op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Asks which hardware address `target` has.
    Request,
    /// Says that `sender` has the hardware address `sender_mac`.
    Reply,
}

/// A valid ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Whether this is a request or a reply.
    pub operation: Operation,
    /// Hardware address of the sender; never zero, multicast or broadcast.
    pub sender_mac: MacAddr,
    /// IPv4 address of the sender; 0.0.0.0 in an address probe (RFC 5227 section 1.1).
    pub sender: Ipv4Addr,
    /// Hardware address of the target; it has no meaning in a request.
    pub target_mac: MacAddr,
    /// IPv4 address of the target.
    pub target: Ipv4Addr,
}

/// Why a frame is not a valid ARP packet (rule A2.5 of `docs/protocols.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArp {
    /// The packet is shorter than 28 bytes, or is not ARP for IPv4 over Ethernet.
    #[error("not an ARP packet for IPv4 over Ethernet")]
    Format,
    /// The operation is neither request nor reply.
    #[error("ARP operation is neither request nor reply")]
    Operation,
    /// The sender's hardware address is zero, multicast or broadcast.
    #[error("ARP sender hardware address {0} is no station's")]
    SenderMac(MacAddr),
    /// The sender's IPv4 address is not unicast, or is 0.0.0.0 in a reply.
    #[error("ARP sender address {0} is no host's")]
    Sender(Ipv4Addr),
}

impl Arp {
    /// Reads and validates the ARP packet of a frame whose EtherType is ARP.
    pub fn parse(frame: &[u8]) -> Result<Self, InvalidArp> {
        let bytes = frame.get(ETHERNET_LEN..).ok_or(InvalidArp::Format)?;
        let packet = ArpPacket::new_checked(bytes).map_err(|_| InvalidArp::Format)?;
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        }) = ArpRepr::parse(&packet)
        else {
            return Err(InvalidArp::Format);
        };
        let operation = match operation {
            ArpOperation::Request => Operation::Request,
            ArpOperation::Reply => Operation::Reply,
            ArpOperation::Unknown(_) => return Err(InvalidArp::Operation),
        };
        let arp = Self {
            operation,
            sender_mac: MacAddr(source_hardware_addr.0),
            sender: source_protocol_addr,
            target_mac: MacAddr(target_hardware_addr.0),
            target: target_protocol_addr,
        };
        if arp.sender_mac.is_multicast() || arp.sender_mac.is_zero() {
            return Err(InvalidArp::SenderMac(arp.sender_mac));
        }
        let probe = arp.sender.is_unspecified() && arp.operation == Operation::Request;
        if !probe && !is_host(arp.sender) {
            return Err(InvalidArp::Sender(arp.sender));
        }
        Ok(arp)
    }

    /// True for an address probe, which asks whether any station already uses `target` (RFC 5227 section 2.1.1).
    pub fn is_probe(&self) -> bool {
        self.sender.is_unspecified()
    }

    /// Builds the frame that carries the packet to the hardware address `destination`.
    pub fn frame(&self, destination: MacAddr) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation: match self.operation {
                Operation::Request => ArpOperation::Request,
                Operation::Reply => ArpOperation::Reply,
            },
            source_hardware_addr: EthernetAddress(self.sender_mac.0),
            source_protocol_addr: self.sender,
            target_hardware_addr: EthernetAddress(self.target_mac.0),
            target_protocol_addr: self.target,
        };
        let macs = MacPair { source: self.sender_mac, destination };
        emit::ethernet(macs, EthernetProtocol::Arp, repr.buffer_len(), |bytes| {
            repr.emit(&mut ArpPacket::new_unchecked(bytes));
        })
    }
}

/// Builds a request for the hardware address of `target`. It is broadcast, or sent to `known` alone to confirm an
/// entry.
pub fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr, known: Option<MacAddr>) -> Vec<u8> {
    let arp =
        Arp { operation: Operation::Request, sender_mac: mac, sender, target_mac: known.unwrap_or_default(), target };
    arp.frame(known.unwrap_or(MacAddr::BROADCAST))
}

/// Builds the reply to `question`, a request for one of the engine's addresses. It is sent to the asker alone.
pub fn reply(mac: MacAddr, question: &Arp) -> Vec<u8> {
    let arp = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
    };
    arp.frame(question.sender_mac)
}

/// Builds an announcement of `address`: a request with the same sender and target address (RFC 5227 section 3).
pub fn announcement(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    request(mac, address, address, None)
}

/// Builds an address probe for `address`. Its sender address is 0.0.0.0, so that no cache learns from it (RFC 5227
/// section 2.1.1).
pub fn probe(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    request(mac, Ipv4Addr::UNSPECIFIED, address, None)
}

fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use pnet_packet::Packet;
    use pnet_packet::arp::{ArpOperations, ArpPacket as PnetArp};
    use pnet_packet::ethernet::{EtherTypes, EthernetPacket};

    use super::*;

    const ENGINE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn question() -> Arp {
        Arp {
            operation: Operation::Request,
            sender_mac: HOST,
            sender: Ipv4Addr::new(10, 1, 0, 9),
            target_mac: MacAddr::default(),
            target: Ipv4Addr::new(10, 1, 0, 1),
        }
    }

    #[test]
    fn an_answer_goes_to_the_asker_alone() {
        let frame = reply(ENGINE, &question());

        let ethernet = EthernetPacket::new(&frame).unwrap();
        let arp = PnetArp::new(ethernet.payload()).unwrap();
        assert_eq!(ethernet.get_ethertype(), EtherTypes::Arp);
        assert_eq!(ethernet.get_destination().octets(), HOST.0);
        assert_eq!(arp.get_operation(), ArpOperations::Reply);
        assert_eq!(arp.get_sender_hw_addr().octets(), ENGINE.0);
        assert_eq!(arp.get_sender_proto_addr(), Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(arp.get_target_hw_addr().octets(), HOST.0);
        assert_eq!(arp.get_target_proto_addr(), Ipv4Addr::new(10, 1, 0, 9));
    }

    #[test]
    fn what_was_built_is_read_back() {
        let frame = question().frame(MacAddr::BROADCAST);
        assert_eq!(Arp::parse(&frame), Ok(question()));

        let frame = announcement(ENGINE, Ipv4Addr::new(10, 1, 0, 1));
        let arp = Arp::parse(&frame).unwrap();
        assert_eq!((arp.sender, arp.target), (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 1)));
    }

    #[test]
    fn forged_and_damaged_packets_are_refused() {
        let good = question().frame(MacAddr::BROADCAST);
        let damaged = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            Arp::parse(&frame)
        };
        assert_eq!(damaged(14, 9), Err(InvalidArp::Format), "hardware type");
        assert_eq!(damaged(16, 9), Err(InvalidArp::Format), "protocol type");
        assert_eq!(damaged(18, 8), Err(InvalidArp::Format), "hardware address length");
        assert_eq!(damaged(19, 16), Err(InvalidArp::Format), "protocol address length");
        assert_eq!(damaged(21, 3), Err(InvalidArp::Operation));
        assert!(matches!(damaged(22, 1), Err(InvalidArp::SenderMac(_))), "group address");
        assert!(matches!(damaged(28, 224), Err(InvalidArp::Sender(_))), "multicast sender");
        for len in 0..good.len() {
            assert_eq!(Arp::parse(&good[..len]), Err(InvalidArp::Format), "cut to {len}");
        }
        let mut absent = question();
        absent.sender = Ipv4Addr::UNSPECIFIED;
        assert!(Arp::parse(&absent.frame(ENGINE)).unwrap().is_probe());
        absent.operation = Operation::Reply;
        assert!(matches!(Arp::parse(&absent.frame(ENGINE)), Err(InvalidArp::Sender(_))));
    }
}
