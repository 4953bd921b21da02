//! The lab's plan of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Engine, PairNode, Side, Topology};

/// An address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPair {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl AddressPair {
    const fn new(v4: [u8; 4], v6: [u16; 8]) -> Self {
        let [a, b, c, d] = v4;
        let [e, f, g, h, i, j, k, l] = v6;
        Self { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(e, f, g, h, i, j, k, l) }
    }

    /// Both addresses, IPv4 first.
    pub const fn both(self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }

    /// The addresses of host `number`, 1..=9, in the same subnets.
    const fn host(self, number: u8) -> Self {
        let [a, b, c, _] = self.v4.octets();
        let [d, e, f, g, ..] = self.v6.segments();
        Self::new([a, b, c, number], [d, e, f, g, 0, 0, 0, number as u16])
    }

    /// Both addresses with the lab's prefix lengths, as `ip address` and the configuration file write them.
    pub fn subnets(self) -> [String; 2] {
        [format!("{}/24", self.v4), format!("{}/64", self.v6)]
    }
}

impl Topology {
    /// Address of the client.
    pub const fn client(&self) -> AddressPair {
        AddressPair::new([198, 51, 100, 7], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 7])
    }

    /// Address of the outer router toward the client.
    pub const fn outer_toward_client(&self) -> AddressPair {
        AddressPair::new([198, 51, 100, 1], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1])
    }

    /// Address of the inner router toward the servers.
    pub const fn inner_toward_servers(&self) -> AddressPair {
        AddressPair::new([203, 0, 113, 1], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1])
    }

    /// Address of a server; they are counted from 1.
    pub const fn server(&self, number: u8) -> AddressPair {
        AddressPair::new([203, 0, 113, 10 + number], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, super::decimal(10 + number)])
    }

    /// Address of the sorry server.
    pub const fn sorry_server(&self) -> AddressPair {
        AddressPair::new([203, 0, 113, 99], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x99])
    }

    /// Address of the virtual services. It is in no link's subnet: the routers route its network to the inner engine.
    pub const fn vip(&self) -> AddressPair {
        AddressPair::new([192, 0, 2, 80], [0x2001, 0xdb8, 0x2, 0, 0, 0, 0, 0x80])
    }

    /// Address of the outer router toward the firewalls. With layer-2 firewalls, each path has a subnet of its own.
    pub const fn outer_toward_firewalls(&self, firewall: u8) -> AddressPair {
        match self.kind.is_layer2() {
            true => AddressPair::new([10, 1, firewall, 1], [0xfd00, 1, firewall as u16, 0, 0, 0, 0, 1]),
            false => AddressPair::new([10, 1, 0, 1], [0xfd00, 1, 0, 0, 0, 0, 0, 1]),
        }
    }

    /// Address of the inner router toward the firewalls.
    pub const fn inner_toward_firewalls(&self, firewall: u8) -> AddressPair {
        match self.kind.is_layer2() {
            true => AddressPair::new([10, 1, firewall, 2], [0xfd00, 1, firewall as u16, 0, 0, 0, 0, 2]),
            false => AddressPair::new([10, 2, 0, 1], [0xfd00, 2, 0, 0, 0, 0, 0, 1]),
        }
    }

    /// Address of a routing firewall's leg toward `side`; firewalls are counted from 1.
    pub const fn leg(&self, side: Side, firewall: u8) -> AddressPair {
        let net = match side {
            Side::Outer => 1,
            Side::Inner => 2,
        };
        AddressPair::new(
            [10, net, 0, 10 + firewall],
            [0xfd00, net as u16, 0, 0, 0, 0, 0, super::decimal(10 + firewall)],
        )
    }

    /// An engine's own address beside `floating`, which the pair shares; `floating` itself for an engine that is alone.
    pub const fn own(engine: Engine, floating: AddressPair) -> AddressPair {
        match engine.node {
            None => floating,
            Some(PairNode::A) => floating.host(2),
            Some(PairNode::B) => floating.host(3),
        }
    }

    /// Address of a pair's node on the cable between the two, which belongs to the kernel: a /24.
    pub const fn sync(side: Side, node: PairNode) -> Ipv4Addr {
        let net = match side {
            Side::Outer => 1,
            Side::Inner => 2,
        };
        let host = match node {
            PairNode::A => 1,
            PairNode::B => 2,
        };
        Ipv4Addr::new(10, 255, net, host)
    }

    /// The virtual router identifier of a side's pair.
    pub const fn vrid(side: Side) -> u8 {
        match side {
            Side::Outer => 51,
            Side::Inner => 61,
        }
    }

    /// The ranges to which a translating firewall translates clients: a /28 and a /64.
    pub fn nat_range(&self, firewall: u8) -> [String; 2] {
        [format!("10.3.{firewall}.0/28"), format!("fd00:3:{firewall}::/64")]
    }
}
