//! Validates `[service.check]`: what a server is asked for, and how often.

use std::ops::Range;

use super::given;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, ServiceCheckKindName};
use crate::config::reader::Field;
use crate::config::value::format_duration;
use crate::config::{ServiceCheck, ServiceCheckKind};
use crate::time::Duration;

pub(super) const TCP: u8 = 6;
const STATUS: u16 = 200;

/// The check of a service; `None` if it has a mistake.
pub fn check(typed: &file::Service, protocols: &[u8], out: &mut Diagnostics) -> Option<ServiceCheck> {
    let kind = match typed.check.as_ref().map(|check| &check.kind) {
        Some(Field::Given(kind)) => kind.value,
        Some(Field::Invalid) => return None,
        Some(Field::Absent) | None if protocols.contains(&TCP) => ServiceCheckKindName::Tcp,
        Some(Field::Absent) | None => ServiceCheckKindName::Icmp,
    };
    port_is_known(typed, kind, out);
    let default = ServiceCheck {
        kind: bare(kind),
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: 3,
        rise: 2,
        dead_interval: Duration::from_secs(2),
        down_after: None,
    };
    let Some(typed) = &typed.check else { return Some(default) };
    let kind = content(typed, kind, out);
    let small = |field: &Field<u64>, default: u8| field.value().and_then(|n| u8::try_from(n).ok()).unwrap_or(default);
    let interval = typed.interval.value().unwrap_or(default.interval);
    let check = ServiceCheck {
        kind: kind?,
        port: typed.port.value().and_then(|port| u16::try_from(port).ok()),
        interval,
        timeout: typed.timeout.value().unwrap_or(default.timeout),
        fall: small(&typed.fall, default.fall),
        rise: small(&typed.rise, default.rise),
        dead_interval: typed.dead_interval.value().unwrap_or(interval),
        down_after: typed.down_after.value(),
    };
    times(typed, &check, out);
    Some(check)
}

/// A check of this kind with default values.
fn bare(kind: ServiceCheckKindName) -> ServiceCheckKind {
    match kind {
        ServiceCheckKindName::Icmp => ServiceCheckKind::Icmp,
        ServiceCheckKindName::Tcp => ServiceCheckKind::Tcp,
        ServiceCheckKindName::HalfOpen => ServiceCheckKind::HalfOpen,
        ServiceCheckKindName::None => ServiceCheckKind::None,
        ServiceCheckKindName::Http => {
            ServiceCheckKind::Http { path: "/".to_owned(), host: None, status: vec![STATUS..=STATUS], body: None }
        }
    }
}

/// Refuses a check of which it is not known which port it goes to: its own, the server's, or the first of the service.
fn port_is_known(typed: &file::Service, kind: ServiceCheckKindName, out: &mut Diagnostics) {
    match kind {
        ServiceCheckKindName::Icmp | ServiceCheckKindName::None => return,
        ServiceCheckKindName::Tcp | ServiceCheckKindName::HalfOpen | ServiceCheckKindName::Http => {}
    }
    let own = typed.check.as_ref().is_some_and(|check| !matches!(check.port, Field::Absent));
    let Some(first) = given(&typed.ports).first() else { return };
    let everywhere = typed.servers.iter().all(|server| !matches!(server.port, Field::Absent));
    if !own && !everywhere && first.value.start() != first.value.end() {
        let message = "the service has a range of ports: which one is to be checked is not said";
        let place = typed.check.as_ref().map_or(first.span.clone(), |check| check.span.clone());
        out.push(Diagnostic::error(place, message).hint("add `port` to [service.check], or kind = \"icmp\""));
    }
}

/// The kind with its values. Keys of other kinds are reported.
fn content(typed: &file::ServiceCheck, kind: ServiceCheckKindName, out: &mut Diagnostics) -> Option<ServiceCheckKind> {
    match (kind, &typed.port) {
        (ServiceCheckKindName::Icmp | ServiceCheckKindName::None, Field::Given(port)) => {
            let message = "`port` is for the kinds \"tcp\", \"half-open\" and \"http\"";
            out.push(Diagnostic::error(port.span.clone(), message).hint("add kind = \"tcp\", or remove the port"));
            return None;
        }
        (ServiceCheckKindName::Icmp | ServiceCheckKindName::None, Field::Absent | Field::Invalid)
        | (ServiceCheckKindName::Tcp | ServiceCheckKindName::HalfOpen | ServiceCheckKindName::Http, _) => {}
    }
    match kind {
        ServiceCheckKindName::Http => {}
        ServiceCheckKindName::Icmp
        | ServiceCheckKindName::Tcp
        | ServiceCheckKindName::HalfOpen
        | ServiceCheckKindName::None => {
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
            return http_only.is_empty().then(|| bare(kind));
        }
    }
    if let (Field::Given(body), Field::Absent) = (&typed.body, &typed.status) {
        let message = format!("a check of the content without a status: only answers with {STATUS} are looked into");
        let hint = format!("say it: expect-status = {STATUS}");
        out.push(Diagnostic::warning(body.span.clone(), message).hint(hint));
    }
    Some(ServiceCheckKind::Http {
        path: typed.path.value().unwrap_or_else(|| "/".to_owned()),
        host: typed.host.value(),
        status: match given(&typed.status) {
            [] => vec![STATUS..=STATUS],
            given => given.iter().map(|at| at.value.clone()).collect(),
        },
        body: typed.body.value(),
    })
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
