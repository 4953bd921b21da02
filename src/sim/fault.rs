//! Faults that are drawn from the seed: each begins, lasts and ends.

use crate::config::AdminState;
use crate::sim::firewall::FirewallLeg;
use crate::sim::host::Health;
use crate::sim::rng::Rng;
use crate::sim::sandwich::SandwichPlan;
use crate::sim::scenario::Scenario;
use crate::sim::side::Side;
use crate::sim::world::Cable;
use crate::time::{Duration, Instant};

/// Kinds of faults, for `--faults`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Loss, delay, duplication and reordering on all cables.
    Cables,
    /// Flipped bits.
    BitFlips,
    /// A firewall dies and boots with an empty table.
    Crash,
    /// One leg of a firewall, or one direction of it, is cut.
    HalfDead,
    /// A firewall does not pass probes.
    Probes,
    /// A firewall is slow.
    Slow,
    /// The MAC address of a firewall changes.
    Mac,
    /// An engine is killed and restarted.
    Engine,
    /// An engine is stopped for a while.
    Pause,
    /// The packet workers of an engine are stopped, while its control thread goes on.
    Stall,
    /// An engine's queue to the controller refuses everything.
    Punts,
    /// A link of an engine loses its carrier.
    Carrier,
    /// A firewall is set to drain or maint.
    Admin,
    /// A server dies, its program ends, or its web page answers 503.
    Server,
    /// A server's cable is cut, or loses, duplicates and reorders frames.
    ServerCable,
    /// A server is set to drain, maint or another weight.
    ServerAdmin,
}

impl FaultKind {
    /// All kinds with their names.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Cables, "wires"),
        (Self::BitFlips, "flips"),
        (Self::Crash, "crash"),
        (Self::HalfDead, "half-dead"),
        (Self::Probes, "probes"),
        (Self::Slow, "slow"),
        (Self::Mac, "mac"),
        (Self::Engine, "engine"),
        (Self::Pause, "pause"),
        (Self::Stall, "stall"),
        (Self::Punts, "punts"),
        (Self::Carrier, "carrier"),
        (Self::Admin, "admin"),
        (Self::Server, "server"),
        (Self::ServerCable, "server-cable"),
        (Self::ServerAdmin, "server-admin"),
    ];

    /// Whether the fault needs servers.
    pub const fn needs_servers(self) -> bool {
        match self {
            Self::Server | Self::ServerCable | Self::ServerAdmin => true,
            Self::Cables
            | Self::BitFlips
            | Self::Crash
            | Self::HalfDead
            | Self::Probes
            | Self::Slow
            | Self::Mac
            | Self::Engine
            | Self::Pause
            | Self::Stall
            | Self::Punts
            | Self::Carrier
            | Self::Admin => false,
        }
    }

    /// Whether the fault overloads an engine.
    pub const fn overloads(self) -> bool {
        matches!(self, Self::Stall | Self::Punts)
    }

    /// Whether the fault needs firewalls.
    pub const fn needs_firewalls(self) -> bool {
        match self {
            Self::Crash | Self::HalfDead | Self::Probes | Self::Slow | Self::Mac | Self::Admin => true,
            Self::Cables
            | Self::BitFlips
            | Self::Engine
            | Self::Pause
            | Self::Stall
            | Self::Punts
            | Self::Carrier
            | Self::Server
            | Self::ServerCable
            | Self::ServerAdmin => false,
        }
    }
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// [`FaultKind::Cables`] or [`FaultKind::BitFlips`], on all cables.
    Cables(Cable),
    /// [`FaultKind::Crash`].
    Crash(usize),
    /// [`FaultKind::HalfDead`]: both directions of a leg.
    Leg(usize, FirewallLeg),
    /// [`FaultKind::HalfDead`]: one direction of a leg; true: the one in which the firewall sends.
    OneWay(usize, FirewallLeg, bool),
    /// [`FaultKind::Probes`] that arrive on a leg.
    Probes(usize, FirewallLeg),
    /// [`FaultKind::Slow`].
    Slow(usize, Duration),
    /// [`FaultKind::Mac`].
    Mac(usize, FirewallLeg),
    /// [`FaultKind::Engine`].
    Engine(Side),
    /// [`FaultKind::Pause`].
    Pause(Side, Duration),
    /// [`FaultKind::Stall`].
    Stall(Side, Duration),
    /// [`FaultKind::Punts`].
    Punts(Side, Duration),
    /// [`FaultKind::Carrier`].
    Carrier(Side, usize),
    /// [`FaultKind::Admin`].
    Admin(Side, usize, AdminState),
    /// [`FaultKind::Server`].
    Server(usize, Health),
    /// [`FaultKind::ServerCable`].
    ServerCable(usize, Cable),
    /// [`FaultKind::ServerAdmin`]: service and server.
    ServerAdmin(usize, usize, AdminState),
    /// [`FaultKind::ServerAdmin`]: service, server and weight.
    ServerWeight(usize, usize, u16),
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// The fault.
    pub fault: Fault,
    /// When it begins.
    pub from: Instant,
    /// When it ends.
    pub until: Instant,
}

