//! `fwlb set firewall`: the administrative states that operators set over those in the file.

use super::super::UnknownName;
use super::super::order::Order;
use super::super::outbox::Outbox;
use super::Paths;
use crate::config::AdminState;
use crate::engine::change::Subject;
use crate::engine::view::{ObjectKind, OrderView, OverrideView};
use crate::id::FirewallId;

/// An administrative state that an operator set over the one in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Override {
    pub(in super::super) admin: AdminState,
    pub(in super::super) order: Order,
}

impl Paths {
    pub(in super::super) fn set_admin(
        &mut self,
        group: Option<&str>,
        name: &str,
        admin: Option<AdminState>,
        order: &Order,
        out: &mut Outbox,
    ) -> Result<(), UnknownName> {
        for firewall in self.find_firewalls(group, name)? {
            let before = self.local_admin(firewall);
            self.overrides[firewall.index()] = admin.map(|admin| Override { admin, order: order.clone() });
            let after = self.local_admin(firewall);
            self.liveness.set_admin(firewall, after);
            self.advertise_first(firewall);
            self.needs_evaluation = true;
            let subject = Subject::firewall(&self.config, firewall);
            out.report_change(order.change(subject, before.name(), after.name()));
        }
        Ok(())
    }

    /// The orders of the engines on the far sides about the firewalls called `name` (in `group`, if given) that are
    /// stricter than the state here, so that an order here does not undo them.
    pub(in super::super) fn stricter_orders_at_peers(&self, group: Option<&str>, name: &str) -> Vec<OrderView> {
        let firewalls = self.firewalls_named(group, name).into_iter();
        let held = firewalls.flat_map(|firewall| {
            let here = self.local_admin(firewall);
            let orders = self.orders_elsewhere(firewall);
            orders.into_iter().filter(move |order| order.admin.is_some_and(|admin| is_stricter(admin, here)))
        });
        held.collect()
    }

    /// The administrative state of a firewall at this engine: the override, else what the file says.
    pub(super) fn local_admin(&self, firewall: FirewallId) -> AdminState {
        let file = self.config.firewalls[firewall.index()].admin;
        self.overrides[firewall.index()].as_ref().map_or(file, |commanded| commanded.admin)
    }

    pub(in super::super) fn overrides(&self) -> impl Iterator<Item = OverrideView> + '_ {
        let set = self.overrides.iter().enumerate().filter_map(|(index, set)| Some((index, set.as_ref()?)));
        set.map(|(index, set)| OverrideView {
            kind: ObjectKind::Firewall.into(),
            subject: self.config.firewall_name(index.into()),
            admin: Some(set.admin),
            weight: None,
            reason: set.order.reason.clone(),
            by: set.order.by.clone(),
            at: set.order.rfc3339_time(),
        })
    }

    fn firewalls_named(&self, group: Option<&str>, name: &str) -> Vec<FirewallId> {
        let matches = |firewall: &crate::config::Firewall| {
            let of = &self.config.groups[firewall.group.index()].name;
            firewall.name == name && group.is_none_or(|group| group == of)
        };
        let called = self.config.firewalls.iter().enumerate().filter(|(_, firewall)| matches(firewall));
        called.map(|(index, _)| index.into()).collect()
    }

    /// The firewalls called `name` (in `group`, if given); an error if there are none.
    pub(super) fn find_firewalls(&self, group: Option<&str>, name: &str) -> Result<Vec<FirewallId>, UnknownName> {
        let called = self.firewalls_named(group, name);
        if called.is_empty() { Err(self.unknown_firewall(group, name)) } else { Ok(called) }
    }

    fn unknown_firewall(&self, group: Option<&str>, name: &str) -> UnknownName {
        let known: Vec<String> = self.config.firewall_ids().map(|id| self.config.firewall_name(id)).collect();
        let wanted = group.map_or_else(|| name.to_owned(), |group| format!("{group}/{name}"));
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        UnknownName(format!("no firewall {wanted}; there is {known}"))
    }
}

/// True if a firewall does less in state `one` than in state `other`.
fn is_stricter(one: AdminState, other: AdminState) -> bool {
    match (one, other) {
        (AdminState::Maint, AdminState::Ready | AdminState::Drain) | (AdminState::Drain, AdminState::Ready) => true,
        (AdminState::Maint, AdminState::Maint)
        | (AdminState::Drain, AdminState::Drain | AdminState::Maint)
        | (AdminState::Ready, _) => false,
    }
}
