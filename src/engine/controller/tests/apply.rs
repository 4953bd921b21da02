//! Another configuration while probes and checks run: what stays keeps everything, what was removed counts as failed.

use proptest::prelude::*;

use super::config;
use super::farm::{self, Behaviour, Farm};
use super::sandwich::{INNER, OUTER, Sandwich, text};
use crate::config::{AdminState, Config, InUse, ServiceCheckKind};
use crate::engine::controller::{Order, ServerChange};
use crate::engine::{Counters, Snapshot};
use crate::flow::FlowKey;
use crate::id::FirewallId;
use crate::slb::{Service, StickyBy};
use crate::time::Duration;
use crate::wire::Family;

const SEED: &str = "a secret of both";

/// The outer engine's file with these firewalls and weights, in this order.
fn with(firewalls: &[(usize, u16)], check: &str) -> String {
    let mut file = text(OUTER, 0, SEED, "", check, "5-tuple");
    for (n, weight) in firewalls {
        let host = 10 + n;
        file += &format!(
            r#"
            [[group.firewall]]
            name = "fw{n}"
            link = "firewalls"
            addresses = ["10.1.0.{host}", "fd00:1::{host}"]
            weight = {weight}
            "#
        );
    }
    file
}

/// A sandwich that has been up for a while.
fn settled(firewalls: usize) -> Sandwich {
    let mut sandwich = Sandwich::new(firewalls);
    sandwich.run(Duration::from_secs(5));
    assert!(sandwich.states(OUTER).iter().all(|state| state == "up"));
    sandwich
}

fn apply(sandwich: &mut Sandwich, file: &str, in_use: Option<&InUse>) {
    let now = sandwich.now;
    sandwich.engines[OUTER].apply(config(file), in_use, now).expect("there are numbers");
    sandwich.drain(OUTER);
}

/// For each firewall of the file its name, whether it is up toward every peer, and its failure count.
fn standing(snapshot: &Snapshot, config: &Config) -> Vec<(String, bool, u32)> {
    let set = &snapshot.path_sets[snapshot.all_peers_path_set(config.firewalls[0].group, Family::V4).unwrap().index()];
    let members = snapshot.groups[set.group.index()].members.iter().enumerate();
    members.map(|(slot, member)| (member.name.clone(), set.is_up(slot), set.failure_count(slot))).collect()
}

#[test]
fn a_changed_weight_leaves_every_verdict_age_and_neighbour_as_it_was() {
    let mut sandwich = settled(2);
    let before = sandwich.engines[OUTER].firewalls(&Counters::default(), sandwich.now);
    let neighbors = sandwich.engines[OUTER].neighbors(sandwich.now);
    let events = sandwich.events.len();

    for weights in [[1, 3], [7, 1], [1, 1]] {
        apply(&mut sandwich, &with(&[(1, weights[0]), (2, weights[1])], ""), None);
        let after = sandwich.engines[OUTER].firewalls(&Counters::default(), sandwich.now);
        assert_eq!(after.iter().map(|one| one.weight).collect::<Vec<_>>(), weights);
        for (was, is) in before.iter().zip(&after) {
            assert_eq!((&was.state, was.since_ms, &was.checks), (&is.state, is.since_ms, &is.checks));
        }
        assert_eq!(sandwich.engines[OUTER].neighbors(sandwich.now), neighbors);
    }
    sandwich.run(Duration::from_secs(3));
    assert_eq!(sandwich.events.len(), events, "nothing happened: {:?}", &sandwich.events[events..]);
}

#[test]
fn another_check_and_another_address_keep_the_verdict() {
    let mut sandwich = settled(2);
    apply(&mut sandwich, &with(&[(1, 1), (2, 1)], "interval = \"20ms\"\nfall = 9\nrise = 2"), None);
    sandwich.run(Duration::from_secs(2));
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);

    // fw2 moves to an address where nobody answers: it keeps its verdict until its probes say otherwise.
    apply(&mut sandwich, &with(&[(1, 1), (2, 1)], "").replace("10.1.0.12", "10.1.0.99"), None);
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
    sandwich.run(Duration::from_secs(2));
    assert_eq!(sandwich.states(OUTER), ["up", "degraded"]);
}

#[test]
fn a_link_that_is_added_without_its_device_cuts_off_its_own_firewall_alone() {
    let mut sandwich = settled(2);
    let both = [(1, 1), (2, 1)];
    let more = with(&both, "")
        + r#"
        [[group.firewall]]
        name = "fw3"
        link = "more"
        addresses = ["10.99.0.13", "fd00:99::13"]

        [[link]]
        name = "more"
        device = "eth9"
        addresses = ["10.99.0.1/24", "fd00:99::1/64"]
        "#;

    apply(&mut sandwich, &more, None);

    assert_eq!(sandwich.states(OUTER)[..2], ["up", "up"]);
    assert_eq!(sandwich.firewall(OUTER, 2).reason.as_deref(), Some("link more is down"));
    sandwich.run(Duration::from_secs(3));
    assert_eq!(sandwich.states(OUTER)[..2], ["up", "up"]);
    apply(&mut sandwich, &with(&both, ""), None);
    sandwich.run(Duration::from_secs(1));
    assert_eq!(sandwich.states(OUTER)[..2], ["up", "up"]);
}

