//! The description of a lab: how many firewalls of which kind, which stations around them, and which settings of the
//! engines. All names and addresses follow from it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{LabError, LabFarm};

/// A lab to build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Prefix of its namespaces and name of its directory: 1 to 12 letters and digits, so that no lab's prefix is the
    /// beginning of another's.
    pub name: String,
    /// Number of firewalls, 1..=16.
    pub firewalls: u8,
    /// Kind of the firewalls.
    pub kind: FirewallKind,
    /// Number of servers, 1..=8, on one segment behind the inner engine.
    pub servers: u8,
    /// Who routes on both sides of the firewalls.
    pub routers: RoutingSetup,
    /// MTU of the firewalls' inner segment, 1280..=1500.
    pub inner_mtu: u16,
    /// MTU of the servers' segment, 1280..=1500.
    pub server_mtu: u16,
    /// The group's seed on the outer and on the inner engine. Different seeds are a fault that the engines have to
    /// survive.
    pub seeds: [String; 2],
    /// More settings for both configuration files: section (`engine`, `limits`, `timeouts`, `group`, `group.check`,
    /// `service`, `service.check`; the last two for every service), key, value. They replace those that the lab would
    /// write.
    pub settings: BTreeMap<String, BTreeMap<String, toml::Value>>,
    /// Virtual services of the inner engine; `None`: packets are only routed to the servers.
    #[serde(default)]
    pub farm: Option<LabFarm>,
}

/// What stands between the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirewallKind {
    /// A router that drops and counts what conntrack calls invalid, and new TCP flows that do not begin with a SYN.
    Strict,
    /// A router that picks up flows in mid-stream.
    Loose,
    /// Strict, and translates the clients' addresses to a range of its own.
    Nat,
    /// Strict, and a bridge: each firewall connects two links of its own.
    Transparent,
    /// No firewall: each path is one VLAN of a trunk between the engines.
    Vlan,
}

/// Who routes on both sides of the firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingSetup {
    /// Two engines, each with a process and a namespace of its own.
    Engines,
    /// Two engines in one process.
    OneBox,
    /// One engine, the inner one, between clients and servers, and no firewalls: a plain server load balancer.
    Single,
    /// The kernel, with static routes through firewall `outer` toward the servers and through `inner` toward the
    /// clients, to show what happens without fwlb. Firewalls are counted from 1.
    Kernel {
        /// The firewall that the outer router uses.
        outer: u8,
        /// The firewall that the inner router uses.
        inner: u8,
    },
}

/// A station of the lab, which is a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Station {
    /// The client, before the outer engine.
    Client,
    /// The outer engine's namespace; in a one-box lab that of both engines.
    Outer,
    /// A firewall; they are counted from 1.
    Firewall(u8),
    /// The inner engine's namespace; in a one-box lab the same as [`Station::Outer`].
    Inner,
    /// A server; they are counted from 1.
    Server(u8),
    /// The server of a [`LabFarm`] that is used when every other is down.
    Sorry,
    /// The switches: one bridge per segment, none of them with an IP address.
    Switch,
}

/// One of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one toward the clients.
    Outer,
    /// The one toward the servers.
    Inner,
}

impl Side {
    /// Both engines, outer first.
    pub const BOTH: [Self; 2] = [Self::Outer, Self::Inner];

    /// Name of the engine.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }

    /// The station at which it runs.
    pub const fn node(self) -> Station {
        match self {
            Self::Outer => Station::Outer,
            Self::Inner => Station::Inner,
        }
    }
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Outer => f.write_str("outer"),
            Self::Firewall(number) => write!(f, "fw{number}"),
            Self::Inner => f.write_str("inner"),
            Self::Server(number) => write!(f, "s{number}"),
            Self::Sorry => f.write_str("sorry"),
            Self::Switch => f.write_str("switch"),
        }
    }
}

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

    /// Both addresses with the lab's prefix lengths, as `ip address` and the configuration file write them.
    pub fn subnets(self) -> [String; 2] {
        [format!("{}/24", self.v4), format!("{}/64", self.v6)]
    }
}

