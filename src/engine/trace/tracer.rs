//! Follows one frame after the other through the engine for the captures of one thread.

use crate::engine::trace::filter::{FilterIds, FilterInput};
use crate::engine::trace::{CapturedFrame, FrameContext, FrameEvent, SessionCopy, Tap};
use crate::engine::{Packet, PuntReason, Snapshot, Transmit, Verdict};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::{Removed, SessionTable};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::frame::{Frame, FrameKind, IcmpClass};
use crate::wire::offload::Offload;
use crate::wire::pcapng::CaptureDirection;
use crate::wire::vlan::VlanTag;

/// The captures of one thread, and what is known about the current frame.
#[derive(Debug, Default)]
pub struct FrameTracer {
    taps: Vec<TapState>,
    /// The epoch of the snapshot by which the names of the filters were resolved.
    epoch: Option<u64>,
    now: Instant,
    current: Option<CurrentFrame>,
}

#[derive(Debug)]
struct TapState {
    tap: Tap,
    ids: FilterIds,
    /// Whether this capture wants the current frame.
    wanted: bool,
    /// The current frame as it was received.
    received_copy: Option<FrameCopy>,
    /// Frames that were sent because of the current frame, before its verdict was known.
    sent_before_verdict: Vec<CapturedFrame>,
}

/// What is known about the current frame as soon as its flow is.
#[derive(Debug, Clone, Copy)]
struct CurrentFrame {
    /// The link that it was received on; `None` for a frame of the engine's own.
    link: Option<LinkId>,
    from: Option<FirewallId>,
    session: Option<SessionCopy>,
}

/// A frame on a link with its metadata.
#[derive(Debug, Clone, Copy)]
pub struct FrameOnLink<'a> {
    /// The link that it was received on, or is sent on.
    pub link: LinkId,
    /// Its outer 802.1Q tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation that are left to a device.
    pub offload: Offload,
    /// The frame without its outer tag.
    pub bytes: &'a [u8],
}

/// What the forwarder knows about a frame once it has found its flow.
#[derive(Debug, Clone, Copy)]
pub struct FlowFound {
    /// The flow in the direction of the packet.
    pub flow: FlowKey,
    /// The firewall that the frame came from.
    pub from: Option<FirewallId>,
    /// Both legs of the flow, if the packet is translated.
    pub legs: Option<[FlowKey; 2]>,
    /// True if the packet leaves untranslated: its session has one leg only.
    pub is_untranslated: bool,
    /// True for a fragment that was held. It was shown when it was received, except to captures that ask for ports,
    /// which the fragment itself does not have: they get it now.
    pub was_held: bool,
}

/// The verdict about a received frame.
#[derive(Debug, Clone, Copy)]
pub struct VerdictReached {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the controller got it; `None` if it did not.
    pub punt: Option<PuntReason>,
    /// The link on which it, or its pieces, are sent.
    pub egress: Option<LinkId>,
}

#[derive(Debug)]
struct FrameCopy {
    vlan: Option<VlanTag>,
    offload: Offload,
    length: usize,
    bytes: Vec<u8>,
}

impl FrameTracer {
    /// Replaces the captures.
    pub fn set_taps(&mut self, taps: Vec<Tap>) {
        let watching = |tap| TapState {
            tap,
            ids: FilterIds::default(),
            wanted: false,
            received_copy: None,
            sent_before_verdict: Vec::new(),
        };
        self.taps = taps.into_iter().map(watching).collect();
        self.epoch = None;
        self.current = None;
    }

    /// True if there is a capture.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Begins a batch of frames that are processed at the time `now`.
    pub fn begin_batch(&mut self, snapshot: &Snapshot, now: Instant) {
        self.now = now;
        self.end_frame();
        if self.is_on() && self.epoch != Some(snapshot.epoch) {
            self.epoch = Some(snapshot.epoch);
            self.taps.iter_mut().for_each(|one| one.ids = one.tap.filter.resolve(snapshot));
        }
    }

    /// Called when the flow of a received frame is known, and before the frame is edited: a wanted frame is copied
    /// here.
    pub fn flow_found(&mut self, frame: FrameOnLink<'_>, claimed: FlowFound, table: &SessionTable) {
        let FlowFound { flow, from, legs, is_untranslated: plain, was_held: held } = claimed;
        let quick = FilterInput { flow: Some(flow), legs, firewalls: [from, None], session: None };
        let is_of_interest = (!plain && legs.is_none()) || self.taps.iter().any(|one| one.tap.filter.may_match(&quick));
        let session = if is_of_interest { session_copy(table, &flow) } else { None };
        self.current = Some(CurrentFrame { link: Some(frame.link), from, session });
        let subject = FilterInput { session: session.as_ref(), ..quick };
        let shown = without_ports(flow);
        let shown = FilterInput { flow: Some(shown), firewalls: [from, None], ..FilterInput::default() };
        for one in &mut self.taps {
            one.wanted = is_of_interest && one.tap.filter.matches(&subject, &one.ids);
            let is_new = !held || !one.tap.filter.matches(&shown, &one.ids);
            one.received_copy = if one.wanted && is_new { one.copy_received(frame) } else { None };
        }
    }

