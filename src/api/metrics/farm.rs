//! Metrics of services, servers and their checks.

use std::fmt;

use super::family::{Labels, Page, bytes, of, ratio, seconds};
use super::members::{of_engine, with_labels};
use crate::engine::view::{
    CheckResult, MeasuresView, OperState, ServerCheckView, ServerView, ServiceState, ServiceView,
};

pub(super) fn encode(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    services(page, engines)?;
    servers(page, engines)?;
    traffic(page, engines)?;
    checks(page, engines)
}

fn in_seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn each_service(engines: &[MeasuresView]) -> impl Iterator<Item = (Labels<'_>, &ServiceView)> {
    engines.iter().flat_map(|engine| {
        engine.services.iter().map(move |one| (with_labels(of_engine(engine), [("service", &one.name)]), one))
    })
}

fn each_server(engines: &[MeasuresView]) -> impl Iterator<Item = (Labels<'_>, &ServerView)> {
    each_service(engines).flat_map(|(labels, service)| {
        service.servers.iter().map(move |one| (with_labels(labels.clone(), [("server", &one.name)]), one))
    })
}

/// The checks that each server has, one per address family.
fn each_check(engines: &[MeasuresView]) -> impl Iterator<Item = (Labels<'_>, &ServerCheckView)> {
    each_server(engines).flat_map(|(labels, server)| {
        server.checks.iter().map(move |one| (with_labels(labels.clone(), [("family", one.family.name())]), one))
    })
}

fn services(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || each_service(engines);
    page.gauges(
        of("service_up", "Whether the virtual service takes new sessions."),
        each().map(|(labels, one)| (labels, u64::from(one.state == ServiceState::Up))),
    )?;
    page.states(
        of("service_state", "The state of the virtual service: 1 for the one that it is in."),
        "state",
        &ServiceState::NAMES,
        each().map(|(labels, one)| (labels, one.state.name())),
    )?;
    page.fractional_gauges(
        seconds("service_state_age", "How long the virtual service has been in its state."),
        each().map(|(labels, one)| (labels, in_seconds(one.since_ms))),
    )?;
    page.counters(
        of("service_falls", "How often the virtual service went from up to down."),
        each().map(|(labels, one)| (labels, one.falls)),
    )?;
    page.fractions(
        seconds("service_downtime", "How long the virtual service was down."),
        each().map(|(labels, one)| (labels, in_seconds(one.downtime_ms))),
    )?;
    page.gauges(
        of("service_sessions", "Live sessions of the virtual service."),
        each().map(|(labels, one)| (labels, one.sessions)),
    )?;
    page.counters(
        of("service_new_sessions", "Sessions that took a server of the virtual service that it has now."),
        each().map(|(labels, one)| (labels, one.servers.iter().map(|server| server.new_sessions).sum())),
    )?;
    page.fractional_gauges(
        ratio("service_imbalance", "Scheduler hash: the busiest server's share of the table over its fair share."),
        each().filter_map(|(labels, one)| Some((labels, one.imbalance?))),
    )
}

fn servers(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || each_server(engines);
    page.gauges(
        of("server_up", "Whether the real server takes new sessions."),
        each().map(|(labels, one)| (labels, u64::from(one.state == ServiceState::Up))),
    )?;
    page.states(
        of("server_state", "The state of the real server: 1 for the one that it is in."),
        "state",
        &ServiceState::NAMES,
        each().map(|(labels, one)| (labels, one.state.name())),
    )?;
    page.fractional_gauges(
        seconds("server_state_age", "How long the real server has been in its state."),
        each().map(|(labels, one)| (labels, in_seconds(one.since_ms))),
    )?;
    page.counters(
        of("server_falls", "How often the real server went from up to down."),
        each().map(|(labels, one)| (labels, one.falls)),
    )?;
    page.fractions(
        seconds("server_downtime", "How long the real server was down."),
        each().map(|(labels, one)| (labels, in_seconds(one.downtime_ms))),
    )?;
    page.gauges(
        of("server_weight", "The weight of the real server that is in force."),
        each().map(|(labels, one)| (labels, one.weight.into())),
    )?;
    page.gauges(
        of("server_sessions", "Live sessions of the real server."),
        each().map(|(labels, one)| (labels, one.sessions)),
    )?;
    page.counters(
        of("server_new_sessions", "Sessions that took the real server."),
        each().map(|(labels, one)| (labels, one.new_sessions)),
    )
}

fn traffic(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || each_server(engines);
    page.counters(
        of("server_packets", "Packets to and from the real server."),
        each().map(|(labels, one)| (labels, one.packets)),
    )?;
    page.counters(
        of("server_in_packets", "Packets to the real server."),
        each().map(|(labels, one)| (labels, one.packets_in)),
    )?;
    page.counters(
        of("server_out_packets", "Packets from the real server."),
        each().map(|(labels, one)| (labels, one.packets_out)),
    )?;
    page.counters(
        bytes("server", "Bytes of IP to and from the real server."),
        each().map(|(labels, one)| (labels, one.bytes)),
    )?;
    page.counters(
        bytes("server_in", "Bytes of IP to the real server."),
        each().map(|(labels, one)| (labels, one.bytes_in)),
    )?;
    page.counters(
        bytes("server_out", "Bytes of IP from the real server."),
        each().map(|(labels, one)| (labels, one.bytes_out)),
    )
}

fn checks(page: &mut Page<'_>, engines: &[MeasuresView]) -> fmt::Result {
    let each = || each_check(engines);
    page.gauges(
        of("server_check_up", "Whether the real server is up by its checks in this family."),
        each().map(|(labels, one)| (labels, u64::from(one.state == OperState::Up))),
    )?;
    page.counters(
        of("server_check_failures", "Checks of the real server that failed."),
        each().map(|(labels, one)| (labels, one.failures)),
    )?;
    page.counters(
        of("server_check_falls", "How often its checks took the real server from up to down."),
        each().map(|(labels, one)| (labels, one.falls)),
    )?;
    page.fractions(
        seconds("server_check_downtime", "How long its checks had the real server down."),
        each().map(|(labels, one)| (labels, in_seconds(one.downtime_ms))),
    )?;
    page.gauges(
        of("server_check_last_passed", "Whether the last check of the real server passed."),
        each().filter_map(|(labels, one)| Some((labels, u64::from(one.last.as_ref()?.result == CheckResult::Passed)))),
    )?;
    page.fractional_gauges(
        seconds(
            "server_check_duration",
            "How long the last check of the real server took; what passed, was answered then.",
        ),
        each().filter_map(|(labels, one)| Some((labels, one.last.as_ref()?.duration_us? as f64 / 1e6))),
    )
}
