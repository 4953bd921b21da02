//! Configurations for tests.

use crate::ha::settings::{HaConfig, Lease, LegConfig, NodeConfig, NodeId, NodeKind, VrrpVersion};
use crate::id::LinkId;
use crate::time::Duration;

/// Node 0 of a cluster of `nodes` engines with two links, both with neighbours, and a way for synchronisation.
pub(in crate::ha) fn config(nodes: u8) -> HaConfig {
    node(nodes, 0)
}

/// As [`config`], for the node `me`.
pub(in crate::ha) fn node(nodes: u8, me: u8) -> HaConfig {
    let address = |text: String| text.parse().expect("an address");
    let node = |node: u8| NodeConfig {
        name: format!("outer-{}", char::from(b'a' + node)),
        kind: NodeKind::Fwlb,
        priority: 200 - 10 * node,
        addresses: vec![address(format!("198.51.100.{}", 2 + node)), address(format!("10.1.0.{}", 2 + node))],
        sync: Some(address(format!("10.255.0.{}", 1 + node))),
    };
    let leg = |index: u16, name: &str, net: &str| LegConfig {
        name: name.to_owned(),
        link: LinkId(index),
        own: vec![address(format!("{net}.{}", 2 + me))],
        floating: vec![address(format!("{net}.1"))],
        vrid: 51,
        track: true,
        unicast: false,
        has_neighbors: true,
    };
    HaConfig {
        me: NodeId(me),
        nodes: (0..nodes).map(node).collect(),
        legs: vec![leg(0, "internet", "198.51.100"), leg(1, "firewalls", "10.1.0")],
        interval: Duration::from_millis(30),
        preempt: None,
        margin: 10,
        damping: Duration::from_millis(250),
        start_delay: Duration::from_secs(3),
        linger: Duration::from_millis(50),
        version: VrrpVersion::V3,
        lease: Lease::Auto,
        digests: [0; 8],
        program: "0.1.0".to_owned(),
    }
}
