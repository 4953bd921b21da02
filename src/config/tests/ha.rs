//! Tests of `[ha]`, `[[ha.node]]`, and the keys of links that go with them.

use std::net::IpAddr;

use super::testing::PAIR;
use super::*;
use crate::ha::{Lease, LegId, NodeId, NodeKind, VrrpVersion};

const KEY: &str = "a key of 32 bytes, made for tests";
/// The address for synchronisation of the second node.
const SYNC: &str = "sync = \"10.255.0.2\"";

/// `PAIR` with `from` (which must be there) replaced by `to`.
fn pair(from: &str, to: &str) -> String {
    assert!(PAIR.contains(from), "{from:?} is not in the file");
    PAIR.replacen(from, to, 1)
}

#[test]
fn a_pair_means_what_it_says() {
    let outcome = load_text(PAIR);
    assert_eq!(outcome.diagnostics.to_string(), "");
    let config = outcome.config.unwrap();
    let ha = config.ha.as_ref().unwrap();
    assert_eq!((ha.vrid, ha.me, ha.margin, ha.preempt), (51, NodeId(0), 10, None));
    assert_eq!((ha.advertise, ha.start_delay), (Duration::from_millis(30), Duration::from_secs(3)));
    assert_eq!((ha.damping, ha.linger), (Duration::from_millis(250), Duration::from_millis(50)));
    assert_eq!((ha.version, ha.mac, ha.lease), (VrrpVersion::V3, FloatingMac::Virtual, Lease::Auto));
    let nodes: Vec<_> = ha.nodes.iter().map(|node| (node.name.as_str(), node.priority, node.kind)).collect();
    assert_eq!(nodes, [("outer-a", 200, NodeKind::Fwlb), ("outer-b", 190, NodeKind::Fwlb)]);
    let floating: Vec<_> = config.links[0].floating.iter().map(IpAddr::to_string).collect();
    assert_eq!(floating, ["198.51.100.1", "fe80::9568:51", "2001:db8:1::1"], "IPv6 has a link-local address first");
    assert!(config.links[0].track && !config.links[0].unicast);
    assert_eq!(testing::config("[engine]\nname = \"x\"\n[[link]]\nname = \"a\"\ndevice = \"eth0\"\n").ha, None);
}

#[test]
fn a_link_local_floating_address_that_is_given_is_the_first_of_its_family() {
    let text = pair("\"2001:db8:1::1\"]", "\"2001:db8:1::1\", \"fe80::1\"]");
    let floating: Vec<_> = testing::config(&text).links[0].floating.iter().map(IpAddr::to_string).collect();
    assert_eq!(floating, ["198.51.100.1", "fe80::1", "2001:db8:1::1"]);
}

#[test]
fn the_role_machine_is_configured_by_both_sections() {
    let text = pair("device = \"eth1\"", "device = \"eth1\"\nvrid = 52\ntrack = false\nunicast = true");
    let machine = testing::config(&text).role_machine("1.2.3").unwrap();
    assert_eq!(machine.my_node().name, "outer-a");
    assert_eq!(machine.node_at("10.1.0.3".parse().unwrap()), Some(NodeId(1)));
    assert_eq!(machine.leg_of(LinkId(1)), Some(LegId(1)));
    let legs: Vec<_> = machine
        .legs
        .iter()
        .map(|leg| (leg.name.as_str(), leg.vrid, leg.track, leg.unicast, leg.has_neighbors))
        .collect();
    assert_eq!(legs, [("internet", 51, true, false, true), ("firewalls", 52, false, true, true)]);
    assert_eq!([0, 1].map(|link| testing::config(&text).vrid(LinkId(link))), [Some(51), Some(52)]);
    let nodes: Vec<_> =
        testing::config(&text).unicast_nodes().iter().map(|(link, at)| format!("{link:?} {at}")).collect();
    assert_eq!(nodes, ["LinkId(1) 10.1.0.3", "LinkId(1) fd00:1::3"], "those that lie in its subnets");
    assert_eq!(machine.legs[1].virtual_mac(Family::V6).to_string(), "00:00:5e:00:02:34");
}

