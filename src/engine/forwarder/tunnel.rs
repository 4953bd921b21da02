//! Puts packets into IP-in-IP tunnels to their servers (`mode = "tunnel"`), and relays ICMP errors about tunnel
//! packets.
//!
//! The MTU of a tunnel is that of its path without the outer header, and clients learn it: a packet that exceeds it and
//! must not be fragmented is answered with the tunnel's MTU, any other is fragmented *before* encapsulation (RFC 2003
//! section 5.1 allows both). The server reassembles by the client's identification. After encapsulation all clients'
//! fragments would share the 16-bit identification of one address pair (RFC 4963). Outer packets are fragmented only
//! for IPv6 packets of at most 1280 bytes, which every link must carry (RFC 2473 section 7.1, RFC 4213 section 3.2).
//!
//! The outer DF bit is that of the inner packet, as with IPVS, so that path MTU discovery of the client covers the
//! tunnel. With DF the outer identification is 0, because nobody uses it (RFC 6864 section 4.1); without DF each server
//! has its own sequence of identifications.

use std::net::IpAddr;

use crate::engine::forwarder::decide::Arrival;
use crate::engine::forwarder::egress::{self, EgressPacket, MtuFit, fit, icmp_quote};
use crate::engine::forwarder::flows::Disposition;
use crate::engine::forwarder::ingress::Addressee;
use crate::engine::forwarder::packet_flow::{FlowRelation, PacketFlow};
use crate::engine::forwarder::services::TunnelTo;
use crate::engine::forwarder::sources::address_on;
use crate::engine::forwarder::{Forwarder, PacketOutcome};
use crate::engine::route::NextHop;
use crate::engine::{DropReason, Punt, PuntQueue, PuntReason, Snapshot, Transmit};
use crate::flow::FlowKey;
use crate::slb::{ForwardingMode, TunnelPathState};
use crate::time::Instant;
use crate::wire::emit::{AddressPair, HOP_LIMIT, MacPair};
use crate::wire::fragment;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV4_LEN, quoted_tuple};
use crate::wire::icmp::{self, ErrorKind};
use crate::wire::offload::{GsoKind, Offload};
use crate::wire::tunnel::{self, OuterHeader, TunnelError, TunnelIcmpError};
use crate::wire::{Family, segment};

/// The smallest MTUs that a sender may rely on, in bytes: IPv4 (RFC 791 section 3.2), IPv6 (RFC 8200 section 5).
const MTU_MIN: [u16; 2] = [68, 1280];

/// A tunnel, as it is for packets of one address family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel<'s> {
    pair: AddressPair,
    path: &'s TunnelPathState,
    /// Path MTU: the largest outer packet, in bytes.
    path_mtu: u16,
    /// The largest inner packet, in bytes.
    inner_mtu: u16,
    /// The path carries the smallest MTU of the inner family, so that outer packets need not be fragmented.
    carries_inner_minimum: bool,
}

impl<'s> Tunnel<'s> {
    /// The tunnel to a server for packets of family `inner`, by the next hop `hop`. `None` if the engine has no address
    /// for it.
    fn of(inner: Family, target: TunnelTo, hop: NextHop, snapshot: &'s Snapshot, now: Instant) -> Option<Self> {
        let (_, server) = snapshot.services.server(target.service, target.server)?;
        let destination = server.address(inner)?;
        let outer = Family::of(destination);
        let link = &snapshot.links[hop.link.index()];
        let pair = AddressPair::new(address_on(link, outer)?, destination)?;
        let path = &server.state.tunnel;
        let path_mtu = path.mtu(outer, now).unwrap_or(link.mtu).min(link.mtu);
        let left = path_mtu.saturating_sub(tunnel::overhead(outer));
        let least = MTU_MIN[crate::slb::family_index(inner)];
        Some(Self { pair, path, path_mtu, inner_mtu: left.max(least), carries_inner_minimum: left >= least })
    }

