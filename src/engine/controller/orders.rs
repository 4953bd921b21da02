//! What operators order and request, and what the consequences would be.

use std::net::IpAddr;

use super::{Consequence, Controller, Order, ServerChange, UnknownName};
use crate::config::AdminState;
use crate::engine::view::{OrderView, OverrideView};
use crate::id::{FirewallId, LinkId, ServerId};
use crate::time::Instant;

impl Controller {
    /// `fwlb set firewall`: overrides the administrative state of every firewall called `name` (in `group`, if given).
    /// `None` returns to the file's.
    pub fn set_admin(
        &mut self,
        group: Option<&str>,
        name: &str,
        admin: Option<AdminState>,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.paths.set_admin(group, name, admin, order, &mut self.out)?;
        self.finish(now);
        Ok(())
    }

    /// `fwlb set service`: overrides the administrative state; `None` returns to the file's.
    pub fn set_service(
        &mut self,
        name: &str,
        admin: Option<AdminState>,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.farm.set_service(name, admin, order, now, &mut self.out)?;
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// `fwlb set server`: overrides the administrative state or the weight of the server `name` of `service`.
    pub fn set_server(
        &mut self,
        service: &str,
        name: &str,
        change: ServerChange,
        order: &Order,
        now: Instant,
    ) -> Result<(), UnknownName> {
        self.farm.set_server(service, name, change, order, now, &mut self.out)?;
        self.out.publish_at_once();
        self.finish(now);
        Ok(())
    }

    /// Restores an override that [`Controller::overrides`] returned before a restart.
    pub fn restore(&mut self, set: &OverrideView, now: Instant) -> Result<(), UnknownName> {
        self.restore_override(set, now)?;
        self.finish(now);
        Ok(())
    }

    /// The server `name` of `service`.
    pub fn find_server(&self, service: &str, name: &str) -> Result<ServerId, UnknownName> {
        self.farm.find_server(service, name)
    }

    /// Checks a server now, in every family that it has. Returns the numbers of the requests; an
    /// [`Event::Exchange`](super::Event::Exchange) for each follows.
    pub fn probe_server(&mut self, server: ServerId, now: Instant) -> Vec<u64> {
        let requests = self.farm.start_checks(server, &mut self.links, &self.paths, now, &mut self.out);
        self.finish(now);
        requests
    }

    /// Probes every path of a firewall now. Returns the numbers of the requests; an
    /// [`Event::Exchange`](super::Event::Exchange) for each follows.
    pub fn probe(&mut self, firewall: FirewallId, now: Instant) -> Vec<u64> {
        let requests = self.paths.start_probes(firewall, &mut self.links, now, &mut self.out);
        self.finish(now);
        requests
    }

    /// Pings `address`: through a firewall, on a link, or as routed. Returns the number of the request; an
    /// [`Event::Exchange`](super::Event::Exchange) follows within a second.
    pub fn ping(
        &mut self,
        address: IpAddr,
        link: Option<LinkId>,
        firewall: Option<FirewallId>,
        now: Instant,
    ) -> Result<u64, UnknownName> {
        let request = self.paths.start_ping(address, link, firewall, &mut self.links, now, &mut self.out)?;
        self.finish(now);
        Ok(request)
    }

    /// What would follow if the administrative state of the firewalls called `name` (in `group`, if given) were
    /// overridden by `admin`, or returned to the file's (`None`).
    ///
    /// # Errors
    /// If there is no such firewall.
    pub fn consequences_for_firewall(
        &self,
        group: Option<&str>,
        name: &str,
        admin: Option<AdminState>,
    ) -> Result<Vec<Consequence>, UnknownName> {
        self.paths.consequences(group, name, admin)
    }

    /// The orders of the engines on the far sides about the firewalls called `name` (in `group`, if given) that are
    /// stricter than the state here, so that an order here does not undo them.
    pub fn stricter_orders_at_peers(&self, group: Option<&str>, name: &str) -> Vec<OrderView> {
        self.paths.stricter_orders_at_peers(group, name)
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
        self.farm.consequences(service, name, change)
    }
}
