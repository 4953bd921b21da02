//! Firewalls whose address is claimed for another MAC address: by themselves after a failover, or by an unknown
//! station.

use super::sandwich::{OUTER, Sandwich, firewall_mac};
use crate::engine::view::AlarmKind;
use crate::id::{FirewallId, LinkId};
use crate::time::Duration;
use crate::wire::{MacAddr, arp};

const SECOND: Duration = Duration::from_secs(1);

fn started() -> Sandwich {
    let mut sandwich = Sandwich::new(2);
    sandwich.run(SECOND);
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
    sandwich
}

#[test]
fn a_firewall_that_takes_another_mac_is_learned_when_it_is_silent_at_the_old_one_and_told() {
    let mut sandwich = started();
    let new = MacAddr([2, 0, 0, 7, 7, 7]);
    let address = "10.1.0.11".parse().unwrap();
    let link = LinkId(0);
    sandwich.firewalls[0].answers = false;
    sandwich.deliver(OUTER, arp::announcement(new, address));
    sandwich.run(Duration::from_millis(170));
    assert_eq!(sandwich.engines[OUTER].snapshot().firewall_at(link, new), None, "the old one is being asked");
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
    sandwich.run(Duration::from_millis(20));

    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!(snapshot.firewall_at(link, new), Some(FirewallId(0)));
    assert_eq!(snapshot.neighbor(link, address.into()), Some(new));
}

#[test]
fn a_stranger_who_claims_the_address_of_a_firewall_is_told_and_gets_nothing() {
    let mut sandwich = started();
    let stranger = MacAddr([2, 0, 0, 7, 7, 7]);
    let address = "10.1.0.11".parse().unwrap();
    let missed = sandwich.counter(OUTER, "probes_missed");
    for _ in 0..20 {
        sandwich.deliver(OUTER, arp::announcement(stranger, address));
        sandwich.run(Duration::from_millis(300));
    }
    let link = LinkId(0);
    let snapshot = sandwich.engines[OUTER].snapshot();
    assert_eq!(snapshot.firewall_at(link, stranger), None);
    assert_eq!(snapshot.neighbor(link, address.into()), Some(firewall_mac(OUTER, 0)));
    assert_eq!(sandwich.states(OUTER), ["up", "up"]);
    assert_eq!(sandwich.counter(OUTER, "probes_missed"), missed);
    assert_eq!(sandwich.counter(OUTER, "neighbor_claims_refused"), 20);
    let alarms = |sandwich: &Sandwich| sandwich.engines[OUTER].alarms(sandwich.now);
    let told =
        alarms(&sandwich).into_iter().find(|alarm| alarm.kind == AlarmKind::NeighborClaimed).expect("it is told");
    assert_eq!(told.subject.split(' ').next_back(), Some("10.1.0.11"));
    assert!(told.reason.contains("of firewall perimeter/fw1 is claimed by 02:00:00:07:07:07"), "{}", told.reason);
    sandwich.run(80 * SECOND);
    assert!(alarms(&sandwich).is_empty(), "nobody claims it any more: {:?}", alarms(&sandwich));
}
