//! What a node's own health takes from its priority: deductions, each with its subject, in points.

use std::fmt;
use std::net::IpAddr;

use crate::ha::alarm::AlarmKind;
use crate::ha::settings::{HaConfig, LegId, NodeId};

/// Points for a tracked link that is lost.
pub const LINK: u16 = 50;
/// Points for all firewalls of a group; a part of them counts by its share of the weights.
pub const FIREWALLS: u16 = 30;
/// Further points for a group with fewer live firewalls than `min-up`.
pub const BELOW_MIN: u16 = 30;
/// Points for a link none of whose next hops answers.
pub const GATEWAY: u16 = 20;
/// Points for all services; a part of them counts by its share.
pub const SERVICES: u16 = 10;

named_enum! {
    /// What costs a node a part of its priority.
    pub enum DeductionKind {
        /// A link without carrier, or on which nobody is heard.
        Link = "link",
        /// Firewalls of a group that are down.
        Group = "group",
        /// A link none of whose next hops answers.
        Gateway = "gateway",
        /// Services without a live server.
        Services = "services",
    }
}

/// What is taken from the priority, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deduction {
    /// What costs it.
    pub kind: DeductionKind,
    /// Its name.
    pub subject: String,
    /// What is wrong with it, in words.
    pub detail: String,
    /// The points.
    pub points: u16,
}

/// Why a node may not be active.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A packet worker stands still.
    Worker,
    /// The control thread stands still.
    Control,
    /// Every tracked link is down.
    Links,
    /// An operator took the node out of service.
    Maint,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker => f.write_str("a packet worker stands still"),
            Self::Control => f.write_str("the control thread stands still"),
            Self::Links => f.write_str("every tracked link is down"),
            Self::Maint => f.write_str("it is in maintenance"),
        }
    }
}

/// What the engine sees of itself. [`crate::ha::Machine::handle_health`] takes it whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether each link has carrier, by [`LegId`]; a link beyond the end of the list has.
    pub carrier: Vec<bool>,
    /// The link-local address from which each link speaks IPv6, by [`LegId`]. It is made from the MAC address of the
    /// device unless the file has one.
    pub link_local: Vec<Option<IpAddr>>,
    /// The firewalls of each group.
    pub groups: Vec<GroupHealth>,
    /// The links with routes to next hops.
    pub gateways: Vec<GatewayHealth>,
    /// The number of services.
    pub services: u32,
    /// The number of services without a live server.
    pub services_down: u32,
    /// What stops this node from being active, besides its links and orders: it comes from the watchdog.
    pub faults: Vec<Fault>,
    /// How far the copies of sessions are.
    pub sync: SyncState,
}

/// The firewalls of a group, of its worst pair of peer and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHealth {
    /// The group's name.
    pub name: String,
    /// The sum of the weights of firewalls that are down.
    pub down: u32,
    /// The sum of all weights; spares do not count.
    pub weight: u32,
    /// Whether fewer than `min-up` firewalls are live.
    pub is_below_min: bool,
}

/// The next hops of the routes of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayHealth {
    /// The name of the link.
    pub link: String,
    /// Whether one of them answers.
    pub answers: bool,
}

/// How far the copies of sessions are that this node holds, or that others hold of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncState {
    /// Whether this node has every copy that it would need as the active one. Without copies it always has.
    pub is_ready: bool,
    /// The nodes that may lack copies of this one's sessions: a full pass to them is wanted or under way.
    pub lacking: Vec<NodeId>,
    /// The number of live sessions.
    pub sessions: u32,
    /// The number of sessions of this node that others could not handle by themselves after a takeover, so that they need
    /// copies of them.
    pub needed: u32,
    /// The number of copies that this node holds.
    pub held: u32,
    /// What is wrong with the copies at or from another node, and why.
    pub alarms: Vec<(AlarmKind, NodeId, String)>,
}

impl Default for SyncState {
    fn default() -> Self {
        Self { is_ready: true, lacking: Vec::new(), sessions: 0, needed: 0, held: 0, alarms: Vec::new() }
    }
}

/// The deductions of a node with this health; `dead` says of each leg whether it hears nobody.
pub fn deductions(config: &HaConfig, health: &Health, dead: impl Fn(LegId) -> bool) -> Vec<Deduction> {
    let mut found = Vec::new();
    for (index, leg) in config.legs.iter().enumerate() {
        let detail = match (has_carrier(health, LegId(index as u16)), dead(LegId(index as u16))) {
            (false, _) => "no carrier",
            (true, true) => "nobody is heard",
            (true, false) => continue,
        };
        let points = if leg.track { LINK } else { 0 };
        found.push(Deduction {
            kind: DeductionKind::Link,
            subject: leg.name.clone(),
            detail: detail.to_owned(),
            points,
        });
    }
    for group in &health.groups {
        let part = share(FIREWALLS, group.down, group.weight);
        let (points, detail) = match group.is_below_min {
            true => (part + BELOW_MIN, "fewer live firewalls than min-up"),
            false => (part, "firewalls are down"),
        };
        if points > 0 {
            let detail = format!("{} of {} by weight: {detail}", group.down, group.weight);
            found.push(Deduction { kind: DeductionKind::Group, subject: group.name.clone(), detail, points });
        }
    }
    for gateway in health.gateways.iter().filter(|gateway| !gateway.answers) {
        let detail = "no next hop answers".to_owned();
        found.push(Deduction { kind: DeductionKind::Gateway, subject: gateway.link.clone(), detail, points: GATEWAY });
    }
    let points = share(SERVICES, health.services_down, health.services);
    if points > 0 {
        let detail = format!("{} of {} have no live server", health.services_down, health.services);
        found.push(Deduction { kind: DeductionKind::Services, subject: "all".to_owned(), detail, points });
    }
    found
}

/// The sum of the points.
pub fn total(deductions: &[Deduction]) -> u16 {
    deductions.iter().fold(0, |sum, deduction| sum.saturating_add(deduction.points))
}

/// The priority that is advertised: 1 at least, as 0 says that a node stops (RFC 9568 section 5.2.4).
pub fn priority(base: u8, deductions: u16) -> u8 {
    u8::try_from(u16::from(base).saturating_sub(deductions).max(1)).unwrap_or(base)
}

/// Whether a link has carrier.
pub fn has_carrier(health: &Health, leg: LegId) -> bool {
    health.carrier.get(leg.index()).copied().unwrap_or(true)
}

/// True if there are tracked links and all are without carrier.
pub fn all_links_down(config: &HaConfig, health: &Health) -> bool {
    let mut tracked = config.legs.iter().enumerate().filter(|(_, leg)| leg.track).peekable();
    tracked.peek().is_some() && tracked.all(|(index, _)| !has_carrier(health, LegId(index as u16)))
}

/// `points` by the share `part` of `all`, rounded up; nothing of nothing.
fn share(points: u16, part: u32, all: u32) -> u16 {
    let part = u64::from(part.min(all)) * u64::from(points);
    part.checked_div(u64::from(all)).map_or(0, |_| part.div_ceil(u64::from(all)) as u16)
}

#[cfg(test)]
mod tests;
