//! The engine in memory, without any input or output: time, memory and allocations.

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use fwlb::engine::testbed::{self, PuntList, Side};
use fwlb::engine::{Batch, Packet, Verdict};
use fwlb::id::DeviceId;
use fwlb::io::clock::Clock;
use fwlb::io::memory::advise_huge_pages;
use fwlb::io::thread;
use fwlb::slb::{SchedulerState, Server, Service, Services};
use fwlb::time::Instant;
use fwlb::wire::Family;
use fwlb::wire::emit::{self, AddressPair, MacPair};
use fwlb::wire::offload::Offload;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::{Context, Found};
use crate::ground;
use crate::placement::DUT_CORE;
use crate::process::resident;
use crate::stats::Quartiles;
use crate::table::{Outcome, Share};
use crate::traffic::{BATCH, Pattern, Traffic};

pub(super) const ROWS: &[&str] = &[SKEWED, UNIFORM, NEW, SESSION, TEN_MILLION, ALLOCATIONS];
const SKEWED: &str = "memory-skewed";
const UNIFORM: &str = "memory-uniform";
const NEW: &str = "memory-new";
const SESSION: &str = "memory-session";
const TEN_MILLION: &str = "memory-10m";
const ALLOCATIONS: &str = "allocations";

/// The argument that makes this program fill a table and print its memory.
pub const WORD: &str = "fill-a-table";

const MILLION: u32 = 1_000_000;
/// Counts the allocations of the program. It requests zeroed memory as such, which the operating system then provides
/// page by page as it is touched: a counter that wrote the zeros itself would count the whole address space of a table
/// as used.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Nanoseconds per packet in Maglev's paper (NSDI 2016, section 5.2: at most 350 ns a packet).
const MAGLEV_NANOS: f64 = 350.0;
/// Batches of one sample, and number of samples.
const BATCHES: u32 = 1000;
const SAMPLES: usize = 31;
/// New sessions of a sample.
const NEW_SESSIONS: u32 = 1 << 17;

pub(super) fn measure(context: &Context) -> Result<Found> {
    let mut found = Found::new();
    for (row, pattern) in [(SKEWED, Pattern::Skewed), (UNIFORM, Pattern::Uniform)] {
        if context.wants(&[row]) {
            found.push((row, on_the_core(move || hits(pattern, MILLION))??));
        }
    }
    if context.wants(&[NEW]) {
        found.push((NEW, on_the_core(new_sessions)??));
    }
    if context.wants(&[SESSION]) {
        let bytes = fill(MILLION)?;
        let each = Quartiles::exactly(bytes as f64 / f64::from(MILLION));
        let shares = vec![Share::new("1 M sessions", bytes as f64 / f64::from(1 << 20), "MiB")];
        found.push((SESSION, Outcome::measured(each, shares)));
    }
    if context.wants(&[TEN_MILLION]) {
        let bytes = fill(10 * MILLION)?;
        let shares = vec![Share::new("each", bytes as f64 / f64::from(10 * MILLION), "B")];
        found.push((TEN_MILLION, Outcome::measured(Quartiles::exactly(bytes as f64), shares)));
    }
    if context.wants(&[ALLOCATIONS]) {
        found.push((ALLOCATIONS, on_the_core(allocations)?));
    }
    Ok(found)
}

fn on_the_core<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    ground::go_on()?;
    let pinned = || {
        // If the machine refuses this, the result is worse.
        let _ = thread::pin_to(DUT_CORE);
        let _ = thread::raise_priority();
        f()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join()).map_err(|_| anyhow!("the engine in memory panicked"))
}

/// Nanoseconds per packet that `f` takes for this many packets.
fn nanos(clock: &Clock, packets: u32, mut f: impl FnMut()) -> f64 {
    let began = clock.now();
    f();
    clock.now().since(began).as_nanos() as f64 / f64::from(packets)
}

/// The cost of a packet of a known session, without the cost of making the packet.
fn hits(pattern: Pattern, sessions: u32) -> Result<Outcome> {
    let mut traffic = Traffic::new(Family::V4, sessions, 0, pattern);
    let clock = Clock::new();
    let packets = BATCHES * BATCH as u32;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        ground::go_on()?;
        let making = nanos(&clock, packets, || (0..BATCHES).for_each(|_| traffic.fill_known()));
        let all = nanos(&clock, packets, || (0..BATCHES).for_each(|_| traffic.known()));
        samples.push(all - making);
    }
    let value = Quartiles::of(samples).context("no sample")?;
    Ok(Outcome::measured(value, Vec::new())
        .note(format!("{:.1} times as fast as Maglev's {MAGLEV_NANOS} ns per packet", MAGLEV_NANOS / value.median)))
}

