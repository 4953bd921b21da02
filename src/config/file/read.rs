//! Reads all sections of the text; those in files of their own are called from here.
//!
//! The text is parsed into a tree of TOML values that is read key by key, because a derived deserialiser would stop at
//! the first mistake.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use super::api::{API, read_api};
use super::choices::{ADMIN, BELOW_MIN, HASH, IO, KIND, LEARN_BY, ON_FAILURE};
use super::keys::{ALL, CHECK, ENGINE, FIREWALL, GROUP, LIMITS, LINK, PEER, ROOT, ROUTE, TIMEOUTS};
use super::log::{LOG, read_log};
use super::service_keys::SERVICE;
use super::services::read_service;
use super::{Check, Destination, Engine, File, Firewall, Group, Limits, Link, Peer, Route, Timeouts};
use crate::config::Io;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Field, Reader};
use crate::config::schema::Schema;
use crate::config::synonyms;
use crate::config::value::{self, InvalidValue};

const NO_WEIGHT: &str = "remove the line for weight 1; a firewall that is to take nothing gets admin = \"drain\"";

/// Parses and reads `text`. `None` if its syntax is broken: nothing behind the broken place can be judged, so that only
/// the syntax is reported.
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
    Engine {
        name: reader.string("name", value::name, out),
        workers: reader.number("workers", out),
        io: reader.string("io", io, out),
        xdp_send: reader.flag("xdp-send", out),
        busy_poll: reader.flag("busy-poll", out),
        control: reader.string("control", socket_path, out),
        state: reader.string("state", path, out),
        user: reader.string("user", value::name, out),
        group: reader.string("group", value::name, out),
        sandbox: reader.flag("sandbox", out),
    }
}

fn io(text: &str) -> Result<Io, InvalidValue> {
    let unknown = || {
        let refused = InvalidValue::new(format!("`io` must be \"af-packet\" or \"af-xdp\", found {text:?}"));
        synonyms::hinted(refused, "io", text)
    };
    IO.into_iter().find(|(word, _)| *word == text).map(|(_, io)| io).ok_or_else(unknown)
}

pub(super) fn path(text: &str) -> Result<PathBuf, InvalidValue> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(PathBuf::from(text)),
        false => Err(InvalidValue::new(format!("not an absolute path: {text:?}"))),
    }
}

/// Parses the path of a Unix socket. The kernel's `sun_path` has 108 bytes, the terminating zero included (unix(7)).
pub(super) fn socket_path(text: &str) -> Result<PathBuf, InvalidValue> {
    match text.len() {
        0..=107 => path(text),
        long => Err(InvalidValue::new(format!("the path of a socket may have 107 bytes, this one has {long}"))),
    }
}

fn read_limits(reader: &Reader<'_>, out: &mut Diagnostics) -> Limits {
    Limits {
        sessions: reader.number("sessions", out),
        sticky: reader.number("sticky", out),
        neighbors: reader.number("neighbors", out),
        pending: reader.number("pending", out),
        punts: reader.number("punts", out),
        fragments: reader.number("fragments", out),
        held: reader.number("held", out),
        source_sessions: reader.number("source-sessions", out),
        source_rate: reader.number("source-rate", out),
    }
}

fn read_timeouts(reader: &Reader<'_>, out: &mut Diagnostics) -> Timeouts {
    let mut time = |key| reader.duration(key, out);
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
    let vlan = match reader.raw("vlan") {
        Some(raw) if raw.get_ref().is_array() => {
            let message = "`vlan` as a list is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("write one [[link]] per VLAN"));
            Field::Invalid
        }
        Some(_) | None => reader.number("vlan", out),
    };
    Link {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        device: reader.string("device", value::device, out),
        vlan,
        addresses: reader.strings("addresses", value::interface, out),
        mac: reader.string("mac", value::mac, out),
        mtu: reader.number("mtu", out),
    }
}

fn read_route(reader: &Reader<'_>, out: &mut Diagnostics) -> Route {
    let destination = |text: &str| match text {
        "default" => Ok(Destination::Default),
        _ => value::prefix(text).map(Destination::Prefix),
    };
    Route {
        span: reader.span(),
        to: reader.strings("to", destination, out),
        via: reader.strings("via", value::station_address, out),
        link: reader.string("link", value::name, out),
        group: reader.string("group", value::name, out),
        peer: reader.string("peer", value::name, out),
        firewall: reader.string("firewall", value::name, out),
    }
}

fn read_group(reader: &Reader<'_>, out: &mut Diagnostics) -> Group {
    let check = reader.table("check", CHECK.section, out);
    Group {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        seed: reader.string("seed", |text| Ok(text.to_owned()), out),
        hash: reader.choice("hash", &HASH, out),
        on_failure: reader.choice("on-failure", &ON_FAILURE, out),
        min_up: reader.number("min-up", out),
        below_min: reader.choice("below-min", &BELOW_MIN, out),
        drain_timeout: reader.duration_or_never("drain-timeout", out),
        check: check.map(|(table, span)| {
            let reader = Reader::new(table, span, &CHECK, &ALL, out);
            read_check(&reader, out)
        }),
        peers: each(reader, "peer", &PEER, out, read_peer),
        firewalls: each(reader, "firewall", &FIREWALL, out, read_firewall),
    }
}

fn read_check(reader: &Reader<'_>, out: &mut Diagnostics) -> Check {
    let kind = match reader.raw("kind") {
        Some(raw) if raw.get_ref().as_str() == Some("https") => {
            let message = "the kind \"https\" is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("use \"icmp\", \"tcp\" or \"udp\""));
            Field::Invalid
        }
        Some(_) | None => reader.choice("kind", &KIND, out),
    };
    Check {
        span: reader.span(),
        kind,
        port: reader.number("port", out),
        interval: reader.duration("interval", out),
        timeout: reader.duration("timeout", out),
        fall: reader.number("fall", out),
        rise: reader.number("rise", out),
        hold: reader.duration("hold", out),
    }
}

fn read_peer(reader: &Reader<'_>, out: &mut Diagnostics) -> Peer {
    Peer {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        addresses: reader.strings("addresses", value::station_address, out),
    }
}

fn read_firewall(reader: &Reader<'_>, out: &mut Diagnostics) -> Firewall {
    Firewall {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        link: reader.string("link", value::name, out),
        addresses: reader.strings("addresses", value::station_address, out),
        learn_by: reader.choice("learn-by", &LEARN_BY, out),
        weight: reader.number_or("weight", Some(NO_WEIGHT), out),
        spare: reader.flag("spare", out),
        admin: reader.choice("admin", &ADMIN, out),
    }
}
