//! What another program hands over besides sessions: given away by the one that ends, taken by the one that begins.

use super::{Controller, DeviceState};
use crate::config::is_removed;
use crate::engine::handover::{InheritedNeighbor, State};
use crate::id::{DeviceId, LinkId};
use crate::time::Instant;
use crate::wire::MacAddr;

impl Controller {
    /// What another program has to know to go on.
    pub fn inheritance(&self) -> State {
        let name = |link: LinkId| self.config.links[link.index()].name.clone();
        let neighbors = self.links.neighbors().resolved().map(|((link, address), mac)| InheritedNeighbor {
            link: name(link),
            address,
            mac: mac.0,
        });
        State {
            overrides: self.overrides(),
            servers: self.persisted_servers(),
            paths: self.paths.inheritance(),
            neighbors: neighbors.collect(),
        }
    }

    /// Begins with these devices and with what another program knew: its neighbours, and its verdicts, which hold until the
    /// engine's own probes and checks say otherwise; those begin at once. Returns how many paths and servers are up by that.
    pub fn begin_with(
        &mut self,
        devices: impl IntoIterator<Item = (DeviceId, Option<DeviceState>)>,
        state: &State,
        now: Instant,
    ) -> (usize, usize) {
        for (device, state) in devices {
            self.links.handle_device(device, state, now, &mut self.out);
        }
        self.dispatch_notices(now);
        for (number, neighbor) in (0..).zip(&state.neighbors) {
            let link = self.config.links.iter().position(|link| link.name == neighbor.link && !is_removed(&link.name));
            if let Some(link) = link {
                let key = (LinkId::from(link), neighbor.address);
                self.links.inherit_neighbor(key, MacAddr(neighbor.mac), number, now);
            }
        }
        let paths = self.paths.inherit(&state.paths, &self.links, now, &mut self.out);
        let servers = self.farm.assume_up(&state.servers, now, &mut self.out);
        self.out.publish_at_once();
        self.finish(now);
        (paths, servers)
    }
}
