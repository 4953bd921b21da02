//! The short path of most packets: they belong to a known session, and change neither its pins nor its state.
//!
//! Such a packet is checked as `Forwarder::handle` would check it, by the same functions, but checks that cannot fail
//! here are left out, and nothing is prepared that only other packets need. Any other packet is left to `handle`
//! unchanged. With a capture all packets take the long path. Both paths give the same result, which the tests compare.
//!
//! Before the first packet of a batch is decided, the session table entries of all its packets are prefetched into the
//! CPU cache. Prefetching depends on packets and snapshot only, so that the order of decisions is the order of arrival.

use std::hint::black_box;
use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{self, Arrival, RouteStep};
use crate::engine::forwarder::egress::{self, NatRewrite};
use crate::engine::forwarder::ingress::{self, Addressee};
use crate::engine::forwarder::packet_flow::PacketFlow;
use crate::engine::forwarder::services::{self, ServerLiveness, ServiceAction};
use crate::engine::shared_role::Permission;
use crate::engine::{Batch, DropReason, Packet, Snapshot};
use crate::flow::{Direction, FlowKey};
use crate::id::{FirewallId, LinkId};
use crate::path::pinning::{self, PacketKind};
use crate::session::{HashedKey, LockedSession, SessionTable};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::frame::{ETHERNET_LEN, Frame, FrameKind, protocol};

/// A packet that may belong to a known session, with everything that follows from the packet itself.
#[derive(Debug)]
pub(super) struct FastPathPacket<'f> {
    /// The parsed frame; `None` after it was sent or left to `handle`.
    frame: Option<Frame<'f>>,
    pub(super) link: LinkId,
    arrival: Arrival,
    direction: Direction,
    /// True if it is addressed to the engine, so that it must belong to a translated session.
    is_to_engine: bool,
    key: HashedKey,
}

/// The packets of a batch that may take the short path, by their position in the batch.
pub(super) type FastPathBatch<'f> = ArrayVec<Option<FastPathPacket<'f>>, { Batch::CAPACITY }>;

/// Where a packet is sent, and at which counters it is counted.
#[derive(Debug)]
struct FastPathHit {
    egress: LinkId,
    neighbor: MacAddr,
    /// The firewall that it is sent to.
    onward: Option<FirewallId>,
    service: Option<ServiceAction>,
}

impl Forwarder {
    /// Parses the packets of a batch and prefetches their sessions. The bytes of packets that may take the short path
    /// move to `all`. It is for an engine that may forward packets.
    pub(super) fn parse_and_prefetch<'f>(
        &self,
        batch: &mut Batch<'f>,
        all: &mut FastPathBatch<'f>,
        snapshot: &Snapshot,
    ) {
        let table = self.sessions.table();
        all.extend(batch.packets.iter_mut().map(|packet| FastPathPacket::of(packet, table, snapshot)));
        let near = all.iter().flatten().fold(0, |near, ready| near ^ table.prefetch(&ready.key));
        black_box(near);
        let near = all.iter().flatten().fold(0, |near, ready| near ^ table.prefetch_session(&ready.key));
        black_box(near);
    }

    /// Sends a packet if the short path can, and returns the link that it leaves on, or why it is dropped. With `None`
    /// the packet is unchanged and must be handled by `handle`.
    #[inline]
    pub(super) fn try_fast_path<'f>(
        &mut self,
        ready: &mut FastPathPacket<'f>,
        packet: &mut Packet<'f>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<Result<LinkId, DropReason>> {
        let mut frame = ready.frame.take()?;
        let table = self.sessions.table();
        let mut hit = None;
        if let Some(id) = table.search(&ready.key) {
            table.with_locked(id, |live| hit = ready.resolve(&frame, live, snapshot, now));
        }
        let Some(FastPathHit { egress, neighbor, onward, service }) = &hit else {
            packet.bytes = frame.into_bytes();
            return None;
        };
        let length = frame.ip_len();
        let from = match ready.arrival {
            Arrival::Near => None,
            Arrival::Firewall(from) => Some(from),
        };
        self.count_traffic(length, [from, *onward], service.as_ref());
        let translate = service.as_ref().and_then(|service| NatRewrite::of(service, false));
        let translated = translate.map(|translate| translate.apply(&mut frame, &packet.offload));
        let sent = match translated {
            Some(Err(_)) => Err(DropReason::Untranslatable),
            Some(Ok(())) | None => {
                let link = &snapshot.links[egress.index()];
                egress::forward_to(&mut frame, &mut packet.vlan, link, *neighbor, self.permission);
                Ok(*egress)
            }
        };
        // Bytes behind the IP packet are padding of the ingress link (rule A1.3 of `docs/protocols.md`).
        packet.bytes = &mut frame.into_bytes()[..ETHERNET_LEN + length];
        Some(sent)
    }
}

/// Where a TCP or UDP packet came from, its flow, and whether it is addressed to the engine; `None` if it needs the
/// long path.
#[inline]
fn classify(frame: &Frame<'_>, link: LinkId, snapshot: &Snapshot) -> Option<(Arrival, FlowKey, bool)> {
    let is_plain = frame.kind() == FrameKind::Ip
        && !frame.is_fragment()
        && matches!(frame.protocol(), protocol::TCP | protocol::UDP)
        && frame.ttl() > 1
        && !frame.destination_mac().is_multicast()
        && ingress::mac_fault(frame, &snapshot.links[link.index()], Permission::Router).is_none();
    if !is_plain {
        return None;
    }
    let flow = FlowKey::from(frame.tuple());
    let is_to_engine = match ingress::classify_addresses(&flow, snapshot) {
        Ok(Addressee::Engine) => true,
        Ok(Addressee::Service | Addressee::Other) => false,
        Err(_) => return None,
    };
    Some((ingress::arrived_from(frame, link, snapshot)?, flow, is_to_engine))
}

