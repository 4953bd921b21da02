//! `fwlb set firewall`: what an operator commands over what the file says.

use super::{Controller, UnknownName};
use crate::config::Admin;
use crate::engine::view::OverrideView;
use crate::id::FirewallId;

/// An administrative state that was commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) admin: Admin,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
}

impl Controller {
    pub(super) fn command_admin(
        &mut self,
        group: Option<&str>,
        name: &str,
        admin: Option<Admin>,
        reason: Option<String>,
        by: Option<String>,
    ) -> Result<(), UnknownName> {
        let chosen = self.firewalls_called(group, name);
        if chosen.is_empty() {
            return Err(self.unknown_firewall(group, name));
        }
        for firewall in chosen {
            let before = self.commanded(firewall);
            self.overrides[firewall.index()] =
                admin.map(|admin| Override { admin, reason: reason.clone(), by: by.clone() });
            let after = self.commanded(firewall);
            self.liveness.set_admin(firewall, after);
            self.judge = true;
            let subject = self.firewall_name(firewall);
            let (from, to) = (Some(admin_name(before)), Some(admin_name(after)));
            self.change("admin", &subject, from, to, reason.as_deref(), by.as_deref());
        }
        Ok(())
    }

    /// What holds here: the override, else the file.
    pub(super) fn commanded(&self, firewall: FirewallId) -> Admin {
        let file = self.config.firewalls[firewall.index()].admin;
        self.overrides[firewall.index()].as_ref().map_or(file, |commanded| commanded.admin)
    }

    pub(super) fn override_views(&self) -> Vec<OverrideView> {
        let set = self.overrides.iter().enumerate().filter_map(|(index, set)| Some((index, set.as_ref()?)));
        let views = set.map(|(index, set)| OverrideView {
            kind: "firewall".to_owned(),
            subject: self.firewall_name(index.into()),
            admin: Some(set.admin),
            weight: None,
            reason: set.reason.clone(),
            by: set.by.clone(),
        });
        views.chain(self.service_overrides()).collect()
    }

    fn firewalls_called(&self, group: Option<&str>, name: &str) -> Vec<FirewallId> {
        let matches = |firewall: &crate::config::Firewall| {
            let of = &self.config.groups[firewall.group.index()].name;
            firewall.name == name && group.is_none_or(|group| group == of)
        };
        let called = self.config.firewalls.iter().enumerate().filter(|(_, firewall)| matches(firewall));
        called.map(|(index, _)| index.into()).collect()
    }

    fn unknown_firewall(&self, group: Option<&str>, name: &str) -> UnknownName {
        let known: Vec<String> = self.config.firewall_ids().map(|id| self.firewall_name(id)).collect();
        let wanted = group.map_or_else(|| name.to_owned(), |group| format!("{group}/{name}"));
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        UnknownName(format!("no firewall {wanted}; there is {known}"))
    }
}

pub(super) const fn admin_name(admin: Admin) -> &'static str {
    match admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
        Admin::Maint => "maint",
    }
}
