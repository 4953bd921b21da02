//! The second part of the tour: clients use the virtual services through all firewalls, while one server after the
//! other is harmed in a different way, until only the sorry server answers; then all are healed.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use super::server_report::{ServerEvidence, ServerOutage, ServerReport};
use super::tour::{Tour, millis};
use super::{BySession, named, screen};
use crate::engine::view::{OperState, ServerView, ServiceState, SessionState};
use crate::lab::farm::{ECHO, WEB, WEB_PORT};
use crate::lab::traffic::ECHO_PORT;
use crate::lab::{Lab, LabError, ServerFault, Side, Station, Topology, pause};

/// Number of servers that are harmed.
pub const FAILED_SERVERS: u8 = 3;
/// Time of traffic before the first server is harmed.
const BEFORE_FAILURE: Duration = Duration::from_secs(5);
/// Duration of each stage.
const STAGE_TIME: Duration = Duration::from_secs(5);
/// Time of traffic after all servers were healed.
const AFTER_RECOVERY: Duration = Duration::from_secs(6);
/// Extra time for the stages on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
/// The last listing of sessions is made this long before the traffic ends.
const LAST_LISTING_BEFORE_END: Duration = Duration::from_secs(1);
/// Time for healed servers to get sessions again, within [`AFTER_RECOVERY`].
const BACK_IN_ROTATION: Duration = Duration::from_secs(4);
/// Longer than a page takes.
const PAGE_TIME_MAX: Duration = Duration::from_millis(500);
/// Time within which a server must be out; otherwise the tour goes on without it.
const OUT_TIMEOUT: Duration = Duration::from_secs(4);

pub fn run(lab: &mut Lab, screen: &mut screen::Screen, stop: &AtomicBool) -> Result<ServerReport, LabError> {
    let vip = lab.topology().vip();
    screen.note(&format!(
        "Traffic to the VIP, {} and {}: pages by TCP port {WEB_PORT}, a new connection each; long TCP sessions and UDP by \
         port {ECHO_PORT}.",
        vip.v4, vip.v6
    ));
    let plans = plans(lab.topology());
    let duration = BEFORE_FAILURE + STAGE_TIME * 3 + AFTER_RECOVERY + SLACK;
    let mut tour = Tour::start(lab, screen, stop, screen::show_servers, duration, &plans)?;

    tour.watch(BEFORE_FAILURE, "servers share by weight")?;
    let calm_ms = tour.elapsed_ms();
    let mut at_failure = sessions(tour.lab)?;
    let unplugged = fail_server(&mut tour, 1, ServerFault::Unplugged, |tour| {
        // The second copy has the sessions that were opened while the first was made.
        at_failure.extend(sessions(tour.lab)?);
        tour.screen.note("s1 is unplugged under load: nobody is left to answer, not even by a reset.");
        Ok(())
    })?;
    let sick = fail_server(&mut tour, 2, ServerFault::Sick, |tour| {
        tour.screen
            .note("s2 falls sick: its web server answers 503. It echoes as well as before, and keeps those sessions.");
        Ok(())
    })?;
    let servers = tour.lab.topology().servers;
    let killed = fail_server(&mut tour, 3, ServerFault::Killed, |tour| {
        for number in FAILED_SERVERS + 1..=servers {
            tour.lab.fail_server(Station::Server(number), ServerFault::Killed)?;
        }
        tour.screen.note("The programs of the last servers are killed: the sorry server speaks.");
        Ok(())
    })?;

    let healed_ms = tour.elapsed_ms();
    (1..=servers).try_for_each(|number| tour.lab.heal_server(Station::Server(number)))?;
    tour.screen.note("All servers are healed.");
    let healed_at = Instant::now();
    while !all_up(tour.lab)? && healed_at.elapsed() < BACK_IN_ROTATION {
        tour.watch(Duration::from_millis(100), "servers come back")?;
    }
    // Pages that were under way may still be the sorry server's.
    tour.watch(PAGE_TIME_MAX, "servers share by weight again")?;
    let taken_in_ms = tour.elapsed_ms();
    let left = duration.saturating_sub(Duration::from_millis(taken_in_ms) + LAST_LISTING_BEFORE_END);
    tour.watch(left, "servers share by weight again")?;
    let explained = explain(tour.lab)?;
    let said = tour.finish()?;
    let farm = lab.topology().farm.clone().unwrap_or_default();
    Ok(ServerReport::judge(&ServerEvidence {
        weights: (1..=servers).map(|number| (Station::Server(number).to_string(), farm.weight(number))).collect(),
        healthy_until_ms: calm_ms,
        unplugged,
        sick,
        killed,
        healed_ms,
        back_in_rotation_ms: taken_in_ms,
        at_failure,
        flows: said.flows,
        pages: said.pages,
        drops: lab.all_firewall_totals()?,
        counters: lab.all_counters()?,
        explained,
    }))
}

