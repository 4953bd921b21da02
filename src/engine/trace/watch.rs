//! Follows one frame after the other through the engine for the captures of one thread.

use crate::engine::trace::filter::{Resolved, Subject};
use crate::engine::trace::{CapturedFrame, FrameContext, FrameEvent, SessionCopy, Tap};
use crate::engine::{Packet, PuntReason, Snapshot, Transmit, Verdict};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::{Removed, SessionTable};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::frame::{Frame, IcmpClass, Payload};
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
    about: Option<CurrentFrame>,
}

#[derive(Debug)]
struct TapState {
    tap: Tap,
    resolved: Resolved,
    /// Whether this capture wants the current frame.
    meant: bool,
    /// The current frame as it was received.
    came: Option<FrameCopy>,
    /// Frames that were sent because of the current frame, before its verdict was known.
    waiting: Vec<CapturedFrame>,
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
    pub plain: bool,
    /// True for a fragment that was held. It was shown when it was received, except to captures that ask for ports,
    /// which the fragment itself does not have: they get it now.
    pub held: bool,
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
    pub fn set(&mut self, taps: Vec<Tap>) {
        let watching =
            |tap| TapState { tap, resolved: Resolved::default(), meant: false, came: None, waiting: Vec::new() };
        self.taps = taps.into_iter().map(watching).collect();
        self.epoch = None;
        self.about = None;
    }

    /// True if there is a capture.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Begins a batch of frames that are processed at the time `now`.
    pub fn begin(&mut self, snapshot: &Snapshot, now: Instant) {
        self.now = now;
        self.forget();
        if self.is_on() && self.epoch != Some(snapshot.epoch) {
            self.epoch = Some(snapshot.epoch);
            self.taps.iter_mut().for_each(|one| one.resolved = one.tap.filter.resolve(snapshot));
        }
    }

    /// Called when the flow of a received frame is known, and before the frame is edited: a wanted frame is copied
    /// here.
    pub fn claimed(&mut self, frame: FrameOnLink<'_>, claimed: FlowFound, table: &SessionTable) {
        let FlowFound { flow, from, legs, plain, held } = claimed;
        let quick = Subject { flow: Some(flow), legs, firewalls: [from, None], session: None };
        let is_of_interest = (!plain && legs.is_none()) || self.taps.iter().any(|one| one.tap.filter.may_match(&quick));
        let session = if is_of_interest { remembered(table, &flow) } else { None };
        self.about = Some(CurrentFrame { link: Some(frame.link), from, session });
        let subject = Subject { session: session.as_ref(), ..quick };
        let shown = without_ports(flow);
        let shown = Subject { flow: Some(shown), firewalls: [from, None], ..Subject::default() };
        for one in &mut self.taps {
            one.meant = is_of_interest && one.tap.filter.matches(&subject, &one.resolved);
            let is_new = !held || !one.tap.filter.matches(&shown, &one.resolved);
            one.came = if one.meant && is_new { one.copy_received(frame) } else { None };
        }
    }

    /// Called when a received frame has its verdict. A frame that is sent was edited by then, and [`Self::sent`] is
    /// called for it next.
    pub fn decided(
        &mut self,
        link: LinkId,
        packet: &mut Packet<'_>,
        decided: VerdictReached,
        table: &SessionTable,
        snapshot: &Snapshot,
    ) {
        let VerdictReached { verdict, punt, egress } = decided;
        let Packet { device: _, vlan, offload, bytes, verdict: _ } = packet;
        let is_held = self.about.is_none() && verdict == Verdict::Punted && punt.is_none();
        let part = if is_held { FrameEvent::Held } else { FrameEvent::Decided { verdict, punt } };
        if self.about.is_none() {
            let from = station(bytes, 6).and_then(|source| snapshot.firewall_at(link, source));
            let flow = flow_of(bytes, offload);
            let session = flow.and_then(|flow| remembered(table, &flow));
            self.about = Some(CurrentFrame { link: Some(link), from, session });
            let subject = Subject { flow, legs: None, firewalls: [from, None], session: session.as_ref() };
            for one in &mut self.taps {
                one.meant = one.tap.filter.shows(part) && one.tap.filter.matches(&subject, &one.resolved);
                let seen = FrameOnLink { link, vlan: *vlan, offload: *offload, bytes };
                one.came = if one.meant { one.copy_received(seen) } else { None };
            }
        }
        let Some(CurrentFrame { link: _, from, session }) = self.about else { return };
        let to = egress.zip(station(bytes, 0)).and_then(|(egress, to)| snapshot.firewall_at(egress, to));
        for one in &mut self.taps {
            if let Some(FrameCopy { vlan, offload, length, bytes }) = one.came.take()
                && one.is_shown(part, link)
            {
                let story = FrameContext { part, from, to, session };
                let direction = CaptureDirection::Inbound;
                one.tap.sink.put(CapturedFrame { at: self.now, link, direction, vlan, offload, length, bytes, story });
            }
            one.waiting.drain(..).for_each(|sighting| one.tap.sink.put(sighting));
        }
    }

