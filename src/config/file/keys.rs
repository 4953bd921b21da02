//! Declares the keys of all sections except `[api]`, `[log]` and `[[service]]`.

pub use super::api::{API, TLS, TOKEN};
pub use super::log::LOG;
pub use super::service_keys::{SERVER, SERVICE, SERVICE_CHECK, STICKY};
use super::words::{ADMIN, BELOW_MIN, HASH, IO, KIND, LEARN_BY, ON_FAILURE};
use crate::config::schema::{Key, Kind, Schema, words};
use crate::time::Duration;

/// The longest idle time or drain timeout, 30 days. A longer one is a typing error.
pub const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

const MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const IDLE: Kind = Kind::Duration(Duration::from_millis(100)..=TIME_MAX);
pub const NAME: Kind = Kind::Word("a name of 1 to 63 letters, digits, `.`, `_` and `-`");
pub const PATH: Kind = Kind::Word("an absolute path");

/// The file itself: its keys are the top-level sections.
pub static ROOT: Schema = Schema {
    section: "the file",
    about: "One file is one engine.",
    keys: &[
        Key::required("engine", Kind::Table, "", "The process, its name and how it does packet I/O."),
        Key::unset("api", Kind::Table, "the API is served on the control socket alone", "The API on the network."),
        Key::unset("log", Kind::Table, "its defaults", "What is logged, and where to."),
        Key::unset("limits", Kind::Table, "its defaults", "Capacities of the tables."),
        Key::unset("timeouts", Kind::Table, "its defaults", "Idle times after which sessions are forgotten."),
        Key::unset("link", Kind::Tables, "none", "The devices, or VLANs on them, that the engine owns."),
        Key::unset("route", Kind::Tables, "connected subnets only", "The next hops of packets."),
        Key::unset("group", Kind::Tables, "none", "Stateful firewalls that share load."),
        Key::unset("service", Kind::Tables, "none", "Virtual services and their real servers."),
    ],
    reserved: &["ha", "policy", "pool", "defaults", "bridge", "bgp", "hooks"],
    absent: &[],
};

pub static ENGINE: Schema = Schema {
    section: "[engine]",
    about: "The process and its packet I/O. A reload changes none of it.",
    keys: &[
        Key::required("name", NAME, "\"outer\"", "The engine's name, unique among engines that share firewalls.")
            .at_start(),
        Key::unset("workers", Kind::Number(1..=256), "one per CPU", "The number of packet workers.").at_start(),
        Key::optional(
            "io",
            Kind::Choice(|| words(&IO)),
            "The kind of socket: AF_PACKET works on every device, AF_XDP is faster.",
        )
        .at_start(),
        Key::optional(
            "xdp-send",
            Kind::Flag,
            "With af-packet: frames that need no offload are sent by AF_XDP where the device allows it.",
        )
        .at_start(),
        Key::optional("busy-poll", Kind::Flag, "Workers poll without sleeping: lowest latency, one full core each.")
            .at_start(),
        Key::optional(
            "control",
            Kind::Word("the absolute path of a socket, 107 bytes at most"),
            "The path of the control socket.",
        )
        .at_start(),
        Key::optional("state", PATH, "The directory of the files that survive a restart.").at_start(),
        Key::unset(
            "user",
            NAME,
            "fwlb, if there is such a user",
            "The user that the process runs as when root starts it.",
        )
        .at_start(),
        Key::unset("group", NAME, "the user's own", "The group that the process runs as.").at_start(),
        Key::optional(
            "sandbox",
            Kind::Flag,
            "A seccomp filter allows only the system calls that a running engine needs.",
        )
        .at_start(),
    ],
    reserved: &["include"],
    absent: &[],
};

