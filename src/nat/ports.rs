//! The source ports that stand for clients in `full-nat`. They are limited in number, chosen at random, and not reused
//! before a delay.
//!
//! A port of one source address serves one flow per (protocol, server address, server port) at a time, so the same port
//! may serve different servers. A freed port rests for the reuse delay, so that late segments of the old flow do not
//! meet a new one. The port that has rested longest is free first.
//!
//! No source takes all ports: it may have eight times as many as it leaves free, including those that rest after its
//! flows (a dynamic threshold, as Choudhury and Hahne proposed for shared buffers in 1998). One source alone gets eight
//! ninths of the ports, and two get at most eight seventeenths each. A source that has few gets another one as long as
//! there is one.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::flow::{Endpoint, SourceHasher, SourceKey, SourceTally};
use crate::time::{Duration, Instant};

/// The lowest port that stands for a client. Below it are the well-known ports (RFC 6335 section 6), of which server
/// checks use 512 to 1023, so that a check and a client never have the same 5-tuple.
pub const PORT_MIN: u16 = 1024;

/// All ports that may stand for clients.
pub const PORTS: RangeInclusive<u16> = PORT_MIN..=u16::MAX;

const WORDS: usize = 1 << 10;

/// The number of ports that a source may have for each one that it leaves free.
pub const PORTS_PER_FREE: u32 = 8;

/// Columns of the tally of the ports that sources have in a pool, which take 4 KiB. With a pool in full use by others
/// the tally is wrong by 1,000 ports in one case of 250 at most.
const TALLY_COLUMNS: u32 = 256;

/// The ports that one of `nodes` engines gives to clients, when several share their source addresses: the part of
/// [`PORTS`] with the number `node`, from 0. No two engines can then give out the same one.
///
/// # Panics
/// If `node` is not below `nodes`.
pub fn ports_of_node(node: u8, nodes: u8) -> RangeInclusive<u16> {
    assert!(node < nodes, "a node is one of all");
    let (all, nodes) = (u32::from(u16::MAX - PORT_MIN) + 1, u32::from(nodes));
    let first = |node: u32| (u32::from(PORT_MIN) + all * node / nodes) as u16;
    let end = if u32::from(node) + 1 == nodes { u16::MAX } else { first(u32::from(node) + 1) - 1 };
    first(u32::from(node))..=end
}

/// Why there is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// All of them are in use or resting, or too many pools are in use.
    Exhausted,
    /// There are free ports, but this source has its share.
    OverShare,
}

/// The ports of one source address toward one server.
#[derive(Debug)]
pub struct PortPool {
    /// One bit for every port; it is set if the port is free.
    free: Box<[u64; WORDS]>,
    available: u32,
    /// The number of its ports.
    size: u32,
    /// Freed ports with the time from which they may be used again and the source that had them, oldest first.
    resting: VecDeque<(Instant, u16, SourceKey)>,
    /// How many ports in use or resting each source has.
    source_tally: SourceTally,
}

impl PortPool {
    /// A pool of those `ports` whose number modulo `parts` is `part`.
    ///
    /// # Panics
    /// If `parts` is 0.
    pub fn new(ports: RangeInclusive<u16>, part: u16, parts: u16) -> Self {
        let (resting, had) = (VecDeque::new(), SourceTally::new(TALLY_COLUMNS));
        let mut pool = Self { free: Box::new([0; WORDS]), available: 0, size: 0, resting, source_tally: had };
        for port in ports.filter(|port| port % parts == part) {
            pool.set_free(port);
        }
        pool.size = pool.available;
        pool
    }

    /// Takes a free port for a client of `source`: the first from a random one on (RFC 6056 section 3.3.1).
    pub fn acquire(&mut self, source: SourceKey, random: u16, now: Instant) -> Result<u16, NoPort> {
        self.free_rested(now);
        if self.available == 0 {
            return Err(NoPort::Exhausted);
        }
        if self.source_tally.held(source, self.size - self.available) > PORTS_PER_FREE * self.available {
            return Err(NoPort::OverShare);
        }
        let start = usize::from(random) / 64;
        let above = self.free[start] & (u64::MAX << (random % 64));
        let word_and_bits = (above != 0).then_some((start, above)).or_else(|| {
            // The start word is visited again at the end, for its bits below the random port.
            (1..=WORDS)
                .map(|step| (start + step) % WORDS)
                .map(|word| (word, self.free[word]))
                .find(|(_, bits)| *bits != 0)
        });
        let (word, bits) = word_and_bits.ok_or(NoPort::Exhausted)?;
        let bit = bits.trailing_zeros();
        self.free[word] &= !(1 << bit);
        self.available -= 1;
        self.source_tally.add(source);
        Ok((word as u32 * 64 + bit) as u16)
    }

    /// Takes a certain port for a client of `source`, even one that rests. False if it is in use or none of the pool.
    pub fn reserve(&mut self, port: u16, source: SourceKey, now: Instant) -> bool {
        self.free_rested(now);
        if !self.is_free(port) {
            let resting = self.resting.iter().position(|(_, resting, _)| *resting == port);
            let Some((_, _, had_by)) = resting.and_then(|at| self.resting.remove(at)) else { return false };
            self.release_unused(port, had_by);
        }
        self.free[usize::from(port) / 64] &= !(1 << (port % 64));
        self.available -= 1;
        self.source_tally.add(source);
        true
    }

    /// Makes the ports free that have rested long enough.
    fn free_rested(&mut self, now: Instant) {
        while let Some(&(rested, port, had_by)) = self.resting.front()
            && rested <= now
        {
            self.resting.pop_front();
            self.release_unused(port, had_by);
        }
    }