#[test]
fn a_firewall_that_goes_and_comes_back_has_fallen_once_and_starts_anew() {
    let mut sandwich = settled(3);
    apply(&mut sandwich, &with(&[(1, 1), (3, 1)], ""), None);
    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!(
        standing(&snapshot, sandwich.engines[OUTER].config()),
        [("fw1".into(), true, 0), ("fw3".into(), true, 0)]
    );
    assert_eq!(snapshot.firewalls[1].name, "fw2 (removed)");
    assert_eq!(sandwich.states(OUTER), ["up", "up"], "it is not shown");

    apply(&mut sandwich, &with(&[(2, 1), (1, 1), (3, 1)], ""), Some(&InUse::default()));
    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!(snapshot.firewalls[1].name, "fw2", "it has its number again");
    assert_eq!(standing(&snapshot, sandwich.engines[OUTER].config())[0], ("fw2".into(), false, 1));
    sandwich.run(Duration::from_secs(5));
    assert_eq!(sandwich.states(OUTER), ["up", "up", "up"]);
}

#[test]
fn a_number_that_another_firewall_gets_is_told_to_the_workers() {
    let mut sandwich = settled(3);
    apply(&mut sandwich, &with(&[(1, 1), (3, 1)], ""), None);
    apply(&mut sandwich, &with(&[(1, 1), (3, 1), (4, 1)], ""), Some(&InUse::default()));
    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!((snapshot.firewalls[1].name.as_str(), snapshot.generation), ("fw4", 2));
    assert_eq!(snapshot.reused_ids.firewalls.get(&FirewallId(1)), Some(&2));

    let mut counters = Counters::default();
    counters.firewall(FirewallId(0)).packets = 5;
    counters.firewall(FirewallId(1)).packets = 7;
    counters.reset_reused_ids(snapshot.generation, &snapshot.reused_ids);
    assert_eq!((counters.firewalls[0].packets, counters.firewalls[1].packets), (5, 0));
}

#[test]
fn a_peer_that_is_added_does_not_take_the_others_down_and_counts_when_it_is_up() {
    let mut sandwich = settled(2);
    let file = with(&[(1, 1), (2, 1)], "");
    let both = file.replace(
        "[group.check]",
        "[[group.peer]]\nname = \"dmz\"\naddresses = [\"10.2.0.9\", \"fd00:2::9\"]\n[group.check]",
    );
    apply(&mut sandwich, &both, None);
    sandwich.run(Duration::from_secs(3));
    let snapshot = sandwich.engines[OUTER].snapshot();
    let up: Vec<_> =
        standing(&snapshot, sandwich.engines[OUTER].config()).into_iter().map(|(_, up, falls)| (up, falls)).collect();
    assert_eq!(up, [(true, 0), (true, 0)], "nobody answers at the new peer, and nothing has fallen");

    apply(&mut sandwich, &file, None);
    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!(standing(&snapshot, sandwich.engines[OUTER].config())[0], ("fw1".into(), true, 0));
}

#[test]
fn overrides_of_what_stays_hold_over_reloads_and_those_of_what_went_do_not() {
    let mut sandwich = settled(2);
    for name in ["fw1", "fw2"] {
        let now = sandwich.now;
        sandwich.engines[OUTER].set_admin(None, name, Some(AdminState::Drain), &Order::default(), now).unwrap();
        sandwich.drain(OUTER);
    }
    apply(&mut sandwich, &with(&[(1, 5)], ""), None);
    apply(&mut sandwich, &with(&[(1, 5), (2, 1)], ""), None);

    let subjects: Vec<String> = sandwich.engines[OUTER].overrides().into_iter().map(|set| set.subject).collect();
    assert_eq!(subjects, ["perimeter/fw1"]);
    assert_eq!(sandwich.states(OUTER)[0], "drain");
}

#[test]
fn alarms_about_what_went_go_with_it() {
    let mut sandwich = settled(2);
    sandwich.cut([false, false]);
    sandwich.run(Duration::from_secs(3));
    assert_eq!(sandwich.alarms(OUTER), ["peer_lost"]);

    let other = with(&[(1, 1), (2, 1)], "").replace("name = \"inner\"", "name = \"other\"");
    apply(&mut sandwich, &other, None);
    assert!(!sandwich.alarms(OUTER).contains(&"peer_lost".to_owned()), "{:?}", sandwich.alarms(OUTER));
    assert_eq!(sandwich.alarms(INNER), ["peer_lost"]);
}

