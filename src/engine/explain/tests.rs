use std::sync::Arc;

use super::*;
use crate::engine::route::FibEntry;
use crate::engine::testbed::{self, PuntList, Side, engine_mac, firewall_mac, host_mac};
use crate::engine::{Batch, Forwarder, Packet, SharedRole, Verdict};
use crate::flow::text;
use crate::ha::{Forwarding, Role, RoleWord};
use crate::id::{DeviceId, FirewallId};
use crate::session::SourceLimits;
use crate::wire::emit::{self, AddressPair, MacPair};
use crate::wire::offload::Offload;

struct Lab {
    side: Side,
    snapshot: Snapshot,
    sessions: Arc<SessionTable>,
    forwarder: Forwarder,
}

impl Lab {
    fn new(side: Side) -> Self {
        let (sessions, mut workers) = testbed::forwarders(1, 64);
        let (forwarder, _) = workers.remove(0);
        Self { side, snapshot: testbed::snapshot(side, 4), sessions, forwarder }
    }

    fn explain(&self, flow: &str, from: Option<ArrivalPoint>) -> ExplainView {
        let flow = text::parse(flow).unwrap();
        explain("outer", &self.snapshot, &self.sessions, &flow, from, Instant::from_millis(5_000))
    }

    /// Forwards a UDP datagram of the flow, and returns the firewall that it was sent to.
    fn forward(&mut self, flow: &str, firewall: Option<u16>) -> Option<String> {
        let flow = text::parse(flow).unwrap();
        let (device, source) = match firewall {
            Some(number) => (self.side.far(), firewall_mac(self.side, number)),
            None => (self.side.near(), host_mac(self.side)),
        };
        let macs = MacPair { source, destination: engine_mac(self.side, device) };
        let pair = AddressPair::new(flow.source.address, flow.destination.address).unwrap();
        let mut bytes = emit::udp(macs, pair, flow.source.port, flow.destination.port, b"data");
        let mut batch = Batch::new();
        batch.packets.push(Packet {
            device: DeviceId(device),
            vlan: None,
            offload: Offload::NONE,
            bytes: &mut bytes,
            verdict: None,
        });
        self.forwarder.process(&mut batch, &self.snapshot, &mut PuntList::default(), Instant::from_millis(5_000));
        assert!(matches!(batch.packets[0].verdict, Some(Verdict::Forward(_))));
        drop(batch);
        (0..4).find(|&number| bytes[..6] == firewall_mac(self.side, number).0).map(|number| format!("fw{}", number + 1))
    }
}

const FLOWS: [[&str; 2]; 2] = [
    ["udp 198.51.100.7:4000 203.0.113.80:53", "udp 203.0.113.80:53 198.51.100.7:4000"],
    ["udp [2001:db8:1::7]:4000 [2001:db8:113::50]:53", "udp [2001:db8:113::50]:53 [2001:db8:1::7]:4000"],
];

#[test]
fn a_firewall_that_the_route_names_goes_before_the_hash_and_the_words_say_so() {
    for [flow, _] in FLOWS {
        let mut lab = Lab::new(Side::Outer);
        let hashed = lab.explain(flow, None).firewall.unwrap();
        let toward = text::parse(flow).unwrap().destination.address;
        let Some(FibEntry::Group { set, bypass, .. }) = lab.snapshot.routes.lookup(toward) else { panic!("no group") };
        let wish = (0..4).find(|number| format!("fw{}", number + 1) != hashed).unwrap();
        let named = FibEntry::Group { set, preferred: Some(FirewallId(wish)), bypass };
        lab.snapshot.routes.insert(toward.into(), named);

        let told = lab.explain(flow, None);

        let name = format!("fw{}", wish + 1);
        assert_eq!((told.decided_by.name(), told.firewall.as_deref()), ("route", Some(name.as_str())));
        assert!(told.story.iter().any(|line| line.starts_with("The route names this firewall")), "{:?}", told.story);
        assert_eq!(lab.forward(flow, None), Some(name), "it is what happens");

        lab.snapshot.path_sets[set.index()].selectable &= !(1 << wish);
        let elsewhere = lab.explain(&flow.replace(":4000", ":4001"), None);
        assert_eq!(elsewhere.decided_by.name(), "hash");
        assert!(elsewhere.story.iter().any(|line| line.contains("takes no new flows now")), "{:?}", elsewhere.story);
    }
}

#[test]
fn what_is_explained_is_what_happens_and_explaining_stores_nothing() {
    for [flow, back] in FLOWS {
        let mut lab = Lab::new(Side::Outer);

        let told = lab.explain(flow, None);

        assert!(lab.sessions.is_empty());
        assert_eq!((told.decided_by.name(), told.from.as_str()), ("hash", "hosts"));
        assert_eq!(told.peer.as_deref(), Some("inner"));
        assert_eq!(told.firewall, lab.forward(flow, None));
        assert_eq!(Some(&told.candidates[0].name), told.firewall.as_ref(), "best first");
        assert!(told.candidates.is_sorted_by(|a, b| a.score >= b.score));
        assert_eq!(told.pins[0].toward.name(), "destination");
        assert_eq!(told.egress.as_ref().map(|egress| egress.link.as_str()), Some("firewalls"));

        let again = lab.explain(flow, None);
        assert_eq!((again.decided_by.name(), again.firewall), ("session", told.firewall.clone()));
        let reply = lab.explain(back, None);
        assert_eq!(reply.from, format!("perimeter/{}", told.firewall.unwrap()));
        assert_eq!((reply.decided_by.name(), reply.drop), ("session", None));
    }
}

