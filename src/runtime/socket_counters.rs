//! Counts what the forwarder does not see: what the controller sent, what sockets refused, and what rings lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::id::{DeviceId, LinkId};
use crate::io::frame_io::SendError;

/// Counters of frames that the forwarder does not see.
#[derive(Debug)]
pub(super) struct SocketCounters {
    workers: usize,
    counts: RwLock<SocketCounts>,
    failures: [AtomicU64; SendError::ALL.len()],
}

/// Counters per link and per device; they grow with a reload.
#[derive(Debug, Default)]
struct SocketCounts {
    sent_links: Vec<SentCounts>,
    failed_links: Vec<AtomicU64>,
    /// Frames that found a ring full, by device and then by worker.
    ring_dropped: Vec<Vec<AtomicU64>>,
}

/// Frames and bytes of the controller that were sent on one link.
#[derive(Debug, Default)]
struct SentCounts {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl SocketCounters {
    pub(super) fn new(links: usize, devices: usize, workers: usize) -> Self {
        let traffic = Self { workers, counts: RwLock::default(), failures: Default::default() };
        traffic.grow(links, devices);
        traffic
    }

    /// Makes room for the links and devices of a reload.
    pub(super) fn grow(&self, links: usize, devices: usize) {
        let mut places = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        let (links, devices) = (links.max(places.sent_links.len()), devices.max(places.ring_dropped.len()));
        places.sent_links.resize_with(links, SentCounts::default);
        places.failed_links.resize_with(links, AtomicU64::default);
        places.ring_dropped.resize_with(devices, || (0..self.workers).map(|_| AtomicU64::default()).collect());
    }

    /// Counts a frame of `bytes` bytes that the controller sends on `link`. The forwarder counts its own frames.
    pub(super) fn count_sent(&self, link: LinkId, bytes: usize) {
        if let Some(made) = self.counts().sent_links.get(link.index()) {
            made.frames.fetch_add(1, Ordering::Relaxed);
            made.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Frames and bytes that the controller sent on `link`.
    pub(super) fn sent_on(&self, link: LinkId) -> (u64, u64) {
        let read = |made: &SentCounts| (made.frames.load(Ordering::Relaxed), made.bytes.load(Ordering::Relaxed));
        self.counts().sent_links.get(link.index()).map_or((0, 0), read)
    }

    /// Counts a frame that the device of `link` did not take.
    pub(super) fn count_failed(&self, link: LinkId, error: SendError) {
        self.failures[error as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.counts().failed_links.get(link.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts frames that found the ring of `worker` on `device` full.
    pub(super) fn count_ring_dropped(&self, worker: usize, device: DeviceId, frames: u64) {
        if let Some(count) = self.counts().ring_dropped.get(device.index()).and_then(|rings| rings.get(worker)) {
            count.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Counts frames that a device took and did not send; their links are not known any more.
    pub(super) fn count_unsent(&self, frames: u64) {
        self.failures[SendError::NoBuffers as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// Number of frames that could not be sent on `link`.
    pub(super) fn failed_on(&self, link: LinkId) -> u64 {
        self.counts().failed_links.get(link.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Number of frames on `device` that were lost before the engine saw them.
    pub(super) fn ring_dropped_on(&self, device: DeviceId) -> u64 {
        (0..self.workers).map(|worker| self.ring_dropped_of(worker, device)).sum()
    }

    /// Number of frames on `device` that `worker` lost.
    pub(super) fn ring_dropped_of(&self, worker: usize, device: DeviceId) -> u64 {
        let places = self.counts();
        let ring = places.ring_dropped.get(device.index()).and_then(|rings| rings.get(worker));
        ring.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The counters of the sockets for `show counters`.
    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failures = SendError::ALL.iter().zip(&self.failures);
        let rings = self.counts().ring_dropped.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum();
        failures.map(|(error, count)| (error.name(), count.load(Ordering::Relaxed))).chain([("ring_dropped", rings)])
    }

    /// Locked for one count; it is written only while a reload adds links.
    fn counts(&self) -> RwLockReadGuard<'_, SocketCounts> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner)
    }
}
