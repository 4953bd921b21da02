//! The first part of the tour: traffic over all firewalls, one of which loses a cable and comes back.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use super::report::{FirewallEvidence, TourFirewallReport};
use super::tour::{Tour, millis};
use super::{BySession, named, screen};
use crate::engine::view::FirewallState;
use crate::lab::{FirewallCable, Lab, LabError, Side, Station, Topology, pause};

/// Time of traffic before the firewall fails.
const BEFORE_FAILURE: Duration = Duration::from_secs(6);
/// Time for which the firewall stays dead.
const FAILURE_TIME: Duration = Duration::from_secs(8);
/// Time of traffic after it came back: its hold time, and some more for new flows.
const AFTER_RECOVERY: Duration = Duration::from_secs(8);
/// Number of the firewall that fails.
const VICTIM: u8 = 1;

pub fn run(lab: &mut Lab, screen: &mut screen::Screen, stop: &AtomicBool) -> Result<TourFirewallReport, LabError> {
    screen.note(
        "Traffic: TCP, UDP in datagrams of 4,000 bytes, ping; IPv4 and IPv6; from the client and from a server; long \
         sessions and short ones.",
    );
    let plans = plans(lab.topology());
    let mut tour =
        Tour::start(lab, screen, stop, screen::show_firewalls, BEFORE_FAILURE + FAILURE_TIME + AFTER_RECOVERY, &plans)?;
    let victim = format!("fw{VICTIM}");

    tour.watch(BEFORE_FAILURE, "all firewalls carry sessions")?;
    let mut at_failure = sessions(tour.lab)?;
    tour.lab.fail(VICTIM, FirewallCable::Inner)?;
    let failed_at = Instant::now();
    let failed_ms = tour.elapsed_ms();
    // The second copy has the flows that were opened while the first was made. Their pins cannot have moved so early.
    at_failure.extend(sessions(tour.lab)?);
    tour.screen.note(&format!(
        "{victim} is half dead: its inner cable is cut, its outer side still answers ARP; only a check through it can tell."
    ));
    let seen_down_ms = wait_until_down(&tour, &victim, failed_at)?;
    tour.watch(FAILURE_TIME.saturating_sub(failed_at.elapsed()), &format!("{victim} is dead, the others carry on"))?;

    let before_heal = sessions(tour.lab)?;
    tour.lab.heal(VICTIM)?;
    tour.screen
        .note(&format!("{victim} is healed: it takes new sessions after its hold time, and no living one moves back."));
    tour.watch(AFTER_RECOVERY.saturating_sub(Duration::from_secs(1)), &format!("{victim} is back"))?;
    let after_heal = sessions(tour.lab)?;
    tour.watch(Duration::from_secs(2), "traffic ends")?;

    let flows = tour.finish()?.flows;
    Ok(TourFirewallReport::judge(&FirewallEvidence {
        victim,
        failed_ms,
        seen_down_ms,
        at_failure,
        before_heal,
        after_heal,
        flows,
        drops: lab.all_firewall_totals()?,
        counters: lab.all_counters()?,
        resets: on_failure_resets(lab.topology()),
    }))
}

fn plans(topology: &Topology) -> Vec<(Station, String)> {
    let (server, client) = (topology.server(1), topology.client());
    let mut plans = Vec::new();
    for to in server.both() {
        // Long TCP sessions, short ones, datagrams of three fragments, and pings.
        plans.push((Station::Client, format!("flows tcp {to} --flows 20 --interval-ms 100")));
        plans.push((Station::Client, format!("flows tcp {to} --flows 4 --interval-ms 50 --life-ms 200")));
        let datagrams = format!("flows udp {to} --flows 10 --interval-ms 100 --size 4000 --patience-ms 1500");
        plans.push((Station::Client, datagrams));
    }
    for number in 1..=topology.servers {
        for to in topology.server(number).both() {
            plans.push((Station::Client, format!("flows icmp {to} --interval-ms 100")));
        }
    }
    for to in client.both() {
        plans.push((Station::Server(1), format!("flows tcp {to} --flows 10 --interval-ms 100")));
    }
    plans
}

/// Whether sessions of a failed firewall are reset.
fn on_failure_resets(topology: &Topology) -> bool {
    topology.settings.get("group").and_then(|group| group.get("on-failure")).and_then(|value| value.as_str())
        == Some("reset")
}

/// The firewall of every session in the outer engine, by protocol, source and destination.
///
/// # Errors
/// The engine does not answer.
pub fn sessions(lab: &Lab) -> Result<BySession, LabError> {
    let sessions = lab.sessions(Side::Outer)?;
    Ok(sessions.iter().filter_map(|session| Some(named(session, session.pins.first()?.firewall.clone()))).collect())
}

/// For each engine, the milliseconds until it reported the firewall down; `None` if it did not within two seconds.
fn wait_until_down(tour: &Tour<'_>, victim: &str, since: Instant) -> Result<[Option<u64>; 2], LabError> {
    let mut seen = [None, None];
    while seen.contains(&None) && since.elapsed() < Duration::from_secs(2) {
        tour.check_stop()?;
        for (side, seen) in Side::BOTH.into_iter().zip(&mut seen) {
            let firewalls = tour.lab.firewalls(side)?;
            let firewall = firewalls.iter().find(|firewall| firewall.name == victim);
            if let Some(down) = firewall.filter(|firewall| seen.is_none() && firewall.state == FirewallState::Down) {
                *seen = Some(millis(since.elapsed().saturating_sub(Duration::from_millis(down.since_ms))));
            }
        }
        pause(Duration::from_millis(20));
    }
    Ok(seen)
}
