//! Packets that reach their server inside others (`mode = "tunnel"`), and what is heard of those on their way.
//!
//! The tunnel's MTU is that of its path without the outer header, and the client is told of it: a packet that is too big and
//! must not be fragmented is refused with the tunnel's MTU, one that may be is cut *before* it is packed (RFC 2003 section
//! 5.1 allows both). The server's own kernel then puts together what the client's identification tells apart; cut after
//! packing, all clients' packets would share the 16 bits of one pair of ends (RFC 4963). What is cut after all is IPv6 of at
//! most 1280 bytes, which every link has to carry (RFC 2473 section 7.1, RFC 4213 section 3.2).
//!
//! DF is the packet's own, as IPVS copies it: where the client looks for the path MTU, the tunnel does. With DF the outer
//! identification is 0, for it is never looked at (RFC 6864 section 4.1); without, each server's packets are numbered.

use std::net::IpAddr;

use crate::engine::forwarder::claim::{Claim, Role};
use crate::engine::forwarder::decide::Arrival;
use crate::engine::forwarder::egress::{self, Fit, Leaving, fit, quote};
use crate::engine::forwarder::flows::Fate;
use crate::engine::forwarder::ingress::Addressee;
use crate::engine::forwarder::services::Carriage;
use crate::engine::forwarder::sources::address_on;
use crate::engine::forwarder::{Forwarder, Outcome};
use crate::engine::route::NextHop;
use crate::engine::{DropReason, Punt, PuntQueue, PuntReason, Snapshot, Transmit};
use crate::flow::FlowKey;
use crate::slb::{Mode, TunnelPath};
use crate::time::Instant;
use crate::wire::emit::{HOP_LIMIT, Macs, Pair};
use crate::wire::fragment;
use crate::wire::frame::{ETHERNET_LEN, Frame, IPV4_LEN, quoted_tuple};
use crate::wire::icmp::{self, ErrorKind};
use crate::wire::offload::{GsoKind, Offload};
use crate::wire::tunnel::{self, Complaint, Outer, Refused};
use crate::wire::{Family, segment};

/// The smallest packet that IPv6 lets a sender count on (RFC 8200 section 5), and IPv4 (RFC 791 section 3.2).
const MTU_MIN: [u16; 2] = [68, 1280];

/// A tunnel as a packet of one family finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel<'s> {
    pair: Pair,
    path: &'s TunnelPath,
    /// The largest outer packet in bytes.
    path_mtu: u16,
    /// The largest packet that is taken in, in bytes.
    room: u16,
    /// IPv6 inside: the outer packet needs no fragmenting, ever.
    is_wide: bool,
}

impl<'s> Tunnel<'s> {
    /// The tunnel to a server, for packets of `inner`, by `hop`. `None` if the engine has no address for it there.
    fn of(inner: Family, carriage: Carriage, hop: NextHop, snapshot: &'s Snapshot, now: Instant) -> Option<Self> {
        let (_, server) = snapshot.services.server(carriage.service, carriage.server)?;
        let destination = server.address(inner)?;
        let outer = Family::of(destination);
        let link = &snapshot.links[hop.link.index()];
        let pair = Pair::new(address_on(link, outer)?, destination)?;
        let path = &server.state.tunnel;
        let path_mtu = path.mtu(outer, now).unwrap_or(link.mtu).min(link.mtu);
        let left = path_mtu.saturating_sub(tunnel::overhead(outer));
        let least = MTU_MIN[crate::slb::family_index(inner)];
        Some(Self { pair, path, path_mtu, room: left.max(least), is_wide: left >= least })
    }

    /// The header for one packet.
    fn outer(&self, frame: &Frame<'_>) -> Outer {
        let dont_fragment = match frame.family() {
            Family::V4 => frame.dont_fragment(),
            Family::V6 => self.is_wide,
        };
        Outer { pair: self.pair, dont_fragment, ident: if dont_fragment { 0 } else { self.path.next_ident() } }
    }
}