    /// Returns a port that `source` had; it may be used again at `rested`. A port that is free already stays free: the
    /// flow that used it was opened by an engine that died, and nobody reserved the port here.
    pub fn release(&mut self, port: u16, source: SourceKey, rested: Instant) {
        if !self.is_free(port) {
            self.resting.push_back((rested, port, source));
        }
    }

    /// Returns a port that was acquired for a flow of `source` but not used.
    pub fn release_unused(&mut self, port: u16, source: SourceKey) {
        if !self.is_free(port) {
            self.set_free(port);
            self.source_tally.remove(source);
        }
    }

    /// The number of ports that are neither in use nor resting.
    pub fn available(&self) -> u32 {
        self.available
    }

    fn is_free(&self, port: u16) -> bool {
        self.free[usize::from(port) / 64] & 1 << (port % 64) != 0
    }

    fn set_free(&mut self, port: u16) {
        self.free[usize::from(port) / 64] |= 1 << (port % 64);
        self.available += 1;
    }
}

/// What a pool belongs to: a source address toward one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// IP protocol number.
    pub protocol: u8,
    /// The address that stands for clients.
    pub source: IpAddr,
    /// The destination of the flows.
    pub server: Endpoint,
}

/// The pools of all source addresses and servers, divided into one part per worker. A worker takes ports only from its
/// own part, so that workers never wait for each other when flows begin. Whoever ends a flow finds the part by the port
/// number.
#[derive(Debug)]
pub struct PortPools {
    parts: Box<[Mutex<Part>]>,
    ports: RangeInclusive<u16>,
    pools_max: usize,
    hasher: SourceHasher,
    /// How long a freed port rests, in nanoseconds.
    reuse_delay: AtomicU64,
}

type Part = HashMap<PoolKey, PortPool, ahash::RandomState>;

impl PortPools {
    /// Pools for `workers` workers, at most `pools_max` for each of them (12 KiB a pool). A freed port rests for
    /// `rest`. `seed` makes it hard to choose client addresses that are counted as one.
    ///
    /// # Panics
    /// If `workers` is 0.
    pub fn new(workers: u16, pools_max: usize, rest: Duration, seed: u64) -> Self {
        assert!(workers > 0, "an engine has a worker");
        Self {
            parts: (0..workers).map(|_| Mutex::default()).collect(),
            ports: PORTS,
            pools_max,
            hasher: SourceHasher::new(seed),
            reuse_delay: AtomicU64::new(nanos(rest)),
        }
    }

    /// Changes the reuse delay of ports that are freed from now on.
    pub fn set_reuse_delay(&self, rest: Duration) {
        self.reuse_delay.store(nanos(rest), Ordering::Relaxed);
    }

    /// The same pools with these ports only: those of one node, or few that tests can exhaust.
    pub fn with_ports(self, ports: RangeInclusive<u16>) -> Self {
        Self { ports, ..self }
    }

    /// A free port of a pool for a flow of `client` at `worker`.
    pub fn acquire(&self, worker: u16, key: PoolKey, client: IpAddr, random: u16, now: Instant) -> Result<u16, NoPort> {
        let parts = self.parts.len() as u16;
        let mut part = self.part(worker);
        if !part.contains_key(&key) && part.len() >= self.pools_max {
            return Err(NoPort::Exhausted);
        }
        let pool = part.entry(key).or_insert_with(|| PortPool::new(self.ports.clone(), worker, parts));
        pool.acquire(self.hasher.key(client), random, now)
    }

    /// Takes the port of a flow that another engine has opened for `client`. False if it is in use, if it is none of the
    /// ports that these pools give out, so that nothing has to be done, or if too many pools are in use.
    pub fn reserve(&self, protocol: u8, source: Endpoint, server: Endpoint, client: IpAddr, now: Instant) -> bool {
        if !self.ports.contains(&source.port) {
            return false;
        }
        let parts = self.parts.len() as u16;
        let worker = source.port % parts;
        let mut part = self.part(worker);
        let key = PoolKey { protocol, source: source.address, server };
        if !part.contains_key(&key) && part.len() >= self.pools_max {
            return false;
        }
        let pool = part.entry(key).or_insert_with(|| PortPool::new(self.ports.clone(), worker, parts));
        pool.reserve(source.port, self.hasher.key(client), now)
    }

    /// Returns a port when the flow of `client` that used it has ended.
    pub fn release(&self, protocol: u8, source: Endpoint, server: Endpoint, client: IpAddr, now: Instant) {
        if !self.ports.contains(&source.port) {
            return;
        }
        let mut part = self.part(source.port % self.parts.len() as u16);
        if let Some(pool) = part.get_mut(&PoolKey { protocol, source: source.address, server }) {
            let rested = now + Duration::from_nanos(self.reuse_delay.load(Ordering::Relaxed));
            pool.release(source.port, self.hasher.key(client), rested);
        }
    }

    /// Returns a port that was acquired for a flow of `client` but not used: it may be used again at once.
    pub fn release_unused(&self, protocol: u8, source: Endpoint, server: Endpoint, client: IpAddr) {
        let mut part = self.part(source.port % self.parts.len() as u16);
        if let Some(pool) = part.get_mut(&PoolKey { protocol, source: source.address, server }) {
            pool.release_unused(source.port, self.hasher.key(client));
        }
    }

    fn part(&self, worker: u16) -> std::sync::MutexGuard<'_, Part> {
        self.parts[usize::from(worker)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