impl Fault {
    /// Whether two faults collide, so that the end of one would also end the other.
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leg(a, _) | Self::OneWay(a, ..), Self::Leg(b, _) | Self::OneWay(b, ..)) => a == b,
            (Self::Crash(a), Self::Crash(b)) | (Self::Slow(a, _), Self::Slow(b, _)) => a == b,
            (Self::Probes(a, _), Self::Probes(b, _)) | (Self::Admin(_, a, _), Self::Admin(_, b, _)) => a == b,
            (Self::Engine(a) | Self::Pause(a, _), Self::Engine(b) | Self::Pause(b, _)) => a == b,
            (Self::Carrier(a, _), Self::Carrier(b, _)) => a == b,
            (Self::Stall(a, _), Self::Stall(b, _)) | (Self::Punts(a, _), Self::Punts(b, _)) => a == b,
            (Self::Server(a, _), Self::Server(b, _)) => a == b,
            (Self::ServerCable(..) | Self::Cables(_), Self::ServerCable(..) | Self::Cables(_)) => true,
            (Self::ServerAdmin(a, b, _), Self::ServerAdmin(c, d, _)) => (a, b) == (c, d),
            (Self::ServerWeight(a, b, _), Self::ServerWeight(c, d, _)) => (a, b) == (c, d),
            (_, _) => false,
        }
    }

    /// Begins the fault.
    pub fn begin(&self, lab: &mut Scenario) {
        match *self {
            Self::Cables(wire) => lab.set_cables(wire),
            Self::Crash(firewall) => lab.crash_firewall(firewall),
            Self::Leg(firewall, leg) => lab.cut_leg(firewall, leg, true),
            Self::OneWay(firewall, leg, sending) => lab.cut_one_way(firewall, leg, sending, true),
            Self::Probes(firewall, leg) => lab.block_probes(firewall, leg, true),
            Self::Slow(firewall, lag) => lab.slow_firewall(firewall, lag),
            Self::Mac(firewall, leg) => lab.change_mac(firewall, leg),
            Self::Engine(side) => lab.crash_engine(side),
            Self::Pause(side, duration) => lab.pause_engine(side, duration),
            Self::Stall(side, duration) => lab.stall_workers(side, duration),
            Self::Punts(side, duration) => lab.refuse_punts(side, duration),
            Self::Carrier(side, link) => lab.set_carrier(side, link, false),
            Self::Admin(side, firewall, admin) => lab.set_admin(side, firewall, Some(admin)),
            Self::Server(server, health) => lab.set_health(server, health),
            Self::ServerCable(server, wire) => lab.set_server_cable(server, wire),
            Self::ServerAdmin(service, server, admin) => lab.set_server_admin(service, server, Some(admin)),
            Self::ServerWeight(service, server, weight) => lab.set_server_weight(service, server, Some(weight)),
        }
    }

    /// Ends the fault.
    pub fn end(&self, lab: &mut Scenario) {
        match *self {
            Self::Cables(_) => lab.set_cables(Cable::GOOD),
            Self::Crash(firewall) => lab.boot_firewall(firewall),
            Self::Leg(firewall, leg) => lab.cut_leg(firewall, leg, false),
            Self::OneWay(firewall, leg, sending) => lab.cut_one_way(firewall, leg, sending, false),
            Self::Probes(firewall, leg) => lab.block_probes(firewall, leg, false),
            Self::Slow(firewall, _) => lab.slow_firewall(firewall, Duration::ZERO),
            Self::Engine(side) => lab.start_engine(side),
            Self::Carrier(side, link) => lab.set_carrier(side, link, true),
            Self::Admin(side, firewall, _) => lab.set_admin(side, firewall, None),
            Self::Server(server, _) => lab.set_health(server, Health::Well),
            Self::ServerCable(server, _) => lab.set_server_cable(server, Cable::GOOD),
            Self::ServerAdmin(service, server, _) => lab.set_server_admin(service, server, None),
            Self::ServerWeight(service, server, _) => lab.set_server_weight(service, server, None),
            Self::Mac(..) | Self::Pause(..) | Self::Stall(..) | Self::Punts(..) => {}
        }
    }
}

/// Draws faults of these kinds between `from` and `until`.
pub fn draw(
    rng: &mut Rng,
    plan: &SandwichPlan,
    sorts: &[FaultKind],
    from: Instant,
    until: Instant,
) -> Vec<PlannedFault> {
    let mut planned: Vec<PlannedFault> = Vec::new();
    draw_more(rng, plan, sorts, from, until, &mut planned);
    planned
}

