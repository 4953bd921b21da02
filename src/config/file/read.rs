//! The keys of every section, and how they are read.
//!
//! The text is parsed into a generic tree and read by hand, not by a deserialiser, because a deserialiser stops at the
//! first mistake.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use super::api::{API, TLS, TOKEN, read_api};
use super::log::{LOG, read_log};
use super::services::{SERVER, SERVICE, SERVICE_CHECK, STICKY, read_service};
use super::{Check, Destination, Engine, File, Firewall, Group, Kind, Limits, Link, Peer, Route, Timeouts};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Field, Reader, Schema};
use crate::config::synonyms;
use crate::config::value::{self, Refused};
use crate::config::{Admin, BelowMin, Io, LearnBy, OnFailure};
use crate::flow::HashMode;
use crate::time::Duration;

const NO_WEIGHT: &str = "remove the line for weight 1; a firewall that is to take nothing gets admin = \"drain\"";

static ROOT: Schema = Schema {
    section: "the file",
    keys: &["engine", "api", "log", "limits", "timeouts", "link", "route", "group", "service"],
    reserved: &["ha", "policy", "pool", "defaults", "bridge", "bgp", "hooks"],
    absent: &[],
};
static ENGINE: Schema = Schema {
    section: "[engine]",
    keys: &["name", "workers", "io", "xdp-send", "busy-poll", "control", "state", "user", "group", "sandbox"],
    reserved: &["include"],
    absent: &[],
};
static LIMITS: Schema = Schema {
    section: "[limits]",
    keys: &["sessions", "sticky", "neighbors", "pending", "punts", "fragments", "held"],
    reserved: &[],
    absent: &[],
};
static TIMEOUTS: Schema = Schema {
    section: "[timeouts]",
    keys: &["tcp-syn", "tcp-established", "tcp-closing", "udp-new", "udp", "icmp", "other", "fragment"],
    reserved: &[],
    absent: &[],
};
static LINK: Schema = Schema {
    section: "[[link]]",
    keys: &["name", "device", "vlan", "addresses", "mac", "mtu"],
    reserved: &["zone", "bridge", "floating"],
    absent: &[],
};
static ROUTE: Schema = Schema {
    section: "[[route]]",
    keys: &["to", "via", "link", "group", "peer", "firewall"],
    reserved: &["metric"],
    absent: &[],
};
static GROUP: Schema = Schema {
    section: "[[group]]",
    keys: &["name", "seed", "hash", "on-failure", "min-up", "below-min", "drain-timeout", "peer", "check", "firewall"],
    reserved: &["synced", "helpers"],
    absent: &[],
};
static PEER: Schema = Schema { section: "[[group.peer]]", keys: &["name", "addresses"], reserved: &[], absent: &[] };
static CHECK: Schema = Schema {
    section: "[group.check]",
    keys: &["kind", "port", "interval", "timeout", "fall", "rise", "hold"],
    reserved: &["https", "send", "expect", "negative"],
    absent: &[],
};
static FIREWALL: Schema = Schema {
    section: "[[group.firewall]]",
    keys: &["name", "link", "addresses", "learn-by", "weight", "spare", "admin"],
    reserved: &["peers", "macs", "max-sessions", "max-rate", "slow-start"],
    absent: &[],
};
pub(super) static ALL: [&Schema; 18] = [
    &ROOT,
    &ENGINE,
    &API,
    &TLS,
    &TOKEN,
    &LOG,
    &LIMITS,
    &TIMEOUTS,
    &LINK,
    &ROUTE,
    &GROUP,
    &PEER,
    &CHECK,
    &FIREWALL,
    &SERVICE,
    &SERVICE_CHECK,
    &SERVER,
    &STICKY,
];

pub(super) const ON_FAILURE: [(&str, OnFailure); 4] = [
    ("reselect", OnFailure::Reselect),
    ("reset", OnFailure::Reset),
    ("keep", OnFailure::Keep),
    ("drop", OnFailure::Drop),
];
pub(super) const ADMIN: [(&str, Admin); 3] =
    [("ready", Admin::Ready), ("drain", Admin::Drain), ("maint", Admin::Maint)];

