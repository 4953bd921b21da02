//! What ten million translated sessions cost: memory, opening, lookup, expiry, and the longest pause that expiry makes.
//!
//! `cargo bench --bench scale`, with another number of sessions as its argument. It is one run without statistics,
//! because it looks for costs that grow with the table, which are large.
#![allow(missing_docs, reason = "a program of its own")]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant as Clock;

use fwlb::flow::{Endpoint, FlowKey};
use fwlb::id::{ServerId, ServiceId};
use fwlb::io::memory::advise_huge_pages;
use fwlb::session::{OpenResult, Placement, Session, SessionTable, SessionWorker, Timeouts};
use fwlb::time::{Duration, Instant};
use rustix::time::{ClockId, clock_gettime};

/// Table slots that a worker visits between two batches.
const BUDGET: usize = 256;
const SEARCHES: u32 = 2_000_000;

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    let before = resident();
    let start = Clock::now();
    let (table, mut workers) = SessionTable::new(count as usize, 1, Timeouts::default(), [1, 2, 3, 4]);
    table.memory().into_iter().for_each(advise_huge_pages);
    let mut worker = workers.remove(0);
    println!("room for {count} sessions after {:?}, {} MiB resident", start.elapsed(), (resident() - before) >> 20);

    // They are opened over ten seconds, as in a busy hour, and so become due over ten seconds.
    let coming =
        |number: u32| Instant::from_nanos(1_000_000_000 + u64::from(number) * 10_000_000_000 / u64::from(count));
    let start = Clock::now();
    (0..count).for_each(|number| open(&mut worker, number, coming(number)));
    let each = start.elapsed().as_nanos() / u128::from(count);
    let bytes = (resident() - before) as f64 / f64::from(count);
    assert_eq!(table.len(), count as usize, "every session has its place");
    println!(
        "opened: {each} ns each, {bytes:.0} bytes resident each, {} by reckoning",
        SessionTable::IPV4_SESSION_BYTES
    );

    for (leg, title) in [(outside as fn(u32) -> FlowKey, "by their outside"), (reply, "by their inside")] {
        let mut number = 1_u32;
        let start = Clock::now();
        for _ in 0..SEARCHES {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let flow = leg(((u64::from(number) * u64::from(count)) >> 32) as u32);
            assert!(black_box(table.find(&flow.canonical().0)).is_some());
        }
        println!("found {title}: {} ns each, at random", start.elapsed().as_nanos() / u128::from(SEARCHES));
    }

    forget(&mut worker, coming(count) + Timeouts::default().udp_new + Duration::from_secs(1));
    assert!(table.is_empty());
}

/// Lets all sessions expire, in the steps that a worker makes between batches. A step that the operating system
/// interrupts takes longer by the wall clock than by the thread's own clock, which stops meanwhile.
fn forget(worker: &mut SessionWorker, now: Instant) {
    let (mut by_wall, mut of_thread, mut ended) = (Pauses::default(), Pauses::default(), 0_u32);
    loop {
        let (wall, thread) = (Clock::now(), thread_time());
        let visited = worker.expire(now, BUDGET, |_, _| ended += 1);
        of_thread.0.push(thread_time() - thread);
        by_wall.0.push(wall.elapsed());
        if visited < BUDGET {
            break;
        }
    }
    let steps = of_thread.0.len();
    let each = of_thread.0.iter().sum::<Duration>().as_nanos() / u128::from(ended.max(1));
    println!("forgotten: {each} ns each, in {steps} steps of {BUDGET}");
    println!("  a step by the wall's clock:     {}", by_wall.tell());
    println!("  a step by the thread's own:     {}", of_thread.tell());
}

/// The time that each step kept a worker from its packets.
#[derive(Default)]
struct Pauses(Vec<Duration>);

impl Pauses {
    fn tell(mut self) -> String {
        self.0.sort_unstable();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize];
        format!("{:?} (p50), {:?} (p99.9), {:?} at most", at(0.5), at(0.999), at(1.0))
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn open(worker: &mut SessionWorker, number: u32, now: Instant) {
    let outside = outside(number);
    let (key, direction) = outside.canonical();
    let inside = Some(reply(number).reversed());
    let bound = Placement { service: ServiceId(0), server: ServerId(number as u16 % 8), server_failures: 0, inside };
    let opened = worker.open(&key, Some(bound), Session::new(&key, direction, now), false, |_, _| false, now);
    assert!(matches!(opened, (OpenResult::Inserted(_), None)), "{opened:?}");
}

/// The flow of client `number` to the service.
fn outside(number: u32) -> FlowKey {
    let client =
        Endpoint { address: Ipv4Addr::from(0x6440_0000 + number / 8).into(), port: 40_000 + (number % 8) as u16 };
    FlowKey { protocol: 17, source: client, destination: Endpoint { address: [203, 0, 113, 80].into(), port: 53 } }
}

/// The flow of the server's answer.
fn reply(number: u32) -> FlowKey {
    let FlowKey { protocol, source, .. } = outside(number);
    let server = Endpoint { address: [10, 10, 20, number as u8 % 8].into(), port: 5353 };
    FlowKey { protocol, source: server, destination: source }
}

/// Resident memory of the program in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("its second number");
    pages * 4096
}
