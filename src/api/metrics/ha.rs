//! Metrics of the cluster that an engine is a node of.

use std::fmt;

use super::family::{Labels, Page, of, seconds};
use super::members::{of_engine, with_labels};
use crate::engine::view::MeasuresView;
use crate::ha::Role;
use crate::ha::view::{HaView, NodeView};

type OfNode = fn(&NodeView) -> u64;

/// A node of a cluster, as its engine measures it. The label `cluster` is the same for all nodes of one: an alert can
/// count who of them is active, which none of two that do not hear each other knows.
struct Node<'a> {
    engine: &'a MeasuresView,
    view: &'a HaView,
    cluster: String,
}

impl Node<'_> {
    fn labels(&self) -> Labels<'_> {
        with_labels(of_engine(self.engine), [("cluster", self.cluster.as_str())])
    }

    /// The other nodes.
    fn others(&self) -> impl Iterator<Item = (Labels<'_>, &NodeView)> {
        self.view.nodes.iter().map(|node| {
            let of_node = [("node", node.name.as_str()), ("kind", node.kind.name())];
            (with_labels(self.labels(), of_node), node)
        })
    }
}

pub(super) fn encode(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let nodes: Vec<_> = engines
        .iter()
        .filter_map(|engine| engine.ha.as_ref().map(|view| Node { engine, view, cluster: view.cluster() }))
        .collect();
    let each = || nodes.iter().map(|node| (node.labels(), node.view));
    let each_other = || nodes.iter().flat_map(Node::others);
    page.states(
        of("ha_role", "The role of the node: 1 for the one that it has."),
        "role",
        &Role::NAMES,
        each().map(|(labels, view)| (labels, view.role.name())),
    )?;
    page.fractional_gauges(
        seconds("ha_role_age", "How long the node has had its role."),
        each().map(|(labels, view)| (labels, view.since_ms as f64 / 1000.0)),
    )?;
    page.gauges(
        of("ha_priority", "The priority that the node advertises, which is the one of its file less its deductions."),
        each().map(|(labels, view)| (labels, u64::from(view.priority))),
    )?;
    page.gauges(
        of("ha_term", "The term of the cluster, which grows with every takeover."),
        each().map(|(labels, view)| (labels, u64::from(view.term))),
    )?;
    page.counters(
        of("ha_transitions", "Changes of the node's role."),
        each().map(|(labels, view)| (labels, view.transitions)),
    )?;
    page.fractional_gauges(
        seconds("ha_lateness", "The worst lateness of the node's hellos in the last minute."),
        each().map(|(labels, view)| (labels, view.lateness_ms / 1000.0)),
    )?;
    page.gauges(
        of("ha_ready", "Whether the node has every copy of a session that it would need as the active one."),
        each().map(|(labels, view)| (labels, u64::from(view.ready))),
    )?;
    page.gauges(
        of("ha_faults", "Reasons why the node may not be active."),
        each().map(|(labels, view)| (labels, view.faults.len() as u64)),
    )?;
    page.gauges(
        of("ha_maintenance", "Whether an operator has taken the node out of the election."),
        each().map(|(labels, view)| (labels, u64::from(view.maintenance))),
    )?;
    page.fractional_gauges(
        seconds("ha_lease", "Time until the active node stops forwarding unless it speaks before."),
        each().filter_map(|(labels, view)| Some((labels, view.lease_ms? as f64 / 1000.0))),
    )?;
    page.gauges(
        of("ha_node_up", "Whether another node of the cluster is heard; a VRRP router is while it is active only."),
        each_other().map(|(labels, node)| (labels, u64::from(node.role.is_some()))),
    )?;
    page.gauges(
        of("ha_node_active", "Whether another node of the cluster is heard as the active one."),
        each_other().map(|(labels, node)| (labels, u64::from(node.forwards()))),
    )?;
    page.gauges(
        of("sync_needed", "Sessions of an active node that others need copies of."),
        each().map(|(labels, view)| (labels, u64::from(view.sessions_needed))),
    )?;
    page.gauges(
        of("sync_held", "Copies of sessions that another node holds."),
        each_other().map(|(labels, node)| (labels, u64::from(node.sessions_held))),
    )?;
    page.gauges(
        of("sync_ready", "Whether another node has every copy of a session that it would need."),
        each_other().map(|(labels, node)| (labels, u64::from(node.ready))),
    )?;
    page.fractional_gauges(
        seconds("sync_behind", "How long what nodes told each other of sessions has waited."),
        each_other().map(|(labels, node)| (labels, node.behind_ms as f64 / 1000.0)),
    )?;
    let counted: [(_, OfNode); 3] = [
        (of("sync_records", "Records of sessions that the node told another one."), |node| node.records),
        (of("sync_resends", "Datagrams with records of sessions that were sent again."), |node| node.resends),
        (
            of("sync_full_passes", "Passes in which all sessions were told, to a node that joined or missed some."),
            |node| u64::from(node.full_passes),
        ),
    ];
    for (family, value) in counted {
        page.counters(family, each_other().map(|(labels, node)| (labels, value(node))))?;
    }
    page.counters(
        of("sync_refused", "What another node told of sessions and could not be applied, by reason."),
        each_other().flat_map(|(labels, node)| {
            let reasons = node.refused.iter();
            reasons.map(move |(reason, count)| (with_labels(labels.clone(), [("reason", reason.as_str())]), *count))
        }),
    )?;
    page.fractional_gauges(
        seconds("ha_heard_age", "Time since a node was heard on a path: a link, or `sync`."),
        each_other().flat_map(|(labels, node)| {
            node.heard.iter().map(move |heard| {
                (with_labels(labels.clone(), [("path", heard.path.as_str())]), heard.age_ms as f64 / 1000.0)
            })
        }),
    )
}
