//! The guided tour. First a firewall half dies under load and comes back; then, where the laboratory has a farm, servers
//! are unplugged, fall sick and are killed until the sorry server speaks. In the end every session tells what it lived
//! through and every firewall what it had to drop.
//!
//! The group runs with `on-failure = "reset"`: a strict firewall without synchronisation takes the state of its sessions
//! with it, so their clients are told at once and open anew, instead of hanging until a time-out.

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

pub use firewalls::sessions;
use pressure::Pressure;
pub use promise::{Promise, promises, wrap};
pub use report::{Evidence, Report};
pub use screen::Screen;
pub use server_report::{ServerEvidence, ServerReport};

use super::{Lab, LabError, Topology};
use crate::engine::view;

/// Protocol, source and destination, as [`FlowReport`](super::traffic::FlowReport) and `show sessions` both write them.
pub type FlowName = (String, String, String);

/// What the tour has shown.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// A firewall died.
    pub firewalls: Option<Report>,
    /// Servers died.
    pub servers: Option<ServerReport>,
    /// How long something on this machine wanted a CPU and had none, in words, if that was long.
    pub starved: Option<String>,
}

impl Story {
    /// All promises, in the order of telling. What both parts judge is told once, with the numbers of the later one:
    /// counters only grow.
    pub fn promises(&self) -> Vec<&Promise> {
        let later: Vec<_> = self.servers.iter().flat_map(|report| &report.promises).collect();
        let first = self.firewalls.iter().flat_map(|report| &report.promises);
        first
            .filter(|promise| !later.iter().any(|again| again.what == promise.what))
            .chain(later.iter().copied())
            .collect()
    }

    /// Something was promised, and all of it was kept.
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

/// Refuses a laboratory in which the tour has nothing to show.
///
/// # Errors
/// In words.
pub fn validate(topology: &Topology) -> Result<(), LabError> {
    if topology.farm.is_some() && topology.servers < servers::HARMED {
        let wanted = servers::HARMED;
        return Err(LabError::Topology(format!(
            "the tour harms {wanted} servers: give it --servers {wanted} or more, or --no-services"
        )));
    }
    Ok(())
}

/// Runs the tour in a lab that stands.
///
/// # Errors
/// The lab does not do what it is told; `stop` was set.
pub fn run(lab: &mut Lab, screen: &mut Screen, stop: &AtomicBool) -> Result<Story, LabError> {
    let mut story = Story::default();
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
    story.starved = pressure.and_then(|pressure| pressure.end());
    Ok(story)
}

/// A session's name, and what `of` it.
fn named<T>(session: &view::SessionView, of: T) -> (FlowName, T) {
    let protocol = session.protocol.trim_end_matches("v6").to_owned();
    let end = |end: &str| if protocol == "icmp" { without_port(end) } else { end.to_owned() };
    ((protocol.clone(), end(&session.source), end(&session.destination)), of)
}

/// The address of an endpoint: an ICMP session's end may carry the identifier as a port.
fn without_port(end: &str) -> String {
    end.parse::<std::net::SocketAddr>().map_or_else(|_| end.to_owned(), |end| end.ip().to_string())
}

/// What sessions have, by their names.
type BySession = BTreeMap<FlowName, String>;