#[test]
fn the_first_packet_from_a_firewall_is_learned() {
    for [flow, back] in FLOWS {
        let mut lab = Lab::new(Side::Inner);

        let told = lab.explain(flow, Some(ArrivalPoint::Firewall(FirewallId(2))));

        assert_eq!((told.decided_by.name(), told.firewall.as_deref()), ("learned", Some("fw3")));
        assert_eq!((told.pins[0].toward.name(), told.pins[0].pinned_by.name()), ("source", "learned"));
        lab.forward(flow, Some(2));
        let reply = lab.explain(back, None);
        assert_eq!((reply.decided_by.name(), reply.firewall.as_deref()), ("session", Some("fw3")));
        assert_eq!(reply.candidates.len(), 4);
    }
}

#[test]
fn a_source_at_its_limit_is_told_by_what_it_has() {
    for [flow, _] in FLOWS {
        let mut lab = Lab::new(Side::Outer);
        lab.snapshot.source_limits = SourceLimits { sessions: Some(1), rate: None };
        lab.forward(flow, None);
        assert_eq!(lab.explain(flow, None).drop, None, "it goes on");
        let told = lab.explain(&flow.replace(":4000", ":4001"), None);
        assert_eq!(told.drop.as_deref(), Some("drop_source_sessions"));
        assert!(
            told.story.iter().any(|sentence| sentence.ends_with("has 1 sessions; source-sessions is 1.")),
            "{told:?}"
        );

        lab.snapshot.source_limits = SourceLimits { sessions: None, rate: Some(1) };
        for _ in 0..3 {
            assert_eq!(lab.explain(&flow.replace(":4000", ":4001"), None).drop, None, "explaining counts nothing");
        }
    }
}

#[test]
fn a_node_that_is_not_active_tells_that_it_drops_and_what_it_would_do() {
    let lease = |forwarding, until| {
        let role = Arc::<SharedRole>::default();
        role.store(RoleWord { role: Role::Active, forwarding, until: Instant::from_millis(until) });
        Some(role)
    };
    for [flow, _] in FLOWS {
        let mut lab = Lab::new(Side::Outer);
        let alone = lab.explain(flow, None);
        for (role, drop, words) in [
            (lease(Forwarding::Silent, 0), "drop_standby", "This node is not the active one of its cluster."),
            (lease(Forwarding::Router, 5_000), "drop_lease", "This node was active until its lease ended"),
        ] {
            lab.snapshot.role = role;
            let told = lab.explain(flow, None);
            assert_eq!((told.decided_by.name(), told.drop.as_deref()), ("drop", Some(drop)));
            assert!(told.story.iter().any(|line| line.starts_with(words)), "{:?}", told.story);
            assert!(told.story.contains(&format!("It drops the packet and counts it as {drop}.")), "{:?}", told.story);
            assert_eq!(
                (&told.firewall, &told.egress),
                (&alone.firewall, &alone.egress),
                "as it would as the active node"
            );
            assert!(told.what_if.is_empty());
            let own = lab.explain("icmp 198.51.100.7 10.1.0.1 7", None);
            assert_eq!((own.decided_by.name(), own.drop), ("local", None), "it answers on its own addresses");
        }
        for role in [lease(Forwarding::Router, 5_001), lease(Forwarding::Lingering, 5_001)] {
            lab.snapshot.role = role;
            assert_eq!(lab.explain(flow, None), alone);
        }
    }
    let mut lab = Lab::new(Side::Outer);
    lab.snapshot.role = lease(Forwarding::Silent, 0);
    lab.snapshot.floating_addresses.insert("10.1.0.1".parse().unwrap(), ());
    let floating = lab.explain("icmp 198.51.100.7 10.1.0.1 7", None);
    assert_eq!(floating.drop.as_deref(), Some("drop_standby"), "a floating address is the active node's");
    let martian = lab.explain("udp 127.0.0.1:1 203.0.113.80:53", None);
    assert_eq!(martian.drop.as_deref(), Some("drop_martian_source"), "as the packet is judged first");
}

#[test]
fn the_default_origin_behind_a_group_is_the_firewall_of_the_hash() {
    for [flow, back] in FLOWS {
        let hashed = Lab::new(Side::Inner).explain(back, None).firewall.unwrap();
        let told = Lab::new(Side::Inner).explain(flow, None);
        assert_eq!((told.from, told.decided_by.name()), (format!("perimeter/{hashed}"), "learned"));
    }
}

#[test]
fn drops_routes_and_local_addresses_are_told_by_their_names() {
    let mut lab = Lab::new(Side::Outer);
    lab.snapshot.path_sets[0].up = 0;
    lab.snapshot.path_sets[0].selectable = 0;
    for (flow, from, decided_by, drop) in [
        ("udp 198.51.100.7:1 203.0.113.80:53", None, "drop", Some("drop_no_path_up")),
        (
            "udp 203.0.113.80:1 203.0.113.81:53",
            Some(ArrivalPoint::Firewall(FirewallId(0))),
            "drop",
            Some("drop_group_loop"),
        ),
        ("udp 127.0.0.1:1 203.0.113.80:53", None, "drop", Some("drop_martian_source")),
        ("udp 198.51.100.7:1 224.0.0.1:53", None, "drop", Some("drop_multicast")),
        ("udp 198.51.100.7:1 10.1.0.99:53", Some(ArrivalPoint::Link(LinkId(1))), "drop", Some("drop_unknown_firewall")),
        ("icmp 198.51.100.7 10.1.0.1 7", None, "local", None),
        ("udp 198.51.100.7:1 192.0.2.1:53", None, "route", None),
    ] {
        let told = lab.explain(flow, from);
        assert_eq!((told.decided_by.name(), told.drop.as_deref()), (decided_by, drop), "{flow}: {:?}", told.story);
        assert!(told.story.iter().all(|sentence| sentence.ends_with('.')));
    }
}
