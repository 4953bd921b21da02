//! Beside nodes that speak VRRP alone, and before engines have associated (RFC 9568 section 6.4).

use std::net::IpAddr;

use super::*;
use crate::ha::Advertised;
use crate::wire::MacAddr;
use crate::wire::emit::AddressPair;
use crate::wire::vrrp::{Advertisement, GROUP_V4, Received, Version, skew_time};

/// The machine of node 0, priority 200, beside a keepalived with priority `theirs`.
fn beside(preempt: Option<Duration>) -> Bench {
    let mut config = HaConfig { preempt, lease: Lease::Always, ..config(2) };
    config.nodes[1].kind = NodeKind::Vrrp;
    Bench::with(config)
}

fn received(leg: u16, host: u8, priority: u8) -> Received {
    let net = [[198, 51, 100], [10, 1, 0]][usize::from(leg)];
    let address = |host| std::net::Ipv4Addr::new(net[0], net[1], net[2], host);
    Received {
        advertisement: Advertisement {
            version: Version::V3,
            vrid: 51,
            priority,
            interval: ms(30),
            addresses: vec![IpAddr::V4(address(1))],
        },
        source_mac: MacAddr([0, 0, 0x5e, 0, 1, 51]),
        pair: AddressPair::V4(address(host), GROUP_V4),
        checksum: ChecksumForm::MessageAlone,
    }
}

impl Bench {
    pub(super) fn advertise(&mut self, leg: u16, host: u8, priority: u8) -> Advertised {
        let (out, what) = self.machine.handle_advertisement(LegId(leg), &received(leg, host, priority), self.now);
        self.take(out);
        what
    }

    fn pass_advertised(&mut self, time: Duration, legs: &[u16], priority: u8) {
        let end = self.now + time;
        while self.now < end {
            for leg in legs {
                self.advertise(*leg, 3, priority);
            }
            self.pass(ms(30).min(end.since(self.now)));
        }
    }
}

#[test]
fn a_backup_follows_a_router_of_higher_priority_and_replaces_it_when_all_links_are_silent() {
    let mut bench = beside(None);
    bench.pass_advertised(ms(300), &[0, 1], 250);
    assert_eq!((bench.role(), bench.last_reason()), (Role::Standby, &Reason::ActiveHeard(NodeId(1))));
    bench.pass_advertised(ms(3000), &[1], 250);
    assert_eq!(bench.role(), Role::Standby, "one link is enough");
    bench.pass(ms(100));
    assert_eq!(bench.role(), Role::Active);
    assert!(matches!(bench.last_reason(), Reason::Silence(Some(NodeId(1)), _)));
}

/// Section 6.4.2: "If the Priority is zero: set the Active_Down_Timer to Skew_Time".
#[test]
fn priority_0_is_followed_after_the_skew_time() {
    let mut bench = beside(None);
    bench.pass_advertised(ms(300), &[0, 1], 250);
    bench.advertise(0, 3, 0);
    bench.advertise(1, 3, 0);
    bench.pass(skew_time(200, ms(30)) - ms(1));
    assert_eq!(bench.role(), Role::Standby);
    bench.pass(ms(1));
    assert_eq!((bench.role(), bench.last_reason()), (Role::Active, &Reason::Stopped(NodeId(1))));
}

/// A word that a router stops is the last word of it only until another node is heard.
#[test]
fn who_was_heard_after_a_router_stopped_is_silent_only_for_who_hears_somebody() {
    let mut config = config(3);
    config.nodes[1].kind = NodeKind::Vrrp;
    let mut bench = Bench::with(config);
    bench.pass_advertised(ms(300), &[0, 1], 250);
    bench.advertise(0, 3, 0);
    bench.advertise(1, 3, 0);
    let leader = Hello { term: 1, last_active: 1, ..says(3, 2, Role::Active) };
    bench.pass_hearing(ms(3000), 2, &leader);
    assert_eq!(bench.role(), Role::Standby);
    bench.answering = 0;
    bench.pass(ms(3000));
    assert_eq!(bench.role(), Role::Standby, "it is cut off");
    bench.answering = 1;
    bench.pass(ms(60));
    assert_eq!(bench.role(), Role::Active);
    assert!(matches!(bench.last_reason(), Reason::Silence(Some(NodeId(2)), _)), "{:?}", bench.last_reason());
}

/// Of a router of VRRP alone nobody knows whether it lives, but it is there if it answers: the role moves without a
/// moment in which nobody has it (section 6.4.2, Preempt_Mode).
#[test]
fn an_active_node_at_fault_lets_a_router_have_the_role_and_keeps_it_where_there_is_none() {
    let ill = Health { faults: vec![Fault::Worker], ..Health::default() };
    let mut bench = beside(None);
    bench.pass(ms(3100));
    bench.health(ill.clone());
    bench.pass(ms(5000));
    assert_eq!((bench.role(), bench.advertised.last()), (Role::Active, Some(&1)), "nobody took it");
    assert_eq!(bench.machine.status(bench.now).priority, 1);
    bench.advertise(0, 3, 100);
    assert_eq!((bench.role(), bench.machine.role_word().forwarding), (Role::Fault, Forwarding::Silent));
    assert!(bench.machine.status(bench.now).history.iter().any(|change| change.reason.contains("outer-b is active")));
    bench.health(Health::default());
    bench.pass_advertised(ms(3000), &[0, 1], 100);
    assert_eq!((bench.role(), bench.machine.priority()), (Role::Standby, 200), "it does not come back by itself");

    let mut bench = beside(None);
    bench.pass(ms(3100));
    bench.health(ill);
    bench.health(Health::default());
    bench.pass(ms(30));
    assert_eq!((bench.role(), bench.advertised.last()), (Role::Active, Some(&200)));
}

