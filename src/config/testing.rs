//! Configurations for the tests of every room. There are no files: a `file:/path` value is refused.

use crate::config::{self, Config, LoadedConfig};

/// The first of two engines that are one virtual router, as in the documentation.
pub const PAIR: &str = r#"[engine]
name = "outer-a"

[ha]
vrid = 51
key = "a key of 32 bytes, made for tests"

[[ha.node]]
name = "outer-a"
addresses = ["198.51.100.2", "10.1.0.2", "2001:db8:1::2", "fd00:1::2"]
sync = "10.255.0.1"

[[ha.node]]
name = "outer-b"
addresses = ["198.51.100.3", "10.1.0.3", "2001:db8:1::3", "fd00:1::3"]
sync = "10.255.0.2"

[[link]]
name = "internet"
device = "eth0"
addresses = ["198.51.100.2/24", "2001:db8:1::2/64"]
floating = ["198.51.100.1", "2001:db8:1::1"]

[[link]]
name = "firewalls"
device = "eth1"
addresses = ["10.1.0.2/24", "fd00:1::2/64"]
floating = ["10.1.0.1", "fd00:1::1"]

[[route]]
to = "default"
via = ["198.51.100.254", "2001:db8:1::254"]

[[route]]
to = ["203.0.113.0/24", "2001:db8:113::/64"]
group = "perimeter"

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
"#;

/// What is made of `text`. Diagnostics call it `x.toml`.
pub fn load(text: &str) -> LoadedConfig {
    config::load("x.toml", text, &mut |path| Err(format!("no files here: {}", path.display())))
}

/// The configuration in `text`, which is valid.
///
/// # Panics
///
/// If `text` has an error. The message is the diagnostics.
pub fn config(text: &str) -> Config {
    let outcome = load(text);
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics))
}
