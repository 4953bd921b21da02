//! What comes back for checks, told from other traffic to the engine by its tuple.

use std::net::IpAddr;

use super::CheckKey;
use super::words::describe;
use crate::engine::Controller;
use crate::time::Instant;
use crate::wire::Family;
use crate::wire::emit::Pair;
use crate::wire::frame::{Tuple, protocol, quoted_tuple};
use crate::wire::icmp::Echo;
use crate::wire::tcp::Segment;
use crate::wire::tunnel;

impl Controller {
    /// An echo reply to the engine; true if a check waited for it.
    pub(in crate::engine::controller) fn check_echo(&mut self, pair: Pair, echo: &Echo<'_>, now: Instant) -> bool {
        let protocol = echo_protocol(pair.family());
        let key =
            CheckKey { local: pair.destination(), protocol, remote: pair.source(), remote_port: 0, port: echo.ident };
        let what = || "ICMP echo reply".to_owned();
        self.checks.running.contains_key(&key) && {
            self.note_received(key, what, now);
            self.with_check(key, now, |prober| prober.handle_echo(echo, now)) == Some(true)
        }
    }

    /// A segment to the engine, in its IP packet, with a right checksum; true if it belongs to a check.
    pub(in crate::engine::controller) fn check_segment(
        &mut self,
        pair: Pair,
        packet: &[u8],
        segment: &Segment<'_>,
        now: Instant,
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
            self.with_check(key, now, |prober| prober.handle_segment(packet, segment, now)).is_some()
        }
    }

    /// An ICMP error about a packet of the engine; true if that was a check's. Anybody could have sent it: it explains a
    /// silence, it ends nothing.
    pub(in crate::engine::controller) fn check_refused(&mut self, quoted: &Tuple, from: IpAddr) -> bool {
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

    /// The same about a packet that had one of a check inside.
    pub(in crate::engine::controller) fn packed_check_refused(
        &mut self,
        family: Family,
        message: &[u8],
        from: IpAddr,
    ) -> bool {
        let Some(refused) = tunnel::refused(family, message) else { return false };
        let inner = match refused.packet.first().map(|first| first >> 4) {
            Some(4) => Family::V4,
            Some(6) => Family::V6,
            Some(_) | None => return false,
        };
        quoted_tuple(refused.packet, inner).is_some_and(|quoted| self.check_refused(&quoted, from))
    }
}

pub(super) const fn echo_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}
