//! The description of a lab: how many firewalls of which kind, which stations around them, and which settings of the
//! engines. All names and addresses follow from it.

mod address;
mod station;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LabError, LabFarm};

pub use address::AddressPair;
pub use station::{Engine, PairNode, Side, Station};

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
    /// More settings for all configuration files: section (one of [`SECTIONS`]; those of services for every service), key,
    /// value. They replace those that the lab would write.
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
    /// Four engines, two on each side that are one virtual router, each with a process and a namespace of its own.
    Pairs,
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
            (
                RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::OneBox | RoutingSetup::Kernel { .. },
                1..=16,
            ) => {}
            (
                RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::OneBox | RoutingSetup::Kernel { .. },
                firewalls,
            ) => return refuse(format!("a lab has 1 to 16 firewalls, not {firewalls}")),
        }
        if self.routers == RoutingSetup::Pairs && self.kind.is_layer2() {
            return refuse("pairs of engines need firewalls that route".to_owned());
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
        if self.settings.contains_key("ha") && self.routers != RoutingSetup::Pairs {
            return refuse("settings of [ha] need pairs of engines".to_owned());
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
        let engines_of = |side: Side| self.engines().into_iter().filter(move |engine| engine.side == side);
        let mut nodes = vec![Station::Switch, Station::Client];
        nodes.extend(engines_of(Side::Outer).map(Engine::station));
        if self.kind != FirewallKind::Vlan {
            nodes.extend((1..=self.firewalls).map(Station::Firewall));
        }
        if self.routers != RoutingSetup::OneBox {
            nodes.extend(engines_of(Side::Inner).map(Engine::station));
        }
        nodes.extend(self.server_stations().into_iter().map(|(node, _)| node));
        nodes
    }

    /// The servers with their addresses; the sorry server is last.
    pub fn server_stations(&self) -> Vec<(Station, AddressPair)> {
        let sorry = self.farm.as_ref().map(|_| (Station::Sorry, self.sorry_server()));
        (1..=self.servers).map(|number| (Station::Server(number), self.server(number))).chain(sorry).collect()
    }

    /// The sides that have engines, outer first.
    pub const fn sides(&self) -> &'static [Side] {
        match self.routers {
            RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::OneBox | RoutingSetup::Kernel { .. } => {
                &Side::BOTH
            }
            RoutingSetup::Single => &[Side::Inner],
        }
    }

    /// The engines, those of the outer side first.
    pub fn engines(&self) -> Vec<Engine> {
        match self.routers {
            RoutingSetup::Pairs => Side::BOTH.into_iter().flat_map(Side::pair).collect(),
            RoutingSetup::Engines | RoutingSetup::OneBox | RoutingSetup::Single | RoutingSetup::Kernel { .. } => {
                self.sides().iter().map(|side| Engine::from(*side)).collect()
            }
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
        if self.routers == RoutingSetup::OneBox && wanted == "inner" {
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

/// Sections of the configuration file that [`Topology::settings`] may have; `ha` only in a lab with pairs.
pub const SECTIONS: [&str; 10] =
    ["engine", "api", "ha", "limits", "log", "timeouts", "group", "group.check", "service", "service.check"];

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
        let [_, second] = Side::Inner.pair();
        assert_eq!(Topology::own(second, lab.inner_toward_firewalls(0)).subnets(), ["10.2.0.3/24", "fd00:2::3/64"]);
        assert_eq!(Topology::own(Side::Inner.into(), lab.client()), lab.client());
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
    fn each_engine_of_a_pair_has_a_namespace_of_its_own() {
        let lab = Topology { routers: RoutingSetup::Pairs, ..Topology::new("fwlb") };

        let namespaces: Vec<_> = lab.engines().into_iter().map(|engine| lab.namespace(engine.station())).collect();

        assert_eq!(namespaces, ["fwlb-outer-a", "fwlb-outer-b", "fwlb-inner-a", "fwlb-inner-b"]);
        assert_eq!(lab.station("inner-b").unwrap(), Station::Node(Side::Inner, PairNode::B));
        assert!(lab.station("inner").unwrap_err().to_string().contains("outer-a, outer-b, fw1"));
        let with_bridges = Topology { kind: FirewallKind::Transparent, ..lab };
        assert!(with_bridges.validate().unwrap_err().to_string().contains("firewalls that route"));
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_the_range() {
        let lab = Topology { firewalls: 17, ..Topology::new("fwlb") };
        assert_eq!(lab.validate().unwrap_err().to_string(), "a lab has 1 to 16 firewalls, not 17");

        let lab = Topology::new("fwlb").with("grop", "seed", "x");
        assert!(lab.validate().unwrap_err().to_string().contains("not to \"grop\""));

        let lab = Topology::new("fwlb").with("ha", "margin", 20);
        assert!(lab.validate().unwrap_err().to_string().contains("need pairs"));

        let lab = Topology { routers: RoutingSetup::Kernel { outer: 1, inner: 3 }, ..Topology::new("fwlb") };
        assert!(lab.validate().unwrap_err().to_string().contains("1..=2"));
    }
}
