//! Shifting TCP sequence numbers between those of the smoltcp stack and those on the wire.

use crate::wire::checksum;
use crate::wire::frame::{TCP_LEN, protocol, tcp_flags};

/// The distance by which the sequence numbers of one connection are shifted.
#[derive(Debug, Clone, Copy)]
pub(super) struct SequenceShift {
    /// The sequence number that the SYN must have on the wire.
    first: u32,
    /// The number that is added to sequence numbers which the stack sends; known once it has sent the SYN.
    offset: Option<u32>,
}

impl SequenceShift {
    /// A shift with which the SYN gets the sequence number `first`.
    pub(super) const fn to(first: u32) -> Self {
        Self { first, offset: None }
    }

    /// Shifts a packet that the stack sends. The first one must be the SYN.
    pub(super) fn outward(&mut self, packet: &mut [u8]) {
        let Some(header) = tcp_header(packet) else { return };
        let before = [header[4], header[5], header[6], header[7]];
        let sequence = u32::from_be_bytes(before);
        let by = *self.offset.get_or_insert(self.first.wrapping_sub(sequence));
        let after = sequence.wrapping_add(by).to_be_bytes();
        header[4..8].copy_from_slice(&after);
        let sum = u16::from_be_bytes([header[16], header[17]]);
        header[16..18].copy_from_slice(&checksum::update_bytes(sum, &before, &after).to_be_bytes());
    }

    /// Shifts a packet from the server. Its checksum was verified before and is not updated.
    pub(super) fn inward(&self, packet: &mut [u8]) {
        let (Some(by), Some(header)) = (self.offset, tcp_header(packet)) else { return };
        if header[13] & tcp_flags::ACK != 0 {
            let number = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            header[8..12].copy_from_slice(&number.wrapping_sub(by).to_be_bytes());
        }
    }
}

/// The TCP header without options of an IP packet. `None` if there are IPv6 extension headers, which the stack does not
/// read.
fn tcp_header(packet: &mut [u8]) -> Option<&mut [u8; TCP_LEN]> {
    let first = *packet.first()?;
    let (found, at) = match first >> 4 {
        4 => (*packet.get(9)?, usize::from(first & 0xf) * 4),
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    if found != protocol::TCP {
        return None;
    }
    packet.get_mut(at..)?.first_chunk_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::emit::{AddressPair, MacPair};
    use crate::wire::frame::{ETHERNET_LEN, Frame};
    use crate::wire::offload::Offload;
    use crate::wire::tcp::{self, Segment};

    fn packet(source: &str, destination: &str, sequence: u32, acknowledgement: u32, flags: u8) -> Vec<u8> {
        let macs = MacPair { source: MacAddr::default(), destination: MacAddr::default() };
        let pair = AddressPair::new(source.parse().unwrap(), destination.parse().unwrap()).unwrap();
        let segment = Segment { sequence, acknowledgement, flags, payload: b"odd", ..Segment::default() };
        tcp::segment(macs, pair, &segment)
    }

    #[test]
    fn numbers_are_moved_there_and_back_and_the_checksum_stays_right() {
        for (own, server) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let mut shift = SequenceShift::to(5);
            for (sequence, moved) in [(u32::MAX - 1, 5), (u32::MAX, 6), (10, 17)] {
                let mut frame = packet(own, server, sequence, 77, tcp_flags::ACK);
                shift.outward(&mut frame[ETHERNET_LEN..]);
                let read = Frame::parse(&mut frame, &Offload::NONE).unwrap();
                let transport = read.transport_bytes();
                let pseudo = checksum::pseudo_header(read.source(), read.destination(), 6, transport.len() as u32);
                assert_eq!(checksum::add(pseudo, checksum::sum(transport)), 0xffff);
                let read = read.tcp().unwrap();
                assert_eq!((read.sequence, read.acknowledgement), (moved, 77));
            }

            let mut answer = packet(server, own, 99, 6, tcp_flags::SYN | tcp_flags::ACK);
            shift.inward(&mut answer[ETHERNET_LEN..]);
            let read = Frame::parse(&mut answer, &Offload::NONE).unwrap().tcp().unwrap();
            assert_eq!((read.sequence, read.acknowledgement), (99, u32::MAX));
            let mut reset = packet(server, own, 99, 0, tcp_flags::RST);
            shift.inward(&mut reset[ETHERNET_LEN..]);
            assert_eq!(Frame::parse(&mut reset, &Offload::NONE).unwrap().tcp().unwrap().acknowledgement, 0);
        }
    }

    #[test]
    fn what_is_no_tcp_is_left_alone() {
        let mut shift = SequenceShift::to(5);
        for bytes in [vec![], vec![0x45], vec![0x60; 50], vec![0x45; 21], vec![0xff; 80]] {
            let mut after = bytes.clone();
            shift.outward(&mut after);
            shift.inward(&mut after);
            assert_eq!(after, bytes);
        }
    }
}
