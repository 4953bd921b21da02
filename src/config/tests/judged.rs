//! Tests of mistakes in files that are well-formed, section by section.

use super::*;

#[test]
fn links_are_judged() {
    refused(&with("device = \"eth0\"", "device = \"eth0\"\nmtu = 500"), &["`mtu` must be 576..=65535, found 500"]);
    refused(
        &with("device = \"eth0\"", "device = \"eth0\"\nmtu = 1000"),
        &["IPv6 needs an MTU of at least 1280, found 1000"],
    );
    refused(&with("device = \"eth0\"", "device = \"eth0\"\nvlan = 4095"), &["`vlan` must be 1..=4094, found 4095"]);
    refused(&with("device = \"eth0\"", "device = \"eth0\"\nmac = \"01:00:5e:00:00:01\""), &["group address"]);
    refused(&with("device = \"eth0\"", "device = \"lo\""), &["loopback"]);
    refused(&with("198.51.100.1/24", "198.51.100.1"), &["add the length of its subnet: \"198.51.100.1/24\""]);
}

#[test]
fn routes_are_judged() {
    let plain = |to: &str, via: &str, rest: &str| format!("{GOOD}\n[[route]]\nto = {to}\nvia = {via}\n{rest}\n");
    let net = "\"192.0.2.0/24\"";
    refused(
        &plain(net, "\"192.0.2.1\"", ""),
        &["192.0.2.1 is in no connected subnet", "the links have 198.51.100.0/24"],
    );
    refused(
        &plain(net, "\"10.1.0.9\"", "link = \"clients\""),
        &["10.1.0.9 is in no connected subnet of link \"clients\"", "the link has 198.51.100.0/24"],
    );
    refused(&plain("\"2001:db8:9::/48\"", "\"fe80::1\"", ""), &["link-local next hop: say on which `link`"]);
    refused(&plain(net, "\"10.1.0.1\"", ""), &["10.1.0.1 is the engine's own address"]);
    refused(
        &plain(net, "\"fe80::2\"", "link = \"clients\""),
        &["no way to 192.0.2.0/24: `via` has no next hop of IPv4"],
    );
    refused(&plain(net, "[\"10.1.0.8\", \"10.1.0.9\"]", ""), &["a second IPv4 address", "the first is 10.1.0.8"]);
    refused(&plain("\"192.0.2.1/24\"", "\"10.1.0.9\"", ""), &["the prefix is \"192.0.2.0/24\""]);
    refused(&plain(net, "\"10.1.0.9\"", "peer = \"inner\""), &["`peer` is for a route through a group"]);
    refused(&format!("{GOOD}\n[[route]]\nto = {net}\n"), &["leads nowhere: it needs `via` or `group`"]);
    refused(
        &with("peer = \"inner\"", "peer = \"iner\""),
        &["unknown peer \"iner\" of group \"perimeter\"", "\"inner\"?"],
    );
    refused(&with("peer = \"inner\"", "firewall = \"fw9\""), &["unknown firewall \"fw9\" of group \"perimeter\""]);
    warned(&with("peer = \"inner\"", "via = \"198.51.100.254\""), &["`below-min = \"drop\"` never goes round"]);
    warned(
        &with("\"203.0.113.0/24\"", "\"198.0.0.0/8\""),
        &["the connected subnet 198.51.100.0/24 is part of 198.0.0.0/8"],
    );
}

#[test]
fn a_group_that_may_be_bypassed_needs_a_way_round_of_each_family() {
    let bypass = with("name = \"perimeter\"\n", "name = \"perimeter\"\nbelow-min = \"bypass\"\n");
    refused(&bypass, &["needs an IPv4 `via`", "needs an IPv6 `via`"]);
    let one = bypass.replace("peer = \"inner\"", "via = \"198.51.100.9\"");
    refused(&one, &["needs an IPv6 `via`"]);
    let both = bypass.replace("peer = \"inner\"", "via = [\"198.51.100.9\", \"2001:db8:1::9\"]");
    let config = load_text(&both).config.unwrap();
    let RouteTarget::Group { bypass: Some(round), .. } = config.routes[2].target else { panic!("{:?}", config.routes) };
    assert_eq!(round, (LinkId(0), "198.51.100.9".parse::<IpAddr>().unwrap()));
    let same_link = bypass.replace("peer = \"inner\"", "via = [\"10.1.0.99\", \"fd00:1::99\"]");
    warned(&same_link, &["leaves by a link on which they stand"]);
}

