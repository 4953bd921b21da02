//! Ports are limited, serve one flow per server at a time, and are not reused before a delay.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant::ZERO;
const HASHER: SourceHasher = SourceHasher::new(7);

/// One of many clients.
fn client(number: u32) -> IpAddr {
    IpAddr::from((0xc633_0000 + number).to_be_bytes())
}

fn key(number: u32) -> SourceKey {
    HASHER.key(client(number))
}

/// Takes every port, each for another client.
fn drain(pool: &mut PortPool) -> Vec<u16> {
    (0..).map_while(|number| pool.acquire(key(number), 40_000, NOW).ok()).collect()
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
    pool.release(2000, key(1), Instant::from_millis(100));
    pool.release(1500, key(2), Instant::from_millis(200));

    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(99)), Err(NoPort::Exhausted));
    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(100)), Ok(2000));
    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(199)), Err(NoPort::Exhausted));
    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(200)), Ok(1500));
}

#[test]
fn a_port_that_served_nobody_needs_no_rest() {
    let pools = PortPools::new(1, 1, Duration::from_secs(120), 7);
    let (source, server) = ([10, 0, 0, 1].into(), Endpoint { address: [10, 0, 0, 9].into(), port: 80 });
    let pool = PoolKey { protocol: 6, source, server };
    let port = pools.acquire(0, pool, client(1), 5000, NOW).unwrap();

    pools.release_unused(6, Endpoint { address: source, port }, server, client(1));
    assert_eq!(pools.acquire(0, pool, client(1), 5000, NOW), Ok(port));
}

#[test]
fn the_search_begins_at_the_random_port_and_goes_round() {
    let mut pool = PortPool::new(PORTS, 0, 1);

    assert_eq!(pool.acquire(key(1), 50_001, NOW), Ok(50_001));
    assert_eq!(pool.acquire(key(1), 50_001, NOW), Ok(50_002));
    assert_eq!(pool.acquire(key(1), u16::MAX, NOW), Ok(u16::MAX));
    assert_eq!(pool.acquire(key(1), u16::MAX, NOW), Ok(PORT_MIN));
}

#[test]
fn one_port_serves_different_servers_at_a_time_but_never_one_twice() {
    let pools = PortPools::new(2, 16, Duration::from_secs(120), 7);
    let take = |last, worker| pools.acquire(worker, pool(6, last), client(1), 5001, NOW);

    let port = take(11, 1).expect("a fresh pool has ports");
    assert_eq!(take(12, 1), Ok(port));
    assert_ne!(take(11, 1), Ok(port));
    assert_ne!(take(11, 0).map(|port| port % 2), Ok(port % 2), "workers have parts of their own");

    pools.release(6, Endpoint { address: SOURCE, port }, server(11), client(1), NOW);
    let later = NOW + Duration::from_secs(120);
    assert_eq!(pools.acquire(1, pool(6, 11), client(1), port, later), Ok(port));
}

#[test]
fn too_many_pools_refuse_the_new_ones_only() {
    let pools = PortPools::new(1, 1, Duration::ZERO, 7);

    assert!(pools.acquire(0, pool(6, 1), client(1), 7, NOW).is_ok());
    assert_eq!(pools.acquire(0, pool(6, 2), client(1), 7, NOW), Err(NoPort::Exhausted));
    assert!(pools.acquire(0, pool(6, 1), client(1), 7, NOW).is_ok());
}

#[test]
fn one_greedy_source_leaves_a_port_to_each_of_a_hundred_others_in_every_worker_s_part() {
    for workers in [1, 4, 64] {
        let pools = PortPools::new(workers, 1, Duration::from_secs(120), 7);
        for worker in 0..workers {
            // It opens and ends flows as fast as it can, and its ports rest.
            let greedy = client(1 << 20);
            let mut got = 0;
            for attempt in 0..70_000 {
                let Ok(port) = pools.acquire(worker, pool(6, 1), greedy, attempt as u16, NOW) else { continue };
                got += 1;
                if attempt % 2 == 0 {
                    pools.release(6, Endpoint { address: SOURCE, port }, server(1), greedy, NOW);
                }
            }
            let part = PORTS.filter(|port| port % workers == worker).count();
            // Eight ninths, and as many more as the tally may be short of.
            assert!((part * 8 / 9..=part * 8 / 9 + 2 + part / 256).contains(&got), "{got} of {part}");
            assert_eq!(pools.acquire(worker, pool(6, 1), greedy, 9, NOW), Err(NoPort::OverShare));
            for number in 0..100 {
                assert!(pools.acquire(worker, pool(6, 1), client(number), 9, NOW).is_ok(), "client {number}");
            }
            let rested = NOW + Duration::from_secs(120);
            assert!(pools.acquire(worker, pool(6, 1), greedy, 9, rested).is_ok(), "what rested is nobody's");
        }
    }
}

