//! Checks that hold for every frame of an engine, from its bytes alone.

use crate::engine::Verdict;
use crate::sim::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IcmpKind, Packet, Tuple, protocol, split_ethernet,
};
use crate::sim::sim_engine::HandledFrame;
use crate::wire::MacAddr;

/// Transparency: a forwarded frame differs from the received one in its MAC addresses, its TTL (one less) and its IPv4
/// header checksum only. Returns what is wrong.
pub fn transparent(handled: &HandledFrame) -> Option<String> {
    match handled.verdict {
        Verdict::Forward(_) | Verdict::Hairpin(_) => {}
        Verdict::Replaced | Verdict::Punted | Verdict::Dropped(_) => return None,
    }
    // Bytes behind the packet are padding of the received frame.
    let (before, after) = (without_padding(&handled.before.bytes), &handled.after.bytes[..]);
    if before.len() != after.len() || handled.before.offload != handled.after.offload {
        return Some(format!("a forwarded frame changed its length or offload state: {handled:?}"));
    }
    if before.len() < 34 {
        return Some(format!("a forwarded frame of {} bytes", before.len()));
    }
    let v4 = before[12..14] == ETHERTYPE_IPV4.to_be_bytes();
    // TTL and header checksum of IPv4 and the hop limit of IPv6 may change.
    let (ttl, kept): (usize, [std::ops::Range<usize>; 3]) =
        if v4 { (22, [12..22, 23..24, 26..before.len()]) } else { (21, [12..21, 22..22, 22..before.len()]) };
    for range in kept {
        if before[range.clone()] != after[range.clone()] {
            return Some(format!("bytes {range:?} of a forwarded frame changed: {before:02x?} {after:02x?}"));
        }
    }
    if after[ttl].wrapping_add(1) != before[ttl] {
        return Some(format!("TTL went from {} to {}", before[ttl], after[ttl]));
    }
    None
}

/// The frame up to the end of its IP packet, by the length in the IP header.
fn without_padding(bytes: &[u8]) -> &[u8] {
    let length = |at: usize| bytes.get(at..at + 2).map(|field| usize::from(u16::from_be_bytes([field[0], field[1]])));
    let end = match split_ethernet(bytes).map(|(_, _, ethertype, _)| ethertype) {
        Some(ETHERTYPE_IPV4) => length(16).map(|total| 14 + total),
        Some(ETHERTYPE_IPV6) => length(18).map(|payload| 54 + payload),
        Some(_) | None => None,
    };
    end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

/// Transparency of a translation: the packet leaves with the addresses and ports of `leaving`, a TTL one less, and a
/// checksum that is right if it was right, and is otherwise unchanged. The quoted packet in an ICMP error is translated
/// too; whether the rest of the quotation is right is for the firewalls to judge. Returns what is wrong.
pub fn translated(before: &Packet, after: &Packet, leaving: Tuple) -> Option<String> {
    if after.ttl.wrapping_add(1) != before.ttl {
        return Some(format!("TTL went from {} to {}", before.ttl, after.ttl));
    }
    if before.checksum_ok() != after.checksum_ok() {
        return Some(format!("a checksum that was {} became {}", before.checksum_ok(), after.checksum_ok()));
    }
    if before.is_icmp_error() {
        let same = (before.tos, before.ident, before.payload.len()) == (after.tos, after.ident, after.payload.len());
        return (!same).then(|| format!("an ICMP error changed: {before:?} {after:?}"));
    }
    let masked = |packet: &Packet| {
        let mut packet = packet.clone();
        packet.ttl = 0;
        let at = match (packet.protocol, packet.fragment) {
            (_, Some(piece)) if piece.offset > 0 => None,
            (protocol::TCP, _) => Some(16),
            (protocol::UDP, _) => Some(6),
            _ => None,
        };
        if let Some(field) = at.and_then(|at| packet.payload.get_mut(at..at + 2)) {
            // RFC 768: a missing checksum stays missing.
            let none = packet.protocol == protocol::UDP && field == [0, 0];
            field.fill(u8::from(!none));
        }
        packet
    };
    let (expected, seen) = (masked(&before.clone().rewritten(leaving)), masked(after));
    (expected != seen).then(|| format!("a translated packet is {seen:02x?}, not {expected:02x?}"))
}

/// What holds for every frame that an engine sends. Returns what is wrong.
pub fn legal(bytes: &[u8], own: MacAddr) -> Option<String> {
    let Some((destination, source, ethertype, payload)) = split_ethernet(bytes) else {
        return Some(format!("a frame of {} bytes", bytes.len()));
    };
    if source != own {
        return Some(format!("source {source} is not the link's {own}"));
    }
    match ethertype {
        ETHERTYPE_ARP => None,
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => match Packet::parse(payload) {
            None => Some("an IP packet that cannot be parsed".to_owned()),
            Some(packet) if packet.ttl == 0 => Some("TTL 0 on the wire".to_owned()),
            Some(packet) if destination.is_multicast() && packet.icmp_kind() != Some(IcmpKind::LinkLocal) => {
                Some(format!("data to the group address {destination}"))
            }
            Some(_) => None,
        },
        other => Some(format!("EtherType {other:#06x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LinkId;
    use crate::sim::packet::ethernet;
    use crate::sim::sim_engine::CableFrame;

    fn handled(change: impl Fn(&mut Packet)) -> HandledFrame {
        let packet = Packet::udp(("10.0.0.1".parse().unwrap(), 1), ("10.0.0.2".parse().unwrap(), 2), b"x");
        let mut after = packet.clone();
        change(&mut after);
        let frame = |packet: &Packet| {
            CableFrame::new(ethernet(MacAddr([2; 6]), MacAddr([4; 6]), ETHERTYPE_IPV4, &packet.emit()))
        };
        let verdict = Verdict::Forward(LinkId(1));
        let snapshot = std::sync::Arc::default();
        HandledFrame { link: LinkId(0), before: frame(&packet), after: frame(&after), vlan: None, verdict, snapshot }
    }

    #[test]
    fn only_the_ttl_may_change() {
        assert_eq!(transparent(&handled(|packet| packet.ttl -= 1)), None);
        assert!(transparent(&handled(|packet| packet.ttl -= 2)).is_some());
        assert!(transparent(&handled(|packet| (packet.ttl, packet.tos) = (63, 1))).is_some());
        assert!(transparent(&handled(|packet| (packet.ttl, packet.payload[8]) = (63, 1))).is_some());
    }

    #[test]
    fn a_translation_changes_what_it_says_and_nothing_else() {
        let address = |last| std::net::IpAddr::from([10, 0, 0, last]);
        let before = Packet::udp((address(1), 1), (address(2), 2), b"payload");
        let leaving = Tuple { protocol: protocol::UDP, source: (address(1), 1), destination: (address(3), 7) };
        let right = Packet { ttl: 63, ..Packet::udp((address(1), 1), (address(3), 7), b"payload") };

        assert_eq!(translated(&before, &right, leaving), None);
        for wrong in [
            Packet { ttl: 64, ..right.clone() },
            Packet { tos: 4, ..right.clone() },
            Packet { ttl: 63, ..Packet::udp((address(1), 1), (address(3), 8), b"payload") },
            Packet { ttl: 63, ..Packet::udp((address(1), 1), (address(3), 7), b"pay1oad") },
            Packet { payload: [&right.payload[..6], &[9, 9], &right.payload[8..]].concat(), ..right.clone() },
        ] {
            assert!(translated(&before, &wrong, leaving).is_some(), "{wrong:?}");
        }
    }
}