#[test]
fn files_of_two_nodes_have_equal_digests_and_what_differs_is_found_by_section() {
    let digests = |text: &str| testing::config(text).role_machine("1").unwrap().digests;
    let other = PAIR
        .replace("name = \"outer-a\"\n\n[ha]", "name = \"outer-b\"\n\n[ha]")
        .replace("198.51.100.2/24", "198.51.100.3/24")
        .replace("2001:db8:1::2/64", "2001:db8:1::3/64")
        .replace("10.1.0.2/24", "10.1.0.3/24")
        .replace("fd00:1::2/64", "fd00:1::3/64")
        .replace("eth0", "enp1s0");
    assert_eq!(digests(PAIR), digests(&other));

    let changes = [
        ("[[link]]", "[limits]\nsticky = 5\n[[link]]", "engine"),
        ("device = \"eth1\"", "device = \"eth1\"\ntrack = false", "link"),
        ("198.51.100.254", "198.51.100.253", "route"),
        ("a seed for the tests", "another seed for tests", "group"),
        ("[[link]]", "[timeouts]\nudp = \"7s\"\n[[link]]", "timeouts"),
        ("vrid = 51", "vrid = 51\nmargin = 20", "ha"),
        ("a key of 32 bytes", "a KEY of 32 bytes", "ha"),
    ];
    for (from, to, section) in changes {
        let (ours, theirs) = (digests(PAIR), digests(&pair(from, to)));
        let differ: Vec<_> = (0..8).filter(|index| ours[*index] != theirs[*index]).collect();
        let wanted = crate::ha::settings::SECTIONS.iter().position(|name| *name == section).unwrap();
        assert_eq!(differ, [wanted, 7], "{section}");
    }
}

#[test]
fn who_the_nodes_are_is_checked() {
    for (from, to, message) in [
        ("vrid = 51\n", "", "[ha] needs `vrid`"),
        ("vrid = 51", "vrid = 0", "`vrid` must be 1..=255, found 0"),
        ("[engine]\nname = \"outer-a\"", "[engine]\nname = \"outer-c\"", "no [[ha.node]] is called \"outer-c\""),
        ("name = \"outer-b\"", "name = \"outer-a\"", "node \"outer-a\" stands twice"),
        ("\"198.51.100.3\"", "\"198.51.100.2\"", "198.51.100.2 of a node stands twice"),
        ("\"198.51.100.3\", ", "", "node \"outer-b\" has no address in 198.51.100.0/24 of link \"internet\""),
        (
            "addresses = [\"198.51.100.2\", ",
            "addresses = [\"198.51.100.9\", ",
            "198.51.100.2 of link \"internet\" is not among the addresses of this node",
        ),
        ("name = \"outer-a\"\naddresses", "name = \"outer-a\"\nkind = \"vrrp\"\naddresses", "it is fwlb"),
        (SYNC, "sync = \"10.255.0.2\"\nkind = \"vrrp\"", "has nothing to synchronise"),
        (SYNC, "sync = \"10.1.0.3\"", "`sync` 10.1.0.3 is in a subnet of link \"firewalls\""),
    ] {
        refused(&pair(from, to), &[message]);
    }
    let equal = pair(SYNC, "priority = 200").replace("sync = \"10.255.0.1\"", "priority = 200");
    warned(&equal, &["two nodes have priority 200"]);
    let one = PAIR.split("[[ha.node]]").enumerate().filter(|(index, _)| *index != 2).map(|(_, part)| part);
    let one = one.collect::<Vec<_>>().join("[[ha.node]]");
    let links = &PAIR[PAIR.find("[[link]]").unwrap()..];
    warned(&format!("{one}{links}"), &["the cluster has one node"]);
    let many: String =
        (0..8).map(|node| format!("[[ha.node]]\nname = \"n{node}\"\naddresses = \"192.0.2.{node}9\"\n")).collect();
    refused(&pair("[[link]]", &format!("{many}[[link]]")), &["a cluster has at most 8 nodes"]);
}

#[test]
fn a_router_of_vrrp_alone_needs_no_key_and_makes_the_lease_hold_always() {
    let text = pair(SYNC, "kind = \"vrrp\"").replace(&format!("key = \"{KEY}\"\n"), "");
    let config = testing::config(&text);
    let ha = config.ha.unwrap();
    assert_eq!((ha.key, ha.lease, ha.nodes[1].kind), (None, Lease::Always, NodeKind::Vrrp));
    let text = text.replace("vrid = 51", "vrid = 51\nlease = \"auto\"");
    assert_eq!(testing::config(&text).ha.unwrap().lease, Lease::Auto);
}

