//! Declares the keys of all sections except `[api]`, `[log]` and `[[service]]`.

pub use super::api::{API, TLS, TOKEN};
use super::choices::{ADMIN, BELOW_MIN, HASH, IO, KIND, LEARN_BY, ON_FAILURE};
pub use super::log::LOG;
pub use super::service_keys::{SERVER, SERVICE, SERVICE_CHECK, STICKY};
use crate::config::schema::{Key, Schema, ValueKind, choice_names};
use crate::time::Duration;

/// The longest idle time or drain timeout, 30 days. A longer one is a typing error.
pub const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

const MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const IDLE: ValueKind = ValueKind::Duration(Duration::from_millis(100)..=TIME_MAX);
pub const NAME: ValueKind = ValueKind::String("a name of 1 to 63 letters, digits, `.`, `_` and `-`");
pub const PATH: ValueKind = ValueKind::String("an absolute path");

/// The file itself: its keys are the top-level sections.
pub static ROOT: Schema = Schema {
    section: "the file",
    about: "One file is one engine.",
    keys: &[
        Key::required("engine", ValueKind::Table, "", "The process, its name and how it does packet I/O."),
        Key::unset("api", ValueKind::Table, "the API is served on the control socket alone", "The API on the network."),
        Key::unset("log", ValueKind::Table, "its defaults", "What is logged, and where to."),
        Key::unset("limits", ValueKind::Table, "its defaults", "Capacities of the tables."),
        Key::unset("timeouts", ValueKind::Table, "its defaults", "Idle times after which sessions are forgotten."),
        Key::unset("link", ValueKind::Tables, "none", "The devices, or VLANs on them, that the engine owns."),
        Key::unset("route", ValueKind::Tables, "connected subnets only", "The next hops of packets."),
        Key::unset("group", ValueKind::Tables, "none", "Stateful firewalls that share load."),
        Key::unset("service", ValueKind::Tables, "none", "Virtual services and their real servers."),
    ],
    reserved: &["ha", "policy", "pool", "defaults", "bridge", "bgp", "hooks"],
    absent: &[],
};

pub static ENGINE: Schema = Schema {
    section: "[engine]",
    about: "The process and its packet I/O. A reload changes none of it.",
    keys: &[
        Key::required("name", NAME, "\"outer\"", "The engine's name, unique among engines that share firewalls.")
            .with_restart(),
        Key::unset("workers", ValueKind::Number(1..=256), "one per CPU", "The number of packet workers.")
            .with_restart(),
        Key::optional(
            "io",
            ValueKind::Choice(|| choice_names(&IO)),
            "The kind of socket: AF_PACKET works on every device, AF_XDP is faster.",
        )
        .with_restart(),
        Key::optional(
            "xdp-send",
            ValueKind::Flag,
            "With af-packet: frames that need no offload are sent by AF_XDP where the device allows it.",
        )
        .with_restart(),
        Key::optional(
            "busy-poll",
            ValueKind::Flag,
            "Workers poll without sleeping: lowest latency, one full core each.",
        )
        .with_restart(),
        Key::optional(
            "control",
            ValueKind::String("the absolute path of a socket, 107 bytes at most"),
            "The path of the control socket.",
        )
        .with_restart(),
        Key::optional("state", PATH, "The directory of the files that survive a restart.").with_restart(),
        Key::unset(
            "user",
            NAME,
            "fwlb, if there is such a user",
            "The user that the process runs as when root starts it.",
        )
        .with_restart(),
        Key::unset("group", NAME, "the user's own", "The group that the process runs as.").with_restart(),
        Key::optional(
            "sandbox",
            ValueKind::Flag,
            "A seccomp filter allows only the system calls that a running engine needs.",
        )
        .with_restart(),
    ],
    reserved: &["include"],
    absent: &[],
};

