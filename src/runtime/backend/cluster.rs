//! Questions and orders to the role machine.

use std::sync::Arc;

use super::EngineBackend;
use crate::api::{ApiError, Done, calls};
use crate::engine::DropReason;
use crate::engine::change::{StateChange, Subject};
use crate::engine::view::{AlarmKind, AlarmView, EventKind, ExplainView, PlanView};
use crate::ha::explained::ExplainedHaView;
use crate::ha::view::{HaView, NodeView};
use crate::ha::{NodeId, Order, OrderedBy, Role};
use crate::named_enum::EnumOrUnknown;
use crate::runtime::ha_handle::{ClusterState, HaHandle};
use crate::runtime::shared::Shared;

/// What is known of the cluster of an engine.
#[derive(Debug)]
pub(in crate::runtime) enum Cluster {
    /// The engine stands alone.
    Alone,
    /// The cluster as the engine sees it.
    Seen(Box<ClusterState>),
    /// The thread of the role machine does not answer.
    Silent,
}

/// True if this node drops the packet because it is not the active one.
pub(super) fn is_dropped_by_role(explained: &ExplainView) -> bool {
    let by_role = [DropReason::Standby, DropReason::Lease].map(|reason| Some(reason.name()));
    by_role.contains(&explained.drop.as_deref())
}

impl Cluster {
    /// `show ha`, if there is a cluster that answers.
    pub(in crate::runtime) fn view(&self) -> Option<&HaView> {
        match self {
            Self::Seen(state) => Some(&state.view),
            Self::Alone | Self::Silent => None,
        }
    }

    /// The role of the engine. One that stands alone is always active; of one whose thread is silent nothing is known.
    pub(super) fn role(&self) -> EnumOrUnknown<Role> {
        match self {
            Self::Alone => Role::Active.into(),
            Self::Seen(state) => state.view.role.clone(),
            Self::Silent => EnumOrUnknown::Unknown("unknown".to_owned()),
        }
    }

    /// Names the active node in an explanation of this one, which drops the packet because of its role.
    pub(super) fn name_active(&self, explained: &mut ExplainView) {
        explained.active_node = self.other_active();
        explained.story.push(match &explained.active_node {
            Some(node) => format!("Node {node} is active: ask there what becomes of the flow."),
            None => "This node hears no other one that is active.".to_owned(),
        });
    }

    /// Says in a plan which role this node has, and which node is active instead.
    pub(super) fn name_active_in_plan(&self, plan: &mut PlanView) {
        match self {
            Self::Alone => {}
            Self::Seen(_) | Self::Silent => plan.role = Some(self.role()),
        }
        plan.active_node = self.other_active();
    }

    /// The name of another node that is heard as active.
    fn other_active(&self) -> Option<String> {
        let is_active = |node: &&NodeView| node.role.as_ref().is_some_and(|role| *role == Role::Active);
        self.view()?.nodes.iter().find(is_active).map(|node| node.name.clone())
    }

    /// What is wrong with the cluster of `engine`.
    pub(in crate::runtime) fn alarms(&self, engine: &str) -> Vec<AlarmView> {
        match self {
            Self::Alone => Vec::new(),
            Self::Seen(state) => state.alarms.clone(),
            Self::Silent => vec![AlarmView {
                kind: AlarmKind::HaStuck.into(),
                subject: engine.to_owned(),
                reason: "the thread of the role machine does not answer".to_owned(),
                since_ms: 0,
            }],
        }
    }
}

impl EngineBackend {
    /// The cluster, as far as its thread answers: nothing else that is asked of an engine fails with that thread.
    pub(in crate::runtime) async fn cluster(&self) -> Cluster {
        match &self.ha {
            None => Cluster::Alone,
            Some(ha) => ha.state().await.map_or(Cluster::Silent, |state| Cluster::Seen(state.into())),
        }
    }

    /// `show ha`.
    pub(super) async fn ha_views(&self) -> Result<Vec<HaView>, ApiError> {
        match &self.ha {
            None => Ok(Vec::new()),
            Some(ha) => Ok(vec![ha.state().await?.view]),
        }
    }

    /// `explain ha`.
    pub(super) async fn explain_ha(&self) -> Result<Box<ExplainedHaView>, ApiError> {
        self.machine()?.explain().await.map(Box::new)
    }

    /// Gives the active role to another node.
    pub(super) async fn fail_over(&self, call: calls::HaFailover) -> Result<Done, ApiError> {
        let calls::HaFailover { to, reason, by, force } = call;
        let machine = self.machine()?;
        let node = to.as_deref().map(|name| self.node(name)).transpose()?;
        let order = OrderedBy { operator: by.clone(), reason: reason.clone() };
        machine.order(Order::Failover { to: node, force, by: order }).await?;
        self.shared.event(admin_event(&self.shared.engine, "failover").by(by).because(reason));
        Ok(Done::from(format!("the role goes to {}", to.as_deref().unwrap_or("the best standby"))))
    }

    /// Tells the other nodes all sessions again.
    pub(super) async fn resync(&self, call: calls::HaResync) -> Result<Done, ApiError> {
        let calls::HaResync { reason, by } = call;
        self.machine()?.resync().await?;
        self.shared.event(admin_event(&self.shared.engine, "resync").by(by).because(reason));
        Ok(Done::from("the other nodes are told all sessions again that they need copies of".to_owned()))
    }

