//! Turns what was typed into what it means: resolves names, fills in defaults, and reports what cannot work.

mod addresses;
mod api;
mod groups;
mod ha;
mod links;
mod members;
mod names;
mod routes;
mod secrets;
mod services;

use std::path::{Path, PathBuf};

use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, File};
use crate::config::validate::names::Names;
use crate::config::validate::routes::RouteContext;
use crate::config::{Config, Engine, Limits, Log};
use crate::session::{SourceLimits, Timeouts};

pub use secrets::HIDDEN_SECRET;

/// Reads the text of a secret from a file; the error is a message of the operating system.
pub type ReadSecret<'a> = dyn FnMut(&Path) -> Result<String, String> + 'a;

/// The seed of the documentation and of `configs/`. It is public, and a file that uses it gets a warning.
pub const DOCUMENTATION_SEED: &str = "documentation seed, replace it";

/// The key of `[ha]` in the documentation and in `configs/`, which is public as well.
pub const DOCUMENTATION_KEY: &str = "documentation key, replace it: fwlb ha key";

/// The configuration that `file` means; `None` if there are errors in `out`.
pub fn validate(
    file: &File,
    digest: String,
    read_secret: &mut ReadSecret<'_>,
    out: &mut Diagnostics,
) -> Option<Config> {
    let engine = engine(file.engine.as_ref(), out);
    let (devices, links) = links::links(&file.links, file.ha.as_ref(), out);
    let link_names = Names::new("link", file.links.iter().map(|link| &link.name), out);
    let group_names = Names::new("group", file.groups.iter().map(|group| &group.name), out);
    let members = groups::groups(file, &links, &link_names, read_secret, out);
    let known =
        RouteContext { file, links: &links, link_names: &link_names, group_names: &group_names, members: &members };
    let routes = routes::routes(&known, out);
    let farm = services::services(file, &links, &routes, out);
    let api = api::api(&file.api, read_secret, out);
    let ha = ha::ha(file, &links, read_secret, out);
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
        ha: ha?,
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
        workers: engine.workers.value(),
        io: engine.io(),
        xdp_send: engine.xdp_send(),
        busy_poll: engine.busy_poll(),
        user: engine.user.value(),
        group: engine.group.value(),
        sandbox: engine.sandbox(),
        control: engine.control.value().unwrap_or_else(|| PathBuf::from(format!("/run/fwlb/{name}.sock"))),
        state: engine.state.value().unwrap_or_else(|| PathBuf::from(format!("/var/lib/fwlb/{name}"))),
        name,
    })
}

fn log(log: &file::Log) -> Log {
    let targets = log.syslog.given().map(|list| list.value.as_slice()).unwrap_or_default();
    Log {
        level: log.level().to_owned(),
        json: log.json(),
        checks: log.checks(),
        sessions: log.sessions.value().flatten(),
        syslog: targets.iter().map(|target| target.value.clone()).collect(),
        facility: log.facility(),
        hostname: log.hostname.value(),
    }
}

fn limits(limits: &file::Limits) -> Limits {
    Limits {
        sessions: limits.sessions(),
        sticky: limits.sticky(),
        neighbors: limits.neighbors(),
        pending: limits.pending(),
        punts: limits.punts(),
        fragments: limits.fragments(),
        held: limits.held(),
        source: SourceLimits { sessions: limits.source_sessions.value(), rate: limits.source_rate.value() },
    }
}

fn timeouts(timeouts: &file::Timeouts) -> Timeouts {
    Timeouts {
        tcp_syn: timeouts.tcp_syn(),
        tcp_established: timeouts.tcp_established(),
        tcp_closing: timeouts.tcp_closing(),
        udp_new: timeouts.udp_new(),
        udp: timeouts.udp(),
        icmp: timeouts.icmp(),
        other: timeouts.other(),
        fragment: timeouts.fragment(),
    }
}
