//! Carries one capture from its queues to its caller, in order and as pcapng.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::capture::{CAPTURES_MAX, Capture};
use super::shared::Shared;
use crate::api::{ApiError, CaptureRequest, Chunk, Download, names};
use crate::engine::Snapshot;
use crate::engine::trace::{CapturedFrame, Filter};
use crate::id::LinkId;
use crate::time::{Duration, Instant};
use crate::wire::pcapng::{self, CaptureInterface, CapturedPacket, InterfaceStatistics};

/// How often the queues are emptied. At 200,000 frames a second, half of a queue is filled in this time.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// How long frames are held back to be ordered with those of other threads.
const REORDER_WINDOW: Duration = Duration::from_millis(5);
/// Bytes of one chunk, approximately.
const CHUNK_BYTES: usize = 256 * 1024;
/// Number of chunks that may be on their way to the caller.
const CHUNKS_MAX: usize = 8;
/// The default snap length of tcpdump, in bytes: longer than any frame.
const SNAPLEN_DEFAULT: u32 = 262_144;

/// Starts a capture and returns its stream of bytes. To be called within a tokio runtime.
pub(super) fn start(shared: &Arc<Shared>, request: CaptureRequest) -> Result<Download, ApiError> {
    let CaptureRequest { id, filter, snaplen, count, seconds } = request;
    let snapshot = shared.snapshot.load_full();
    check_names(&filter, &snapshot)?;
    let snaplen = snaplen.map_or(SNAPLEN_DEFAULT, |bytes| bytes.clamp(1, SNAPLEN_DEFAULT));
    let links = shared.config().links.len();
    let capture = shared.captures.begin(id, filter, snaplen as usize, links).ok_or_else(|| {
        ApiError::Unavailable(format!("engine {} has {CAPTURES_MAX} captures already: end one first", shared.engine))
    })?;
    let (chunks, download) = mpsc::channel(CHUNKS_MAX);
    let began = shared.clock.now();
    let pump = Pump {
        running: Registered { shared: Arc::clone(shared), capture },
        snaplen,
        interfaces: Vec::new(),
        sorted: Vec::new(),
        frames_left: count,
        started: began,
        clock_zero_ns: shared.clock.wall_nanos(Instant::ZERO),
        until: seconds.map(|seconds| began + Duration::from_secs(seconds)),
        bytes: Vec::new(),
    };
    tokio::spawn(pump.run(chunks, snapshot));
    Ok(download)
}

/// Fails if the filter has a name that is not configured.
fn check_names(filter: &Filter, snapshot: &Snapshot) -> Result<(), ApiError> {
    filter.links.iter().try_for_each(|name| names::link(snapshot, name).map(drop))?;
    filter.firewall.iter().try_for_each(|name| names::firewalls(snapshot, name).map(drop))?;
    filter.service.iter().try_for_each(|name| names::service(snapshot, name).map(drop))?;
    filter.server.iter().try_for_each(|name| names::servers(snapshot, name).map(drop))
}

/// A capture that is registered until this is dropped.
struct Registered {
    shared: Arc<Shared>,
    capture: Arc<Capture>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.captures.remove(&self.capture);
    }
}

struct Pump {
    running: Registered,
    snaplen: u32,
    /// Names of the links whose interface blocks were written, in order.
    interfaces: Vec<String>,
    /// Frames that were taken from the queues and wait to be ordered.
    sorted: Vec<CapturedFrame>,
    /// How many frames may still be written, if their number is limited.
    frames_left: Option<u64>,
    started: Instant,
    /// What the wall clock showed when the engine's clock was zero, in nanoseconds since 1970.
    clock_zero_ns: u64,
    until: Option<Instant>,
    bytes: Vec<u8>,
}

