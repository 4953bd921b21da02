//! Prepares packets for sending: size against the MTU, translation, TTL, MAC addresses, VLAN tag.

use crate::engine::forwarder::services::ServiceAction;
use crate::engine::forwarder::{Forwarder, PacketOutcome};
use crate::engine::route::NextHop;
use crate::engine::shared_role::Permission;
use crate::engine::snapshot::Link;
use crate::engine::{DropReason, Punt, PuntQueue, PuntReason, Snapshot, Transmit};
use crate::id::LinkId;
use crate::nat::{NatDirection, Translation};
use crate::time::Instant;
use crate::wire::fragment::{self, SplitError};
use crate::wire::frame::{ETHERNET_LEN, Frame, UDP_LEN, Untranslatable};
use crate::wire::offload::{GsoKind, Offload, PartialChecksum};
use crate::wire::vlan::VlanTag;
use crate::wire::{MacAddr, segment};

/// A packet that is about to be sent.
#[derive(Debug)]
pub(super) struct EgressPacket<'p, 'f> {
    /// The link that it was received on.
    pub link: LinkId,
    /// The frame.
    pub frame: &'p mut Frame<'f>,
    /// Its outer tag: as received before, as sent after [`Forwarder::send`].
    pub vlan: &'p mut Option<VlanTag>,
    /// Checksum and segmentation that are left to the egress device.
    pub offload: &'p mut Offload,
    /// What the service of its session does to it.
    pub service: Option<ServiceAction>,
    /// True for an ICMP error about a packet of its session.
    pub is_error: bool,
}

/// A translation of addresses and ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct NatRewrite {
    /// The flow on both sides of the translation.
    pub translation: Translation,
    /// The direction of the packet: toward the server or toward the client.
    pub direction: NatDirection,
    /// True for an ICMP error, in which the quoted packet is translated too.
    pub is_error: bool,
}

impl NatRewrite {
    /// The change of a packet's addresses and ports by `action`; `None` if it is not translated. In an ICMP error the
    /// quoted packet is translated too.
    #[inline]
    pub(super) fn of(action: &ServiceAction, is_error: bool) -> Option<Self> {
        Some(Self { translation: action.translation?, direction: action.direction, is_error })
    }

    pub(super) fn apply(&self, frame: &mut Frame<'_>, offload: &Offload) -> Result<(), Untranslatable> {
        if self.is_error {
            self.translation.apply_to_icmp_error(frame, offload, self.direction)
        } else {
            self.translation.apply(frame, offload, self.direction)
        }
    }
}

/// How a packet fits the MTU of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MtuFit {
    /// It fits as it is.
    Fits,
    /// The device is to make smaller segments of it, with at most this many bytes of payload each.
    DeviceSegments(u16),
    /// It is segmented in software, and segments that exceed the MTU are cut into IPv4 fragments.
    SoftwareSegments,
    /// It is cut into IPv4 fragments.
    Fragments,
    /// It does not fit and must not be fragmented.
    TooBig,
}

/// Compares a packet with an MTU in bytes. A packet that the device segments is judged by its segments (rule A7.1 of
/// `docs/protocols.md`).
pub(super) fn fit(frame: &Frame<'_>, offload: &Offload, mtu: u16) -> MtuFit {
    let can_cut = mtu >= FRAGMENT_MTU_MIN && !frame.dont_fragment();
    let cut = if can_cut { MtuFit::Fragments } else { MtuFit::TooBig };
    let mtu = usize::from(mtu);
    if let Some(gso) = offload.gso
        && segment::needs_software_segmentation(frame, offload)
    {
        // Whether it can be segmented at all shows when that is tried.
        let largest = segment::largest_segment_len(frame, offload.partial, gso.kind, gso.size).unwrap_or_default();
        return if largest <= mtu || cut == MtuFit::Fragments { MtuFit::SoftwareSegments } else { MtuFit::TooBig };
    }
    if frame.ip_len() <= mtu {
        return MtuFit::Fits;
    }
    let Some(gso) = offload.gso else { return cut };
    let ip_header = frame.transport_offset() - ETHERNET_LEN;
    let headers = match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => ip_header + tcp_header(frame),
        GsoKind::UdpSegments => ip_header + UDP_LEN,
        GsoKind::UdpFragments => ip_header,
    };
    if headers + usize::from(gso.size) <= mtu {
        return MtuFit::Fits;
    }
    match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 if frame.dont_fragment() => MtuFit::TooBig,
        GsoKind::Tcp4 | GsoKind::Tcp6 => match u16::try_from(mtu.saturating_sub(headers)) {
            Ok(size @ 1..) => MtuFit::DeviceSegments(size),
            Ok(0) | Err(_) => MtuFit::TooBig,
        },
        // The size of a datagram has a meaning: its sender gets an ICMP error, and the datagrams are not fragmented.
        GsoKind::UdpSegments => MtuFit::TooBig,
        GsoKind::UdpFragments => cut,
    }
}