    /// Called when a session has ended, before frames about it are sent.
    pub fn ended(&mut self, ended: &Removed) {
        let session =
            SessionCopy { flow: ended.key.oriented(ended.session.opened), session: ended.session, bound: ended.bound };
        let subject = Subject { flow: Some(session.flow), session: Some(&session), ..Subject::default() };
        for one in &mut self.taps {
            one.meant = one.tap.filter.shows_sent() && one.tap.filter.matches(&subject, &one.resolved);
        }
        self.about = Some(CurrentFrame { link: None, from: None, session: Some(session) });
    }

    /// Called for a sent frame that the current frame caused, or that the engine made.
    pub fn sent(&mut self, frame: FrameOnLink<'_>, table: &SessionTable) {
        let Some(CurrentFrame { link, from, session }) = self.about else {
            return self.made(frame, None, table);
        };
        let part = link.map_or(FrameEvent::Reset, FrameEvent::Carried);
        let story = FrameContext { part, from, to: None, session };
        for one in &mut self.taps {
            let is_shown = one.meant && one.tap.filter.shows_sent();
            let sighting =
                is_shown.then(|| one.copy(frame)).flatten().map(|copied| copied.sent(self.now, frame.link, story));
            match (sighting, &one.came) {
                // It is shown after the frame that caused it.
                (Some(sighting), Some(_)) => one.waiting.push(sighting),
                (Some(sighting), None) => one.tap.sink.put(sighting),
                (None, _) => {}
            }
        }
    }

    /// Called for a frame that the controller sends: it made it, or kept it until the neighbour was resolved.
    pub fn controller_sent(&mut self, transmit: &Transmit, table: &SessionTable, snapshot: &Snapshot) {
        let Transmit { link, vlan, offload, bytes } = transmit;
        let to = station(bytes, 0).and_then(|to| snapshot.firewall_at(*link, to));
        self.made(FrameOnLink { link: *link, vlan: *vlan, offload: *offload, bytes }, to, table);
    }

    /// Shows a sent frame about which nothing is known but its bytes.
    fn made(&mut self, frame: FrameOnLink<'_>, to: Option<FirewallId>, table: &SessionTable) {
        let flow = flow_of(&mut frame.bytes.to_vec(), &frame.offload);
        let session = flow.and_then(|flow| remembered(table, &flow));
        let subject = Subject { flow, legs: None, firewalls: [None, to], session: session.as_ref() };
        let story = FrameContext { part: FrameEvent::Made, from: None, to, session };
        for one in &mut self.taps {
            if one.tap.filter.shows_sent()
                && one.tap.filter.matches(&subject, &one.resolved)
                && let Some(copied) = one.copy(frame)
            {
                one.tap.sink.put(copied.sent(self.now, frame.link, story));
            }
        }
    }

    /// Ends the processing of the current frame.
    pub fn forget(&mut self) {
        self.about = None;
        for one in &mut self.taps {
            one.came = None;
            one.waiting.clear();
        }
    }
}

impl TapState {
    /// Copies the frame if the capture wants its link and has room.
    fn copy(&mut self, frame: FrameOnLink<'_>) -> Option<FrameCopy> {
        let has_room = self.resolved.on(frame.link) && self.tap.sink.has_room(frame.link);
        has_room.then(|| FrameCopy::of(frame, self.tap.snaplen))
    }

    /// Copies a received frame. A capture of drops does not know yet whether it wants the frame, so that
    /// [`Self::is_shown`] asks for room.
    fn copy_received(&mut self, frame: FrameOnLink<'_>) -> Option<FrameCopy> {
        match self.tap.filter.shows_sent() {
            true => self.copy(frame),
            false => self.resolved.on(frame.link).then(|| FrameCopy::of(frame, self.tap.snaplen)),
        }
    }

    /// True if a received frame that was copied is wanted, now that its verdict is known.
    fn is_shown(&mut self, part: FrameEvent, link: LinkId) -> bool {
        self.tap.filter.shows_sent() || self.tap.filter.shows(part) && self.tap.sink.has_room(link)
    }
}

impl FrameCopy {
    fn of(FrameOnLink { link: _, vlan, offload, bytes }: FrameOnLink<'_>, snaplen: usize) -> Self {
        Self { vlan, offload, length: bytes.len(), bytes: bytes[..bytes.len().min(snaplen)].to_vec() }
    }

    fn sent(self, at: Instant, link: LinkId, story: FrameContext) -> CapturedFrame {
        let Self { vlan, offload, length, bytes } = self;
        CapturedFrame { at, link, direction: CaptureDirection::Outbound, vlan, offload, length, bytes, story }
    }
}

/// A copy of the session of a flow.
fn remembered(table: &SessionTable, flow: &FlowKey) -> Option<SessionCopy> {
    let (key, _) = flow.canonical();
    table.update_bound(table.find(&key)?, |key, session, bound| SessionCopy {
        flow: key.oriented(session.opened),
        session: *session,
        bound: bound.copied(),
    })
}

/// The flow of a frame, or of the packet that it quotes.
fn flow_of(bytes: &mut [u8], offload: &Offload) -> Option<FlowKey> {
    let frame = Frame::parse(bytes, offload).ok()?;
    match frame.payload() {
        Payload::Ip => {}
        Payload::Arp | Payload::Llc | Payload::Other(_) => return None,
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
fn station(bytes: &[u8], offset: usize) -> Option<MacAddr> {
    bytes.get(offset..)?.first_chunk().map(|mac| MacAddr(*mac))
}
