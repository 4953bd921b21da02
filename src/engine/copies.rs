//! What copies of sessions have to know of the engine: which sessions need one, and what numbers mean.
//!
//! A session needs a copy if another engine of the cluster could not compute what it says: its server and translation, or
//! a firewall that is not its [`home`](pinning::home). While the home of a flow takes new flows, every engine finds it by
//! the hash, so that nothing has to be told.

mod keeper;

use crate::engine::forwarder::{
    Arrival, RoutedFlow, is_lasting_one_way, is_source_translated, view_toward_destination,
};
use crate::engine::{Counters, SessionLedger, Snapshot};
use crate::flow::{CanonicalKey, Direction};
use crate::ha::CopyHost;
use crate::ha::records::{NamedKind, PinRecord};
use crate::id::{FirewallId, PathSetId, ServerId, ServiceId};
use crate::nat::PortPools;
use crate::path::pinning::{self, PacketKind, Pin, PinState};
use crate::path::{FirewallGroup, OnFailure, PathSet};
use crate::random::mix;
use crate::session::{EndReason, Placement, Removed, Session};
use crate::slb::{self, Server, Service};
use crate::time::Instant;
use crate::wire::Family;

pub use keeper::{CopyKeeper, Copying, Sessions};

/// An engine whose sessions are copied.
#[derive(Debug)]
pub struct CopiedEngine<'a> {
    /// The state that its workers read.
    pub snapshot: &'a Snapshot,
    /// The source ports that they give out.
    pub ports: &'a PortPools,
    /// The counters of the thread that keeps copies, which are added to those of the workers.
    pub counters: &'a mut Counters,
    /// Gets the sessions that ended here while this engine was the router.
    pub ledger: Option<&'a mut (dyn SessionLedger + 'static)>,
}

/// True if a node without a copy would forward the session in another way. A session of which only one end has sent
/// needs none, since its first packet is sent again; a flood consists of those.
pub fn needs_copy(
    key: &CanonicalKey,
    session: &Session,
    placement: Option<&Placement>,
    snapshot: &Snapshot,
    now: Instant,
) -> bool {
    if session.is_half_open() {
        return placement.is_some() && is_lasting_one_way(session, now);
    }
    let is_elsewhere = |pin: Option<Pin>, direction| {
        pin.is_some_and(|pin| pin.state == PinState::Confirmed && !is_at_home(key, &pin, direction, snapshot))
    };
    placement.is_some()
        || is_elsewhere(session.toward_low, Direction::HighToLow)
        || is_elsewhere(session.toward_high, Direction::LowToHigh)
}

/// True if every engine finds the pin's firewall for packets in `direction` by the hash, or moves the flow away from it
/// because it has failed. A pin of a group that has been removed has no meaning, so that nothing would be told of it.
fn is_at_home(key: &CanonicalKey, pin: &Pin, direction: Direction, snapshot: &Snapshot) -> bool {
    let Some((group, set)) = path_set(pin.set, snapshot) else { return true };
    let Some(slot) = group.slot_of(pin.firewall) else { return false };
    let is_found = match group.on_failure {
        OnFailure::Keep => set.selectable & (1 << slot) != 0,
        OnFailure::Reselect | OnFailure::Reset | OnFailure::Drop => (set.selectable | !set.up) & (1 << slot) != 0,
    };
    is_found && {
        let routed = RoutedFlow::unchanged(key.in_direction(direction), Arrival::Near, PacketKind::Other);
        pinning::home(&view_toward_destination(&routed, pin.set, snapshot)) == Some(pin.firewall)
    }
}

/// A path set that exists, with its group.
fn path_set(set: PathSetId, snapshot: &Snapshot) -> Option<(&FirewallGroup, &PathSet)> {
    let set = snapshot.path_sets.get(set.index())?;
    let group = snapshot.groups.get(set.group.index()).filter(|group| !group.members.is_empty())?;
    Some((group, set))
}

impl CopiedEngine<'_> {
    fn set_name(&self, set: PathSetId) -> Option<String> {
        let (group, set) = path_set(set, self.snapshot)?;
        let peer = match set.peer {
            Some(peer) => self.snapshot.peers.get(peer.index())?,
            None => "",
        };
        Some(format!("{}/{peer}/{}", group.name, set.family))
    }

    fn firewall_name(&self, firewall: FirewallId) -> Option<String> {
        let group = self.snapshot.groups.get(self.snapshot.firewalls.get(firewall.index())?.group.index())?;
        let member = group.members.get(group.slot_of(firewall)?)?;
        Some(format!("{}/{}", group.name, member.name))
    }

    fn server_of(&self, placement: &Placement) -> Option<(&Service, &Server)> {
        self.snapshot.services.server(placement.service, placement.server)
    }
}

