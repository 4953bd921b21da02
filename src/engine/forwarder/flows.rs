//! Whose packet it is, and what the session of its flow remembers of it.

use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::decide::{self, Arrival, Course, Decision, Pins, Transit, decide};
use crate::engine::{DropReason, Snapshot};
use crate::flow::{CanonicalKey, Direction, FlowKey};
use crate::id::FirewallId;
use crate::path::pinning::{self, PacketKind, Pin, PinState, PinnedBy};
use crate::session::{EndReason, Opened, Session, SessionId, tcp};
use crate::time::Instant;
use crate::wire::frame::{Frame, Icmp, TcpSegment, Tuple, tcp_flags};

/// What a packet may do to the session of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It opens sessions and moves pins.
    Speaker,
    /// It goes where its flow goes and changes nothing: an ICMP error about the flow (A7.5), a later fragment.
    Follower,
}

/// The flow that a packet belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// In the direction of the packet.
    pub flow: FlowKey,
    /// What it may do.
    pub role: Role,
    /// What a TCP segment says.
    pub tcp: Option<TcpSegment>,
    /// Bytes of IP.
    pub bytes: usize,
}

impl Claim {
    /// The flow of a packet that shows its ports, or of the packet that an ICMP error quotes.
    pub(super) fn of(frame: &Frame<'_>, icmp: Option<Icmp>) -> Result<Self, DropReason> {
        let bytes = frame.ip_len();
        match icmp {
            Some(Icmp::Error(Some(quoted))) => {
                // The error travels to whoever sent the quoted packet (A7.4), so against that packet's direction (A7.2).
                if quoted.source != frame.destination() {
                    return Err(DropReason::IcmpMismatch);
                }
                Ok(Self { flow: FlowKey::from(quoted).reversed(), role: Role::Follower, tcp: None, bytes })
            }
            Some(Icmp::Error(None)) => Ok(Self { flow: frame.tuple().into(), role: Role::Follower, tcp: None, bytes }),
            Some(Icmp::Query | Icmp::Other | Icmp::LinkLocal) | None => {
                Ok(Self { flow: frame.tuple().into(), role: Role::Speaker, tcp: frame.tcp(), bytes })
            }
        }
    }

    /// The flow of a later fragment, whose first showed `tuple`.
    pub(super) fn of_later_fragment(frame: &Frame<'_>, tuple: Tuple) -> Self {
        Self { flow: tuple.into(), role: Role::Follower, tcp: None, bytes: frame.ip_len() }
    }

    fn kind(&self) -> PacketKind {
        match self.tcp.map(|segment| (segment.flags & (SYN | ACK | FIN | RST), segment.length)) {
            Some((SYN, _)) => PacketKind::Syn,
            Some((SYN_ACK, _)) => PacketKind::SynAck,
            Some((_, 0)) => PacketKind::Bare,
            Some(_) | None => PacketKind::Other,
        }
    }

    /// Followers, and segments that no conversation begins with (A9.3), leave no trace.
    fn may_open(&self) -> bool {
        match self.role {
            Role::Follower => false,
            Role::Speaker => self.tcp.is_none_or(|segment| tcp::opens_session(segment.flags)),
        }
    }
}

const SYN: u8 = tcp_flags::SYN;
const ACK: u8 = tcp_flags::ACK;
const FIN: u8 = tcp_flags::FIN;
const RST: u8 = tcp_flags::RST;
const SYN_ACK: u8 = SYN | ACK;

impl Forwarder {
    /// Where the packet goes, by its session, by what it teaches, or by the hash; with what is to be remembered of it.
    pub(super) fn course(&mut self, claim: &Claim, arrival: Arrival, snapshot: &Snapshot, now: Instant) -> Course {
        let (key, direction) = claim.flow.canonical();
        let transit = Transit { flow: claim.flow, direction, arrival, kind: claim.kind() };
        let course = match self.sessions.table().find(&key) {
            Some(id) => match claim.role {
                Role::Speaker => self.continue_session(id, claim, &transit, snapshot, now),
                Role::Follower => self.follow_session(id, &transit, snapshot, now),
            },
            None => None,
        };
        let course = course.unwrap_or_else(|| self.begin_session(claim, &transit, snapshot, now));
        if let Course::To { firewall: to, .. } = course {
            for firewall in [from(arrival), to].into_iter().flatten() {
                let counters = self.counters.firewall(firewall);
                counters.packets += 1;
                counters.bytes += claim.bytes as u64;
            }
        }
        course
    }

