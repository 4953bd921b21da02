//! `show services`, in the shape that is served.

use super::super::journal::{micros, millis};
use super::super::views::joined;
use super::Farm;
use crate::config::{AdminState, ServiceCheckKind};
use crate::engine::{Counters, view};
use crate::health::history::CheckRecord;
use crate::health::monitor::HealthState;
use crate::id::{ServerId, ServiceId};
use crate::nat::NatDirection;
use crate::slb::Availability;
use crate::time::Instant;

impl Farm {
    pub(in super::super) fn service_view(&self, id: ServiceId, counters: &Counters, now: Instant) -> view::ServiceView {
        let service = &self.config.services[id.index()];
        let record = &self.services[id.index()];
        let servers: Vec<view::ServerView> =
            service.servers.iter().map(|server| self.server_view(*server, counters, now)).collect();
        view::ServiceView {
            engine: self.config.engine.name.clone(),
            name: service.name.clone(),
            addresses: service.addresses.iter().map(ToString::to_string).collect(),
            protocols: service.protocols.iter().map(|protocol| protocol_name(*protocol)).collect(),
            ports: service.ports.iter().map(port_range).collect(),
            scheduler: service.scheduler.name().into(),
            mode: service.mode.into(),
            state: record.state.shown().into(),
            admin: service.admin,
            override_: record.admin_override.as_ref().map(|set| set.admin),
            sessions: servers.iter().map(|server| server.sessions).sum(),
            imbalance: self.service_imbalance(id),
            since_ms: millis(now.since(record.since)),
            falls: record.outages.falls(),
            downtime_ms: millis(record.outages.downtime(now)),
            reason: self.service_description(id),
            orders: self.orders_of_service(id),
            servers,
        }
    }

    fn server_view(&self, id: ServerId, counters: &Counters, now: Instant) -> view::ServerView {
        let server = &self.config.servers[id.index()];
        let record = &self.servers[id.index()];
        let built = self.built.server(server.service, id).map(|(_, server)| server);
        let traffic = counters.servers.get(id.index()).copied().unwrap_or_default();
        view::ServerView {
            name: server.name.clone(),
            addresses: server.addresses.iter().map(ToString::to_string).collect(),
            port: server.port,
            backup: server.backup,
            state: record.state.shown().into(),
            admin: server.admin,
            override_: record.admin_override.as_ref().map(|set| set.admin),
            weight: self.server_weight(id),
            weight_override: record.weight_override.as_ref().map(|set| set.weight),
            sessions: built.map_or(0, |built| built.state.active()),
            new_sessions: built.map_or(0, |built| built.state.total()),
            packets: traffic.packets(),
            packets_in: traffic.in_direction(NatDirection::ToServer).packets,
            packets_out: traffic.in_direction(NatDirection::ToClient).packets,
            bytes: traffic.bytes(),
            bytes_in: traffic.in_direction(NatDirection::ToServer).bytes,
            bytes_out: traffic.in_direction(NatDirection::ToClient).bytes,
            since_ms: millis(now.since(record.since)),
            falls: record.outages.falls(),
            downtime_ms: millis(record.outages.downtime(now)),
            reason: self.server_description(id),
            orders: self.orders_of_server(id),
            checks: self.server_check_views(id, now),
        }
    }

    /// True if only backup servers are up.
    pub(super) fn is_on_backups_only(&self, id: ServiceId) -> bool {
        let servers = &self.config.services[id.index()].servers;
        let is_up = |server: &&ServerId| self.servers[server.index()].is_up();
        let mut up = servers.iter().filter(is_up).peekable();
        up.peek().is_some() && up.all(|server| self.config.servers[server.index()].backup)
    }

    /// Why a service is in its state, and which orders are in force besides.
    fn service_description(&self, id: ServiceId) -> Option<String> {
        let state = self.services[id.index()].state;
        let is_told = matches!(state, Availability::Drain | Availability::Maint);
        let is_plain = state == Availability::Up && !self.is_on_backups_only(id);
        let why = (!is_plain).then(|| self.service_reason(id, state));
        let orders = if is_told { Vec::new() } else { self.orders_of_service(id) };
        let orders = orders.iter().map(|order| order.describe_for(&self.config.engine.name));
        joined(why.into_iter().chain(orders))
    }

    /// Why a server is in its state, and which orders are in force besides: a weight, or a state that its service's
    /// overrules.
    fn server_description(&self, id: ServerId) -> Option<String> {
        let record = &self.servers[id.index()];
        let is_told = matches!(record.state, Availability::Drain | Availability::Maint)
            && self.server_admin(id) != AdminState::Ready;
        let orders = self.orders_of_server(id);
        let besides = orders.iter().filter(|order| !is_told || order.weight.is_some());
        let besides = besides.map(|order| order.describe_for(&self.config.engine.name));
        joined(record.reason.clone().into_iter().chain(besides))
    }

    fn server_check_views(&self, id: ServerId, now: Instant) -> Vec<view::ServerCheckView> {
        let service = &self.config.services[self.config.servers[id.index()].service.index()];
        let views = self.checks_of(id).map(|check| view::ServerCheckView {
            family: check.family.into(),
            state: view::OperState::from(check.monitor.state()).into(),
            since_ms: millis(now.since(check.monitor.since())),
            last: check.history.last().map(|last| last_check(last, now)),
            failures: check.history.failures(),
            falls: check.outages.falls(),
            downtime_ms: millis(check.outages.downtime(now)),
            reason: match (&service.check.kind, check.monitor.last_failure(), check.monitor.state()) {
                (ServiceCheckKind::None, _, _) => Some("not checked".to_owned()),
                (_, Some(failure), _) => Some(failure.to_owned()),
                (_, None, HealthState::Starting) => Some("no verdict yet".to_owned()),
                (_, None, HealthState::Up | HealthState::Down) => None,
            },
        });
        views.collect()
    }
}

fn last_check(last: &CheckRecord, now: Instant) -> view::LastCheckView {
    view::LastCheckView {
        result: last.result.into(),
        detail: Some(last.detail.clone()).filter(|words| !words.is_empty()),
        duration_us: last.took.map(micros),
        age_ms: millis(now.since(last.at)),
    }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}

fn port_range(range: &std::ops::RangeInclusive<u16>) -> String {
    match (*range.start(), *range.end()) {
        (1, u16::MAX) => "any".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}
