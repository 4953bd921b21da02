//! Counts the connections of a listener by origin, and decides which one is closed when there is no room.
//!
//! A connection is *busy* from the end of a request's head until the last byte of its answer is sent, and *idle*
//! otherwise: silent, in the middle of a head or of a handshake, or between two requests. An idle connection is cheap
//! to open again, so the one that has been idle longest is closed first. No origin may hold so many that others have no
//! room.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Where connections come from; they are counted by origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientOrigin {
    /// An IPv4 address, or the /64 of an IPv6 address, because a subscriber has all of that.
    Network(IpAddr),
    /// A process of this machine by its id; `None` if unknown.
    Process(Option<i32>),
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// Of all origins together.
    pub(super) total: usize,
    /// Of each origin.
    pub(super) per_origin: usize,
}

/// The connections of one listener.
#[derive(Debug, Clone)]
pub(super) struct ConnectionTable(Arc<Mutex<OpenConnections>>);

#[derive(Debug)]
struct OpenConnections {
    limits: ConnectionLimits,
    /// A counter that grows with every change: a lower value is older.
    last_id: u64,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    origin: ClientOrigin,
    /// Number of requests that are being answered.
    requests: usize,
    /// Value of [`OpenConnections::last_id`] when it last became idle, or when it was opened.
    since: u64,
    /// Closes the connection.
    task: Option<AbortHandle>,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    table: ConnectionTable,
    id: u64,
}

/// Marks the connection as busy until this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    table: ConnectionTable,
    id: u64,
}

/// The decision about a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptDecision {
    /// There is room.
    Accept,
    /// There is room after this connection has been closed.
    Replace(u64),
    /// There is no room.
    Refuse,
}