#[test]
fn the_key_is_there_long_enough_and_never_shown() {
    refused(&pair(&format!("key = \"{KEY}\"\n"), ""), &["[ha] needs `key`"]);
    refused(&pair(KEY, "short"), &["the key has 5 bytes, it needs 32 or more"]);
    refused(&pair(KEY, "file:/etc/fwlb/ha.key"), &["cannot read /etc/fwlb/ha.key", "fwlb ha key > /etc/fwlb/ha.key"]);
    warned(&pair(KEY, "documentation key, replace it: fwlb ha key"), &["known to everybody"]);
    let config = testing::config(PAIR);
    assert!(!format!("{config:?}").contains("made for tests"));
    assert!(!running_config(&config, PAIR).contains("made for tests"));
}

#[test]
fn timers_fit_the_wire() {
    refused(&pair("vrid = 51", "vrid = 51\nadvertise = \"35ms\""), &["steps of 10 ms"]);
    refused(&pair("vrid = 51", "vrid = 51\nadvertise = \"41s\""), &["`advertise` must be 10ms to 40s950ms"]);
    warned(
        &pair("vrid = 51", "vrid = 51\nadvertise = \"10ms\""),
        &["a machine that is late for a moment loses the role"],
    );
    let old = pair("vrid = 51", "vrid = 51\nversion = 2\nadvertise = \"1s\"");
    refused(&old, &["version 2 of VRRP has no IPv6"]);
    let v4 = old
        .replace(", \"2001:db8:1::1\"]", "]")
        .replace(", \"fd00:1::1\"]", "]")
        .replace(", \"2001:db8:1::254\"]", "]")
        .replace(", \"fd00:1::11\"]", "]")
        .replace(", \"fd00:2::1\"]", "]")
        .replace(", \"2001:db8:113::/64\"]", "]");
    assert_eq!(testing::config(&v4).ha.unwrap().version, VrrpVersion::V2);
    refused(&v4.replace("advertise = \"1s\"", "advertise = \"1500ms\""), &["whole seconds only"]);
    warned(
        &pair("[[group.firewall]]", "[group.check]\ninterval = \"10ms\"\n[[group.firewall]]"),
        &["a takeover on the far side may last 120 ms"],
    );
}

#[test]
fn floating_addresses_are_beside_own_ones_in_their_subnets_and_nobody_elses() {
    for (address, message) in [
        ("10.9.0.1", "floating address 10.9.0.1 is in no subnet of link \"firewalls\""),
        ("10.1.0.2", "10.1.0.2 is the engine's own address on link \"firewalls\""),
        ("10.1.0.3", "10.1.0.3 is a floating address of link \"firewalls\""),
        ("10.1.0.11", "that is to be another station"),
        ("10.1.0.1\", \"10.1.0.1", "floating address 10.1.0.1 stands twice"),
    ] {
        refused(&pair("floating = [\"10.1.0.1\"", &format!("floating = [\"{address}\"")), &[message]);
    }
    refused(
        &pair("addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]", "addresses = \"10.1.0.2/24\""),
        &["no IPv6 address of its own beside the floating fd00:1::1"],
    );
    let many: Vec<_> = (1..100).map(|host| format!("\"fd00:1::f:{host}\"")).collect();
    refused(&pair("\"fd00:1::1\"]", &format!("{}]", many.join(", "))), &["at most 90 floating addresses"]);
}

#[test]
fn whoever_sends_to_the_engine_has_a_floating_address_to_send_to() {
    refused(
        &pair("floating = [\"10.1.0.1\", \"fd00:1::1\"]\n", ""),
        &["firewall 10.1.0.11 is on link \"firewalls\", which has no floating IPv4 address"],
    );
    refused(
        &pair("floating = [\"198.51.100.1\", \"2001:db8:1::1\"]", "floating = \"198.51.100.1\""),
        &["next hop 2001:db8:1::254 is on link \"internet\""],
    );
    let farm = |mode: &str| {
        format!(
            "{PAIR}[[link]]\nname = \"servers\"\ndevice = \"eth2\"\naddresses = \"10.10.20.2/24\"\n[[service]]\nname = \"web\"\naddress = \
             \"203.0.113.80\"\nprotocol = \"tcp\"\nport = 80\n{mode}\n[[service.server]]\nname = \"s1\"\naddress = \"10.10.20.11\"\n"
        )
    };
    warned(&farm(""), &["server 10.10.20.11 is on link \"servers\", which has no floating"]);
    refused(&farm("mode = \"full-nat\""), &["full-nat server 10.10.20.11"]);
    let snat = load_text(&farm("mode = \"full-nat\"\nsnat = \"10.10.20.240\""));
    assert!(!snat.diagnostics.to_string().contains("floating"), "{}", snat.diagnostics);
}

