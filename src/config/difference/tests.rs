mod flip;

use super::*;
use crate::config::testing::{config, load};

const BASE: &str = r#"
[engine]
name = "outer"
workers = 2
[log]
level = "info"
[limits]
sessions = 1000
[[link]]
name = "clients"
device = "eth0"
addresses = ["198.51.100.1/24"]
[[link]]
name = "firewalls"
device = "eth1"
addresses = ["10.1.0.1/24"]
[[route]]
to = "203.0.113.0/24"
group = "perimeter"
[[group]]
name = "perimeter"
seed = "the seed of these tests, 32 bytes"
[[group.peer]]
name = "inner"
addresses = ["10.2.0.1"]
[[group.firewall]]
name = "fw1"
link = "firewalls"
addresses = ["10.1.0.11"]
[[group.firewall]]
name = "fw2"
link = "firewalls"
addresses = ["10.1.0.12"]
"#;

fn words(new: &str) -> Vec<String> {
    differences(&config(BASE), &config(new)).iter().map(Difference::to_string).collect()
}

#[test]
fn the_same_text_has_no_difference_and_comments_are_none() {
    assert!(words(BASE).is_empty());
    assert!(words(&format!("# a comment\n{BASE}")).is_empty());
}

#[test]
fn differences_are_told_key_by_key_in_the_words_of_the_file() {
    let new = BASE
        .replace("addresses = [\"10.1.0.12\"]", "addresses = [\"10.1.0.13\"]\nweight = 3")
        .replace("name = \"fw1\"", "name = \"fw9\"")
        .replace("level = \"info\"", "level = \"debug\"")
        .replace("the seed of these", "another seed of th");
    assert_eq!(
        words(&new),
        [
            "log: level info -> debug",
            "group perimeter: seed changed",
            "firewall perimeter/fw1: removed",
            "firewall perimeter/fw2: addresses 10.1.0.12 -> 10.1.0.13",
            "firewall perimeter/fw2: weight 1 -> 3",
            "firewall perimeter/fw9: added",
        ]
    );
}

#[test]
fn what_takes_a_restart_is_refused_at_its_place_and_the_rest_is_not() {
    let mut outcome = load(
        &BASE
            .replace("workers = 2", "workers = 4\nio = \"af-xdp\"\nxdp-send = false")
            .replace("sessions = 1000", "sessions = 2000")
            .replace("device = \"eth0\"", "device = \"eth7\"\nvlan = 5"),
    );
    refuse_restart(&config(BASE), &mut outcome);

    assert!(outcome.config.is_none());
    let text = outcome.diagnostics.to_string();
    for line in [
        "x.toml:4:11: error: `workers` of [engine] cannot change while the engine runs: 2 -> 4",
        "x.toml:5:6: error: `io` of [engine] cannot change while the engine runs: af-packet -> af-xdp",
        "x.toml:6:12: error: `xdp-send` of [engine] cannot change while the engine runs: true -> false",
        "x.toml:10:12: error: `sessions` of [limits] cannot change while the engine runs: 1000 -> 2000",
        "x.toml:13:10: error: `device` of link \"clients\" cannot change while the engine runs: eth0 -> eth7",
        "x.toml:14:8: error: `vlan` of link \"clients\" cannot change while the engine runs: untagged -> 5",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }

    let mut allowed = load(&BASE.replace("level = \"info\"", "level = \"debug\"").replace("10.1.0.12", "10.1.0.99"));
    refuse_restart(&config(BASE), &mut allowed);
    assert!(allowed.config.is_some(), "{}", allowed.diagnostics);
}
