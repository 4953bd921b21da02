//! `fwlb set server` and `fwlb set service`: how an operator overrides what the file says.

use super::super::UnknownName;
use super::super::order::Order;
use super::super::outbox::Outbox;
use super::super::paths::Override;
use super::Farm;
use super::services::{Drain, WeightOverride};
use crate::config::AdminState;
use crate::engine::change::Subject;
use crate::engine::view::{ObjectKind, OrderView, OverrideView};
use crate::id::{ServerId, ServiceId};
use crate::time::Instant;

/// What `fwlb set server` changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerChange {
    /// The administrative state; `None` returns to the file's, and to the file's weight.
    Admin(Option<AdminState>),
    /// The weight, 0..=256; `None` returns to the file's.
    Weight(Option<u16>),
}

impl Farm {
    pub(in super::super) fn set_service(
        &mut self,
        name: &str,
        admin: Option<AdminState>,
        order: &Order,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), UnknownName> {
        let id = self.find_service(name)?;
        let before = self.service_admin(id);
        let timeout = self.config.services[id.index()].drain_timeout;
        self.services[id.index()].admin_override = admin.map(|admin| Override { admin, order: order.clone() });
        let after = self.service_admin(id);
        if before != after {
            self.services[id.index()].drain = Drain::of(after, timeout, now);
        }
        self.needs_evaluation = true;
        out.report_change(order.change(Subject::service(&self.config, id), before.name(), after.name()));
        Ok(())
    }

    pub(in super::super) fn set_server(
        &mut self,
        service: &str,
        name: &str,
        change: ServerChange,
        order: &Order,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), UnknownName> {
        let id = self.find_server(service, name)?;
        match change {
            ServerChange::Admin(admin) => {
                self.command_server_admin(id, admin, order, now, out);
                // What began with the override ends with it. A weight may be overridden without it.
                if admin.is_none() && self.servers[id.index()].weight_override.is_some() {
                    self.command_server_weight(id, None, order, out);
                }
            }
            ServerChange::Weight(weight) => self.command_server_weight(id, weight, order, out),
        }
        self.suspects.insert(id);
        Ok(())
    }

    fn command_server_admin(
        &mut self,
        id: ServerId,
        admin: Option<AdminState>,
        order: &Order,
        now: Instant,
        out: &mut Outbox,
    ) {
        let before = self.server_admin(id);
        let of = self.config.servers[id.index()].service;
        let timeout = self.config.services[of.index()].drain_timeout;
        self.servers[id.index()].admin_override = admin.map(|admin| Override { admin, order: order.clone() });
        let after = self.server_admin(id);
        if before != after {
            self.servers[id.index()].drain = Drain::of(after, timeout, now);
        }
        out.report_change(order.change(Subject::server(&self.config, id), before.name(), after.name()));
    }

    fn command_server_weight(&mut self, id: ServerId, weight: Option<u16>, order: &Order, out: &mut Outbox) {
        let before = format!("weight {}", self.server_weight(id));
        self.servers[id.index()].weight_override = weight.map(|weight| WeightOverride { weight, order: order.clone() });
        let after = format!("weight {}", self.server_weight(id));
        out.report_change(order.change(Subject::server(&self.config, id), before, after));
    }

    /// The overrides of services, then those of servers.
    pub(in super::super) fn overrides(&self) -> impl Iterator<Item = OverrideView> + '_ {
        let services = self.services.iter().zip(&self.config.services).filter_map(|(record, service)| {
            let set = record.admin_override.as_ref()?;
            Some(override_view(ObjectKind::Service, service.name.clone(), Some(set.admin), None, &set.order))
        });
        let servers = self.servers.iter().enumerate().flat_map(move |(index, record)| {
            // Thousands of servers have no override, so that names are made only for those that have one.
            let name = move || self.config.server_name(index.into());
            let admin = record.admin_override.as_ref();
            let admin = admin.map(|set| override_view(ObjectKind::Server, name(), Some(set.admin), None, &set.order));
            let weight = record.weight_override.as_ref();
            let weight =
                weight.map(|set| override_view(ObjectKind::Server, name(), None, Some(set.weight), &set.order));
            admin.into_iter().chain(weight)
        });
        services.chain(servers)
    }

    /// The orders in force for a service.
    pub(super) fn orders_of_service(&self, id: ServiceId) -> Vec<OrderView> {
        self.services[id.index()].admin_override.iter().map(|set| self.order_view(set)).collect()
    }

    /// The orders in force for a server itself: a state, a weight, or both.
    pub(super) fn orders_of_server(&self, id: ServerId) -> Vec<OrderView> {
        let record = &self.servers[id.index()];
        let weight = record.weight_override.iter().map(|set| {
            let view = set.order.view(&self.config.engine.name);
            OrderView { weight: Some(set.weight), ..view }
        });
        record.admin_override.iter().map(|set| self.order_view(set)).chain(weight).collect()
    }

    fn order_view(&self, set: &Override) -> OrderView {
        OrderView { admin: Some(set.admin), ..set.order.view(&self.config.engine.name) }
    }

    /// The administrative state of a service: the override, else what the file says.
    pub(super) fn service_admin(&self, id: ServiceId) -> AdminState {
        let set = self.services[id.index()].admin_override.as_ref();
        set.map_or(self.config.services[id.index()].admin, |set| set.admin)
    }

    /// The administrative state of a server without regard to its service: the override, else what the file says.
    pub(super) fn server_admin(&self, id: ServerId) -> AdminState {
        let set = self.servers[id.index()].admin_override.as_ref();
        set.map_or(self.config.servers[id.index()].admin, |set| set.admin)
    }

    pub(super) fn find_service(&self, name: &str) -> Result<ServiceId, UnknownName> {
        let found = self.config.services.iter().position(|service| service.name == name);
        found.map(ServiceId::from).ok_or_else(|| {
            let known = self.config.service_ids().map(|id| self.config.services[id.index()].name.clone());
            UnknownName(format!("no service {name}; there is {}", list_names(known)))
        })
    }

    pub(in super::super) fn find_server(&self, service: &str, name: &str) -> Result<ServerId, UnknownName> {
        let id = self.find_service(service)?;
        let servers = &self.config.services[id.index()].servers;
        let found = servers.iter().find(|server| self.config.servers[server.index()].name == name);
        found.copied().ok_or_else(|| {
            let known = servers.iter().map(|server| self.config.server_name(*server));
            UnknownName(format!("no server {service}/{name}; there is {}", list_names(known)))
        })
    }
}

fn override_view(
    kind: ObjectKind,
    subject: String,
    admin: Option<AdminState>,
    weight: Option<u16>,
    order: &Order,
) -> OverrideView {
    let Order { reason, by, at: _ } = order.clone();
    OverrideView { kind: kind.into(), subject, admin, weight, reason, by, at: order.rfc3339_time() }
}

fn list_names(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
