//! The keys of every section but `[api]`, `[log]` and `[[service]]`.

pub use super::api::{API, TLS, TOKEN};
pub use super::log::LOG;
pub use super::service_keys::{SERVER, SERVICE, SERVICE_CHECK, STICKY};
use super::words::{ADMIN, BELOW_MIN, HASH, IO, KIND, LEARN_BY, ON_FAILURE};
use crate::config::schema::{Key, Kind, Schema, words};
use crate::time::Duration;

/// Idle times and the like: longer ones are typing errors.
pub const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

const MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const IDLE: Kind = Kind::Duration(Duration::from_millis(100)..=TIME_MAX);
pub const NAME: Kind = Kind::Word("a name of 1 to 63 letters, digits, `.`, `_` and `-`");
pub const PATH: Kind = Kind::Word("an absolute path");

/// The whole file. Its keys are the sections.
pub static ROOT: Schema = Schema {
    section: "the file",
    about: "One file is one engine.",
    keys: &[
        Key::required("engine", Kind::Table, "", "The engine itself."),
        Key::unset("api", Kind::Table, "the API is served on the control socket alone", "The API on the network."),
        Key::unset("log", Kind::Table, "its defaults", "What is logged, and where to."),
        Key::unset("limits", Kind::Table, "its defaults", "Capacities."),
        Key::unset("timeouts", Kind::Table, "its defaults", "How long sessions may idle."),
        Key::unset("link", Kind::Tables, "none", "The devices, or VLANs on them, that the engine owns."),
        Key::unset("route", Kind::Tables, "connected subnets only", "Where packets go."),
        Key::unset("group", Kind::Tables, "none", "Firewalls that share load."),
        Key::unset("service", Kind::Tables, "none", "Virtual services and their servers."),
    ],
    reserved: &["ha", "policy", "pool", "defaults", "bridge", "bgp", "hooks"],
    absent: &[],
};

pub static ENGINE: Schema = Schema {
    section: "[engine]",
    about: "The engine itself. None of it changes by a reload.",
    keys: &[
        Key::required("name", NAME, "\"outer\"", "Its name, unique among the engines that meet.").at_start(),
        Key::unset("workers", Kind::Number(1..=256), "one per CPU", "Packet workers.").at_start(),
        Key::optional(
            "io",
            Kind::Choice(|| words(&IO)),
            "How frames come and go: AF_PACKET works on any device, AF_XDP is faster.",
        )
        .at_start(),
        Key::optional(
            "xdp-send",
            Kind::Flag,
            "With af-packet, plain frames leave by an AF_XDP socket where the device allows it.",
        )
        .at_start(),
        Key::optional("busy-poll", Kind::Flag, "Workers spin instead of sleeping: lowest latency, one core each.")
            .at_start(),
        Key::optional("control", Kind::Word("the absolute path of a socket, 107 bytes at most"), "The control socket.")
            .at_start(),
        Key::optional("state", PATH, "The directory of what has to survive a restart.").at_start(),
        Key::unset("user", NAME, "fwlb, if there is such a user", "Who the process becomes when root started it.")
            .at_start(),
        Key::unset("group", NAME, "the user's own", "Its group.").at_start(),
        Key::optional("sandbox", Kind::Flag, "The process may make only the system calls that a running engine needs.")
            .at_start(),
    ],
    reserved: &["include"],
    absent: &[],
};

pub static LIMITS: Schema = Schema {
    section: "[limits]",
    about: "Capacities, which are reserved at start, and what one source may have of them. Meeting one is counted.",
    keys: &[
        Key::optional("sessions", Kind::Number(1..=100_000_000), "Sessions that are remembered.").at_start(),
        Key::optional("sticky", Kind::Number(1..=100_000_000), "Clients that keep their server.").at_start(),
        Key::optional("neighbors", Kind::Number(1..=1_000_000), "Entries of the neighbour table.").at_start(),
        Key::optional("pending", Kind::Number(1..=65_536), "Frames that wait for a neighbour to answer.").at_start(),
        Key::optional("punts", Kind::Number(1..=1_000_000), "Frames on their way to the control thread.").at_start(),
        Key::optional("fragments", Kind::Number(1..=1_000_000), "Fragmented datagrams that are known.").at_start(),
        Key::optional("held", Kind::Number(1..=65_536), "Later fragments that wait for their first.").at_start(),
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
        Key::optional("tcp-established", IDLE, "TCP after that."),
        Key::optional("tcp-closing", IDLE, "TCP after a FIN both ways or an RST."),
        Key::optional("udp-new", IDLE, "UDP until an answer was seen (RFC 4787 REQ-5)."),
        Key::optional("udp", IDLE, "UDP after that."),
        Key::optional("icmp", IDLE, "Pings."),
        Key::optional("other", IDLE, "ESP, AH, GRE, SCTP and the rest."),
        Key::optional("fragment", IDLE, "Until a fragmented datagram is given up.").at_start(),
    ],
    reserved: &[],
    absent: &[],
};

pub static LINK: Schema = Schema {
    section: "[[link]]",
    about: "A network device, or one VLAN on it, that the engine owns while it runs.",
    keys: &[
        Key::required("name", NAME, "\"clients\"", "Its name, unique in the file."),
        Key::required(
            "device",
            Kind::Word("a device as `ip link` shows it, or `mac:` and the hardware address of a card"),
            "\"eth0\"",
            "The device.",
        )
        .at_start(),
        Key::unset("vlan", Kind::Number(1..=4094), "untagged", "802.1Q tag; several links may share a device.")
            .at_start(),
        Key::unset(
            "addresses",
            Kind::Words("an address with the length of its subnet, as in 198.51.100.1/24"),
            "none",
            "The engine's addresses on the link.",
        ),
        Key::unset("mac", Kind::Word("a hardware address"), "the device's", "The engine's hardware address there."),
        Key::unset("mtu", Kind::Number(576..=65_535), "the device's", "The largest IP packet, in bytes."),
    ],
    reserved: &["zone", "bridge", "floating"],
    absent: &[],
};

