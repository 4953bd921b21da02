//! Both ends of short HTTP conversations through a lane, on core 0, with raw frames: as many conversations as they and
//! the device under test can carry.
//!
//! Kernel sockets and ordinary programs on one core soon become the limit themselves. Here one thread has both ends,
//! the server keeps no state and the client a small table ([`crate::conversation`]), and frames are exchanged through
//! the rings of `io`. The kernel's stack at both ends is kept from answering TCP; it still answers ARP.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, anyhow};
use fwlb::id::DeviceId;
use fwlb::io::af_packet::{self, RingOptions};
use fwlb::io::clock::Clock;
use fwlb::io::frame_io::{Outgoing, Receiver, Sender};
use fwlb::io::thread;
use fwlb::io::wait::{Waiter, Wake};
use fwlb::time::{Duration, Instant};
use fwlb::wire::MacAddr;
use fwlb::wire::batch::Batch;
use fwlb::wire::emit::MacPair;
use fwlb::wire::offload::Offload;

use crate::candidates::Candidate;
use crate::conversation::client::{Client, Tally};
use crate::conversation::segment::{Outbox, Segment};
use crate::conversation::server;
use crate::ground::{Namespace, pause};
use crate::lane;
use crate::placement::{self, GENERATOR_CORE, steer};

/// Number of conversations at a time.
const AT_A_TIME: u32 = 256;
/// Frames that may wait at an end: more than so few conversations ever have. Slots that are just long enough for a page
/// and its headers keep the ring in the core's own cache.
const RING: RingOptions = RingOptions { slots: 2048, slot_bytes: 256 };
const HTTP: u16 = 80;
/// How often retransmissions and acknowledgements are checked for.
const TICK: Duration = Duration::from_millis(10);
/// How long no segment must have arrived before a turn is over: a proxy ends its own conversations with the server
/// after the client's.
const LINGER: Duration = Duration::from_millis(20);
/// How long the last conversations of a turn may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Both ends of a lane, see the module.
#[derive(Debug)]
pub struct Ends {
    client: Client,
    near: Side,
    far: Side,
    clock: Clock,
}

/// Receiver and sender of one end.
#[derive(Debug)]
struct Side {
    receiver: Receiver,
    sender: Sender,
    outbox: Outbox,
    /// Frames that the device did not take.
    refused: u64,
}

/// The result of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Completed conversations per second.
    pub rate: f64,
    /// The share of the time that core 1 was busy.
    pub busy: f64,
    /// The share of the time that core 0, with both ends, was busy.
    pub ends_busy: f64,
}

impl Ends {
    /// Opens the ends of a candidate's lane, without traffic. From here on the kernel's stack at both ends takes no
    /// part in TCP.
    pub fn open(candidate: &Candidate) -> Result<Self> {
        let lane = &candidate.lane;
        let near = Side::open(&lane.generator, "g0", lane.generator_index()?, lane::MAC_GEN, lane::MAC_NEAR)?;
        let far = Side::open(&lane.sink, "s0", lane.sink_index()?, lane::MAC_SINK, lane::MAC_FAR)?;
        let client = Client::new(SocketAddrV4::new(candidate.address(), HTTP), AT_A_TIME);
        Ok(Self { client, near, far, clock: Clock::new() })
    }