    /// Called when a received frame has its verdict. A frame that is sent was edited by then, and [`Self::frame_sent`]
    /// is called for it next.
    pub fn verdict_reached(
        &mut self,
        link: LinkId,
        packet: &mut Packet<'_>,
        decided: VerdictReached,
        table: &SessionTable,
        snapshot: &Snapshot,
    ) {
        let VerdictReached { verdict, punt, egress } = decided;
        let Packet { device: _, vlan, offload, bytes, verdict: _ } = packet;
        let is_held = self.current.is_none() && verdict == Verdict::Punted && punt.is_none();
        let part = if is_held { FrameEvent::Held } else { FrameEvent::Decided { verdict, punt } };
        if self.current.is_none() {
            let from = mac_at(bytes, 6).and_then(|source| snapshot.firewall_at(link, source));
            let flow = flow_of(bytes, offload);
            let session = flow.and_then(|flow| session_copy(table, &flow));
            self.current = Some(CurrentFrame { link: Some(link), from, session });
            let subject = FilterInput { flow, legs: None, firewalls: [from, None], session: session.as_ref() };
            for one in &mut self.taps {
                one.wanted = one.tap.filter.wants_event(part) && one.tap.filter.matches(&subject, &one.ids);
                let seen = FrameOnLink { link, vlan: *vlan, offload: *offload, bytes };
                one.received_copy = if one.wanted { one.copy_received(seen) } else { None };
            }
        }
        let Some(CurrentFrame { link: _, from, session }) = self.current else { return };
        let to = egress.zip(mac_at(bytes, 0)).and_then(|(egress, to)| snapshot.firewall_at(egress, to));
        for one in &mut self.taps {
            if let Some(FrameCopy { vlan, offload, length, bytes }) = one.received_copy.take()
                && one.wants_received(part, link)
            {
                let story = FrameContext { event: part, from, to, session };
                let direction = CaptureDirection::Inbound;
                one.tap.sink.put(CapturedFrame {
                    at: self.now,
                    link,
                    direction,
                    vlan,
                    offload,
                    length,
                    bytes,
                    context: story,
                });
            }
            one.sent_before_verdict.drain(..).for_each(|sighting| one.tap.sink.put(sighting));
        }
    }

    /// Called when a session has ended, before frames about it are sent.
    pub fn session_ended(&mut self, ended: &Removed) {
        let session = SessionCopy {
            flow: ended.key.in_direction(ended.session.original_direction),
            session: ended.session,
            bound: ended.placement,
        };
        let subject = FilterInput { flow: Some(session.flow), session: Some(&session), ..FilterInput::default() };
        for one in &mut self.taps {
            one.wanted = one.tap.filter.wants_sent() && one.tap.filter.matches(&subject, &one.ids);
        }
        self.current = Some(CurrentFrame { link: None, from: None, session: Some(session) });
    }

    /// Called for a sent frame that the current frame caused, or that the engine made.
    pub fn frame_sent(&mut self, frame: FrameOnLink<'_>, table: &SessionTable) {
        let Some(CurrentFrame { link, from, session }) = self.current else {
            return self.own_frame_sent(frame, None, table);
        };
        let part = link.map_or(FrameEvent::Reset, FrameEvent::Forwarded);
        let story = FrameContext { event: part, from, to: None, session };
        for one in &mut self.taps {
            let is_shown = one.wanted && one.tap.filter.wants_sent();
            let sighting = is_shown
                .then(|| one.copy(frame))
                .flatten()
                .map(|copied| copied.into_captured(self.now, frame.link, story));
            match (sighting, &one.received_copy) {
                // It is shown after the frame that caused it.
                (Some(sighting), Some(_)) => one.sent_before_verdict.push(sighting),
                (Some(sighting), None) => one.tap.sink.put(sighting),
                (None, _) => {}
            }
        }
    }

