//! Follows one frame after the other through the engine for those who watch.

use crate::engine::trace::filter::{Resolved, Subject};
use crate::engine::trace::{Part, Remembered, Sighting, Story, Tap};
use crate::engine::{Packet, PuntReason, Snapshot, Transmit, Verdict};
use crate::flow::FlowKey;
use crate::id::{FirewallId, LinkId};
use crate::session::{Removed, SessionTable};
use crate::time::Instant;
use crate::wire::MacAddr;
use crate::wire::frame::{Frame, Icmp, Payload};
use crate::wire::offload::Offload;
use crate::wire::pcapng::Direction;
use crate::wire::vlan::VlanTag;

/// Those who watch one thread's frames, and what is known of the frame at hand.
#[derive(Debug, Default)]
pub struct Watch {
    taps: Vec<Watching>,
    /// Of the snapshot that the filters' names were looked up in.
    epoch: Option<u64>,
    now: Instant,
    about: Option<About>,
}

#[derive(Debug)]
struct Watching {
    tap: Tap,
    resolved: Resolved,
    /// The frame at hand is one that is meant.
    meant: bool,
    /// The frame at hand as it came.
    came: Option<Copied>,
    /// What was sent in its place before its verdict stood.
    waiting: Vec<Sighting>,
}

/// What is known of the frame at hand once its flow is.
#[derive(Debug, Clone, Copy)]
struct About {
    /// Where it was received; `None`: the engine makes it.
    link: Option<LinkId>,
    from: Option<FirewallId>,
    session: Option<Remembered>,
}

/// A frame on a link: where, with what, which bytes.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The link that it came by, or leaves by.
    pub link: LinkId,
    /// Its outer tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work left undone.
    pub offload: Offload,
    /// The frame without its outer tag.
    pub bytes: &'a [u8],
}

/// What the forwarder found out about a frame.
#[derive(Debug, Clone, Copy)]
pub struct Claimed {
    /// Its flow.
    pub flow: FlowKey,
    /// The firewall that it came from.
    pub from: Option<FirewallId>,
    /// Both legs, if it is translated.
    pub legs: Option<[FlowKey; 2]>,
    /// It goes on as it is: its session has no other leg.
    pub plain: bool,
    /// It is a fragment that was shown when it came, unless its ports, which it does not show, were asked for.
    pub held: bool,
}

/// What was decided about a received frame.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the controller has it, if it has.
    pub punt: Option<PuntReason>,
    /// The link that it, or what it became, leaves by.
    pub egress: Option<LinkId>,
}

#[derive(Debug)]
struct Copied {
    vlan: Option<VlanTag>,
    offload: Offload,
    length: usize,
    bytes: Vec<u8>,
}

impl Watch {
    /// From here on these watch.
    pub fn set(&mut self, taps: Vec<Tap>) {
        let watching =
            |tap| Watching { tap, resolved: Resolved::default(), meant: false, came: None, waiting: Vec::new() };
        self.taps = taps.into_iter().map(watching).collect();
        self.epoch = None;
        self.about = None;
    }

    /// True if anybody watches.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Frames of this moment come.
    pub fn begin(&mut self, snapshot: &Snapshot, now: Instant) {
        self.now = now;
        self.forget();
        if self.is_on() && self.epoch != Some(snapshot.epoch) {
            self.epoch = Some(snapshot.epoch);
            self.taps.iter_mut().for_each(|one| one.resolved = one.tap.filter.resolve(snapshot));
        }
    }

    /// The flow of a received frame is known and what becomes of it is about to be done: it is copied while it is as it came.
    pub fn claimed(&mut self, frame: Seen<'_>, claimed: Claimed, table: &SessionTable) {
        let Claimed { flow, from, legs, plain, held } = claimed;
        let quick = Subject { flow: Some(flow), legs, firewalls: [from, None], session: None };
        let is_of_interest = (!plain && legs.is_none()) || self.taps.iter().any(|one| one.tap.filter.may_match(&quick));
        let session = if is_of_interest { remembered(table, &flow) } else { None };
        self.about = Some(About { link: Some(frame.link), from, session });
        let subject = Subject { session: session.as_ref(), ..quick };
        let shown = without_ports(flow);
        let shown = Subject { flow: Some(shown), firewalls: [from, None], ..Subject::default() };
        for one in &mut self.taps {
            one.meant = is_of_interest && one.tap.filter.matches(&subject, &one.resolved);
            let is_new = !held || !one.tap.filter.matches(&shown, &one.resolved);
            one.came = if one.meant && is_new { one.copy_received(frame) } else { None };
        }
    }