/// The smallest MTU for IPv4 fragments: the longest header and 8 bytes (RFC 791 section 3.2).
const FRAGMENT_MTU_MIN: u16 = 68;

fn tcp_header(frame: &Frame<'_>) -> usize {
    frame.transport_bytes().get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
}

impl Forwarder {
    /// Edits a packet to be sent to `hop`. A packet that cannot be sent is left as it is, so that an ICMP error quotes
    /// what its sender sent.
    pub(super) fn send(
        &mut self,
        leaving: EgressPacket<'_, '_>,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> PacketOutcome {
        let link = &snapshot.links[hop.link.index()];
        if !link.up {
            return PacketOutcome::Drop(DropReason::LinkDown);
        }
        let service = leaving.service.as_ref();
        if let Some(tunnel) = service.and_then(|service| service.tunnel) {
            return self.send_in_tunnel(leaving, tunnel, hop, snapshot, punts, now);
        }
        let translate = service.and_then(|service| NatRewrite::of(service, leaving.is_error));
        let fit = fit(leaving.frame, leaving.offload, link.mtu);
        if fit == MtuFit::TooBig {
            return PacketOutcome::TooBig { mtu: link.mtu };
        }
        // An ICMP error about an unresolved next hop quotes the packet as it was received (RFC 1812 section 4.3.2.3,
        // RFC 5508 section 7).
        let is_changed = translate.is_some() && snapshot.neighbor(hop.link, hop.address).is_none();
        let original = is_changed.then(|| icmp_quote(leaving.frame));
        if let Some(translate) = translate
            && let Err(_) = translate.apply(leaving.frame, leaving.offload)
        {
            return PacketOutcome::Drop(DropReason::Untranslatable);
        }
        match fit {
            MtuFit::Fits => edited_outcome(edit(leaving.frame, leaving.vlan, hop, snapshot, self.permission), original),
            MtuFit::DeviceSegments(size) => {
                if let Some(gso) = &mut leaving.offload.gso {
                    gso.size = size;
                }
                edited_outcome(edit(leaving.frame, leaving.vlan, hop, snapshot, self.permission), original)
            }
            MtuFit::Fragments | MtuFit::SoftwareSegments => {
                self.send_pieces(leaving, fit, original, hop, snapshot, punts)
            }
            MtuFit::TooBig => PacketOutcome::TooBig { mtu: link.mtu },
        }
    }

    /// Sends a packet as fragments or segments. They are queued as frames to send, or each waits for the neighbour.
    fn send_pieces(
        &mut self,
        leaving: EgressPacket<'_, '_>,
        fit: MtuFit,
        original: Option<Vec<u8>>,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
    ) -> PacketOutcome {
        let EgressPacket { link: ingress, frame, vlan, offload, .. } = leaving;
        let edited = edit(frame, vlan, hop, snapshot, self.permission);
        let mtu = snapshot.links[hop.link.index()].mtu;
        let pieces = if fit == MtuFit::SoftwareSegments {
            segment_in_software(frame, offload, mtu)
        } else {
            fragment_v4(frame, offload.partial, mtu)
        };
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(reason) => return PacketOutcome::Drop(reason),
        };
        let (vlan, offload) = (*vlan, Offload::NONE);
        match edited {
            Err(reason) => {
                let offered = pieces.into_iter().map(|bytes| {
                    let original = original.clone();
                    Punt { reason, link: ingress, vlan, offload, bytes, original }
                });
                let refused = offered.filter_map(|punt| (!punts.offer(punt)).then_some(())).count();
                if refused > 0 { PacketOutcome::Drop(DropReason::PuntQueueFull) } else { PacketOutcome::Punted }
            }
            Ok(egress) if pieces.len() <= self.transmits_free() => {
                for bytes in pieces {
                    self.transmit(Transmit { link: egress, vlan, offload, bytes });
                }
                PacketOutcome::Replaced(egress)
            }
            Ok(_) => PacketOutcome::Drop(DropReason::TransmitQueueFull),
        }
    }
}

