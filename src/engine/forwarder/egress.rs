//! How a packet leaves: its size against the link, TTL, hardware addresses, tag.

use crate::engine::forwarder::services::Carriage;
use crate::engine::forwarder::{Forwarder, Outcome};
use crate::engine::route::NextHop;
use crate::engine::{DropReason, Punt, PuntQueue, PuntReason, Snapshot, Transmit};
use crate::id::LinkId;
use crate::nat::{Translation, Way};
use crate::time::Instant;
use crate::wire::fragment::{self, SplitError};
use crate::wire::frame::{ETHERNET_LEN, Frame, UDP_LEN, Untranslatable};
use crate::wire::offload::{GsoKind, Offload, PartialChecksum};
use crate::wire::vlan::VlanTag;
use crate::wire::{MacAddr, segment};

/// A packet on its way out.
#[derive(Debug)]
pub(super) struct Leaving<'p, 'f> {
    /// The link that it came by.
    pub link: LinkId,
    /// The frame.
    pub frame: &'p mut Frame<'f>,
    /// Its tag: as received, then as sent.
    pub vlan: &'p mut Option<VlanTag>,
    /// What is left to the egress device.
    pub offload: &'p mut Offload,
    /// What a service changes of it.
    pub rewrite: Option<Rewrite>,
}

/// What a service changes of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rewrite {
    /// Addresses and ports.
    Translate(Translate),
    /// It goes inside another one.
    Pack(Carriage),
}

/// A change of addresses and ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translate {
    /// Both legs.
    pub translation: Translation,
    /// Which way the packet goes.
    pub way: Way,
    /// It is an ICMP error about the flow.
    pub is_error: bool,
}

impl Translate {
    pub(super) fn apply(&self, frame: &mut Frame<'_>, offload: &Offload) -> Result<(), Untranslatable> {
        if self.is_error {
            self.translation.apply_error(frame, offload, self.way)
        } else {
            self.translation.apply(frame, offload, self.way)
        }
    }
}

/// How a packet fits a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// As it is.
    Whole,
    /// As segments of at most so many payload bytes, fewer than it came with.
    Segments(u16),
    /// As the segments that it stands for, which are made here, and cut into IPv4 fragments where they have to be.
    Segmented,
    /// Cut into IPv4 fragments.
    Fragments,
    /// Not at all, and it must not be fragmented.
    TooBig,
}

/// Judges a packet against an MTU in bytes of IP. What the egress device is to segment is judged by its segments (A7.1).
pub(super) fn fit(frame: &Frame<'_>, offload: &Offload, mtu: u16) -> Fit {
    let can_cut = mtu >= FRAGMENT_MTU_MIN && !frame.dont_fragment();
    let cut = if can_cut { Fit::Fragments } else { Fit::TooBig };
    let mtu = usize::from(mtu);
    if let Some(gso) = offload.gso
        && segment::is_ours(frame, offload)
    {
        // What cannot be segmented is found out when it is tried.
        let largest = segment::ip_len(frame, offload.partial, gso.kind, gso.size).unwrap_or_default();
        return if largest <= mtu || cut == Fit::Fragments { Fit::Segmented } else { Fit::TooBig };
    }
    if frame.ip_len() <= mtu {
        return Fit::Whole;
    }
    let Some(gso) = offload.gso else { return cut };
    let ip_header = frame.transport_offset() - ETHERNET_LEN;
    let headers = match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => ip_header + tcp_header(frame),
        GsoKind::UdpSegments => ip_header + UDP_LEN,
        GsoKind::UdpFragments => ip_header,
    };
    if headers + usize::from(gso.size) <= mtu {
        return Fit::Whole;
    }
    match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 if frame.dont_fragment() => Fit::TooBig,
        GsoKind::Tcp4 | GsoKind::Tcp6 => match u16::try_from(mtu.saturating_sub(headers)) {
            Ok(size @ 1..) => Fit::Segments(size),
            Ok(0) | Err(_) => Fit::TooBig,
        },
        // The size of a datagram has a meaning, so its sender is told rather than its segments cut one by one.
        GsoKind::UdpSegments => Fit::TooBig,
        GsoKind::UdpFragments => cut,
    }
}

/// The longest IPv4 header and 8 bytes.
const FRAGMENT_MTU_MIN: u16 = 68;

fn tcp_header(frame: &Frame<'_>) -> usize {
    frame.transport_bytes().get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
}

impl Forwarder {
    /// Edits the packet to leave toward `hop`. A packet that cannot leave is not touched, so that its sender is shown what he
    /// sent.
    pub(super) fn send(
        &mut self,
        leaving: Leaving<'_, '_>,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
        now: Instant,
    ) -> Outcome {
        let link = &snapshot.links[hop.link.index()];
        if !link.up {
            return Outcome::Drop(DropReason::LinkDown);
        }
        let translate = match leaving.rewrite {
            Some(Rewrite::Pack(carriage)) => return self.send_in_tunnel(leaving, carriage, hop, snapshot, punts, now),
            Some(Rewrite::Translate(translate)) => Some(translate),
            None => None,
        };
        let fit = fit(leaving.frame, leaving.offload, link.mtu);
        if fit == Fit::TooBig {
            return Outcome::TooBig { mtu: link.mtu };
        }
        // Who is told that nobody answers knows the packet as it came (RFC 1812 section 4.3.2.3, RFC 5508 section 7).
        let is_changed = translate.is_some() && snapshot.neighbor(hop.link, hop.address).is_none();
        let original = is_changed.then(|| quote(leaving.frame));
        if let Some(translate) = translate
            && let Err(_) = translate.apply(leaving.frame, leaving.offload)
        {
            return Outcome::Drop(DropReason::Untranslatable);
        }
        match fit {
            Fit::Whole => edit(leaving.frame, leaving.vlan, hop, snapshot).outcome(original),
            Fit::Segments(size) => {
                if let Some(gso) = &mut leaving.offload.gso {
                    gso.size = size;
                }
                edit(leaving.frame, leaving.vlan, hop, snapshot).outcome(original)
            }
            Fit::Fragments | Fit::Segmented => self.send_pieces(leaving, fit, original, hop, snapshot, punts),
            Fit::TooBig => Outcome::TooBig { mtu: link.mtu },
        }
    }