    /// Takes the node out of the election, or puts it back.
    pub(super) async fn set_maintenance(&self, call: calls::HaMaintenance) -> Result<Done, ApiError> {
        let calls::HaMaintenance { maintenance, reason, by } = call;
        let (machine, shared) = (self.machine()?.clone(), self.shared.clone());
        // It is kept even if the client disconnects.
        let ordered = tokio::spawn(order_maintenance(machine, shared, maintenance, (by, reason)));
        ordered.await.map_err(|error| ApiError::Unavailable(error.to_string()))?
    }

    fn machine(&self) -> Result<&HaHandle, ApiError> {
        let alone = || ApiError::Conflict(format!("engine {} stands alone: its file has no [ha]", self.shared.engine));
        self.ha.as_ref().ok_or_else(alone)
    }

    /// The node with this name.
    fn node(&self, name: &str) -> Result<NodeId, ApiError> {
        let config = self.shared.config();
        let nodes = config.ha.as_ref().map(|ha| ha.nodes.as_slice()).unwrap_or_default();
        let found = nodes.iter().position(|node| node.name == name).map(|index| NodeId(index as u8));
        found.ok_or_else(|| {
            let known: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            ApiError::NotFound(format!("no node is called {name:?}; there are: {}", known.join(", ")))
        })
    }
}

/// Orders maintenance or its end, and keeps it over a restart; the answer says what of it did not happen.
async fn order_maintenance(
    machine: HaHandle,
    shared: Arc<Shared>,
    maintenance: bool,
    (by, reason): (Option<String>, Option<String>),
) -> Result<Done, ApiError> {
    let file = machine.maintenance.clone().lock_owned().await;
    let who = OrderedBy { operator: by.clone(), reason: reason.clone() };
    let order = if maintenance { Order::Maint { by: who.clone() } } else { Order::Ready };
    machine.order(order).await?;
    let engine = &shared.engine;
    shared.event(admin_event(engine, if maintenance { "maint" } else { "ready" }).by(by).because(reason));
    let mut done = Done::from(match maintenance {
        true => format!("{engine} is in maintenance"),
        false => format!("{engine} may be active"),
    });
    // With another node that can take over, the order has made this one leave the role already.
    if maintenance && machine.state().await?.view.role == Role::Active {
        done.warnings.push(format!("{engine} stays active until another node takes the role"));
    }
    let path = file.path().display().to_string();
    let keeping = tokio::task::spawn_blocking(move || file.save(maintenance.then_some(&who))).await;
    if let Err(error) = keeping.map_err(std::io::Error::other).flatten() {
        tracing::warn!(engine, path, %error, "maintenance not kept");
        done.warnings.push(format!("a restart will forget it: {path}: {error}"));
    }
    Ok(done)
}

/// The event of an operator's order to a node: what it is to be from now on.
fn admin_event(node: &str, to: &'static str) -> StateChange {
    StateChange::to(EventKind::Admin, Subject::Node(node.to_owned()), to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_silent_role_machine_an_alarm_is_told_and_no_role() {
        assert_eq!((Cluster::Alone.role().name(), Cluster::Alone.alarms("outer-a").len()), ("active", 0));
        let alarms = Cluster::Silent.alarms("outer-a");
        assert_eq!((alarms.len(), Cluster::Silent.role().name()), (1, "unknown"));
        assert!(alarms[0].kind == AlarmKind::HaStuck && alarms[0].subject == "outer-a");
    }

    #[test]
    fn who_is_active_is_named_where_a_packet_is_dropped_because_this_node_is_not() {
        let explained = |drop: Option<&str>| {
            let told = serde_json::json!({"engine": "outer-a", "flow": "", "from": "", "decided_by": "drop", "pins": [],
                "candidates": [], "story": [], "drop": drop});
            serde_json::from_value::<ExplainView>(told).unwrap()
        };
        let seen = |role: Role, other: Role| {
            let mut view = crate::ha::view::sample();
            view.role = role.into();
            view.nodes[0].role = Some(other.into());
            Cluster::Seen(Box::new(ClusterState { view, alarms: Vec::new() }))
        };
        let named = |cluster: &Cluster, drop| {
            let mut told = explained(drop);
            assert!(is_dropped_by_role(&told));
            cluster.name_active(&mut told);
            (told.active_node, told.story.pop())
        };
        let standby = seen(Role::Standby, Role::Active);
        for drop in ["drop_standby", "drop_lease"] {
            let (node, said) = named(&standby, Some(drop));
            assert_eq!(node.as_deref(), Some("outer-b"));
            assert_eq!(said.as_deref(), Some("Node outer-b is active: ask there what becomes of the flow."));
        }
        assert!(!is_dropped_by_role(&explained(Some("drop_no_route"))), "another node would drop it, too");
        assert!(!is_dropped_by_role(&explained(None)));
        for deaf in [seen(Role::Listen, Role::Standby), Cluster::Silent] {
            let (node, said) = named(&deaf, Some("drop_standby"));
            assert_eq!((node, said.as_deref()), (None, Some("This node hears no other one that is active.")));
        }
    }
}
