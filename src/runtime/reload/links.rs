//! Checks the links that a reload adds, and locks them before anything changes.

use crate::config::{Config, LoadedConfig, refuse_link};
use crate::io::lock::LinkLock;
use crate::io::netdev;
use crate::runtime::Options;

/// Locks the links that `outcome` has and `old` has not; returns the locks by link name. A link that cannot be locked
/// becomes a diagnostic at its place in the file, which is then refused.
pub(super) fn lock_new_links(old: &Config, outcome: &mut LoadedConfig, options: Options) -> Vec<(String, LinkLock)> {
    let Some(new) = &outcome.config else { return Vec::new() };
    let known = |name: &str| old.link_ids().any(|id| old.links[id.index()].name == name);
    let added: Vec<_> = new.links.iter().filter(|link| !known(&link.name)).cloned().collect();
    let devices = new.devices.clone();
    let mut locks = Vec::new();
    for link in added {
        let device = &devices[link.device.index()];
        let is_ours = old.link_ids().any(|id| old.devices[old.links[id.index()].device.index()] == *device);
        let outcome_of = (|| {
            if !is_ours {
                check_not_default_route(device, options)?;
            }
            let name = netdev::find(device).map_or_else(|| device.clone(), |found| found.name);
            LinkLock::acquire(&name, link.vlan).map_err(|error| format!("the link is taken: {error}"))
        })();
        match outcome_of {
            Ok(lock) => locks.push((link.name, lock)),
            Err(reason) => refuse_link(outcome, &link.name, &reason),
        }
    }
    locks
}

fn check_not_default_route(
    device: &str,
    Options { allow_default_route: take, drop_privileges: _ }: Options,
) -> Result<(), String> {
    let found = netdev::resolve(device).map_err(|missing| missing.to_string())?;
    let defaults =
        netdev::default_route_devices().map_err(|error| format!("cannot read the kernel's routes: {error}"))?;
    if !take && defaults.contains(&found.index) {
        return Err(format!("the default route of this machine leads over {device}; only `fwlb run --take` takes it"));
    }
    Ok(())
}
