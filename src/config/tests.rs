//! Tests of what a file means, and of the messages about files with mistakes.

mod beyond;
mod ha;
mod judged;

use std::net::IpAddr;

use super::testing::load as load_text;
use super::*;
use crate::time::Duration;

/// A small file with every kind of section; tests replace parts of it.
const GOOD: &str = r#"[engine]
name = "outer"

[[link]]
name = "clients"
device = "eth0"
addresses = ["198.51.100.1/24", "2001:db8:1::1/64"]

[[link]]
name = "firewalls"
device = "eth1"
addresses = ["10.1.0.1/24", "fd00:1::1/64"]

[[route]]
to = "default"
via = ["198.51.100.254", "fe80::1"]
link = "clients"

[[route]]
to = ["203.0.113.0/24", "2001:db8:113::/64"]
group = "perimeter"
peer = "inner"

[[group]]
name = "perimeter"
seed = "a seed for the tests of this room"

[[group.peer]]
name = "inner"
addresses = ["10.2.0.1", "fd00:2::1"]

[[group.firewall]]
name = "fw1"
link = "firewalls"
addresses = ["10.1.0.11", "fd00:1::11"]

[[group.firewall]]
name = "fw2"
link = "firewalls"
addresses = ["10.1.0.12", "fd00:1::12"]
"#;