/// Idle times and the like: longer ones are typing errors.
pub(super) const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Parses and reads `text`. `None` if its syntax is broken: what follows a broken place cannot be judged, so that only
/// the syntax is reported then.
pub fn read(text: &str, out: &mut Diagnostics) -> Option<File> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let end = text.trim_end().len();
            out.push(syntax(error.message(), error.span().unwrap_or(end..end)));
        }
        return None;
    }
    let root = Reader::new(root.get_ref(), 0..0, &ROOT, &ALL, out);
    let empty = DeTable::new();
    let section = |schema: &'static Schema, out: &mut Diagnostics| {
        let table = root.table(schema.section.trim_matches(['[', ']']), schema.section, out);
        let (table, span) = table.unwrap_or((&empty, 0..0));
        Reader::new(table, span, schema, &ALL, out)
    };
    let engine = root.raw("engine").is_some().then(|| section(&ENGINE, out));
    let (api, log) = (section(&API, out), section(&LOG, out));
    let (limits, timeouts) = (section(&LIMITS, out), section(&TIMEOUTS, out));
    Some(File {
        engine: engine.map(|reader| read_engine(&reader, out)),
        api: read_api(&api, out),
        log: read_log(&log, out),
        limits: read_limits(&limits, out),
        timeouts: read_timeouts(&timeouts, out),
        links: each(&root, "link", &LINK, out, read_link),
        routes: each(&root, "route", &ROUTE, out, read_route),
        groups: each(&root, "group", &GROUP, out, read_group),
        services: each(&root, "service", &SERVICE, out, read_service),
    })
}

fn syntax(message: &str, span: Range<usize>) -> Diagnostic {
    let error = Diagnostic::error(span, message.to_owned());
    match message {
        "duplicate key" => error.hint("TOML allows a key, and a [section] that is no list, once"),
        _ => error,
    }
}

pub(super) fn each<T>(
    reader: &Reader<'_>,
    key: &str,
    schema: &'static Schema,
    out: &mut Diagnostics,
    read: impl Fn(&Reader<'_>, &mut Diagnostics) -> T,
) -> Vec<T> {
    let tables = reader.tables(key, schema.section, out);
    tables
        .into_iter()
        .map(|(table, span)| {
            let reader = Reader::new(table, span, schema, &ALL, out);
            read(&reader, out)
        })
        .collect()
}

fn read_engine(reader: &Reader<'_>, out: &mut Diagnostics) -> Engine {
    reader.require("name", "\"outer\"", out);
    Engine {
        name: reader.word("name", value::name, out),
        workers: reader.number("workers", 1..=256, out),
        io: reader.word("io", io, out),
        xdp_send: reader.flag("xdp-send", out),
        busy_poll: reader.flag("busy-poll", out),
        control: reader.word("control", socket_path, out),
        state: reader.word("state", path, out),
        user: reader.word("user", value::name, out),
        group: reader.word("group", value::name, out),
        sandbox: reader.flag("sandbox", out),
    }
}

fn io(text: &str) -> Result<Io, Refused> {
    let all = [Io::AfPacket, Io::AfXdp];
    let unknown = || {
        let refused = Refused::new(format!("`io` must be \"af-packet\" or \"af-xdp\", found {text:?}"));
        synonyms::hinted(refused, "io", text)
    };
    all.into_iter().find(|io| io.word() == text).ok_or_else(unknown)
}

pub(super) fn path(text: &str) -> Result<PathBuf, Refused> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(PathBuf::from(text)),
        false => Err(Refused::new(format!("not an absolute path: {text:?}"))),
    }
}

/// A path for a Unix socket: the kernel's `sun_path` has 108 bytes with its end (unix(7)).
pub(super) fn socket_path(text: &str) -> Result<PathBuf, Refused> {
    match text.len() {
        0..=107 => path(text),
        long => Err(Refused::new(format!("the path of a socket may have 107 bytes, this one has {long}"))),
    }
}

fn read_limits(reader: &Reader<'_>, out: &mut Diagnostics) -> Limits {
    Limits {
        sessions: reader.number("sessions", 1..=100_000_000, out),
        sticky: reader.number("sticky", 1..=100_000_000, out),
        neighbors: reader.number("neighbors", 1..=1_000_000, out),
        pending: reader.number("pending", 1..=65_536, out),
        punts: reader.number("punts", 1..=1_000_000, out),
        fragments: reader.number("fragments", 1..=1_000_000, out),
        held: reader.number("held", 1..=65_536, out),
    }
}

fn read_timeouts(reader: &Reader<'_>, out: &mut Diagnostics) -> Timeouts {
    let mut time = |key| reader.duration(key, Duration::from_millis(100)..=TIME_MAX, out);
    Timeouts {
        tcp_syn: time("tcp-syn"),
        tcp_established: time("tcp-established"),
        tcp_closing: time("tcp-closing"),
        udp_new: time("udp-new"),
        udp: time("udp"),
        icmp: time("icmp"),
        other: time("other"),
        fragment: time("fragment"),
    }
}

