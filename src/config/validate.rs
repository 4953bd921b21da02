//! Turns what was typed into what it means: resolves names, fills in defaults, and reports what cannot work.

mod addresses;
mod api;
mod groups;
mod links;
mod members;
mod names;
mod routes;
mod secrets;
mod services;

use std::path::{Path, PathBuf};

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File};
use crate::config::reader::Field;
use crate::config::validate::names::Names;
use crate::config::validate::routes::RouteContext;
use crate::config::{Config, Engine, Limits, Log};
use crate::session::{SourceLimits, Timeouts};

pub use secrets::HIDDEN_SECRET;
pub use services::format_ports;

/// Reads the text of a secret from a file; the error is a message of the operating system.
pub type ReadSecret<'a> = dyn FnMut(&Path) -> Result<String, String> + 'a;

/// The seed of the documentation and of `configs/`. It is public, and a file that uses it gets a warning.
pub const DOCUMENTATION_SEED: &str = "documentation seed, replace it";

/// The configuration that `file` means; `None` if there are errors in `out`.
pub fn validate(
    file: &File,
    digest: String,
    read_secret: &mut ReadSecret<'_>,
    out: &mut Diagnostics,
) -> Option<Config> {
    let engine = engine(file.engine.as_ref(), out);
    let (devices, links) = links::links(&file.links, out);
    let link_names = Names::new("link", file.links.iter().map(|link| &link.name), out);
    let group_names = Names::new("group", file.groups.iter().map(|group| &group.name), out);
    let members = groups::groups(file, &links, &link_names, read_secret, out);
    let known =
        RouteContext { file, links: &links, link_names: &link_names, group_names: &group_names, members: &members };
    let routes = routes::routes(&known, out);
    let farm = services::services(file, &links, &routes, out);
    let api = api::api(&file.api, read_secret, out);
    addresses::addresses(file, &links, out);
    if out.errors() > 0 {
        return None;
    }
    Some(Config {
        engine: engine?,
        api: api?,
        log: log(&file.log),
        limits: limits(&file.limits),
        timeouts: timeouts(&file.timeouts),
        devices,
        links: links.into_iter().collect::<Option<_>>()?,
        routes,
        groups: members.groups.into_iter().collect::<Option<_>>()?,
        firewalls: members.firewalls.into_iter().collect::<Option<_>>()?,
        peers: members.peers.into_iter().collect::<Option<_>>()?,
        services: farm.services.into_iter().collect::<Option<_>>()?,
        servers: farm.servers.into_iter().collect::<Option<_>>()?,
        digest,
    })
}

fn engine(engine: Option<&file::Engine>, out: &mut Diagnostics) -> Option<Engine> {
    let Some(engine) = engine else {
        let missing = Diagnostic::error(0..0, "the file has no [engine] section");
        out.push(missing.hint("begin it with [engine] and a line name = \"outer\""));
        return None;
    };
    let name = engine.name.value()?;
    Some(Engine {
        workers: engine.workers.value().and_then(|workers| u16::try_from(workers).ok()),
        io: engine.io.value().unwrap_or_default(),
        xdp_send: engine.xdp_send.value() != Some(false),
        busy_poll: engine.busy_poll.value() == Some(true),
        user: engine.user.value(),
        group: engine.group.value(),
        sandbox: engine.sandbox.value() != Some(false),
        control: engine.control.value().unwrap_or_else(|| PathBuf::from(format!("/run/fwlb/{name}.sock"))),
        state: engine.state.value().unwrap_or_else(|| PathBuf::from(format!("/var/lib/fwlb/{name}"))),
        name,
    })
}

fn log(log: &file::Log) -> Log {
    let targets = log.syslog.given().map(|list| list.value.as_slice()).unwrap_or_default();
    Log {
        level: log.level.value().unwrap_or("info").to_owned(),
        json: log.json.value() == Some(true),
        checks: log.checks.value() == Some(true),
        sessions: log.sessions.value().flatten(),
        syslog: targets.iter().map(|target| target.value.clone()).collect(),
        facility: log.facility.value().unwrap_or(file::Log::DAEMON),
        hostname: log.hostname.value(),
    }
}

fn limits(limits: &file::Limits) -> Limits {
    let default = Limits::default();
    let limit = |field: &Field<u64>, default: usize| {
        field.value().and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
    };
    let of_source = |field: &Field<u64>| field.value().and_then(|value| u32::try_from(value).ok());
    Limits {
        sessions: limit(&limits.sessions, default.sessions),
        sticky: limit(&limits.sticky, default.sticky),
        neighbors: limit(&limits.neighbors, default.neighbors),
        pending: limit(&limits.pending, default.pending),
        punts: limit(&limits.punts, default.punts),
        fragments: limit(&limits.fragments, default.fragments),
        held: limit(&limits.held, default.held),
        source: SourceLimits { sessions: of_source(&limits.source_sessions), rate: of_source(&limits.source_rate) },
    }
}

fn timeouts(timeouts: &file::Timeouts) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        tcp_syn: timeouts.tcp_syn.value().unwrap_or(default.tcp_syn),
        tcp_established: timeouts.tcp_established.value().unwrap_or(default.tcp_established),
        tcp_closing: timeouts.tcp_closing.value().unwrap_or(default.tcp_closing),
        udp_new: timeouts.udp_new.value().unwrap_or(default.udp_new),
        udp: timeouts.udp.value().unwrap_or(default.udp),
        icmp: timeouts.icmp.value().unwrap_or(default.icmp),
        other: timeouts.other.value().unwrap_or(default.other),
        fragment: timeouts.fragment.value().unwrap_or(default.fragment),
    }
}
