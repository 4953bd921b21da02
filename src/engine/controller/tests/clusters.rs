//! Several engines behind one peer address: what each of them says is kept apart, and only the active one's counts.

use super::config;
use super::paths::SECOND;
use super::sandwich::{OUTER, Sandwich, engine_mac, firewall_mac, text};
use crate::config::Config;
use crate::engine::controller::group_digests;
use crate::engine::view::{PeerEngineView, PeerView};
use crate::time::Duration;
use crate::wire::emit::{AddressPair, MacPair};
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::probe::{
    ClusterReport, FirewallReport, NodeReport, Probe, ReportedPathState, ReportedRole, WireAdminState,
};

/// The outer engine with firewalls in front of it, and what engines behind them say in probes that a test writes.
struct Far {
    sandwich: Sandwich,
    config: Config,
    sequence: u64,
}

impl Far {
    /// The real inner engine only answers probes, and sends none.
    fn new(peer: &str) -> Self {
        let line = "addresses = [\"10.2.0.1\", \"fd00:2::1\"]";
        let outer = text(OUTER, 2, "a secret of both", "", "", "5-tuple").replace(line, &format!("{line}\n{peer}"));
        let inner = text(1 - OUTER, 2, "a secret of both", "", "kind = \"none\"", "5-tuple");
        let config = config(&outer);
        let sandwich = super::paths::up(Sandwich::of([outer, inner], 2));
        Self { sandwich, config, sequence: 1 << 32 }
    }

    /// A probe of an engine that says all firewalls are up.
    fn probe(&mut self, engine: &str, epoch: u64) -> Probe {
        let group = &self.config.groups[0];
        let told = |id: &crate::id::FirewallId| FirewallReport {
            name: group.seed.digest(self.config.firewalls[id.index()].name.as_bytes()),
            verdict: ReportedPathState::Up,
            admin: WireAdminState::Ready,
        };
        self.sequence += 1;
        Probe {
            epoch,
            sequence: self.sequence,
            nonce: 1,
            digest: group_digests(&self.config)[0],
            engine: engine.to_owned(),
            version: "1.2.3".to_owned(),
            group: group.name.clone(),
            firewalls: group.firewalls.iter().map(told).collect(),
            cluster: None,
            supports_notes: true,
            notes: Vec::new(),
        }
    }

    /// The probe reaches the outer engine through fw1.
    fn say(&mut self, probe: &Probe) {
        self.say_from("10.2.0.1", probe);
    }

    fn say_from(&mut self, address: &str, probe: &Probe) {
        let seed = self.config.groups[0].seed;
        let payload = probe.encode(|bytes| seed.digest(bytes));
        let macs = MacPair { source: firewall_mac(OUTER, 0), destination: engine_mac(OUTER) };
        let pair = AddressPair::new(address.parse().unwrap(), "10.1.0.1".parse().unwrap()).unwrap();
        let echo = Echo { kind: EchoKind::Request, ident: 1, sequence: 1, data: &payload };
        self.sandwich.deliver(OUTER, echo.frame(macs, pair));
        self.sandwich.run(Duration::from_millis(1));
    }

    /// A node in this role orders fw2 into this state.
    fn order(&mut self, node: (&str, ReportedRole, u32), admin: WireAdminState) {
        let (engine, role, term) = node;
        let mut probe = self.probe(engine, u64::from(engine.len() as u32) + u64::from(engine.as_bytes()[6]));
        probe.firewalls[1].admin = admin;
        probe.cluster = Some(ClusterReport { role, term, priority: 200, vrid: 61, nodes: Vec::new() });
        self.say(&probe);
    }

    fn states(&self) -> Vec<String> {
        self.sandwich.states(OUTER)
    }

    fn peer(&self) -> PeerView {
        self.sandwich.peer(OUTER)
    }

    fn engine(&self, name: &str) -> PeerEngineView {
        let engines = self.peer().engines;
        engines.iter().find(|one| one.name == name).cloned().unwrap_or_else(|| panic!("no {name} in {engines:?}"))
    }
}

#[test]
fn engines_behind_one_address_do_not_make_each_others_probes_replays() {
    let mut far = Far::new("");
    for _ in 0..10 {
        for (engine, epoch) in [("inner-a", 5), ("inner-b", 6)] {
            let probe = far.probe(engine, epoch);
            far.say(&probe);
        }
    }
    assert_eq!(far.sandwich.counter(OUTER, "probes_replayed"), 0);

    let old = far.probe("inner-a", 4);
    let before = far.probe("inner-a", 5);
    let restarted = far.probe("inner-a", 7);
    far.say(&restarted);
    far.say(&before);
    far.say(&restarted);
    assert_eq!(far.sandwich.counter(OUTER, "probes_replayed"), 2, "a start that is over, and the same bytes again");
    far.say(&old);
    assert_eq!(far.engine("inner-a").heard_ms, Some(1));
}

