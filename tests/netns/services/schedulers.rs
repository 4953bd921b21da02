//! Which server gets the next session: in turn by weight, the least loaded one, or by the hash of the client.

use std::collections::BTreeMap;
use std::time::Duration;

use super::farm::{Farm, NETS, Net, Plan, QUICK, farm, service};
use super::host::{Connection, Program};

const CHECK: &str = "[service.check]\nkind = \"tcp\"";
const PATIENCE: Duration = Duration::from_secs(5);

/// A farm with one service, whose servers all listen on `port` and are up.
fn web(servers: u8, more: &str, test: impl FnOnce(&mut Farm)) {
    let text = service("web", 80, 80, &format!("{more}\n{CHECK}\n{QUICK}"), servers);
    farm(Plan::new(servers, text), |farm| {
        let _programs: Vec<_> = (1..=servers)
            .map(|number| format!("s{number}"))
            .map(|name| Program::echo(&farm.namespace(&name), &name, 80))
            .collect();
        farm.wait_all_up();
        test(farm);
    });
}

fn count(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn turns_are_exact_by_weight_and_interleaved_and_follow_a_weight_that_is_changed() {
    web(2, "", |farm| {
        let engine = farm.engine();
        for net in NETS {
            let (client, vip) = (net.client(7), (net.vip(80), 80));
            engine.set("server web/s1 weight=3");
            let answers = farm.answers(client, vip, 16);
            assert_eq!(count(&answers), [("s1", 12), ("s2", 4)].into(), "{net:?}");
            for window in answers.windows(4) {
                assert_eq!(count(window)["s2"], 1, "any four in a row are 3 : 1: {answers:?}");
            }

            engine.set("server web/s1 weight=0");
            assert_eq!(count(&farm.answers(client, vip, 5)), [("s2", 5)].into(), "weight 0 takes no new sessions");
            assert_eq!(engine.state("web/s1"), "up", "and is no less up");

            engine.set("server web/s1 weight=default");
            assert_eq!(count(&farm.answers(client, vip, 8)), [("s1", 4), ("s2", 4)].into(), "{net:?}");
        }
        let views = engine.service("web").servers;
        assert_eq!(views.iter().map(|server| server.new_sessions).sum::<u64>(), 2 * (16 + 5 + 8));
    });
}

#[test]
fn the_least_loaded_for_its_weight_is_next_and_sessions_that_end_count_no_more() {
    web(2, "scheduler = \"least-connections\"", |farm| {
        let engine = farm.engine();
        engine.set("server web/s1 weight=2");
        for net in NETS {
            let (client, vip) = (net.client(7), (net.vip(80), 80));
            let open = |farm: &Farm| farm.connect(client, vip).expect("is served");
            let load = |name| engine.server(name).sessions;
            let held = |wanted: (u64, u64)| {
                engine.wait_until(PATIENCE, &format!("{wanted:?} are held"), |_| {
                    (load("web/s1"), load("web/s2")) == wanted
                });
            };

            let mut connections: Vec<Connection> = (0..9).map(|_| open(farm)).collect();
            held((6, 3));

            // The sessions of the lighter server end, so it gets the next three.
            connections.retain(|connection| connection.server == "s1");
            engine.wait_until(PATIENCE, "closing sessions are counted no more", |_| load("web/s2") == 0);
            let next: Vec<Connection> = (0..3).map(|_| open(farm)).collect();
            assert!(next.iter().all(|connection| connection.server == "s2"), "{net:?}: {next:?}");
            held((6, 3));
            drop((connections, next));
            held((0, 0));
        }
    });
}

/// The server of each of the client's addresses.
fn places(farm: &Farm, net: Net) -> BTreeMap<u8, String> {
    (100..=139).map(|number| (number, farm.answers(net.client(number), (net.vip(80), 80), 1).remove(0))).collect()
}

#[test]
fn the_hash_keeps_clients_at_their_servers_and_a_change_moves_only_what_it_must() {
    web(4, "scheduler = \"hash\"", |farm| {
        let engine = farm.engine();
        for net in NETS {
            let before = places(farm, net);
            let used: std::collections::BTreeSet<_> = before.values().collect();
            assert_eq!(used.len(), 4, "forty clients use four servers: {before:?}");
            assert_eq!(places(farm, net), before, "the same client meets the same server");

            engine.set("server web/s3 maint");
            let without = places(farm, net);
            for (client, server) in &before {
                match server.as_str() {
                    "s3" => assert_ne!(without[client], "s3"),
                    other => assert_eq!(without[client], other, "client {client} of a live server moved"),
                }
            }
            engine.set("server web/s3 default");
            assert_eq!(places(farm, net), before, "and back");

            engine.set("server web/s2 weight=0");
            let light = places(farm, net);
            let moved = before.iter().filter(|(client, server)| *server != "s2" && light[client] != **server).count();
            assert!(!light.values().any(|server| server == "s2"), "{light:?}");
            assert!(moved <= 4, "{moved} of forty clients moved between servers whose weight did not change");
            engine.set("server web/s2 weight=default");
            assert_eq!(places(farm, net), before);
        }
        let imbalance = engine.service("web").imbalance.expect("a hash tells it");
        assert!((1.0..1.05).contains(&imbalance), "{imbalance}");
    });
}