impl Pump {
    async fn run(mut self, chunks: mpsc::Sender<Chunk>, snapshot: Arc<Snapshot>) {
        pcapng::section(&mut self.bytes, concat!("fwlb ", env!("CARGO_PKG_VERSION")));
        (0..snapshot.links.len()).for_each(|link| _ = self.interface(link.into(), &snapshot));
        let mut tick = interval(DRAIN_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = self.is_over();
            loop {
                let is_all = self.write_chunk(is_last);
                let chunk = std::mem::take(&mut self.bytes);
                if !chunk.is_empty() && chunks.send(chunk.into()).await.is_err() {
                    return;
                }
                if is_all {
                    break;
                }
            }
            if is_last || self.frames_left == Some(0) {
                self.statistics();
                let _ = chunks.send(std::mem::take(&mut self.bytes).into()).await;
                return;
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = chunks.closed() => return,
            }
        }
    }

    fn is_over(&self) -> bool {
        let Registered { shared, capture } = &self.running;
        let is_late = self.until.is_some_and(|until| shared.clock.now() >= until);
        is_late || capture.is_ending.load(Ordering::Relaxed) || shared.stop.load(Ordering::Relaxed)
    }

    /// Writes queued frames, oldest first, up to one chunk; true if that was all.
    fn write_chunk(&mut self, is_last: bool) -> bool {
        let Registered { shared, capture } = &self.running;
        let (shared, capture) = (Arc::clone(shared), Arc::clone(capture));
        let now = shared.clock.now();
        let mut taken = 0;
        for queue in &capture.queues {
            while taken < CHUNK_BYTES
                && let Some(sighting) = queue.take()
            {
                taken += sighting.bytes.len();
                self.sorted.push(sighting);
            }
        }
        self.sorted.sort_by_key(|sighting| sighting.at);
        let is_old = |sighting: &CapturedFrame| is_last || now.since(sighting.at) >= REORDER_WINDOW;
        let ready = self.sorted.partition_point(is_old);
        let snapshot = shared.snapshot.load_full();
        let sorted: Vec<_> = self.sorted.drain(..ready).collect();
        for sighting in sorted {
            match &mut self.frames_left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            self.write(&sighting, &snapshot);
        }
        taken < CHUNK_BYTES
    }

    fn write(&mut self, sighting: &CapturedFrame, snapshot: &Snapshot) {
        let Some(interface) = self.interface(sighting.link, snapshot) else { return };
        let packet = CapturedPacket {
            interface,
            at: self.clock_zero_ns.saturating_add(sighting.at.as_nanos()),
            direction: sighting.direction,
            vlan: sighting.vlan,
            bytes: &sighting.bytes,
            length: sighting.length,
            comment: &sighting.describe(snapshot),
        };
        pcapng::packet(&mut self.bytes, &packet);
    }

    /// The interface number of a link; writes the link's interface block first if it is missing.
    fn interface(&mut self, link: LinkId, snapshot: &Snapshot) -> Option<u32> {
        let link = snapshot.links.get(link.index())?;
        let number = self.interfaces.iter().position(|name| *name == link.name).unwrap_or_else(|| {
            let device = snapshot.devices.get(link.device.index()).map_or("?", |device| device.name.as_str());
            let vlan = link.vlan.map_or_else(String::new, |vid| format!(" vlan {vid}"));
            pcapng::interface(
                &mut self.bytes,
                &CaptureInterface {
                    name: &format!("{}/{}", self.running.shared.engine, link.name),
                    description: &format!("device {device}{vlan}, MTU {}", link.mtu),
                    mac: link.mac,
                    snaplen: self.snaplen,
                },
            );
            self.interfaces.push(link.name.clone());
            self.interfaces.len() - 1
        });
        u32::try_from(number).ok()
    }

    fn statistics(&mut self) {
        let Registered { shared, capture } = &self.running;
        let snapshot = shared.snapshot.load_full();
        let [from, to] = [self.started, shared.clock.now()].map(|at| self.clock_zero_ns.saturating_add(at.as_nanos()));
        for (number, name) in self.interfaces.iter().enumerate() {
            let Some(link) = snapshot.links.iter().position(|link| link.name == *name) else { continue };
            let counts = capture.queues.iter().map(|queue| queue.counts(link.into()));
            let (received, dropped) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
            let interface = u32::try_from(number).unwrap_or(u32::MAX);
            pcapng::statistics(&mut self.bytes, &InterfaceStatistics { interface, from, to, received, dropped });
        }
    }
}
