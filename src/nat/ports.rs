//! Ports that stand for clients in `full-nat`: finite, random, rested before they serve again.
//!
//! A port of one source address serves one flow per (protocol, server address, server port) at a time, so the same port may
//! serve different servers. A freed port rests, so that late segments of the old flow do not meet a new one; the one that
//! has rested longest is free first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::flow::Endpoint;
use crate::time::{Duration, Instant};

/// The lowest port that stands for a client: below lie the well-known ones (RFC 6335 section 6), of which the checks of
/// servers take 512..=1023, so that a check and a client never have one tuple.
pub const PORT_MIN: u16 = 1024;

const WORDS: usize = 1 << 10;

/// The ports of one source address toward one server.
#[derive(Debug)]
pub struct PortPool {
    /// A bit per port: free.
    free: Box<[u64; WORDS]>,
    available: u32,
    /// Freed ports with the time from which they may serve again, oldest first.
    resting: VecDeque<(Instant, u16)>,
}

impl PortPool {
    /// All ports from [`PORT_MIN`] on whose number modulo `parts` is `part`.
    ///
    /// # Panics
    /// If `parts` is 0.
    pub fn new(part: u16, parts: u16) -> Self {
        let mut pool = Self { free: Box::new([0; WORDS]), available: 0, resting: VecDeque::new() };
        for port in (PORT_MIN..=u16::MAX).filter(|port| port % parts == part) {
            pool.set_free(port);
        }
        pool
    }

    /// Takes a free port: the first from a random one on (RFC 6056 section 3.3.1). `None` if all serve or rest.
    pub fn acquire(&mut self, random: u16, now: Instant) -> Option<u16> {
        while let Some(&(rested, port)) = self.resting.front()
            && rested <= now
        {
            self.resting.pop_front();
            self.set_free(port);
        }
        if self.available == 0 {
            return None;
        }
        let start = usize::from(random) / 64;
        let above = self.free[start] & (u64::MAX << (random % 64));
        let word_and_bits = (above != 0).then_some((start, above)).or_else(|| {
            // The start word comes again at the end, for its bits below the random port.
            (1..=WORDS)
                .map(|step| (start + step) % WORDS)
                .map(|word| (word, self.free[word]))
                .find(|(_, bits)| *bits != 0)
        });
        let (word, bits) = word_and_bits?;
        let bit = bits.trailing_zeros();
        self.free[word] &= !(1 << bit);
        self.available -= 1;
        Some((word as u32 * 64 + bit) as u16)
    }

    /// Gives a port back; it may serve again at `rested`.
    pub fn release(&mut self, port: u16, rested: Instant) {
        self.resting.push_back((rested, port));
    }

    /// Gives a port back that served no flow.
    pub fn put_back(&mut self, port: u16) {
        self.set_free(port);
    }

    /// Ports that serve no flow and do not rest.
    pub fn available(&self) -> u32 {
        self.available
    }

    fn set_free(&mut self, port: u16) {
        self.free[usize::from(port) / 64] |= 1 << (port % 64);
        self.available += 1;
    }
}

/// What a pool is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PoolKey {
    protocol: u8,
    source: IpAddr,
    server: Endpoint,
}

/// The pools of all source addresses and servers, in one part per worker: a worker takes ports from its own part, so that
/// workers never wait for each other there; whoever ends a flow finds the part by the port.
#[derive(Debug)]
pub struct PortPools {
    parts: Box<[Mutex<Part>]>,
    pools_max: usize,
    rest: Duration,
}

type Part = HashMap<PoolKey, PortPool, ahash::RandomState>;

impl PortPools {
    /// Pools for `workers` workers, `pools_max` for each of them (8 KiB a pool); a freed port rests for `rest`.
    ///
    /// # Panics
    /// If `workers` is 0.
    pub fn new(workers: u16, pools_max: usize, rest: Duration) -> Self {
        assert!(workers > 0, "an engine has a worker");
        Self { parts: (0..workers).map(|_| Mutex::default()).collect(), pools_max, rest }
    }

    /// A free port of `source` toward `server` for `worker`; `None` if there is none, or too many pools are in use.
    pub fn acquire(
        &self,
        worker: u16,
        protocol: u8,
        source: IpAddr,
        server: Endpoint,
        random: u16,
        now: Instant,
    ) -> Option<u16> {
        let parts = self.parts.len() as u16;
        let mut part = self.part(worker);
        let key = PoolKey { protocol, source, server };
        if !part.contains_key(&key) && part.len() >= self.pools_max {
            return None;
        }
        part.entry(key).or_insert_with(|| PortPool::new(worker, parts)).acquire(random, now)
    }

