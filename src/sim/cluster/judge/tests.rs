//! Every rule is broken on purpose, and the judge says so.

use super::*;
use crate::engine::Verdict;
use crate::id::LinkId;
use crate::sim::packet::{ETHERTYPE_IPV4, ethernet, tcp_flag};
use crate::time::Duration;

const NOW: Instant = Instant::from_millis(10_000);

fn tuple() -> Tuple {
    Tuple {
        protocol: 6,
        source: ("198.51.100.10".parse().unwrap(), 20_000),
        destination: ("203.0.113.10".parse().unwrap(), 7),
    }
}

fn judge(service: Option<usize>) -> FlowJudge {
    let mut judge = FlowJudge::new(SandwichPlan { firewalls: 3, ..SandwichPlan::default() });
    judge.opened(FlowRef { host: 0, number: 0 }, tuple(), service, NOW);
    judge
}

fn segment() -> Packet {
    Packet::tcp(tuple().source, tuple().destination, tcp_flag::ACK, 1, 1, b"data")
}

fn frame_to(destination: MacAddr, packet: &Packet) -> CableFrame {
    CableFrame::new(ethernet(destination, MacAddr([2; 6]), ETHERTYPE_IPV4, &packet.emit()))
}

fn goes_to(judge: &mut FlowJudge, firewall: usize, now: Instant) {
    let mac = firewall_mac(firewall, FirewallLeg::Outside);
    judge.sent(Side::Outer, FIREWALLS, &frame_to(mac, &segment()), now);
}

fn refusal(at: Instant) -> JudgedPacket {
    let (leg, refusal) = (FirewallLeg::Outside, Some(Refusal::Invalid));
    JudgedPacket { at, leg, tuple: tuple(), original: None, translated: None, flags: None, error: false, refusal }
}

#[test]
fn a_flow_that_takes_a_second_firewall_is_found() {
    let mut judge = judge(None);
    goes_to(&mut judge, 0, NOW);
    goes_to(&mut judge, 0, NOW);
    assert!(judge.violations().is_empty());
    goes_to(&mut judge, 1, NOW);
    assert_eq!(judge.violations().len(), 1, "{:?}", judge.violations());
}

#[test]
fn a_takeover_is_no_excuse_but_a_firewall_that_was_down_is() {
    let later = NOW + Duration::from_secs(1);
    let mut at_home = judge(None);
    goes_to(&mut at_home, 0, NOW);
    at_home.shaken(Side::Outer, later);
    goes_to(&mut at_home, 1, later);
    assert_eq!(at_home.violations().len(), 1);

    let mut moved = judge(None);
    goes_to(&mut moved, 0, NOW);
    moved.causes.begin(0, "is dead", later);
    goes_to(&mut moved, 1, later);
    assert_eq!(moved.violations().len(), 0, "{:?}", moved.violations());
}

#[test]
fn a_packet_that_its_firewall_does_not_know_is_found() {
    let mut judge = judge(None);
    goes_to(&mut judge, 0, NOW);
    judge.passed(0, &JudgedPacket { refusal: None, ..refusal(NOW) });
    assert!(judge.violations().is_empty());
    judge.passed(0, &refusal(NOW));
    assert_eq!(judge.violations().len(), 1);

    let mut judge = self::judge(None);
    goes_to(&mut judge, 0, NOW);
    judge.lost(tuple(), NOW);
    judge.passed(0, &refusal(NOW));
    assert!(judge.violations().is_empty(), "the ends are out of step");
}

#[test]
fn a_frame_to_nobody_and_a_changed_packet_are_found() {
    let mut leaks = judge(None);
    leaks.sent(Side::Outer, FIREWALLS, &frame_to(MacAddr([4; 6]), &segment()), NOW);
    assert_eq!(leaks.violations().len(), 1);

    let changes = |service, ttl, tos| {
        let mut judge = judge(service);
        let (before, after) = (segment(), Packet { ttl: segment().ttl - ttl, tos, ..segment() });
        let [before, after] = [before, after].map(|packet| frame_to(MacAddr([4; 6]), &packet));
        let (verdict, snapshot) = (Verdict::Forward(LinkId(1)), std::sync::Arc::default());
        judge.handled(&HandledFrame { link: LinkId(0), before, after, vlan: None, verdict, snapshot }, NOW);
        judge.violations().len()
    };
    assert_eq!([changes(None, 1, 0), changes(None, 2, 0), changes(None, 1, 4)], [0, 1, 1]);
    assert_eq!(changes(Some(0), 1, 4), 0, "packets of services are translated");
}

#[test]
fn a_flow_that_moves_for_ever_is_found() {
    let mut judge = judge(None);
    (0..20).for_each(|turn| goes_to(&mut judge, turn % 2, NOW));
    let before = judge.violations().len();
    judge.moves(NOW);
    assert_eq!(judge.violations().len(), before + 1);
}
