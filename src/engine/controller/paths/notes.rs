//! Exchanges with the engines on the far sides why a firewall is drained or in maintenance.
//!
//! Every probe carries the ordered state of each firewall. Why, by whom and when it was ordered is sent in notes: each
//! probe carries those of some firewalls, and all firewalls have their turn, beginning with the one that was ordered
//! last.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::super::order::Order;
use super::Paths;
use crate::config::AdminState;
use crate::engine::view::OrderView;
use crate::id::{FirewallId, PeerId};
use crate::path::liveness::{FirewallAdvertisement, PathKey, StateReason};
use crate::wire::probe::{AdminNote, Probe};

/// What is known of the orders of one engine on a far side, and what was sent to it of those here.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// Its last probe said that it supports notes.
    is_reader: bool,
    /// By digest of the firewall's name: the peer's orders about firewalls that it drains or has in maintenance.
    peer_orders: BTreeMap<u64, Order>,
    /// The first firewall of the next probe, by its index.
    next_firewall: usize,
}

impl Paths {
    /// The notes that the next probe of a path carries.
    pub(super) fn notes_for(&mut self, path: PathKey) -> Vec<AdminNote> {
        let speaker = self.peers[path.peer.index()].speaker();
        let Some(notes) = speaker.map(|engine| &engine.notes).filter(|notes| notes.is_reader) else {
            return Vec::new();
        };
        let held = self.liveness.advertise(path.peer, path.family).filter(|told| told.admin != AdminState::Ready);
        let mut held: Vec<FirewallId> = held.map(|told| told.firewall).collect();
        held.sort_unstable();
        let first = held.partition_point(|firewall| firewall.index() < notes.next_firewall);
        held.rotate_left(first);
        let mut told: Vec<AdminNote> = held.iter().map(|firewall| self.admin_note(*firewall)).collect();
        told.truncate(Probe::notes_that_fit(&told));
        let next = told.len().checked_sub(1).map(|last| held[last].index() + 1);
        if let (Some(next), Some(speaker)) = (next, self.peers[path.peer.index()].speaker_mut()) {
            speaker.notes.next_firewall = next;
        }
        told
    }

    fn admin_note(&self, firewall: FirewallId) -> AdminNote {
        let order = self.overrides[firewall.index()].as_ref().map(|set| set.order.clone()).unwrap_or_default();
        let since_1970 = order.at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        AdminNote {
            name: self.name_digests[firewall.index()],
            at: since_1970.map_or(0, |since| since.as_secs()),
            by: order.by.unwrap_or_default(),
            reason: order.reason.unwrap_or_default(),
        }
    }

    /// Makes the next probes to every peer begin with this firewall, about which an order was just given.
    pub(super) fn advertise_first(&mut self, firewall: FirewallId) {
        for engine in self.peers.iter_mut().flat_map(|record| &mut record.engines) {
            engine.notes.next_firewall = firewall.index();
        }
    }

    /// Handles the notes of an engine behind a peer address and the states that it advertises. A note is kept as long as
    /// the engine drains or maintains its firewall.
    pub(super) fn handle_notes(
        &mut self,
        (peer, engine): (PeerId, usize),
        told: &[FirewallAdvertisement],
        probe: &Probe,
    ) {
        let names = &self.name_digests;
        let notes = &mut self.peers[peer.index()].engines[engine].notes;
        notes.is_reader = probe.supports_notes;
        for told in told {
            let name = names[told.firewall.index()];
            let note = probe.notes.iter().find(|note| note.name == name);
            match (told.admin, note) {
                (AdminState::Ready, _) => drop(notes.peer_orders.remove(&name)),
                (AdminState::Drain | AdminState::Maint, None) => {}
                (AdminState::Drain | AdminState::Maint, Some(note)) => {
                    drop(notes.peer_orders.insert(name, order_of_note(note)))
                }
            }
        }
    }

    /// The orders that are in force for a firewall: the one given here, and those that peers advertise.
    pub(super) fn orders_of(&self, firewall: FirewallId) -> Vec<OrderView> {
        let here = self.overrides[firewall.index()].as_ref();
        let own = &self.config.engine.name;
        let here = here.map(|set| OrderView { admin: Some(set.admin), ..set.order.view(own) });
        here.into_iter().chain(self.orders_elsewhere(firewall)).collect()
    }

    /// The orders of peers that are in force for a firewall, as the peers advertise them.
    pub(super) fn orders_elsewhere(&self, firewall: FirewallId) -> Vec<OrderView> {
        let told = self.liveness.advertised_admin(firewall);
        let view = |(peer, admin)| {
            let order = self.peer_order(peer, firewall).cloned().unwrap_or_default();
            OrderView { admin: Some(admin), ..order.view(self.engine_name(peer)) }
        };
        told.into_iter().map(view).collect()
    }

    /// Why a firewall is in its state, in words; `None` if all is well.
    pub(super) fn firewall_reason(&self, firewall: FirewallId, reason: StateReason) -> Option<String> {
        let commanded = |origin: Option<PeerId>| match origin {
            None => self.overrides[firewall.index()]
                .as_ref()
                .map_or_else(|| "configured".to_owned(), |set| set.order.describe(None)),
            Some(peer) => {
                let at = self.engine_name(peer);
                match self.peer_order(peer, firewall) {
                    Some(order) if order.is_unknown() => format!("configured at {at}"),
                    Some(order) => order.describe(Some(at)),
                    None => Order::default().describe(Some(at)),
                }
            }
        };
        match reason {
            StateReason::Commanded => Some(commanded(None)),
            StateReason::CommandedAt(peer) => Some(commanded(Some(peer))),
            StateReason::Deadline(origin) => Some(format!("{}; drain-timeout has passed", commanded(origin))),
            StateReason::Healthy
            | StateReason::Starting
            | StateReason::Link
            | StateReason::Probes(..)
            | StateReason::Objection(..) => self.reason_text(reason),
        }
    }

    fn peer_order(&self, peer: PeerId, firewall: FirewallId) -> Option<&Order> {
        self.peers[peer.index()].speaker()?.notes.peer_orders.get(&self.name_digests[firewall.index()])
    }

    /// What the engine on a far side calls itself, by which `fwlb -e` knows it; else what it is called here.
    fn engine_name(&self, peer: PeerId) -> &str {
        let named = self.peers[peer.index()].speaker().map(|engine| engine.name.as_str());
        named.unwrap_or(&self.config.peers[peer.index()].name)
    }
}

/// The order that a peer's note contains.
fn order_of_note(note: &AdminNote) -> Order {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(note.at));
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // No date is written beyond the year 9999.
    let at = at.filter(|_| (1..253_402_300_800).contains(&note.at));
    Order { reason: some(&note.reason), by: some(&note.by), at }
}
