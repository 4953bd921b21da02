//! The guided tour. In the first part a firewall half dies under load and comes back. If the lab has services, servers
//! are then unplugged, fall sick and are killed one after the other, until only the sorry server answers. If it has pairs
//! of engines, the active one of each is then killed. At the end the tour reports what every session experienced and what
//! every firewall dropped.
//!
//! The group has `on-failure = "reset"`: a strict firewall without synchronisation takes the state of its sessions with
//! it, so the engines reset them, and clients reconnect at once instead of waiting for a timeout.

mod engine_report;
mod engines;
mod firewalls;
mod pressure;
mod promise;
mod report;
mod screen;
mod server_report;
mod servers;
mod tour;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

pub use engine_report::{EngineReport, Takeover};
pub use firewalls::sessions;
use pressure::Pressure;
pub use promise::{Promise, promises, wrap};
pub use report::{FirewallEvidence, TourFirewallReport};
pub use screen::Screen;
pub use server_report::{ServerEvidence, ServerReport};

use super::{Lab, LabError, RoutingSetup, Topology};
use crate::engine::view;

/// Protocol, source and destination, as both [`FlowReport`](super::traffic::FlowReport) and `show sessions` write them.
pub type FlowName = (String, String, String);

/// The results of the tour.
#[derive(Debug, Clone, Default)]
pub struct TourResult {
    /// The part in which a firewall fails.
    pub firewalls: Option<TourFirewallReport>,
    /// The part in which servers fail.
    pub servers: Option<ServerReport>,
    /// The part in which engines die.
    pub engines: Option<EngineReport>,
    /// How long tasks on this machine waited for a CPU, in words, if that was notable.
    pub starved: Option<String>,
}

impl TourResult {
    /// All promises in order. A promise of several parts is listed once, with the numbers of the last part, because
    /// counters only grow.
    pub fn promises(&self) -> Vec<&Promise> {
        let firewalls = self.firewalls.iter().flat_map(|report| &report.promises);
        let servers = self.servers.iter().flat_map(|report| &report.promises);
        let engines = self.engines.iter().flat_map(|report| &report.promises);
        let all: Vec<_> = firewalls.chain(servers).chain(engines).collect();
        let is_last = |index: usize| !all[index + 1..].iter().any(|later| later.what == all[index].what);
        (0..all.len()).filter(|index| is_last(*index)).map(|index| all[index]).collect()
    }

    /// Whether there are promises, and all of them were kept.
    pub fn kept(&self) -> bool {
        let promises = self.promises();
        !promises.is_empty() && promises.iter().all(|promise| promise.kept)
    }
}

/// The topology of the tour.
#[must_use]
pub fn topology(base: Topology) -> Topology {
    let chosen = base.settings.get("group").is_some_and(|group| group.contains_key("on-failure"));
    if chosen { base } else { base.with("group", "on-failure", "reset") }
}

/// Refuses a lab in which the tour has nothing to show.
///
/// # Errors
/// The reason, in words.
pub fn validate(topology: &Topology) -> Result<(), LabError> {
    if topology.farm.is_some() && topology.servers < servers::FAILED_SERVERS {
        let wanted = servers::FAILED_SERVERS;
        return Err(LabError::Topology(format!(
            "the tour harms {wanted} servers: give it --servers {wanted} or more, or --no-services"
        )));
    }
    Ok(())
}

/// Runs the tour in a running lab.
///
/// # Errors
/// The lab fails, or `stop` was set.
pub fn run(lab: &mut Lab, screen: &mut Screen, stop: &AtomicBool) -> Result<TourResult, LabError> {
    let mut story = TourResult::default();
    let pressure = Pressure::begin();
    if lab.topology().firewalls > 0 {
        screen.title("A firewall dies");
        let report = firewalls::run(lab, screen, stop)?;
        screen.note(&report.to_string());
        story.firewalls = Some(report);
    }
    if lab.topology().farm.is_some() {
        screen.title("Servers die");
        let report = servers::run(lab, screen, stop)?;
        screen.note(&report.to_string());
        story.servers = Some(report);
    }
    if lab.topology().routers == RoutingSetup::Pairs {
        screen.title("Engines die");
        let report = engines::run(lab, screen, stop)?;
        screen.note(&report.to_string());
        story.engines = Some(report);
    }
    story.starved = pressure.and_then(|pressure| pressure.end());
    Ok(story)
}

/// A session's name, together with `of`.
fn named<T>(session: &view::SessionView, of: T) -> (FlowName, T) {
    let protocol = session.protocol.trim_end_matches("v6").to_owned();
    let end = |end: &str| if protocol == "icmp" { without_port(end) } else { end.to_owned() };
    ((protocol.clone(), end(&session.source), end(&session.destination)), of)
}

/// The address of an endpoint; that of an ICMP session may have the identifier as its port.
fn without_port(end: &str) -> String {
    end.parse::<std::net::SocketAddr>().map_or_else(|_| end.to_owned(), |end| end.ip().to_string())
}

/// A value of each session, by the session's name.
type BySession = BTreeMap<FlowName, String>;
