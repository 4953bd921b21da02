//! Answers or refuses, as any host does, packets to the engine that no other part takes.
//!
//! An answer goes to the station that sent the request, on the link that it was received on: through the firewall that
//! brought it.

use super::super::outbox::Outbox;
use super::super::tally::Tally;
use super::{Links, PacketContent, ReceivedPacket};
use crate::time::Instant;
use crate::wire::frame::{Tuple, protocol, tcp_flags};
use crate::wire::icmp::{self, Echo, EchoKind, ErrorKind};
use crate::wire::tcp::{self, Segment};

impl Links {
    /// Answers a packet to the engine that no other part took.
    pub(in super::super) fn handle_packet(&mut self, arrival: &ReceivedPacket<'_>, now: Instant, out: &mut Outbox) {
        match arrival.message {
            PacketContent::Error { .. } => out.count(Tally::Ignored),
            PacketContent::Echo(echo) => match echo.kind {
                EchoKind::Reply => out.count(Tally::Ignored),
                EchoKind::Request => {
                    out.count(Tally::PingsAnswered);
                    self.answer_echo(arrival, &echo, out);
                }
            },
            PacketContent::Udp { .. } => self.refuse(ErrorKind::PortUnreachable, arrival, now, out),
            PacketContent::Tcp(segment) => self.refuse_segment(arrival, &segment, now, out),
            PacketContent::Other => self.refuse(ErrorKind::ProtocolUnreachable, arrival, now, out),
        }
    }

    /// Answers an echo request.
    pub(in super::super) fn answer_echo(&mut self, arrival: &ReceivedPacket<'_>, echo: &Echo<'_>, out: &mut Outbox) {
        let mut in_place = arrival.frame.to_vec();
        if icmp::reply_in_place(&mut in_place, arrival.macs.destination) {
            self.send(arrival.link, in_place, out);
            return;
        }
        let reply = Echo { kind: EchoKind::Reply, ..*echo };
        self.send(arrival.link, reply.frame(arrival.reply_macs(), arrival.pair.reversed()), out);
    }

    /// Reports that a port or protocol is unreachable: a virtual address in its own name, as does each address of a
    /// node; any other address in that of the link.
    fn refuse(&mut self, kind: ErrorKind, arrival: &ReceivedPacket<'_>, now: Instant, out: &mut Outbox) {
        let is_named = arrival.is_virtual || self.config.ha.is_some();
        let source = is_named.then(|| arrival.pair.destination());
        self.icmp_error_from(source, kind, arrival.link, arrival.frame, now, out);
    }

    /// Resets a connection to a port on which nothing listens (RFC 9293 section 3.5.2).
    fn refuse_segment(&mut self, arrival: &ReceivedPacket<'_>, segment: &Segment<'_>, now: Instant, out: &mut Outbox) {
        if segment.flags & tcp_flags::RST != 0 {
            out.count(Tally::Ignored);
            return;
        }
        if !self.limits.allow_reset(arrival.pair.source(), now) {
            out.count(Tally::ResetsLimited);
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
        let Some(reset) = tcp::reset(arrival.reply_macs(), &tuple, sequence, acknowledgement) else { return };
        out.count(Tally::ResetsSent);
        self.send(arrival.link, reset, out);
    }
}
