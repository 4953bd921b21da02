//! Declares `[ha]` and `[[ha.node]]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::NAME;
use super::section::section;
use crate::config::fact::{bare, list, or_never, or_none, secret, text, time, word};
use crate::config::value;
use crate::config::{self, FloatingMac, PortSharing, SessionCopying};
use crate::ha::{self, Lease, NodeKind};
use crate::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// The end of the program waits for it.
const LINGER_MAX: Duration = Duration::from_secs(5);
const SYNC_DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);
/// The intervals of advertisements that VRRP can express (RFC 9568 section 5.2.7).
const ADVERTISE: RangeInclusive<Duration> = Duration::from_millis(10)..=ha::INTERVAL_MAX;

section! {
    /// The values of `[ha]`.
    Ha = "[ha]" "High availability: several engines of one side as one virtual router (VRRP, RFC 9568). The section is the same in the \
            files of all nodes.";
    facts(ha: &config::Ha, _config);
    reserved "standby-checks", "instance";
    vrid: u8 = number("vrid", 1..=255), required("51"), with_restart,
        "The virtual router identifier, from which the virtual MAC address is made." => bare(ha.vrid);
    key: String = secret("key", "a text of 32 bytes or more"), unset("none; several nodes of this program need it"),
        "The secret with which the nodes encrypt what they send each other." => or_none(ha.key.as_ref(), secret);
    advertise: Duration = duration("advertise", ADVERTISE), optional(Duration::from_millis(30)),
        "The time between two advertisements, in steps of 10 ms. Another node takes over after three to four of them."
        => time(ha.advertise);
    preempt: Option<Duration> = duration_or_never("preempt", Duration::ZERO..=HOUR), optional(None),
        "How long a ready node of higher priority waits before it takes the role back." => or_never(ha.preempt);
    margin: u16 = number("margin", 1..=255), optional(10),
        "By how many points of health a standby must be better before it gets the role." => bare(ha.margin);
    damping: Duration = duration("damping", Duration::ZERO..=MINUTE), optional(Duration::from_millis(250)),
        "For how long it must be better." => time(ha.damping);
    start_delay: Duration = duration("start-delay", Duration::ZERO..=HOUR), optional(Duration::from_secs(3)),
        "How long a node that starts listens for others before it becomes active." => time(ha.start_delay);
    linger: Duration = duration("linger", Duration::ZERO..=LINGER_MAX), optional(Duration::from_millis(50)),
        "How long a node that gave the role away forwards what still arrives." => time(ha.linger);
    version: u8 = number("version", 2..=3), optional(3),
        "The version of VRRP. Version 2 is for old routers: IPv4 only, whole seconds." => bare(ha.version.number());
    mac: FloatingMac = choice("mac", &FloatingMac::CHOICES), optional(FloatingMac::default()), with_restart,
        "The MAC address of floating addresses: the virtual one, or the device's where a network forbids others."
        => word(&FloatingMac::CHOICES, &ha.mac);
    lease: Lease = choice("lease", &Lease::CHOICES), unset("auto, but always beside nodes of kind vrrp"),
        "Whether an active node that cannot send hellos in time stops forwarding always, or only while another node could take over."
        => word(&Lease::CHOICES, &ha.lease);
    sessions: SessionCopying = choice("sessions", &SessionCopying::CHOICES), optional(SessionCopying::default()), with_restart,
        "Which sessions the active node copies to the others: those that they could not compute, which are translated ones, those of services, \
         and those whose firewall is not the one of their hash; or none." => word(&SessionCopying::CHOICES, &ha.sessions);
    sync_delay: Duration = duration("sync-delay", SYNC_DELAY), optional(Duration::from_millis(1)),
        "How long the active node collects what it tells of sessions, and 3 ms after a time without changes if that is longer. A crash \
         loses sessions that began in this time."
        => time(ha.sync_delay);
    ports: PortSharing = choice("ports", &PortSharing::CHOICES), optional(PortSharing::default()), with_restart,
        "Whether each node gives out its own part of the ports that stand for clients in `full-nat`, or all of them." =>
        word(&PortSharing::CHOICES, &ha.ports);
    nodes: Node = tables("node"), required(""), "The nodes, this one included.";
}

section! {
    /// The values of `[[ha.node]]`.
    Node = "[[ha.node]]" "A node of the cluster. The one with the name of the engine is this one.";
    facts(node: &ha::NodeConfig, _config);
    reserved;
    name: String = string("name", NAME, value::name), required("\"outer-a\""),
        "The name of the node, which is that of its engine." => text(&node.name);
    priority: u8 = number("priority", 1..=254), unset("200 for the first, 10 less for each further one"),
        "Its priority: of nodes that are equally healthy, the one with the highest starts as the active one."
        => bare(node.priority);
    addresses: IpAddr = strings("addresses", "an address", value::station_address),
        required("[\"198.51.100.2\", \"10.1.0.2\"]"),
        "Its own addresses on the links, one for each family that has floating addresses there."
        => list(&node.addresses, text);
    sync: IpAddr = string("sync", "an address of the kernel", value::station_address), unset("over the links only"),
        "Its address on a network between the nodes, on a device that no engine owns." => or_none(node.sync, text);
    kind: NodeKind = choice("kind", &NodeKind::CHOICES), optional(NodeKind::default()),
        "This program, or another VRRP router, which gets no sessions." => word(&NodeKind::CHOICES, &node.kind);
}
