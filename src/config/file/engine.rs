//! Declares `[engine]`, `[limits]` and `[timeouts]`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::section::section;
use super::{NAME, PATH, TIME_MAX, path, socket_path};
use crate::config::fact::{bare, or_none, text, time};
use crate::config::value;
use crate::config::{self, Io};
use crate::session;
use crate::time::Duration;

const IDLE: RangeInclusive<Duration> = Duration::from_millis(100)..=TIME_MAX;

section! {
    /// The values of `[engine]`.
    Engine = "[engine]" "The process and its packet I/O. A reload changes none of it.";
    facts(engine: &config::Engine, _config);
    reserved "include";
    name: String = string("name", NAME, value::name), required("\"outer\""), with_restart,
        "The engine's name, unique among engines that share firewalls." => text(&engine.name);
    workers: u16 = number("workers", 1..=256), unset("one per CPU"), with_restart,
        "The number of packet workers." => or_none(engine.workers, bare);
    io: Io = choice("io", &Io::CHOICES), optional(Io::default()), with_restart,
        "The kind of socket: AF_PACKET works on every device, AF_XDP is faster." => text(engine.io);
    xdp_send: bool = flag("xdp-send"), optional(true), with_restart,
        "With af-packet: frames that need no offload are sent by AF_XDP where the device allows it."
        => bare(engine.xdp_send);
    busy_poll: bool = flag("busy-poll"), optional(false), with_restart,
        "Workers poll without sleeping: lowest latency, one full core each." => bare(engine.busy_poll);
    control: PathBuf = string("control", "the absolute path of a socket, 107 bytes at most", socket_path), optional(),
        with_restart, "The path of the control socket." => text(engine.control.display());
    state: PathBuf = string("state", PATH, path), optional(), with_restart,
        "The directory of the files that survive a restart." => text(engine.state.display());
    user: String = string("user", NAME, value::name), unset("fwlb, if there is such a user"), with_restart,
        "The user that the process runs as when root starts it." => or_none(engine.user.as_ref(), text);
    group: String = string("group", NAME, value::name), unset("the user's own"), with_restart,
        "The group that the process runs as." => or_none(engine.group.as_ref(), text);
    sandbox: bool = flag("sandbox"), optional(true), with_restart,
        "A seccomp filter allows only the system calls that a running engine needs." => bare(engine.sandbox);
}

section! {
    /// The values of `[limits]`.
    Limits = "[limits]" "Capacities of the tables, which are reserved at start, and limits of what one source may use of them. Every time that one is reached is counted.";
    facts(limits: &config::Limits, _config);
    reserved;
    sessions: usize = number("sessions", 1..=100_000_000), optional(config::Limits::default().sessions), with_restart,
        "Entries of the session table." => bare(limits.sessions);
    sticky: usize = number("sticky", 1..=100_000_000), optional(config::Limits::default().sticky), with_restart,
        "Entries of the sticky table: clients whose server is remembered." => bare(limits.sticky);
    neighbors: usize = number("neighbors", 1..=1_000_000), optional(config::Limits::default().neighbors), with_restart,
        "Entries of the neighbour table." => bare(limits.neighbors);
    pending: usize = number("pending", 1..=65_536), optional(config::Limits::default().pending), with_restart,
        "Frames that wait for the MAC address of their next hop." => bare(limits.pending);
    punts: usize = number("punts", 1..=1_000_000), optional(config::Limits::default().punts), with_restart,
        "Frames in the queue from the workers to the control thread." => bare(limits.punts);
    fragments: usize = number("fragments", 1..=1_000_000), optional(config::Limits::default().fragments), with_restart,
        "Fragmented datagrams that are tracked." => bare(limits.fragments);
    held: usize = number("held", 1..=65_536), optional(config::Limits::default().held), with_restart,
        "Later fragments that wait for the first of their datagram." => bare(limits.held);
    source_sessions: u32 = number("source-sessions", 1..=100_000_000), unset("no limit"),
        "Live sessions that one source, an IPv4 address or a /64 of IPv6, may have opened."
        => or_none(limits.source.sessions, bare);
    source_rate: u32 = number("source-rate", 1..=1_000_000), unset("no limit"),
        "New sessions a second of one source; after a pause those of one second at once."
        => or_none(limits.source.rate, bare);
}

section! {
    /// The values of `[timeouts]`.
    Timeouts = "[timeouts]" "Idle time after which a session is forgotten.";
    facts(timeouts: &session::Timeouts, _config);
    reserved;
    tcp_syn: Duration = duration("tcp-syn", IDLE), optional(session::Timeouts::default().tcp_syn),
        "TCP until the handshake is complete (RFC 5382 REQ-5)." => time(timeouts.tcp_syn);
    tcp_established: Duration = duration("tcp-established", IDLE),
        optional(session::Timeouts::default().tcp_established),
        "TCP after the handshake." => time(timeouts.tcp_established);
    tcp_closing: Duration = duration("tcp-closing", IDLE), optional(session::Timeouts::default().tcp_closing),
        "TCP after a FIN in both directions, or after an RST." => time(timeouts.tcp_closing);
    udp_new: Duration = duration("udp-new", IDLE), optional(session::Timeouts::default().udp_new),
        "UDP until a packet in the other direction was seen (RFC 4787 REQ-5)." => time(timeouts.udp_new);
    udp: Duration = duration("udp", IDLE), optional(session::Timeouts::default().udp),
        "UDP after a packet in the other direction." => time(timeouts.udp);
    icmp: Duration = duration("icmp", IDLE), optional(session::Timeouts::default().icmp),
        "ICMP echo." => time(timeouts.icmp);
    other: Duration = duration("other", IDLE), optional(session::Timeouts::default().other),
        "All other protocols, such as ESP, AH, GRE and SCTP." => time(timeouts.other);
    fragment: Duration = duration("fragment", IDLE), optional(session::Timeouts::default().fragment), with_restart,
        "A fragmented datagram, after its last fragment." => time(timeouts.fragment);
}
