//! The paths through the firewalls: how they are probed, evaluated and shown, what peers report about them, and what
//! operators order.
//!
//! It builds on the [`Links`], which send its frames and know the neighbours. The result for the packet path is a live
//! set for each group, which [`Liveness`] decides.

mod admin;
mod adopt;
mod consequences;
mod evaluation;
mod exchanges;
mod inherit;
mod notes;
mod peers;
mod probes;
mod publish;
mod responder;
mod returns;
mod views;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::links::Links;
use super::outbox::Outbox;
use crate::config::{Config, PathCheckKind};
use crate::ha::WitnessReport;
use crate::id::{FirewallId, LinkId};
use crate::path::FirewallGroup;
use crate::path::liveness::{Liveness, SetKey};
use crate::random::SplitMix64;
use crate::time::Instant;
use crate::wire::Family;

use exchanges::Exchange;
use peers::PeerRecord;
use probes::NeighborWatch;
use returns::Returns;

pub(super) use admin::Override;
pub(super) use adopt::firewall_key;
pub(super) use exchanges::exchange_view;
pub use peers::ClusterRole;
#[cfg(test)]
pub(super) use peers::group_digests;
pub(super) use probes::Path;

/// The paths of an engine; see the module documentation.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    config: Arc<Config>,
    /// A number that distinguishes this start of the engine from earlier ones.
    epoch: u64,
    probe_sequence: u64,
    /// Firewall by firewall, peer by peer, IPv4 first.
    paths: Vec<Path>,
    /// The firewalls whose paths fail, and which are therefore queried by ARP or ND.
    watches: BTreeMap<(FirewallId, Family), NeighborWatch>,
    /// By [`PeerId`](crate::id::PeerId).
    peers: Vec<PeerRecord>,
    /// What probes say about this engine; `None` if it is alone on its side.
    cluster_role: Option<ClusterRole>,
    /// What engines on the far side said about nodes of this cluster, at most [`peers::WITNESSES_MAX`] reports.
    witnesses: VecDeque<WitnessReport>,
    liveness: Liveness,
    set_keys: Vec<SetKey>,
    groups: Vec<FirewallGroup>,
    /// Something changed since liveness was evaluated.
    needs_evaluation: bool,
    /// By [`FirewallId`].
    overrides: Vec<Option<Override>>,
    /// The digest of each group's configuration.
    group_digests: Vec<u64>,
    /// The digest of each firewall's name.
    name_digests: Vec<u64>,
    /// Requests of operators that wait for their answers.
    exchanges: Vec<Exchange>,
    /// The sessions that had replies through each firewall.
    returns: Returns,
    random: SplitMix64,
}

impl Paths {
    /// Paths without verdicts. `random` seeds identifiers of probes.
    pub(super) fn new(config: Arc<Config>, random: u64, now: Instant) -> Self {
        let mut random = SplitMix64::new(random);
        let set_keys = evaluation::set_keys(&config, Vec::new());
        Self {
            epoch: random.next_u64(),
            probe_sequence: 0,
            paths: probes::paths(&config, &mut random, now),
            watches: BTreeMap::new(),
            peers: config.peers.iter().map(PeerRecord::new).collect(),
            cluster_role: None,
            witnesses: VecDeque::new(),
            liveness: Liveness::new(evaluation::liveness_config(&config, &set_keys), now),
            groups: publish::groups(&config),
            needs_evaluation: true,
            overrides: config.firewalls.iter().map(|_| None).collect(),
            group_digests: peers::group_digests(&config),
            name_digests: peers::name_digests(&config),
            exchanges: Vec::new(),
            returns: Returns::default(),
            set_keys,
            random,
            config,
        }
    }

    /// Continues under another configuration: what stays keeps its verdicts and overrides.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        self.set_keys = evaluation::set_keys(&self.config, std::mem::take(&mut self.set_keys));
        self.groups = publish::groups(&self.config);
        self.group_digests = peers::group_digests(&self.config);
        self.name_digests = peers::name_digests(&self.config);
        self.adopt_firewalls(&old, now);
        self.adopt_peers(&old);
        self.adopt_paths(&old, now);
        self.needs_evaluation = true;
    }

    /// What an engine on the far side says about a node of this cluster.
    pub(super) fn poll_witness(&mut self) -> Option<WitnessReport> {
        self.witnesses.pop_front()
    }

    /// Sets what probes say about this engine from now on.
    pub(super) fn set_cluster_role(&mut self, role: Option<ClusterRole>) {
        self.cluster_role = role;
    }

    /// Sends the probes that are due, evaluates those that have ended, and sends neighbour requests to firewalls whose
    /// paths fail.
    pub(super) fn handle_timeout(&mut self, links: &mut Links, now: Instant, out: &mut Outbox) {
        self.run_probes(links, now, out);
        self.watch_neighbors(links, now);
        self.end_exchanges(now, out);
    }

    /// When [`Paths::handle_timeout`] is due, or a hold ends.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let paths = self.paths.iter().flat_map(|path| [path.prober.poll_timeout(), path.monitor.poll_timeout(now)]);
        let watches = self.watches.values().map(|watch| watch.next);
        let exchanges = self.exchanges.iter().map(|exchange| exchange.deadline);
        paths.flatten().chain(watches).chain(exchanges).chain(self.liveness.poll_timeout()).min()
    }

    /// A link carries frames again.
    pub(super) fn handle_link_up(&mut self, link: LinkId) {
        self.report_link(link, false);
    }

    /// Handles links of which any may have appeared, gone, or changed its state.
    pub(super) fn handle_links(&mut self, links: &Links) {
        for link in Arc::clone(&self.config).link_ids() {
            self.report_link(link, !links.state(link).up);
        }
    }

    /// Handles neighbours of which any was found or lost, or has moved.
    pub(super) fn handle_neighbors(&mut self) {
        self.needs_evaluation = true;
    }

    /// The path sets by their ids, which routes and sessions know and which reloads keep.
    pub(super) fn set_keys(&self) -> &[SetKey] {
        &self.set_keys
    }

    /// All paths: firewall by firewall, peer by peer, IPv4 first.
    pub(super) fn all(&self) -> &[Path] {
        &self.paths
    }

    /// True if the group of `firewall` is probed.
    fn is_probed(&self, firewall: FirewallId) -> bool {
        match self.check_kind(firewall) {
            PathCheckKind::Icmp | PathCheckKind::Tcp { .. } | PathCheckKind::Udp { .. } => true,
            PathCheckKind::None => false,
        }
    }

    /// How the group of a firewall is probed.
    fn check_kind(&self, firewall: FirewallId) -> PathCheckKind {
        let group = self.config.firewalls[firewall.index()].group;
        self.config.groups[group.index()].check.kind
    }
}
