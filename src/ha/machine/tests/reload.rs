//! New configurations: nodes and links that move, come and go in the file.

use super::*;

/// Node `me` of three, whose nodes stand in this order.
fn ordered(me: &str, order: &[u8]) -> HaConfig {
    let config = node(3, 0);
    let nodes: Vec<_> = order.iter().map(|index| config.nodes[usize::from(*index)].clone()).collect();
    let me = nodes.iter().position(|node| node.name == me).expect("it is one of them");
    HaConfig { me: NodeId(me as u8), nodes, ..config }
}

/// Node `outer-c`, which follows `outer-a`.
fn third() -> Bench {
    let mut bench = Bench::with(ordered("outer-c", &[0, 1, 2]));
    bench.pass_hearing(ms(300), 0, &Hello { term: 1, last_active: 1, ..says(3, 0, Role::Active) });
    bench.hear(1, &says(3, 1, Role::Standby));
    assert_eq!(bench.role(), Role::Standby);
    bench
}

impl Bench {
    fn reload(&mut self, config: HaConfig) {
        let out = self.machine.set_config(config, self.now);
        self.take(out);
    }
}

#[test]
fn nodes_are_known_by_name_wherever_they_stand() {
    let mut bench = third();
    bench.reload(ordered("outer-c", &[2, 1, 0]));
    let view = bench.machine.status(bench.now);
    assert_eq!(view.history[0].reason, "outer-a is active");
    let heard: Vec<_> =
        view.nodes.iter().map(|node| (node.name.as_str(), node.role.as_ref().map(|role| role.name()))).collect();
    assert_eq!(heard, [("outer-b", Some("standby")), ("outer-a", Some("active"))]);

    bench.pass(ms(80));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(80));
    assert_eq!(bench.role(), Role::Active, "outer-b, which was before it, fell silent too");
    assert!(matches!(bench.last_reason(), Reason::Silence(Some(NodeId(2)), _)), "{:?}", bench.last_reason());
}

#[test]
fn an_active_node_that_the_file_has_no_more_had_the_role_until_now() {
    let mut bench = third();
    bench.pass(ms(20));
    bench.reload(ordered("outer-c", &[1, 2]));
    assert_eq!(bench.machine.status(bench.now).history[0].reason, "a former node is active");
    bench.pass(ms(85));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(100));
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn a_successor_that_the_file_has_no_more_takes_nothing() {
    let mut bench = Bench::with(ordered("outer-a", &[0, 1, 2]));
    for other in [1, 2, 1] {
        bench.hear(other, &says(3, other, Role::Standby));
        bench.pass(ms(10));
    }
    bench.pass(ms(3100));
    bench.hear(1, &Hello { term: 1, ..says(3, 1, Role::Standby) });
    let order = Order::Failover { to: Some(NodeId(1)), force: false, by: OrderedBy::default() };
    let out = bench.machine.handle_order(order, bench.now).expect("it is heard");
    bench.take(out);
    assert_eq!(bench.role(), Role::Leaving);
    bench.reload(ordered("outer-a", &[2, 0]));
    assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::NotTaken));
}

#[test]
fn links_are_known_by_name_wherever_they_stand() {
    let mut bench = following();
    bench.hear_on(&[Path::Leg(LegId(1))], 0, &leader());
    let mut config = node(2, 1);
    config.legs.swap(0, 1);
    bench.pass(ms(10));
    bench.reload(config.clone());
    let paths = |bench: &Bench| {
        let heard = bench.machine.status(bench.now).nodes.remove(0).heard;
        heard.into_iter().map(|heard| (heard.path, heard.age_ms)).collect::<Vec<_>>()
    };
    assert!(paths(&bench).contains(&("firewalls".to_owned(), 10)), "{:?}", paths(&bench));
    config.legs.remove(0);
    bench.reload(config);
    assert!(paths(&bench).iter().all(|(path, _)| path != "firewalls" && path != "?"), "{:?}", paths(&bench));
    assert_eq!(bench.role(), Role::Standby);
}

/// What the engine saw of itself has the old numbers until it says it anew.
#[test]
fn what_is_known_of_links_and_nodes_moves_with_them() {
    let mut bench = third();
    let address = |text: &str| text.parse().expect("an address");
    let sync = SyncState {
        lacking: vec![NodeId(0)],
        alarms: vec![(AlarmKind::SyncBehind, NodeId(0), "late".to_owned())],
        ..SyncState::default()
    };
    let link_local = vec![Some(address("fe80::a")), Some(address("fe80::b"))];
    bench.health(Health { carrier: vec![true, false], link_local, sync, ..Health::default() });
    let lost = |bench: &Bench| {
        let view = bench.machine.status(bench.now);
        view.deductions.into_iter().map(|one| (one.subject, one.detail)).collect::<Vec<_>>()
    };
    let behind = |bench: &Bench| {
        let alarms = bench.machine.alarms(bench.now).into_iter().map(|(alarm, ..)| (alarm.kind, alarm.subject));
        alarms.filter(|(kind, _)| *kind == AlarmKind::SyncBehind).map(|(_, subject)| subject).collect::<Vec<_>>()
    };
    let no_carrier = [("firewalls".to_owned(), "no carrier".to_owned())];
    assert_eq!((lost(&bench), behind(&bench)), (no_carrier.to_vec(), vec!["outer-a".to_owned()]));

    let mut config = ordered("outer-c", &[2, 0]);
    config.legs.remove(0);
    let mut added = config.legs[0].clone();
    added.name = "dmz".to_owned();
    config.legs.insert(0, added);
    bench.reload(config.clone());
    assert_eq!((lost(&bench), behind(&bench)), (no_carrier.to_vec(), vec!["outer-a".to_owned()]));
    assert_eq!(bench.machine.health.link_local, [None, Some(address("fe80::b"))]);
    assert_eq!(bench.machine.health.sync.lacking, [NodeId(1)]);

    config.legs.remove(1);
    config.nodes.truncate(1);
    bench.reload(config);
    assert_eq!((lost(&bench), behind(&bench)), (vec![], vec![]));
    assert!(bench.machine.health.sync.lacking.is_empty());
}

/// A router of VRRP alone was heard on a link that is gone: it is as silent as one that died, and not longer.
#[test]
fn a_router_whose_link_is_gone_is_silent_from_now_on() {
    let mut config = node(2, 0);
    config.nodes[1].kind = NodeKind::Vrrp;
    let mut bench = Bench::with(config.clone());
    for _ in 0..10 {
        assert_eq!(bench.advertise(1, 3, 250), crate::ha::Advertised::Router);
        bench.pass(ms(30));
    }
    assert_eq!(bench.role(), Role::Standby);
    config.legs.remove(1);
    bench.reload(config);
    bench.pass(ms(80));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(60));
    assert_eq!(bench.role(), Role::Active);
}
