//! Firewalls, engines, peers and devices fail: which sessions may break, and which may not.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::demo::{FlowName, sessions};
use fwlb::lab::traffic::{FlowEnd, FlowReport, Protocol};
use fwlb::lab::{FirewallCable, Side, Station, Stop, Topology};

use crate::ground::{Rig, Traffic, assert_all_answered, sandwich};

/// Both engines must have taken a half-dead firewall out within this time: 350 ms for detection, a probe that reports
/// it to the peer, and a margin for a busy test machine.
const OUT_WITHIN: Duration = Duration::from_millis(600);

fn ordinary(base: Topology) -> Topology {
    base
}

fn name_of(flow: &FlowReport) -> FlowName {
    let protocol = match flow.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    };
    (protocol.to_owned(), flow.local.clone().unwrap_or_default(), flow.remote.clone())
}

/// Traffic of both families: 20 TCP and 20 UDP flows each.
fn busy(rig: &Rig, duration_ms: u64) -> Vec<Traffic> {
    let words = ["tcp", "udp"].into_iter().flat_map(|protocol| {
        rig.topology().server(1).both().map(|to| {
            format!("{protocol} {to} --flows 20 --interval-ms 20 --duration-ms {duration_ms} --patience-ms 4000")
        })
    });
    words.map(|words| rig.start(Station::Client, &words)).collect()
}

fn all_flows(traffic: Vec<Traffic>) -> Vec<FlowReport> {
    traffic.into_iter().flat_map(Traffic::flows).collect()
}

/// How long after this call each engine took the firewall out. The times are the engines' own, because a test that is
/// late would measure its own delay.
fn out_on_both_sides(rig: &Rig, name: &str) -> [Duration; 2] {
    let start = tokio::time::Instant::now();
    Side::BOTH.map(|side| {
        let mut out = None;
        rig.within(Duration::from_secs(3), "the firewall is out", |rig| {
            let firewalls = rig.lab.firewalls(side).expect("the engine answers");
            let asked = start.elapsed();
            let firewall = firewalls.iter().find(|firewall| firewall.name == name).expect("configured");
            out = (firewall.state.name() == "down")
                .then(|| asked.saturating_sub(Duration::from_millis(firewall.since_ms)));
            out.is_some()
        });
        out.expect("waited for")
    })
}

/// A firewall fails under traffic of both families.
pub fn fails_at(leg: FirewallCable, shape: fn(Topology) -> Topology) {
    fails_with(leg, shape, |rig| busy(rig, 5_000));
}

/// Lets fw1 of three fail 1.5 s after the beginning of the traffic, which lasts longer.
pub fn fails_with(
    leg: FirewallCable,
    shape: impl FnOnce(Topology) -> Topology,
    traffic: impl FnOnce(&Rig) -> Vec<Traffic>,
) {
    sandwich(
        |base| shape(Topology { firewalls: 3, ..base.with("group", "on-failure", "reset") }),
        |rig| {
            let traffic = traffic(rig);
            sleep(Duration::from_millis(1_500));
            let before = sessions(&rig.lab).unwrap();
            assert!(before.values().any(|firewall| firewall == "fw1"), "fw1 carries sessions: {before:?}");

            let withheld = rig.withheld();
            rig.lab.fail(1, leg).unwrap();
            let out = out_on_both_sides(rig, "fw1");
            let withheld = withheld.so_far().min(OUT_WITHIN);
            assert!(
                out.iter().all(|after| *after <= OUT_WITHIN + withheld),
                "fw1 was out after {out:?}, of which {withheld:?} were withheld"
            );

            let flows = all_flows(traffic);
            // A client that was reset may open its next connection from the same port.
            let is_first = |flow: &FlowReport| {
                let mut others = flows.iter().filter(|other| name_of(other) == name_of(flow));
                others.all(|other| flow.opened_ms <= other.opened_ms)
            };
            let firewall =
                |flow: &FlowReport| before.get(&name_of(flow)).filter(|_| is_first(flow)).map(String::as_str);
            let others: Vec<_> = flows.iter().filter(|f| firewall(f).is_some_and(|fw| fw != "fw1")).cloned().collect();
            assert_all_answered(&others);
            for flow in flows.iter().filter(|flow| firewall(flow) == Some("fw1")) {
                match flow.protocol {
                    // The state of a strict firewall is lost with it: the client gets a reset, and soon.
                    Protocol::Tcp => {
                        assert_eq!(flow.end, FlowEnd::Reset, "{flow:#?}");
                        assert!(flow.waited_ms.is_some_and(|waited| waited <= 1_000), "{flow:#?}");
                    }
                    Protocol::Udp | Protocol::Icmp => {
                        assert!(flow.answered > 0 && flow.longest_stall_ms <= 1_000, "{flow:#?}");
                    }
                }
            }
            // A connection that was reset is opened again through another firewall, and works.
            assert!(flows.iter().filter(|flow| firewall(flow).is_none()).all(|flow| flow.end == FlowEnd::Finished));
            let established = rig.exec(Station::Server(1), &["ss", "-Htn", "state", "established", "sport", "=", ":7"]);
            assert_eq!(established.trim(), "", "the servers' ends were told as well");
            for firewall in 1..=3 {
                let drops = rig.lab.firewall_totals(firewall).unwrap();
                assert_eq!((drops.invalid, drops.new_not_syn), (0, 0), "fw{firewall}: {drops:?}");
            }
        },
    );
}

