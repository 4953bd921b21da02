//! The part of a scenario that opens flows to services, and disturbs and administers servers.

use crate::config::AdminState;
use crate::engine::controller::ServerChange;
use crate::sim::farm::{server_name, service_name};
use crate::sim::host::{FlowRef, FlowSpec, Health};
use crate::sim::packet::Tuple;
use crate::sim::sandwich::host_address;
use crate::sim::scenario::Scenario;
use crate::sim::side::Side;
use crate::sim::world::Cable;

impl Scenario {
    /// Opens a flow from a host of `side` to service number `service`, with that service's traffic.
    pub fn open_to_service(&mut self, service: usize, spec: FlowSpec, side: Side, opener: usize, v4: bool) -> FlowRef {
        let farm = &self.plan.farm;
        let destination = (farm.vip(service, v4), farm.port(service));
        let (protocol, traffic) = (farm.services[service].protocol(), farm.services[service].traffic);
        let source = (host_address(side, opener, v4), self.free_port());
        let flow = self.open_tuple(FlowSpec { traffic, ..spec }, side, opener, Tuple { protocol, source, destination });
        self.checkers.opened_to_service(flow, service);
        flow
    }

    /// The servers to which an engine sent a flow.
    pub fn servers_of(&self, flow: FlowRef) -> Vec<usize> {
        self.checkers.history(flow).map(|story| story.servers.iter().copied().collect()).unwrap_or_default()
    }

    /// Changes the health of a server.
    pub fn set_health(&mut self, server: usize, health: Health) {
        self.note(format!("{} is {health:?}", server_name(server)));
        self.disturb_server(server, "is not well", health != Health::Well);
        self.world.with_host(self.nodes.servers[server], |host, now| host.set_health(health, now));
    }

    /// Changes a server's cable, in both directions.
    pub fn set_server_cable(&mut self, server: usize, wire: Cable) {
        let what = if wire.cut { "cut".to_owned() } else { format!("{wire:?}") };
        self.note(format!("{} cable {what}", server_name(server)));
        self.disturb_server(server, "has a bad cable", wire != Cable::GOOD);
        let port = self.world.port(self.nodes.servers[server], 0);
        (port.sending, port.receiving) = (wire, wire);
    }

    /// Does `fwlb set server SERVICE/SERVER ready|drain|maint|default`.
    pub fn set_server_admin(&mut self, service: usize, server: usize, admin: Option<AdminState>) {
        self.note(format!("set server {}/{} {admin:?}", service_name(service), server_name(server)));
        let why = format!("is administered in {}", service_name(service));
        self.disturb_server(server, &why, !matches!(admin, None | Some(AdminState::Ready)));
        self.change_server(service, server, ServerChange::Admin(admin));
    }

    /// Does `fwlb set server SERVICE/SERVER weight=N|weight=default`.
    pub fn set_server_weight(&mut self, service: usize, server: usize, weight: Option<u16>) {
        self.note(format!("set server {}/{} weight {weight:?}", service_name(service), server_name(server)));
        self.change_server(service, server, ServerChange::Weight(weight));
    }

    fn change_server(&mut self, service: usize, server: usize, change: ServerChange) {
        let node = self.nodes.engine(self.plan.farm.services[service].side);
        let (service, server) = (service_name(service), server_name(server));
        self.world.with_engine(node, |engine, now| engine.set_server(&service, &server, change, now));
    }

    fn disturb_server(&mut self, server: usize, why: &str, begins: bool) {
        let now = self.world.now();
        let causes = &mut self.checkers.causes;
        if begins { causes.begin_server(server, why, now) } else { causes.end_server(server, why, now) }
    }
}
