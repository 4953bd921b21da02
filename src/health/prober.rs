//! Path probes: ICMP echo, TCP, UDP through one firewall to the peer, as frames to send and answers to match.
//!
//! Probes overlap; each is known by its identifier and sequence number or port, and by its payload. Outcomes come out in the
//! order in which the probes were sent, so that "in a row" means what it says.
//!
//! The time between two probes is the interval, shortened at random by up to a tenth: engines that started together do not
//! stay in step, and `fall × interval + timeout` stays the worst case of detection.

use std::collections::VecDeque;

use crate::health::monitor::Outcome;
use crate::health::{Check, CheckKind};
use crate::time::{Duration, Instant};
use crate::wire::emit::{self, Macs, Pair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::tcp::{self, Segment};

/// Source ports that the TCP probes of one path use in turn: each connection is closed by a reset, and a firewall has
/// forgotten it when its port comes round again.
pub const TCP_PORTS: u16 = 64;
/// Receive window of probes: more than their answers need.
const WINDOW: u16 = 8192;
/// The first source port of all probes (RFC 6335 section 6: dynamic ports).
pub const FIRST_PORT: u16 = 49_152;

/// Sends and matches the probes of one path.
#[derive(Debug, Clone)]
pub struct Prober {
    kind: CheckKind,
    interval: Duration,
    timeout: Duration,
    ident: u16,
    first_port: u16,
    serial: u32,
    in_flight: VecDeque<InFlight>,
    next: Option<Instant>,
}

#[derive(Debug, Clone)]
struct InFlight {
    serial: u32,
    port: u16,
    initial_sequence: u32,
    payload: Vec<u8>,
    sent: Instant,
    fate: Fate,
    excused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Answered,
    Refused,
}

/// What became of the oldest probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It counts.
    Counts(Outcome),
    /// It was missed while the engine itself was not punctual.
    Excused,
}

/// What an answer to a TCP probe leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpAnswer {
    /// The handshake succeeded: these frames hand the payload over and close the connection.
    Connected {
        /// Round trip.
        rtt: Duration,
        /// Payload, reset.
        frames: [Vec<u8>; 2],
    },
    /// Nobody listens there.
    Refused {
        /// Round trip.
        rtt: Duration,
    },
}

impl Prober {
    /// A prober whose first probe is due at `first`. `ident` tells its probes from those of others.
    pub fn new(check: &Check, ident: u16, first: Instant) -> Self {
        Self {
            kind: check.kind,
            interval: check.interval,
            timeout: check.timeout,
            ident,
            first_port: FIRST_PORT + ident % ((u16::MAX - FIRST_PORT) / TCP_PORTS) * TCP_PORTS,
            serial: 0,
            in_flight: VecDeque::new(),
            next: match check.kind {
                CheckKind::Icmp | CheckKind::Tcp { .. } | CheckKind::Udp { .. } => Some(first),
                CheckKind::None => None,
            },
        }
    }

    /// True if a probe is to be sent.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Sends a probe with `payload`, if the way is known (`None`: the next hop has no hardware address; the probe will
    /// have failed). `random` shortens the time to the next one.
    pub fn launch(
        &mut self,
        payload: Vec<u8>,
        way: Option<(Macs, Pair)>,
        random: u64,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let tenth = self.interval / 10;
        let step = self.interval - tenth.mul_f64((random % 1024) as f64 / 1024.0);
        let due = self.next?;
        // A loop that slept through several intervals goes on from now: no burst.
        self.next = Some(if now.since(due) < self.interval { due + step } else { now + step });
        self.serial = self.serial.wrapping_add(1);
        let probe = InFlight {
            serial: self.serial,
            port: self.port(),
            initial_sequence: (random >> 32) as u32,
            payload,
            sent: now,
            fate: Fate::Open,
            excused: false,
        };
        let frame = way.map(|(macs, pair)| self.frame(&probe, macs, pair));
        self.in_flight.push_back(probe);
        frame.flatten()
    }

    /// An echo reply; the round trip, if it answers a probe.
    pub fn answer_echo(&mut self, echo: &Echo<'_>, now: Instant) -> Option<Duration> {
        let expected = self.kind == CheckKind::Icmp && echo.kind == EchoKind::Reply && echo.ident == self.ident;
        let mut open = self.in_flight.iter_mut().filter(|probe| expected && probe.fate == Fate::Open);
        let probe = open.find(|probe| probe.serial as u16 == echo.sequence && probe.payload == echo.data)?;
        Some(probe.end(Fate::Answered, now))
    }

