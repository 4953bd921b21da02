//! Reads the file as a whole.
//!
//! The text is parsed into a tree of TOML values that is read key by key, because a derived deserialiser would stop at
//! the first mistake.

use std::ops::Range;

use toml::de::DeTable;

use super::{
    Api, Check, Engine, Firewall, Group, Ha, Limits, Link, Log, Node, Peer, PeerEngine, Route, Server, Service,
    ServiceCheck, Sticky,
};
use super::{Timeouts, Tls, Token};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Declared, Reader};
use crate::config::schema::{Key, Schema, Unset, ValueKind};

/// The file itself: its keys are the top-level sections.
static ROOT: Schema = Schema {
    section: "the file",
    inline: None,
    about: "One file is one engine.",
    keys: &[
        Key::new("engine", ValueKind::Table, Unset::Required(""), "The process, its name and how it does packet I/O."),
        Key::new(
            "api",
            ValueKind::Table,
            Unset::Means("the API is served on the control socket alone"),
            "The API on the network.",
        ),
        Key::new("log", ValueKind::Table, Unset::Means("its defaults"), "What is logged, and where to."),
        Key::new("limits", ValueKind::Table, Unset::Means("its defaults"), "Capacities of the tables."),
        Key::new(
            "timeouts",
            ValueKind::Table,
            Unset::Means("its defaults"),
            "Idle times after which sessions are forgotten.",
        ),
        Key::new(
            "ha",
            ValueKind::Table,
            Unset::Means("the engine stands alone"),
            "Several engines as one virtual router.",
        ),
        Key::new(
            "link",
            ValueKind::Tables,
            Unset::Means("none"),
            "The devices, or VLANs on them, that the engine owns.",
        ),
        Key::new("route", ValueKind::Tables, Unset::Means("connected subnets only"), "The next hops of packets."),
        Key::new("group", ValueKind::Tables, Unset::Means("none"), "Stateful firewalls that share load."),
        Key::new("service", ValueKind::Tables, Unset::Means("none"), "Virtual services and their real servers."),
    ],
    reserved: &["policy", "pool", "defaults", "bridge", "bgp", "hooks"],
};

/// All sections, in the order of the reference.
pub fn all() -> [&'static Schema; 21] {
    [
        &ROOT,
        Engine::schema(),
        Api::schema(),
        Tls::schema(),
        Token::schema(),
        Log::schema(),
        Limits::schema(),
        Timeouts::schema(),
        Ha::schema(),
        Node::schema(),
        Link::schema(),
        Route::schema(),
        Group::schema(),
        Peer::schema(),
        PeerEngine::schema(),
        Check::schema(),
        Firewall::schema(),
        Service::schema(),
        ServiceCheck::schema(),
        Server::schema(),
        Sticky::schema(),
    ]
}

/// The tables of one file.
#[derive(Debug, Clone)]
pub struct File {
    pub engine: Option<Engine>,
    pub api: Api,
    pub log: Log,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub ha: Option<Ha>,
    pub links: Vec<Link>,
    pub routes: Vec<Route>,
    pub groups: Vec<Group>,
    pub services: Vec<Service>,
}

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
    let all = all();
    let root = Reader::root(root.get_ref(), &ROOT, &all, out);
    Some(File {
        // An [engine] that is no table is read as one without keys, so that the name is asked for as well.
        engine: root.raw("engine").is_some().then(|| root.table_or_empty("engine", out)),
        api: root.table("api", out).unwrap_or_default(),
        log: root.table("log", out).unwrap_or_default(),
        limits: root.table("limits", out).unwrap_or_default(),
        timeouts: root.table("timeouts", out).unwrap_or_default(),
        ha: root.table("ha", out),
        links: root.tables("link", out),
        routes: root.tables("route", out),
        groups: root.tables("group", out),
        services: root.tables("service", out),
    })
}

fn syntax(message: &str, span: Range<usize>) -> Diagnostic {
    let error = Diagnostic::error(span, message.to_owned());
    match message {
        "duplicate key" => error.hint("TOML allows a key, and a [section] that is no list, once"),
        _ => error,
    }
}