pub static ROUTE: Schema = Schema {
    section: "[[route]]",
    about: "Where packets go: to a next hop, or through a group of firewalls. The longest prefix wins; connected subnets need no \
            route.",
    keys: &[
        Key::required(
            "to",
            Kind::Words("a prefix, or \"default\" for both families"),
            "\"default\"",
            "The destinations.",
        ),
        Key::unset(
            "via",
            Kind::Words("an address, one per family"),
            "no next hop",
            "The next hop; with `group` the way round it, which below-min = \"bypass\" needs.",
        ),
        Key::unset(
            "link",
            NAME,
            "the link in whose subnet `via` lies",
            "The link of `via`; a link-local next hop needs it.",
        ),
        Key::unset("group", NAME, "through no firewalls", "The group of firewalls that the packets go through."),
        Key::unset(
            "peer",
            NAME,
            "up toward every peer",
            "With `group`: firewalls have to be up toward this peer only.",
        ),
        Key::unset(
            "firewall",
            NAME,
            "by hash",
            "With `group`: the firewall that is taken while it is up, as for its NAT range.",
        ),
    ],
    reserved: &["metric"],
    absent: &[],
};

pub static GROUP: Schema = Schema {
    section: "[[group]]",
    about: "Stateful firewalls that share load. Its name, seed and firewalls are the same on the engines of both sides.",
    keys: &[
        Key::required("name", NAME, "\"perimeter\"", "Its name."),
        Key::required(
            "seed",
            Kind::Secret("a text of 16 bytes or more"),
            "\"file:/etc/fwlb/seed\"",
            "The secret that keys the hash and the probes.",
        ),
        Key::optional("hash", Kind::Choice(|| words(&HASH)), "What of a flow chooses its firewall."),
        Key::optional(
            "on-failure",
            Kind::Choice(|| words(&ON_FAILURE)),
            "What becomes of the sessions of a firewall that went down.",
        ),
        Key::optional("min-up", Kind::Number(1..=64), "With fewer live firewalls than this, below-min holds."),
        Key::optional(
            "below-min",
            Kind::Choice(|| words(&BELOW_MIN)),
            "Then packets are dropped, or go round the group.",
        ),
        Key::optional(
            "drain-timeout",
            Kind::DurationOrNever(Duration::ZERO..=TIME_MAX),
            "How long sessions of a draining firewall may stay.",
        ),
        Key::required("peer", Kind::Tables, "", "The engines on the far sides."),
        Key::unset("check", Kind::Table, "its defaults", "How paths are probed."),
        Key::required("firewall", Kind::Tables, "", "The firewalls."),
    ],
    reserved: &["synced", "helpers"],
    absent: &[],
};

pub static PEER: Schema = Schema {
    section: "[[group.peer]]",
    about: "An engine on a far side of the firewalls, which answers the probes.",
    keys: &[
        Key::required("name", NAME, "\"inner\"", "Its name."),
        Key::unset(
            "addresses",
            Kind::Words("an address, one per family"),
            "each firewall's own `addresses`, for transparent firewalls",
            "Its addresses on the firewalls' link.",
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
        Key::optional("kind", Kind::Choice(|| words(&KIND)), "What a probe is."),
        Key::unset("port", Kind::Number(1..=65_535), "none; tcp and udp need it", "The port of tcp and udp probes."),
        Key::optional("interval", Kind::Duration(Duration::from_millis(10)..=MINUTES), "From one probe to the next."),
        Key::optional(
            "timeout",
            Kind::Duration(Duration::from_millis(1)..=MINUTES),
            "For one answer; probes may overlap.",
        ),
        Key::optional("fall", Kind::Number(1..=255), "Missed probes in a row until a path is down."),
        Key::optional("rise", Kind::Number(1..=255), "Answered probes in a row until it is up."),
        Key::optional(
            "hold",
            Kind::Duration(Duration::ZERO..=HOUR),
            "Good for this long before it takes new flows again.",
        ),
    ],
    reserved: &["https", "send", "expect", "negative"],
    absent: &[],
};

pub static FIREWALL: Schema = Schema {
    section: "[[group.firewall]]",
    about: "A firewall of the group, as it stands on one of the engine's links.",
    keys: &[
        Key::required("name", NAME, "\"fw1\"", "Its name, which enters the hash."),
        Key::required("link", NAME, "\"firewalls\"", "The link it stands on."),
        Key::required(
            "addresses",
            Kind::Words("an address, one per family"),
            "[\"10.1.0.11\", \"fd00:1::11\"]",
            "The next hop; for a transparent firewall the peer engine's address on that link.",
        ),
        Key::optional(
            "learn-by",
            Kind::Choice(|| words(&LEARN_BY)),
            "Its packets are known by their MAC, or are all that arrive on the link.",
        ),
        Key::optional("weight", Kind::Number(1..=256), "Its share of the flows."),
        Key::optional("spare", Kind::Flag, "It takes over only for a firewall that is down."),
        Key::optional("admin", Kind::Choice(|| words(&ADMIN)), "Its administrative state."),
    ],
    reserved: &["peers", "macs", "max-sessions", "max-rate", "slow-start"],
    absent: &[],
};

/// Every section, in the order of the reference.
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
