//! The connection table of a model firewall: it passes what Linux conntrack would pass, and refuses what that calls
//! `INVALID`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::sim::firewall::tcp::{self, Direction, Segment, TcpState, TcpTransition};
use crate::sim::packet::{IcmpKind, Packet, Tuple, protocol};
use crate::time::{Duration, Instant};

/// Why a firewall drops a packet. [`Refusal::Invalid`], [`Refusal::NewNotSyn`] and [`Refusal::Policy`] are the oracle:
/// they do not occur while every session stays on its firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// `ct state invalid`.
    Invalid,
    /// `ct state new` for a TCP segment without SYN.
    NewNotSyn,
    /// A new flow that the policy does not permit from this side, such as a reply without state.
    Policy,
    /// A checksum is wrong, which is the fault of a cable.
    Damaged,
    /// The TTL expired.
    Ttl,
    /// There is no route, or a router must not forward the packet.
    NoRoute,
    /// The firewall does not pass probes.
    ProbeBlocked,
}

/// From which side flows may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// From the clients' side only.
    Outside,
    /// From both sides.
    Both,
}

/// How the table treats packets of unknown flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether TCP is picked up in mid-stream (`nf_conntrack_tcp_loose`).
    pub loose: bool,
    /// From which side flows may be opened.
    pub policy: Policy,
}

/// A tracked connection.
#[derive(Debug, Clone)]
struct TrackedConnection {
    /// The tuple of its first packet.
    original: Tuple,
    /// The tuple of its replies: reversed, after translation.
    reply: Tuple,
    state: ProtocolState,
    last_seen: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProtocolState {
    Tcp {
        state: TcpState,
        /// Sequence number of a SYN that the opener sent again and that was ignored. If the peer accepts it, its
        /// SYN/ACK begins a new connection.
        ignored_syn: Option<u32>,
    },
    Other {
        replied: bool,
    },
}

/// The decision about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConntrackVerdict {
    /// Pass, with this tuple.
    Pass {
        /// The tuple with which it leaves.
        translated: Tuple,
        /// The connection's tuple as its opener's packets show it.
        original: Tuple,
    },
    /// Drop.
    Refuse(Refusal),
}

/// A connection table. Firewalls that synchronise share one.
#[derive(Debug, Default)]
pub struct Conntrack {
    entries: BTreeMap<u64, TrackedConnection>,
    /// Entries by both of their tuples.
    index: BTreeMap<Tuple, u64>,
    next: u64,
}

impl TrackedConnection {
    fn timeout(&self) -> Duration {
        Duration::from_secs(match self.state {
            ProtocolState::Tcp { state, .. } => match state {
                TcpState::SynSent | TcpState::SynSent2 | TcpState::FinWait | TcpState::TimeWait => 120,
                TcpState::SynRecv | TcpState::CloseWait => 60,
                TcpState::Established => 432_000,
                TcpState::LastAck => 30,
                TcpState::Close => 10,
            },
            ProtocolState::Other { replied: false } => 30,
            ProtocolState::Other { replied: true } => 120,
        })
    }
}

impl Conntrack {
    /// Decides about a whole packet (fragments are reassembled before). `from_outside` says from which side it came;
    /// `translate` is the source address for new flows, or `None` without translation.
    pub fn judge(
        &mut self,
        packet: &Packet,
        from_outside: bool,
        rules: Rules,
        translate: Option<IpAddr>,
        now: Instant,
    ) -> ConntrackVerdict {
        if !packet.checksum_ok() {
            return ConntrackVerdict::Refuse(Refusal::Damaged);
        }
        let tuple = packet.tuple();
        match packet.icmp_kind() {
            Some(IcmpKind::Error(None)) => return ConntrackVerdict::Refuse(Refusal::Invalid),
            Some(IcmpKind::Error(Some(_))) => return self.judge_error(tuple, now),
            Some(IcmpKind::Other) => return ConntrackVerdict::Refuse(Refusal::Invalid),
            Some(IcmpKind::LinkLocal) => return ConntrackVerdict::Refuse(Refusal::NoRoute),
            Some(IcmpKind::Request(_) | IcmpKind::Reply(_)) | None => {}
        }
        if packet.tcp_flags().is_some_and(|flags| !Segment::is_legal(flags)) {
            return ConntrackVerdict::Refuse(Refusal::Invalid);
        }
        match self.find(tuple, now) {
            Some((number, direction)) => self.judge_known(number, direction, packet, now),
            None => self.judge_new(packet, tuple, from_outside, rules, translate, now),
        }
    }