#[test]
fn groups_are_judged() {
    let group = |lines: &str| with("name = \"perimeter\"\n", &format!("name = \"perimeter\"\n{lines}\n"));
    refused(&group("min-up = 3"), &["`min-up` is 3, but group \"perimeter\" has 2 firewalls"]);
    refused(&with("seed = \"a seed for the tests of this room\"\n", ""), &["[[group]] needs `seed`"]);
    refused(&with("a seed for the tests of this room", ""), &["the seed is empty"]);
    warned(&with("a seed for the tests of this room", "short"), &["the seed has 5 bytes and can be guessed"]);
    warned(&with("a seed for the tests of this room", DOCUMENTATION_SEED), &["the documentation's seed"]);
    warned(&group("drain-timeout = \"0s\""), &["a drain ends every session at once"]);
    let no_members = GOOD[..GOOD.find("[[group.peer]]").unwrap()].to_owned();
    refused(&no_members, &["has no firewalls", "has no peer"]);
    let spares = GOOD
        .replace("name = \"fw1\"", "name = \"fw1\"\nspare = true")
        .replace("name = \"fw2\"", "name = \"fw2\"\nspare = true");
    refused(&spares, &["every firewall of the group is a spare"]);
    refused(
        &group("hash = \"source\"")
            .replace("[[group.peer]]", "[[group.peer]]\nname = \"dmz\"\naddresses = \"10.3.0.1\"\n[[group.peer]]"),
        &["meet its other side at one peer only"],
    );
    let many: String = (3..=65)
        .map(|n| {
            format!("[[group.firewall]]\nname = \"fw{n}\"\nlink = \"firewalls\"\naddresses = \"10.1.0.{}\"\n", n + 10)
        })
        .collect();
    refused(&format!("{GOOD}{many}"), &["a group has at most 64 firewalls"]);
}

#[test]
fn engines_of_a_peer_are_judged() {
    let peer = |lines: &str| with("\"fd00:2::1\"]\n", &format!("\"fd00:2::1\"]\n{lines}\n"));
    let two =
        peer("engines = [{ name = \"inner-a\", addresses = [\"10.2.0.2\", \"fd00:2::2\"] }, { name = \"inner-b\" }]");
    let config = load_text(&two).config.unwrap();
    let [a, b] = config.peers[0].engines.as_slice() else { panic!("{:?}", config.peers) };
    assert_eq!((a.name.as_str(), a.addresses.len(), b.name.as_str(), b.addresses.len()), ("inner-a", 2, "inner-b", 0));
    assert_eq!(config.peers[0].engine_at("fd00:2::2".parse().unwrap()), Some(a));
    assert_eq!(config.peers[0].engine_at("10.2.0.1".parse().unwrap()), None);

    let bare = load_text(&peer("engines = [\"inner-a\", { name = \"inner-b\" }]")).config.unwrap();
    let names: Vec<_> = bare.peers[0].engines.iter().map(|engine| engine.name.as_str()).collect();
    assert_eq!(names, ["inner-a", "inner-b"]);
    refused(&peer("engines = [\"inner-a\", 7]"), &["`engines` must be a list of names and tables, found"]);
    refused(&peer("engines = [\"not a name\"]"), &["not a name"]);
    refused(&peer("engines = [{ name = \"a\" }, { name = \"a\" }]"), &["\"a\""]);
    refused(&peer("engines = [{ addresses = \"10.2.0.2\" }]"), &["[[group.peer.engines]] needs `name`"]);
    refused(&peer("engines = [{ name = \"a\", address = \"10.2.0.2\" }]"), &["unknown key `address`", "addresses"]);
    refused(&peer("engines = \"inner-a\""), &["[[group.peer.engines]]"]);
    refused(&peer("engines = [{ name = \"a\", addresses = \"10.2.0.1\" }]"), &["peer address 10.2.0.1"]);
    refused(&peer("engines = [{ name = \"a\", addresses = \"10.1.0.1\" }]"), &["that is to be another station"]);
    refused(&peer("engines = [{ name = \"a\", addresses = \"fe80::9\" }]"), &["no firewall forwards to it"]);
    let both = "engines = [{ name = \"a\", addresses = \"10.2.0.2\" }, { name = \"b\", addresses = \"10.2.0.2\" }]";
    refused(&peer(both), &["peer address 10.2.0.2"]);
    let many: Vec<_> = (0..9).map(|n| format!("{{ name = \"n{n}\" }}")).collect();
    refused(&peer(&format!("engines = [{}]", many.join(", "))), &["a peer has at most 8 engines"]);
}

