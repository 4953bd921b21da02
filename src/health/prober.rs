//! Path probes: ICMP echo, TCP or UDP through one firewall to the peer engine. The prober builds the frames and matches
//! the answers.
//!
//! Probes overlap. Each is recognised by its identifier and sequence number, or its port, and by its payload. Outcomes
//! are reported in the order in which the probes were sent, so that monitors can count failures in a row.
//!
//! The time between two probes is the interval, shortened at random by up to a tenth. Engines that started together
//! thus do not stay in step, and `fall × interval + timeout` remains the longest time until a failure is detected.

use std::collections::VecDeque;

use crate::health::monitor::ProbeOutcome;
use crate::health::{PathCheck, PathCheckKind};
use crate::time::{Duration, Instant};
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::tcp::{self, Segment};

/// The number of source ports that the TCP probes of one path use in turn. Each connection is closed by a reset, so
/// that the firewalls have forgotten it when its port is used again.
pub const TCP_PORTS: u16 = 64;
/// The receive window of TCP probes in bytes, more than any answer needs.
const WINDOW: u16 = 8192;
/// The lowest source port of probes (a dynamic port, RFC 6335 section 6).
pub const FIRST_PORT: u16 = 49_152;

/// Sends the probes of one path and matches their answers.
#[derive(Debug, Clone)]
pub struct PathProber {
    kind: PathCheckKind,
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
    state: ProbeState,
    excused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    Waiting,
    Answered,
    Refused,
}

/// How the oldest probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// Its outcome counts.
    Counted(ProbeOutcome),
    /// It was missed while the engine itself was late, and does not count.
    Excused,
}

/// What an answer to a TCP probe means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpAnswer {
    /// The handshake succeeded. The frames deliver the payload and close the connection.
    Connected {
        /// Round-trip time.
        rtt: Duration,
        /// A segment with the payload, then a reset.
        frames: [Vec<u8>; 2],
    },
    /// The connection was refused: no socket listens on the port.
    Refused {
        /// Round-trip time.
        rtt: Duration,
    },
}

impl PathProber {
    /// A prober whose first probe is due at `first`. `ident` distinguishes its probes from those of other probers.
    pub fn new(check: &PathCheck, ident: u16, first: Instant) -> Self {
        Self {
            kind: check.kind,
            interval: check.interval,
            timeout: check.timeout,
            ident,
            first_port: FIRST_PORT + ident % ((u16::MAX - FIRST_PORT) / TCP_PORTS) * TCP_PORTS,
            serial: 0,
            in_flight: VecDeque::new(),
            next: match check.kind {
                PathCheckKind::Icmp | PathCheckKind::Tcp { .. } | PathCheckKind::Udp { .. } => Some(first),
                PathCheckKind::None => None,
            },
        }
    }

    /// True if a probe is to be sent.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Makes a probe with `payload` and returns its frame. `way` is `None` if the next hop has no known MAC address:
    /// then there is no frame and the probe will fail. `random` decides how much the time until the next probe is
    /// shortened.
    pub fn send_probe(
        &mut self,
        payload: Vec<u8>,
        way: Option<(MacPair, AddressPair)>,
        random: u64,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let tenth = self.interval / 10;
        let step = self.interval - tenth.mul_f64((random % 1024) as f64 / 1024.0);
        let due = self.next?;
        // If the loop slept through several intervals, the schedule continues from now, without a burst of probes.
        self.next = Some(if now.since(due) < self.interval { due + step } else { now + step });
        self.serial = self.serial.wrapping_add(1);
        let probe = InFlight {
            serial: self.serial,
            port: self.port(),
            initial_sequence: (random >> 32) as u32,
            payload,
            sent: now,
            state: ProbeState::Waiting,
            excused: false,
        };
        let frame = way.map(|(macs, pair)| self.frame(&probe, macs, pair));
        self.in_flight.push_back(probe);
        frame.flatten()
    }

    /// Takes an echo reply. Returns the round-trip time if it answers a probe.
    pub fn handle_echo_reply(&mut self, echo: &Echo<'_>, now: Instant) -> Option<Duration> {
        let expected = self.kind == PathCheckKind::Icmp && echo.kind == EchoKind::Reply && echo.ident == self.ident;
        let mut waiting = self.in_flight.iter_mut().filter(|probe| expected && probe.state == ProbeState::Waiting);
        let probe = waiting.find(|probe| probe.serial as u16 == echo.sequence && probe.payload == echo.data)?;
        Some(probe.end(ProbeState::Answered, now))
    }

