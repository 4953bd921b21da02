//! Reloads running engines under traffic: no session breaks without need, and `plan` predicts the effects.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use fwlb::lab::demo::sessions;
use fwlb::lab::{Side, Station, Topology};

use crate::ground::{Rig, Traffic, assert_all_answered, patient, said, sandwich};

/// The engine's own file as a table to change.
fn file(rig: &Rig, side: Side) -> toml::Table {
    let text = fs::read_to_string(rig.lab.configuration_file(side)).expect("the laboratory wrote it");
    text.parse().expect("it is TOML")
}

/// Writes another file beside the engine's own, and returns its path.
fn write(rig: &Rig, side: Side, name: &str, table: &toml::Table) -> String {
    let path = rig.lab.directory().join(format!("{}-{name}.toml", side.engine()));
    fs::write(&path, table.to_string()).expect("the laboratory's directory is ours");
    path.to_string_lossy().into_owned()
}

fn group(table: &mut toml::Table) -> &mut toml::Table {
    table["group"].as_array_mut().expect("groups")[0].as_table_mut().expect("a group")
}

fn firewalls(table: &mut toml::Table) -> &mut Vec<toml::Value> {
    group(table)["firewall"].as_array_mut().expect("firewalls")
}

/// A configuration for the same network with other weights, order, check and timeouts.
fn other(mut table: toml::Table) -> toml::Table {
    let all = firewalls(&mut table);
    all.reverse();
    for (weight, firewall) in (2i64..).zip(all) {
        firewall.as_table_mut().expect("a firewall").insert("weight".into(), weight.into());
    }
    let check = group(&mut table).entry("check").or_insert_with(|| toml::Table::new().into());
    check.as_table_mut().expect("a check").insert("rise".into(), 7.into());
    let mut timeouts = toml::Table::new();
    timeouts.insert("udp".into(), "6m".into());
    table.insert("timeouts".into(), timeouts.into());
    table
}

/// Traffic of both families that lasts, and short flows beside it.
fn busy(rig: &Rig, duration_ms: u64) -> Vec<Traffic> {
    let both = |host| rig.topology().server(host).both();
    let lasting = ["tcp", "udp"].into_iter().flat_map(|protocol| {
        both(1).map(|to| {
            format!("{protocol} {to} --flows 10 --interval-ms 20 --duration-ms {duration_ms} --patience-ms 4000")
        })
    });
    let words: Vec<String> = lasting.collect();
    words.iter().map(|words| rig.start(Station::Client, words)).collect()
}

fn reload(rig: &Rig, side: Side, words: &[&str]) -> String {
    let output = rig.fwlb(side, &[&["reload"], words].concat());
    assert!(output.status.success(), "reload {words:?}: {}", said(&output));
    said(&output)
}

fn moved(rig: &Rig) -> Vec<(String, u64)> {
    let names = ["pin_reselected", "pin_followed", "pin_rotated", "sessions_failed", "asymmetric"];
    Side::BOTH
        .iter()
        .flat_map(|side| names.map(|name| (format!("{} {name}", side.engine()), rig.counter(*side, name))))
        .collect()
}

#[test]
fn a_hundred_reloads_under_traffic_lose_no_session_and_move_no_pin() {
    sandwich(
        |base| patient(Topology { firewalls: 3, ..base }),
        |rig| {
            let paths = Side::BOTH.map(|side| {
                let own = file(rig, side);
                [write(rig, side, "a", &own), write(rig, side, "b", &other(own))]
            });
            let traffic = busy(rig, 14_000);
            sleep(Duration::from_millis(1_500));
            let before = sessions(&rig.lab).unwrap();
            assert!(before.len() >= 40, "{} sessions", before.len());
            let pins_moved = moved(rig);

            let mut changed = 0;
            let mut short = Vec::new();
            for number in 0..100usize {
                // The order is a b b a a b b a ...: every other file is the one in force.
                let which = number.div_ceil(2) % 2;
                for (side, paths) in Side::BOTH.iter().zip(&paths) {
                    let said = reload(rig, *side, &[&paths[which]]);
                    changed += usize::from(!said.contains("nothing has changed"));
                }
                if number % 10 == 0 {
                    let to = rig.topology().server(1).both()[0].to_string();
                    let words = format!("tcp {to} --flows 4 --interval-ms 20 --duration-ms 500 --patience-ms 4000");
                    short.push(rig.start(Station::Client, &words));
                }
            }
            assert_eq!(changed, 100, "half of 200 reloads were of another file");

            let after = sessions(&rig.lab).unwrap();
            for (flow, firewall) in &before {
                assert_eq!(after.get(flow), Some(firewall), "{flow:?}");
            }
            for traffic in traffic.into_iter().chain(short) {
                assert_all_answered(&traffic.flows());
            }
            assert_eq!(moved(rig), pins_moved);
            rig.assert_firewalls_dropped_nothing();
        },
    );
}