pub static LIMITS: Schema = Schema {
    section: "[limits]",
    about: "Capacities of the tables, which are reserved at start, and limits of what one source may use of them. Every time that one is reached is counted.",
    keys: &[
        Key::optional("sessions", Kind::Number(1..=100_000_000), "Entries of the session table.").at_start(),
        Key::optional(
            "sticky",
            Kind::Number(1..=100_000_000),
            "Entries of the sticky table: clients whose server is remembered.",
        )
        .at_start(),
        Key::optional("neighbors", Kind::Number(1..=1_000_000), "Entries of the neighbour table.").at_start(),
        Key::optional("pending", Kind::Number(1..=65_536), "Frames that wait for the MAC address of their next hop.")
            .at_start(),
        Key::optional(
            "punts",
            Kind::Number(1..=1_000_000),
            "Frames in the queue from the workers to the control thread.",
        )
        .at_start(),
        Key::optional("fragments", Kind::Number(1..=1_000_000), "Fragmented datagrams that are tracked.").at_start(),
        Key::optional("held", Kind::Number(1..=65_536), "Later fragments that wait for the first of their datagram.")
            .at_start(),
        Key::unset(
            "source-sessions",
            Kind::Number(1..=100_000_000),
            "no limit",
            "Live sessions that one source, an IPv4 address or a /64 of IPv6, may have opened.",
        ),
        Key::unset(
            "source-rate",
            Kind::Number(1..=1_000_000),
            "no limit",
            "New sessions a second of one source; after a pause those of one second at once.",
        ),
    ],
    reserved: &[],
    absent: &[],
};

pub static TIMEOUTS: Schema = Schema {
    section: "[timeouts]",
    about: "Idle time after which a session is forgotten.",
    keys: &[
        Key::optional("tcp-syn", IDLE, "TCP until the handshake is complete (RFC 5382 REQ-5)."),
        Key::optional("tcp-established", IDLE, "TCP after the handshake."),
        Key::optional("tcp-closing", IDLE, "TCP after a FIN in both directions, or after an RST."),
        Key::optional("udp-new", IDLE, "UDP until a packet in the other direction was seen (RFC 4787 REQ-5)."),
        Key::optional("udp", IDLE, "UDP after a packet in the other direction."),
        Key::optional("icmp", IDLE, "ICMP echo."),
        Key::optional("other", IDLE, "All other protocols, such as ESP, AH, GRE and SCTP."),
        Key::optional("fragment", IDLE, "A fragmented datagram, after its last fragment.").at_start(),
    ],
    reserved: &[],
    absent: &[],
};

pub static LINK: Schema = Schema {
    section: "[[link]]",
    about: "A network device, or one VLAN on it, that the engine owns while it runs.",
    keys: &[
        Key::required("name", NAME, "\"clients\"", "The link's name, unique in the file."),
        Key::required(
            "device",
            Kind::Word("a device as `ip link` shows it, or `mac:` and the hardware address of a card"),
            "\"eth0\"",
            "The network device.",
        )
        .at_start(),
        Key::unset("vlan", Kind::Number(1..=4094), "untagged", "The 802.1Q VLAN; several links may share a device.")
            .at_start(),
        Key::unset(
            "addresses",
            Kind::Words("an address with the length of its subnet, as in 198.51.100.1/24"),
            "none",
            "The engine's addresses on the link.",
        ),
        Key::unset("mac", Kind::Word("a hardware address"), "the device's", "The engine's MAC address on the link."),
        Key::unset("mtu", Kind::Number(576..=65_535), "the device's", "The MTU: the largest IP packet, in bytes."),
    ],
    reserved: &["zone", "bridge", "floating"],
    absent: &[],
};

pub static ROUTE: Schema = Schema {
    section: "[[route]]",
    about: "Where packets are sent: to a next hop, or through a group of firewalls. The longest prefix wins; connected subnets need no \
            route.",
    keys: &[
        Key::required(
            "to",
            Kind::Words("a prefix, or \"default\" for both families"),
            "\"default\"",
            "The destination prefixes.",
        ),
        Key::unset(
            "via",
            Kind::Words("an address, one per family"),
            "no next hop",
            "The next hop; with `group` that of the bypass, which below-min = \"bypass\" needs.",
        ),
        Key::unset(
            "link",
            NAME,
            "the link in whose subnet `via` lies",
            "The link of `via`; required for a link-local next hop.",
        ),
        Key::unset("group", NAME, "through no firewalls", "The group of firewalls that the packets pass."),
        Key::unset(
            "peer",
            NAME,
            "up toward every peer",
            "With `group`: a firewall is used if it is up toward this peer.",
        ),
        Key::unset(
            "firewall",
            NAME,
            "by hash",
            "With `group`: the firewall to use while it is up, as for its NAT addresses.",
        ),
    ],
    reserved: &["metric"],
    absent: &[],
};

