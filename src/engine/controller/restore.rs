//! Restores after a restart what operators had ordered before it.

use super::farm::ServerChange;
use super::order::Order;
use super::{Controller, Event, UnknownName};
use crate::engine::view::{EventKind, ObjectKind, OverrideView};
use crate::time::Instant;

impl Controller {
    /// Restores an override that [`Controller::overrides`] returned before a restart.
    pub(super) fn restore_override(&mut self, set: &OverrideView, now: Instant) -> Result<(), UnknownName> {
        let order = &Order::restored(set.reason.clone(), set.by.clone(), set.at.as_deref());
        let told = self.out.events();
        let done = self.apply_override(set, order, now);
        // Nobody gives the order at this time, so that the event says when it was given.
        let at = order.rfc3339_time().map(|at| format!(" at {at}")).unwrap_or_default();
        let by = format!("{}{at}, kept over a restart", order.by.as_deref().unwrap_or("somebody"));
        for event in self.out.events_after(told) {
            if let Event::Change(event) = event
                && event.kind == EventKind::Admin
            {
                event.by = Some(by.clone());
            }
        }
        done
    }

    fn apply_override(&mut self, set: &OverrideView, order: &Order, now: Instant) -> Result<(), UnknownName> {
        let (of, name) = match set.subject.split_once('/') {
            Some((of, name)) => (Some(of), name),
            None => (None, set.subject.as_str()),
        };
        match (set.kind.known(), of) {
            (Some(ObjectKind::Service), None) => self.farm.set_service(name, set.admin, order, now, &mut self.out),
            (Some(ObjectKind::Server), Some(service)) => {
                if set.admin.is_some() {
                    self.farm.set_server(service, name, ServerChange::Admin(set.admin), order, now, &mut self.out)?;
                }
                if set.weight.is_some() {
                    self.farm.set_server(service, name, ServerChange::Weight(set.weight), order, now, &mut self.out)?;
                }
                Ok(())
            }
            (Some(ObjectKind::Firewall), of) => self.paths.set_admin(of, name, set.admin, order, &mut self.out),
            _ => Err(UnknownName(format!("there is no {} {}", set.kind, set.subject))),
        }
    }
}
