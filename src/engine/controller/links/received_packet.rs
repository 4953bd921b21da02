//! Packets that are addressed to the engine, parsed once for all parts.

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Links;
use super::reassembly::ReassemblyResult;
use crate::engine::Snapshot;
use crate::engine::verdict::Punt;
use crate::id::{FirewallId, LinkId};
use crate::time::Instant;
use crate::wire::emit::{AddressPair, MacPair};
use crate::wire::frame::{ETHERNET_LEN, Fragment, Frame, FrameKind, IcmpClass, TCP_LEN, Tuple, UDP_LEN, protocol};
use crate::wire::icmp::Echo;
use crate::wire::offload::Offload;
use crate::wire::tcp::Segment;
use crate::wire::{Family, checksum};

/// A packet to the engine, complete and valid.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct ReceivedPacket<'a> {
    pub(in super::super) link: LinkId,
    /// The MAC addresses of the station that sent it and of the engine.
    pub(super) macs: MacPair,
    pub(in super::super) pair: AddressPair,
    /// The configured firewall that it came from.
    pub(in super::super) firewall: Option<FirewallId>,
    /// It is addressed to a service, or to an address that stands for clients, where no port is the engine's own.
    pub(in super::super) is_virtual: bool,
    pub(in super::super) message: PacketContent<'a>,
    /// The whole frame.
    pub(super) frame: &'a [u8],
}

/// What a packet to the engine carries.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum PacketContent<'a> {
    /// An ICMP error about a packet of the engine.
    Error {
        /// The tuple of that packet.
        quoted: Tuple,
        /// The ICMP message.
        bytes: &'a [u8],
    },
    /// An echo request or reply.
    Echo(Echo<'a>),
    /// A UDP datagram whose checksum is right or absent.
    Udp {
        /// The source port.
        source: u16,
        /// The destination port.
        port: u16,
        /// The payload.
        data: &'a [u8],
    },
    /// A TCP segment whose checksum is right.
    Tcp(Segment<'a>),
    /// A protocol that is neither ICMP nor UDP nor TCP.
    Other,
}

impl<'a> ReceivedPacket<'a> {
    /// The MAC addresses of a reply.
    pub(in super::super) fn reply_macs(&self) -> MacPair {
        MacPair { source: self.macs.destination, destination: self.macs.source }
    }

    /// The IP packet.
    pub(in super::super) fn packet(&self) -> &'a [u8] {
        &self.frame[ETHERNET_LEN..]
    }

    /// The firewall that brought it, unless it is for a virtual address: what comes through a firewall may belong to a
    /// probe.
    pub(in super::super) fn prober(&self) -> Option<FirewallId> {
        self.firewall.filter(|_| !self.is_virtual)
    }
}

impl Links {
    /// A packet to the engine in one piece; `None` if it is not valid, or while fragments are missing.
    pub(super) fn reassemble(&mut self, mut punt: Punt, now: Instant, out: &mut Outbox) -> Option<Punt> {
        let Some(frame) =
            Frame::parse(&mut punt.bytes, &punt.offload).ok().filter(|frame| frame.kind() == FrameKind::Ip)
        else {
            out.count(Tally::Malformed);
            return None;
        };
        AddressPair::new(frame.source(), frame.destination())?;
        if frame.destination_mac().is_multicast() || frame.is_multicast_or_broadcast() {
            out.count(Tally::Group);
            return None;
        }
        let collected = match frame.fragment() {
            Fragment::Whole => return Some(punt),
            Fragment::First { .. } | Fragment::Later { .. } => self.reassembly.add(punt.link, &frame, now),
        };
        match collected {
            ReassemblyResult::Incomplete => None,
            ReassemblyResult::Complete(bytes) => self.reassemble(Punt { bytes, ..punt }, now, out),
            ReassemblyResult::Refused => {
                out.count(Tally::Fragment);
                None
            }
        }
    }