/// Section 6.4.2: a router of lower priority is left alone unless Preempt_Mode is true.
#[test]
fn a_router_of_lower_priority_is_replaced_only_where_preemption_is_on() {
    for (preempt, role) in [(None, Role::Standby), (Some(ms(1000)), Role::Active)] {
        let mut bench = beside(preempt);
        bench.pass_advertised(ms(900), &[0, 1], 100);
        assert_eq!(bench.role(), Role::Standby);
        bench.pass_advertised(ms(1000), &[0, 1], 100);
        assert_eq!(bench.role(), role);
    }
}

/// Section 6.4.3: a higher priority wins, then the greater address; whoever is worse is answered at once.
#[test]
fn an_active_node_yields_to_priority_and_address_alone() {
    let cases = [
        (3, 250, Role::Standby, "a higher priority"),
        (3, 200, Role::Standby, "an equal one at the greater address"),
        (3, 199, Role::Active, "a lower one"),
        (3, 0, Role::Active, "one that stops"),
    ];
    for (host, priority, role, why) in cases {
        let mut bench = beside(None);
        bench.pass(ms(3100));
        assert_eq!(bench.role(), Role::Active);
        let (announced, advertised) = (bench.announced, bench.advertised.len());
        bench.advertise(0, host, priority);
        assert_eq!(bench.role(), role, "{why}");
        if role == Role::Active {
            assert_eq!(bench.advertised.len(), advertised + 1, "answered at once: {why}");
            assert_eq!(bench.announced, announced + 1, "{why}");
        }
    }
}

#[test]
fn a_failover_to_a_router_begins_with_priority_0_and_is_followed() {
    let mut bench = beside(None);
    bench.pass(ms(3100));
    let order = Order::Failover { to: Some(NodeId(1)), force: false, by: OrderedBy::default() };
    let out = bench.machine.handle_order(order, bench.now).expect("accepted");
    assert_eq!(out.advertise.map(|said| said.priority), Some(0));
    bench.take(out);
    bench.pass(ms(20));
    bench.pass_advertised(ms(300), &[0, 1], 100);
    assert_eq!(bench.role(), Role::Standby);
}

#[test]
fn what_is_no_business_of_this_cluster_changes_nothing_and_has_a_name() {
    let mut bench = beside(None);
    bench.pass(ms(3100));
    let (moves, mut other) = (bench.moves.len(), received(0, 3, 250));
    other.advertisement.vrid = 99;
    let (_, what) = bench.machine.handle_advertisement(LegId(0), &other, bench.now);
    assert_eq!(what, Advertised::OtherVrid);
    assert_eq!(bench.advertise(0, 2, 250), Advertised::Own);
    assert_eq!(bench.advertise(0, 99, 250), Advertised::Stranger);
    let (_, what) = bench.machine.handle_advertisement(LegId(77), &received(0, 3, 250), bench.now);
    assert_eq!(what, Advertised::OtherVrid);
    assert_eq!((bench.role(), bench.moves.len()), (Role::Active, moves));
    bench.pass(ms(30));
    assert!(bench.alarms().contains(&AlarmKind::VridClash));
    bench.pass(ms(10_100));
    assert!(!bench.alarms().contains(&AlarmKind::VridClash));
}

#[test]
fn another_list_of_addresses_is_reported_and_the_router_is_believed() {
    let mut bench = beside(None);
    let mut said = received(0, 3, 250);
    said.advertisement.addresses.push("198.51.100.7".parse().expect("an address"));
    let (out, what) = bench.machine.handle_advertisement(LegId(0), &said, bench.now);
    bench.take(out);
    assert_eq!((what, bench.role()), (Advertised::OtherAddresses, Role::Standby));
}

#[test]
fn advertisements_are_answered_in_the_form_of_checksum_that_was_heard() {
    use crate::wire::Family::V4;
    let mut bench = beside(None);
    assert_eq!(bench.machine.checksum_form(LegId(0), V4), ChecksumForm::PseudoHeader);
    bench.advertise(0, 3, 100);
    assert_eq!(bench.machine.checksum_form(LegId(0), V4), ChecksumForm::MessageAlone);
    assert_eq!(bench.machine.checksum_form(LegId(1), V4), ChecksumForm::PseudoHeader);
}

