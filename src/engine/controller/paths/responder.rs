//! Answers the probes that a peer sends through a firewall, and finds the probes and pings that answers to this engine
//! belong to.
//!
//! An answer goes to the station that sent the request, on the link that it was received on: through the firewall that
//! brought it.

use std::net::IpAddr;

use super::super::links::{Links, PacketContent, ReceivedPacket};
use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::Paths;
use crate::config::PathCheckKind;
use crate::health::prober::{PathProber, TcpAnswer};
use crate::id::FirewallId;
use crate::time::{Duration, Instant};
use crate::wire::emit::{self, AddressPair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::probe;
use crate::wire::tcp::{self, Segment};

/// Receive window of the other end of TCP probes, which is larger than a probe's payload.
const RECEIVE_WINDOW: u16 = 8192;
/// Why a TCP check fails that was answered.
const REFUSED: &str = "the peer refuses connections to the check's port";

/// What came back for a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeAnswer {
    pub(super) rtt: Duration,
    /// Why the probe has failed although it was answered.
    pub(super) refusal: Option<&'static str>,
}

impl ProbeAnswer {
    fn of(rtt: Duration) -> Self {
        Self { rtt, refusal: None }
    }
}

impl Paths {
    /// Takes a packet to the engine if it belongs to a probe or to a ping; true if it did.
    pub(in super::super) fn handle_packet(
        &mut self,
        arrival: &ReceivedPacket<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        match arrival.message {
            PacketContent::Error { quoted, .. } => self.exchange_icmp_error(&quoted, arrival.pair.source(), out),
            PacketContent::Echo(echo) => match echo.kind {
                EchoKind::Request => self.handle_echo_probe(arrival, &echo, links, now, out),
                EchoKind::Reply => {
                    let sender = (arrival.firewall, arrival.pair.source());
                    let mut offer = |prober: &mut PathProber| prober.handle_echo_reply(&echo, now).map(ProbeAnswer::of);
                    self.handle_answer(sender, "ICMP echo reply", &mut offer, links, now, out)
                }
            },
            PacketContent::Udp { source, port, data } => {
                self.handle_datagram(arrival, (source, port), data, links, now, out)
            }
            PacketContent::Tcp(segment) => self.handle_segment(arrival, &segment, links, now, out),
            PacketContent::Other => false,
        }
    }

    fn handle_echo_probe(
        &mut self,
        arrival: &ReceivedPacket<'_>,
        echo: &Echo<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        if !probe::is_probe(echo.data) {
            return false;
        }
        // An answer through a firewall that is unknown here would make it up on the other side, while this engine would
        // never send anything through it.
        match arrival.firewall {
            None => out.count(Tally::UnknownFirewall),
            Some(firewall) => {
                self.handle_probe(firewall, arrival.pair.source(), echo.data, now, out);
                links.answer_echo(arrival, echo, out);
            }
        }
        true
    }

    fn handle_datagram(
        &mut self,
        arrival: &ReceivedPacket<'_>,
        ports: (u16, u16),
        data: &[u8],
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
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
        let (source, port) = ports;
        let mut offer = |prober: &mut PathProber| prober.handle_udp(source, port, data, now).map(ProbeAnswer::of);
        if self.handle_answer((Some(firewall), peer), "UDP answer", &mut offer, links, now, out) {
            return true;
        }
        let checked = self.check_kind(firewall);
        if is_probe && checked == (PathCheckKind::Udp { port }) && source != port {
            self.handle_probe(firewall, peer, data, now, out);
            let reply = emit::udp(arrival.reply_macs(), arrival.pair.reversed(), port, source, data);
            links.send(arrival.link, reply, out);
            return true;
        }
        // This answer came too late.
        let is_late = is_probe && checked == (PathCheckKind::Udp { port: source });
        if is_late {
            out.count(Tally::Ignored);
        }
        is_late
    }

    fn handle_segment(
        &mut self,
        arrival: &ReceivedPacket<'_>,
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let Some(firewall) = arrival.prober() else { return false };
        if self.handle_tcp_answer(firewall, arrival, segment, links, now, out) {
            return true;
        }
        let is_probe = self.check_kind(firewall) == (PathCheckKind::Tcp { port: segment.destination_port });
        if is_probe {
            self.handle_tcp_probe(firewall, arrival, segment, links, now, out);
        }
        is_probe
    }

    /// Takes a segment if it answers a probe or an exchange of an operator, and sends the frames that deliver the payload
    /// and close the connection.
    fn handle_tcp_answer(
        &mut self,
        firewall: FirewallId,
        arrival: &ReceivedPacket<'_>,
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let (macs, pair) = (arrival.reply_macs(), arrival.pair.reversed());
        let mut closing = None;
        let mut offer = |prober: &mut PathProber| match prober.handle_tcp(segment, macs, pair, now)? {
            TcpAnswer::Connected { rtt, frames } => {
                closing = Some(frames);
                Some(ProbeAnswer::of(rtt))
            }
            TcpAnswer::Refused { rtt } => Some(ProbeAnswer { rtt, refusal: Some(REFUSED) }),
        };
        let matched =
            self.handle_answer((Some(firewall), pair.destination()), "TCP SYN/ACK", &mut offer, links, now, out);
        for frame in closing.into_iter().flatten() {
            links.send(arrival.link, frame, out);
        }
        matched
    }

    /// Offers an answer to the probers of the paths, then to those of the operators' exchanges. True if it belongs to one.
    fn handle_answer(
        &mut self,
        (firewall, from): (Option<FirewallId>, IpAddr),
        what: &str,
        offer: &mut impl FnMut(&mut PathProber) -> Option<ProbeAnswer>,
        links: &Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        firewall.is_some_and(|firewall| self.match_probe((firewall, from), offer, links, now, out))
            || self.match_exchange((firewall, from), what, offer, now, out)
    }

    /// The other end of a TCP probe, which keeps no state: a SYN is accepted, data is read if it is an authentic probe,
    /// and the rest is left to the prober.
    fn handle_tcp_probe(
        &mut self,
        firewall: FirewallId,
        arrival: &ReceivedPacket<'_>,
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) {
        let kind = tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN;
        if segment.flags & kind == tcp_flags::SYN {
            let accept = Segment {
                source_port: segment.destination_port,
                destination_port: segment.source_port,
                sequence: self.initial_sequence(firewall, arrival.pair, segment),
                acknowledgement: segment.sequence.wrapping_add(1),
                flags: tcp_flags::SYN | tcp_flags::ACK,
                window: RECEIVE_WINDOW,
                payload: &[],
            };
            let frame = tcp::segment(arrival.reply_macs(), arrival.pair.reversed(), &accept);
            links.send(arrival.link, frame, out);
        } else if probe::is_probe(segment.payload) {
            self.handle_probe(firewall, arrival.pair.source(), segment.payload, now, out);
        } else {
            out.count(Tally::Ignored);
        }
    }

    /// An initial sequence number that is unpredictable without the seed (RFC 6528) and need not be remembered.
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
