//! The two sides of the firewalls.

use crate::sim::firewall::FirewallLeg;

/// An engine, or a side of the firewalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The clients' side.
    Outer,
    /// The servers' side.
    Inner,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::Outer, Self::Inner];

    /// The other side.
    pub const fn other(self) -> Self {
        match self {
            Self::Outer => Self::Inner,
            Self::Inner => Self::Outer,
        }
    }

    /// The firewalls' leg on this side.
    pub const fn leg(self) -> FirewallLeg {
        match self {
            Self::Outer => FirewallLeg::Outside,
            Self::Inner => FirewallLeg::Inside,
        }
    }

    /// Name of the engine.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }
}