    /// Gives a port back when its flow has ended.
    pub fn release(&self, protocol: u8, source: Endpoint, server: Endpoint, now: Instant) {
        let mut part = self.part(source.port % self.parts.len() as u16);
        if let Some(pool) = part.get_mut(&PoolKey { protocol, source: source.address, server }) {
            pool.release(source.port, now + self.rest);
        }
    }

    /// Gives back a port that served no flow: it may serve at once.
    pub fn put_back(&self, protocol: u8, source: Endpoint, server: Endpoint) {
        let mut part = self.part(source.port % self.parts.len() as u16);
        if let Some(pool) = part.get_mut(&PoolKey { protocol, source: source.address, server }) {
            pool.put_back(source.port);
        }
    }

    fn part(&self, worker: u16) -> std::sync::MutexGuard<'_, Part> {
        self.parts[usize::from(worker)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn drain(pool: &mut PortPool) -> Vec<u16> {
        std::iter::from_fn(|| pool.acquire(40_000, NOW)).collect()
    }

    #[test]
    fn every_port_of_the_part_serves_once_and_then_there_is_none() {
        let mut pool = PortPool::new(1, 3);
        let ports = drain(&mut pool);

        assert_eq!(ports.len(), ports.iter().collect::<HashSet<_>>().len());
        assert!(ports.iter().all(|port| port % 3 == 1 && *port >= PORT_MIN));
        assert_eq!(ports.len(), (PORT_MIN..=u16::MAX).filter(|port| port % 3 == 1).count());
        assert_eq!(pool.available(), 0);
    }

    #[test]
    fn a_freed_port_rests_and_the_one_freed_first_serves_first() {
        let mut pool = PortPool::new(0, 1);
        drain(&mut pool);
        pool.release(2000, Instant::from_millis(100));
        pool.release(1500, Instant::from_millis(200));

        assert_eq!(pool.acquire(0, Instant::from_millis(99)), None);
        assert_eq!(pool.acquire(0, Instant::from_millis(100)), Some(2000));
        assert_eq!(pool.acquire(0, Instant::from_millis(199)), None);
        assert_eq!(pool.acquire(0, Instant::from_millis(200)), Some(1500));
    }

    #[test]
    fn a_port_that_served_nobody_needs_no_rest() {
        let pools = PortPools::new(1, 1, Duration::from_secs(120));
        let source: IpAddr = [10, 0, 0, 1].into();
        let server = Endpoint { address: [10, 0, 0, 9].into(), port: 80 };
        let port = pools.acquire(0, 6, source, server, 5000, NOW).unwrap();

        pools.put_back(6, Endpoint { address: source, port }, server);
        assert_eq!(pools.acquire(0, 6, source, server, 5000, NOW), Some(port));
    }

    #[test]
    fn the_search_begins_at_the_random_port_and_goes_round() {
        let mut pool = PortPool::new(0, 1);

        assert_eq!(pool.acquire(50_001, NOW), Some(50_001));
        assert_eq!(pool.acquire(50_001, NOW), Some(50_002));
        assert_eq!(pool.acquire(u16::MAX, NOW), Some(u16::MAX));
        assert_eq!(pool.acquire(u16::MAX, NOW), Some(PORT_MIN));
    }

    #[test]
    fn one_port_serves_different_servers_at_a_time_but_never_one_twice() {
        let pools = PortPools::new(2, 16, Duration::from_secs(120));
        let source: IpAddr = [10, 10, 20, 240].into();
        let server = |last| Endpoint { address: [10, 10, 20, last].into(), port: 8080 };
        let take = |last, worker| pools.acquire(worker, 6, source, server(last), 5001, NOW);

        let port = take(11, 1).expect("a fresh pool has ports");
        assert_eq!(take(12, 1), Some(port));
        assert_ne!(take(11, 1), Some(port));
        assert_ne!(take(11, 0).map(|port| port % 2), Some(port % 2), "workers have parts of their own");

        pools.release(6, Endpoint { address: source, port }, server(11), NOW);
        let later = NOW + Duration::from_secs(120);
        assert_eq!(pools.acquire(1, 6, source, server(11), port, later), Some(port));
    }

    #[test]
    fn too_many_pools_refuse_the_new_ones_only() {
        let pools = PortPools::new(1, 1, Duration::ZERO);
        let source: IpAddr = [10, 0, 0, 1].into();
        let server = |port| Endpoint { address: [10, 0, 0, 9].into(), port };

        assert!(pools.acquire(0, 6, source, server(80), 7, NOW).is_some());
        assert_eq!(pools.acquire(0, 6, source, server(81), 7, NOW), None);
        assert!(pools.acquire(0, 6, source, server(80), 7, NOW).is_some());
    }
}