    /// The outer header for a packet.
    fn outer_header(&self, frame: &Frame<'_>) -> OuterHeader {
        let dont_fragment = match frame.family() {
            Family::V4 => frame.dont_fragment(),
            Family::V6 => self.carries_inner_minimum,
        };
        OuterHeader {
            addresses: self.pair,
            dont_fragment,
            ident: if dont_fragment { 0 } else { self.path.next_ident() },
        }
    }
}

impl Forwarder {
    /// Encapsulates a packet, in pieces if necessary, and sends it to `hop`.
    pub(super) fn send_in_tunnel(
        &mut self,
        leaving: EgressPacket<'_, '_>,
        target: TunnelTo,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> PacketOutcome {
        let EgressPacket { link: ingress, frame, vlan, offload, .. } = leaving;
        let Some(tunnel) = Tunnel::of(frame.family(), target, hop, snapshot, now) else {
            return PacketOutcome::Drop(DropReason::NoRoute);
        };
        let fit = fit(frame, offload, tunnel.inner_mtu);
        if fit == MtuFit::TooBig {
            return PacketOutcome::TooBig { mtu: tunnel.inner_mtu };
        }
        let link = &snapshot.links[hop.link.index()];
        let station = snapshot.neighbor(hop.link, hop.address);
        let original = station.is_none().then(|| icmp_quote(frame));
        let sender = frame.source_mac();
        frame.decrement_ttl();
        let pieces = match inner_pieces(frame, offload, fit, tunnel.inner_mtu) {
            Ok(pieces) => pieces,
            Err(reason) => return PacketOutcome::Drop(reason),
        };
        let source = link.source_mac(Family::of(hop.address), self.permission);
        let macs = MacPair { source, destination: station.unwrap_or_default() };
        let mut packed = Encapsulation { tunnel, macs, frames: std::mem::take(&mut self.encapsulated) };
        match &pieces {
            None => packed.push(frame, frame.ip_bytes(), self.free_buffers.pop()),
            Some(pieces) => {
                for piece in pieces {
                    packed.push(frame, &piece[ETHERNET_LEN..], self.free_buffers.pop());
                }
            }
        }
        let mut frames = packed.frames;
        let vlan = link.egress_tag(*vlan);
        let outcome = match station {
            Some(_) if frames.len() > self.transmits_free() => {
                frames.clear();
                PacketOutcome::Drop(DropReason::TransmitQueueFull)
            }
            Some(_) => {
                for bytes in frames.drain(..) {
                    self.transmit(Transmit { link: hop.link, vlan, offload: Offload::NONE, bytes });
                }
                PacketOutcome::Replaced(hop.link)
            }
            None => {
                let reason = PuntReason::NeighborWait { link: hop.link, next_hop: hop.address, sender };
                let punt = |bytes| {
                    let original = original.clone();
                    Punt { reason, link: ingress, vlan, offload: Offload::NONE, bytes, original }
                };
                let refused = frames.drain(..).filter_map(|bytes| (!punts.offer(punt(bytes))).then_some(())).count();
                if refused > 0 { PacketOutcome::Drop(DropReason::PuntQueueFull) } else { PacketOutcome::Punted }
            }
        };
        self.encapsulated = frames;
        outcome
    }

    /// Handles an ICMP error about an outer packet: remembers the path MTU that it reports, and sends an ICMP error
    /// from the engine to the sender of the inner packet (RFC 2003 section 4, RFC 2473 section 8).
    ///
    /// An error that quotes too little to identify the sender, or that belongs to no session, goes to the controller:
    /// it may be about a health check.
    pub(super) fn handle_tunnel_error(
        &mut self,
        frame: &Frame<'_>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> PacketOutcome {
        let local = PacketOutcome::Punt(PuntReason::Local);
        let Some(refused) = tunnel::parse_icmp_error(frame.family(), frame.transport_bytes()) else { return local };
        if refused.outer_source != frame.destination() {
            return PacketOutcome::Drop(DropReason::IcmpMismatch);
        }
        if let TunnelError::TooBig { mtu } = refused.error {
            for (service, server) in snapshot.services.tunnels_to(refused.outer_destination) {
                if let Some((_, server)) = snapshot.services.server(*service, *server) {
                    server.state.tunnel.learn(Family::of(refused.outer_destination), mtu, now);
                }
            }
        }
        self.relay_tunnel_error(&refused, snapshot, punts, now).unwrap_or(local)
    }

    /// Sends an ICMP error to the sender of the inner packet; `None` if there is nobody to send it to or nothing to
    /// say.
    fn relay_tunnel_error(
        &mut self,
        refused: &TunnelIcmpError<'_>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Option<PacketOutcome> {
        let family = match refused.packet.first()? >> 4 {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        let flow = FlowKey::from(quoted_tuple(refused.packet, family)?);
        let target = self.tunnel_of(&flow, refused.outer_destination, snapshot)?;
        let bytes = refused.packet.len();
        let packet = PacketFlow {
            flow: flow.reversed(),
            relation: FlowRelation::Related,
            tcp: None,
            bytes,
            ttl: HOP_LIMIT,
            is_error: true,
        };
        let Disposition::Send { hop, firewall: _, service } =
            self.decide_flow(&packet, Arrival::Near, Addressee::Other, snapshot, now)
        else {
            return None;
        };
        if service.is_some_and(|service| !service.is_unchanged()) {
            return None;
        }
        let kind = match refused.error {
            TunnelError::Unreachable => ErrorKind::HostUnreachable,
            TunnelError::TooBig { mtu: _ } if family == Family::V4 && !has_df(refused.packet) => return None,
            TunnelError::TooBig { mtu: _ } => {
                let tunnel =
                    Tunnel::of(family, target, self.hop_to(refused.outer_destination, snapshot)?, snapshot, now)?;
                ErrorKind::TooBig { mtu: tunnel.inner_mtu }
            }
        };
        let link = &snapshot.links[hop.link.index()];
        let source = address_on(link, family).unwrap_or(flow.destination.address);
        let mut bytes = icmp::error(kind, &tunnel::with_ethernet_header(refused.packet)?, source, link.mac).ok()?;
        let mut error = Frame::parse(&mut bytes, &Offload::NONE).ok()?;
        let (mut vlan, mut offload) = (None, Offload::NONE);
        let leaving = EgressPacket {
            link: hop.link,
            frame: &mut error,
            vlan: &mut vlan,
            offload: &mut offload,
            service: None,
            is_error: false,
        };
        match self.send(leaving, hop, snapshot, punts, now) {
            PacketOutcome::Sent(egress) => {
                let sent = self.transmit(Transmit { link: egress, vlan, offload, bytes });
                Some(if sent {
                    PacketOutcome::Replaced(egress)
                } else {
                    PacketOutcome::Drop(DropReason::TransmitQueueFull)
                })
            }
            PacketOutcome::Waits { reason, original: _ } => {
                let offered = punts.offer(Punt { reason, link: hop.link, vlan, offload, bytes, original: None });
                Some(if offered { PacketOutcome::Punted } else { PacketOutcome::Drop(DropReason::PuntQueueFull) })
            }
            other @ (PacketOutcome::Replaced(_)
            | PacketOutcome::Punt(_)
            | PacketOutcome::Punted
            | PacketOutcome::Left
            | PacketOutcome::Drop(_)) => Some(other),
            // The error fits the smallest MTU that a link can have.
            PacketOutcome::TooBig { mtu: _ } => Some(PacketOutcome::Drop(DropReason::TooBig)),
        }
    }

    /// The tunnel of a flow, if the flow has a session whose packets go to `unpacker`.
    fn tunnel_of(&self, flow: &FlowKey, unpacker: IpAddr, snapshot: &Snapshot) -> Option<TunnelTo> {
        let (key, _) = flow.canonical();
        let id = self.sessions.table().find(&key)?;
        let bound = self.sessions.table().update_with_placement(id, |_, _, bound| bound.copied())??;
        let (service, server) = snapshot.services.server(bound.service, bound.server)?;
        let is_meant = service.mode == ForwardingMode::Tunnel && server.address(flow.family()) == Some(unpacker);
        is_meant.then_some(TunnelTo { service: bound.service, server: bound.server })
    }

    fn hop_to(&self, unpacker: IpAddr, snapshot: &Snapshot) -> Option<NextHop> {
        super::reset::near_hop(unpacker, snapshot)
    }

    /// Takes back the buffer of a frame that [`Forwarder::poll_transmit`] returned, to use it for the next tunnel
    /// packet.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.free_buffers.len() < Self::FREE_BUFFERS_MAX && bytes.capacity() <= Self::FREE_BUFFER_BYTES_MAX {
            self.free_buffers.push(bytes);
        }
    }
}

