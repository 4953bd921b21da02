//! Metrics of firewalls, paths and peers.

use std::fmt;

use super::family::{Labels, Page, bytes, of, ratio, seconds};
use crate::engine::view::{DigestState, FirewallState, FirewallView, MeasuresView, OperState, PeerState};

pub(super) fn encode(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    firewalls(page, engines)?;
    shares(page, engines)?;
    paths(page, engines)?;
    peers(page, engines)
}

pub(super) fn of_engine(engine: &MeasuresView) -> Labels<'_> {
    vec![("engine", &engine.status.name)]
}

/// Appends `more` to `labels`.
pub(super) fn with_labels<'a, const N: usize>(
    mut labels: Labels<'a>,
    more: [(&'static str, &'a str); N],
) -> Labels<'a> {
    labels.extend(more);
    labels
}

fn each_firewall(engines: &[MeasuresView]) -> impl Iterator<Item = (Labels<'_>, &FirewallView)> {
    engines.iter().flat_map(|engine| {
        let labels = |one| with_labels(of_engine(engine), member_of(one));
        engine.firewalls.iter().map(move |one| (labels(one), one))
    })
}

fn member_of(firewall: &FirewallView) -> [(&'static str, &str); 2] {
    [("group", &firewall.group), ("firewall", &firewall.name)]
}

fn firewalls(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || each_firewall(engines);
    page.gauges(
        of("firewall_up", "Whether the firewall takes new sessions: it is up or degraded."),
        each().map(|(labels, one)| (labels, u64::from(one.is_live()))),
    )?;
    page.states(
        of("firewall_state", "The state of the firewall: 1 for the one that it is in."),
        "state",
        &FirewallState::NAMES,
        each().map(|(labels, one)| (labels, one.state.name())),
    )?;
    page.fractional_gauges(
        seconds("firewall_state_age", "How long the firewall has been in its state."),
        each().map(|(labels, one)| (labels, one.since_ms as f64 / 1000.0)),
    )?;
    page.gauges(
        of("firewall_weight", "The weight of the firewall."),
        each().map(|(labels, one)| (labels, one.weight.into())),
    )?;
    page.gauges(
        of("firewall_sessions", "Live sessions that are pinned to the firewall."),
        each().map(|(labels, one)| (labels, one.sessions)),
    )?;
    page.counters(
        of("firewall_new_sessions", "Sessions that were pinned to the firewall."),
        each().map(|(labels, one)| (labels, one.new_sessions)),
    )?;
    page.counters(
        of("firewall_packets", "Packets to and from the firewall."),
        each().map(|(labels, one)| (labels, one.packets)),
    )?;
    page.counters(
        bytes("firewall", "Bytes of IP to and from the firewall."),
        each().map(|(labels, one)| (labels, one.bytes)),
    )
}

/// Writes each firewall's share of its group's sessions, and how far it is from the weight.
fn shares(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let mut has = Vec::new();
    let mut due = Vec::new();
    let mut imbalances = Vec::new();
    for engine in engines {
        let mut groups: Vec<&str> = Vec::new();
        for firewall in &engine.firewalls {
            if groups.contains(&firewall.group.as_str()) {
                continue;
            }
            groups.push(&firewall.group);
            let members: Vec<_> = engine.firewalls.iter().filter(|one| one.group == firewall.group).collect();
            let takes = |one: &FirewallView| one.is_live() && !one.spare;
            let sessions: u64 = members.iter().map(|one| one.sessions).sum();
            let weights: u64 = members.iter().filter(|one| takes(one)).map(|one| u64::from(one.weight)).sum();
            let mut worst: Option<f64> = None;
            for one in members {
                let part = |of: u64, all: u64| if all == 0 { 0.0 } else { of as f64 / all as f64 };
                let share = part(one.sessions, sessions);
                let fair = part(if takes(one) { one.weight.into() } else { 0 }, weights);
                let labels = with_labels(of_engine(engine), member_of(one));
                has.push((labels.clone(), share));
                due.push((labels, fair));
                if fair > 0.0 && sessions > 0 {
                    worst = Some(worst.unwrap_or(0.0).max(share / fair));
                }
            }
            imbalances.extend(worst.map(|worst| (with_labels(of_engine(engine), [("group", &firewall.group)]), worst)));
        }
    }
    page.fractional_gauges(ratio("firewall_share", "The firewall's part of its group's live sessions."), has)?;
    page.fractional_gauges(ratio("firewall_fair_share", "The part that the firewall should have by weight."), due)?;
    let help = "The busiest firewall's share over its fair share; 1 is even, absent without sessions.";
    page.fractional_gauges(ratio("group_imbalance", help), imbalances)
}

fn paths(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let up = each_firewall(engines).flat_map(|(labels, firewall)| {
        firewall.checks.iter().map(move |check| {
            let labels = with_labels(labels.clone(), [("peer", check.peer.as_str()), ("family", check.family.name())]);
            (labels, u64::from(check.state == OperState::Up))
        })
    });
    page.gauges(of("path_up", "Whether probes through the firewall to the peer are answered."), up)?;
    let times = engines.iter().flat_map(|engine| {
        engine.probes.iter().map(move |probe| {
            let path = [
                ("group", probe.group.as_str()),
                ("firewall", &probe.firewall),
                ("peer", &probe.peer),
                ("family", probe.family.name()),
            ];
            (with_labels(of_engine(engine), path), &probe.rtt)
        })
    });
    page.histograms(seconds("probe_rtt", "Round trips of answered probes through the firewall to the peer."), times)
}

fn peers(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || {
        engines.iter().flat_map(|engine| {
            let labels = |peer: [(&'static str, _); 2]| with_labels(of_engine(engine), peer);
            engine.peers.iter().map(move |one| (labels([("group", one.group.as_str()), ("peer", &one.name)]), one))
        })
    };
    page.states(
        of("peer_state", "The state of the engine on the far side: 1 for the one that it is in."),
        "state",
        &PeerState::NAMES,
        each().map(|(labels, one)| (labels, one.state.name())),
    )?;
    page.states(
        of("peer_digest", "Whether the peer has the same group configuration: 1 for what is the case."),
        "digest",
        &DigestState::NAMES,
        each().map(|(labels, one)| (labels, one.digest.name())),
    )
}
