//! What is addressed to the engine: ping, probes of peers, answers to its own, and everything else, which is refused as any
//! host would.
//!
//! An answer goes to the station that sent the question, on the link that it came by: through the firewall that brought it.

use std::net::IpAddr;

use super::Controller;
use super::reassembly::Collected;
use super::tally::Tally;
use crate::config::CheckKind;
use crate::engine::verdict::Punt;
use crate::id::{FirewallId, LinkId};
use crate::time::Instant;
use crate::wire::emit::{self, Macs, Pair};
use crate::wire::frame::{ETHERNET_LEN, Fragment, Frame, Icmp, Payload, TCP_LEN, Tuple, UDP_LEN, protocol, tcp_flags};
use crate::wire::icmp::{self, Echo, EchoKind, ErrorKind};
use crate::wire::offload::Offload;
use crate::wire::tcp::{self, Segment};
use crate::wire::{Family, checksum, probe};

/// Receive window of the other end of TCP probes: more than a probe's payload.
const WINDOW: u16 = 8192;

/// A packet to the engine, parsed.
#[derive(Debug, Clone, Copy)]
struct Arrival<'a> {
    link: LinkId,
    macs: Macs,
    pair: Pair,
    /// The configured firewall that it came from.
    firewall: Option<FirewallId>,
    /// It is addressed to a service, or to an address that stands for clients: no port of it is the engine's.
    virtual_address: bool,
    /// Transport header and payload.
    transport: &'a [u8],
    /// The whole frame.
    frame: &'a [u8],
}

impl Arrival<'_> {
    /// The way back.
    fn back(&self) -> Macs {
        Macs { source: self.macs.destination, destination: self.macs.source }
    }

    /// Whose error it is: a virtual address speaks for itself, an address of the engine as the link's first.
    fn own(&self) -> Option<IpAddr> {
        self.virtual_address.then(|| self.pair.destination())
    }
}

impl Controller {
    pub(super) fn local_frame(&mut self, mut punt: Punt, now: Instant) {
        let link = punt.link;
        let mac = self.links[link.index()].mac;
        let Ok(frame) = Frame::parse(&mut punt.bytes, &punt.offload) else {
            self.tallies.add(Tally::Malformed);
            return;
        };
        if frame.payload() != Payload::Ip {
            self.tallies.add(Tally::Malformed);
            return;
        }
        let Some(pair) = Pair::new(frame.source(), frame.destination()) else { return };
        if frame.destination_mac().is_group() || frame.is_to_group() {
            self.tallies.add(Tally::Group);
            return;
        }
        match frame.fragment() {
            Fragment::Whole => {}
            Fragment::First { .. } | Fragment::Later { .. } => {
                match self.reassembly.add(link, &frame, now) {
                    Collected::Waiting => {}
                    Collected::Whole(bytes) => self.local_frame(Punt { bytes, ..punt }, now),
                    Collected::Refused => self.tallies.add(Tally::Fragment),
                }
                return;
            }
        }
        let protocol = frame.protocol();
        let arrival = Arrival {
            link,
            macs: Macs { source: frame.source_mac(), destination: mac },
            pair,
            firewall: self.snapshot.firewall_at(link, frame.source_mac()),
            virtual_address: !self.snapshot.local.contains(&pair.destination()),
            transport: frame.transport_bytes(),
            frame: frame.bytes(),
        };
        match (pair.family(), protocol) {
            (Family::V4, protocol::ICMP) | (Family::V6, protocol::ICMPV6) => {
                self.local_icmp(&arrival, frame.icmp(), now)
            }
            (_, protocol::UDP) => self.local_udp(&arrival, &punt.offload, now),
            (_, protocol::TCP) => self.local_tcp(&arrival, &punt.offload, now),
            _ => self.icmp_error_from(arrival.own(), ErrorKind::ProtocolUnreachable, link, arrival.frame, now),
        }
    }