#[test]
fn a_firewall_without_its_inner_leg_is_out_on_both_sides_and_costs_only_its_own_sessions() {
    fails_at(FirewallCable::Inner, ordinary);
}

#[test]
fn a_firewall_without_its_outer_leg_is_out_on_both_sides_and_costs_only_its_own_sessions() {
    fails_at(FirewallCable::Outer, ordinary);
}

#[test]
fn a_dead_firewall_is_out_on_both_sides_and_costs_only_its_own_sessions() {
    fails_at(FirewallCable::Both, ordinary);
}

#[test]
fn a_loose_firewall_takes_over_the_sessions_of_a_dead_one() {
    sandwich(
        |base| Topology { kind: fwlb::lab::FirewallKind::Loose, ..base },
        |rig| {
            let traffic = busy(rig, 5_000);
            sleep(Duration::from_millis(1_500));

            rig.lab.fail(1, FirewallCable::Both).unwrap();

            let flows = all_flows(traffic);
            let tcp: Vec<_> = flows.iter().filter(|flow| flow.protocol == Protocol::Tcp).cloned().collect();
            assert_all_answered(&tcp);
            let stall = tcp.iter().map(|flow| flow.longest_stall_ms).max().unwrap();
            assert!(stall <= 1_500, "detection and one retransmission, not {stall} ms");
        },
    );
}