impl Topology {
    /// Two strict firewalls between two engines, and two servers, as in the README's picture.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            firewalls: 2,
            kind: FirewallKind::Strict,
            servers: 2,
            routers: RoutingSetup::Engines,
            inner_mtu: 1500,
            server_mtu: 1500,
            seeds: ["the laboratory's shared seed".to_owned(), "the laboratory's shared seed".to_owned()],
            settings: BTreeMap::new(),
            farm: None,
        }
    }

    /// Adds a setting for both configuration files.
    #[must_use]
    pub fn with(mut self, section: &str, key: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    /// Whether the engines' settings contain `io = "af-xdp"`.
    pub(super) fn is_xdp(&self) -> bool {
        let io = self.settings.get("engine").and_then(|engine| engine.get("io"));
        io.and_then(toml::Value::as_str) == Some(crate::config::Io::AfXdp.name())
    }

    /// Refuses a topology that cannot be built, with the permitted range.
    pub fn validate(&self) -> Result<(), LabError> {
        let refuse = |what: String| Err(LabError::Topology(what));
        if !is_lab_name(&self.name) {
            return refuse(format!("a lab's name is 1 to 12 letters and digits, not {:?}", self.name));
        }
        match (self.routers, self.firewalls) {
            (RoutingSetup::Single, 0) => {}
            (RoutingSetup::Single, firewalls) => {
                return refuse(format!("a plain server load balancer has no firewalls, not {firewalls}"));
            }
            (RoutingSetup::Engines | RoutingSetup::OneBox | RoutingSetup::Kernel { .. }, 1..=16) => {}
            (RoutingSetup::Engines | RoutingSetup::OneBox | RoutingSetup::Kernel { .. }, firewalls) => {
                return refuse(format!("a lab has 1 to 16 firewalls, not {firewalls}"));
            }
        }
        if !(1..=8).contains(&self.servers) {
            return refuse(format!("a lab has 1 to 8 servers, not {}", self.servers));
        }
        for mtu in [self.inner_mtu, self.server_mtu] {
            if !(1280..=1500).contains(&mtu) {
                return refuse(format!("an MTU of the lab lies in 1280..=1500 (IPv6 needs 1280), not {mtu}"));
            }
        }
        if let RoutingSetup::Kernel { outer, inner } = self.routers {
            if self.kind.is_layer2() {
                return refuse("kernel routers need firewalls that route".to_owned());
            }
            if [outer, inner].iter().any(|firewall| !(1..=self.firewalls).contains(firewall)) {
                return refuse(format!("the routers use firewalls 1..={}, not {outer} and {inner}", self.firewalls));
            }
        }
        if let Some(farm) = &self.farm {
            if matches!(self.routers, RoutingSetup::Kernel { .. }) {
                return refuse("services need fwlb: kernel routers have none".to_owned());
            }
            farm.validate(self.servers)?;
        }
        for section in self.settings.keys() {
            if !SECTIONS.contains(&section.as_str()) {
                return refuse(format!("settings go to {}, not to {section:?}", SECTIONS.join(", ")));
            }
        }
        Ok(())
    }

    /// All stations, each namespace once.
    pub fn stations(&self) -> Vec<Station> {
        let mut nodes = vec![Station::Switch, Station::Client];
        if self.routers != RoutingSetup::Single {
            nodes.push(Station::Outer);
        }
        if self.kind != FirewallKind::Vlan {
            nodes.extend((1..=self.firewalls).map(Station::Firewall));
        }
        if self.routers != RoutingSetup::OneBox {
            nodes.push(Station::Inner);
        }
        nodes.extend(self.server_stations().into_iter().map(|(node, _)| node));
        nodes
    }

    /// The servers with their addresses; the sorry server is last.
    pub fn server_stations(&self) -> Vec<(Station, AddressPair)> {
        let sorry = self.farm.as_ref().map(|_| (Station::Sorry, self.sorry_server()));
        (1..=self.servers).map(|number| (Station::Server(number), self.server(number))).chain(sorry).collect()
    }

    /// The engines, outer first.
    pub const fn sides(&self) -> &'static [Side] {
        match self.routers {
            RoutingSetup::Engines | RoutingSetup::OneBox | RoutingSetup::Kernel { .. } => &Side::BOTH,
            RoutingSetup::Single => &[Side::Inner],
        }
    }

    /// The station called `name`; `server`, `client1` and `box` are accepted too.
    pub fn station(&self, name: &str) -> Result<Station, LabError> {
        let wanted = match name {
            "server" => "s1",
            "client1" => "client",
            "box" => "outer",
            other => other,
        };
        if wanted == "inner" {
            return Ok(Station::Inner);
        }
        self.stations().into_iter().find(|node| node.to_string() == wanted).ok_or_else(|| LabError::NoNode {
            name: name.to_owned(),
            known: self.stations().iter().map(Station::to_string).collect::<Vec<_>>().join(", "),
        })
    }

    /// The number of the firewall called `name` (`fw1`, `perimeter/fw1` or `1`).
    pub fn firewall(&self, name: &str) -> Result<u8, LabError> {
        let number = name.trim_start_matches("perimeter/").trim_start_matches("fw").parse().ok();
        number.filter(|number| (1..=self.firewalls).contains(number)).ok_or_else(|| LabError::NoNode {
            name: name.to_owned(),
            known: (1..=self.firewalls).map(|number| format!("fw{number}")).collect::<Vec<_>>().join(", "),
        })
    }

    /// Name of a station's namespace.
    pub fn namespace(&self, node: Station) -> String {
        let node = match (node, self.routers) {
            (Station::Inner, RoutingSetup::OneBox) => Station::Outer,
            (node, _) => node,
        };
        format!("{}-{node}", self.name)
    }

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
        AddressPair::new([203, 0, 113, 10 + number], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, decimal(10 + number)])
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
        AddressPair::new([10, net, 0, 10 + firewall], [0xfd00, net as u16, 0, 0, 0, 0, 0, decimal(10 + firewall)])
    }

    /// The ranges to which a translating firewall translates clients: a /28 and a /64.
    pub fn nat_range(&self, firewall: u8) -> [String; 2] {
        [format!("10.3.{firewall}.0/28"), format!("fd00:3:{firewall}::/64")]
    }
}

