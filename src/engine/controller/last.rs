//! What an order would leave nobody for: the last firewall of a group, the last server of a service.

use super::judgement::family_name;
use super::{Controller, ServerChange, UnknownName};
use crate::config::{Admin, BelowMin};
use crate::id::{FirewallId, GroupId, ServerId};
use crate::path::{PathSet, Slots};
use crate::slb::Service;
use crate::wire::Family;

/// What follows from an order beyond what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// In words, as it is once the order is given.
    pub words: String,
    /// New flows find nobody: it is not given by mistake.
    pub is_grave: bool,
}

impl Controller {
    /// What would follow if the firewalls called `name` (in `group`, if given) were commanded to `admin` (`None`: to what the
    /// file says).
    ///
    /// # Errors
    /// If there is no such firewall.
    pub fn consequences_for_firewall(
        &self,
        group: Option<&str>,
        name: &str,
        admin: Option<Admin>,
    ) -> Result<Vec<Consequence>, UnknownName> {
        let chosen = self.firewalls_known_as(group, name)?;
        let mut consequences: Vec<Consequence> = Vec::new();
        for firewall in chosen {
            let admin = admin.unwrap_or(self.config.firewalls[firewall.index()].admin);
            let of = self.config.firewalls[firewall.index()].group;
            let sets = self.liveness.sets().iter().filter(|set| set.group == of && set.peer.is_none());
            for set in sets {
                let found = match admin {
                    Admin::Ready => None,
                    Admin::Drain => self.after_drain(set, firewall),
                    Admin::Maint => self.after_maint(set, firewall),
                };
                consequences.extend(found.filter(|found| !consequences.contains(found)));
            }
        }
        Ok(consequences)
    }

    fn after_maint(&self, set: &PathSet, firewall: FirewallId) -> Option<Consequence> {
        let group = &self.groups[set.group.index()];
        let bit: Slots = 1 << group.slot_of(firewall)?;
        let after = PathSet { up: set.up & !bit, starting: set.starting & !bit, ..set.clone() };
        if set.up & bit == 0 || !(after.up == 0 || after.below_min(group) && !set.below_min(group)) {
            return None;
        }
        let name = &group.name;
        let words = match (after.up.count_ones(), self.config.groups[set.group.index()].below_min) {
            (_, BelowMin::Bypass) => format!("flows go round the firewalls of group {name} now"),
            (0, BelowMin::Drop) => format!("no firewall of group {name} takes new flows now"),
            (left, BelowMin::Drop) => {
                format!("group {name} drops its flows, with {left} live and min-up {} now", group.min_up)
            }
        };
        Some(Consequence { words, is_grave: true })
    }

    fn after_drain(&self, set: &PathSet, firewall: FirewallId) -> Option<Consequence> {
        let group = &self.groups[set.group.index()];
        let bit: Slots = 1 << group.slot_of(firewall)?;
        let is_ready = |id: FirewallId| self.liveness.effective_admin(id) == Some(Admin::Ready);
        let others = (0..group.members.len()).filter(|slot| set.is_up(*slot) && 1 << slot != bit);
        let has_others = others.map(|slot| group.members[slot].id).any(is_ready);
        if set.up & bit == 0 || has_others {
            return None;
        }
        let (name, group) = (self.config.firewall_name(firewall), self.group_name(set.group));
        let words = format!("new flows still go to {name}: no other firewall of group {group} takes any");
        Some(Consequence { words, is_grave: false })
    }

    fn group_name(&self, group: GroupId) -> &str {
        &self.config.groups[group.index()].name
    }

    /// What would follow if the server `name` of `service` were changed.
    ///
    /// # Errors
    /// If there is no such server.
    pub fn consequences_for_server(
        &self,
        service: &str,
        name: &str,
        change: ServerChange,
    ) -> Result<Vec<Consequence>, UnknownName> {
        let id = self.server_named(service, name)?;
        let configured = &self.config.servers[id.index()];
        let Some((before, _)) = self.farm.services().server(configured.service, id) else { return Ok(Vec::new()) };
        let after = changed(before, id, change, (configured.admin, configured.weight));
        let is_grave = change == ServerChange::Admin(Some(Admin::Maint));
        let lost =
            [Family::V4, Family::V6].into_iter().filter(|family| takes(before, *family) && !takes(&after, *family));
        let lost: Vec<&str> = lost.map(family_name).collect();
        let in_all = ![Family::V4, Family::V6].into_iter().any(|family| takes(&after, family));
        let consequence = match (lost.as_slice(), in_all) {
            ([], _) => None,
            (_, true) => Some(format!("no server of service {service} takes new sessions now")),
            (families, false) => {
                Some(format!("no server of service {service} takes new sessions over {} now", families.join(" and ")))
            }
        };
        Ok(consequence.map(|words| Consequence { words, is_grave }).into_iter().collect())
    }
}

/// The service after the change, as far as it says who takes new sessions.
fn changed(service: &Service, id: ServerId, change: ServerChange, (admin, weight): (Admin, u16)) -> Service {
    let mut service = service.clone();
    for server in service.servers.iter_mut().filter(|server| server.id == id) {
        match change {
            ServerChange::Weight(set) => server.weight = set.unwrap_or(weight),
            ServerChange::Admin(set) => match set.unwrap_or(admin) {
                Admin::Ready => {}
                Admin::Drain => server.takes_new = false,
                Admin::Maint => server.up = [false; 2],
            },
        }
    }
    service
}

/// Whether somebody takes new sessions of a family.
fn takes(service: &Service, family: Family) -> bool {
    let backups = service.needs_backups(family);
    let mut servers = service.servers.iter();
    service.takes_new && servers.any(|server| server.backup == backups && server.is_candidate(family))
}
