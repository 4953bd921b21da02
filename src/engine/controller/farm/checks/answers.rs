//! Handles what comes back for checks, which its tuple distinguishes from other traffic to the engine.

use std::net::IpAddr;

use super::CheckKey;
use super::describe::describe;
use crate::engine::controller::farm::Farm;
use crate::engine::controller::links::{Links, PacketContent, ReceivedPacket};
use crate::engine::controller::outbox::Outbox;
use crate::engine::controller::tally::Tally;
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::emit::AddressPair;
use crate::wire::frame::{Tuple, protocol, quoted_tuple};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::probe;
use crate::wire::tcp::Segment;
use crate::wire::tunnel;

impl Farm {
    /// Takes a packet to the engine if it belongs to a check, or to a virtual address whose services are all down.
    /// Returns true if it did.
    pub(in crate::engine::controller) fn handle_packet(
        &mut self,
        arrival: &ReceivedPacket<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let pair = arrival.pair;
        match arrival.message {
            PacketContent::Error { quoted, bytes } => {
                self.handle_check_error(&quoted, pair.source())
                    || self.handle_tunnelled_check_error(pair.family(), bytes, pair.source())
            }
            PacketContent::Echo(echo) => match echo.kind {
                EchoKind::Request => self.ignores_ping(arrival, &echo, out),
                EchoKind::Reply => self.check_echo(pair, &echo, links, now, out),
            },
            PacketContent::Tcp(segment) => self.check_segment(pair, arrival.packet(), &segment, links, now, out),
            PacketContent::Udp { .. } | PacketContent::Other => false,
        }
    }

    /// True if a ping of a virtual address is ignored: the address is only as alive as its services, and no peer may
    /// probe a path by it.
    fn ignores_ping(&mut self, arrival: &ReceivedPacket<'_>, echo: &Echo<'_>, out: &mut Outbox) -> bool {
        let is_dead = || !self.is_vip_alive(arrival.pair.destination()) || probe::is_probe(echo.data);
        let ignores = arrival.is_virtual && is_dead();
        if ignores {
            out.count(Tally::Ignored);
        }
        ignores
    }

    /// Takes an echo reply to the engine; true if a check waited for it.
    fn check_echo(
        &mut self,
        pair: AddressPair,
        echo: &Echo<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let protocol = echo_protocol(pair.family());
        let key =
            CheckKey { local: pair.destination(), protocol, remote: pair.source(), remote_port: 0, port: echo.ident };
        let what = || "ICMP echo reply".to_owned();
        self.checks.running.contains_key(&key) && {
            self.note_received(key, what, now);
            self.with_check(key, links, now, |prober| prober.handle_echo(echo, now), out) == Some(true)
        }
    }

    /// Takes a TCP segment to the engine whose checksum is right, in its IP packet; true if it belongs to a check.
    fn check_segment(
        &mut self,
        pair: AddressPair,
        packet: &[u8],
        segment: &Segment<'_>,
        links: &mut Links,
        now: Instant,
        out: &mut Outbox,
    ) -> bool {
        let key = CheckKey {
            local: pair.destination(),
            protocol: protocol::TCP,
            remote: pair.source(),
            remote_port: segment.source_port,
            port: segment.destination_port,
        };
        self.checks.running.contains_key(&key) && {
            self.note_received(key, || describe(segment), now);
            self.with_check(key, links, now, |prober| prober.handle_segment(packet, segment, now), out).is_some()
        }
    }

    /// Takes an ICMP error about a packet of the engine; true if that was a packet of a check. Anybody could have sent
    /// the error, so that it ends no check, but it explains the silence of the server.
    fn handle_check_error(&mut self, quoted: &Tuple, from: IpAddr) -> bool {
        let key = CheckKey {
            local: quoted.source,
            protocol: quoted.protocol,
            remote: quoted.destination,
            remote_port: if quoted.protocol == protocol::TCP { quoted.destination_port } else { 0 },
            port: quoted.source_port,
        };
        let Some(running) = self.checks.running.get_mut(&key) else { return false };
        running.hint = Some(format!("{from} says that {} is unreachable", quoted.destination));
        true
    }

    /// Takes an ICMP error about a tunnelled packet of the engine; true if a packet of a check was inside.
    fn handle_tunnelled_check_error(&mut self, family: Family, message: &[u8], from: IpAddr) -> bool {
        let Some(refused) = tunnel::parse_icmp_error(family, message) else { return false };
        let inner = match refused.packet.first().map(|first| first >> 4) {
            Some(4) => Family::V4,
            Some(6) => Family::V6,
            Some(_) | None => return false,
        };
        quoted_tuple(refused.packet, inner).is_some_and(|quoted| self.handle_check_error(&quoted, from))
    }
}

pub(super) const fn echo_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}
