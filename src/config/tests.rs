//! What a file means, and what is said about files that mean nothing.

use std::net::IpAddr;

use super::*;
use crate::time::Duration;

/// A complete small file; tests replace lines of it.
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

fn load_text(text: &str) -> Outcome {
    load("x.toml", text, &mut |path| Err(format!("no files here: {}", path.display())))
}

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
