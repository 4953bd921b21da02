//! What an engine with a configuration file would decide if everything were up.

use std::path::Path;

use crate::api::{Via, names};
use crate::cli::{check, output};
use crate::config::{Admin, Config};
use crate::engine::controller::DeviceState;
use crate::engine::view::ExplainView;
use crate::engine::{Controller, Snapshot, explain};
use crate::flow::FlowKey;
use crate::id::DeviceId;
use crate::session::SessionTable;
use crate::time::Instant;
use crate::wire::{Family, MacAddr};

/// A device that there is none of: its links take their configured addresses and sizes, or these.
const DEVICE: DeviceState = DeviceState { mac: MacAddr([2, 0, 0, 0, 0, 1]), mtu: 1500, up: true };

/// The decision, or nothing if the file is refused, which was told then.
pub fn explain(path: &Path, flow: &FlowKey, from: Option<&Via>) -> anyhow::Result<Option<ExplainView>> {
    let outcome = check::load(path)?;
    let Some(config) = outcome.config else {
        output::print_error(&outcome.diagnostics.render(output::colour()));
        return Ok(None);
    };
    let snapshot = all_up(&config);
    let from = from.map(|via| names::origin(&snapshot, via)).transpose()?;
    let (sessions, _) = SessionTable::new(1, 1, config.timeouts, [0; 4]);
    Ok(Some(explain::explain(&config.engine.name, &snapshot, &sessions, flow, from, Instant::ZERO)))
}

/// The snapshot of an engine whose devices are there and whose checks are all good.
fn all_up(config: &Config) -> Snapshot {
    let mut controller = Controller::new(config.clone(), 0, Instant::ZERO);
    for device in 0..config.devices.len() {
        controller.handle_device(DeviceId::from(device), Some(DEVICE), Instant::ZERO);
    }
    let mut snapshot = (*controller.snapshot()).clone();
    for set in &mut snapshot.path_sets {
        let group = &config.groups[set.group.index()];
        for (slot, id) in group.firewalls.iter().enumerate() {
            let firewall = &config.firewalls[id.index()];
            if !firewall.addresses.iter().any(|address| Family::of(*address) == set.family) {
                continue;
            }
            match firewall.admin {
                Admin::Ready => {
                    set.up |= 1 << slot;
                    set.selectable |= 1 << slot;
                }
                Admin::Drain => set.up |= 1 << slot,
                Admin::Maint => {}
            }
        }
    }
    snapshot
}
