//! Time of an operator's queries while ten million sessions are live, and what they cost a worker.
//!
//! `cargo bench --bench answers` makes the sessions (about 2 GiB) and prints median and maximum of twenty answers for
//! each query. Then it prints the time per packet of known sessions without queries, and during queries without a
//! pause. `-- SESSIONS` sets another number of sessions.
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fwlb::api::{SessionFilter, SessionRequest, SessionSort};
use fwlb::engine::testbed::{self, Side};
use fwlb::io::clock::Clock;
use fwlb::runtime::sessions::{self, Walk};
use fwlb::time::Duration;
use fwlb::wire::Family;
use traffic::{BATCH, Pattern, Traffic, flow};

const ROUNDS: usize = 20;
/// Number of batches between two readings of the clock.
const BATCHES: u32 = 2000;

fn main() {
    let number = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let count: u32 = number.unwrap_or(10_000_000);
    let clock = Clock::new();
    let mut traffic = Traffic::new(Family::V4, count, 0, Pattern::Skewed);
    let table = traffic.table();
    let snapshot = Arc::new(testbed::snapshot(Side::Outer, 4));
    println!("{} sessions", table.len());

    let last = flow(Family::V4, count - 1).source.address;
    let from = |address: std::net::IpAddr| Some(address.into());
    let of = |filter, limit| SessionRequest { filter, limit: Some(limit), ..SessionRequest::default() };
    let all = SessionFilter::default;
    let most = |sort| SessionRequest { sort: Some(sort), ..of(all(), 10) };
    let questions = [
        ("the first 100", of(all(), 100)),
        ("the first 1000", of(all(), 1000)),
        ("one by its source, the last", of(SessionFilter { source: from(last), ..all() }, 1)),
        ("those of a source that has none", of(SessionFilter { source: from([192, 0, 2, 1].into()), ..all() }, 100)),
        ("100 of one firewall", of(SessionFilter { firewall: Some("fw3".to_owned()), ..all() }, 100)),
        (
            "100 established, of which there are none",
            of(SessionFilter { state: Some("established".to_owned()), ..all() }, 100),
        ),
        ("the 10 with the most bytes", most(SessionSort::Bytes)),
    ];
    let ask = |question: &SessionRequest| {
        let walk = Walk { engine: "bench", table: &table, snapshot: &snapshot, now: clock.now() };
        let selection = sessions::select(&question.filter, &snapshot).expect("the bench has these names");
        let found = match question.sort {
            None => sessions::page(walk, &selection, question),
            Some(sort) => sessions::sorted(walk, &selection, sort, question.limit, None),
        };
        found.rows.len()
    };
    for (what, question) in &questions {
        let mut found = 0;
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let start = clock.now();
                found = ask(question);
                clock.now().since(start)
            })
            .collect();
        times.sort_unstable();
        let [median, longest] = [times[ROUNDS / 2], times[ROUNDS - 1]].map(|time| time.as_micros() as f64 / 1000.0);
        println!("{what:<42} {found:>5} found   median {median:>8.2} ms   longest {longest:>8.2} ms");
    }

    let mut known = || {
        let start = clock.now();
        (0..BATCHES).for_each(|_| traffic.known());
        clock.now().since(start).as_nanos() as f64 / (f64::from(BATCHES) * BATCH as f64)
    };
    let asking = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if asking.load(Ordering::Relaxed) {
                    ask(&questions[3].1);
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        for is_asked in [false, true, false, true] {
            asking.store(is_asked, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(500));
            let words = if is_asked { "while somebody asks" } else { "while nobody asks" };
            println!("a known packet, {words:<20} {:>6.0} ns", known());
        }
        done.store(true, Ordering::Relaxed);
    });
}
