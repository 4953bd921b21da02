//! Finds out which groups an order would leave without a firewall.

use super::super::{Consequence, UnknownName};
use super::Paths;
use crate::config::{AdminState, BelowMin};
use crate::id::{FirewallId, GroupId};
use crate::path::{PathSet, Slots};

impl Paths {
    /// What would follow if the administrative state of the firewalls called `name` (in `group`, if given) were
    /// overridden by `admin`, or returned to the file's (`None`).
    ///
    /// # Errors
    /// If there is no such firewall.
    pub(in super::super) fn consequences(
        &self,
        group: Option<&str>,
        name: &str,
        admin: Option<AdminState>,
    ) -> Result<Vec<Consequence>, UnknownName> {
        let chosen = self.find_firewalls(group, name)?;
        let mut consequences: Vec<Consequence> = Vec::new();
        for firewall in chosen {
            let admin = admin.unwrap_or(self.config.firewalls[firewall.index()].admin);
            let of = self.config.firewalls[firewall.index()].group;
            let sets = self.liveness.sets().iter().filter(|set| set.group == of && set.peer.is_none());
            for set in sets {
                let found = match admin {
                    AdminState::Ready => None,
                    AdminState::Drain => self.after_drain(set, firewall),
                    AdminState::Maint => self.after_maint(set, firewall),
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
        Some(Consequence { description: words, is_grave: true })
    }

    fn after_drain(&self, set: &PathSet, firewall: FirewallId) -> Option<Consequence> {
        let group = &self.groups[set.group.index()];
        let bit: Slots = 1 << group.slot_of(firewall)?;
        let is_ready = |id: FirewallId| self.liveness.effective_admin(id) == Some(AdminState::Ready);
        let others = (0..group.members.len()).filter(|slot| set.is_up(*slot) && 1 << slot != bit);
        let has_others = others.map(|slot| group.members[slot].id).any(is_ready);
        if set.up & bit == 0 || has_others {
            return None;
        }
        let (name, group) = (self.config.firewall_name(firewall), self.group_name(set.group));
        let words = format!("new flows still go to {name}: no other firewall of group {group} takes any");
        Some(Consequence { description: words, is_grave: false })
    }

    fn group_name(&self, group: GroupId) -> &str {
        &self.config.groups[group.index()].name
    }
}