fn read_link(reader: &Reader<'_>, out: &mut Diagnostics) -> Link {
    reader.require("name", "\"clients\"", out);
    reader.require("device", "\"eth0\"", out);
    let vlan = match reader.raw("vlan") {
        Some(raw) if raw.get_ref().is_array() => {
            let message = "`vlan` as a list is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("write one [[link]] per VLAN"));
            Field::Invalid
        }
        Some(_) | None => reader.number("vlan", 1..=4094, out),
    };
    Link {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        device: reader.word("device", value::device, out),
        vlan,
        addresses: reader.words("addresses", value::interface, out),
        mac: reader.word("mac", value::mac, out),
        mtu: reader.number("mtu", 576..=65_535, out),
    }
}

fn read_route(reader: &Reader<'_>, out: &mut Diagnostics) -> Route {
    reader.require("to", "\"default\"", out);
    let destination = |text: &str| match text {
        "default" => Ok(Destination::Default),
        _ => value::prefix(text).map(Destination::Prefix),
    };
    Route {
        span: reader.span(),
        to: reader.words("to", destination, out),
        via: reader.words("via", value::station, out),
        link: reader.word("link", value::name, out),
        group: reader.word("group", value::name, out),
        peer: reader.word("peer", value::name, out),
        firewall: reader.word("firewall", value::name, out),
    }
}

fn read_group(reader: &Reader<'_>, out: &mut Diagnostics) -> Group {
    reader.require("name", "\"perimeter\"", out);
    reader.require("seed", "\"file:/etc/fwlb/seed\"", out);
    let hash = [
        ("5-tuple", HashMode::FiveTuple),
        ("3-tuple", HashMode::ThreeTuple),
        ("addresses", HashMode::Addresses),
        ("source", HashMode::Source),
        ("destination", HashMode::Destination),
    ];
    let below_min = [("drop", BelowMin::Drop), ("bypass", BelowMin::Bypass)];
    let check = reader.table("check", CHECK.section, out);
    Group {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        seed: reader.word("seed", |text| Ok(text.to_owned()), out),
        hash: reader.choice("hash", &hash, out),
        on_failure: reader.choice("on-failure", &ON_FAILURE, out),
        min_up: reader.number("min-up", 1..=64, out),
        below_min: reader.choice("below-min", &below_min, out),
        drain_timeout: reader.duration_or_never("drain-timeout", Duration::ZERO..=TIME_MAX, out),
        check: check.map(|(table, span)| {
            let reader = Reader::new(table, span, &CHECK, &ALL, out);
            read_check(&reader, out)
        }),
        peers: each(reader, "peer", &PEER, out, read_peer),
        firewalls: each(reader, "firewall", &FIREWALL, out, read_firewall),
    }
}

fn read_check(reader: &Reader<'_>, out: &mut Diagnostics) -> Check {
    let kinds = [("icmp", Kind::Icmp), ("tcp", Kind::Tcp), ("udp", Kind::Udp), ("none", Kind::None)];
    let kind = match reader.raw("kind") {
        Some(raw) if raw.get_ref().as_str() == Some("https") => {
            let message = "the kind \"https\" is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("use \"icmp\", \"tcp\" or \"udp\""));
            Field::Invalid
        }
        Some(_) | None => reader.choice("kind", &kinds, out),
    };
    let minutes = Duration::from_secs(600);
    Check {
        span: reader.span(),
        kind,
        port: reader.number("port", 1..=65_535, out),
        interval: reader.duration("interval", Duration::from_millis(10)..=minutes, out),
        timeout: reader.duration("timeout", Duration::from_millis(1)..=minutes, out),
        fall: reader.number("fall", 1..=255, out),
        rise: reader.number("rise", 1..=255, out),
        hold: reader.duration("hold", Duration::ZERO..=Duration::from_secs(3600), out),
    }
}

fn read_peer(reader: &Reader<'_>, out: &mut Diagnostics) -> Peer {
    reader.require("name", "\"inner\"", out);
    Peer {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        addresses: reader.words("addresses", value::station, out),
    }
}

fn read_firewall(reader: &Reader<'_>, out: &mut Diagnostics) -> Firewall {
    reader.require("name", "\"fw1\"", out);
    reader.require("link", "\"firewalls\"", out);
    reader.require("addresses", "[\"10.1.0.11\", \"fd00:1::11\"]", out);
    Firewall {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        link: reader.word("link", value::name, out),
        addresses: reader.words("addresses", value::station, out),
        learn_by: reader.choice("learn-by", &[("mac", LearnBy::Mac), ("link", LearnBy::Link)], out),
        weight: reader.number_or("weight", 1..=256, Some(NO_WEIGHT), out),
        spare: reader.flag("spare", out),
        admin: reader.choice("admin", &ADMIN, out),
    }
}