impl FirewallKind {
    /// Whether the firewall is no IP hop, so that the engines are neighbours.
    pub const fn is_layer2(self) -> bool {
        match self {
            Self::Transparent | Self::Vlan => true,
            Self::Strict | Self::Loose | Self::Nat => false,
        }
    }
}

/// Sections of the configuration file that [`Topology::settings`] may have.
pub const SECTIONS: [&str; 9] =
    ["engine", "api", "limits", "log", "timeouts", "group", "group.check", "service", "service.check"];

/// Whether `name` is valid as the name of a lab.
pub fn is_lab_name(name: &str) -> bool {
    (1..=12).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The number whose hexadecimal digits are the decimal digits of `number`, so that 10.1.0.11 and fd00:1::11 correspond.
const fn decimal(number: u8) -> u16 {
    let number = number as u16;
    number / 100 * 256 + number / 10 % 10 * 16 + number % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_look_alike() {
        let lab = Topology::new("fwlb");

        assert_eq!(lab.leg(Side::Outer, 1).subnets(), ["10.1.0.11/24", "fd00:1::11/64"]);
        assert_eq!(lab.leg(Side::Inner, 9).subnets(), ["10.2.0.19/24", "fd00:2::19/64"]);
        assert_eq!(lab.server(2).subnets(), ["203.0.113.12/24", "2001:db8:113::12/64"]);
    }

    #[test]
    fn no_labs_namespaces_can_be_taken_for_anothers() {
        for bad in ["", "a-b", "a/b", "..", "way-too-long", "abcdefghijklm"] {
            assert!(!is_lab_name(bad), "{bad:?}");
        }
        let (short, long) = (Topology::new("fwlb"), Topology::new("fwlb2"));
        for node in long.stations() {
            assert!(!long.namespace(node).starts_with(&format!("{}-", short.name)));
        }
    }

    #[test]
    fn a_box_with_both_engines_is_one_namespace() {
        let lab = Topology { routers: RoutingSetup::OneBox, ..Topology::new("fwlb") };

        assert_eq!(lab.namespace(Station::Inner), lab.namespace(Station::Outer));
        assert!(!lab.stations().contains(&Station::Inner));
        assert_eq!(lab.station("inner").unwrap(), Station::Inner);
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_the_range() {
        let lab = Topology { firewalls: 17, ..Topology::new("fwlb") };
        assert_eq!(lab.validate().unwrap_err().to_string(), "a lab has 1 to 16 firewalls, not 17");

        let lab = Topology::new("fwlb").with("grop", "seed", "x");
        assert!(lab.validate().unwrap_err().to_string().contains("not to \"grop\""));

        let lab = Topology { routers: RoutingSetup::Kernel { outer: 1, inner: 3 }, ..Topology::new("fwlb") };
        assert!(lab.validate().unwrap_err().to_string().contains("1..=2"));
    }
}