    fn local_icmp(&mut self, arrival: &Arrival<'_>, class: Option<Icmp>, now: Instant) {
        if let Some(Icmp::Error(Some(quoted))) = class {
            let from = arrival.pair.source();
            let family = arrival.pair.family();
            if !self.check_refused(&quoted, from)
                && !self.packed_check_refused(family, arrival.transport, from)
                && !self.exchange_refused(&quoted, from)
            {
                self.tallies.add(Tally::Ignored);
            }
            return;
        }
        let Some(echo) = Echo::parse(arrival.pair.family(), arrival.transport) else {
            self.tallies.add(Tally::Ignored);
            return;
        };
        match echo.kind {
            EchoKind::Request if arrival.virtual_address => self.virtual_ping_heard(arrival, &echo, now),
            EchoKind::Request => self.ping_heard(arrival, &echo, now),
            EchoKind::Reply if self.check_echo(arrival.pair, &echo, now) => {}
            EchoKind::Reply => {
                let source = arrival.pair.source();
                let probe = arrival.firewall.is_some_and(|firewall| self.probe_echo(firewall, source, &echo, now));
                if !probe && !self.exchange_echo(arrival.firewall, source, &echo, now) {
                    self.tallies.add(Tally::Ignored);
                }
            }
        }
    }

    /// A virtual address is as alive as its services.
    fn virtual_ping_heard(&mut self, arrival: &Arrival<'_>, echo: &Echo<'_>, now: Instant) {
        if self.is_vip_alive(arrival.pair.destination()) && !probe::is_probe(echo.data) {
            self.ping_heard(arrival, echo, now);
        } else {
            self.tallies.add(Tally::Ignored);
        }
    }

    fn ping_heard(&mut self, arrival: &Arrival<'_>, echo: &Echo<'_>, now: Instant) {
        if probe::is_probe(echo.data) {
            // An answer through a firewall that is unknown here would call it up on the other side, where this engine would
            // never send anything through it.
            let Some(firewall) = arrival.firewall else {
                self.tallies.add(Tally::UnknownFirewall);
                return;
            };
            self.probe_heard(firewall, arrival.pair.source(), echo.data, now);
        } else {
            self.tallies.add(Tally::PingsAnswered);
        }
        let mut in_place = arrival.frame.to_vec();
        if icmp::reply_in_place(&mut in_place, arrival.macs.destination) {
            self.send(arrival.link, in_place);
            return;
        }
        let reply = Echo { kind: EchoKind::Reply, ..*echo };
        self.send(arrival.link, reply.frame(arrival.back(), arrival.pair.reversed()));
    }

    fn local_udp(&mut self, arrival: &Arrival<'_>, offload: &Offload, now: Instant) {
        let Some((header, rest)) = arrival.transport.split_first_chunk::<UDP_LEN>() else {
            self.tallies.add(Tally::Malformed);
            return;
        };
        let [source_high, source_low, port_high, port_low, len_high, len_low, sum_high, sum_low] = *header;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let Some(data) = len.checked_sub(UDP_LEN).and_then(|len| rest.get(..len)) else {
            self.tallies.add(Tally::Malformed);
            return;
        };
        let without = arrival.pair.family() == Family::V4 && [sum_high, sum_low] == [0, 0];
        if !without && !is_intact(arrival, protocol::UDP, &arrival.transport[..len], offload) {
            self.tallies.add(Tally::Checksum);
            return;
        }
        let source = u16::from_be_bytes([source_high, source_low]);
        let port = u16::from_be_bytes([port_high, port_low]);
        let is_probe = probe::is_probe(data);
        let Some(firewall) = arrival.firewall.filter(|_| !arrival.virtual_address) else {
            if is_probe && !arrival.virtual_address {
                self.tallies.add(Tally::UnknownFirewall);
            } else {
                self.icmp_error_from(arrival.own(), ErrorKind::PortUnreachable, arrival.link, arrival.frame, now);
            }
            return;
        };
        let peer = arrival.pair.source();
        if self.probe_udp(firewall, peer, (source, port), data, now)
            || self.exchange_udp(firewall, peer, (source, port), data, now)
        {
            return;
        }
        let checked = self.check_port(firewall);
        if is_probe && checked == (CheckKind::Udp { port }) && source != port {
            self.probe_heard(firewall, peer, data, now);
            let reply = emit::udp(arrival.back(), arrival.pair.reversed(), port, source, data);
            self.send(arrival.link, reply);
        } else if is_probe && checked == (CheckKind::Udp { port: source }) {
            // An answer that came too late.
            self.tallies.add(Tally::Ignored);
        } else {
            self.icmp_error(ErrorKind::PortUnreachable, arrival.link, arrival.frame, now);
        }
    }

