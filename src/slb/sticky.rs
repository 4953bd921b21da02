//! Sticky clients: a bounded table of the servers that clients had, by source prefix, with a timeout of its own. An
//! entry outlives the sessions of its client.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::slb::StickyBy;
use crate::time::{Duration, Instant};

/// The room for the sticky entries of all services of an engine.
#[derive(Debug)]
pub struct StickyCapacity {
    used: AtomicUsize,
    capacity: usize,
}

/// The sticky clients of one service.
#[derive(Debug)]
pub struct StickyTable {
    capacity: Arc<StickyCapacity>,
    entries: DashMap<IpAddr, StickyEntry, ahash::RandomState>,
}

#[derive(Debug, Clone)]
struct StickyEntry {
    server: Arc<str>,
    last_used: Instant,
}

impl StickyCapacity {
    /// Room for `capacity` entries.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), capacity })
    }

    /// The number of entries in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn reserve(&self) -> bool {
        let grow = |used| (used < self.capacity).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    fn release(&self, entries: usize) {
        self.used.fetch_sub(entries, Ordering::Relaxed);
    }
}

impl StickyTable {
    /// An empty table whose entries use up the capacity `room`.
    pub fn new(room: Arc<StickyCapacity>) -> Self {
        Self { capacity: room, entries: DashMap::default() }
    }

    /// The server that the client had, unless its entry is older than the timeout.
    pub fn server_of(&self, client: IpAddr, by: &StickyBy, now: Instant) -> Option<Arc<str>> {
        let entry = self.entries.get(&prefix(client, by))?;
        (now.since(entry.last_used) < by.timeout).then(|| Arc::clone(&entry.server))
    }

    /// Remembers the server of a client. Returns false if there is no room, so that the client is not sticky.
    pub fn remember(&self, client: IpAddr, by: &StickyBy, server: &Arc<str>, now: Instant) -> bool {
        let remembered = StickyEntry { server: Arc::clone(server), last_used: now };
        match self.entries.entry(prefix(client, by)) {
            Entry::Occupied(mut entry) => {
                entry.insert(remembered);
                true
            }
            Entry::Vacant(entry) => {
                let has_room = self.capacity.reserve();
                if has_room {
                    entry.insert(remembered);
                }
                has_room
            }
        }
    }

    /// Remembers the server of a client that another engine chose at `used`, unless an entry was used later. Without room
    /// the client is not sticky.
    pub fn learn(&self, client: IpAddr, by: &StickyBy, server: &Arc<str>, used: Instant) {
        let learned = StickyEntry { server: Arc::clone(server), last_used: used };
        match self.entries.entry(prefix(client, by)) {
            Entry::Occupied(mut entry) => {
                if entry.get().last_used < used {
                    entry.insert(learned);
                }
            }
            Entry::Vacant(entry) => {
                if self.capacity.reserve() {
                    entry.insert(learned);
                }
            }
        }
    }

    /// The clients by the first address of their prefix, with their servers, and when they were last used; in no order.
    pub fn clients(&self) -> Vec<(IpAddr, Arc<str>, Instant)> {
        let client = |entry: dashmap::mapref::multiple::RefMulti<'_, IpAddr, StickyEntry>| {
            (*entry.key(), Arc::clone(&entry.server), entry.last_used)
        };
        self.entries.iter().map(client).collect()
    }

    /// Forgets all entries that were not used for `timeout`.
    pub fn expire(&self, timeout: Duration, now: Instant) {
        let mut forgotten = 0;
        self.entries.retain(|_, entry| {
            let live = now.since(entry.last_used) < timeout;
            forgotten += usize::from(!live);
            live
        });
        self.capacity.release(forgotten);
    }

    /// The number of clients in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Drop for StickyTable {
    fn drop(&mut self) {
        self.capacity.release(self.entries.len());
    }
}

/// The first address of the client's prefix.
fn prefix(client: IpAddr, by: &StickyBy) -> IpAddr {
    match client {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(by.prefix.min(32))).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(by.prefix6.min(128))).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: StickyBy = StickyBy { prefix: 24, prefix6: 64, timeout: Duration::from_secs(600) };

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn table(capacity: usize) -> (Arc<StickyCapacity>, StickyTable) {
        let room = StickyCapacity::new(capacity);
        (Arc::clone(&room), StickyTable::new(room))
    }

    #[test]
    fn clients_of_one_prefix_share_an_entry_in_both_families() {
        let (_, table) = table(8);
        let (s1, s2): (Arc<str>, Arc<str>) = ("s1".into(), "s2".into());
        table.remember([198, 51, 100, 7].into(), &BY, &s1, at(0));
        table.remember("2001:db8::7".parse().unwrap(), &BY, &s2, at(0));

        assert_eq!(table.server_of([198, 51, 100, 200].into(), &BY, at(1)), Some(s1));
        assert_eq!(table.server_of([198, 51, 101, 7].into(), &BY, at(1)), None);
        assert_eq!(table.server_of("2001:db8::ffff:1".parse().unwrap(), &BY, at(1)), Some(s2));
        assert_eq!(table.server_of("2001:db8:0:1::7".parse().unwrap(), &BY, at(1)), None);
    }

    #[test]
    fn an_entry_ends_by_its_own_timeout_which_use_renews() {
        let (room, table) = table(8);
        let s1: Arc<str> = "s1".into();
        let client = [198, 51, 100, 7].into();
        table.remember(client, &BY, &s1, at(0));
        table.remember(client, &BY, &s1, at(500));

        assert!(table.server_of(client, &BY, at(1099)).is_some());
        assert!(table.server_of(client, &BY, at(1100)).is_none());
        table.expire(BY.timeout, at(1100));
        assert_eq!((table.len(), room.used()), (0, 0));
    }

    #[test]
    fn of_what_another_engine_chose_the_latest_counts() {
        let (room, table) = table(1);
        let (s1, s2): (Arc<str>, Arc<str>) = ("s1".into(), "s2".into());
        let client = [198, 51, 100, 7].into();

        table.learn(client, &BY, &s1, at(100));
        table.learn(client, &BY, &s2, at(50));
        table.learn([192, 0, 2, 1].into(), &BY, &s2, at(100));
        assert_eq!((table.server_of(client, &BY, at(101)), room.used()), (Some(s1), 1));
        table.learn(client, &BY, &s2, at(150));
        assert_eq!(table.server_of(client, &BY, at(151)), Some(s2));
    }

    #[test]
    fn a_full_room_refuses_new_clients_and_keeps_the_old() {
        let (room, table) = table(1);
        let (s1, s2): (Arc<str>, Arc<str>) = ("s1".into(), "s2".into());
        let (old, new) = ([198, 51, 100, 7].into(), [192, 0, 2, 1].into());

        assert!(table.remember(old, &BY, &s1, at(0)));
        assert!(!table.remember(new, &BY, &s1, at(0)));
        assert!(table.remember(old, &BY, &s2, at(1)), "an entry may change in a full room");
        assert_eq!(table.server_of(old, &BY, at(1)), Some(s2));
        drop(table);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn prefix_lengths_of_nothing_and_everything_work() {
        let whole = StickyBy { prefix: 32, prefix6: 128, ..BY };
        let none = StickyBy { prefix: 0, prefix6: 0, ..BY };
        let client: IpAddr = [198, 51, 100, 7].into();
        assert_eq!(prefix(client, &whole), client);
        assert_eq!(prefix(client, &none), IpAddr::from([0, 0, 0, 0]));
        assert_eq!(prefix("2001:db8::1".parse().unwrap(), &none), IpAddr::from([0; 16]));
    }
}
