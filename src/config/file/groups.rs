//! Declares `[[group]]` and its subsections.

use std::net::IpAddr;

use ipnet::IpNet;

use super::choices::CHECK_KIND_RESERVED;
use super::section::section;
use super::{NAME, TIME_MAX};
use crate::config::fact::{Value, bare, list, or_never, or_none, text, time};
use crate::config::{self, AdminState, BelowMin, LearnBy, OnFailure, PathCheck, PathCheckKind, value};
use crate::flow::{AffinityRule, HashMode};
use crate::time::Duration;

const MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const NO_WEIGHT: &str = "remove the line for weight 1; a firewall that is to take nothing gets admin = \"drain\"";

section! {
    /// The values of `[[group]]`.
    Group = "[[group]]" "Stateful firewalls that share load. Its name, seed and firewalls are the same on the engines of both sides.";
    facts(group: &config::Group, _config);
    reserved "synced", "helpers";
    name: String = string("name", NAME, value::name), required("\"perimeter\""),
        "The group's name." => text(&group.name);
    seed: String = secret("seed", "a text of 16 bytes or more"), required("\"file:/etc/fwlb/seed\""),
        "The secret key of the hash and of the probes." => Value::Hidden(group.seed.digest(b"which seed is it"));
    hash: HashMode = choice("hash", &HashMode::CHOICES), optional(HashMode::default()),
        "The fields of a packet that choose its firewall." => text(group.hash);
    on_failure: OnFailure = choice("on-failure", &OnFailure::CHOICES), optional(OnFailure::default()),
        "What happens to the sessions of a firewall that went down." => text(group.on_failure);
    min_up: u16 = number("min-up", 1..=64), optional(1),
        "With fewer live firewalls than this, `below-min` applies." => bare(group.min_up);
    below_min: BelowMin = choice("below-min", &BelowMin::CHOICES), optional(BelowMin::default()),
        "With too few live firewalls: drop packets, or send them past the group." => text(group.below_min);
    drain_timeout: Option<Duration> = duration_or_never("drain-timeout", Duration::ZERO..=TIME_MAX),
        optional(Some(Duration::from_secs(300))),
        "How long the sessions of a draining firewall may stay." => or_never(group.drain_timeout);
    peers: Peer = tables("peer"), required(""), "The engines on the far side of the firewalls.";
    check: Check = table("check"), unset("its defaults"), "How the paths through the firewalls are probed.";
    firewalls: Firewall = tables("firewall"), required(""), "The firewalls.";
    affinity: Affinity = tables("affinity"), unset("no host has another hash"), "Hosts whose flows are hashed by other fields.";
}

section! {
    /// The values of `[[group.affinity]]`.
    Affinity = "[[group.affinity]]" "Hosts whose connections belong together and must cross one firewall, as those of FTP, SIP, RTSP, PPTP and IPsec. \
            It counts for flows with an end in the prefixes, and must be the same on all engines of the group. The longest \
            prefix of an end wins; of two ends, the hash that more flows share.";
    facts(rule: &AffinityRule, _config);
    reserved;
    prefixes: IpNet = strings("prefixes", "a prefix", value::prefix), required("[\"203.0.113.21/32\", \"2001:db8:113::21/128\"]"),
        "The addresses." => text(rule.prefix);
    hash: HashMode = choice("hash", &HashMode::CHOICES), optional(HashMode::Addresses),
        "The fields of a packet that choose its firewall." => text(rule.mode);
}

section! {
    /// The values of `[[group.peer]]`.
    Peer = "[[group.peer]]" "An engine on the far side of the firewalls. It answers the probes.";
    facts(peer: &config::Peer, _config);
    reserved;
    name: String = string("name", NAME, value::name), required("\"inner\""),
        "The peer's name, unique in the group." => text(&peer.name);
    addresses: IpAddr = strings("addresses", "an address, one per family", value::station_address),
        unset("each firewall's own `addresses`, for transparent firewalls"),
        "The peer's addresses on the firewalls' link; of several engines the floating ones." => list(&peer.addresses, text);
    engines: PeerEngine = tables_or_names("engines"), unset("one engine of any name"),
        "The engines that have these addresses in turn.";
}