#[test]
fn sources_that_have_few_ports_get_the_last_ones_too() {
    let mut pool = PortPool::new(PORTS, 0, 1);
    let got = (0..64_512).filter(|number| pool.acquire(key(number % 8_064), 40_000, NOW).is_ok()).count();
    assert_eq!(got, 64_512, "eight each, whatever cells they share");
    assert_eq!(pool.acquire(key(1), 0, NOW), Err(NoPort::Exhausted));
}

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 10, 20, 240));
const REST: Duration = Duration::from_secs(2);

fn server(number: u8) -> Endpoint {
    Endpoint { address: [10, 10, 20, number].into(), port: 8080 }
}

fn pool(protocol: u8, number: u8) -> PoolKey {
    PoolKey { protocol, source: SOURCE, server: server(number) }
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
        let pools = PortPools::new(3, 8, REST, 7).with_ports(FEW);
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
                    match pools.acquire(worker, pool(6, number), client(1), random, now) {
                        Ok(port) => {
                            prop_assert!(free.contains(&port), "{port} of {free:?}");
                            live.push((number, port));
                        }
                        Err(why) => {
                            prop_assert_eq!(why, NoPort::Exhausted);
                            prop_assert!(free.is_empty(), "refused, but {free:?} are free");
                        }
                    }
                }
                Act::Release(which) if !live.is_empty() => {
                    let (number, port) = live.swap_remove(which.index(live.len()));
                    pools.release(6, Endpoint { address: SOURCE, port }, server(number), client(1), now);
                    resting.insert((number, port), now + REST);
                }
                Act::PutBack(which) if !live.is_empty() => {
                    let (number, port) = live.swap_remove(which.index(live.len()));
                    pools.release_unused(6, Endpoint { address: SOURCE, port }, server(number), client(1));
                    resting.remove(&(number, port));
                }
                Act::Release(_) | Act::PutBack(_) => {}
            }
        }
    }

    /// One pool, of whose flows other engines tell, against the set of live ports and the times of those that rest.
    #[test]
    fn ports_that_other_engines_tell_of_are_counted_as_often_as_there_are_any(
        acts in prop::collection::vec((0..4_u8, 2000..2006_u16, 0..60_u64), 1..150),
    ) {
        const FEW: RangeInclusive<u16> = 2000..=2005;
        let mut pool = PortPool::new(FEW, 0, 1);
        let mut now = NOW;
        let mut live: BTreeSet<u16> = BTreeSet::new();
        let mut resting: BTreeMap<u16, Instant> = BTreeMap::new();
        for (act, port, millis) in acts {
            now += Duration::from_millis(millis);
            match act {
                0 => {
                    let acquired = pool.acquire(key(1), port, now);
                    resting.retain(|_, rested| *rested > now);
                    let free = FEW.filter(|port| !live.contains(port) && !resting.contains_key(port)).count() as u32;
                    prop_assert_eq!(acquired.is_ok(), free > 0);
                    if let Ok(port) = acquired {
                        prop_assert!(!resting.contains_key(&port) && live.insert(port), "{port} is in use");
                    }
                    prop_assert_eq!(pool.available(), free - u32::from(acquired.is_ok()));
                }
                1 => {
                    prop_assert_eq!(pool.reserve(port, key(1), now), live.insert(port));
                    resting.retain(|other, rested| *rested > now && *other != port);
                }
                // Nobody returns a port that rests; one that is free may be returned by a flow that did not reserve it.
                2 if !resting.contains_key(&port) => {
                    pool.release(port, key(1), now + REST / 10);
                    if live.remove(&port) {
                        resting.insert(port, now + REST / 10);
                    }
                }
                3 if live.remove(&port) => pool.release_unused(port, key(1)),
                _ => {}
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
        let pools = PortPools::new(workers, 8, REST, 7).with_ports(2000..=2999);
        let worker = random % workers;
        let first = pools.acquire(worker, pool(6, 1), client(1), random, NOW);
        prop_assert_eq!(first, Ok(random));
        prop_assert_eq!(pools.acquire(worker, pool(6, 2), client(1), random, NOW), first);
        prop_assert_eq!(pools.acquire(worker, pool(17, 1), client(1), random, NOW), first);
        prop_assert_ne!(pools.acquire(worker, pool(6, 1), client(1), random, NOW), first);
    }
}

#[test]
fn nodes_share_all_ports_and_no_port() {
    for nodes in 1..=8 {
        let ranges: Vec<_> = (0..nodes).map(|node| ports_of_node(node, nodes)).collect();
        let sizes: Vec<usize> = ranges.iter().map(|range| range.len()).collect();

        assert!(ranges.iter().cloned().flatten().eq(PORTS), "{nodes} nodes");
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
    }
}

#[test]
fn a_port_that_another_engine_gave_out_is_not_given_out_here_until_its_flow_has_ended_and_it_has_rested() {
    let pools = PortPools::new(2, 4, Duration::from_secs(120), 7).with_ports(ports_of_node(0, 2));
    let server = Endpoint { address: [10, 0, 0, 9].into(), port: 80 };
    let source = |port| Endpoint { address: [10, 0, 0, 1].into(), port };
    let key = PoolKey { protocol: 6, source: source(0).address, server };

    assert!(pools.reserve(6, source(5000), server, client(1), NOW));
    assert!(!pools.reserve(6, source(5000), server, client(2), NOW), "it is in use");
    assert_eq!(pools.acquire(0, key, client(3), 5000, NOW), Ok(5002));
    pools.release(6, source(5000), server, client(1), NOW);
    assert_eq!(pools.acquire(0, key, client(3), 5000, NOW), Ok(5004));
    assert_eq!(pools.acquire(0, key, client(3), 5000, Instant::from_millis(120_000)), Ok(5000));
}

#[test]
fn a_port_of_another_engine_is_its_own_business() {
    let pools = PortPools::new(1, 4, Duration::ZERO, 7).with_ports(60_000..=60_001);
    let server = Endpoint { address: [10, 0, 0, 9].into(), port: 80 };
    let source = |port| Endpoint { address: [10, 0, 0, 1].into(), port };
    let key = PoolKey { protocol: 6, source: source(0).address, server };
    assert_eq!(pools.acquire(0, key, client(1), 0, NOW), Ok(60_000));

    assert!(!pools.reserve(6, source(2000), server, client(1), NOW));
    pools.release(6, source(2000), server, client(1), NOW);

    assert_eq!(pools.acquire(0, key, client(2), 0, NOW), Ok(60_001));
    assert_eq!(pools.acquire(0, key, client(3), 0, NOW), Err(NoPort::Exhausted));
}

#[test]
fn a_resting_port_can_be_reserved_and_then_rests_no_more() {
    let mut pool = PortPool::new(2000..=2000, 0, 1);
    assert_eq!(pool.acquire(key(1), 0, NOW), Ok(2000));
    pool.release(2000, key(1), Instant::from_millis(100));

    assert!(pool.reserve(2000, key(2), NOW));

    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(200)), Err(NoPort::Exhausted));
    pool.release(2000, key(2), Instant::from_millis(300));
    assert_eq!(pool.acquire(key(3), 0, Instant::from_millis(300)), Ok(2000));
    assert_eq!(pool.available(), 0);
}

