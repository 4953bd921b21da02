use std::collections::BTreeMap;

use super::*;
use crate::ha::machine::testing;
use crate::time::{Duration, Instant};

const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SAID: Advertise = Advertise { priority: 190, interval: Duration::from_millis(30) };

fn at(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The first node of a pair on its two links, over both families on the first, and the neighbours that it knows.
struct Around {
    addresses: [Vec<IpNet>; 2],
    router_macs: [[MacAddr; 2]; 2],
    neighbors: BTreeMap<(LinkId, IpAddr), MacAddr>,
}

impl Surroundings for Around {
    fn station(&self, link: LinkId) -> Option<Station<'_>> {
        let (addresses, router_macs) = (self.addresses.get(link.index())?, self.router_macs[link.index()]);
        Some(Station { mac: MACS[link.index()], router_macs, addresses })
    }

    fn neighbor_mac(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        self.neighbors.get(&(link, address)).copied()
    }
}

fn around() -> Around {
    let nets = |all: &[&str]| all.iter().map(|text| text.parse().expect("a network")).collect();
    Around {
        addresses: [nets(&["198.51.100.2/24", "2001:db8::2/64", "fe80::2/64"]), nets(&["10.1.0.2/24", "fe80::2/64"])],
        router_macs: [[Family::V4, Family::V6].map(|family| vrrp::virtual_mac(family, 51)); 2],
        neighbors: BTreeMap::new(),
    }
}

fn pair() -> HaConfig {
    let mut config = testing::config(2);
    config.legs[0].floating.extend([at("fe80::9568:51"), at("2001:db8::1")]);
    config.nodes[1].addresses.push(at("2001:db8::3"));
    config
}

fn advertised(config: HaConfig, around: &Around) -> Vec<(LinkId, MacAddr, Received)> {
    let frames = advertisements(SAID, &Machine::new(config, Instant::ZERO), around);
    let parse = |(link, mut bytes): (LinkId, Vec<u8>)| {
        let destination = MacAddr(bytes[..6].try_into().expect("six bytes"));
        match read(&mut bytes) {
            Some(ClusterFrame::Advertisement(Ok(received))) => (link, destination, received),
            other => panic!("{other:?}"),
        }
    };
    frames.into_iter().map(parse).collect()
}

#[test]
fn a_round_advertises_on_every_leg_and_for_every_family_with_floating_addresses() {
    let said = advertised(pair(), &around());
    let told: Vec<_> = said.iter().map(|(link, _, one)| (*link, one.pair.family(), one.pair.source())).collect();
    assert_eq!(
        told,
        [
            (LinkId(0), Family::V4, at("198.51.100.2")),
            (LinkId(0), Family::V6, at("fe80::2")),
            (LinkId(1), Family::V4, at("10.1.0.2")),
        ]
    );
    for (_, destination, received) in &said {
        let family = received.pair.family();
        assert_eq!((*destination, received.pair.destination()), (vrrp::group_mac(family), vrrp::group(family)));
        assert_eq!(received.source_mac, vrrp::virtual_mac(family, 51), "switches learn where the virtual one is");
        assert_eq!((received.advertisement.vrid, received.advertisement.priority), (51, 190));
        assert_eq!(received.advertisement.interval, SAID.interval);
    }
    assert_eq!(said[1].2.advertisement.addresses, [at("fe80::9568:51"), at("2001:db8::1")]);
}

#[test]
fn without_a_virtual_mac_the_device_advertises() {
    let around = Around { router_macs: MACS.map(|mac| [mac; 2]), ..around() };
    for (link, _, received) in advertised(pair(), &around) {
        assert_eq!(received.source_mac, MACS[link.index()]);
    }
}