#[test]
fn a_link_with_unicast_needs_an_address_of_each_node() {
    let lonely = format!("{PAIR}[[link]]\nname = \"dmz\"\ndevice = \"eth2\"\naddresses = \"10.9.0.2/24\"\n");
    assert_eq!(load_text(&lonely).diagnostics.to_string(), "", "by multicast it needs none");
    let lonely = format!("{lonely}unicast = true\n");
    warned(&lonely, &["link \"dmz\" has unicast = true, and node \"outer-b\" has no address in its subnets"]);
    let listed = lonely.replace("\"10.1.0.3\",", "\"10.1.0.3\", \"10.9.0.3\",");
    assert_eq!(load_text(&listed).diagnostics.to_string(), "");
}

/// The file of the second node of [`PAIR`], with `from` replaced by `to`.
fn other_node(from: &str, to: &str) -> String {
    let other = PAIR
        .replacen("\"outer-a\"", "\"outer-b\"", 1)
        .replace("198.51.100.2/24", "198.51.100.3/24")
        .replace("10.1.0.2/24", "10.1.0.3/24")
        .replace("::2/64", "::3/64")
        .replace("eth1", "ens7");
    assert!(other.contains(from), "{from:?} is not in the file");
    other.replacen(from, to, 1)
}

#[test]
fn files_of_one_cluster_are_compared_section_by_section() {
    let compared = |from: &str, to: &str| {
        let mut both = [load_text(PAIR), load_text(&other_node(from, to))];
        compare(&mut both);
        assert!(both.iter().all(|outcome| outcome.config.is_some()), "{}", both[1].diagnostics);
        both[1].diagnostics.to_string()
    };
    assert_eq!(compared("vrid = 51", "vrid = 51"), "");
    let service = "[[service]]\nname = \"web\"\naddress = \"203.0.113.80\"\nprotocol = \"tcp\"\nport = 80\n\
                   mode = \"tunnel\"\n[[service.server]]\nname = \"s1\"\naddress = \"10.10.20.11\"\n[[group]]\nname = \"p";
    for (from, to, said) in [
        ("vrid = 51", "vrid = 51\nmargin = 20", "x.toml:6:10: warning: [ha]: `margin` is 20, in x.toml 10"),
        ("made for tests", "another one..", "[ha]: `key` is another one in x.toml"),
        ("198.51.100.1\"", "198.51.100.9\"", "[[link]] internet: `floating` is 198.51.100.9"),
        ("[[group]]\nname = \"p", service, "[[service]] web is missing in x.toml"),
        ("10.1.0.11\"", "10.1.0.12\"", "[[group.firewall]] perimeter/fw1: `addresses` is 10.1.0.12"),
        (
            "[[route]]\nto = \"default\"\nvia",
            "[limits]\nsessions = 5000\n[[route]]\nto = \"default\"\nvia",
            "[limits]: `sessions` is 5000",
        ),
        ("a seed for", "no seed of", "[[group]] perimeter: `seed` is another one in x.toml"),
        ("\"203.0.113.0/24\", ", "", "[[route]] 203.0.113.0/24 of x.toml is missing here"),
    ] {
        let found = compared(from, to);
        assert!(found.contains(said), "{from:?}: {said}\n{found}");
        assert_eq!(found.matches("warning:").count(), 1, "{found}");
    }
    let other = other_node("vrid = 51", "vrid = 51");
    let nodes: Vec<_> = other.split("[[ha.node]]").collect();
    let (second, rest) = nodes[2].split_once("[[link]]").unwrap();
    let (first, second) = (format!("{}priority = 200\n", nodes[1]), format!("{second}priority = 190\n"));
    let swapped = format!("{}[[ha.node]]{second}[[ha.node]]{first}[[link]]{rest}", nodes[0]);
    let mut both = [load_text(PAIR), load_text(&swapped)];
    compare(&mut both);
    let said = both[1].diagnostics.to_string();
    assert!(said.contains("the nodes in [[ha.node]] are outer-b, outer-a; in x.toml outer-a, outer-b"), "{said}");
}