fn plans(topology: &Topology) -> Vec<(Station, String)> {
    let mut plans = Vec::new();
    for to in topology.vip().both() {
        let pages = std::net::SocketAddr::new(to, WEB_PORT);
        plans.push((Station::Client, format!("pages {pages} --readers 8 --interval-ms 200")));
        plans.push((Station::Client, format!("flows tcp {to} --flows 12 --interval-ms 100")));
        plans.push((Station::Client, format!("flows udp {to} --flows 8 --interval-ms 100 --patience-ms 1500")));
    }
    plans
}

/// Harms a server, announces it, watches for one stage, and returns when and why its web service was out.
fn fail_server(
    tour: &mut Tour<'_>,
    number: u8,
    harm: ServerFault,
    tell: impl FnOnce(&mut Tour<'_>) -> Result<(), LabError>,
) -> Result<ServerOutage, LabError> {
    let node = Station::Server(number);
    let name = node.to_string();
    let mut out =
        ServerOutage { server: name.clone(), at_ms: tour.elapsed_ms(), after_ms: None, reason: String::new() };
    let since = Instant::now();
    tour.lab.fail_server(node, harm)?;
    tell(tour)?;
    while out.after_ms.is_none() && since.elapsed() < OUT_TIMEOUT {
        tour.watch(Duration::from_millis(100), &format!("{name}: {}", harm.words()))?;
        if let Some(down) = page_server(tour.lab, &name)?.filter(|server| server.state == ServiceState::Down) {
            out.after_ms = Some(millis(since.elapsed().saturating_sub(Duration::from_millis(down.since_ms))));
            out.reason = screen::reasons(&down);
        }
        pause(Duration::from_millis(20));
    }
    tour.watch(STAGE_TIME.saturating_sub(since.elapsed()), &format!("{name} is out of the pages"))?;
    Ok(out)
}

/// Whether every server is up in both address families.
fn all_up(lab: &Lab) -> Result<bool, LabError> {
    let services = lab.services()?;
    let mut checks = services.iter().flat_map(|service| &service.servers).flat_map(|server| &server.checks);
    Ok(checks.all(|check| check.state == OperState::Up))
}

fn page_server(lab: &Lab, name: &str) -> Result<Option<ServerView>, LabError> {
    let web = lab.services()?.into_iter().find(|service| service.name == WEB);
    Ok(web.and_then(|service| service.servers.into_iter().find(|server| server.name == name)))
}

/// The server of every session in the inner engine that has one, by protocol, source and destination.
fn sessions(lab: &Lab) -> Result<BySession, LabError> {
    let sessions = lab.sessions(Side::Inner)?;
    let served = sessions.iter().filter_map(|session| Some(named(session, session.server.clone()?)));
    Ok(served.collect())
}

/// `explain` of a live TCP session of the echo service.
fn explain(lab: &Lab) -> Result<Option<(String, String)>, LabError> {
    let sessions = lab.sessions(Side::Inner)?;
    let living = sessions.iter().find(|session| {
        session.protocol == "tcp"
            && session.service.as_deref() == Some(ECHO)
            && session.state == SessionState::Established
    });
    let Some(session) = living else { return Ok(None) };
    let words = ["explain", &session.protocol, &session.source, &session.destination];
    Ok(Some((words.join(" "), lab.fwlb(Side::Inner, &words)?)))
}