    /// A packet of a known flow. `None` if the session ended meanwhile.
    fn continue_session(
        &mut self,
        id: SessionId,
        claim: &Claim,
        transit: &Transit,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<Course> {
        let (before, decision) = self.sessions.table().update(id, |session| {
            let pins = Pins::of(session, transit.direction);
            let decision = decide(transit, pins, snapshot, now);
            match decision.course {
                Course::To { .. } => {
                    decision.pins.store(session, transit.direction);
                    session.observe(transit.direction, claim.tcp.as_ref(), claim.bytes, now);
                }
                Course::Drop(_) | Course::End => {}
            }
            (pins, decision)
        })?;
        match decision.course {
            Course::To { .. } => self.count_pins(before, &decision),
            Course::Drop(_) => {}
            Course::End => self.end_failed(id, transit, snapshot),
        }
        Some(decision.course)
    }

    /// A packet that follows a known flow without a say in it.
    fn follow_session(
        &mut self,
        id: SessionId,
        transit: &Transit,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<Course> {
        let session = self.sessions.table().get(id)?;
        Some(decide(transit, Pins::of(&session, transit.direction), snapshot, now).course)
    }

    /// A packet of a flow that is not known.
    fn begin_session(&mut self, claim: &Claim, transit: &Transit, snapshot: &Snapshot, now: Instant) -> Course {
        let decision = decide(transit, Pins::default(), snapshot, now);
        let Course::To { .. } = decision.course else { return decision.course };
        if !claim.may_open() || decision.pins == Pins::default() {
            return decision.course;
        }
        let (key, direction) = transit.flow.canonical();
        let mut session = Session::new(&key, direction, now);
        session.observe(direction, claim.tcp.as_ref(), claim.bytes, now);
        decision.pins.store(&mut session, direction);
        let protect = is_divergent(&key, &session, snapshot);
        let harmless = |key: &CanonicalKey, session: &Session| is_harmless(key, session, snapshot);
        match self.sessions.open(&key, session, protect, harmless, now) {
            Opened::Inserted { id: _, evicted } => {
                self.counters.sessions_created += 1;
                self.count_pins(Pins::default(), &decision);
                if let Some((_, evicted)) = evicted {
                    self.counters.count_end(&evicted, EndReason::Evicted);
                }
                decision.course
            }
            Opened::Existing(id) => {
                // Another worker was faster; its session decides. If that ended at once, the packet still has its way.
                self.continue_session(id, claim, transit, snapshot, now).unwrap_or(decision.course)
            }
            Opened::Full => {
                self.counters.table_full += 1;
                decision.course
            }
        }
    }

    /// Ends a session whose firewall failed.
    fn end_failed(&mut self, id: SessionId, transit: &Transit, snapshot: &Snapshot) {
        if let Some((key, session)) = self.sessions.close(id) {
            self.counters.count_end(&session, EndReason::Failed);
            self.reset_near_end(&key, &session, transit.direction, snapshot);
        }
    }

    /// Forgets idle sessions; answers how many it visited.
    pub(super) fn expire_sessions(&mut self, now: Instant, budget: usize) -> usize {
        let counters = &mut self.counters;
        self.sessions.expire(now, budget, |_, session, reason| counters.count_end(session, reason))
    }

    fn count_pins(&mut self, before: Pins, decision: &Decision) {
        self.counters.asymmetric += u64::from(decision.asymmetric);
        for change in &decision.changes {
            self.counters.count_pin_change(*change);
        }
        let after = decision.pins;
        self.counters.move_pin(before.toward_source.as_ref(), after.toward_source.as_ref());
        self.counters.move_pin(before.toward_destination.as_ref(), after.toward_destination.as_ref());
    }
}

impl Pins {
    /// The pins of `session` as a packet in `direction` sees them.
    pub(crate) fn of(session: &Session, direction: Direction) -> Self {
        match direction {
            Direction::LowToHigh => Self { toward_source: session.toward_low, toward_destination: session.toward_high },
            Direction::HighToLow => Self { toward_source: session.toward_high, toward_destination: session.toward_low },
        }
    }

    fn store(self, session: &mut Session, direction: Direction) {
        *session.pin_toward_source(direction) = self.toward_source;
        *session.pin_toward_destination(direction) = self.toward_destination;
    }
}

fn from(arrival: Arrival) -> Option<FirewallId> {
    match arrival {
        Arrival::Near => None,
        Arrival::Firewall(firewall) => Some(firewall),
    }
}

/// Both pins, each with the direction of the packets that it serves.
pub(crate) fn pins_of(session: &Session) -> impl Iterator<Item = (Pin, Direction)> {
    let low = session.toward_low.map(|pin| (pin, Direction::HighToLow));
    let high = session.toward_high.map(|pin| (pin, Direction::LowToHigh));
    [low, high].into_iter().flatten()
}

/// True if the hash would choose another firewall than the one learned: forgetting the session would break the flow.
fn is_divergent(key: &CanonicalKey, session: &Session, snapshot: &Snapshot) -> bool {
    pins_of(session).any(|(pin, direction)| {
        pin.pinned_by == PinnedBy::Learned && best_for(key, &pin, direction, snapshot) != Some(pin.firewall)
    })
}

/// True if the hash would give a confirmed session the same firewalls again: forgetting it breaks nothing.
fn is_harmless(key: &CanonicalKey, session: &Session, snapshot: &Snapshot) -> bool {
    pins_of(session).all(|(pin, direction)| {
        pin.state == PinState::Confirmed && best_for(key, &pin, direction, snapshot) == Some(pin.firewall)
    })
}

fn best_for(key: &CanonicalKey, pin: &Pin, direction: Direction, snapshot: &Snapshot) -> Option<FirewallId> {
    let flow = key.oriented(direction);
    let transit = Transit { flow, direction, arrival: Arrival::Near, kind: PacketKind::Other };
    pinning::best(&decide::view_toward_destination(&transit, pin.set, snapshot))
}