impl CopyHost for CopiedEngine<'_> {
    fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    fn selection(&self) -> u64 {
        self.snapshot.path_sets.iter().fold(0, |digest, set| mix(digest ^ mix(set.selectable) ^ set.up))
    }

    fn needs_copy(&self, key: &CanonicalKey, session: &Session, placement: Option<&Placement>, now: Instant) -> bool {
        needs_copy(key, session, placement, self.snapshot, now)
    }

    fn name(&self, kind: NamedKind, number: u16) -> Option<String> {
        let services = &self.snapshot.services;
        match kind {
            NamedKind::PathSet => self.set_name(PathSetId(number)),
            NamedKind::Firewall => self.firewall_name(FirewallId(number)),
            NamedKind::Service => Some(services.get(ServiceId(number))?.name.clone()),
            NamedKind::Server => services.all().iter().find_map(|service| {
                let server = service.servers.iter().find(|server| server.id == ServerId(number))?;
                Some(format!("{}/{}", service.name, server.name))
            }),
        }
    }

    fn number(&self, kind: NamedKind, name: &str) -> Option<u16> {
        let Snapshot { path_sets, firewalls, services, .. } = self.snapshot;
        match kind {
            NamedKind::PathSet => {
                let mut numbers = (0..path_sets.len()).map(PathSetId::from);
                numbers.find(|set| self.set_name(*set).is_some_and(|known| known == name)).map(|set| set.0)
            }
            NamedKind::Firewall => {
                let mut numbers = (0..firewalls.len()).map(FirewallId::from);
                numbers.find(|number| self.firewall_name(*number).is_some_and(|known| known == name)).map(|id| id.0)
            }
            NamedKind::Service => {
                services.all().iter().find(|service| service.name == name).map(|service| service.id.0)
            }
            NamedKind::Server => {
                let (of, name) = name.split_once('/')?;
                let service = services.all().iter().find(|service| service.name == of)?;
                let server = service.servers.iter().find(|server| server.name == name && !server.is_removed)?;
                Some(server.id.0)
            }
        }
    }

    fn pin(&self, record: &PinRecord) -> Option<Pin> {
        let (group, set) = path_set(record.set, self.snapshot)?;
        group.slot_of(record.firewall)?;
        let PinRecord { set: set_id, firewall, state, pinned_by, rotations, leader_moves } = *record;
        let mut pin = Pin::copied(set_id, firewall, state, pinned_by, group, set);
        (pin.rotations, pin.leader_moves) = (rotations, leader_moves);
        Some(pin)
    }

    fn server_failures(&self, service: ServiceId, server: ServerId, family: Family) -> Option<u32> {
        let (_, server) = self.snapshot.services.server(service, server)?;
        let family = slb::family_index(family);
        let has_failed = !server.up[family] && !server.is_starting[family];
        Some(server.failure_counts[family].wrapping_sub(u32::from(has_failed)))
    }

    fn opened(&mut self, key: &CanonicalKey, session: &Session, placement: Option<&Placement>, now: Instant) {
        self.counters.copies_opened += 1;
        self.counters.move_copied_pin(None, session.toward_low.as_ref());
        self.counters.move_copied_pin(None, session.toward_high.as_ref());
        let Some(placement) = placement else { return };
        let Some((service, server)) = self.server_of(placement) else { return };
        server.state.opened();
        if !session.is_active() {
            server.state.ended();
        }
        let outside = key.in_direction(session.original_direction);
        let client = outside.source.address;
        if let Some(inside) = placement.inside.filter(|inside| is_source_translated(inside, &outside)) {
            self.ports.reserve(inside.protocol, inside.source, inside.destination, client, now);
        }
        if let Some(by) = &service.sticky {
            service.state.sticky.learn(client, by, &server.state.name, session.created);
        }
    }

    fn renewed(&mut self, before: &Session, after: &Session, placement: Option<&Placement>) {
        self.counters.move_copied_pin(before.toward_low.as_ref(), after.toward_low.as_ref());
        self.counters.move_copied_pin(before.toward_high.as_ref(), after.toward_high.as_ref());
        if before.is_active() != after.is_active()
            && let Some((_, server)) = placement.and_then(|placement| self.server_of(placement))
        {
            if after.is_active() { server.state.resumed() } else { server.state.ended() }
        }
    }

    fn ended(&mut self, ended: &Removed, reason: Option<EndReason>, now: Instant) {
        match reason {
            Some(reason) => {
                self.counters.count_end(&ended.session, reason);
                if let Some(ledger) = &mut self.ledger {
                    ledger.session_ended(ended, reason, self.snapshot, now);
                }
            }
            None => self.counters.count_copy_end(&ended.session),
        }
        let Some(placement) = &ended.placement else { return };
        if ended.session.is_active()
            && let Some((_, server)) = self.server_of(placement)
        {
            server.state.ended();
        }
        let outside = ended.key.in_direction(ended.session.original_direction);
        if let Some(inside) = placement.inside.filter(|inside| is_source_translated(inside, &outside)) {
            self.ports.release(inside.protocol, inside.source, inside.destination, outside.source.address, now);
        }
    }
}