section! {
    /// The values of `[[group.peer.engines]]`.
    PeerEngine = "[[group.peer.engines]]" "One of several engines behind a peer's addresses. Also written as a list: \
            engines = [{ name = \"inner-a\", addresses = [\"10.2.0.2\", \"fd00:2::2\"] }, \"inner-b\"].";
    facts(engine: &config::PeerEngine, _config);
    reserved;
    name: String = string("name", NAME, value::name), required("\"inner-a\""),
        "The engine's name, as its own file has it." => text(&engine.name);
    addresses: IpAddr = strings("addresses", "an address, one per family", value::station_address),
        unset("none: it is known by its name alone"),
        "Addresses of its own on the firewalls' link, from which it probes." => list(&engine.addresses, text);
}

named_enum! {
    /// `kind` of `[group.check]`.
    pub enum CheckKindName {
        Icmp = "icmp",
        Tcp = "tcp",
        Udp = "udp",
        None = "none",
    }
}

section! {
    /// The values of `[group.check]`.
    Check = "[group.check]" "Probes through each firewall to each peer, for each family. A path is down after `fall` probes without an answer, \
            and up after `rise` with one.";
    facts(check: &PathCheck, _config);
    reserved "https", "send", "expect", "negative";
    kind: CheckKindName = choice("kind", &CheckKindName::CHOICES, CHECK_KIND_RESERVED), optional(CheckKindName::Icmp),
        "The kind of probe." => text(kind_and_port(check.kind).0);
    port: u16 = number("port", 1..=65_535), unset("none; tcp and udp need it"),
        "The destination port of tcp and udp probes." => or_none(kind_and_port(check.kind).1, bare);
    interval: Duration = duration("interval", Duration::from_millis(10)..=MINUTES),
        optional(PathCheck::default().interval), "The time between probes." => time(check.interval);
    timeout: Duration = duration("timeout", Duration::from_millis(1)..=MINUTES),
        optional(PathCheck::default().timeout),
        "How long to wait for an answer; probes may overlap." => time(check.timeout);
    fall: u8 = number("fall", 1..=255), optional(PathCheck::default().fall),
        "Unanswered probes in a row after which a path is down." => bare(check.fall);
    rise: u8 = number("rise", 1..=255), optional(PathCheck::default().rise),
        "Answered probes in a row after which a path is up." => bare(check.rise);
    hold: Duration = duration("hold", Duration::ZERO..=HOUR), optional(PathCheck::default().hold),
        "How long a recovered firewall must be good before it takes new flows." => time(check.hold);
}

fn kind_and_port(kind: PathCheckKind) -> (CheckKindName, Option<u16>) {
    match kind {
        PathCheckKind::Icmp => (CheckKindName::Icmp, None),
        PathCheckKind::Tcp { port } => (CheckKindName::Tcp, Some(port)),
        PathCheckKind::Udp { port } => (CheckKindName::Udp, Some(port)),
        PathCheckKind::None => (CheckKindName::None, None),
    }
}

section! {
    /// The values of `[[group.firewall]]`.
    Firewall = "[[group.firewall]]" "A firewall of the group, as it stands on one of the engine's links.";
    facts(firewall: &config::Firewall, config);
    reserved "peers", "macs", "max-sessions", "max-rate", "slow-start";
    name: String = string("name", NAME, value::name), required("\"fw1\""),
        "The firewall's name, which is part of the hash input." => text(&firewall.name);
    link: String = string("link", NAME, value::name), required("\"firewalls\""),
        "The link on which it is a neighbour." => text(&config.links[firewall.link.index()].name);
    addresses: IpAddr = strings("addresses", "an address, one per family", value::station_address),
        required("[\"10.1.0.11\", \"fd00:1::11\"]"),
        "Its next-hop addresses; for a transparent firewall those of the peer engine on that link."
        => list(&firewall.addresses, text);
    learn_by: LearnBy = choice("learn-by", &LearnBy::CHOICES), optional(LearnBy::default()),
        "Its packets are recognised by source MAC, or are all that arrive on the link."
        => text(firewall.learn_by);
    weight: u16 = number("weight", 1..=256, NO_WEIGHT), optional(1),
        "Its share of the flows, relative to other firewalls." => bare(firewall.weight);
    spare: bool = flag("spare"), optional(false),
        "It takes flows only in place of a firewall that is down." => bare(firewall.spare);
    admin: AdminState = choice("admin", &AdminState::CHOICES), optional(AdminState::default()),
        "Its administrative state." => text(firewall.admin);
}