    /// Number of tracked connections.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is tracked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the table has the flow of `tuple`.
    pub fn has_connection(&self, tuple: Tuple) -> bool {
        self.index.contains_key(&tuple) || self.index.contains_key(&tuple.reversed())
    }

    /// Forgets all connections.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.index.clear();
    }

    fn find(&mut self, tuple: Tuple, now: Instant) -> Option<(u64, Direction)> {
        let number = *self.index.get(&tuple)?;
        let entry = &self.entries[&number];
        if now.since(entry.last_seen) >= entry.timeout() {
            self.remove(number);
            return None;
        }
        Some((number, if entry.original == tuple { Direction::Original } else { Direction::Reply }))
    }

    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.index.remove(&entry.original);
            self.index.remove(&entry.reply);
        }
    }

    /// An ICMP error passes if its flow is known, and leaves like a packet of that flow.
    fn judge_error(&mut self, tuple: Tuple, now: Instant) -> ConntrackVerdict {
        match self.find(tuple, now) {
            Some((number, direction)) => self.pass(number, direction),
            None => ConntrackVerdict::Refuse(Refusal::Invalid),
        }
    }

    fn pass(&self, number: u64, direction: Direction) -> ConntrackVerdict {
        let entry = &self.entries[&number];
        let shown = match direction {
            Direction::Original => entry.reply.reversed(),
            Direction::Reply => entry.original.reversed(),
        };
        ConntrackVerdict::Pass { translated: shown, original: entry.original }
    }

    fn judge_known(&mut self, number: u64, direction: Direction, packet: &Packet, now: Instant) -> ConntrackVerdict {
        let entry = self.entries.get_mut(&number).expect("found a moment ago");
        match (&mut entry.state, packet.tcp_flags()) {
            (ProtocolState::Tcp { state, ignored_syn }, Some(flags)) => {
                let segment = Segment::of(flags);
                match tcp::step(*state, direction, segment) {
                    TcpTransition::Invalid => return ConntrackVerdict::Refuse(Refusal::Invalid),
                    TcpTransition::Ignore => match (direction, segment, *ignored_syn) {
                        (Direction::Original, Segment::Syn, _) => *ignored_syn = packet.tcp_sequence(),
                        (Direction::Reply, Segment::SynAck, Some(_)) => {
                            (*state, *ignored_syn) = (TcpState::SynRecv, None);
                        }
                        (Direction::Original | Direction::Reply, _, _) => {}
                    },
                    TcpTransition::Next(next) => (*state, *ignored_syn) = (next, None),
                }
            }
            (ProtocolState::Other { replied }, _) => *replied |= direction == Direction::Reply,
            (ProtocolState::Tcp { .. }, None) => return ConntrackVerdict::Refuse(Refusal::Invalid),
        }
        entry.last_seen = now;
        self.pass(number, direction)
    }

    fn judge_new(
        &mut self,
        packet: &Packet,
        tuple: Tuple,
        from_outside: bool,
        rules: Rules,
        translate: Option<IpAddr>,
        now: Instant,
    ) -> ConntrackVerdict {
        let state = match (packet.icmp_kind(), packet.tcp_flags().map(Segment::of)) {
            (Some(IcmpKind::Reply(_)), _) => return ConntrackVerdict::Refuse(Refusal::Invalid),
            (_, None) => ProtocolState::Other { replied: false },
            (_, Some(Segment::Syn)) => ProtocolState::Tcp { state: TcpState::SynSent, ignored_syn: None },
            (_, Some(Segment::Ack)) if rules.loose => {
                ProtocolState::Tcp { state: TcpState::Established, ignored_syn: None }
            }
            (_, Some(Segment::Ack)) => return ConntrackVerdict::Refuse(Refusal::NewNotSyn),
            (_, Some(Segment::SynAck | Segment::Fin | Segment::Rst | Segment::None)) => {
                return ConntrackVerdict::Refuse(Refusal::Invalid);
            }
        };
        if !from_outside && rules.policy == Policy::Outside {
            return ConntrackVerdict::Refuse(Refusal::Policy);
        }
        let Some(shown) = self.translated(tuple, translate) else { return ConntrackVerdict::Refuse(Refusal::Policy) };
        let number = self.next;
        self.next += 1;
        let entry = TrackedConnection { original: tuple, reply: shown.reversed(), state, last_seen: now };
        self.index.insert(entry.original, number);
        self.index.insert(entry.reply, number);
        self.entries.insert(number, entry);
        self.pass(number, Direction::Original)
    }

    /// The tuple with which a new flow leaves: with another source address, and another port if its own is taken.
    fn translated(&self, tuple: Tuple, source: Option<IpAddr>) -> Option<Tuple> {
        let Some(source) = source else { return Some(tuple) };
        let icmp = matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
        (0..u16::MAX).map(|step| tuple.source.1.wrapping_add(step).max(1)).find_map(|port| {
            let destination = if icmp { (tuple.destination.0, port) } else { tuple.destination };
            let shown = Tuple { source: (source, port), destination, ..tuple };
            (!self.index.contains_key(&shown.reversed())).then_some(shown)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::packet::tcp_flag::{ACK, SYN};

    const STRICT: Rules = Rules { loose: false, policy: Policy::Outside };

    fn ends() -> ((IpAddr, u16), (IpAddr, u16)) {
        (("198.51.100.10".parse().unwrap(), 40_000), ("203.0.113.10".parse().unwrap(), 7))
    }

    fn segment(reply: bool, flags: u8) -> Packet {
        let (client, server) = ends();
        let (from, to) = if reply { (server, client) } else { (client, server) };
        Packet::tcp(from, to, flags, 1, 1, b"")
    }

    fn passes(verdict: ConntrackVerdict) -> bool {
        matches!(verdict, ConntrackVerdict::Pass { .. })
    }

    #[test]
    fn a_strict_firewall_passes_what_it_saw_begin_and_nothing_else() {
        let mut table = Conntrack::default();
        let mut judge = |reply, flags| table.judge(&segment(reply, flags), !reply, STRICT, None, Instant::ZERO);

        assert_eq!(judge(false, ACK), ConntrackVerdict::Refuse(Refusal::NewNotSyn));
        assert_eq!(judge(true, SYN | ACK), ConntrackVerdict::Refuse(Refusal::Invalid));
        assert!(passes(judge(false, SYN)));
        assert_eq!(judge(false, ACK), ConntrackVerdict::Refuse(Refusal::Invalid), "its SYN/ACK went elsewhere");
        assert!(passes(judge(true, SYN | ACK)));
        assert!(passes(judge(false, ACK)));
        assert!(passes(judge(true, ACK)));
    }

    #[test]
    fn an_error_passes_only_with_its_flow() {
        let (client, server) = ends();
        let mut table = Conntrack::default();
        let lost = Packet::udp(client, server, b"too big");
        let router = "203.0.113.1".parse().unwrap();
        let error = Packet::icmp(router, client.0, 3, 4, [0, 0, 5, 0], &lost.emit()[..28]);

        let alone = table.judge(&error, false, STRICT, None, Instant::ZERO);
        table.judge(&lost, true, STRICT, None, Instant::ZERO);
        let related = table.judge(&error, false, STRICT, None, Instant::ZERO);

        assert_eq!(alone, ConntrackVerdict::Refuse(Refusal::Invalid));
        assert!(passes(related));
    }

    #[test]
    fn a_translated_flow_is_answered_at_its_translation() {
        let (client, server) = ends();
        let pool: IpAddr = "192.0.2.11".parse().unwrap();
        let mut table = Conntrack::default();

        let out = table.judge(&Packet::udp(client, server, b"q"), true, STRICT, Some(pool), Instant::ZERO);
        let back = table.judge(&Packet::udp(server, (pool, client.1), b"a"), false, STRICT, None, Instant::ZERO);
        let bare = table.judge(&Packet::udp(server, (client.0, 4), b"a"), false, STRICT, None, Instant::ZERO);

        let ConntrackVerdict::Pass { translated: shown, original } = out else { panic!("{out:?}") };
        assert_eq!((shown.source, original.source), ((pool, client.1), client));
        assert!(matches!(back, ConntrackVerdict::Pass { translated: shown, .. } if shown.destination == client));
        assert_eq!(bare, ConntrackVerdict::Refuse(Refusal::Policy));
    }
}