/// The IPv4 fragments of a packet as frames.
pub(super) fn fragment_v4(
    frame: &Frame<'_>,
    partial: Option<PartialChecksum>,
    mtu: u16,
) -> Result<Vec<Vec<u8>>, DropReason> {
    fragment::split(frame, partial, mtu).map_err(|refused| match refused {
        SplitError::Checksum(_) => DropReason::Transport,
        SplitError::DontFragment | SplitError::MtuTooSmall { .. } => DropReason::TooBig,
    })
}

/// The segments of a GSO frame, made in software. Segments of more than `mtu` bytes of IP are cut into fragments.
pub(super) fn segment_in_software(frame: &Frame<'_>, offload: &Offload, mtu: u16) -> Result<Vec<Vec<u8>>, DropReason> {
    let gso = offload.gso.ok_or(DropReason::NotSegmentable)?;
    let segments =
        segment::segments(frame, offload.partial, gso.kind, gso.size).map_err(|_| DropReason::NotSegmentable)?;
    if segments.iter().all(|segment| segment.len() <= ETHERNET_LEN + usize::from(mtu)) {
        return Ok(segments);
    }
    let mut pieces = Vec::with_capacity(2 * segments.len());
    for mut segment in segments {
        let segment = Frame::parse(&mut segment, &Offload::NONE).map_err(|_| DropReason::NotSegmentable)?;
        pieces.extend(fragment_v4(&segment, None, mtu)?);
    }
    Ok(pieces)
}

/// The outcome for a frame that [`edit`] edited. `original` is the packet as it was received, if it was changed and
/// waits.
fn edited_outcome(edited: Result<LinkId, PuntReason>, original: Option<Vec<u8>>) -> PacketOutcome {
    match edited {
        Ok(link) => PacketOutcome::Sent(link),
        Err(reason) => PacketOutcome::Waits { reason, original },
    }
}

/// The part of a frame that an ICMP error quotes.
pub(super) fn icmp_quote(frame: &Frame<'_>) -> Vec<u8> {
    let end = (ETHERNET_LEN + frame.ip_len()).min(Forwarder::QUOTE_MAX);
    frame.bytes()[..end].to_vec()
}

/// Edits a frame that a router forwards: TTL, VLAN tag of the egress link, and MAC addresses.
#[inline]
pub(super) fn forward_to(
    frame: &mut Frame<'_>,
    vlan: &mut Option<VlanTag>,
    link: &Link,
    neighbor: MacAddr,
    permission: Permission,
) {
    frame.decrement_ttl();
    *vlan = link.egress_tag(*vlan);
    frame.set_macs(link.source_mac(frame.family(), permission), neighbor);
}

/// Edits a frame for the next hop: TTL, VLAN tag and MAC addresses. Returns the link that it leaves on; `Err` if the
/// MAC address of the next hop must be resolved first.
fn edit(
    frame: &mut Frame<'_>,
    vlan: &mut Option<VlanTag>,
    hop: NextHop,
    snapshot: &Snapshot,
    permission: Permission,
) -> Result<LinkId, PuntReason> {
    let link = &snapshot.links[hop.link.index()];
    let sender = frame.source_mac();
    let neighbor = snapshot.neighbor(hop.link, hop.address);
    forward_to(frame, vlan, link, neighbor.unwrap_or_default(), permission);
    match neighbor {
        Some(_) => Ok(hop.link),
        None => Err(PuntReason::NeighborWait { link: hop.link, next_hop: hop.address, sender }),
    }
}
