//! The queue of captured frames from one thread, bounded in frames and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel as channel;

use crate::engine::trace::{CaptureSink, CapturedFrame};
use crate::id::LinkId;

/// Frames that a queue holds.
const FRAMES_MAX: usize = 8192;
/// Bytes of frames after which a queue is full; the last frame may exceed it.
const BYTES_MAX: usize = 16 << 20;

/// A queue with both of its ends.
#[derive(Debug)]
pub(in crate::runtime) struct Queue {
    sender: channel::Sender<CapturedFrame>,
    receiver: channel::Receiver<CapturedFrame>,
    counts: Arc<Counts>,
}

/// The sending end, which belongs to one thread that handles packets.
#[derive(Debug)]
pub(super) struct QueueSink {
    sender: channel::Sender<CapturedFrame>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Bytes of the frames in the queue.
    bytes: AtomicUsize,
    /// Indexed by [`LinkId`].
    links: Vec<LinkCounts>,
}

#[derive(Debug, Default)]
struct LinkCounts {
    matched: AtomicU64,
    lost: AtomicU64,
}

impl Queue {
    /// A queue for an engine with `links` links.
    pub(super) fn new(links: usize) -> Self {
        let (sender, receiver) = channel::bounded(FRAMES_MAX);
        let links = std::iter::repeat_with(LinkCounts::default).take(links).collect();
        let counts = Arc::new(Counts { bytes: AtomicUsize::new(0), links });
        Self { sender, receiver, counts }
    }

    pub(super) fn sink(&self) -> QueueSink {
        QueueSink { sender: self.sender.clone(), counts: Arc::clone(&self.counts) }
    }

    /// Takes the next frame.
    pub(in crate::runtime) fn take(&self) -> Option<CapturedFrame> {
        let sighting = self.receiver.try_recv().ok()?;
        self.counts.bytes.fetch_sub(sighting.bytes.len(), Ordering::Relaxed);
        Some(sighting)
    }

    /// Number of frames on `link` that the filter matched, and how many of those found the queue full.
    pub(in crate::runtime) fn counts(&self, link: LinkId) -> (u64, u64) {
        let read = |counts: &LinkCounts| (counts.matched.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed));
        self.counts.links.get(link.index()).map_or((0, 0), read)
    }
}

impl CaptureSink for QueueSink {
    fn has_room(&mut self, link: LinkId) -> bool {
        let has_room = self.sender.len() < FRAMES_MAX && self.counts.bytes.load(Ordering::Relaxed) < BYTES_MAX;
        if let Some(counts) = self.counts.links.get(link.index()) {
            counts.matched.fetch_add(1, Ordering::Relaxed);
            counts.lost.fetch_add(u64::from(!has_room), Ordering::Relaxed);
        }
        has_room
    }

    fn put(&mut self, sighting: CapturedFrame) {
        let (link, bytes) = (sighting.link, sighting.bytes.len());
        // Counted before the frame can be taken, so that the count never falls below zero.
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.try_send(sighting).is_err() {
            self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(counts) = self.counts.links.get(link.index()) {
                counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