/// The outer packets that are made of one packet.
struct Encapsulation<'s> {
    tunnel: Tunnel<'s>,
    macs: MacPair,
    frames: Vec<Vec<u8>>,
}

impl Encapsulation<'_> {
    /// Encapsulates `packet`, which is `frame` or a piece of it, in `buffer`, and fragments the result if it exceeds
    /// the path MTU.
    fn push(&mut self, frame: &Frame<'_>, packet: &[u8], buffer: Option<Vec<u8>>) {
        let outer = self.tunnel.outer_header(frame);
        let mut bytes = buffer.unwrap_or_default();
        tunnel::encapsulate(&mut bytes, self.macs, &outer, packet);
        if bytes.len() <= ETHERNET_LEN + usize::from(self.tunnel.path_mtu) {
            self.frames.push(bytes);
            return;
        }
        let pieces = match self.tunnel.pair {
            AddressPair::V4(..) => Frame::parse(&mut bytes, &Offload::NONE)
                .ok()
                .and_then(|frame| fragment::split(&frame, None, self.tunnel.path_mtu).ok())
                .unwrap_or_default(),
            AddressPair::V6(..) => {
                fragment::split_v6(&bytes, self.tunnel.path_mtu, u32::from(self.tunnel.path.next_ident()))
            }
        };
        self.frames.extend(pieces);
    }
}

