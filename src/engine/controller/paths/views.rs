//! Firewalls and peers as the API shows them.

use super::super::journal::millis;
use super::super::links::Links;
use super::super::views::joined;
use super::Paths;
use super::peers::EngineRecord;
use crate::engine::{Counters, view};
use crate::health::monitor::HealthState;
use crate::id::{FirewallId, LinkId, PeerId};
use crate::path::liveness::{FirewallState, PeerState, StateReason};
use crate::time::{Duration, Instant};

/// Why a firewall that is up and came back takes no new sessions, or takes them all the same.
fn hold_reason(left: Duration, takes_new: bool) -> String {
    let seconds = left.as_millis().div_ceil(1000);
    match takes_new {
        false => format!("hold, {seconds} s left: new sessions go to other firewalls"),
        true => format!("hold, {seconds} s left: there is no firewall past its hold, so it takes new sessions"),
    }
}

fn engine_view(engine: &EngineRecord, now: Instant) -> view::PeerEngineView {
    let cluster = engine.cluster.as_ref();
    view::PeerEngineView {
        name: engine.name.clone(),
        role: cluster.map(|cluster| cluster.role.into()),
        term: cluster.map(|cluster| cluster.term),
        priority: cluster.map(|cluster| cluster.priority),
        digest: engine.digest.into(),
        version: engine.version.clone(),
        heard_ms: engine.last_authentic.map(|heard| millis(now.since(heard))),
    }
}

impl Paths {
    pub(in super::super) fn firewall_view(
        &self,
        id: FirewallId,
        counters: &Counters,
        links: &Links,
        now: Instant,
    ) -> view::FirewallView {
        let firewall = &self.config.firewalls[id.index()];
        let status = self.liveness.firewall(id);
        let state = status.map_or(FirewallState::Down, |status| status.state);
        let hold = self.liveness.is_held(id).then(|| self.hold_left(id, now)).flatten();
        let takes_new = self.liveness.accepts_new_flows(id);
        let traffic = counters.firewalls.get(id.index()).copied().unwrap_or_default();
        view::FirewallView {
            engine: self.config.engine.name.clone(),
            name: firewall.name.clone(),
            group: self.config.groups[firewall.group.index()].name.clone(),
            link: self.config.links[firewall.link.index()].name.clone(),
            addresses: firewall.addresses.iter().map(ToString::to_string).collect(),
            state: state.into(),
            admin: firewall.admin,
            override_: self.overrides[id.index()].as_ref().map(|set| set.admin),
            weight: firewall.weight,
            spare: firewall.spare,
            sessions: u64::try_from(traffic.sessions).unwrap_or_default(),
            new_sessions: traffic.new_sessions,
            packets: traffic.packets,
            bytes: traffic.bytes,
            since_ms: status.map_or(0, |status| millis(now.since(status.since))),
            reason: self.firewall_description(id, hold.map(|left| hold_reason(left, takes_new)), links),
            hold_ms: hold.map(millis),
            new_flows: takes_new,
            orders: self.orders_of(id),
            checks: self.check_views(id, links, now),
        }
    }

    /// The reason `link fw is down`, if the link is down and that is why, also where there never was a verdict.
    fn link_reason(&self, link: LinkId, reason: StateReason, links: &Links) -> Option<String> {
        match reason {
            StateReason::Starting | StateReason::Link => links.down_reason(link),
            StateReason::Healthy
            | StateReason::Probes(..)
            | StateReason::Objection(..)
            | StateReason::Commanded
            | StateReason::CommandedAt(_)
            | StateReason::Deadline(_) => None,
        }
    }

    /// Why a firewall is in its state, and which orders are in force besides.
    fn firewall_description(&self, id: FirewallId, hold: Option<String>, links: &Links) -> Option<String> {
        let reason = self.liveness.firewall(id).map(|status| status.reason);
        let is_told =
            matches!(reason, Some(StateReason::Commanded | StateReason::CommandedAt(_) | StateReason::Deadline(_)));
        let orders = if is_told { Vec::new() } else { self.orders_of(id) };
        let link = self.config.firewalls[id.index()].link;
        let orders = orders.iter().map(|order| order.describe_for(&self.config.engine.name));
        joined(
            reason
                .and_then(|reason| self.link_reason(link, reason, links).or_else(|| self.firewall_reason(id, reason)))
                .or(hold)
                .into_iter()
                .chain(orders),
        )
    }

    /// How long until every path of a firewall is past its hold.
    fn hold_left(&self, id: FirewallId, now: Instant) -> Option<Duration> {
        let paths = self.paths.iter().filter(|path| path.key.firewall == id);
        paths.filter_map(|path| path.monitor.poll_timeout(now)).max().map(|until| until.since(now))
    }

    fn check_views(&self, id: FirewallId, links: &Links, now: Instant) -> Vec<view::CheckView> {
        let paths = self.paths.iter().filter(|path| path.key.firewall == id);
        let views = paths.map(|path| view::CheckView {
            peer: self.config.peers[path.key.peer.index()].name.clone(),
            family: path.key.family.into(),
            state: view::OperState::from(path.monitor.state()).into(),
            rtt_us: path.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            since_ms: millis(now.since(path.monitor.since())),
            reason: match path.monitor.state() {
                HealthState::Starting => links.down_reason(path.link).or_else(|| path.reason.clone()),
                HealthState::Up | HealthState::Down => path.reason.clone(),
            },
        });
        views.collect()
    }

    pub(in super::super) fn peer_view(&self, id: PeerId, now: Instant) -> view::PeerView {
        let peer = &self.config.peers[id.index()];
        let record = &self.peers[id.index()];
        let status = self.liveness.peer(id);
        view::PeerView {
            engine: self.config.engine.name.clone(),
            name: peer.name.clone(),
            group: self.config.groups[peer.group.index()].name.clone(),
            peer_engine: record.speaker().map(|engine| engine.name.clone()),
            state: status.map_or(PeerState::Down, |status| status.state).into(),
            digest: record.digest().into(),
            version: record.speaker().and_then(|engine| engine.version.clone()),
            since_ms: status.map_or(0, |status| millis(now.since(status.since))),
            reason: status.and_then(|status| self.reason_text(status.reason)),
            engines: record.engines.iter().map(|engine| engine_view(engine, now)).collect(),
        }
    }

    /// The round trips of the answered probes, per path.
    pub(in super::super) fn probe_times(&self) -> Vec<view::ProbeView> {
        let views = self.paths.iter().map(|path| {
            let firewall = &self.config.firewalls[path.key.firewall.index()];
            view::ProbeView {
                group: self.config.groups[firewall.group.index()].name.clone(),
                firewall: firewall.name.clone(),
                peer: self.config.peers[path.key.peer.index()].name.clone(),
                family: path.key.family.into(),
                rtt: path.rtts.view(),
            }
        });
        views.collect()
    }
}