impl<'f> FastPathPacket<'f> {
    /// Parses a packet. `None` if it needs the long path, and then it is unchanged.
    #[inline]
    fn of(packet: &mut Packet<'f>, table: &SessionTable, snapshot: &Snapshot) -> Option<Self> {
        // A GSO frame exceeds every MTU, or must be segmented in software.
        let link = match (packet.verdict, packet.offload.gso) {
            (None, None) => ingress::link_of(packet, snapshot)?,
            (Some(_), _) | (_, Some(_)) => return None,
        };
        let frame = match Frame::parse_or_return(std::mem::take(&mut packet.bytes), &packet.offload) {
            Ok(frame) => frame,
            Err(bytes) => {
                packet.bytes = bytes;
                return None;
            }
        };
        let Some((arrival, flow, is_to_engine)) = classify(&frame, link, snapshot) else {
            packet.bytes = frame.into_bytes();
            return None;
        };
        let (key, direction) = flow.canonical();
        let wanted = table.hashed(&key);
        Some(Self { frame: Some(frame), link, arrival, direction, is_to_engine, key: wanted })
    }

    /// Length of the frame in bytes, as received.
    pub(super) fn length(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.bytes().len())
    }

    /// Where the packet is sent, if its session stays as it is. The session counts the packet then.
    #[inline]
    fn resolve(
        &self,
        frame: &Frame<'_>,
        live: &LockedSession<'_>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<FastPathHit> {
        let tcp = frame.tcp();
        let kind = PacketFlow::kind_of(tcp.as_ref());
        let (direction, toward, service) = self.service_action(frame, live, kind, snapshot)?;
        let (onward_pin, back_pin) = (live.pin_toward(direction), live.pin_toward(direction.reversed()));
        let is_in_force = |pin| decide::is_in_force(pin, snapshot);
        if !onward_pin.as_ref().is_none_or(is_in_force) || !back_pin.as_ref().is_none_or(is_in_force) {
            return None;
        }
        let (hop, onward) = match &onward_pin {
            Some(pin) => {
                let set = &snapshot.path_sets[pin.set.index()];
                let group = &snapshot.groups[set.group.index()];
                let pin = pinning::decide_near_steady(pin, kind, tcp.is_some(), group, set, now)?;
                (decide::firewall_hop(pin.firewall, set.family, snapshot)?, Some((pin, set.group)))
            }
            None => match decide::routed_step(toward, snapshot) {
                Ok(RouteStep::Neighbor(hop)) => (hop, None),
                Ok(RouteStep::ThroughGroup(_)) | Err(_) => return None,
            },
        };
        let back = match (self.arrival, &back_pin) {
            (Arrival::Near, _) => None,
            (Arrival::Firewall(_), None) => return None,
            (Arrival::Firewall(from), Some(pin)) => {
                let group = snapshot.firewalls[from.index()].group;
                if onward.is_some_and(|(_, onward)| onward == group) {
                    return None;
                }
                Some(decide::far_steady(pin, from, kind, snapshot)?)
            }
        };
        let link = &snapshot.links[hop.link.index()];
        if !link.up || frame.ip_len() > usize::from(link.mtu) {
            return None;
        }
        let neighbor = snapshot.neighbor(hop.link, hop.address)?;
        if !live.count_packet(direction, tcp.as_ref(), frame.ip_len(), now) {
            return None;
        }
        // The packet to a firewall may be the first that waits for its answer; otherwise the pin stays as it is.
        if let (Some((pin, _)), Some(before)) = (&onward, &onward_pin)
            && pin.is_unanswered() != before.is_unanswered()
        {
            live.set_pin_toward(direction, pin);
        }
        if let Some(pin) = &back
            && back_pin.as_ref() != Some(pin)
        {
            live.set_pin_toward(direction.reversed(), pin);
        }
        let onward = onward.map(|(pin, _)| pin.firewall);
        Some(FastPathHit { egress: hop.link, neighbor, onward, service })
    }

    /// The direction of the packet in its session, the address that its route is looked up for, and what the service
    /// does to it.
    #[inline]
    fn service_action(
        &self,
        frame: &Frame<'_>,
        live: &LockedSession<'_>,
        kind: PacketKind,
        snapshot: &Snapshot,
    ) -> Option<(Direction, IpAddr, Option<ServiceAction>)> {
        let Some(bound) = live.placement() else {
            let plain = (self.direction, frame.destination(), None);
            return (!self.is_to_engine).then_some(plain);
        };
        // A packet to a server of mode `direct` or `tunnel` is routed differently and needs the long path.
        bound.inside?;
        let key = live.key();
        let (routed, service) = services::routed_flow(
            frame.tuple().into(),
            &key,
            live.original_direction(),
            &bound,
            self.arrival,
            kind,
            snapshot,
        )?;
        match services::server_liveness(&bound, &key, live.class(), snapshot) {
            ServerLiveness::Serves => Some((routed.direction, routed.route_to, Some(service))),
            ServerLiveness::Failed(_) => None,
        }
    }
}