pub static GROUP: Schema = Schema {
    section: "[[group]]",
    about: "Stateful firewalls that share load. Its name, seed and firewalls are the same on the engines of both sides.",
    keys: &[
        Key::required("name", NAME, "\"perimeter\"", "The group's name."),
        Key::required(
            "seed",
            Kind::Secret("a text of 16 bytes or more"),
            "\"file:/etc/fwlb/seed\"",
            "The secret key of the hash and of the probes.",
        ),
        Key::optional("hash", Kind::Choice(|| words(&HASH)), "The fields of a packet that choose its firewall."),
        Key::optional(
            "on-failure",
            Kind::Choice(|| words(&ON_FAILURE)),
            "What happens to the sessions of a firewall that went down.",
        ),
        Key::optional("min-up", Kind::Number(1..=64), "With fewer live firewalls than this, `below-min` applies."),
        Key::optional(
            "below-min",
            Kind::Choice(|| words(&BELOW_MIN)),
            "With too few live firewalls: drop packets, or send them past the group.",
        ),
        Key::optional(
            "drain-timeout",
            Kind::DurationOrNever(Duration::ZERO..=TIME_MAX),
            "How long the sessions of a draining firewall may stay.",
        ),
        Key::required("peer", Kind::Tables, "", "The engines on the far side of the firewalls."),
        Key::unset("check", Kind::Table, "its defaults", "How the paths through the firewalls are probed."),
        Key::required("firewall", Kind::Tables, "", "The firewalls."),
    ],
    reserved: &["synced", "helpers"],
    absent: &[],
};

pub static PEER: Schema = Schema {
    section: "[[group.peer]]",
    about: "An engine on the far side of the firewalls. It answers the probes.",
    keys: &[
        Key::required("name", NAME, "\"inner\"", "The peer's name, unique in the group."),
        Key::unset(
            "addresses",
            Kind::Words("an address, one per family"),
            "each firewall's own `addresses`, for transparent firewalls",
            "The peer's addresses on the firewalls' link.",
        ),
    ],
    reserved: &[],
    absent: &[],
};

pub static CHECK: Schema = Schema {
    section: "[group.check]",
    about: "Probes through each firewall to each peer, for each family. A path is down after `fall` probes without an answer, \
            and up after `rise` with one.",
    keys: &[
        Key::optional("kind", Kind::Choice(|| words(&KIND)), "The kind of probe."),
        Key::unset(
            "port",
            Kind::Number(1..=65_535),
            "none; tcp and udp need it",
            "The destination port of tcp and udp probes.",
        ),
        Key::optional("interval", Kind::Duration(Duration::from_millis(10)..=MINUTES), "The time between probes."),
        Key::optional(
            "timeout",
            Kind::Duration(Duration::from_millis(1)..=MINUTES),
            "How long to wait for an answer; probes may overlap.",
        ),
        Key::optional("fall", Kind::Number(1..=255), "Unanswered probes in a row after which a path is down."),
        Key::optional("rise", Kind::Number(1..=255), "Answered probes in a row after which a path is up."),
        Key::optional(
            "hold",
            Kind::Duration(Duration::ZERO..=HOUR),
            "How long a recovered firewall must be good before it takes new flows.",
        ),
    ],
    reserved: &["https", "send", "expect", "negative"],
    absent: &[],
};

pub static FIREWALL: Schema = Schema {
    section: "[[group.firewall]]",
    about: "A firewall of the group, as it stands on one of the engine's links.",
    keys: &[
        Key::required("name", NAME, "\"fw1\"", "The firewall's name, which is part of the hash input."),
        Key::required("link", NAME, "\"firewalls\"", "The link on which it is a neighbour."),
        Key::required(
            "addresses",
            Kind::Words("an address, one per family"),
            "[\"10.1.0.11\", \"fd00:1::11\"]",
            "Its next-hop addresses; for a transparent firewall those of the peer engine on that link.",
        ),
        Key::optional(
            "learn-by",
            Kind::Choice(|| words(&LEARN_BY)),
            "Its packets are recognised by source MAC, or are all that arrive on the link.",
        ),
        Key::optional("weight", Kind::Number(1..=256), "Its share of the flows, relative to other firewalls."),
        Key::optional("spare", Kind::Flag, "It takes flows only in place of a firewall that is down."),
        Key::optional("admin", Kind::Choice(|| words(&ADMIN)), "Its administrative state."),
    ],
    reserved: &["peers", "macs", "max-sessions", "max-rate", "slow-start"],
    absent: &[],
};

/// All sections, in the order of the reference.
pub static ALL: [&Schema; 18] = [
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