impl Forwarder {
    /// Packs the packet, in pieces if it has to be, and sends it toward `hop`.
    pub(super) fn send_in_tunnel(
        &mut self,
        leaving: Leaving<'_, '_>,
        carriage: Carriage,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Outcome {
        let Leaving { link: ingress, frame, vlan, offload, rewrite: _ } = leaving;
        let Some(tunnel) = Tunnel::of(frame.family(), carriage, hop, snapshot, now) else {
            return Outcome::Drop(DropReason::NoRoute);
        };
        let fit = fit(frame, offload, tunnel.room);
        if fit == Fit::TooBig {
            return Outcome::TooBig { mtu: tunnel.room };
        }
        let link = &snapshot.links[hop.link.index()];
        let station = snapshot.neighbor(hop.link, hop.address);
        let original = station.is_none().then(|| quote(frame));
        let sender = frame.source_mac();
        frame.decrement_ttl();
        let pieces = match pieces(frame, offload, fit, tunnel.room) {
            Ok(pieces) => pieces,
            Err(reason) => return Outcome::Drop(reason),
        };
        let macs = Macs { source: link.mac, destination: station.unwrap_or_default() };
        let mut packed = Packed { tunnel, macs, frames: std::mem::take(&mut self.packed) };
        match &pieces {
            None => packed.push(frame, frame.ip_bytes(), self.spare.pop()),
            Some(pieces) => {
                for piece in pieces {
                    packed.push(frame, &piece[ETHERNET_LEN..], self.spare.pop());
                }
            }
        }
        let mut frames = packed.frames;
        let vlan = link.egress_tag(*vlan);
        let outcome = match station {
            Some(_) if frames.len() > self.transmits_free() => {
                frames.clear();
                Outcome::Drop(DropReason::TransmitQueueFull)
            }
            Some(_) => {
                for bytes in frames.drain(..) {
                    self.transmit(Transmit { link: hop.link, vlan, offload: Offload::NONE, bytes });
                }
                Outcome::Replaced(hop.link)
            }
            None => {
                let reason = PuntReason::NeighborWait { link: hop.link, next_hop: hop.address, sender };
                let punt = |bytes| {
                    let original = original.clone();
                    Punt { reason, link: ingress, vlan, offload: Offload::NONE, bytes, original }
                };
                let refused = frames.drain(..).filter_map(|bytes| (!punts.offer(punt(bytes))).then_some(())).count();
                if refused > 0 { Outcome::Drop(DropReason::PuntQueueFull) } else { Outcome::Punted }
            }
        };
        self.packed = frames;
        outcome
    }

    /// An ICMP error about a packet of a tunnel: what it says of the path is remembered, and it is passed on to whoever sent
    /// the packet inside, in the engine's name (RFC 2003 section 4, RFC 2473 section 8).
    ///
    /// Where too little is quoted to tell whose that was, or no session knows of it, it is the controller's: it may be about
    /// a check.
    pub(super) fn tunnel_refused(
        &mut self,
        frame: &Frame<'_>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Outcome {
        let local = Outcome::Punt(PuntReason::Local);
        let Some(refused) = tunnel::refused(frame.family(), frame.transport_bytes()) else { return local };
        if refused.packer != frame.destination() {
            return Outcome::Drop(DropReason::IcmpMismatch);
        }
        if let Complaint::TooBig { mtu } = refused.complaint {
            for (service, server) in snapshot.services.tunnels_to(refused.unpacker) {
                if let Some((_, server)) = snapshot.services.server(*service, *server) {
                    server.state.tunnel.learn(Family::of(refused.unpacker), mtu, now);
                }
            }
        }
        self.relay(&refused, snapshot, punts, now).unwrap_or(local)
    }

    /// Tells the sender of the packet inside; `None` if there is nobody or nothing to tell.
    fn relay(
        &mut self,
        refused: &Refused<'_>,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Option<Outcome> {
        let family = match refused.packet.first()? >> 4 {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        let flow = FlowKey::from(quoted_tuple(refused.packet, family)?);
        let carriage = self.carriage_of(&flow, refused.unpacker, snapshot)?;
        let bytes = refused.packet.len();
        let claim =
            Claim { flow: flow.reversed(), role: Role::Follower, tcp: None, bytes, ttl: HOP_LIMIT, is_error: true };
        let Fate::Send { hop, rewrite: None } = self.fate(&claim, Arrival::Near, Addressee::Other, snapshot, now)
        else {
            return None;
        };
        let kind = match refused.complaint {
            Complaint::Unreachable => ErrorKind::HostUnreachable,
            Complaint::TooBig { mtu: _ } if family == Family::V4 && !has_df(refused.packet) => return None,
            Complaint::TooBig { mtu: _ } => {
                let tunnel = Tunnel::of(family, carriage, self.hop_to(refused.unpacker, snapshot)?, snapshot, now)?;
                ErrorKind::TooBig { mtu: tunnel.room }
            }
        };
        let link = &snapshot.links[hop.link.index()];
        let source = address_on(link, family).unwrap_or(flow.destination.address);
        let mut bytes = icmp::error(kind, &tunnel::as_frame(refused.packet)?, source, link.mac).ok()?;
        let mut error = Frame::parse(&mut bytes, &Offload::NONE).ok()?;
        let (mut vlan, mut offload) = (None, Offload::NONE);
        let leaving =
            Leaving { link: hop.link, frame: &mut error, vlan: &mut vlan, offload: &mut offload, rewrite: None };
        match self.send(leaving, hop, snapshot, punts, now) {
            Outcome::Sent(egress) => {
                let sent = self.transmit(Transmit { link: egress, vlan, offload, bytes });
                Some(if sent { Outcome::Replaced(egress) } else { Outcome::Drop(DropReason::TransmitQueueFull) })
            }
            Outcome::Waits { reason, original: _ } => {
                let offered = punts.offer(Punt { reason, link: hop.link, vlan, offload, bytes, original: None });
                Some(if offered { Outcome::Punted } else { Outcome::Drop(DropReason::PuntQueueFull) })
            }
            other @ (Outcome::Replaced(_) | Outcome::Punt(_) | Outcome::Punted | Outcome::Left | Outcome::Drop(_)) => {
                Some(other)
            }
            // The least that every link carries holds it.
            Outcome::TooBig { mtu: _ } => Some(Outcome::Drop(DropReason::TooBig)),
        }
    }

    /// The tunnel of a flow, if a session says that its packets go to `unpacker`.
    fn carriage_of(&self, flow: &FlowKey, unpacker: IpAddr, snapshot: &Snapshot) -> Option<Carriage> {
        let (key, _) = flow.canonical();
        let id = self.sessions.table().find(&key)?;
        let bound = self.sessions.table().update_bound(id, |_, _, bound| bound.copied())??;
        let (service, server) = snapshot.services.server(bound.service, bound.server)?;
        let is_meant = service.mode == Mode::Tunnel && server.address(flow.family()) == Some(unpacker);
        is_meant.then_some(Carriage { service: bound.service, server: bound.server })
    }

    fn hop_to(&self, unpacker: IpAddr, snapshot: &Snapshot) -> Option<NextHop> {
        super::reset::near_hop(unpacker, snapshot)
    }

    /// Takes back the buffer of a frame that [`Forwarder::poll_transmit`] gave, so that the next one needs no new one.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < Self::SPARE_MAX && bytes.capacity() <= Self::SPARE_BYTES_MAX {
            self.spare.push(bytes);
        }
    }
}

