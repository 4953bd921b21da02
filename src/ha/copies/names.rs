//! Between sessions and records: numbers of services, servers, path sets and firewalls are the sender's own, and are told
//! with their names before the first record that uses them.

use std::collections::{BTreeMap, BTreeSet};

use super::host::CopyHost;
use crate::flow::{CanonicalKey, Direction};
use crate::ha::records::{NamedKind, PinRecord, PlacementRecord, Record, SessionRecord};
use crate::id::{FirewallId, PathSetId, ServerId, ServiceId};
use crate::path::pinning::Pin;
use crate::session::{Placement, Session};
use crate::time::{Duration, Instant};

/// The names that were told.
#[derive(Debug, Default)]
pub struct ToldNames {
    told: BTreeSet<(NamedKind, u16)>,
}

/// The names that were heard: what the numbers of the sender mean, and the numbers of the listener for that.
#[derive(Debug, Default)]
pub struct HeardNames {
    names: BTreeMap<(NamedKind, u16), Name>,
}

#[derive(Debug)]
struct Name {
    name: String,
    number: Option<u16>,
}

impl ToldNames {
    /// Forgets all, as numbers have another meaning from here on, or nobody knows what was heard.
    pub fn clear(&mut self) {
        self.told.clear();
    }

    /// The records of the names that a session refers to and that were not told, which are told with this. `None` if
    /// something has no name.
    pub fn untold(
        &mut self,
        session: &Session,
        placement: Option<&Placement>,
        host: &dyn CopyHost,
    ) -> Option<Vec<Record>> {
        let of_pin = |pin: Pin| [(NamedKind::PathSet, pin.set.0), (NamedKind::Firewall, pin.firewall.0)];
        let pins = [session.toward_low, session.toward_high].into_iter().flatten().flat_map(of_pin);
        let of_placement =
            |place: &Placement| [(NamedKind::Service, place.service.0), (NamedKind::Server, place.server.0)];
        let all = pins.chain(placement.map(of_placement).into_iter().flatten());
        let names = all.filter(|thing| !self.told.contains(thing)).map(|(kind, number)| {
            let name = host.name(kind, number)?;
            Some(Record::Name { kind, number, name })
        });
        let names = names.collect::<Option<Vec<_>>>()?;
        self.told.extend(names.iter().filter_map(|record| match record {
            Record::Name { kind, number, name: _ } => Some((*kind, *number)),
            Record::Session(_) | Record::End { .. } | Record::PassBegins { .. } | Record::PassEnds { .. } => None,
        }));
        Some(names)
    }
}

impl HeardNames {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.names.clear();
    }

    /// Takes a record of a name.
    pub fn learn(&mut self, kind: NamedKind, number: u16, name: String, host: &dyn CopyHost) {
        let mine = host.number(kind, &name);
        self.names.insert((kind, number), Name { name, number: mine });
    }

    /// Follows a reload of the listener.
    pub(super) fn follow(&mut self, host: &dyn CopyHost) {
        for ((kind, _), name) in &mut self.names {
            name.number = host.number(*kind, &name.name);
        }
    }

    /// A session with the numbers and the time of the listener. `None` if something is not in its configuration.
    pub fn session(
        &self,
        record: &SessionRecord,
        host: &dyn CopyHost,
        now: Instant,
    ) -> Option<(Session, Option<Placement>)> {
        let before = |age: Duration| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            Instant::from_nanos(now.as_nanos().saturating_sub(age))
        };
        let mut session = Session::new(&record.key, record.opened, now);
        session.resume(record.state, record.flags);
        session.created = before(Duration::from_secs(record.age_s.into()));
        session.last_seen = before(Duration::from_millis(record.idle_ms.into()));
        (session.packets, session.bytes) = (record.packets, record.bytes);
        for (pin, told) in
            [(&mut session.toward_low, &record.toward_low), (&mut session.toward_high, &record.toward_high)]
        {
            *pin = match told {
                Some(told) => Some(self.pin(told, host)?),
                None => None,
            };
        }
        let Some(told) = record.placement else { return Some((session, None)) };
        let service = ServiceId(self.number(NamedKind::Service, told.service.0)?);
        let server = ServerId(self.number(NamedKind::Server, told.server.0)?);
        let server_failures = host.server_failures(service, server, record.key.family())?;
        Some((session, Some(Placement { service, server, server_failures, inside: told.inside })))
    }

    fn pin(&self, told: &PinRecord, host: &dyn CopyHost) -> Option<Pin> {
        let set = PathSetId(self.number(NamedKind::PathSet, told.set.0)?);
        let firewall = FirewallId(self.number(NamedKind::Firewall, told.firewall.0)?);
        host.pin(&PinRecord { set, firewall, ..*told })
    }

    fn number(&self, kind: NamedKind, number: u16) -> Option<u16> {
        self.names.get(&(kind, number))?.number
    }
}

/// A session as it is told.
pub fn record_of(key: &CanonicalKey, session: &Session, placement: Option<&Placement>, now: Instant) -> SessionRecord {
    let placement =
        placement.map(|place| PlacementRecord { service: place.service, server: place.server, inside: place.inside });
    let pin = |pin: Pin| PinRecord {
        set: pin.set,
        firewall: pin.firewall,
        state: pin.state,
        pinned_by: pin.pinned_by,
        rotations: pin.rotations,
        leader_moves: pin.leader_moves,
    };
    let opened: Direction = session.original_direction;
    SessionRecord {
        key: *key,
        opened,
        state: session.state,
        flags: session.told_flags(),
        age_s: u32::try_from(now.since(session.created).as_secs()).unwrap_or(u32::MAX),
        idle_ms: u32::try_from(now.since(session.last_seen).as_millis()).unwrap_or(u32::MAX),
        packets: session.packets,
        bytes: session.bytes,
        placement,
        toward_low: session.toward_low.map(pin),
        toward_high: session.toward_high.map(pin),
    }
}
