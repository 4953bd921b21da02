//! Ports are limited, serve one flow per server at a time, and rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant::ZERO;

fn drain(pool: &mut PortPool) -> Vec<u16> {
    std::iter::from_fn(|| pool.acquire(40_000, NOW)).collect()
}

#[test]
fn every_port_of_the_part_serves_once_and_then_there_is_none() {
    let mut pool = PortPool::new(PORTS, 1, 3);
    let ports = drain(&mut pool);

    assert_eq!(ports.len(), ports.iter().collect::<HashSet<_>>().len());
    assert!(ports.iter().all(|port| port % 3 == 1 && *port >= PORT_MIN));
    assert_eq!(ports.len(), (PORT_MIN..=u16::MAX).filter(|port| port % 3 == 1).count());
    assert_eq!(pool.available(), 0);
}

#[test]
fn a_freed_port_rests_and_the_one_freed_first_serves_first() {
    let mut pool = PortPool::new(PORTS, 0, 1);
    drain(&mut pool);
    pool.release(2000, Instant::from_millis(100));
    pool.release(1500, Instant::from_millis(200));

    assert_eq!(pool.acquire(0, Instant::from_millis(99)), None);
    assert_eq!(pool.acquire(0, Instant::from_millis(100)), Some(2000));
    assert_eq!(pool.acquire(0, Instant::from_millis(199)), None);
    assert_eq!(pool.acquire(0, Instant::from_millis(200)), Some(1500));
}

#[test]
fn a_port_that_served_nobody_needs_no_rest() {
    let pools = PortPools::new(1, 1, Duration::from_secs(120));
    let source: IpAddr = [10, 0, 0, 1].into();
    let server = Endpoint { address: [10, 0, 0, 9].into(), port: 80 };
    let port = pools.acquire(0, 6, source, server, 5000, NOW).unwrap();

    pools.put_back(6, Endpoint { address: source, port }, server);
    assert_eq!(pools.acquire(0, 6, source, server, 5000, NOW), Some(port));
}

#[test]
fn the_search_begins_at_the_random_port_and_goes_round() {
    let mut pool = PortPool::new(PORTS, 0, 1);

    assert_eq!(pool.acquire(50_001, NOW), Some(50_001));
    assert_eq!(pool.acquire(50_001, NOW), Some(50_002));
    assert_eq!(pool.acquire(u16::MAX, NOW), Some(u16::MAX));
    assert_eq!(pool.acquire(u16::MAX, NOW), Some(PORT_MIN));
}

#[test]
fn one_port_serves_different_servers_at_a_time_but_never_one_twice() {
    let pools = PortPools::new(2, 16, Duration::from_secs(120));
    let source: IpAddr = [10, 10, 20, 240].into();
    let server = |last| Endpoint { address: [10, 10, 20, last].into(), port: 8080 };
    let take = |last, worker| pools.acquire(worker, 6, source, server(last), 5001, NOW);

    let port = take(11, 1).expect("a fresh pool has ports");
    assert_eq!(take(12, 1), Some(port));
    assert_ne!(take(11, 1), Some(port));
    assert_ne!(take(11, 0).map(|port| port % 2), Some(port % 2), "workers have parts of their own");

    pools.release(6, Endpoint { address: source, port }, server(11), NOW);
    let later = NOW + Duration::from_secs(120);
    assert_eq!(pools.acquire(1, 6, source, server(11), port, later), Some(port));
}

#[test]
fn too_many_pools_refuse_the_new_ones_only() {
    let pools = PortPools::new(1, 1, Duration::ZERO);
    let source: IpAddr = [10, 0, 0, 1].into();
    let server = |port| Endpoint { address: [10, 0, 0, 9].into(), port };

    assert!(pools.acquire(0, 6, source, server(80), 7, NOW).is_some());
    assert_eq!(pools.acquire(0, 6, source, server(81), 7, NOW), None);
    assert!(pools.acquire(0, 6, source, server(80), 7, NOW).is_some());
}

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 10, 20, 240));
const REST: Duration = Duration::from_secs(2);