    /// The verdict on a received frame stands; it was edited if it is to leave, and is still to be shown as sent.
    pub fn decided(
        &mut self,
        link: LinkId,
        packet: &mut Packet<'_>,
        decided: Decided,
        table: &SessionTable,
        snapshot: &Snapshot,
    ) {
        let Decided { verdict, punt, egress } = decided;
        let Packet { device: _, vlan, offload, bytes, verdict: _ } = packet;
        let is_held = self.about.is_none() && verdict == Verdict::Punted && punt.is_none();
        let part = if is_held { Part::Held } else { Part::Decided { verdict, punt } };
        if self.about.is_none() {
            let from = station(bytes, 6).and_then(|source| snapshot.firewall_at(link, source));
            let flow = flow_of(bytes, offload);
            let session = flow.and_then(|flow| remembered(table, &flow));
            self.about = Some(About { link: Some(link), from, session });
            let subject = Subject { flow, legs: None, firewalls: [from, None], session: session.as_ref() };
            for one in &mut self.taps {
                one.meant = one.tap.filter.shows(part) && one.tap.filter.matches(&subject, &one.resolved);
                let seen = Seen { link, vlan: *vlan, offload: *offload, bytes };
                one.came = if one.meant { one.copy_received(seen) } else { None };
            }
        }
        let Some(About { link: _, from, session }) = self.about else { return };
        let to = egress.zip(station(bytes, 0)).and_then(|(egress, to)| snapshot.firewall_at(egress, to));
        for one in &mut self.taps {
            if let Some(Copied { vlan, offload, length, bytes }) = one.came.take()
                && one.is_shown(part, link)
            {
                let story = Story { part, from, to, session };
                let direction = Direction::Inbound;
                one.tap.sink.put(Sighting { at: self.now, link, direction, vlan, offload, length, bytes, story });
            }
            one.waiting.drain(..).for_each(|sighting| one.tap.sink.put(sighting));
        }
    }

    /// What is made next is about a session that ended.
    pub fn ended(&mut self, ended: &Removed) {
        let session =
            Remembered { flow: ended.key.oriented(ended.session.opened), session: ended.session, bound: ended.bound };
        let subject = Subject { flow: Some(session.flow), session: Some(&session), ..Subject::default() };
        for one in &mut self.taps {
            one.meant = one.tap.filter.shows_sent() && one.tap.filter.matches(&subject, &one.resolved);
        }
        self.about = Some(About { link: None, from: None, session: Some(session) });
    }

    /// A frame leaves that belongs to the one at hand, or that the engine made.
    pub fn sent(&mut self, frame: Seen<'_>, table: &SessionTable) {
        let Some(About { link, from, session }) = self.about else {
            return self.made(frame, None, table);
        };
        let part = link.map_or(Part::Reset, Part::Carried);
        let story = Story { part, from, to: None, session };
        for one in &mut self.taps {
            let is_shown = one.meant && one.tap.filter.shows_sent();
            let sighting =
                is_shown.then(|| one.copy(frame)).flatten().map(|copied| copied.sent(self.now, frame.link, story));
            match (sighting, &one.came) {
                // After the frame that it belongs to.
                (Some(sighting), Some(_)) => one.waiting.push(sighting),
                (Some(sighting), None) => one.tap.sink.put(sighting),
                (None, _) => {}
            }
        }
    }

    /// A frame leaves that the controller made, or kept until its neighbour answered.
    pub fn controller_sent(&mut self, transmit: &Transmit, table: &SessionTable, snapshot: &Snapshot) {
        let Transmit { link, vlan, offload, bytes } = transmit;
        let to = station(bytes, 0).and_then(|to| snapshot.firewall_at(*link, to));
        self.made(Seen { link: *link, vlan: *vlan, offload: *offload, bytes }, to, table);
    }