/// The inner packets that a frame becomes, as frames; `None` if it is one packet as it is. Checksums and segmentation
/// are done here, because no device looks into a tunnel.
fn inner_pieces(
    frame: &mut Frame<'_>,
    offload: &Offload,
    fit: MtuFit,
    room: u16,
) -> Result<Option<Vec<Vec<u8>>>, DropReason> {
    let cut = |frame: &Frame<'_>, mtu| egress::fragment_v4(frame, offload.partial, mtu).map(Some);
    let size = match (fit, offload.gso) {
        (MtuFit::Fragments, _) => return cut(frame, room),
        (MtuFit::SoftwareSegments, _) => return egress::segment_in_software(frame, offload, room).map(Some),
        (MtuFit::Fits | MtuFit::TooBig, None) | (MtuFit::DeviceSegments(_), None) => {
            if let Some(partial) = offload.partial {
                frame.finish_checksum(partial).map_err(|_| DropReason::Transport)?;
            }
            return Ok(None);
        }
        (MtuFit::DeviceSegments(size), Some(_)) => size,
        (MtuFit::Fits | MtuFit::TooBig, Some(gso)) => gso.size,
    };
    let kind = offload.gso.map_or(GsoKind::UdpFragments, |gso| gso.kind);
    match kind {
        GsoKind::UdpFragments => {
            let header = frame.transport_offset() - ETHERNET_LEN;
            cut(frame, u16::try_from(header + usize::from(size)).unwrap_or(u16::MAX).min(room))
        }
        GsoKind::Tcp4 | GsoKind::Tcp6 | GsoKind::UdpSegments => {
            segment::segments(frame, None, kind, size).map(Some).map_err(|_| DropReason::NotSegmentable)
        }
    }
}

fn has_df(packet: &[u8]) -> bool {
    packet.len() >= IPV4_LEN && packet[6] & 0x40 != 0
}