fn new_sessions() -> Result<Outcome> {
    let clock = Clock::new();
    let mut samples = Vec::new();
    for _ in 0..7 {
        ground::go_on()?;
        let mut traffic = Traffic::new(Family::V4, 0, NEW_SESSIONS as usize, Pattern::Uniform);
        let each = nanos(&clock, NEW_SESSIONS, || {
            (0..NEW_SESSIONS / BATCH as u32).for_each(|_| traffic.new_sessions());
        });
        samples.push(1e9 / each);
    }
    Ok(Outcome::measured(Quartiles::of(samples).context("no sample")?, Vec::new()))
}

fn allocations() -> Outcome {
    let mut traffic = Traffic::new(Family::V4, 10_000, 0, Pattern::Uniform);
    let counting = Region::new(ALLOCATOR);
    (0..BATCHES).for_each(|_| traffic.known());
    let counted = counting.change();
    let (allocations, packets) =
        ((counted.allocations + counted.reallocations) as f64, f64::from(BATCHES) * BATCH as f64);
    let shares = vec![Share::new("packets", packets, ""), Share::new("allocations", allocations, "")];
    Outcome::measured(Quartiles::exactly(allocations / packets), shares)
}

/// Bytes that a table of this many sessions takes, measured in a process that does nothing else.
fn fill(sessions: u32) -> Result<u64> {
    ground::go_on()?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let output = Command::new(program).args([WORD, &sessions.to_string()]).output().context("cannot start itself")?;
    let words = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "filling a table: {}", String::from_utf8_lossy(&output.stderr).trim());
    words.trim().parse().with_context(|| format!("not a number of bytes: {words}"))
}

/// Opens this many sessions of a service with address translation, and prints by how many bytes this process has grown,
/// including the reserves of the table.
pub fn fill_and_tell(sessions: u32) -> Result<()> {
    const STATUS: &str = "/proc/self/status";
    let mut snapshot = testbed::snapshot(Side::Inner, 4);
    snapshot.services = service();
    snapshot.service_addresses = snapshot.services.all()[0].addresses.iter().copied().collect();
    let mut punts = PuntList::default();
    let macs = MacPair {
        source: testbed::firewall_mac(Side::Inner, 1),
        destination: testbed::engine_mac(Side::Inner, Side::Inner.far()),
    };
    let before = resident(STATUS)?;
    let (table, mut workers) = testbed::forwarders(1, sessions as usize);
    // The runtime asks for huge pages in the same way.
    table.memory().into_iter().for_each(advise_huge_pages);
    let (forwarder, _) = &mut workers[0];
    for number in 0..sessions {
        // Sixteen ports of each client.
        let client = IpAddr::V4(Ipv4Addr::from(0x6440_0000 + number / 16));
        let pair = AddressPair::new(client, VIP.into()).context("one family")?;
        let mut bytes = emit::udp(macs, pair, 40_000 + (number % 16) as u16, PORT, b"data");
        let mut batch = Batch::new();
        let device = DeviceId(Side::Inner.far());
        batch.packets.push(Packet { device, vlan: None, offload: Offload::NONE, bytes: &mut bytes, verdict: None });
        forwarder.process(&mut batch, &snapshot, &mut punts, Instant::from_millis(1));
        let verdict = batch.packets[0].verdict;
        ensure!(matches!(verdict, Some(Verdict::Forward(_))), "a new session was not forwarded: {verdict:?}");
    }
    ensure!(table.len() == sessions as usize, "{} sessions of {sessions}", table.len());
    println!("{}", resident(STATUS)?.saturating_sub(before));
    Ok(())
}

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const PORT: u16 = 4000;

/// One server behind the VIP, for UDP.
fn service() -> Services {
    let state = SchedulerState::new(8);
    let server = Server { port: Some(PORT + 1), ..testbed::server(&state, 0) };
    Services::new(vec![Service { protocols: vec![17], ports: vec![PORT..=PORT], ..testbed::service(&state, [server]) }])
}