#[test]
fn only_the_active_node_with_the_highest_term_is_believed() {
    use ReportedRole::{Active, Standby};
    use WireAdminState::{Maint, Ready};
    let mut far = Far::new("");
    far.order(("inner-a", Active, 3), Ready);
    assert_eq!(far.states(), ["up", "up"]);
    far.order(("inner-b", Standby, 2), Maint);
    far.order(("inner-b", Active, 2), Maint);
    assert_eq!(far.states(), ["up", "up"], "neither a standby nor one that does not know yet that it lost");
    assert_eq!(far.peer().peer_engine.as_deref(), Some("inner-a"));

    far.order(("inner-b", Active, 4), Maint);
    assert_eq!(far.states(), ["up", "maint"], "a new active node's first probe counts");
    far.order(("inner-a", Active, 3), Ready);
    assert_eq!((far.states()[1].as_str(), far.peer().peer_engine.as_deref()), ("maint", Some("inner-b")));

    // The last active one's words stand for a second when nobody is.
    far.order(("inner-b", Standby, 4), Ready);
    far.order(("inner-a", Standby, 3), Ready);
    assert_eq!(far.states()[1], "maint");
    far.sandwich.run(SECOND);
    assert_eq!(far.states()[1], "up");
    far.order(("inner-a", Active, 1), Maint);
    assert_eq!(far.states()[1], "maint", "who was heard long ago is in nobody's way");
}

#[test]
fn engines_that_are_named_are_shown_before_they_are_heard_and_known_by_their_own_addresses() {
    let mut far = Far::new(
        "engines = [{ name = \"inner-a\", addresses = [\"10.2.0.2\"] }, { name = \"inner-b\", addresses = [\"10.2.0.3\"] }]",
    );
    let names: Vec<_> = far.peer().engines.into_iter().map(|one| one.name).collect();
    assert_eq!(names[..2], ["inner-a", "inner-b"]);
    assert_eq!(far.engine("inner-b").heard_ms, None);

    let mut probe = far.probe("inner-b", 6);
    probe.cluster =
        Some(ClusterReport { role: ReportedRole::Standby, term: 2, priority: 190, vrid: 61, nodes: Vec::new() });
    far.say_from("10.2.0.3", &probe);
    let shown = far.engine("inner-b");
    assert_eq!(
        (shown.role.as_ref().map(|role| role.name()), shown.term, shown.priority),
        (Some("standby"), Some(2), Some(190))
    );
    assert_eq!((shown.version.as_deref(), shown.heard_ms, shown.digest.name()), (Some("1.2.3"), Some(1), "same"));
}

#[test]
fn one_engine_of_several_with_another_configuration_is_told_by_name_until_it_has_the_same() {
    let mut far = Far::new("");
    let (a, mut b) = (far.probe("inner-a", 5), far.probe("inner-b", 6));
    b.digest += 1;
    far.say(&a);
    far.say(&b);
    let again = far.probe("inner-a", 5);
    far.say(&again);
    let now = far.sandwich.now;
    let alarms = far.sandwich.engines[OUTER].alarms(now);
    let differs = alarms.iter().find(|alarm| alarm.kind.name() == "digest_differs").expect("the alarm stands");
    assert_eq!(differs.reason, "inner-b: its firewalls, weights, spares or hash are others");
    assert_eq!((far.engine("inner-a").digest.name(), far.engine("inner-b").digest.name()), ("same", "differs"));

    let mut repaired = far.probe("inner-b", 6);
    repaired.digest = a.digest;
    far.say(&repaired);
    assert!(!far.sandwich.alarms(OUTER).contains(&"digest_differs".to_owned()));
}

#[test]
fn the_number_of_engines_behind_an_address_is_bounded_and_named_ones_stay() {
    let mut far = Far::new("engines = [{ name = \"inner-a\" }]");
    for number in 0..40 {
        let probe = far.probe(&format!("stranger-{number}"), 7);
        far.say(&probe);
        far.sandwich.run(SECOND);
    }
    let engines = far.peer().engines;
    assert_eq!((engines.len(), engines[0].name.as_str()), (8, "inner-a"));
    assert!(engines.iter().any(|one| one.name == "stranger-39"));
}

#[test]
fn a_node_says_what_it_is_and_which_nodes_of_the_far_cluster_it_hears() {
    let mut far = Far::new("");
    let seed = far.config.groups[0].seed;
    let mut told = far.probe("inner-b", 6);
    told.cluster =
        Some(ClusterReport { role: ReportedRole::Active, term: 9, priority: 77, vrid: 61, nodes: Vec::new() });
    far.say(&told);

    let role = crate::engine::ClusterRole { role: ReportedRole::Standby, term: 3, priority: 190 };
    far.sandwich.engines[OUTER].set_cluster_role(Some(role));
    far.sandwich.record = Some(Vec::new());
    far.sandwich.run(Duration::from_millis(60));
    let frames = far.sandwich.record.take().unwrap();
    let decode = |frame: &Vec<u8>| {
        let at = frame.windows(4).position(|window| window == b"fwlb")?;
        Probe::decode(&frame[at..], |bytes| seed.digest(bytes)).ok()
    };
    let said: Vec<_> = frames.iter().filter_map(decode).filter_map(|probe| probe.cluster).collect();
    assert!(!said.is_empty(), "probes say the role");
    for cluster in said {
        assert_eq!((cluster.role, cluster.term, cluster.priority), (ReportedRole::Standby, 3, 190));
        let heard = NodeReport {
            name: seed.digest(b"inner-b"),
            role: ReportedRole::Active,
            term: 9,
            priority: 77,
            heard_ms: cluster.nodes[0].heard_ms,
        };
        assert_eq!(cluster.nodes, [heard]);
        assert!(heard.heard_ms <= 65);
    }
}