#[test]
fn a_good_file_means_what_it_says() {
    let outcome = load_text(GOOD);

    assert_eq!(outcome.diagnostics.to_string(), "");
    let config = outcome.config.unwrap();
    assert_eq!(config.engine.control, PathBuf::from("/run/fwlb/outer.sock"));
    assert_eq!(config.engine.state, PathBuf::from("/var/lib/fwlb/outer"));
    assert_eq!(config.devices, ["eth0", "eth1"]);
    assert_eq!(config.links.len(), 2);
    assert_eq!(config.firewalls.len(), 2);
    assert_eq!(config.groups[0].min_up, 1);
    assert_eq!(config.groups[0].drain_timeout, Some(Duration::from_secs(300)));
    assert_eq!(config.peers[0].addresses, ["10.2.0.1", "fd00:2::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    let routes: Vec<_> = config.routes.iter().map(|route| route.to.to_string()).collect();
    assert_eq!(routes, ["0.0.0.0/0", "::/0", "203.0.113.0/24", "2001:db8:113::/64"]);
    assert_eq!(config.routes[1].target, RouteTarget::Via { link: LinkId(0), via: "fe80::1".parse().unwrap() });
    assert_eq!(
        config.routes[2].target,
        RouteTarget::Group { group: GroupId(0), peer: Some(PeerId(0)), firewall: None, bypass: None }
    );
}

/// `GOOD` with `from` (which must be there) replaced by `to`.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the file");
    GOOD.replacen(from, to, 1)
}

/// The diagnostics about `text`, as one text.
fn said(text: &str) -> String {
    load_text(text).diagnostics.to_string()
}

/// Asserts that `text` is refused with messages that contain each of `words`.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let outcome = load_text(text);
    let said = outcome.diagnostics.to_string();
    assert!(outcome.config.is_none(), "accepted, saying:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

/// Asserts that `text` is accepted with a warning that contains each of `words`.
#[track_caller]
fn warned(text: &str, words: &[&str]) {
    let outcome = load_text(text);
    let said = outcome.diagnostics.to_string();
    assert!(outcome.config.is_some(), "refused, saying:\n{said}");
    assert!(outcome.diagnostics.warnings() > 0);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[test]
fn every_mistake_is_told_at_once_and_in_order_of_place() {
    let text = with("name = \"outer\"", "nmae = \"outer\"\nworkers = \"4\"")
        .replace("198.51.100.1/24", "198.51.100.300/24")
        .replace("group = \"perimeter\"", "group = \"perimetr\"")
        .replacen("link = \"firewalls\"", "link = \"firewals\"\nweight = 0", 1);

    let outcome = load_text(&text);

    let messages: Vec<_> = outcome.diagnostics.iter().map(|found| found.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "[engine] needs `name`",
            "unknown key `nmae` in [engine]",
            "`workers` must be a number, 1..=256, found the string \"4\"",
            "not an address with prefix length: \"198.51.100.300/24\"",
            "unknown group \"perimetr\"",
            "unknown link \"firewals\"",
            "`weight` must be 1..=256, found 0",
        ]
    );
    let rendered = outcome.diagnostics.to_string();
    assert!(rendered.contains("x.toml:2:1: error: unknown key `nmae` in [engine]"), "{rendered}");
    assert!(rendered.contains("= help: did you mean `name`?"), "{rendered}");
    assert!(rendered.contains("= help: write workers = 4"), "{rendered}");
    assert!(rendered.contains("= help: did you mean \"perimeter\"?"), "{rendered}");
}

#[test]
fn syntax_errors_are_told_with_their_place_and_nothing_is_made_up_about_the_rest() {
    let outcome = load_text(&with("device = \"eth0\"", "device = \"eth0"));
    assert!(outcome.config.is_none());
    assert!(outcome.diagnostics.iter().all(|found| !found.message.contains("needs")), "{}", outcome.diagnostics);
    assert!(outcome.diagnostics.to_string().contains("x.toml:6:"), "{}", outcome.diagnostics);

    refused(&with("[engine]", "[engine]\nname = \"twice\""), &["duplicate key", "x.toml:3:1"]);
    refused("", &["no [engine] section", "no [[link]]"]);
}

#[test]
fn reserved_words_and_what_this_version_lacks_have_errors_of_their_own() {
    let reserved = "reserved for a later version";
    for section in ["[[policy]]", "[[pool]]", "[defaults]", "[[bridge]]", "[bgp]", "[hooks]"] {
        refused(&format!("{GOOD}\n{section}\n"), &[reserved]);
    }
    refused(&with("name = \"outer\"", "name = \"outer\"\ninclude = \"x\""), &["`include` of [engine] is", reserved]);
    for key in ["zone", "bridge"] {
        refused(&with("device = \"eth0\"", &format!("device = \"eth0\"\n{key} = 1")), &["[[link]]", reserved]);
    }
    refused(&with("device = \"eth0\"", "device = \"eth0\"\nvlan = [1, 2]"), &["`vlan` as a list is", reserved]);
    refused(&with("to = \"default\"", "to = \"default\"\nmetric = 5"), &["`metric` of [[route]] is", reserved]);
    for key in ["synced", "helpers"] {
        refused(&with("name = \"perimeter\"", &format!("name = \"perimeter\"\n{key} = 1")), &["[[group]]", reserved]);
    }
    for key in ["peers", "macs", "max-sessions", "max-rate", "slow-start"] {
        refused(&with("name = \"fw1\"", &format!("name = \"fw1\"\n{key} = 1")), &["[[group.firewall]]", reserved]);
    }
    refused(&with("[[group.peer]]", "[[group.check]]\n[[group.peer]]"), &["a list of them is", reserved]);
    for key in ["https", "send", "expect", "negative"] {
        let text = with("[[group.peer]]", &format!("[group.check]\n{key} = 1\n[[group.peer]]"));
        refused(&text, &["[group.check]", reserved]);
    }
    refused(
        &with("[[group.peer]]", "[group.check]\nkind = \"https\"\n[[group.peer]]"),
        &["`kind = \"https\"` is", reserved],
    );
}

#[test]
fn the_way_of_frames_is_one_of_two_words() {
    let io = |word: &str| with("name = \"outer\"", &format!("name = \"outer\"\nio = \"{word}\""));
    let read = |text: &str| load_text(text).config.expect("it is accepted").engine.io;
    assert_eq!([read(GOOD), read(&io("af-packet")), read(&io("af-xdp"))], [Io::AfPacket, Io::AfPacket, Io::AfXdp]);
    refused(&io("dpdk"), &["`io` must be \"af-packet\" or \"af-xdp\", found \"dpdk\""]);
}

#[test]
fn frames_leave_by_a_send_ring_unless_the_file_says_no() {
    let send = |word: &str| with("name = \"outer\"", &format!("name = \"outer\"\nxdp-send = {word}"));
    let read = |text: &str| load_text(text).config.expect("it is accepted").engine.xdp_send;
    assert_eq!([read(GOOD), read(&send("true")), read(&send("false"))], [true, true, false]);
}

#[test]
fn a_device_under_af_xdp_has_one_engine() {
    let io = |io: Io| {
        let renamed = with("name = \"outer\"", &format!("name = \"inner\"\nio = \"{}\"", io.name()));
        let mut both = [load_text(GOOD), load_text(&renamed)];
        compare(&mut both);
        both[1].diagnostics.to_string()
    };
    let refusal = "uses eth1 too, and with io = \"af-xdp\" a device has one engine";
    assert!(io(Io::AfXdp).contains(refusal) && !io(Io::AfPacket).contains("af-xdp"), "{}", io(Io::AfXdp));
}

#[test]
fn a_key_below_the_wrong_header_is_sent_home() {
    let text = with("[[group.peer]]", "[group.check]\nmin-up = 2\n[[group.peer]]");
    refused(
        &text,
        &["unknown key `min-up` in [group.check]", "`min-up` belongs to [[group]], move it above [group.check]"],
    );
    let text = with("to = \"default\"", "to = \"default\"\nweight = 2");
    refused(&text, &["`weight` belongs to [[group.firewall]]"]);
}

#[test]
fn wrong_kinds_of_value_say_what_was_expected_and_what_came() {
    let check = |line: &str| with("[[group.peer]]", &format!("[group.check]\n{line}\n[[group.peer]]"));
    refused(&check("interval = 50"), &["`interval` must be a duration, found the number 50", "interval = \"50s\""]);
    refused(&check("interval = \"never\""), &["`interval` cannot be \"never\""]);
    refused(&check("interval = \"1ms\""), &["`interval` must be 10ms to 10m, found \"1ms\""]);
    refused(&check("fall = 256"), &["`fall` must be 1..=255, found 256"]);
    refused(&check("fall = -1"), &["`fall` must be 1..=255, found -1"]);
    refused(&check("fall = 1.5"), &["`fall` must be a number, 1..=255, found the number 1.5"]);
    refused(&check("kind = \"icpm\""), &["did you mean \"icmp\"?"]);
    refused(&with("link = \"clients\"", "link = 7"), &["`link` must be a string in quotes, found the number 7"]);
    refused(&with("via = [\"198.51.100.254\", \"fe80::1\"]", "via = []"), &["`via` is an empty list"]);
    refused(&with("[engine]\nname = \"outer\"", "engine = 5"), &["`engine` must be a table, found the number 5"]);
    refused(
        &GOOD.replace("[[link]]\nname = \"clients\"", "[link]\nname = \"clients\"").replacen("[[link]]", "[x]", 1),
        &["`link` must be a list of tables", "write [[link]] before each of them"],
    );
}

#[test]
fn durations_and_never_are_read_as_written() {
    let text = with("name = \"perimeter\"\n", "name = \"perimeter\"\ndrain-timeout = \"never\"\n").replace(
        "[[link]]\nname = \"clients\"",
        "[timeouts]\ntcp-established = \"2h5m\"\n[[link]]\nname = \"clients\"",
    );
    let config = load_text(&text).config.unwrap();
    assert_eq!(config.groups[0].drain_timeout, None);
    assert_eq!(config.timeouts.tcp_established, Duration::from_secs(7500));
    assert_eq!(config.timeouts.udp, Duration::from_secs(300));
}

#[test]
fn duplicates_name_both_places() {
    refused(
        &with("name = \"firewalls\"", "name = \"clients\""),
        &["link \"clients\" stands twice", "x.toml:5:8: note"],
    );
    refused(&with("name = \"fw2\"", "name = \"fw1\""), &["firewall \"fw1\" stands twice", "stands here first"]);
    refused(&with("device = \"eth1\"", "device = \"eth0\""), &["device \"eth0\" without a VLAN stands twice"]);
    let vlan = with("device = \"eth0\"", "device = \"eth0\"\nvlan = 5").replace("\"eth1\"", "\"eth0\"\nvlan = 5");
    refused(&vlan, &["VLAN 5 of eth0 stands twice"]);
    let vlans = with("device = \"eth0\"", "device = \"eth0\"\nvlan = 5").replace("\"eth1\"", "\"eth0\"\nvlan = 6");
    assert_eq!(load_text(&vlans).config.unwrap().devices, ["eth0"]);
    refused(&with("10.1.0.1/24", "198.51.100.1/24"), &["address 198.51.100.1 stands twice"]);
    refused(&with("10.1.0.1/24", "198.51.100.129/25"), &["subnet 198.51.100.128/25 overlaps 198.51.100.0/24"]);
    refused(
        &with("\"203.0.113.0/24\"", "\"203.0.113.0/24\", \"203.0.113.0/24\""),
        &["the route to 203.0.113.0/24 stands twice"],
    );
    refused(
        &with("\"203.0.113.0/24\"", "\"198.51.100.0/24\""),
        &["198.51.100.0/24 is a connected subnet and needs no route", "both sides of its group"],
    );
}

#[test]
fn a_secret_is_read_from_its_file_without_the_newline() {
    let text = with("\"a seed for the tests of this room\"", "\"file:/etc/fwlb/seed\"");
    let mut asked = Vec::new();
    let from_file = load("x.toml", &text, &mut |path| {
        asked.push(path.to_owned());
        Ok("a seed for the tests of this room\n".to_owned())
    });
    assert_eq!(asked, [PathBuf::from("/etc/fwlb/seed")]);
    assert_eq!(from_file.config.unwrap().groups[0].seed, load_text(GOOD).config.unwrap().groups[0].seed);
    refused(&text, &["cannot read /etc/fwlb/seed: no files here"]);
    refused(&text.replace("file:/etc", "file:etc"), &["not an absolute path: \"etc/fwlb/seed\""]);
}

mod api;
mod log;
mod services;

mod mutations {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of TOML and of this file. Random bytes alone would rarely get past the syntax.
    const PIECES: &[&str] = &[
        "[[link]]\n",
        "[[route]]\n",
        "[[group]]\n",
        "[[group.firewall]]\n",
        "[[group.peer]]\n",
        "[group.check]\n",
        "[engine]\n",
        "[[service]]\n",
        "[service.check]\n",
        "[[service.server]]\n",
        "sticky = ",
        "port = ",
        "address = ",
        "\"8000-8099\"",
        "[limits]\n",
        "name = ",
        "addresses = ",
        "via = ",
        "to = ",
        "link = ",
        "group = ",
        "peer = ",
        "hash = ",
        "seed = ",
        "min-up = ",
        "vlan = ",
        "weight = ",
        "interval = ",
        "\"fw1\"",
        "\"default\"",
        "\"10.1.0.1/24\"",
        "\"fe80::1\"",
        "\"::/0\"",
        "\"file:/x\"",
        "\"bypass\"",
        "0",
        "-1",
        "99999999999999999999",
        "1e400",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'''",
        "\\u0000",
        "ä",
        "\n",
        "=",
        ".",
        ",",
        "#",
        "true",
        "2026-01-01",
        "\"never\"",
        "0x_",
        "\r",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Any text gets an answer without a panic, and is refused if and only if there is an error.
        #[test]
        fn no_text_makes_it_panic(of_services in any::<bool>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..40), 1..8)) {
            let mut text = if of_services { services::FARM } else { GOOD }.to_owned();
            for (at, piece, removed) in edits {
                let from = text.floor_char_boundary(at.index(text.len() + 1));
                let to = text.floor_char_boundary((from + removed).min(text.len())).max(from);
                text.replace_range(from..to, PIECES[piece.index(PIECES.len())]);
            }
            let mut outcomes = [load_text(&text), load_text(GOOD)];
            prop_assert_eq!(outcomes[0].config.is_none(), outcomes[0].diagnostics.errors() > 0);
            compare(&mut outcomes);
            for outcome in &outcomes {
                outcome.diagnostics.render(true);
                outcome.config.iter().for_each(|config| drop(requirements(config)));
            }
        }

        #[test]
        fn no_line_order_makes_it_panic(order in Just((0..GOOD.lines().count()).collect::<Vec<_>>()).prop_shuffle()) {
            let lines: Vec<_> = GOOD.lines().collect();
            let text: String = order.iter().map(|index| format!("{}\n", lines[*index])).collect();
            said(&text);
        }
    }
}