fn server(number: u8) -> Endpoint {
    Endpoint { address: [10, 10, 20, number].into(), port: 8080 }
}

/// What may happen to the ports.
#[derive(Debug, Clone)]
enum Act {
    /// A flow toward a server begins at a worker.
    Acquire { worker: u16, server: u8, random: u16 },
    /// One of the live flows ends.
    Release(prop::sample::Index),
    /// One of the live flows turns out never to have begun.
    PutBack(prop::sample::Index),
    /// This many milliseconds pass.
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (0..3_u16, 0..2_u8, 1990..2020_u16)
            .prop_map(|(worker, server, random)| Act::Acquire { worker, server, random }),
        3 => any::<prop::sample::Index>().prop_map(Act::Release),
        1 => any::<prop::sample::Index>().prop_map(Act::PutBack),
        2 => (0..1500_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..150)
}

proptest! {
    /// The pools against a model that knows the state of every port: a port serves one flow per server at a time,
    /// rests, comes from the worker's own part, and is refused only if that part has none left.
    #[test]
    fn a_port_serves_one_flow_of_a_server_at_a_time_and_rests_before_the_next(acts in acts()) {
        const FEW: RangeInclusive<u16> = 2000..=2011;
        let pools = PortPools::new(3, 8, REST).limited_to(FEW);
        let mut now = NOW;
        let mut live: Vec<(u8, u16)> = Vec::new();
        let mut resting: BTreeMap<(u8, u16), Instant> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                Act::Acquire { worker, server: number, random } => {
                    let part = FEW.filter(|port| port % 3 == worker);
                    let is_free = |port: &u16| {
                        !live.contains(&(number, *port))
                            && resting.get(&(number, *port)).is_none_or(|rested| *rested <= now)
                    };
                    let free: BTreeSet<u16> = part.filter(is_free).collect();
                    match pools.acquire(worker, 6, SOURCE, server(number), random, now) {
                        Some(port) => {
                            prop_assert!(free.contains(&port), "{port} of {free:?}");
                            live.push((number, port));
                        }
                        None => prop_assert!(free.is_empty(), "refused, but {free:?} are free"),
                    }
                }
                Act::Release(which) if !live.is_empty() => {
                    let (number, port) = live.swap_remove(which.index(live.len()));
                    pools.release(6, Endpoint { address: SOURCE, port }, server(number), now);
                    resting.insert((number, port), now + REST);
                }
                Act::PutBack(which) if !live.is_empty() => {
                    let (number, port) = live.swap_remove(which.index(live.len()));
                    pools.put_back(6, Endpoint { address: SOURCE, port }, server(number));
                    resting.remove(&(number, port));
                }
                Act::Release(_) | Act::PutBack(_) => {}
            }
        }
    }

    #[test]
    fn the_parts_of_workers_never_overlap_and_leave_no_port_out(workers in 1..=16_u16, low in PORT_MIN..60_000, len in 0..500_u16) {
        let range = low..=low + len;
        let mut all = Vec::new();
        for worker in 0..workers {
            all.extend(drain(&mut PortPool::new(range.clone(), worker, workers)));
        }
        all.sort_unstable();
        prop_assert_eq!(all, range.collect::<Vec<_>>());
    }

    #[test]
    fn a_flow_of_another_server_may_have_the_port_that_one_serves(random in 2000..2900_u16, workers in 1..8_u16) {
        let pools = PortPools::new(workers, 8, REST).limited_to(2000..=2999);
        let worker = random % workers;
        let first = pools.acquire(worker, 6, SOURCE, server(1), random, NOW);
        prop_assert_eq!(first, Some(random));
        prop_assert_eq!(pools.acquire(worker, 6, SOURCE, server(2), random, NOW), first);
        prop_assert_eq!(pools.acquire(worker, 17, SOURCE, server(1), random, NOW), first);
        prop_assert_ne!(pools.acquire(worker, 6, SOURCE, server(1), random, NOW), first);
    }
}