impl ClientOrigin {
    /// The origin of a network connection.
    pub(super) fn of(peer: SocketAddr) -> Self {
        Self::Network(match peer.ip().to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl ConnectionTable {
    pub(super) fn new(room: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(OpenConnections { limits: room, last_id: 0, connections: Vec::new() })))
    }

    /// Takes a place for a connection of `origin`, for which another may be closed; `None` if it has to be refused.
    pub(super) fn admit(&self, origin: ClientOrigin) -> Option<ConnectionSlot> {
        let mut held = self.lock();
        match held.decide(origin) {
            AcceptDecision::Accept => {}
            AcceptDecision::Replace(other) => {
                if let Some(task) = held.remove(other).and_then(|other| other.task) {
                    task.abort();
                }
            }
            AcceptDecision::Refuse => return None,
        }
        let id = held.next_id();
        held.connections.push(Connection { id, origin, requests: 0, since: id, task: None });
        Some(ConnectionSlot { table: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// The id of the connection, for [`ConnectionTable::set_task`].
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Marks the beginning of a request.
    pub(super) fn busy(&self) -> Busy {
        if let Some(connection) = self.table.lock().find(self.id) {
            connection.requests += 1;
        }
        Busy { table: self.table.clone(), id: self.id }
    }
}

impl ConnectionTable {
    /// Notes the task that serves the connection with this id.
    pub(super) fn set_task(&self, id: u64, task: AbortHandle) {
        if let Some(connection) = self.lock().find(id) {
            connection.task = Some(task);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.table.lock().remove(self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut held = self.table.lock();
        let turn = held.next_id();
        if let Some(connection) = held.find(self.id) {
            connection.requests -= 1;
            connection.since = turn;
        }
    }
}

impl OpenConnections {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn find(&mut self, id: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let at = self.connections.iter().position(|connection| connection.id == id)?;
        Some(self.connections.swap_remove(at))
    }

    fn decide(&self, origin: ClientOrigin) -> AcceptDecision {
        let own = self.count(origin);
        if own >= self.limits.per_origin {
            return AcceptDecision::replacing(self.oldest(|one| one.origin == origin && one.is_idle()));
        }
        if self.connections.len() < self.limits.total {
            return AcceptDecision::Accept;
        }
        // The origin with the most connections has to give one up: among equals, the one that has been idle longest.
        let most = |idle: bool| {
            let candidates = self.connections.iter().filter(move |one| !idle || one.is_idle());
            candidates.map(|one| self.count(one.origin)).max()
        };
        let of_the_largest =
            |idle: bool, count: usize| self.oldest(|one| self.count(one.origin) == count && (!idle || one.is_idle()));
        match (most(true), most(false)) {
            (Some(count), _) => AcceptDecision::replacing(of_the_largest(true, count)),
            // All are busy: an origin that holds more than the newcomer would hold loses one.
            (None, Some(count)) if count > own + 1 => AcceptDecision::replacing(of_the_largest(false, count)),
            (None, _) => AcceptDecision::Refuse,
        }
    }

    fn count(&self, origin: ClientOrigin) -> usize {
        self.connections.iter().filter(|one| one.origin == origin).count()
    }

    fn oldest(&self, is_wanted: impl Fn(&Connection) -> bool) -> Option<u64> {
        self.connections.iter().filter(|one| is_wanted(one)).min_by_key(|one| one.since).map(|one| one.id)
    }
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.requests == 0
    }
}

impl AcceptDecision {
    fn replacing(other: Option<u64>) -> Self {
        other.map_or(Self::Refuse, Self::Replace)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(number: u8) -> ClientOrigin {
        ClientOrigin::of(SocketAddr::from(([192, 0, 2, number], 40_000)))
    }

    fn places(of_all: usize, of_one: usize) -> ConnectionTable {
        ConnectionTable::new(ConnectionLimits { total: of_all, per_origin: of_one })
    }

    fn ids(places: &ConnectionTable) -> Vec<u64> {
        let mut ids: Vec<_> = places.lock().connections.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_longest_idle_gives_way_and_who_is_answered_does_not() {
        let places = places(3, 3);
        let [first, second, third] = [(); 3].map(|()| places.admit(origin(1)).unwrap());
        let answering = first.busy();
        // The second has been answered since, so the third has been idle for longer.
        drop(second.busy());

        let fourth = places.admit(origin(1)).unwrap();

        assert_eq!(ids(&places), [first.id, second.id, fourth.id]);
        drop(third);
        assert_eq!(ids(&places).len(), 3, "what gave way is not freed twice");
        drop(answering);
    }

    #[test]
    fn an_origin_at_its_limit_makes_room_for_itself_and_nobody_else_does() {
        let places = places(8, 2);
        let other = places.admit(origin(1)).unwrap();
        let own = [(); 2].map(|()| places.admit(origin(2)).unwrap());
        let busy = own.each_ref().map(ConnectionSlot::busy);

        assert!(places.admit(origin(2)).is_none(), "both are being answered");
        assert!(places.admit(origin(3)).is_some());
        drop(busy);
        assert!(places.admit(origin(2)).is_some());
        assert!(ids(&places).contains(&other.id) && !ids(&places).contains(&own[0].id));
    }

    #[test]
    fn where_all_are_answered_who_holds_most_gives_way_to_who_holds_little() {
        let places = places(4, 3);
        let many = [(); 3].map(|()| places.admit(origin(1)).unwrap());
        let one = places.admit(origin(2)).unwrap();
        let _busy: Vec<_> = many.iter().chain([&one]).map(ConnectionSlot::busy).collect();

        let _newcomer = places.admit(origin(3)).unwrap();
        assert!(!ids(&places).contains(&many[0].id));
        let _second = places.admit(origin(3)).unwrap();
        assert!(ids(&places).contains(&one.id) && !ids(&places).contains(&_newcomer.id), "the only idle one");
    }

    #[test]
    fn one_subscriber_is_one_origin_whatever_address_it_takes() {
        let of = |text: &str| ClientOrigin::of(text.parse().unwrap());
        assert_eq!(of("[2001:db8:1:2::7]:1"), of("[2001:db8:1:2:ffff::8]:2"));
        assert_ne!(of("[2001:db8:1:2::7]:1"), of("[2001:db8:1:3::7]:1"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.1]:2"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
    }

    proptest! {
        #[test]
        fn no_limit_is_passed_and_a_newcomer_is_refused_only_where_all_are_busy(
            steps in prop::collection::vec((0u8..4, 0u8..6), 1..200),
        ) {
            let places = places(6, 3);
            let mut held: Vec<(ClientOrigin, ConnectionSlot, Option<Busy>)> = Vec::new();
            for (from, what) in steps {
                match what {
                    0..3 => match places.admit(origin(from)) {
                        Some(place) => held.push((origin(from), place, None)),
                        None => {
                            let inner = places.lock();
                            let own = inner.count(origin(from));
                            let in_the_way = |one: &&Connection| own < 3 || one.origin == origin(from);
                            prop_assert!(inner.connections.iter().filter(in_the_way).all(|one| !one.is_idle()));
                        }
                    },
                    3 => drop(held.pop()),
                    4 => held.iter_mut().for_each(|(_, place, busy)| *busy = Some(place.busy())),
                    _ => held.iter_mut().for_each(|(_, _, busy)| *busy = None),
                }
                // A connection that was closed drops its place with its task.
                let alive = ids(&places);
                held.retain(|(_, place, _)| alive.contains(&place.id));
                prop_assert!(alive.len() <= 6 && alive.len() == held.len());
                for number in 0..4 {
                    prop_assert!(places.lock().count(origin(number)) <= 3);
                }
            }
        }
    }
}