#[test]
fn servers_keep_health_turn_stickiness_and_overrides_from_a_to_b_to_a() {
    let sticky = Some(StickyBy { prefix: 32, prefix6: 128, timeout: Duration::from_secs(600) });
    let mut a = farm::web(3, farm::check(ServiceCheckKind::Tcp));
    a.services[0].sticky = sticky;
    let mut b = a.clone();
    b.servers[0].weight = 9;
    b.services[0].drain_timeout = Some(Duration::from_secs(5));
    b.services[0].check.fall = 5;
    let mut farm = Farm::new(a.clone());
    farm.behave(2, Behaviour::Refuses);
    farm.wait(Duration::from_secs(5));
    farm.controller
        .set_server("web", "s2", ServerChange::Weight(Some(4)), &Order::default(), farm.now)
        .expect("there is such a server");
    let client = |n: u8| FlowKey {
        protocol: 6,
        source: crate::flow::Endpoint { address: [198, 51, 100, n].into(), port: 40_000 },
        destination: crate::flow::Endpoint { address: farm::VIP.into(), port: 80 },
    };
    let now = farm.now;
    let chosen = |service: &Service, n: u8| service.choose_server(&client(n), now).map(|server| server.name.clone());
    let service = |farm: &Farm| farm.controller.snapshot().services.all()[0].clone();
    let first = chosen(&service(&farm), 1);
    let ahead = |farm: &Farm| service(farm).preview_server(&client(200), now).map(|server| server.name.clone());
    let next = ahead(&farm);
    let since = |farm: &Farm| farm.controller.services(&Counters::default(), farm.now)[0].servers.clone();
    let before = since(&farm);

    for config in [&b, &a, &b, &a] {
        farm.controller.apply(config.clone(), None, farm.now).unwrap();
        let after = since(&farm);
        for (was, is) in before.iter().zip(&after) {
            assert_eq!((&was.state, was.since_ms, &was.reason), (&is.state, is.since_ms, &is.reason));
        }
        assert_eq!(chosen(&service(&farm), 1), first, "a sticky client keeps its server");
    }
    assert_eq!(since(&farm)[1].weight, 4, "what was set holds");
    assert_eq!(ahead(&farm), next, "the turn goes on where it was");
    farm.wait(Duration::from_secs(5));
    assert_eq!(since(&farm).iter().map(|one| one.state.name()).collect::<Vec<_>>(), ["up", "up", "down"]);
}

#[test]
fn a_removed_server_has_fallen_and_its_service_remembers_it_for_its_sessions() {
    let a = farm::web(2, farm::check(ServiceCheckKind::Tcp));
    let mut b = farm::web(1, farm::check(ServiceCheckKind::Tcp));
    b.servers[0].weight = 2;
    let mut farm = Farm::new(a);
    farm.wait(Duration::from_secs(3));
    let falls = farm.controller.snapshot().services.all()[0].servers[1].failure_counts;

    farm.controller.apply(b, None, farm.now).unwrap();

    let snapshot = farm.controller.snapshot();
    let service = &snapshot.services.all()[0];
    let (_, removed) = snapshot.services.server(service.id, crate::id::ServerId(1)).expect("sessions know it");
    assert!(removed.is_removed && removed.up == [false; 2] && removed.failure_counts[0] == falls[0] + 1);
    assert_eq!(farm.controller.services(&Counters::default(), farm.now)[0].servers.len(), 1, "it is not shown");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Whatever file follows whatever file: what stays is up and never failed, what was removed is remembered, what was
    /// added is starting, and the rehearsal predicts what the forwarders see afterwards.
    #[test]
    fn any_file_after_any_other_leaves_the_state_that_the_rules_say(
        chain in prop::collection::vec(
            (prop::sample::subsequence(vec![1usize, 2, 3, 4], 1..=4), prop::collection::vec(1u16..9, 4), any::<bool>()),
            1..5,
        ),
    ) {
        let mut sandwich = settled(4);
        let mut present: Vec<usize> = vec![1, 2, 3, 4];
        for (mut firewalls, weights, reverse) in chain {
            if reverse {
                firewalls.reverse();
            }
            let list: Vec<(usize, u16)> = firewalls.iter().map(|n| (*n, weights[n - 1])).collect();
            let file = with(&list, "");
            let nothing = InUse::default();
            let rehearsed = sandwich.engines[OUTER].rehearse(config(&file), Some(&nothing), sandwich.now).unwrap();
            apply(&mut sandwich, &file, Some(&nothing));
            let snapshot = sandwich.engines[OUTER].snapshot();

            prop_assert_eq!(&rehearsed.path_sets, &snapshot.path_sets);
            prop_assert_eq!(&rehearsed.firewalls, &snapshot.firewalls);
            let members = |snapshot: &Snapshot| snapshot.groups[0].members.clone();
            prop_assert_eq!(members(&rehearsed), members(&snapshot));
            let standing = standing(&snapshot, sandwich.engines[OUTER].config());
            for ((name, up, _), (n, _)) in standing.iter().zip(&list) {
                prop_assert_eq!(name, &format!("fw{n}"));
                prop_assert_eq!(*up, present.contains(n), "{} after {:?}", name, &present);
            }
            sandwich.run(Duration::from_secs(5));
            prop_assert!(sandwich.states(OUTER).iter().all(|state| state == "up"), "{:?}", sandwich.states(OUTER));
            present = firewalls;
        }
    }
}
