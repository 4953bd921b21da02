//! `fwlb set server` and `fwlb set service`: what an operator commands over what the file says.

use super::admin::{Override, admin_name};
use super::services::{Drain, WeightOverride};
use super::{Controller, UnknownName};
use crate::config::Admin;
use crate::engine::view::OverrideView;
use crate::id::{ServerId, ServiceId};
use crate::time::Instant;

/// What `fwlb set server` changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerChange {
    /// The administrative state; `None`: back to the file's.
    Admin(Option<Admin>),
    /// The weight, 0..=256; `None`: back to the file's.
    Weight(Option<u16>),
}

impl Controller {
    pub(super) fn command_service(
        &mut self,
        name: &str,
        admin: Option<Admin>,
        reason: Option<String>,
        by: Option<String>,
        now: Instant,
    ) -> Result<(), UnknownName> {
        let id = self.service_called(name)?;
        let before = self.service_admin(id);
        let timeout = self.config.services[id.index()].drain_timeout;
        self.farm.services[id.index()].set =
            admin.map(|admin| Override { admin, reason: reason.clone(), by: by.clone() });
        let after = self.service_admin(id);
        if before != after {
            self.farm.services[id.index()].drain = Drain::of(after, timeout, now);
        }
        self.farm.judge = true;
        let subject = format!("service {name}");
        let (from, to) = (Some(admin_name(before)), Some(admin_name(after)));
        self.change("admin", &subject, from, to, reason.as_deref(), by.as_deref());
        Ok(())
    }

    pub(super) fn command_server(
        &mut self,
        service: &str,
        name: &str,
        change: ServerChange,
        reason: Option<String>,
        by: Option<String>,
        now: Instant,
    ) -> Result<(), UnknownName> {
        let id = self.server_named(service, name)?;
        let subject = format!("server {}", self.server_name(id));
        let (from, to) = match change {
            ServerChange::Admin(admin) => {
                let before = self.server_admin(id);
                let of = self.config.servers[id.index()].service;
                let timeout = self.config.services[of.index()].drain_timeout;
                self.farm.servers[id.index()].set =
                    admin.map(|admin| Override { admin, reason: reason.clone(), by: by.clone() });
                let after = self.server_admin(id);
                if before != after {
                    self.farm.servers[id.index()].drain = Drain::of(after, timeout, now);
                }
                (admin_name(before).to_owned(), admin_name(after).to_owned())
            }
            ServerChange::Weight(weight) => {
                let before = self.server_weight(id);
                self.farm.servers[id.index()].weight =
                    weight.map(|weight| WeightOverride { weight, reason: reason.clone(), by: by.clone() });
                (format!("weight {before}"), format!("weight {}", self.server_weight(id)))
            }
        };
        self.farm.suspects.insert(id);
        self.change("admin", &subject, Some(&from), Some(&to), reason.as_deref(), by.as_deref());
        Ok(())
    }

    /// Commands again what [`Controller::service_overrides`] or the firewalls' told before a restart.
    pub(super) fn command_again(&mut self, set: &OverrideView, now: Instant) -> Result<(), UnknownName> {
        let (reason, by) = (set.reason.clone(), set.by.clone());
        let (of, name) = match set.subject.split_once('/') {
            Some((of, name)) => (Some(of), name),
            None => (None, set.subject.as_str()),
        };
        match (set.kind.as_str(), of) {
            ("service", None) => self.command_service(name, set.admin, reason, by, now),
            ("server", Some(service)) => {
                if set.admin.is_some() {
                    let admin = ServerChange::Admin(set.admin);
                    self.command_server(service, name, admin, reason.clone(), by.clone(), now)?;
                }
                if set.weight.is_some() {
                    self.command_server(service, name, ServerChange::Weight(set.weight), reason, by, now)?;
                }
                Ok(())
            }
            ("firewall", of) => self.command_admin(of, name, set.admin, reason, by),
            (kind, _) => Err(UnknownName(format!("there is no {kind} {}", set.subject))),
        }
    }

    /// What is overridden of services and servers.
    pub(super) fn service_overrides(&self) -> impl Iterator<Item = OverrideView> + '_ {
        let services = self.farm.services.iter().zip(&self.config.services).filter_map(|(record, service)| {
            let set = record.set.as_ref()?;
            Some(view("service", service.name.clone(), Some(set.admin), None, (&set.reason, &set.by)))
        });
        let servers = self.farm.servers.iter().enumerate().flat_map(move |(index, record)| {
            // Thousands have none.
            let name = move || self.server_name(index.into());
            let admin = record.set.as_ref();
            let admin = admin.map(|set| view("server", name(), Some(set.admin), None, (&set.reason, &set.by)));
            let weight = record.weight.as_ref();
            let weight = weight.map(|set| view("server", name(), None, Some(set.weight), (&set.reason, &set.by)));
            admin.into_iter().chain(weight)
        });
        services.chain(servers)
    }

    /// What holds for a service: the override, else the file.
    pub(super) fn service_admin(&self, id: ServiceId) -> Admin {
        let set = self.farm.services[id.index()].set.as_ref();
        set.map_or(self.config.services[id.index()].admin, |set| set.admin)
    }

    /// What holds for a server by itself: the override, else the file.
    pub(super) fn server_admin(&self, id: ServerId) -> Admin {
        let set = self.farm.servers[id.index()].set.as_ref();
        set.map_or(self.config.servers[id.index()].admin, |set| set.admin)
    }

    pub(super) fn service_called(&self, name: &str) -> Result<ServiceId, UnknownName> {
        let found = self.config.services.iter().position(|service| service.name == name);
        found.map(ServiceId::from).ok_or_else(|| {
            let known = self.config.service_ids().map(|id| self.config.services[id.index()].name.clone());
            UnknownName(format!("no service {name}; there is {}", listed(known)))
        })
    }

    pub(super) fn server_named(&self, service: &str, name: &str) -> Result<ServerId, UnknownName> {
        let id = self.service_called(service)?;
        let servers = &self.config.services[id.index()].servers;
        let found = servers.iter().find(|server| self.config.servers[server.index()].name == name);
        found.copied().ok_or_else(|| {
            let known = servers.iter().map(|server| self.server_name(*server));
            UnknownName(format!("no server {service}/{name}; there is {}", listed(known)))
        })
    }
}

fn view(
    kind: &str,
    subject: String,
    admin: Option<Admin>,
    weight: Option<u16>,
    (reason, by): (&Option<String>, &Option<String>),
) -> OverrideView {
    OverrideView { kind: kind.to_owned(), subject, admin, weight, reason: reason.clone(), by: by.clone() }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
