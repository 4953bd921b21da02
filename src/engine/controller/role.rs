//! What a change of role means for the controller.

use std::sync::Arc;

use super::{ClusterRole, Controller};
use crate::engine::SharedRole;
use crate::engine::shared_role::Permission;
use crate::ha::{Forwarding, RoleWord, WitnessReport};
use crate::time::Instant;

impl Controller {
    /// The role word that packet workers follow; `None` for an engine that stands alone.
    pub fn shared_role(&self) -> Option<Arc<SharedRole>> {
        self.role.clone()
    }

    /// Takes over a new role, which packet workers follow already. A node that becomes active announces what it has; its
    /// workers search for the sessions of what failed meanwhile. What probes say of the role is set by
    /// [`Controller::set_cluster_role`].
    pub fn set_role(&mut self, word: RoleWord, now: Instant) {
        let was_router = self.links.is_router();
        self.links.set_router(word.forwarding == Forwarding::Router);
        if !was_router && self.links.is_router() {
            self.links.announce_floating(now, &mut self.out);
        }
        self.out.publish();
        self.finish(now);
    }

    /// Sets what the engine is in its cluster, which it says in its probes; `None`: it is alone on its side.
    pub fn set_cluster_role(&mut self, role: Option<ClusterRole>) {
        self.paths.set_cluster_role(role);
    }

    /// Announces floating addresses, VIPs and `snat` addresses on every link, if this node is active.
    pub fn announce_floating(&mut self, now: Instant) {
        self.follow_role(now);
        self.links.announce_floating(now, &mut self.out);
        self.finish(now);
    }

    /// Asks some next hops, firewalls and servers of every link for their MAC addresses.
    pub fn ask_neighbors(&mut self, now: Instant) {
        self.follow_role(now);
        self.links.ask_neighbors();
        self.finish(now);
    }

    /// What an engine on the far side says about a node of this cluster.
    pub fn poll_witness(&mut self) -> Option<WitnessReport> {
        self.paths.poll_witness()
    }

    /// Answers for floating addresses only while the role word allows it: the lease may have ended.
    pub(super) fn follow_role(&mut self, now: Instant) {
        if let Some(role) = &self.role {
            self.links.set_router(role.at(now) == Permission::Router);
        }
    }
}