#[test]
fn a_firewall_that_returns_takes_new_sessions_and_no_living_one() {
    sandwich(
        |base| base.with("group", "on-failure", "reset").with("group.check", "hold", "500ms"),
        |rig| {
            rig.lab.fail(1, FirewallCable::Both).unwrap();
            rig.within(Duration::from_secs(2), "fw1 is out", |rig| {
                Side::BOTH.iter().all(|side| rig.state(*side, "fw1") == "down")
            });
            let traffic = busy(rig, 6_000);
            sleep(Duration::from_millis(1_000));
            let before = sessions(&rig.lab).unwrap();
            assert!(before.len() >= 80 && before.values().all(|firewall| firewall == "fw2"), "{before:?}");

            rig.lab.heal(1).unwrap();
            rig.within(Duration::from_secs(4), "fw1 is back", |rig| {
                Side::BOTH.iter().all(|side| rig.state(*side, "fw1") == "up")
            });
            sleep(Duration::from_millis(1_000));
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 40 --duration-ms 300"));

            let after = sessions(&rig.lab).unwrap();
            for (flow, firewall) in &before {
                assert_eq!(after.get(flow).unwrap_or(firewall), firewall, "{flow:?} moved");
            }
            assert!(after.values().any(|firewall| firewall == "fw1"), "fw1 takes new sessions");
            assert_all_answered(&all_flows(traffic));
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn a_draining_firewall_keeps_its_sessions_and_takes_no_new_one_on_either_side() {
    sandwich(
        |base| base,
        |rig| {
            let traffic = busy(rig, 5_000);
            sleep(Duration::from_millis(1_000));
            let before = sessions(&rig.lab).unwrap();
            assert!(before.values().any(|firewall| firewall == "fw1"));

            let set = rig.fwlb(Side::Outer, &["set", "firewall", "fw1", "drain", "--reason", "maintenance"]);
            assert!(set.status.success(), "{}", crate::ground::said(&set));
            rig.within(Duration::from_secs(1), "the peer is told", |rig| {
                Side::BOTH.iter().all(|side| rig.state(*side, "fw1") == "drain")
            });
            let new_on_fw1 = |rig: &Rig| {
                Side::BOTH.map(|side| {
                    rig.lab.firewalls(side).unwrap().iter().find(|fw| fw.name == "fw1").unwrap().new_sessions
                })
            };
            let counted = new_on_fw1(rig);
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 40 --duration-ms 300"));
            assert_all_answered(&rig.flows(Station::Server(1), "tcp 2001:db8:1::7 --flows 40 --duration-ms 300"));

            assert_eq!(new_on_fw1(rig), counted, "a draining firewall takes no new session");
            let after = sessions(&rig.lab).unwrap();
            assert!(before.iter().all(|(flow, firewall)| after.get(flow).unwrap_or(firewall) == firewall));
            assert_all_answered(&all_flows(traffic));
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn a_drain_deadline_moves_what_is_left() {
    sandwich(
        |base| base.with("group", "drain-timeout", "1s"),
        |rig| {
            let traffic = rig.start(Station::Client, "udp 203.0.113.11 --flows 30 --interval-ms 20 --duration-ms 5000");
            sleep(Duration::from_millis(700));
            assert!(sessions(&rig.lab).unwrap().values().any(|firewall| firewall == "fw1"));

            assert!(rig.fwlb(Side::Outer, &["set", "firewall", "fw1", "drain"]).status.success());

            rig.within(Duration::from_secs(3), "no session is left on fw1", |rig| {
                sessions(&rig.lab).unwrap().values().all(|firewall| firewall != "fw1")
            });
            let flows = traffic.flows();
            assert!(flows.iter().all(|flow| flow.answered > 0 && flow.longest_stall_ms < 1_000), "{flows:#?}");
        },
    );
}

#[test]
fn a_lost_peer_is_told_apart_from_firewalls_that_are_down() {
    sandwich(
        |base| base,
        |rig| {
            rig.lab.stop_engine(Side::Inner, Stop::Kill).unwrap();

            rig.within(Duration::from_secs(3), "the alarm peer_lost", |rig| {
                let status = rig.json(Side::Outer, &["show", "status", "--json"]);
                status["alarms"].as_array().unwrap().iter().any(|alarm| alarm["kind"] == "peer_lost")
            });
            let peers = rig.json(Side::Outer, &["show", "peers", "--json"]);
            assert_eq!(peers[0]["state"], "lost", "{peers:#}");
            sleep(Duration::from_millis(500));
            assert_eq!(rig.counter(Side::Outer, "sessions_failed"), 0);
            assert_eq!(rig.counter(Side::Outer, "drop_no_path_up"), 0);
            // The firewalls' own devices still answer ARP and ND, so that the last set of live firewalls is kept.
            for firewall in ["fw1", "fw2"] {
                assert_ne!(rig.state(Side::Outer, firewall), "down");
            }

            rig.lab.start_engine(Side::Inner).unwrap();
            rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 10 --duration-ms 300"));
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

/// The firewall of each session by its two ends, whichever of them opened it.
fn firewalls_of_sessions(rig: &Rig, side: Side) -> BTreeMap<[String; 2], String> {
    let sessions = rig.lab.sessions(side).expect("the engine answers").into_iter();
    let named = sessions.filter_map(|session| {
        let mut ends = [session.source, session.destination];
        ends.sort();
        Some((ends, session.pins.first()?.firewall.clone()))
    });
    named.collect()
}

/// Long sessions opened from both ends survive a restart of engines, each on its firewall.
pub fn pins_survive(stop: Stop, sides: &[Side], shape: fn(Topology) -> Topology) {
    sandwich(
        |base| Topology { firewalls: 3, ..shape(base) },
        |rig| {
            let mut traffic: Vec<_> = rig
                .topology()
                .server(1)
                .both()
                .map(|to| {
                    rig.start(
                        Station::Client,
                        &format!("tcp {to} --flows 20 --interval-ms 50 --duration-ms 9000 --patience-ms 8000"),
                    )
                })
                .into();
            traffic.push(rig.start(
                Station::Server(1),
                "tcp 198.51.100.7 --flows 20 --interval-ms 50 --duration-ms 9000 --patience-ms 8000",
            ));
            sleep(Duration::from_millis(1_500));
            let before = firewalls_of_sessions(rig, Side::Outer);
            assert_eq!(before.len(), 60);

            for side in sides {
                rig.lab.stop_engine(*side, stop).unwrap();
                rig.lab.start_engine(*side).unwrap();
                rig.lab.wait_for_firewalls(Duration::from_secs(10)).unwrap();
                // Hosts that were cut off wait for their retransmission timers, which double.
                rig.within(Duration::from_secs(4), "every session is known again, on its firewall", |rig| {
                    firewalls_of_sessions(rig, *side) == before
                });
            }
            assert_all_answered(&all_flows(traffic));
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn an_engine_that_is_killed_and_restarted_under_traffic_keeps_the_pins() {
    pins_survive(Stop::Kill, &[Side::Outer], ordinary);
}

#[test]
fn engines_of_both_sides_restarted_in_turn_keep_the_pins() {
    pins_survive(Stop::Orderly, &[Side::Inner, Side::Outer], ordinary);
}

#[test]
fn a_device_that_is_deleted_and_comes_back_forwards_again() {
    device_comes_back(ordinary, "xdp-send");
}

/// `mode` is how the device's frames are received, before and after.
pub fn device_comes_back(shape: fn(Topology) -> Topology, mode: &str) {
    sandwich(shape, |rig| {
        let assert_mode = |rig: &Rig| {
            let links = rig.json(Side::Outer, &["show", "links", "--json"]);
            let link = links.as_array().expect("a list").iter().find(|link| link["name"] == "clients");
            assert_eq!(link.expect("it is one of them")["io_mode"], mode);
        };
        assert_mode(rig);
        assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 5 --duration-ms 200"));
        let (outer, switch) = (rig.topology().namespace(Station::Outer), rig.topology().namespace(Station::Switch));

        rig.exec(Station::Outer, &["ip", "link", "del", "clients"]);
        sleep(Duration::from_millis(500));
        let name = ["link", "add", "name", "clients", "netns", &outer, "type", "veth"];
        let peer = ["peer", "name", "outer-near", "netns", &switch];
        let words: Vec<_> = ["ip"].iter().chain(&name).chain(&peer).copied().collect();
        rig.exec(Station::Switch, &words);
        rig.exec(Station::Switch, &["ip", "link", "set", "outer-near", "master", "br-clients", "up"]);
        rig.exec(Station::Outer, &["ip", "link", "set", "clients", "up"]);

        // The device has another MAC address now, which the engine must announce to its neighbours.
        let back = rig.within(Duration::from_secs(5), "the client reaches the engine", |rig| {
            rig.output(Station::Client, &["ping", "-c", "1", "-W", "1", "198.51.100.1"]).status.success()
        });
        assert!(back <= Duration::from_secs(3), "{back:?}");
        assert_mode(rig);
        assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 10 --duration-ms 300"));
        assert_all_answered(&rig.flows(Station::Client, "tcp 2001:db8:113::11 --flows 10 --duration-ms 300"));
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn links_that_flap_forward_again_within_a_second() {
    sandwich(
        |base| base,
        |rig| {
            for _ in 0..5 {
                rig.exec(Station::Outer, &["ip", "link", "set", "clients", "down"]);
                sleep(Duration::from_millis(100));
                rig.exec(Station::Outer, &["ip", "link", "set", "clients", "up"]);
                let back = rig.within(Duration::from_secs(5), "the server answers again", |rig| {
                    rig.output(Station::Client, &["ping", "-c", "1", "-W", "0.2", "203.0.113.11"]).status.success()
                });
                assert!(back <= Duration::from_secs(1), "{back:?}");
            }
            assert_all_answered(&rig.flows(Station::Client, "tcp 203.0.113.11 --flows 10 --duration-ms 300"));
        },
    );
}
