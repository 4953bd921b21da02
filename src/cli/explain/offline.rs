//! Explains what an engine with a configuration file would decide if everything were up.

use std::path::Path;

use crate::api::names::Member;
use crate::api::{LinkOrFirewall, names};
use crate::cli::{check, output};
use crate::config::{AdminState, Config};
use crate::engine::controller::DeviceState;
use crate::engine::view::ExplainView;
use crate::engine::{Controller, Snapshot, explain};
use crate::flow::FlowKey;
use crate::id::DeviceId;
use crate::session::SessionTable;
use crate::slb::{Server, Service, Services};
use crate::time::Instant;
use crate::wire::{Family, MacAddr};

/// Stands in for a device that does not exist: its links have their configured addresses and sizes, or these.
const DEVICE: DeviceState = DeviceState { mac: MacAddr([2, 0, 0, 0, 0, 1]), mtu: 1500, up: true };

/// The decision while `down` are down and everything else is up; `None` if the file is refused, which has been reported
/// then.
pub fn explain(
    path: &Path,
    flow: &FlowKey,
    from: Option<&LinkOrFirewall>,
    down: &[String],
) -> anyhow::Result<Option<ExplainView>> {
    let outcome = check::load(path)?;
    let Some(config) = outcome.config else {
        match output::is_json() {
            true => output::print_failure(&outcome.diagnostics.to_string()),
            false => output::print_error(&outcome.diagnostics.render(output::shown(output::Stream::Error))),
        }
        return Ok(None);
    };
    let mut snapshot = all_up(&config);
    for name in down {
        mark_down(&mut snapshot, name)?;
    }
    let from = from.map(|via| names::origin(&snapshot, via)).transpose()?;
    let (sessions, _) = SessionTable::new(1, 1, config.timeouts, [0; 4]);
    let mut explained = explain::explain(&config.engine.name, &snapshot, &sessions, flow, from, Instant::ZERO);
    let but = if down.is_empty() { String::new() } else { format!(" but {}", down.join(", ")) };
    let role = if config.ha.is_some() { ", this node to be active" } else { "" };
    let told = format!("No engine was asked: everything is taken to be up{but}{role}, and no session known.");
    explained.story.insert(0, told);
    // No neighbour could have answered.
    if let Some(egress) = &mut explained.egress {
        egress.neighbor = None;
    }
    Ok(Some(explained))
}

/// Marks a firewall or a server as down, by its name as `fwlb probe` takes it.
fn mark_down(snapshot: &mut Snapshot, name: &str) -> anyhow::Result<()> {
    let member = names::member(snapshot, name)?;
    match member {
        Member::Firewall(id) => {
            let of = &snapshot.firewalls[id.index()];
            let (group, bit) = (of.group, 1 << of.slot);
            for set in snapshot.path_sets.iter_mut().filter(|set| set.group == group) {
                set.up &= !bit;
                set.selectable &= !bit;
            }
        }
        Member::Server(id) => with_servers(snapshot, |server| {
            if server.id == id {
                server.up = [false, false];
            }
        }),
    }
    Ok(())
}

fn with_servers(snapshot: &mut Snapshot, mut change: impl FnMut(&mut Server)) {
    let mut services: Vec<_> = snapshot.services.all().iter().map(|of| Service::clone(of)).collect();
    services.iter_mut().flat_map(|service| &mut service.servers).for_each(&mut change);
    snapshot.services = Services::new(services);
}

/// The snapshot of an engine whose devices exist and whose checks all succeed.
fn all_up(config: &Config) -> Snapshot {
    let mut controller = Controller::new(config.clone(), 0, Instant::ZERO);
    for device in 0..config.devices.len() {
        controller.handle_device(DeviceId::from(device), Some(DEVICE), Instant::ZERO);
    }
    // A node that has just started is not active yet; an engine that stands alone is.
    let mut snapshot = Snapshot { role: None, ..(*controller.snapshot()).clone() };
    for set in &mut snapshot.path_sets {
        let group = &config.groups[set.group.index()];
        for (slot, id) in group.firewalls.iter().enumerate() {
            let firewall = &config.firewalls[id.index()];
            if !firewall.addresses.iter().any(|address| Family::of(*address) == set.family) {
                continue;
            }
            match firewall.admin {
                AdminState::Ready => {
                    set.up |= 1 << slot;
                    set.selectable |= 1 << slot;
                }
                AdminState::Drain => set.up |= 1 << slot,
                AdminState::Maint => {}
            }
        }
    }
    with_servers(&mut snapshot, |server| {
        if server.out_of_service.is_none() {
            server.up = [server.v4.is_some(), server.v6.is_some()];
        }
    });
    snapshot
}