/// Outer packets in the making.
struct Packed<'s> {
    tunnel: Tunnel<'s>,
    macs: Macs,
    frames: Vec<Vec<u8>>,
}

impl Packed<'_> {
    /// Packs `packet`, which is `frame` or a piece of it, into `buffer`.
    fn push(&mut self, frame: &Frame<'_>, packet: &[u8], buffer: Option<Vec<u8>>) {
        let outer = self.tunnel.outer(frame);
        let mut bytes = buffer.unwrap_or_default();
        tunnel::wrap(&mut bytes, self.macs, &outer, packet);
        if bytes.len() <= ETHERNET_LEN + usize::from(self.tunnel.path_mtu) {
            self.frames.push(bytes);
            return;
        }
        let pieces = match self.tunnel.pair {
            Pair::V4(..) => Frame::parse(&mut bytes, &Offload::NONE)
                .ok()
                .and_then(|frame| fragment::split(&frame, None, self.tunnel.path_mtu).ok())
                .unwrap_or_default(),
            Pair::V6(..) => fragment::split_v6(&bytes, self.tunnel.path_mtu, u32::from(self.tunnel.path.next_ident())),
        };
        self.frames.extend(pieces);
    }
}

/// The packets that go into the tunnel, each in a frame of its own, where they are not the frame as it is. Whatever a device
/// was to do is done: none looks into a tunnel.
fn pieces(frame: &mut Frame<'_>, offload: &Offload, fit: Fit, room: u16) -> Result<Option<Vec<Vec<u8>>>, DropReason> {
    let cut = |frame: &Frame<'_>, mtu| egress::cut(frame, offload.partial, mtu).map(Some);
    let size = match (fit, offload.gso) {
        (Fit::Fragments, _) => return cut(frame, room),
        (Fit::Segmented, _) => return egress::segmented(frame, offload, room).map(Some),
        (Fit::Whole | Fit::TooBig, None) | (Fit::Segments(_), None) => {
            if let Some(partial) = offload.partial {
                frame.finish_checksum(partial).map_err(|_| DropReason::Transport)?;
            }
            return Ok(None);
        }
        (Fit::Segments(size), Some(_)) => size,
        (Fit::Whole | Fit::TooBig, Some(gso)) => gso.size,
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