#[test]
fn a_bad_file_under_traffic_changes_nothing_and_tells_every_mistake() {
    sandwich(patient, |rig| {
        let mut bad = file(rig, Side::Outer);
        firewalls(&mut bad)[0].as_table_mut().unwrap().insert("weight".into(), 0.into());
        bad["engine"].as_table_mut().unwrap().insert("wrokers".into(), 1.into());
        let bad = write(rig, Side::Outer, "bad", &bad);
        let mut restart = file(rig, Side::Outer);
        restart["engine"].as_table_mut().unwrap().insert("workers".into(), 2.into());
        let restart = write(rig, Side::Outer, "restart", &restart);
        let traffic = busy(rig, 3_000);
        sleep(Duration::from_millis(800));
        let status = |rig: &Rig| rig.json(Side::Outer, &["--json", "show", "status"])["config_digest"].clone();
        let (before, digest) = (sessions(&rig.lab).unwrap(), status(rig));

        for (path, mistakes) in [
            (&bad, ["weight", "wrokers"].as_slice()),
            (&restart, &["`workers` of [engine] cannot change while the engine runs: 1 -> 2"]),
        ] {
            let output = rig.fwlb(Side::Outer, &["reload", path]);
            assert_eq!(output.status.code(), Some(1));
            for mistake in mistakes {
                assert!(said(&output).contains(mistake), "{mistake}: {}", said(&output));
            }
            assert!(said(&output).contains(&format!("{path}:")), "{}", said(&output));
        }
        let plan = rig.fwlb(Side::Outer, &["plan", &restart]);
        assert_eq!(plan.status.code(), Some(1));
        assert!(said(&plan).contains("engine: workers 1 -> 2"), "{}", said(&plan));

        assert_eq!(status(rig), digest);
        let after = sessions(&rig.lab).unwrap();
        assert!(before.iter().all(|(flow, firewall)| after.get(flow) == Some(firewall)));
        traffic.into_iter().for_each(|traffic| assert_all_answered(&traffic.flows()));
        rig.assert_firewalls_dropped_nothing();
    });
}

#[test]
fn what_the_plan_says_of_a_removed_firewall_is_what_its_removal_does() {
    sandwich(
        |base| patient(Topology { firewalls: 3, kind: fwlb::lab::FirewallKind::Loose, ..base }),
        |rig| {
            let paths = Side::BOTH.map(|side| {
                let mut without = file(rig, side);
                firewalls(&mut without).retain(|firewall| firewall["name"].as_str() != Some("fw2"));
                write(rig, side, "without", &without)
            });
            let traffic = busy(rig, 6_000);
            sleep(Duration::from_millis(1_500));
            let before = sessions(&rig.lab).unwrap();
            let on_fw2 = before.values().filter(|firewall| *firewall == "fw2").count() as u64;
            assert!(on_fw2 > 0, "{before:?}");

            let plan = rig.json(Side::Outer, &["--json", "plan", &paths[0]]);
            let told: u64 = plan["moves"].as_array().unwrap().iter().map(|way| way["sessions"].as_u64().unwrap()).sum();
            assert_eq!((plan["moved"].as_u64(), plan["healthy_moved"].as_u64()), (Some(told), Some(0)), "{plan:#}");
            let reselected = rig.counter(Side::Outer, "pin_reselected");
            // At the same time: while one engine still uses a firewall that the other no longer knows, packets are lost, and a
            // flow that waits for answers tries the next firewall.
            let rig = &*rig;
            std::thread::scope(|scope| {
                for (side, path) in Side::BOTH.iter().zip(&paths) {
                    scope.spawn(move || reload(rig, *side, &[path]));
                }
            });
            sleep(Duration::from_millis(1_500));

            assert_eq!(told, on_fw2, "{plan:#}");
            // An engine learns from packets that its peer has moved a flow. Counters distinguish this from a move of
            // its own.
            let after = sessions(&rig.lab).unwrap();
            let mut to: BTreeMap<String, u64> = BTreeMap::new();
            for (flow, firewall) in &before {
                let is = after.get(flow).unwrap_or_else(|| panic!("{flow:?} was lost"));
                if is != firewall {
                    assert_eq!(firewall, "fw2", "{flow:?} of a healthy firewall moved to {is}");
                    *to.entry(format!("perimeter/{is}")).or_default() += 1;
                }
            }
            let planned = plan["moves"].as_array().unwrap().iter();
            let planned: BTreeMap<String, u64> = planned
                .map(|way| (way["to"].as_str().unwrap().to_owned(), way["sessions"].as_u64().unwrap()))
                .collect();
            assert_eq!(to, planned);
            assert!(rig.counter(Side::Outer, "pin_reselected") >= reselected);
            drop(traffic.into_iter().map(Traffic::flows).collect::<Vec<_>>());
        },
    );
}

#[test]
fn a_link_that_is_added_and_removed_is_the_engines_and_then_the_kernels_again() {
    sandwich(patient, |rig| {
        let device = format!("x{:x}", std::process::id() & 0xffff);
        let router = Station::Outer;
        rig.exec(router, &["ip", "link", "add", &device, "type", "veth", "peer", "name", &format!("{device}p")]);
        rig.exec(router, &["ip", "link", "set", &device, "up"]);
        rig.exec(router, &["ip", "link", "set", &format!("{device}p"), "up"]);
        let mut more = file(rig, Side::Outer);
        let link: toml::Table =
            format!("name = \"more\"\ndevice = \"{device}\"\naddresses = [\"10.99.0.1/24\"]").parse().unwrap();
        more["link"].as_array_mut().unwrap().push(link.into());
        let more = write(rig, Side::Outer, "more", &more);
        let traffic = busy(rig, 3_000);
        let links = |rig: &Rig| {
            let links = rig.json(Side::Outer, &["--json", "show", "links"]);
            let names = links.as_array().unwrap().iter().map(|link| link["name"].as_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        let before = links(rig);

        reload(rig, Side::Outer, &[&more]);
        assert_eq!(links(rig), [before.clone(), vec!["more".to_owned()]].concat());
        let row = &rig.json(Side::Outer, &["--json", "show", "links"])[before.len()];
        assert_eq!(row["state"], "up", "{row}");
        let said = reload(rig, Side::Outer, &[]);
        assert!(said.contains("link more: removed"), "{said}");
        assert_eq!(links(rig), before);

        traffic.into_iter().for_each(|traffic| assert_all_answered(&traffic.flows()));
        rig.assert_firewalls_dropped_nothing();
    });
}