/// An engine that has just started has no pools: the sessions that it is told of were opened before, by itself or by
/// another engine, and their ports lie in every worker's part.
#[test]
fn after_a_restart_the_ports_of_sessions_that_go_on_are_not_given_out() {
    let pools = PortPools::new(3, 4, REST, 7).with_ports(2000..=2011);
    let source = |port| Endpoint { address: SOURCE, port };
    let kept = [2000, 2001, 2002, 2005, 2011];
    for port in kept {
        assert!(pools.reserve(6, source(port), server(1), client(port.into()), NOW));
    }

    let given: BTreeSet<u16> = (0..3)
        .flat_map(|worker| (0..12).map(move |number| (worker, number)))
        .filter_map(|(worker, number)| pools.acquire(worker, pool(6, 1), client(100 + number), 2000, NOW).ok())
        .collect();
    assert_eq!(given, (2000..=2011).filter(|port| !kept.contains(port)).collect());

    kept.iter().for_each(|port| pools.release(6, source(*port), server(1), client((*port).into()), NOW));
    let again = pools.acquire(0, pool(6, 1), client(200), 2000, NOW + REST);
    assert!(again.is_ok_and(|port| kept.contains(&port)), "{again:?}");
}

#[test]
fn a_port_that_is_returned_twice_is_free_once() {
    let mut pool = PortPool::new(2000..=2001, 0, 1);
    assert_eq!(pool.acquire(key(1), 0, NOW), Ok(2000));
    pool.release_unused(2000, key(1));
    pool.release_unused(2000, key(1));
    assert_eq!(pool.available(), 2);
}