    /// A frame leaves of which nothing is known but itself.
    fn made(&mut self, frame: Seen<'_>, to: Option<FirewallId>, table: &SessionTable) {
        let flow = flow_of(&mut frame.bytes.to_vec(), &frame.offload);
        let session = flow.and_then(|flow| remembered(table, &flow));
        let subject = Subject { flow, legs: None, firewalls: [None, to], session: session.as_ref() };
        let story = Story { part: Part::Made, from: None, to, session };
        for one in &mut self.taps {
            if one.tap.filter.shows_sent()
                && one.tap.filter.matches(&subject, &one.resolved)
                && let Some(copied) = one.copy(frame)
            {
                one.tap.sink.put(copied.sent(self.now, frame.link, story));
            }
        }
    }

    /// The frame at hand is done with.
    pub fn forget(&mut self) {
        self.about = None;
        for one in &mut self.taps {
            one.came = None;
            one.waiting.clear();
        }
    }
}

impl Watching {
    /// The frame, if its link is meant and there is room for it.
    fn copy(&mut self, frame: Seen<'_>) -> Option<Copied> {
        let has_room = self.resolved.on(frame.link) && self.tap.sink.has_room(frame.link);
        has_room.then(|| Copied::of(frame, self.tap.snaplen))
    }

    /// The same of a received frame. Where only drops are meant it is not known yet whether it is one: room is asked for by
    /// [`Self::is_shown`].
    fn copy_received(&mut self, frame: Seen<'_>) -> Option<Copied> {
        match self.tap.filter.shows_sent() {
            true => self.copy(frame),
            false => self.resolved.on(frame.link).then(|| Copied::of(frame, self.tap.snaplen)),
        }
    }

    /// True if a received frame that was copied is shown after all.
    fn is_shown(&mut self, part: Part, link: LinkId) -> bool {
        self.tap.filter.shows_sent() || self.tap.filter.shows(part) && self.tap.sink.has_room(link)
    }
}

impl Copied {
    fn of(Seen { link: _, vlan, offload, bytes }: Seen<'_>, snaplen: usize) -> Self {
        Self { vlan, offload, length: bytes.len(), bytes: bytes[..bytes.len().min(snaplen)].to_vec() }
    }

    fn sent(self, at: Instant, link: LinkId, story: Story) -> Sighting {
        let Self { vlan, offload, length, bytes } = self;
        Sighting { at, link, direction: Direction::Outbound, vlan, offload, length, bytes, story }
    }
}

/// The session of a flow as it is.
fn remembered(table: &SessionTable, flow: &FlowKey) -> Option<Remembered> {
    let (key, _) = flow.canonical();
    table.update_bound(table.find(&key)?, |key, session, bound| Remembered {
        flow: key.oriented(session.opened),
        session: *session,
        bound: bound.copied(),
    })
}

/// The flow that a frame belongs to, by itself or by what it quotes.
fn flow_of(bytes: &mut [u8], offload: &Offload) -> Option<FlowKey> {
    let frame = Frame::parse(bytes, offload).ok()?;
    match frame.payload() {
        Payload::Ip => {}
        Payload::Arp | Payload::Llc | Payload::Other(_) => return None,
    }
    Some(match frame.icmp() {
        Some(Icmp::Error(Some(quoted))) => FlowKey::from(quoted).reversed(),
        Some(Icmp::Error(None) | Icmp::Query | Icmp::LinkLocal | Icmp::Other) | None => frame.tuple().into(),
    })
}

fn without_ports(flow: FlowKey) -> FlowKey {
    let FlowKey { protocol, mut source, mut destination } = flow;
    (source.port, destination.port) = (0, 0);
    FlowKey { protocol, source, destination }
}

/// The hardware address at `offset`.
fn station(bytes: &[u8], offset: usize) -> Option<MacAddr> {
    bytes.get(offset..)?.first_chunk().map(|mac| MacAddr(*mac))
}
