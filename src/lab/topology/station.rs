//! The stations of a lab, and which of them are engines.

use std::fmt;

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
    /// The namespace of one engine of a pair.
    Node(Side, PairNode),
    /// A server; they are counted from 1.
    Server(u8),
    /// The server of a [`LabFarm`](crate::lab::LabFarm) that is used when every other is down.
    Sorry,
    /// The switches: one bridge per segment, none of them with an IP address.
    Switch,
}

/// A side of the firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one toward the clients.
    Outer,
    /// The one toward the servers.
    Inner,
}

/// One of the two engines of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PairNode {
    /// The one with the higher priority.
    A,
    /// The other one.
    B,
}

/// An engine of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Engine {
    /// Its side of the firewalls.
    pub side: Side,
    /// Which one of its pair it is. `None`: the engine that speaks for its side, which is the only one, or the active
    /// one of a pair.
    pub node: Option<PairNode>,
}

impl Side {
    /// Both sides, outer first.
    pub const BOTH: [Self; 2] = [Self::Outer, Self::Inner];

    /// Name of the side, and of its engine if it has only one.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }

    /// The station at which its engine runs if it has only one.
    pub const fn node(self) -> Station {
        match self {
            Self::Outer => Station::Outer,
            Self::Inner => Station::Inner,
        }
    }

    /// The two engines of its pair.
    pub const fn pair(self) -> [Engine; 2] {
        [Engine { side: self, node: Some(PairNode::A) }, Engine { side: self, node: Some(PairNode::B) }]
    }
}

impl PairNode {
    /// Both nodes of a pair, the one with the higher priority first.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];
}

impl Engine {
    /// Its name, which is also that of its station.
    pub const fn name(self) -> &'static str {
        match (self.side, self.node) {
            (side, None) => side.engine(),
            (Side::Outer, Some(PairNode::A)) => "outer-a",
            (Side::Outer, Some(PairNode::B)) => "outer-b",
            (Side::Inner, Some(PairNode::A)) => "inner-a",
            (Side::Inner, Some(PairNode::B)) => "inner-b",
        }
    }

    /// The station at which it runs.
    pub const fn station(self) -> Station {
        match self.node {
            None => self.side.node(),
            Some(node) => Station::Node(self.side, node),
        }
    }

    /// The other engine of its pair.
    pub const fn twin(self) -> Option<Self> {
        let node = match self.node {
            None => return None,
            Some(PairNode::A) => PairNode::B,
            Some(PairNode::B) => PairNode::A,
        };
        Some(Self { side: self.side, node: Some(node) })
    }
}

impl From<Side> for Engine {
    fn from(side: Side) -> Self {
        Self { side, node: None }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Outer => f.write_str("outer"),
            Self::Firewall(number) => write!(f, "fw{number}"),
            Self::Inner => f.write_str("inner"),
            Self::Node(side, node) => f.write_str(Engine { side: *side, node: Some(*node) }.name()),
            Self::Server(number) => write!(f, "s{number}"),
            Self::Sorry => f.write_str("sorry"),
            Self::Switch => f.write_str("switch"),
        }
    }
}