    fn local_tcp(&mut self, arrival: &Arrival<'_>, offload: &Offload, now: Instant) {
        let Some(segment) = read_segment(arrival.transport) else {
            self.tallies.add(Tally::Malformed);
            return;
        };
        if !is_intact(arrival, protocol::TCP, arrival.transport, offload) {
            self.tallies.add(Tally::Checksum);
            return;
        }
        let packet = &arrival.frame[ETHERNET_LEN..];
        if self.check_segment(arrival.pair, packet, &segment, now) {
            return;
        }
        if let Some(firewall) = arrival.firewall.filter(|_| !arrival.virtual_address) {
            let back = (arrival.link, arrival.back(), arrival.pair.reversed());
            if self.probe_tcp(firewall, &segment, back, now) || self.exchange_tcp(firewall, &segment, back, now) {
                return;
            }
            if self.check_port(firewall) == (CheckKind::Tcp { port: segment.destination_port }) {
                self.tcp_probe_heard(firewall, arrival, &segment, now);
                return;
            }
        }
        self.refuse_segment(arrival, &segment, now);
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
            self.send(arrival.link, tcp::segment(arrival.back(), arrival.pair.reversed(), &accept));
        } else if probe::is_probe(segment.payload) {
            self.probe_heard(firewall, arrival.pair.source(), segment.payload, now);
        } else {
            self.tallies.add(Tally::Ignored);
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

    /// Nobody listens there (RFC 9293 section 3.5.2).
    fn refuse_segment(&mut self, arrival: &Arrival<'_>, segment: &Segment<'_>, now: Instant) {
        if segment.flags & tcp_flags::RST != 0 {
            self.tallies.add(Tally::Ignored);
            return;
        }
        if !self.answers.allow_reset(arrival.pair.source(), now) {
            self.tallies.add(Tally::ResetsLimited);
            return;
        }
        let (sequence, acknowledgement) = if segment.flags & tcp_flags::ACK != 0 {
            (segment.acknowledgement, None)
        } else {
            let flags = [tcp_flags::SYN, tcp_flags::FIN].iter().filter(|flag| segment.flags & **flag != 0).count();
            let length = u32::try_from(segment.payload.len() + flags).unwrap_or(u32::MAX);
            (0, Some(segment.sequence.wrapping_add(length)))
        };
        let tuple = Tuple {
            protocol: protocol::TCP,
            source: arrival.pair.destination(),
            source_port: segment.destination_port,
            destination: arrival.pair.source(),
            destination_port: segment.source_port,
        };
        let Some(reset) = tcp::reset(arrival.back(), &tuple, sequence, acknowledgement) else { return };
        self.tallies.add(Tally::ResetsSent);
        self.send(arrival.link, reset);
    }

    /// What the group of a firewall is probed with.
    fn check_port(&self, firewall: FirewallId) -> CheckKind {
        let group = self.config.firewalls[firewall.index()].group;
        self.config.groups[group.index()].check.kind
    }
}

/// True if the transport checksum is right, or the device or a later one vouches for it.
fn is_intact(arrival: &Arrival<'_>, protocol: u8, transport: &[u8], offload: &Offload) -> bool {
    if offload.verified || offload.partial.is_some() {
        return true;
    }
    let length = u32::try_from(transport.len()).unwrap_or(u32::MAX);
    let pseudo = checksum::pseudo_header(arrival.pair.source(), arrival.pair.destination(), protocol, length);
    checksum::add(pseudo, checksum::sum(transport)) == 0xffff
}

/// The frame parser has checked that the header fits.
pub(super) fn read_segment(transport: &[u8]) -> Option<Segment<'_>> {
    let header: &[u8; TCP_LEN] = transport.first_chunk()?;
    let payload = transport.get(usize::from(header[12] >> 4) * 4..)?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some(Segment {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: number(4),
        acknowledgement: number(8),
        flags: header[13],
        window: u16::from_be_bytes([header[14], header[15]]),
        payload,
    })
}
