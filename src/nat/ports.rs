//! The source ports that stand for clients in `full-nat`. They are limited in number, chosen at random, and rest before
//! they are used again.
//!
//! A port of one source address serves one flow per (protocol, server address, server port) at a time, so that the same
//! port may serve different servers. A freed port rests so that late segments of the old flow do not meet a new one;
//! the port that has rested longest is free first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::flow::Endpoint;
use crate::time::{Duration, Instant};

/// The lowest port that stands for a client. Below it are the well-known ports (RFC 6335 section 6), of which server
/// checks use 512 to 1023, so that a check and a client never have the same 5-tuple.
pub const PORT_MIN: u16 = 1024;

/// All ports that may stand for clients.
pub const PORTS: RangeInclusive<u16> = PORT_MIN..=u16::MAX;

const WORDS: usize = 1 << 10;

/// The ports of one source address toward one server.
#[derive(Debug)]
pub struct PortPool {
    /// One bit for every port; it is set if the port is free.
    free: Box<[u64; WORDS]>,
    available: u32,
    /// Freed ports with the time at which they may be used again, earliest first.
    resting: VecDeque<(Instant, u16)>,
}

impl PortPool {
    /// A pool of those `ports` whose number modulo `parts` is `part`.
    ///
    /// # Panics
    /// If `parts` is 0.
    pub fn new(ports: RangeInclusive<u16>, part: u16, parts: u16) -> Self {
        let mut pool = Self { free: Box::new([0; WORDS]), available: 0, resting: VecDeque::new() };
        for port in ports.filter(|port| port % parts == part) {
            pool.set_free(port);
        }
        pool
    }

    /// Takes a free port: the first one from a random port on (RFC 6056 section 3.3.1). `None` if all are in use or
    /// resting.
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
            // The start word is visited again at the end, for its bits below the random port.
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

    /// Returns a port, which may be used again at `rested`.
    pub fn release(&mut self, port: u16, rested: Instant) {
        self.resting.push_back((rested, port));
    }

    /// Returns a port that was not used by any flow, so that it may be used at once.
    pub fn put_back(&mut self, port: u16) {
        self.set_free(port);
    }

    /// The number of ports that are neither in use nor resting.
    pub fn available(&self) -> u32 {
        self.available
    }

    fn set_free(&mut self, port: u16) {
        self.free[usize::from(port) / 64] |= 1 << (port % 64);
        self.available += 1;
    }
}

/// What a pool belongs to: a source address toward one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PoolKey {
    protocol: u8,
    source: IpAddr,
    server: Endpoint,
}

/// The pools of all source addresses and servers, divided into one part per worker. A worker takes ports only from its
/// own part, so that workers never wait for each other when flows begin. Whoever ends a flow finds the part by the port
/// number.
#[derive(Debug)]
pub struct PortPools {
    parts: Box<[Mutex<Part>]>,
    ports: RangeInclusive<u16>,
    pools_max: usize,
    /// How long a freed port rests, in nanoseconds.
    rest: AtomicU64,
}

type Part = HashMap<PoolKey, PortPool, ahash::RandomState>;

impl PortPools {
    /// Pools for `workers` workers, at most `pools_max` for each of them (8 KiB per pool). A freed port rests for
    /// `rest`.
    ///
    /// # Panics
    /// If `workers` is 0.
    pub fn new(workers: u16, pools_max: usize, rest: Duration) -> Self {
        assert!(workers > 0, "an engine has a worker");
        Self {
            parts: (0..workers).map(|_| Mutex::default()).collect(),
            ports: PORTS,
            pools_max,
            rest: AtomicU64::new(nanos(rest)),
        }
    }

    /// Changes how long ports rest that are freed from now on.
    pub fn set_rest(&self, rest: Duration) {
        self.rest.store(nanos(rest), Ordering::Relaxed);
    }

    /// The same pools with fewer ports, so that tests can exhaust them.
    pub fn limited_to(self, ports: RangeInclusive<u16>) -> Self {
        Self { ports, ..self }
    }

    /// Takes a free port of `source` toward `server` for `worker`. `None` if no port is free, or if the worker already
    /// has `pools_max` other pools.
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
        part.entry(key).or_insert_with(|| PortPool::new(self.ports.clone(), worker, parts)).acquire(random, now)
    }

    /// Returns a port when its flow has ended; it rests first.
    pub fn release(&self, protocol: u8, source: Endpoint, server: Endpoint, now: Instant) {
        let mut part = self.part(source.port % self.parts.len() as u16);
        if let Some(pool) = part.get_mut(&PoolKey { protocol, source: source.address, server }) {
            pool.release(source.port, now + Duration::from_nanos(self.rest.load(Ordering::Relaxed)));
        }
    }

    /// Returns a port that was not used by any flow, so that it may be used at once.
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
