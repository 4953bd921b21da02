//! The last part of the tour, in a lab with pairs: on each side the active engine is killed under load, the other one
//! takes its role, and the killed one comes back as the standby.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use super::engine_report::{EngineReport, Takeover};
use super::screen::{self, Screen};
use super::tour::{Tour, millis};
use crate::ha::Role;
use crate::ha::view::HaView;
use crate::lab::traffic::FlowReport;
use crate::lab::{Engine, EngineFault, Lab, LabError, Side, Station, Topology, pause};

/// Time of traffic before the engine is killed.
const BEFORE_FAILURE: Duration = Duration::from_secs(3);
/// Time for which it stays dead.
const FAILURE_TIME: Duration = Duration::from_secs(4);
/// Time of traffic after it was started again: its start delay, and some more.
const AFTER_RECOVERY: Duration = Duration::from_secs(6);
/// Time after which nobody takes over any more.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(3);

pub fn run(lab: &mut Lab, screen: &mut Screen, stop: &AtomicBool) -> Result<EngineReport, LabError> {
    screen.note(
        "Traffic through the firewalls: TCP and UDP, IPv4 and IPv6, and one datagram each millisecond, which shows how long \
         nothing is forwarded.",
    );
    let mut takeovers = Vec::new();
    for side in Side::BOTH {
        takeovers.push(takeover(lab, screen, stop, side)?);
    }
    Ok(EngineReport::judge(&takeovers, &lab.all_firewall_totals()?, &lab.all_counters()?))
}

/// Kills the active engine of a side and watches who takes over.
fn takeover(lab: &mut Lab, screen: &mut Screen, stop: &AtomicBool, side: Side) -> Result<Takeover, LabError> {
    let nobody = || LabError::Topology(format!("no {} engine is active", side.engine()));
    let victim = lab.active(side).first().copied().ok_or_else(nobody)?;
    let duration = BEFORE_FAILURE + FAILURE_TIME + AFTER_RECOVERY;
    let plans = plans(lab.topology());
    let mut tour = Tour::start(lab, screen, stop, screen::show_engines, duration, &plans)?;

    tour.watch(BEFORE_FAILURE, &format!("{victim} is active"))?;
    // Before it: the other engine may be active before the process is gone altogether.
    let killed = Instant::now();
    tour.lab.fail_engine(victim, EngineFault::Killed)?;
    let mut takeover = Takeover { victim: victim.name(), ..Takeover::default() };
    while takeover.successor.is_none() && killed.elapsed() < TAKEOVER_TIMEOUT {
        tour.check_stop()?;
        if let Some((successor, node)) = successor(tour.lab, victim) {
            let taken = killed.elapsed().saturating_sub(Duration::from_millis(node.since_ms));
            takeover.successor = Some(successor.name());
            takeover.after_ms = millis(taken);
            takeover.reason = node.reason;
        }
        pause(Duration::from_millis(20));
    }
    let told = takeover.successor.map_or_else(
        || format!("{victim} is killed, and nobody takes over."),
        |successor| format!("{victim} is killed. {successor} is active: {}.", takeover.reason),
    );
    tour.screen.note(&told);
    tour.watch(FAILURE_TIME.saturating_sub(killed.elapsed()), &format!("{victim} is dead"))?;

    tour.lab.heal_engine(victim)?;
    tour.screen.note(&format!("{victim} is started again. It finds an active engine, and is the standby."));
    tour.watch(AFTER_RECOVERY.saturating_sub(Duration::from_millis(500)), &format!("{victim} is back"))?;
    takeover.active_at_end = tour.lab.active(side).into_iter().map(Engine::name).collect();
    let flows = tour.finish()?.flows;
    let vips = lab.topology().vip().both();
    let is_served = |flow: &FlowReport| flow.remote.parse().is_ok_and(|to: SocketAddr| vips.contains(&to.ip()));
    (takeover.services, takeover.sessions) = flows.into_iter().partition(is_served);
    Ok(takeover)
}

/// The other engine of the pair, if it is active.
fn successor(lab: &Lab, victim: Engine) -> Option<(Engine, HaView)> {
    let twin = victim.twin()?;
    let node = lab.node(twin).ok()?;
    (node.role == Role::Active).then_some((twin, node))
}

fn plans(topology: &Topology) -> Vec<(Station, String)> {
    let mut plans = Vec::new();
    for to in topology.server(1).both() {
        plans.push((Station::Client, format!("flows tcp {to} --flows 20 --interval-ms 100 --once")));
        plans.push((Station::Client, format!("flows udp {to} --flows 10 --interval-ms 100 --patience-ms 1500")));
    }
    let stream = topology.server(1).v4;
    plans.push((Station::Client, format!("flows udp {stream} --flows 1 --interval-ms 1 --patience-ms 1500")));
    if topology.farm.is_some() {
        for to in topology.vip().both() {
            plans.push((Station::Client, format!("flows tcp {to} --flows 10 --interval-ms 100 --once")));
            plans.push((Station::Client, format!("flows udp {to} --flows 5 --interval-ms 100 --patience-ms 1500")));
        }
    }
    plans
}