    /// Takes a UDP datagram. Returns the round-trip time if it answers a probe.
    pub fn handle_udp(&mut self, source: u16, destination: u16, data: &[u8], now: Instant) -> Option<Duration> {
        let expected = self.kind == PathCheckKind::Udp { port: source };
        let mut waiting = self.in_flight.iter_mut().filter(|probe| expected && probe.state == ProbeState::Waiting);
        let probe = waiting.find(|probe| probe.port == destination && probe.payload == data)?;
        Some(probe.end(ProbeState::Answered, now))
    }

    /// Takes a TCP segment from the peer. `macs` and `pair` are those of frames back to it. `None` if it answers no
    /// probe.
    pub fn handle_tcp(
        &mut self,
        segment: &Segment<'_>,
        macs: MacPair,
        pair: AddressPair,
        now: Instant,
    ) -> Option<TcpAnswer> {
        let expected = self.kind == PathCheckKind::Tcp { port: segment.source_port };
        let mut waiting = self.in_flight.iter_mut().filter(|probe| expected && probe.state == ProbeState::Waiting);
        let probe = waiting.find(|probe| {
            probe.port == segment.destination_port
                && segment.flags & tcp_flags::ACK != 0
                && segment.acknowledgement == probe.initial_sequence.wrapping_add(1)
        })?;
        if segment.flags & tcp_flags::RST != 0 {
            return Some(TcpAnswer::Refused { rtt: probe.end(ProbeState::Refused, now) });
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
        Some(TcpAnswer::Connected { rtt: probe.end(ProbeState::Answered, now), frames: [hand_over, reset] })
    }

    /// Removes the oldest probe if its outcome is known, and returns how it ended. To be called until it returns
    /// `None`.
    pub fn poll_result(&mut self, now: Instant) -> Option<ProbeResult> {
        let probe = self.in_flight.front()?;
        let settled = match probe.state {
            ProbeState::Answered => ProbeResult::Counted(ProbeOutcome::Success),
            ProbeState::Refused => ProbeResult::Counted(ProbeOutcome::Failure),
            ProbeState::Waiting if now < probe.sent + self.timeout => return None,
            ProbeState::Waiting if probe.excused => ProbeResult::Excused,
            ProbeState::Waiting => ProbeResult::Counted(ProbeOutcome::Failure),
        };
        self.in_flight.pop_front();
        Some(settled)
    }

    /// True while a probe is in flight.
    pub fn has_probes_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Excuses all probes in flight, because the engine was late: they may still be answered, but do not count as
    /// failed.
    pub fn excuse(&mut self) {
        for probe in &mut self.in_flight {
            probe.excused = true;
        }
    }

    /// When [`PathProber::is_due`] becomes true or [`PathProber::poll_result`] has an outcome.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.in_flight.front().map(|probe| probe.sent + self.timeout);
        self.next.into_iter().chain(expiry).min()
    }

    fn port(&self) -> u16 {
        match self.kind {
            PathCheckKind::Tcp { .. } => self.first_port + (self.serial % u32::from(TCP_PORTS)) as u16,
            PathCheckKind::Icmp | PathCheckKind::Udp { .. } | PathCheckKind::None => self.first_port,
        }
    }

    fn frame(&self, probe: &InFlight, macs: MacPair, pair: AddressPair) -> Option<Vec<u8>> {
        match self.kind {
            PathCheckKind::Icmp => {
                let sequence = probe.serial as u16;
                let echo = Echo { kind: EchoKind::Request, ident: self.ident, sequence, data: &probe.payload };
                Some(echo.frame(macs, pair))
            }
            PathCheckKind::Udp { port } => Some(emit::udp(macs, pair, probe.port, port, &probe.payload)),
            PathCheckKind::Tcp { port } => {
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
            PathCheckKind::None => None,
        }
    }
}

impl InFlight {
    fn end(&mut self, state: ProbeState, now: Instant) -> Duration {
        self.state = state;
        now.since(self.sent)
    }
}

#[cfg(test)]
mod tests;
