//! What a peer sends through a firewall to find out whether the path is up: its probes are answered here, and the answers to
//! the engine's own find their probers.
//!
//! An answer goes to the station that sent the question, on the link that it came by: through the firewall that brought it.

use std::net::IpAddr;

use super::Controller;
use super::links::{Arrival, Message};
use super::tally::Tally;
use crate::config::CheckKind;
use crate::id::FirewallId;
use crate::time::Instant;
use crate::wire::emit::{self, Pair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::probe;
use crate::wire::tcp::{self, Segment};

/// Receive window of the other end of TCP probes: more than a probe's payload.
const WINDOW: u16 = 8192;

impl Controller {
    /// Takes a packet to the engine if it belongs to a probe or to a ping, and answers true then.
    pub(super) fn path_arrival(&mut self, arrival: &Arrival<'_>, now: Instant) -> bool {
        match arrival.message {
            Message::Error { quoted, .. } => self.exchange_refused(&quoted, arrival.pair.source()),
            Message::Echo(echo) => match echo.kind {
                EchoKind::Request => self.echo_probe_heard(arrival, &echo, now),
                EchoKind::Reply => {
                    let source = arrival.pair.source();
                    arrival.firewall.is_some_and(|firewall| self.probe_echo(firewall, source, &echo, now))
                        || self.exchange_echo(arrival.firewall, source, &echo, now)
                }
            },
            Message::Udp { source, port, data } => self.datagram_heard(arrival, (source, port), data, now),
            Message::Tcp(segment) => self.segment_heard(arrival, &segment, now),
            Message::Other => false,
        }
    }

    fn echo_probe_heard(&mut self, arrival: &Arrival<'_>, echo: &Echo<'_>, now: Instant) -> bool {
        if !probe::is_probe(echo.data) {
            return false;
        }
        // An answer through a firewall that is unknown here would call it up on the other side, where this engine would
        // never send anything through it.
        match arrival.firewall {
            None => self.out.count(Tally::UnknownFirewall),
            Some(firewall) => {
                self.probe_heard(firewall, arrival.pair.source(), echo.data, now);
                self.links.answer_echo(arrival, echo, &mut self.out);
            }
        }
        true
    }

    fn datagram_heard(&mut self, arrival: &Arrival<'_>, ports: (u16, u16), data: &[u8], now: Instant) -> bool {
        let is_probe = probe::is_probe(data);
        let Some(firewall) = arrival.prober() else {
            let is_unknown = is_probe && !arrival.is_virtual;
            if is_unknown {
                self.out.count(Tally::UnknownFirewall);
            }
            return is_unknown;
        };
        let peer = arrival.pair.source();
        if self.probe_udp(firewall, peer, ports, data, now) || self.exchange_udp(firewall, peer, ports, data, now) {
            return true;
        }
        let (source, port) = ports;
        let checked = self.check_kind(firewall);
        if is_probe && checked == (CheckKind::Udp { port }) && source != port {
            self.probe_heard(firewall, peer, data, now);
            let reply = emit::udp(arrival.back(), arrival.pair.reversed(), port, source, data);
            self.links.send(arrival.link, reply, &mut self.out);
            return true;
        }
        // An answer that came too late.
        let is_late = is_probe && checked == (CheckKind::Udp { port: source });
        if is_late {
            self.out.count(Tally::Ignored);
        }
        is_late
    }

    fn segment_heard(&mut self, arrival: &Arrival<'_>, segment: &Segment<'_>, now: Instant) -> bool {
        let Some(firewall) = arrival.prober() else { return false };
        let back = (arrival.link, arrival.back(), arrival.pair.reversed());
        if self.probe_tcp(firewall, segment, back, now) || self.exchange_tcp(firewall, segment, back, now) {
            return true;
        }
        let is_probe = self.check_kind(firewall) == (CheckKind::Tcp { port: segment.destination_port });
        if is_probe {
            self.tcp_probe_heard(firewall, arrival, segment, now);
        }
        is_probe
    }

    /// The other end of a TCP probe, without state: a SYN is accepted, data is read if it is an authentic probe, the rest is
    /// the prober's business.
    fn tcp_probe_heard(&mut self, firewall: FirewallId, arrival: &Arrival<'_>, segment: &Segment<'_>, now: Instant) {
        let kind = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
        if segment.flags & kind == tcp_flags::SYN {
            let accept = Segment {
                source_port: segment.destination_port,
                destination_port: segment.source_port,
                sequence: self.initial_sequence(firewall, arrival.pair, segment),
                acknowledgement: segment.sequence.wrapping_add(1),
                flags: tcp_flags::SYN | tcp_flags::ACK,
                window: WINDOW,
                payload: &[],
            };
            let frame = tcp::segment(arrival.back(), arrival.pair.reversed(), &accept);
            self.links.send(arrival.link, frame, &mut self.out);
        } else if probe::is_probe(segment.payload) {
            self.probe_heard(firewall, arrival.pair.source(), segment.payload, now);
        } else {
            self.out.count(Tally::Ignored);
        }
    }

    /// An initial sequence number that nobody without the seed can guess (RFC 6528), without remembering it.
    fn initial_sequence(&self, firewall: FirewallId, pair: Pair, segment: &Segment<'_>) -> u32 {
        let group = self.config.firewalls[firewall.index()].group;
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        for address in [pair.source(), pair.destination()] {
            match address {
                IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
            }
        }
        bytes.extend_from_slice(&segment.source_port.to_be_bytes());
        bytes.extend_from_slice(&segment.destination_port.to_be_bytes());
        bytes.extend_from_slice(&segment.sequence.to_be_bytes());
        self.config.groups[group.index()].seed.digest(&bytes) as u32
    }

    /// What the group of a firewall is probed with.
    fn check_kind(&self, firewall: FirewallId) -> CheckKind {
        let group = self.config.firewalls[firewall.index()].group;
        self.config.groups[group.index()].check.kind
    }
}
