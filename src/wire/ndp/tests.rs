use pnet_packet::Packet;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmpv6::ndp::{NeighborAdvertPacket, NeighborSolicitPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet as PnetIcmp, Icmpv6Types};
use pnet_packet::ipv6::Ipv6Packet as PnetIpv6;

use super::*;

const ENGINE: MacAddr = MacAddr([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const ENGINE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const HOST_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0x0102, 0x0304);

#[test]
fn addresses_derive_as_the_rfcs_say() {
    assert_eq!(link_local(ENGINE), "fe80::5eff:fe10:1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(solicited_node(HOST_ADDRESS), "ff02::1:ff02:304".parse::<Ipv6Addr>().unwrap());
    assert_eq!(multicast_mac(solicited_node(HOST_ADDRESS)), MacAddr([0x33, 0x33, 0xff, 2, 3, 4]));
}

#[test]
fn a_second_parser_reads_a_solicitation() {
    let frame = solicitation(ENGINE, ENGINE_ADDRESS, HOST_ADDRESS, None);

    let ethernet = EthernetPacket::new(&frame).unwrap();
    let ip = PnetIpv6::new(ethernet.payload()).unwrap();
    let icmp = PnetIcmp::new(ip.payload()).unwrap();
    let message = NeighborSolicitPacket::new(ip.payload()).unwrap();
    assert_eq!(ethernet.get_destination().octets(), [0x33, 0x33, 0xff, 2, 3, 4]);
    assert_eq!(ip.get_hop_limit(), 255);
    assert_eq!(ip.get_destination(), solicited_node(HOST_ADDRESS));
    assert_eq!(icmp.get_icmpv6_type(), Icmpv6Types::NeighborSolicit);
    assert_eq!(icmp.get_checksum(), icmpv6::checksum(&icmp, &ip.get_source(), &ip.get_destination()));
    assert_eq!(message.get_target_addr(), HOST_ADDRESS);
    assert_eq!(message.get_options()[0].data, ENGINE.0);
}

#[test]
fn a_second_parser_reads_an_advertisement() {
    let frame = advertisement(ENGINE, ENGINE_ADDRESS, HOST_ADDRESS, HOST);

    let ethernet = EthernetPacket::new(&frame).unwrap();
    let ip = PnetIpv6::new(ethernet.payload()).unwrap();
    let message = NeighborAdvertPacket::new(ip.payload()).unwrap();
    assert_eq!(ethernet.get_destination().octets(), HOST.0);
    assert_eq!(message.get_flags() & 0xe0, 0xe0, "router, solicited, override");
    assert_eq!(message.get_target_addr(), ENGINE_ADDRESS);
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes_unsolicited() {
    let frame = advertisement(ENGINE, ENGINE_ADDRESS, Ipv6Addr::UNSPECIFIED, HOST);

    let ip = PnetIpv6::new(&frame[14..]).unwrap();
    assert_eq!(ip.get_destination(), ALL_NODES);
    let Ok(Ndp::Advertisement { solicited, overrides, .. }) = Ndp::parse(&frame) else { panic!("not read back") };
    assert_eq!((solicited, overrides), (false, true));
}

#[test]
fn what_was_built_is_read_back() {
    assert_eq!(
        Ndp::parse(&solicitation(HOST, HOST_ADDRESS, ENGINE_ADDRESS, Some(ENGINE))),
        Ok(Ndp::Solicitation { source: HOST_ADDRESS, target: ENGINE_ADDRESS, source_mac: Some(HOST) })
    );
    assert_eq!(
        Ndp::parse(&advertisement(HOST, HOST_ADDRESS, ENGINE_ADDRESS, ENGINE)),
        Ok(Ndp::Advertisement { target: HOST_ADDRESS, target_mac: Some(HOST), solicited: true, overrides: true })
    );
}

#[test]
fn every_rule_of_rfc_4861_7_1_refuses_its_violation() {
    let good = solicitation(HOST, HOST_ADDRESS, ENGINE_ADDRESS, None);
    let damaged = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        Ndp::parse(&frame)
    };
    assert_eq!(damaged(21, 254), Err(InvalidNdp::HopLimit(254)));
    assert_eq!(damaged(20, 44), Err(InvalidNdp::Kind), "behind a fragment header");
    assert_eq!(damaged(54, 134), Err(InvalidNdp::Kind), "router advertisement");
    assert_eq!(damaged(55, 1), Err(InvalidNdp::Code(1)));
    assert_eq!(damaged(56, 0), Err(InvalidNdp::Checksum));
    for len in 0..good.len() {
        assert!(Ndp::parse(&good[..len]).is_err(), "cut to {len}");
    }

    let rebuilt = |change: &dyn Fn(&mut [u8])| {
        let mut frame = good.clone();
        change(&mut frame);
        let (source, destination) = (address_at(&frame, 22), address_at(&frame, 38));
        Icmpv6Packet::new_unchecked(&mut frame[54..]).fill_checksum(&source, &destination);
        Ndp::parse(&frame)
    };
    assert_eq!(rebuilt(&|frame| frame[79] = 0), Err(InvalidNdp::Option), "option of length 0");
    assert_eq!(rebuilt(&|frame| frame[79] = 2), Err(InvalidNdp::Option), "option beyond the message");
    assert_eq!(rebuilt(&|frame| frame[80] |= 1), Err(InvalidNdp::Option), "group hardware address");
    assert_eq!(rebuilt(&|frame| frame[62] = 0xff), Err(InvalidNdp::Address), "multicast target");
    assert_eq!(rebuilt(&|frame| frame[22..38].fill(0)), Err(InvalidNdp::Address), "detection with an option");
    assert!(rebuilt(&|_| ()).is_ok());
}
