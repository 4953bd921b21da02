//! Validates `[service.check]`: what a server is asked for, and how often.

use std::ops::Range;

use super::given;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, ServiceCheckKindName};
use crate::config::reader::Field;
use crate::config::value::format_duration;
use crate::config::{ServiceCheck, ServiceCheckKind};

pub(super) const TCP: u8 = 6;
const STATUS: u16 = 200;

/// The check of a service; `None` if it has a mistake.
pub fn check(service: &file::Service, protocols: &[u8], out: &mut Diagnostics) -> Option<ServiceCheck> {
    let absent = file::ServiceCheck::default();
    let typed = service.check.as_ref().unwrap_or(&absent);
    let kind = match &typed.kind {
        Field::Given(kind) => kind.value,
        Field::Invalid => return None,
        Field::Absent if protocols.contains(&TCP) => ServiceCheckKindName::Tcp,
        Field::Absent => ServiceCheckKindName::Icmp,
    };
    let kind = meaning(kind, typed);
    if kind.has_port() {
        port_is_known(service, out);
    }
    let fits = keys_fit(typed, &kind, out);
    let check = ServiceCheck {
        kind: fits.then_some(kind)?,
        port: typed.port.value(),
        interval: typed.interval(),
        timeout: typed.timeout(),
        fall: typed.fall(),
        rise: typed.rise(),
        dead_interval: typed.dead_interval.value_or(|| typed.interval()),
        down_after: typed.down_after.value(),
    };
    times(typed, &check, out);
    Some(check)
}

/// The kind with the values of its keys.
fn meaning(kind: ServiceCheckKindName, typed: &file::ServiceCheck) -> ServiceCheckKind {
    match kind {
        ServiceCheckKindName::Icmp => ServiceCheckKind::Icmp,
        ServiceCheckKindName::Tcp => ServiceCheckKind::Tcp,
        ServiceCheckKindName::HalfOpen => ServiceCheckKind::HalfOpen,
        ServiceCheckKindName::None => ServiceCheckKind::None,
        ServiceCheckKindName::Http => ServiceCheckKind::Http {
            path: typed.path(),
            host: typed.host.value(),
            status: match given(&typed.status) {
                [] => vec![STATUS..=STATUS],
                given => given.iter().map(|at| at.value.clone()).collect(),
            },
            body: typed.body.value(),
        },
    }
}

/// Refuses a check of which it is not known which port it goes to: its own, the server's, or the first of the service.
fn port_is_known(typed: &file::Service, out: &mut Diagnostics) {
    let own = typed.check.as_ref().is_some_and(|check| !matches!(check.port, Field::Absent));
    let Some(first) = given(&typed.ports).first() else { return };
    let everywhere = typed.servers.iter().all(|server| !matches!(server.port, Field::Absent));
    if !own && !everywhere && first.value.start() != first.value.end() {
        let message = "the service has a range of ports: which one is to be checked is not said";
        let place = typed.check.as_ref().map_or(first.span.clone(), |check| check.span.clone());
        out.push(Diagnostic::error(place, message).hint("add `port` to [service.check], or kind = \"icmp\""));
    }
}

/// Refuses keys that the kind does not have. Returns whether there is none.
fn keys_fit(typed: &file::ServiceCheck, kind: &ServiceCheckKind, out: &mut Diagnostics) -> bool {
    if let Field::Given(port) = &typed.port
        && !kind.has_port()
    {
        let message = "`port` is for the kinds \"tcp\", \"half-open\" and \"http\"";
        out.push(Diagnostic::error(port.span.clone(), message).hint("add kind = \"tcp\", or remove the port"));
        return false;
    }
    match kind {
        ServiceCheckKind::Http { .. } => {
            if let (Field::Given(body), Field::Absent) = (&typed.body, &typed.status) {
                let message =
                    format!("a check of the content without a status: only answers with {STATUS} are looked into");
                let hint = format!("say it: expect-status = {STATUS}");
                out.push(Diagnostic::warning(body.span.clone(), message).hint(hint));
            }
            true
        }
        ServiceCheckKind::Icmp | ServiceCheckKind::Tcp | ServiceCheckKind::HalfOpen | ServiceCheckKind::None => {
            no_http_keys(typed, out)
        }
    }
}

/// Refuses the keys of the kind `http`. Returns whether there is none.
fn no_http_keys(typed: &file::ServiceCheck, out: &mut Diagnostics) -> bool {
    let keys = [
        ("path", place(&typed.path)),
        ("host", place(&typed.host)),
        ("expect-status", place(&typed.status)),
        ("expect-body", place(&typed.body)),
    ];
    let http_only: Vec<_> = keys.into_iter().filter_map(|(key, at)| Some((key, at?))).collect();
    for (key, at) in &http_only {
        let message = format!("`{key}` is for the kind \"http\"");
        out.push(Diagnostic::error(at.clone(), message).hint("add kind = \"http\", or remove it"));
    }
    http_only.is_empty()
}

fn place<T>(field: &Field<T>) -> Option<Range<usize>> {
    field.given().map(|at| at.span.clone())
}

/// Refuses times with which one check would not end before the next begins.
fn times(typed: &file::ServiceCheck, check: &ServiceCheck, out: &mut Diagnostics) {
    let timeout = check.timeout;
    if let Some(at) = place(&typed.interval).or_else(|| place(&typed.timeout))
        && check.interval <= timeout
    {
        let (interval, timeout) = (format_duration(check.interval), format_duration(timeout));
        let message = format!("`interval` must be longer than `timeout`: it is {interval}, the timeout {timeout}");
        out.push(Diagnostic::error(at, message).hint("one check ends before the next begins"));
    }
    if let Some(dead) = typed.dead_interval.given()
        && dead.value <= timeout
    {
        let (dead_interval, timeout) = (format_duration(dead.value), format_duration(timeout));
        let message =
            format!("`dead-interval` must be longer than `timeout`: it is {dead_interval}, the timeout {timeout}");
        out.push(Diagnostic::error(dead.span.clone(), message).hint("one check ends before the next begins"));
    }
    if let Some(after) = typed.down_after.given()
        && after.value < check.interval + timeout
    {
        let least = format_duration(check.interval + timeout);
        let message = format!(
            "`down-after` is {}, but a good server may be silent for {least} between two answers",
            format_duration(after.value)
        );
        out.push(Diagnostic::error(after.span.clone(), message).hint(format!("make it {least} or more")));
    }
}
