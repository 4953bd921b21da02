//! What a peer sends through a firewall to find out whether the path is up: its probes are answered here, and the answers to
//! the engine's own find their probers.
//!
//! An answer goes to the station that sent the question, on the link that it came by: through the firewall that brought it.

use std::net::IpAddr;

use super::super::links::{Arrival, Links, Message};
use super::super::out::Out;
use super::super::tally::Tally;
use super::Paths;
use crate::config::PathCheckKind;
use crate::id::FirewallId;
use crate::time::Instant;
use crate::wire::emit::{self, AddressPair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::probe;
use crate::wire::tcp::{self, Segment};

/// Receive window of the other end of TCP probes: more than a probe's payload.
const WINDOW: u16 = 8192;

impl Paths {
    /// Takes a packet to the engine if it belongs to a probe or to a ping, and answers true then.
    pub(in super::super) fn handle_arrival(
        &mut self,
        arrival: &Arrival<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Out,
    ) -> bool {
        match arrival.message {
            Message::Error { quoted, .. } => self.exchange_refused(&quoted, arrival.pair.source(), out),
            Message::Echo(echo) => match echo.kind {
                EchoKind::Request => self.echo_probe_heard(arrival, &echo, links, now, out),
                EchoKind::Reply => {
                    let source = arrival.pair.source();
                    arrival.firewall.is_some_and(|firewall| self.probe_echo((firewall, source), &echo, links, now, out))
                        || self.exchange_echo((arrival.firewall, source), &echo, now, out)
                }
            },
            Message::Udp { source, port, data } => self.datagram_heard(arrival, (source, port), data, links, now, out),
            Message::Tcp(segment) => self.segment_heard(arrival, &segment, links, now, out),
            Message::Other => false,
        }
    }

    fn echo_probe_heard(
        &mut self,
        arrival: &Arrival<'_>,
        echo: &Echo<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Out,
    ) -> bool {
        if !probe::is_probe(echo.data) {
            return false;
        }
        // An answer through a firewall that is unknown here would call it up on the other side, where this engine would
        // never send anything through it.
        match arrival.firewall {
            None => out.count(Tally::UnknownFirewall),
            Some(firewall) => {
                self.probe_heard(firewall, arrival.pair.source(), echo.data, now, out);
                links.answer_echo(arrival, echo, out);
            }
        }
        true
    }

    fn datagram_heard(
        &mut self,
        arrival: &Arrival<'_>,
        ports: (u16, u16),
        data: &[u8],
        links: &mut Links,
        now: Instant,
        out: &mut Out,
    ) -> bool {
        let is_probe = probe::is_probe(data);
        let Some(firewall) = arrival.prober() else {
            let is_unknown = is_probe && !arrival.is_virtual;
            if is_unknown {
                out.count(Tally::UnknownFirewall);
            }
            return is_unknown;
        };
        let peer = arrival.pair.source();
        if self.probe_udp((firewall, peer), ports, data, links, now, out)
            || self.exchange_udp((firewall, peer), ports, data, now, out)
        {
            return true;
        }
        let (source, port) = ports;
        let checked = self.check_kind(firewall);
        if is_probe && checked == (PathCheckKind::Udp { port }) && source != port {
            self.probe_heard(firewall, peer, data, now, out);
            let reply = emit::udp(arrival.back(), arrival.pair.reversed(), port, source, data);
            links.send(arrival.link, reply, out);
            return true;
        }
        // An answer that came too late.
        let is_late = is_probe && checked == (PathCheckKind::Udp { port: source });
        if is_late {
            out.count(Tally::Ignored);
        }
        is_late
    }

    fn segment_heard(
        &mut self,
        arrival: &Arrival<'_>,
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Out,
    ) -> bool {
        let Some(firewall) = arrival.prober() else { return false };
        let back = (arrival.link, arrival.back(), arrival.pair.reversed());
        if self.probe_tcp(firewall, segment, back, links, now, out)
            || self.exchange_tcp(firewall, segment, back, links, now, out)
        {
            return true;
        }
        let is_probe = self.check_kind(firewall) == (PathCheckKind::Tcp { port: segment.destination_port });
        if is_probe {
            self.tcp_probe_heard(firewall, arrival, segment, links, now, out);
        }
        is_probe
    }

    /// The other end of a TCP probe, without state: a SYN is accepted, data is read if it is an authentic probe, the rest is
    /// the prober's business.
    fn tcp_probe_heard(
        &mut self,
        firewall: FirewallId,
        arrival: &Arrival<'_>,
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Out,
    ) {
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
            links.send(arrival.link, frame, out);
        } else if probe::is_probe(segment.payload) {
            self.probe_heard(firewall, arrival.pair.source(), segment.payload, now, out);
        } else {
            out.count(Tally::Ignored);
        }
    }

    /// An initial sequence number that nobody without the seed can guess (RFC 6528), without remembering it.
    fn initial_sequence(&self, firewall: FirewallId, pair: AddressPair, segment: &Segment<'_>) -> u32 {
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
}