#[test]
fn transparent_firewalls_are_known_by_their_links() {
    let text = pair("addresses = [\"10.2.0.1\", \"fd00:2::1\"]\n", "");
    refused(&text, &["a transparent firewall needs learn-by = \"link\""]);
}

#[test]
fn behind_transparent_firewalls_the_far_side_has_another_vrid() {
    let bridged = |text: &str| {
        text.replace("addresses = [\"10.2.0.1\", \"fd00:2::1\"]\n", "")
            .replace("link = \"firewalls\"", "link = \"firewalls\"\nlearn-by = \"link\"")
    };
    let far =
        |vrid: &str| PAIR.replace("outer-", "inner-").replace("\"inner\"", "\"outer\"").replace("vrid = 51", vrid);
    let compared = |near: &str, far: &str| {
        let mut both = [load_text(near), load_text(far)];
        compare(&mut both);
        (both[1].diagnostics.to_string(), both[1].config.is_some())
    };
    let (said, _) = compared(&bridged(PAIR), &bridged(&far("vrid = 51")));
    assert!(
        said.contains("VRID 51 is that of x.toml, too, on link \"firewalls\" behind the transparent firewall \"fw1\""),
        "{said}"
    );
    let on_link = bridged(&far("vrid = 61")).replace("device = \"eth1\"", "device = \"eth1\"\nvrid = 51");
    assert!(compared(&bridged(PAIR), &on_link).0.contains("VRID 51"), "that of the link counts");
    for (near, far) in [
        (bridged(PAIR), bridged(&far("vrid = 61"))),
        (PAIR.to_owned(), far("vrid = 51")),
        (bridged(PAIR), bridged(&PAIR.replacen("\"outer-a\"", "\"outer-b\"", 1))),
    ] {
        let (said, _) = compared(&near, &far);
        assert!(!said.contains("VRID"), "{said}");
    }
}

#[test]
fn keys_of_links_need_the_section_and_the_section_stays_while_the_engine_runs() {
    let alone = |key: &str| with("device = \"eth0\"", &format!("device = \"eth0\"\n{key}"));
    refused(&alone("floating = \"198.51.100.9\""), &["`floating` of a link needs a section [ha]"]);
    refused(&alone("vrid = 5"), &["`vrid` of a link needs a section [ha]"]);
    for key in ["standby-checks = \"own\"", "instance = []"] {
        refused(&pair("vrid = 51", &format!("vrid = 51\n{key}")), &["reserved for a later version"]);
    }
    for (old, new) in [(PAIR, GOOD), (GOOD, PAIR)] {
        let mut outcome = load_text(new);
        refuse_restart(&testing::config(old), &mut outcome);
        assert!(outcome.config.is_none());
        assert!(outcome.diagnostics.to_string().contains("[ha] can be neither added nor removed"));
    }
    let node = |(name, host): (&str, u8)| {
        format!(
            "[[ha.node]]\nname = \"{name}\"\naddresses = [\"198.51.100.{host}\", \"10.1.0.{host}\", \"2001:db8:1::{host}\", \
             \"fd00:1::{host}\"]\n"
        )
    };
    let four = |nodes: [(&str, u8); 2]| pair("[[link]]", &format!("{}[[link]]", nodes.map(node).concat()));
    let (third, fourth) = (("outer-c", 4), ("outer-d", 5));
    let mut outcome = load_text(&four([fourth, third]));
    assert!(outcome.config.is_some(), "{}", outcome.diagnostics);
    refuse_restart(&testing::config(&four([third, fourth])), &mut outcome);
    assert!(outcome.config.is_none(), "the share of ports of this node is the same, those of others are not");
    let said = outcome.diagnostics.to_string();
    assert!(said.contains("node \"outer-d\" cannot get another place among [[ha.node]]: 4 -> 3"), "{said}");
    let mut outcome = load_text(&pair("vrid = 51", "vrid = 52"));
    refuse_restart(&testing::config(PAIR), &mut outcome);
    assert!(outcome.diagnostics.to_string().contains("`vrid` of [ha] cannot change while the engine runs: 51 -> 52"));
    let mut outcome = load_text(&pair("vrid = 51", "vrid = 51\npreempt = \"60s\"\nadvertise = \"100ms\""));
    refuse_restart(&testing::config(PAIR), &mut outcome);
    assert!(outcome.config.is_some(), "{}", outcome.diagnostics);
}