    /// Runs traffic: `settle` milliseconds that do not count, then `window` that do, then until all open conversations
    /// have ended.
    pub fn turn(&mut self, settle: u64, window: u64) -> Result<Turn> {
        let (stop, completed) = (AtomicBool::new(false), AtomicU64::new(self.client.tally().completed));
        let clock = self.clock;
        let look = || Ok::<_, anyhow::Error>((completed.load(Ordering::Relaxed), clock.now(), placement::cores()?));
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| self.talk(&stop, &completed));
            let watch = || {
                pause(settle)?;
                let before = look()?;
                pause(window)?;
                Ok::<_, anyhow::Error>((before, look()?))
            };
            let watched = watch();
            stop.store(true, Ordering::Relaxed);
            ends.join().map_err(|_| anyhow!("the ends panicked"))??;
            let ((before, began, cores), (after, ended, cores_after)) = watched?;
            Ok(Turn {
                rate: (after - before) as f64 / (ended.since(began).as_nanos() as f64 / 1e9),
                busy: cores_after.0.busy_since(&cores.0),
                ends_busy: cores_after.1.busy_since(&cores.1),
            })
        })
    }

    /// What has happened so far.
    pub const fn tally(&self) -> Tally {
        self.client.tally()
    }

    /// Number of frames so far that the devices did not take.
    pub const fn refused(&self) -> u64 {
        self.near.refused + self.far.refused
    }

    fn talk(&mut self, stop: &AtomicBool, completed: &AtomicU64) -> Result<()> {
        // If the machine refuses either, the ends are slower and core 1 is idle at times.
        let _ = thread::pin_to(GENERATOR_CORE);
        let _ = thread::raise_priority();
        let Self { client, near, far, clock } = self;
        let mut waiter = Waiter::new(Wake::new().context("cannot make the ends' waker")?);
        let mut now = clock.now();
        client.begin(now, |segment| near.outbox.push(segment));
        near.flush();
        let (mut ticked, mut heard_last, mut patience) = (now, now, None);
        loop {
            let heard = near.listen(|segment, outbox| client.hear(segment, now, |answer| outbox.push(answer)))
                + far.listen(|segment, outbox| {
                    if let Some(answer) = server::answer(server::hear(segment), segment) {
                        outbox.push(&answer);
                    }
                });
            completed.store(client.tally().completed, Ordering::Relaxed);
            if heard == 0 {
                waiter.wait([&near.receiver, &far.receiver].into_iter(), Duration::from_millis(10));
            }
            now = clock.now();
            if heard > 0 {
                heard_last = now;
            }
            if now.since(ticked) >= TICK {
                ticked = now;
                client.tick(now, |segment| near.outbox.push(segment));
                near.flush();
            }
            if stop.load(Ordering::Relaxed) {
                client.end();
                let until: Instant = *patience.get_or_insert(now + PATIENCE);
                if now >= until {
                    client.abandon();
                }
                if client.is_silent() && now.since(heard_last) >= LINGER {
                    return Ok(());
                }
            }
        }
    }
}

impl Side {
    fn open(namespace: &Namespace, device: &str, index: u32, own: [u8; 6], other: [u8; 6]) -> Result<Self> {
        // The ring receives every frame before this hook drops it.
        namespace.nft(&format!(
            "table netdev ends {{\n chain in {{\n  type filter hook ingress device {device} priority 0; policy accept;\n  \
             ip protocol tcp drop\n }}\n}}\n"
        ))?;
        steer(namespace, device, GENERATOR_CORE)?;
        let (receiver, sender) = namespace
            .inside(|| Ok((af_packet::Receiver::open(index, RING)?, af_packet::Sender::open(index)?)))
            .context("cannot open an end")?;
        let macs = MacPair { source: MacAddr(own), destination: MacAddr(other) };
        Ok(Self {
            receiver: Receiver::Packet(receiver),
            sender: Sender::from(sender),
            outbox: Outbox::new(macs),
            refused: 0,
        })
    }

    /// Passes every received segment to `hear`, sends what that puts into the outbox, and returns how many frames
    /// arrived.
    fn listen(&mut self, mut hear: impl FnMut(&Segment<'_>, &mut Outbox)) -> usize {
        let mut batch: Batch<'_, ()> = Batch::new();
        let received = self.receiver.receive(DeviceId(0), &mut batch, || ());
        for packet in batch.packets.iter_mut().filter(|packet| packet.verdict.is_none()) {
            if let Some(segment) = Segment::read(packet.bytes, &packet.offload) {
                hear(&segment, &mut self.outbox);
            }
        }
        drop(batch);
        self.receiver.release();
        self.flush();
        received
    }

    fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let frames = self.outbox.frames().map(|bytes| Outgoing { bytes, vlan: None, offload: Offload::NONE });
        let refused = &mut self.refused;
        self.sender.send(frames, |_, _| *refused += 1);
        self.outbox.clear();
    }
}
