//! Round trips of single datagrams at low load: the latency that the device under test adds to that of the kernel's
//! router.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fwlb::io::clock::Clock;
use fwlb::io::thread;

use super::bulk::steer_ends;
use super::{Context, Found};
use crate::candidates::{Candidate, Duty, Engine, Kind};
use crate::ground;
use crate::placement::{GENERATOR_CORE, Placement};
use crate::stats::{Quartiles, median, percentile};
use crate::table::{Outcome, Share};

pub(super) const ROWS: &[&str] = &["round-trip-poll", "round-trip-busy"];

const POLL: Kind = Kind::Fwlb(Engine::new(Duty::Pin));
const BUSY: Kind = Kind::Fwlb(Engine { busy_poll: true, ..Engine::new(Duty::Pin) });
const PORT: u16 = 7777;
/// Round trips of a turn; the first ones do not count.
const ROUND_TRIPS: u32 = 1000;
const WARM_UP: u32 = 50;
/// Pause between two round trips.
const GAP: Duration = Duration::from_micros(50);
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// With more lost answers than this in a turn, the lane does not work.
const LOST_MAX: u32 = 20;

pub(super) fn measure(context: &Context) -> Result<Found> {
    let kinds = [(POLL, Placement::Split), (BUSY, Placement::Split), (Kind::IpForward, Placement::Rps)];
    let field = context.stand(&kinds)?;
    let standing = &field.standing;
    steer_ends(standing)?;
    let echoes: Vec<_> = standing.iter().map(Echo::start).collect::<Result<_>>()?;
    let rounds = if context.quick { 5 } else { 15 };
    let mut turns = vec![(Vec::new(), Vec::new()); standing.len()];
    for round in 0..rounds {
        for step in 0..standing.len() {
            let turn = (round + step) % standing.len();
            let candidate = &standing[turn];
            candidate.wake()?;
            let trips = round_trips(candidate).with_context(|| format!("through {}", candidate.kind.name()))?;
            candidate.rest()?;
            turns[turn].0.push(percentile(&trips, 50.0).context("no round trip")?);
            turns[turn].1.push(percentile(&trips, 99.0).context("no round trip")?);
        }
    }
    drop(echoes);
    let outcome = |ours: Kind| {
        field.pair(ours, Kind::IpForward, |own, peer| {
            let added = |ours: &[f64], theirs: &[f64]| {
                Quartiles::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs))
            };
            let at_99 = added(&turns[own].1, &turns[peer].1).map_or(0.0, |added| added.median);
            let Some(value) = added(&turns[own].0, &turns[peer].0) else {
                return Outcome::Skipped("no round".to_owned());
            };
            let share =
                |who: &str, values: &[f64]| Share::new(who, median(values.iter().copied()).unwrap_or_default(), "us");
            let shares = vec![
                share("fwlb p50", &turns[own].0),
                share("ip_forward p50", &turns[peer].0),
                share("fwlb p99", &turns[own].1),
                share("ip_forward p99", &turns[peer].1),
            ];
            Outcome::measured(value, shares).note(format!("p99: {at_99:+.0} us"))
        })
    };
    Ok(ROWS.iter().copied().zip([POLL, BUSY].map(outcome)).collect())
}

/// Microseconds of each round trip, sorted.
fn round_trips(candidate: &Candidate) -> Result<Vec<f64>> {
    ground::go_on()?;
    let target = (candidate.address(), PORT);
    candidate.lane.generator.inside(move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        be_an_end();
        let clock = Clock::new();
        let (mut trips, mut lost) = (Vec::new(), 0);
        for number in 0..ROUND_TRIPS + WARM_UP {
            let mut answer = [0; 64];
            let sent = clock.now();
            socket.send(&payload(number))?;
            // An answer to an earlier request may arrive late.
            let own = loop {
                match socket.recv(&mut answer) {
                    Ok(length) if answer[..length] == payload(number) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            let nanos = clock.now().since(sent).as_nanos();
            match own {
                true if number >= WARM_UP => trips.push(nanos as f64 / 1e3),
                true => {}
                false => lost += 1,
            }
            if lost > LOST_MAX {
                bail!("{lost} answers of {number} were lost");
            }
            std::thread::sleep(GAP);
        }
        trips.sort_by(f64::total_cmp);
        Ok(trips)
    })
}

fn payload(number: u32) -> [u8; 18] {
    let mut payload = [0; 18];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

/// Prepares a thread of one of the ends: both share core 0, with priority over ordinary programs.
fn be_an_end() {
    // If the machine refuses this, the round trips of both parties are longer.
    let _ = thread::pin_to(GENERATOR_CORE);
    let _ = thread::raise_priority();
    thread::set_timer_slack();
}

/// Sends every datagram back, at the sink.
#[derive(Debug)]
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(candidate: &Candidate) -> Result<Self> {
        let address = (candidate.traffic().from, PORT);
        let socket = candidate.lane.sink.inside(|| Ok(UdpSocket::bind(address)?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            be_an_end();
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