/// Draws more faults that do not collide with the planned ones.
pub fn draw_more(
    rng: &mut Rng,
    plan: &SandwichPlan,
    sorts: &[FaultKind],
    from: Instant,
    until: Instant,
    planned: &mut Vec<PlannedFault>,
) {
    if sorts.is_empty() {
        return;
    }
    let span = until.since(from);
    for _ in 0..rng.between(1, 5) {
        let sort = *rng.choose(sorts);
        let fault = draw_one(rng, plan, sort);
        let begin = from + rng.duration(span.mul_f64(0.7));
        let end = (begin + Duration::from_millis(rng.between(30, 3000))).min(until);
        let clashes = planned.iter().any(|p| p.fault.collides(&fault) && p.from <= end && begin <= p.until);
        if !clashes {
            planned.push(PlannedFault { fault, from: begin, until: end });
        }
    }
}

fn draw_one(rng: &mut Rng, plan: &SandwichPlan, sort: FaultKind) -> Fault {
    if sort.needs_servers() {
        return draw_of_servers(rng, plan, sort);
    }
    let firewall = rng.index(plan.firewalls.max(1));
    let leg = *rng.choose(&[FirewallLeg::Outside, FirewallLeg::Inside]);
    let side = *rng.choose(&Side::BOTH);
    match sort {
        FaultKind::Cables => Fault::Cables(Cable {
            delay: Duration::from_micros(rng.between(20, 2000)),
            loss: *rng.choose(&[0, 5, 20, 60]),
            duplicate: *rng.choose(&[0, 0, 10, 100]),
            reorder: *rng.choose(&[0, 10, 100]),
            ..Cable::GOOD
        }),
        FaultKind::BitFlips => Fault::Cables(Cable { flip: rng.between(1, 20) as u32, ..Cable::GOOD }),
        FaultKind::Crash => Fault::Crash(firewall),
        FaultKind::HalfDead => match rng.below(2) {
            0 => Fault::Leg(firewall, leg),
            _ => Fault::OneWay(firewall, leg, rng.chance(500)),
        },
        FaultKind::Probes => Fault::Probes(firewall, leg),
        FaultKind::Slow => Fault::Slow(firewall, Duration::from_millis(rng.between(5, 150))),
        FaultKind::Mac => Fault::Mac(firewall, leg),
        FaultKind::Engine => Fault::Engine(side),
        FaultKind::Pause => Fault::Pause(side, Duration::from_millis(rng.between(20, 2500))),
        FaultKind::Stall => Fault::Stall(side, Duration::from_millis(rng.between(20, 1500))),
        FaultKind::Punts => Fault::Punts(side, Duration::from_millis(rng.between(20, 1500))),
        FaultKind::Carrier => Fault::Carrier(side, rng.index(2)),
        FaultKind::Admin => Fault::Admin(side, firewall, *rng.choose(&[AdminState::Drain, AdminState::Maint])),
        FaultKind::Server | FaultKind::ServerCable | FaultKind::ServerAdmin => unreachable!("drawn apart"),
    }
}

fn draw_of_servers(rng: &mut Rng, plan: &SandwichPlan, sort: FaultKind) -> Fault {
    let server = rng.index(plan.farm.servers);
    match sort {
        FaultKind::ServerCable if rng.chance(400) => Fault::ServerCable(server, Cable { cut: true, ..Cable::GOOD }),
        FaultKind::ServerCable => {
            let (loss, duplicate, reorder) = (rng.below(300) as u32, rng.below(200) as u32, rng.below(200) as u32);
            Fault::ServerCable(server, Cable { loss, duplicate, reorder, ..Cable::GOOD })
        }
        FaultKind::ServerAdmin => {
            let service = rng.index(plan.farm.services.len());
            match rng.below(3) {
                0 => Fault::ServerWeight(service, server, *rng.choose(&[0, 1, 2, 5])),
                _ => Fault::ServerAdmin(service, server, *rng.choose(&[AdminState::Drain, AdminState::Maint])),
            }
        }
        FaultKind::Server
        | FaultKind::Cables
        | FaultKind::BitFlips
        | FaultKind::Crash
        | FaultKind::HalfDead
        | FaultKind::Probes
        | FaultKind::Slow
        | FaultKind::Mac
        | FaultKind::Engine
        | FaultKind::Pause
        | FaultKind::Stall
        | FaultKind::Punts
        | FaultKind::Carrier
        | FaultKind::Admin => {
            Fault::Server(server, *rng.choose(&[Health::Dead, Health::Dead, Health::Refusing, Health::Sick]))
        }
    }
}