    /// Parses a packet that [`Links::handle_punt`] returned; `None` if there is nothing in it to answer.
    pub(in super::super) fn parse<'a>(
        &self,
        punt: &'a mut Punt,
        snapshot: &Snapshot,
        out: &mut Outbox,
    ) -> Option<ReceivedPacket<'a>> {
        let (link, offload) = (punt.link, punt.offload);
        let frame = Frame::parse(&mut punt.bytes, &offload).ok()?;
        let pair = AddressPair::new(frame.source(), frame.destination())?;
        // The role may have changed since the worker saw the packet.
        if self.states.iter().any(|state| state.is_elsewhere(pair.destination())) {
            out.count(Tally::Ignored);
            return None;
        }
        let (sender, next_protocol, class) = (frame.source_mac(), frame.protocol(), frame.icmp());
        let end = ETHERNET_LEN + frame.ip_len();
        let start = end - frame.transport_bytes().len();
        let bytes: &'a [u8] = frame.into_bytes();
        let transport = &bytes[start..end];
        let message = match (pair.family(), next_protocol) {
            (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => icmp(pair.family(), class, transport),
            (_, protocol::UDP) => udp(pair, transport, &offload),
            (_, protocol::TCP) => tcp(pair, transport, &offload),
            (_, _) => Ok(PacketContent::Other),
        };
        let message = message.map_err(|why| out.count(why)).ok()?;
        Some(ReceivedPacket {
            link,
            macs: MacPair { source: sender, destination: self.mac_of(link, pair.destination()) },
            pair,
            firewall: snapshot.firewall_at(link, sender),
            is_virtual: !snapshot.own_addresses.contains(&pair.destination()),
            message,
            frame: bytes,
        })
    }
}

/// Reads an ICMP message, whose checksum the frame parser has verified.
fn icmp(family: Family, class: Option<IcmpClass>, transport: &[u8]) -> Result<PacketContent<'_>, Tally> {
    if let Some(IcmpClass::Error(Some(quoted))) = class {
        return Ok(PacketContent::Error { quoted, bytes: transport });
    }
    Echo::parse(family, transport).map(PacketContent::Echo).ok_or(Tally::Ignored)
}

fn udp<'a>(pair: AddressPair, transport: &'a [u8], offload: &Offload) -> Result<PacketContent<'a>, Tally> {
    let (header, rest) = transport.split_first_chunk::<UDP_LEN>().ok_or(Tally::Malformed)?;
    let [source_high, source_low, port_high, port_low, len_high, len_low, sum_high, sum_low] = *header;
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let data = len.checked_sub(UDP_LEN).and_then(|len| rest.get(..len)).ok_or(Tally::Malformed)?;
    let has_none = pair.family() == Family::V4 && [sum_high, sum_low] == [0, 0];
    if !has_none && !is_intact(pair, protocol::UDP, &transport[..len], offload) {
        return Err(Tally::Checksum);
    }
    let source = u16::from_be_bytes([source_high, source_low]);
    Ok(PacketContent::Udp { source, port: u16::from_be_bytes([port_high, port_low]), data })
}

fn tcp<'a>(pair: AddressPair, transport: &'a [u8], offload: &Offload) -> Result<PacketContent<'a>, Tally> {
    let segment = read_segment(transport).ok_or(Tally::Malformed)?;
    if is_intact(pair, protocol::TCP, transport, offload) {
        Ok(PacketContent::Tcp(segment))
    } else {
        Err(Tally::Checksum)
    }
}

/// True if the transport checksum is right, or if the device vouches for it or computes it later.
fn is_intact(pair: AddressPair, protocol: u8, transport: &[u8], offload: &Offload) -> bool {
    if offload.verified || offload.partial.is_some() {
        return true;
    }
    let length = u32::try_from(transport.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo_header(pair.source(), pair.destination(), protocol, length);
    checksum::add(pseudo, checksum::sum(transport)) == 0xffff
}

/// The segment with this header and payload; `None` if the header does not fit.
pub(in super::super) fn read_segment(transport: &[u8]) -> Option<Segment<'_>> {
    let header: &[u8; TCP_LEN] = transport.first_chunk()?;
    let payload = transport.get(usize::from(header[12] >> 4) * 4..)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Segment {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: number(4),
        acknowledgement: number(8),
        flags: header[13],
        window: u16::from_be_bytes([header[14], header[15]]),
        payload,
    })
}
