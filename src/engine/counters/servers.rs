//! The counters of real servers. There may be thousands of them, and a worker publishes after every batch, so that it
//! copies only those that have changed.

use std::ops::Deref;

use crate::id::ServerId;
use crate::nat::NatDirection;

/// Traffic of one real server. Its live sessions are in [`crate::slb::ServerState`], which schedulers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerCounters {
    /// Sessions that were given to it.
    pub new_sessions: u64,
    /// Traffic to the server and from it, in the order of [`NatDirection`].
    traffic: [Traffic; 2],
}

/// Traffic in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Number of packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl ServerCounters {
    /// Traffic to the server, or from it.
    pub const fn in_direction(&self, way: NatDirection) -> Traffic {
        self.traffic[way as usize]
    }

    /// Packets to and from it.
    pub const fn packets(&self) -> u64 {
        self.traffic[0].packets + self.traffic[1].packets
    }

    /// Bytes of IP packets to and from it.
    pub const fn bytes(&self) -> u64 {
        self.traffic[0].bytes + self.traffic[1].bytes
    }

    /// Counts a packet of `bytes` bytes.
    #[inline]
    pub(in crate::engine) fn count(&mut self, way: NatDirection, bytes: u64) {
        let traffic = &mut self.traffic[way as usize];
        traffic.packets += 1;
        traffic.bytes += bytes;
    }

    /// Adds the counters of another worker.
    pub(super) fn add(&mut self, other: &Self) {
        self.new_sessions += other.new_sessions;
        for (own, other) in self.traffic.iter_mut().zip(other.traffic) {
            own.packets += other.packets;
            own.bytes += other.bytes;
        }
    }
}

/// The counters of all servers, indexed by [`ServerId`].
#[derive(Debug, Clone, Default)]
pub struct ServerCounterTable {
    counters: Vec<ServerCounters>,
    changes: ChangedServers,
}

/// The servers whose counters may differ from the published copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ChangedServers {
    /// These servers; one may be listed more than once.
    Of(Vec<ServerId>),
    /// All servers: a list of the changes would be longer than a whole copy.
    Any,
}

impl Default for ChangedServers {
    fn default() -> Self {
        Self::Of(Vec::new())
    }
}

impl Deref for ServerCounterTable {
    type Target = [ServerCounters];

    fn deref(&self) -> &Self::Target {
        &self.counters
    }
}

impl PartialEq for ServerCounterTable {
    /// True if the counters are equal, whether or not they are published.
    fn eq(&self, other: &Self) -> bool {
        self.counters == other.counters
    }
}

impl Eq for ServerCounterTable {}

impl ServerCounterTable {
    /// The counters of a server, which become part of the next publication. The table grows if necessary.
    pub(super) fn of(&mut self, id: ServerId) -> &mut ServerCounters {
        if self.counters.len() <= id.index() {
            self.counters.resize(id.index() + 1, ServerCounters::default());
        }
        match &mut self.changes {
            ChangedServers::Any => {}
            // Packets of one session often arrive in a row.
            ChangedServers::Of(changed) if changed.last() == Some(&id) => {}
            ChangedServers::Of(changed) if changed.len() < self.counters.len() => changed.push(id),
            ChangedServers::Of(_) => self.changes = ChangedServers::Any,
        }
        &mut self.counters[id.index()]
    }

    /// Copies what has changed to `copy`, to which nothing else writes.
    pub(super) fn publish_to(&mut self, copy: &mut Self) {
        match &mut self.changes {
            ChangedServers::Of(changed) => {
                copy.counters.resize(self.counters.len(), ServerCounters::default());
                for id in changed.drain(..) {
                    copy.counters[id.index()] = self.counters[id.index()];
                }
            }
            ChangedServers::Any => {
                copy.counters.clone_from(&self.counters);
                self.changes = ChangedServers::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_published_copy_is_whole_whatever_was_counted_since_the_last(
            rounds in prop::collection::vec(prop::collection::vec(0_u16..40, 0..100), 1..10)
        ) {
            let (mut table, mut copy) = (ServerCounterTable::default(), ServerCounterTable::default());
            for round in rounds {
                for id in round {
                    table.of(ServerId(id)).count(NatDirection::ToServer, 1);
                }
                table.publish_to(&mut copy);
                prop_assert_eq!(&copy, &table);
                prop_assert_eq!(&table.changes, &ChangedServers::default());
            }
        }
    }

    #[test]
    fn what_waits_for_a_reader_is_no_longer_than_the_table() {
        let mut table = ServerCounterTable::default();
        for packet in 0..10_000 {
            table.of(ServerId(packet % 7)).count(NatDirection::ToClient, 1);
        }

        assert_eq!(table.changes, ChangedServers::Any);
        let mut copy = ServerCounterTable::default();
        table.publish_to(&mut copy);
        assert_eq!(copy, table);
    }
}