    /// Sends a packet as its fragments or its segments. They leave as frames of the engine's own, or wait for the neighbour one
    /// by one.
    fn send_pieces(
        &mut self,
        leaving: Leaving<'_, '_>,
        fit: Fit,
        original: Option<Vec<u8>>,
        hop: NextHop,
        snapshot: &Snapshot,
        punts: &mut dyn PuntQueue,
    ) -> Outcome {
        let Leaving { link: ingress, frame, vlan, offload, rewrite: _ } = leaving;
        let edited = edit(frame, vlan, hop, snapshot);
        let mtu = snapshot.links[hop.link.index()].mtu;
        let pieces =
            if fit == Fit::Segmented { segmented(frame, offload, mtu) } else { cut(frame, offload.partial, mtu) };
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(reason) => return Outcome::Drop(reason),
        };
        let (vlan, offload) = (*vlan, Offload::NONE);
        match edited {
            Edited::Waits(reason) => {
                let offered = pieces.into_iter().map(|bytes| {
                    let original = original.clone();
                    Punt { reason, link: ingress, vlan, offload, bytes, original }
                });
                let refused = offered.filter_map(|punt| (!punts.offer(punt)).then_some(())).count();
                if refused > 0 { Outcome::Drop(DropReason::PuntQueueFull) } else { Outcome::Punted }
            }
            Edited::Ready(egress) if pieces.len() <= self.transmits_free() => {
                for bytes in pieces {
                    self.transmit(Transmit { link: egress, vlan, offload, bytes });
                }
                Outcome::Replaced(egress)
            }
            Edited::Ready(_) => Outcome::Drop(DropReason::TransmitQueueFull),
        }
    }
}

/// The IPv4 fragments of a packet.
pub(super) fn cut(frame: &Frame<'_>, partial: Option<PartialChecksum>, mtu: u16) -> Result<Vec<Vec<u8>>, DropReason> {
    fragment::split(frame, partial, mtu).map_err(|refused| match refused {
        SplitError::Checksum(_) => DropReason::Transport,
        SplitError::DontFragment | SplitError::MtuTooSmall { .. } => DropReason::TooBig,
    })
}

/// The segments of a super-frame that are made here, each cut if it is larger than `mtu` bytes of IP.
pub(super) fn segmented(frame: &Frame<'_>, offload: &Offload, mtu: u16) -> Result<Vec<Vec<u8>>, DropReason> {
    let gso = offload.gso.ok_or(DropReason::NotSegmentable)?;
    let segments =
        segment::segments(frame, offload.partial, gso.kind, gso.size).map_err(|_| DropReason::NotSegmentable)?;
    if segments.iter().all(|segment| segment.len() <= ETHERNET_LEN + usize::from(mtu)) {
        return Ok(segments);
    }
    let mut pieces = Vec::with_capacity(2 * segments.len());
    for mut segment in segments {
        let segment = Frame::parse(&mut segment, &Offload::NONE).map_err(|_| DropReason::NotSegmentable)?;
        pieces.extend(cut(&segment, None, mtu)?);
    }
    Ok(pieces)
}

/// Whether an edited frame can leave.
#[derive(Debug, Clone, Copy)]
enum Edited {
    /// By this link.
    Ready(LinkId),
    /// Its neighbour is to be resolved first.
    Waits(PuntReason),
}

impl Edited {
    /// `original` is the packet as it came, if it was changed and waits.
    fn outcome(self, original: Option<Vec<u8>>) -> Outcome {
        match self {
            Self::Ready(link) => Outcome::Sent(link),
            Self::Waits(reason) => Outcome::Waits { reason, original },
        }
    }
}

/// As much of a frame as an ICMP error quotes.
pub(super) fn quote(frame: &Frame<'_>) -> Vec<u8> {
    let end = (ETHERNET_LEN + frame.ip_len()).min(Forwarder::QUOTE_MAX);
    frame.bytes()[..end].to_vec()
}

/// One hop nearer, under the addresses of this hop.
fn edit(frame: &mut Frame<'_>, vlan: &mut Option<VlanTag>, hop: NextHop, snapshot: &Snapshot) -> Edited {
    let link = &snapshot.links[hop.link.index()];
    let sender = frame.source_mac();
    frame.decrement_ttl();
    *vlan = link.egress_tag(*vlan);
    match snapshot.neighbor(hop.link, hop.address) {
        Some(mac) => {
            frame.set_macs(link.mac, mac);
            Edited::Ready(hop.link)
        }
        None => {
            frame.set_macs(link.mac, MacAddr::default());
            Edited::Waits(PuntReason::NeighborWait { link: hop.link, next_hop: hop.address, sender })
        }
    }
}