    /// Called for a frame that the controller sends: it made it, or kept it until the neighbour was resolved.
    pub fn controller_frame_sent(&mut self, transmit: &Transmit, table: &SessionTable, snapshot: &Snapshot) {
        let Transmit { link, vlan, offload, bytes } = transmit;
        let to = mac_at(bytes, 0).and_then(|to| snapshot.firewall_at(*link, to));
        self.own_frame_sent(FrameOnLink { link: *link, vlan: *vlan, offload: *offload, bytes }, to, table);
    }

    /// Shows a sent frame about which nothing is known but its bytes.
    fn own_frame_sent(&mut self, frame: FrameOnLink<'_>, to: Option<FirewallId>, table: &SessionTable) {
        let flow = flow_of(&mut frame.bytes.to_vec(), &frame.offload);
        let session = flow.and_then(|flow| session_copy(table, &flow));
        let subject = FilterInput { flow, legs: None, firewalls: [None, to], session: session.as_ref() };
        let story = FrameContext { event: FrameEvent::FromController, from: None, to, session };
        for one in &mut self.taps {
            if one.tap.filter.wants_sent()
                && one.tap.filter.matches(&subject, &one.ids)
                && let Some(copied) = one.copy(frame)
            {
                one.tap.sink.put(copied.into_captured(self.now, frame.link, story));
            }
        }
    }

    /// Ends the processing of the current frame.
    pub fn end_frame(&mut self) {
        self.current = None;
        for one in &mut self.taps {
            one.received_copy = None;
            one.sent_before_verdict.clear();
        }
    }
}

impl TapState {
    /// Copies the frame if the capture wants its link and has room.
    fn copy(&mut self, frame: FrameOnLink<'_>) -> Option<FrameCopy> {
        let has_room = self.ids.wants_link(frame.link) && self.tap.sink.has_room(frame.link);
        has_room.then(|| FrameCopy::of(frame, self.tap.snaplen))
    }

    /// Copies a received frame. A capture of drops does not know yet whether it wants the frame, so that
    /// [`Self::wants_received`] asks for room.
    fn copy_received(&mut self, frame: FrameOnLink<'_>) -> Option<FrameCopy> {
        match self.tap.filter.wants_sent() {
            true => self.copy(frame),
            false => self.ids.wants_link(frame.link).then(|| FrameCopy::of(frame, self.tap.snaplen)),
        }
    }

    /// True if a received frame that was copied is wanted, now that its verdict is known.
    fn wants_received(&mut self, part: FrameEvent, link: LinkId) -> bool {
        self.tap.filter.wants_sent() || self.tap.filter.wants_event(part) && self.tap.sink.has_room(link)
    }
}

impl FrameCopy {
    fn of(FrameOnLink { link: _, vlan, offload, bytes }: FrameOnLink<'_>, snaplen: usize) -> Self {
        Self { vlan, offload, length: bytes.len(), bytes: bytes[..bytes.len().min(snaplen)].to_vec() }
    }

    fn into_captured(self, at: Instant, link: LinkId, story: FrameContext) -> CapturedFrame {
        let Self { vlan, offload, length, bytes } = self;
        CapturedFrame { at, link, direction: CaptureDirection::Outbound, vlan, offload, length, bytes, context: story }
    }
}

/// A copy of the session of a flow.
fn session_copy(table: &SessionTable, flow: &FlowKey) -> Option<SessionCopy> {
    let (key, _) = flow.canonical();
    table.update_with_placement(table.find(&key)?, |key, session, bound| SessionCopy {
        flow: key.in_direction(session.original_direction),
        session: *session,
        bound: bound.copied(),
    })
}

/// The flow of a frame, or of the packet that it quotes.
fn flow_of(bytes: &mut [u8], offload: &Offload) -> Option<FlowKey> {
    let frame = Frame::parse(bytes, offload).ok()?;
    match frame.kind() {
        FrameKind::Ip => {}
        FrameKind::Arp | FrameKind::Llc | FrameKind::Other(_) => return None,
    }
    Some(match frame.icmp() {
        Some(IcmpClass::Error(Some(quoted))) => FlowKey::from(quoted).reversed(),
        Some(IcmpClass::Error(None) | IcmpClass::Query | IcmpClass::LinkLocal | IcmpClass::Other) | None => {
            frame.tuple().into()
        }
    })
}

fn without_ports(flow: FlowKey) -> FlowKey {
    let FlowKey { protocol, mut source, mut destination } = flow;
    (source.port, destination.port) = (0, 0);
    FlowKey { protocol, source, destination }
}

/// The MAC address at `offset` of the frame.
fn mac_at(bytes: &[u8], offset: usize) -> Option<MacAddr> {
    bytes.get(offset..)?.first_chunk().map(|mac| MacAddr(*mac))
}