#[test]
fn checks_are_judged() {
    let check = |lines: &str| with("[[group.peer]]", &format!("[group.check]\n{lines}\n[[group.peer]]"));
    refused(&check("kind = \"tcp\""), &["this kind of check needs a `port`"]);
    refused(&check("port = 7"), &["`port` is for the kinds \"tcp\" and \"udp\""]);
    let config = load_text(&check("kind = \"udp\"\nport = 7\ninterval = \"1s\"\nfall = 2")).config.unwrap();
    assert_eq!(config.groups[0].check.kind, PathCheckKind::Udp { port: 7 });
    assert_eq!(requirements::detection(&config.groups[0]), (Duration::from_millis(2100), Duration::from_secs(10)));
}

#[test]
fn firewalls_are_judged() {
    refused(
        &with("\"10.1.0.12\"", "\"10.1.0.11\""),
        &["the address of two firewalls of the link", "cannot be told apart"],
    );
    refused(&with("\"10.1.0.12\"", "\"10.9.0.12\""), &["10.9.0.12 is in no connected subnet of link \"firewalls\""]);
    refused(&with("\"10.1.0.12\"", "\"10.1.0.1\""), &["10.1.0.1 is the engine's own address on link \"firewalls\""]);
    refused(
        &with("name = \"fw2\"", "name = \"fw2\"\nlearn-by = \"link\""),
        &["`learn-by = \"link\"` needs a link with one firewall on it", "another firewall of the link stands here"],
    );
    refused(&with("name = \"fw2\"", "name = \"fw2\"\nweight = 257"), &["`weight` must be 1..=256, found 257"]);
    refused(&with("[\"10.1.0.12\", \"fd00:1::12\"]", "[\"10.1.0.12\", \"10.1.0.13\"]"), &["a second IPv4 address"]);
}

#[test]
fn families_that_do_not_meet_are_told() {
    warned(
        &with("[\"10.1.0.12\", \"fd00:1::12\"]", "\"10.1.0.12\""),
        &["firewall fw2 has none: no IPv6 path through it"],
    );
    let peer = with("addresses = [\"10.2.0.1\", \"fd00:2::1\"]", "addresses = \"10.2.0.1\"");
    refused(
        &peer,
        &["peer \"inner\" has none: no IPv6 path to it", "no way to 2001:db8:113::/64: no path of the group has IPv6"],
    );
}

#[test]
fn an_engine_on_both_sides_of_its_group_is_told() {
    warned(
        &with("[\"10.2.0.1\", \"fd00:2::1\"]", "[\"10.1.0.99\", \"fd00:2::1\"]"),
        &["the engine stands on both sides of its group: peer address 10.1.0.99"],
    );
    refused(
        &with("[\"10.2.0.1\", \"fd00:2::1\"]", "[\"10.1.0.1\", \"fd00:2::1\"]"),
        &["10.1.0.1 is the engine's own address"],
    );
}

#[test]
fn a_group_that_no_route_leads_through_is_told_with_the_route_to_write() {
    let text = with("group = \"perimeter\"\npeer = \"inner\"", "via = [\"10.1.0.9\", \"fd00:1::9\"]");
    let said = said(&text);
    assert!(said.contains("no route leads through group \"perimeter\""), "{said}");
    let start = said.find("[[route]]").unwrap_or_else(|| panic!("{said}"));
    let lines: Vec<_> = said[start..].lines().take(3).map(|line| line.trim_start_matches(['|', ' '])).collect();
    let pasted = lines.join("\n");
    let outcome = load_text(&format!("{text}\n{pasted}\n").replace("[\"203.0.113.0/24\", ", "[\"192.0.2.0/24\", "));
    assert_eq!(outcome.diagnostics.to_string(), "", "what was told works as it stands: {pasted}");
    refused(&with("group = \"perimeter\"", "group = 5"), &["`group` must be a string"]);
}

#[test]
fn a_group_without_a_ready_firewall_is_told() {
    let firewalls = |first: &str, second: &str| {
        GOOD.replace("name = \"fw1\"", &format!("name = \"fw1\"\nadmin = \"{first}\""))
            .replace("name = \"fw2\"", &format!("name = \"fw2\"\nadmin = \"{second}\""))
    };
    assert_eq!(said(&firewalls("maint", "ready")), "");
    warned(&firewalls("maint", "maint"), &["every firewall of the group is in maint"]);
    warned(&firewalls("drain", "maint"), &["no firewall of the group is ready"]);
}