#[test]
fn by_unicast_an_advertisement_goes_to_each_resolved_node_at_its_address_on_that_link() {
    let mut config = pair();
    config.legs[0].unicast = true;
    config.legs.truncate(1);
    let mut around = around();
    assert!(advertised(config.clone(), &around).is_empty(), "nobody is resolved yet");

    // Its address on the other link is known here, too: a neighbour that claims it is not asked to pass it on.
    around.neighbors.insert((LinkId(0), at("10.1.0.3")), OTHER);
    assert!(advertised(config.clone(), &around).is_empty(), "it lies in no subnet of the link");

    around.neighbors.insert((LinkId(0), at("198.51.100.3")), OTHER);
    around.neighbors.insert((LinkId(0), at("2001:db8::3")), OTHER);
    let said = advertised(config, &around);
    let to: Vec<_> = said.iter().map(|(_, mac, one)| (*mac, one.pair.source(), one.pair.destination())).collect();
    assert_eq!(
        to,
        [(OTHER, at("198.51.100.2"), at("198.51.100.3")), (OTHER, at("fe80::2"), at("2001:db8::3"))],
        "IPv6 from the link-local address"
    );
}

/// Where each datagram goes, and what it contains.
fn sent(
    config: &HaConfig,
    leg: usize,
    sealed: &[(NodeId, Vec<u8>)],
    around: &Around,
) -> Vec<(MacAddr, IpAddr, Vec<u8>)> {
    let read_one = |mut frame: Vec<u8>| {
        let destination = MacAddr(frame[..6].try_into().expect("six bytes"));
        match read(&mut frame) {
            Some(ClusterFrame::Datagram { source_mac, pair, bytes }) => {
                assert_eq!(source_mac, MACS[leg], "a hello is no word of the virtual router");
                (destination, pair.destination(), bytes.to_vec())
            }
            other => panic!("{other:?}"),
        }
    };
    datagrams(&config.legs[leg], config, sealed, around).into_iter().map(read_one).collect()
}

#[test]
fn datagrams_go_to_the_group_or_by_unicast_to_the_node_that_is_resolved() {
    let mut config = pair();
    let sealed = [(NodeId(1), vec![1, 2, 3])];
    let to_group = vec![(vrrp::group_mac(Family::V4), vrrp::group(Family::V4), vec![1, 2, 3])];
    let mut around = around();
    around.neighbors.insert((LinkId(0), at("198.51.100.3")), OTHER);
    assert_eq!(sent(&config, 0, &sealed, &around), to_group);

    config.legs[0].unicast = true;
    config.legs[1].unicast = true;
    assert_eq!(sent(&config, 0, &sealed, &around), [(OTHER, at("198.51.100.3"), vec![1, 2, 3])]);
    assert_eq!(sent(&config, 1, &sealed, &around), to_group, "it is not resolved on that link");

    config.nodes[1].kind = NodeKind::Vrrp;
    assert!(sent(&config, 0, &sealed, &around).is_empty(), "it reads no hellos");
}

#[test]
fn a_link_that_is_not_known_or_has_no_address_carries_nothing() {
    let mut config = pair();
    let around = Around { addresses: [Vec::new(), around().addresses[1].clone()], ..around() };
    assert!(datagrams(&config.legs[0], &config, &[(NodeId(1), vec![1])], &around).is_empty());
    config.legs[1].link = LinkId(7);
    assert!(datagrams(&config.legs[1], &config, &[(NodeId(1), vec![1])], &around).is_empty());
    assert!(advertised(config, &around).is_empty());
}

#[test]
fn a_node_speaks_from_its_own_address_and_over_ipv6_from_the_link_local_one() {
    let addresses = ["2001:db8::2/64", "198.51.100.2/24", "fe80::2/64"].map(|text| text.parse().unwrap());
    let own = |family| own_address(&addresses, family).map(|own| own.to_string());
    assert_eq!(own(None).as_deref(), Some("198.51.100.2"));
    assert_eq!(own(Some(Family::V4)).as_deref(), Some("198.51.100.2"));
    assert_eq!(own(Some(Family::V6)).as_deref(), Some("fe80::2"));
    assert_eq!(own_address(&addresses[..1], None), Some(at("2001:db8::2")));
    assert_eq!(own_address(&addresses[..1], Some(Family::V4)), None);
}