pub static LIMITS: Schema = Schema {
    section: "[limits]",
    about: "Capacities of the tables, which are reserved at start, and limits of what one source may use of them. Every time that one is reached is counted.",
    keys: &[
        Key::optional("sessions", ValueKind::Number(1..=100_000_000), "Entries of the session table.").with_restart(),
        Key::optional(
            "sticky",
            ValueKind::Number(1..=100_000_000),
            "Entries of the sticky table: clients whose server is remembered.",
        )
        .with_restart(),
        Key::optional("neighbors", ValueKind::Number(1..=1_000_000), "Entries of the neighbour table.").with_restart(),
        Key::optional(
            "pending",
            ValueKind::Number(1..=65_536),
            "Frames that wait for the MAC address of their next hop.",
        )
        .with_restart(),
        Key::optional(
            "punts",
            ValueKind::Number(1..=1_000_000),
            "Frames in the queue from the workers to the control thread.",
        )
        .with_restart(),
        Key::optional("fragments", ValueKind::Number(1..=1_000_000), "Fragmented datagrams that are tracked.")
            .with_restart(),
        Key::optional(
            "held",
            ValueKind::Number(1..=65_536),
            "Later fragments that wait for the first of their datagram.",
        )
        .with_restart(),
        Key::unset(
            "source-sessions",
            ValueKind::Number(1..=100_000_000),
            "no limit",
            "Live sessions that one source, an IPv4 address or a /64 of IPv6, may have opened.",
        ),
        Key::unset(
            "source-rate",
            ValueKind::Number(1..=1_000_000),
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
        Key::optional("fragment", IDLE, "A fragmented datagram, after its last fragment.").with_restart(),
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
            ValueKind::String("a device as `ip link` shows it, or `mac:` and the hardware address of a card"),
            "\"eth0\"",
            "The network device.",
        )
        .with_restart(),
        Key::unset(
            "vlan",
            ValueKind::Number(1..=4094),
            "untagged",
            "The 802.1Q VLAN; several links may share a device.",
        )
        .with_restart(),
        Key::unset(
            "addresses",
            ValueKind::Strings("an address with the length of its subnet, as in 198.51.100.1/24"),
            "none",
            "The engine's addresses on the link.",
        ),
        Key::unset(
            "mac",
            ValueKind::String("a hardware address"),
            "the device's",
            "The engine's MAC address on the link.",
        ),
        Key::unset("mtu", ValueKind::Number(576..=65_535), "the device's", "The MTU: the largest IP packet, in bytes."),
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
            ValueKind::Strings("a prefix, or \"default\" for both families"),
            "\"default\"",
            "The destination prefixes.",
        ),
        Key::unset(
            "via",
            ValueKind::Strings("an address, one per family"),
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
            ValueKind::Secret("a text of 16 bytes or more"),
            "\"file:/etc/fwlb/seed\"",
            "The secret key of the hash and of the probes.",
        ),
        Key::optional(
            "hash",
            ValueKind::Choice(|| choice_names(&HASH)),
            "The fields of a packet that choose its firewall.",
        ),
        Key::optional(
            "on-failure",
            ValueKind::Choice(|| choice_names(&ON_FAILURE)),
            "What happens to the sessions of a firewall that went down.",
        ),
        Key::optional("min-up", ValueKind::Number(1..=64), "With fewer live firewalls than this, `below-min` applies."),
        Key::optional(
            "below-min",
            ValueKind::Choice(|| choice_names(&BELOW_MIN)),
            "With too few live firewalls: drop packets, or send them past the group.",
        ),
        Key::optional(
            "drain-timeout",
            ValueKind::DurationOrNever(Duration::ZERO..=TIME_MAX),
            "How long the sessions of a draining firewall may stay.",
        ),
        Key::required("peer", ValueKind::Tables, "", "The engines on the far side of the firewalls."),
        Key::unset("check", ValueKind::Table, "its defaults", "How the paths through the firewalls are probed."),
        Key::required("firewall", ValueKind::Tables, "", "The firewalls."),
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
            ValueKind::Strings("an address, one per family"),
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
        Key::optional("kind", ValueKind::Choice(|| choice_names(&KIND)), "The kind of probe."),
        Key::unset(
            "port",
            ValueKind::Number(1..=65_535),
            "none; tcp and udp need it",
            "The destination port of tcp and udp probes.",
        ),
        Key::optional("interval", ValueKind::Duration(Duration::from_millis(10)..=MINUTES), "The time between probes."),
        Key::optional(
            "timeout",
            ValueKind::Duration(Duration::from_millis(1)..=MINUTES),
            "How long to wait for an answer; probes may overlap.",
        ),
        Key::optional("fall", ValueKind::Number(1..=255), "Unanswered probes in a row after which a path is down."),
        Key::optional("rise", ValueKind::Number(1..=255), "Answered probes in a row after which a path is up."),
        Key::optional(
            "hold",
            ValueKind::Duration(Duration::ZERO..=HOUR),
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
            ValueKind::Strings("an address, one per family"),
            "[\"10.1.0.11\", \"fd00:1::11\"]",
            "Its next-hop addresses; for a transparent firewall those of the peer engine on that link.",
        ),
        Key::optional(
            "learn-by",
            ValueKind::Choice(|| choice_names(&LEARN_BY)),
            "Its packets are recognised by source MAC, or are all that arrive on the link.",
        ),
        Key::optional("weight", ValueKind::Number(1..=256), "Its share of the flows, relative to other firewalls."),
        Key::optional("spare", ValueKind::Flag, "It takes flows only in place of a firewall that is down."),
        Key::optional("admin", ValueKind::Choice(|| choice_names(&ADMIN)), "Its administrative state."),
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
