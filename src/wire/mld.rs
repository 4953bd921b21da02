//! Multicast listener discovery: reports for the solicited-node groups of the engine's addresses (RFC 2710, RFC 3810).
//!
//! Switches with MLD snooping forward a group only to ports that reported it. Without reports no neighbour solicitation
//! would reach the engine.

use std::net::Ipv6Addr;

use smoltcp::wire::Icmpv6Packet;

use crate::wire::MacAddr;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::frame::{ETHERNET_LEN, IPV6_LEN, protocol};
use crate::wire::ndp::multicast_mac;

/// The group of all MLDv2-capable routers, ff02::16 (RFC 3810 section 5.2.14).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// The largest number of groups in one report, so that it fits the minimum IPv6 MTU (1280 bytes).
pub const GROUPS_MAX: usize = 60;
const QUERY: u8 = 130;
const REPORT_V2: u8 = 143;
/// The hop-by-hop header of a report: next header, length 0, router alert for MLD (RFC 2711) and two bytes of padding.
const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const RECORD: usize = 20;

/// Why groups are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportReason {
    /// The engine has just joined them.
    Joined,
    /// A querier asked for them.
    Queried,
}

/// Builds a version 2 report that the engine listens to the first [`GROUPS_MAX`] of `groups`, from any source.
pub fn report(mac: MacAddr, link_local: Ipv6Addr, groups: &[Ipv6Addr], report: ReportReason) -> Vec<u8> {
    let groups = &groups[..groups.len().min(GROUPS_MAX)];
    let record_type = match report {
        ReportReason::Joined => 4,
        ReportReason::Queried => 2,
    };
    let macs = MacPair { source: mac, destination: multicast_mac(ALL_ROUTERS) };
    let pair = AddressPair::V6(link_local, ALL_ROUTERS);
    let len = ROUTER_ALERT.len() + 8 + groups.len() * RECORD;
    emit::ip(macs, pair, protocol::HOP_BY_HOP, 1, len, |bytes| {
        let (header, message) = bytes.split_at_mut(ROUTER_ALERT.len());
        header.copy_from_slice(&ROUTER_ALERT);
        message[0] = REPORT_V2;
        message[7] = u8::try_from(groups.len()).expect("bounded by GROUPS_MAX");
        for (record, group) in message[8..].chunks_exact_mut(RECORD).zip(groups) {
            record[0] = record_type;
            record[4..].copy_from_slice(&group.octets());
        }
        Icmpv6Packet::new_unchecked(message).fill_checksum(&link_local, &ALL_ROUTERS);
    })
}

/// True if the frame is a valid listener query of version 1 or 2: link-local source, hop limit 1 and router alert (RFC
/// 3810 section 5.1.14).
pub fn is_query(frame: &[u8]) -> bool {
    let Some(packet) = frame.get(ETHERNET_LEN..) else { return false };
    let Some((header, rest)) = packet.split_at_checked(IPV6_LEN) else { return false };
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let Some(payload) = rest.get(..len) else { return false };
    if header[0] >> 4 != 6
        || header[6] != protocol::HOP_BY_HOP
        || header[7] != 1
        || payload.get(..2) != Some(&[protocol::ICMPV6, 0])
    {
        return false;
    }
    let mut source = [0; 16];
    source.copy_from_slice(&header[8..24]);
    let mut destination = [0; 16];
    destination.copy_from_slice(&header[24..40]);
    let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
    let Some(message) = payload.get(8..).filter(|message| message.len() >= 24) else { return false };
    message[0] == QUERY
        && source.is_unicast_link_local()
        && Icmpv6Packet::new_unchecked(message).verify_checksum(&source, &destination)
}

#[cfg(test)]
mod tests {
    use pnet_packet::Packet;
    use pnet_packet::icmpv6::{self, Icmpv6Packet as PnetIcmp};
    use pnet_packet::ipv6::Ipv6Packet;

    use super::*;
    use crate::wire::ndp;

    const ENGINE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_report_names_every_group_with_a_valid_checksum() {
        let groups =
            [ndp::solicited_node("fd00:1::1".parse().unwrap()), ndp::solicited_node("fd00:1::2".parse().unwrap())];

        let frame = report(ENGINE, ndp::link_local(ENGINE), &groups, ReportReason::Joined);

        let ip = Ipv6Packet::new(&frame[14..]).unwrap();
        assert_eq!((ip.get_hop_limit(), ip.get_destination()), (1, ALL_ROUTERS));
        let (alert, message) = ip.payload().split_at(8);
        assert_eq!(alert, ROUTER_ALERT);
        let icmp = PnetIcmp::new(message).unwrap();
        assert_eq!(icmp.get_icmpv6_type().0, 143);
        assert_eq!(icmp.get_checksum(), icmpv6::checksum(&icmp, &ip.get_source(), &ip.get_destination()));
        assert_eq!(&message[12..28], groups[0].octets());
        assert_eq!(&message[32..48], groups[1].octets());
    }

    #[test]
    fn queries_are_known_and_nothing_else_is() {
        let router = ndp::link_local(MacAddr([2, 0, 0, 0, 0, 7]));
        let macs = MacPair { source: MacAddr([2, 0, 0, 0, 0, 7]), destination: multicast_mac(ndp::ALL_NODES) };
        let query = |kind: u8| {
            emit::ip(macs, AddressPair::V6(router, ndp::ALL_NODES), protocol::HOP_BY_HOP, 1, 8 + 28, |bytes| {
                bytes[..8].copy_from_slice(&ROUTER_ALERT);
                bytes[8] = kind;
                Icmpv6Packet::new_unchecked(&mut bytes[8..]).fill_checksum(&router, &ndp::ALL_NODES);
            })
        };
        assert!(is_query(&query(QUERY)));
        assert!(!is_query(&query(131)));
        let good = query(QUERY);
        for len in 0..good.len() {
            assert!(!is_query(&good[..len]), "cut to {len}");
        }
    }
}