    /// A datagram; the round trip, if it answers a probe.
    pub fn answer_udp(&mut self, source: u16, destination: u16, data: &[u8], now: Instant) -> Option<Duration> {
        let expected = self.kind == CheckKind::Udp { port: source };
        let mut open = self.in_flight.iter_mut().filter(|probe| expected && probe.fate == Fate::Open);
        let probe = open.find(|probe| probe.port == destination && probe.payload == data)?;
        Some(probe.end(Fate::Answered, now))
    }

    /// A segment from the peer, with the way back to it.
    pub fn answer_tcp(&mut self, segment: &Segment<'_>, macs: Macs, pair: Pair, now: Instant) -> Option<TcpAnswer> {
        let expected = self.kind == CheckKind::Tcp { port: segment.source_port };
        let mut open = self.in_flight.iter_mut().filter(|probe| expected && probe.fate == Fate::Open);
        let probe = open.find(|probe| {
            probe.port == segment.destination_port
                && segment.flags & tcp_flags::ACK != 0
                && segment.acknowledgement == probe.initial_sequence.wrapping_add(1)
        })?;
        if segment.flags & tcp_flags::RST != 0 {
            return Some(TcpAnswer::Refused { rtt: probe.end(Fate::Refused, now) });
        }
        if segment.flags & tcp_flags::SYN == 0 {
            return None;
        }
        let sequence = probe.initial_sequence.wrapping_add(1);
        let to_peer = |flags, sequence, payload| {
            let segment = Segment {
                source_port: segment.destination_port,
                destination_port: segment.source_port,
                sequence,
                acknowledgement: segment.sequence.wrapping_add(1),
                flags: flags | tcp_flags::ACK,
                window: WINDOW,
                payload,
            };
            tcp::segment(macs, pair, &segment)
        };
        let payload_len = u32::try_from(probe.payload.len()).unwrap_or(u32::MAX);
        let hand_over = to_peer(0, sequence, &probe.payload);
        let reset = to_peer(tcp_flags::RST, sequence.wrapping_add(payload_len), &[]);
        Some(TcpAnswer::Connected { rtt: probe.end(Fate::Answered, now), frames: [hand_over, reset] })
    }

    /// What became of the oldest probe whose fate is known; call until `None`.
    pub fn settle(&mut self, now: Instant) -> Option<Settled> {
        let probe = self.in_flight.front()?;
        let settled = match probe.fate {
            Fate::Answered => Settled::Counts(Outcome::Success),
            Fate::Refused => Settled::Counts(Outcome::Failure),
            Fate::Open if now < probe.sent + self.timeout => return None,
            Fate::Open if probe.excused => Settled::Excused,
            Fate::Open => Settled::Counts(Outcome::Failure),
        };
        self.in_flight.pop_front();
        Some(settled)
    }

    /// True while a probe is in flight.
    pub fn is_asking(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The engine was not punctual: what is in flight may be answered, but does not count as missed.
    pub fn excuse(&mut self) {
        for probe in &mut self.in_flight {
            probe.excused = true;
        }
    }

    /// When [`Prober::is_due`] or [`Prober::settle`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.in_flight.front().map(|probe| probe.sent + self.timeout);
        self.next.into_iter().chain(expiry).min()
    }

    fn port(&self) -> u16 {
        match self.kind {
            CheckKind::Tcp { .. } => self.first_port + (self.serial % u32::from(TCP_PORTS)) as u16,
            CheckKind::Icmp | CheckKind::Udp { .. } | CheckKind::None => self.first_port,
        }
    }

    fn frame(&self, probe: &InFlight, macs: Macs, pair: Pair) -> Option<Vec<u8>> {
        match self.kind {
            CheckKind::Icmp => {
                let sequence = probe.serial as u16;
                let echo = Echo { kind: EchoKind::Request, ident: self.ident, sequence, data: &probe.payload };
                Some(echo.frame(macs, pair))
            }
            CheckKind::Udp { port } => Some(emit::udp(macs, pair, probe.port, port, &probe.payload)),
            CheckKind::Tcp { port } => {
                let syn = Segment {
                    source_port: probe.port,
                    destination_port: port,
                    sequence: probe.initial_sequence,
                    flags: tcp_flags::SYN,
                    window: WINDOW,
                    ..Segment::default()
                };
                Some(tcp::segment(macs, pair, &syn))
            }
            CheckKind::None => None,
        }
    }
}

impl InFlight {
    fn end(&mut self, fate: Fate, now: Instant) -> Duration {
        self.fate = fate;
        now.since(self.sent)
    }
}

#[cfg(test)]
mod tests;