#[test]
fn engines_believe_advertisements_of_each_other_only_until_hellos_are_opened() {
    let mut bench = Bench::new(2, 0);
    bench.pass_advertised(ms(300), &[0, 1], 190);
    assert_eq!(bench.role(), Role::Standby, "it does not know better");
    bench.pass_advertised(ms(1000), &[0, 1], 190);
    assert_eq!((bench.role(), bench.alarms()), (Role::Standby, vec![AlarmKind::SyncLost]));

    let mut bench = active();
    let moves = bench.moves.len();
    bench.pass_advertised(ms(60), &[0, 1], 255);
    assert_eq!(bench.advertise(0, 3, 255), Advertised::Node);
    bench.advertise(0, 3, 0);
    assert_eq!((bench.role(), bench.moves.len()), (Role::Active, moves), "a forged one changes nothing");
}

/// Over IPv6 a router speaks from its link-local address, which no file has (RFC 9568 section 5.1.2.2).
mod ipv6 {
    use super::*;
    use crate::wire::vrrp::GROUP_V6;

    const ROUTER: &str = "fe80::b";

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// As [`beside`], with IPv6 alone and the own link-local address fe80::a.
    fn beside_v6(kinds: &[NodeKind]) -> Bench {
        let mut config = HaConfig { lease: Lease::Always, ..config(1 + kinds.len() as u8) };
        for (node, kind) in config.nodes[1..].iter_mut().zip(kinds) {
            node.kind = *kind;
        }
        for (index, leg) in config.legs.iter_mut().enumerate() {
            leg.own = vec![address(&format!("2001:db8:{index}::2"))];
            leg.floating = vec![address("fe80::9568:51"), address(&format!("2001:db8:{index}::1"))];
        }
        let mut bench = Bench::with(config);
        bench.health(Health { link_local: vec![Some(address("fe80::a")); 2], ..Health::default() });
        bench
    }

    fn hear(bench: &mut Bench, source: &str, priority: u8) -> Advertised {
        let IpAddr::V6(source) = address(source) else { panic!("IPv6") };
        let addresses = bench.machine.config().legs[0].floating.clone();
        let advertisement = Advertisement { version: Version::V3, vrid: 51, priority, interval: ms(30), addresses };
        let said = Received {
            advertisement,
            source_mac: MacAddr([0, 0, 0x5e, 0, 2, 51]),
            pair: AddressPair::V6(source, GROUP_V6),
            checksum: ChecksumForm::PseudoHeader,
        };
        let (out, what) = bench.machine.handle_advertisement(LegId(0), &said, bench.now);
        bench.take(out);
        what
    }

    #[test]
    fn a_router_is_followed_and_replaced_by_its_link_local_address() {
        let mut bench = beside_v6(&[NodeKind::Vrrp]);
        for _ in 0..10 {
            assert_eq!(hear(&mut bench, ROUTER, 250), Advertised::Router);
            bench.pass(ms(30));
        }
        assert_eq!((bench.role(), bench.last_reason()), (Role::Standby, &Reason::ActiveHeard(NodeId(1))));
        bench.pass(ms(100));
        assert_eq!(bench.role(), Role::Active);
        assert!(matches!(bench.last_reason(), Reason::Silence(Some(NodeId(1)), _)));

        assert_eq!(hear(&mut bench, "fe80::a", 255), Advertised::Own, "its own, which came back");
        assert_eq!(bench.role(), Role::Active);
        assert_eq!(hear(&mut bench, "fe80::9", 200), Advertised::Router);
        assert_eq!(bench.role(), Role::Active, "of equal priorities the greater link-local address wins");
        hear(&mut bench, ROUTER, 200);
        assert_eq!((bench.role(), bench.last_reason()), (Role::Standby, &Reason::BetterClaim(NodeId(1))));
    }

    #[test]
    fn of_several_routers_the_one_with_the_priority_is_meant_and_stays_meant() {
        let mut bench = beside_v6(&[NodeKind::Vrrp, NodeKind::Vrrp]);
        hear(&mut bench, ROUTER, 180);
        assert_eq!(bench.last_reason(), &Reason::ActiveHeard(NodeId(2)));
        for priority in [190, 7] {
            hear(&mut bench, ROUTER, priority);
            let shown = bench.machine.status(bench.now).nodes;
            assert_eq!((shown[0].heard.len(), shown[1].heard.len(), shown[1].priority), (0, 1, priority));
        }
    }

    #[test]
    fn what_an_active_node_of_this_program_advertises_is_no_other_router() {
        let mut bench = beside_v6(&[NodeKind::Fwlb, NodeKind::Vrrp]);
        bench.hear(1, &Hello { term: 1, last_active: 1, ..says(3, 1, Role::Active) });
        assert_eq!(hear(&mut bench, ROUTER, 250), Advertised::Node);
        assert_eq!(bench.last_reason(), &Reason::ActiveHeard(NodeId(1)));
        let mut alone = beside_v6(&[NodeKind::Fwlb]);
        assert_eq!(hear(&mut alone, ROUTER, 250), Advertised::Node, "nor is there any router of VRRP alone");
    }
}
