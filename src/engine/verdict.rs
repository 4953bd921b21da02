//! What the forwarder decides about a frame, and what it passes to the controller or queues for sending.

use std::net::IpAddr;

use crate::id::LinkId;
use crate::wire::MacAddr;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// The decision about a received frame. Every frame gets exactly one, which is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The edited frame is sent on another link than the one it was received on.
    Forward(LinkId),
    /// The edited frame is sent on the link it was received on.
    Hairpin(LinkId),
    /// The packet is sent on in other frames, such as fragments, which [`crate::engine::Forwarder::poll_transmit`]
    /// returns.
    Replaced,
    /// The controller has a copy, or the frame is a fragment that is held. It is not sent now.
    Punted,
    /// The frame is not sent on, for this reason.
    Dropped(DropReason),
}

/// Why a frame is passed to the controller. A dropped packet that needs an ICMP error is passed to it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PuntReason {
    /// ARP or IPv6 neighbour discovery.
    Neighbor,
    /// The packet is addressed to the engine: ping, probes, answers to probes and health checks.
    Local,
    /// The frame is edited and ready to be sent, but the MAC address of its next hop is not resolved.
    NeighborWait {
        /// The link to send it on.
        link: LinkId,
        /// The address to resolve.
        next_hop: IpAddr,
        /// The source MAC address of the frame as it was received. If the next hop does not answer, the ICMP error goes
        /// there.
        sender: MacAddr,
    },
    /// VRRP, or a datagram of [`crate::ha::PORT`], of another node of the cluster. It is for the thread of the role
    /// machine, and never for the controller.
    Cluster,
    /// The packet was dropped and its sender is to get an ICMP error. The copy is cut to what the error quotes.
    IcmpError(IcmpError),
}

/// An ICMP error. The controller limits the rate, builds it, and sends it back on the link that the packet came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// Time exceeded in transit (ICMP 11/0, ICMPv6 3/0).
    TimeExceeded,
    /// No route to destination (ICMP 3/0, ICMPv6 1/0).
    NoRoute,
    /// The next hop does not answer (ICMP 3/1, ICMPv6 1/3). Only the controller makes this one.
    HostUnreachable,
    /// Fragmentation needed (ICMP 3/4) or packet too big (ICMPv6 2/0).
    TooBig {
        /// The largest IP packet that would fit, in bytes.
        mtu: u16,
    },
    /// Communication administratively prohibited (ICMP 3/13, ICMPv6 1/1).
    Prohibited,
}

/// A copy of a frame for the controller, with the metadata of its ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punt {
    /// Why the controller gets it.
    pub reason: PuntReason,
    /// The link that it was received on.
    pub link: LinkId,
    /// The outer tag as received; for [`PuntReason::NeighborWait`] the tag to send it with.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation that are left to a device.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
    /// For [`PuntReason::NeighborWait`] of a packet that a service changed: the beginning of the packet as it was
    /// received, for an ICMP error to quote.
    pub original: Option<Vec<u8>>,
}

/// The bounded queue from the forwarders to the controller.
pub trait PuntQueue {
    /// Takes the punt; false if the queue is full. Never waits.
    fn offer(&mut self, punt: Punt) -> bool;

    /// Takes a punt that decides about the state of a firewall or server. A queue that distinguishes them serves it
    /// before those of [`PuntQueue::offer`], and has room of its own for it.
    fn offer_urgent(&mut self, punt: Punt) -> bool {
        self.offer(punt)
    }

    /// Takes a punt of another node of the cluster, [`PuntReason::Cluster`], for the thread of the role machine. A queue
    /// of an engine that stands alone refuses it.
    fn offer_cluster(&mut self, _punt: Punt) -> bool {
        false
    }
}

/// A frame that the engine itself sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The link to send it on.
    pub link: LinkId,
    /// The outer 802.1Q tag of the link.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation that are left to the device.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// Why a frame is dropped. The names are stable: operators search for `drop_<name>`, and tests check it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl DropReason {
            /// All reasons in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of the counter: `drop_<word>`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("drop_", $name),)* }
            }

            /// The name of the counter without `drop_`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the reason means, in a sentence or two.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// The position in [`DropReason::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    /// The frame is shorter than an Ethernet header.
    EthernetTruncated => "ethernet_truncated",
    /// The frame was captured only in part (rule A1.7 of `docs/protocols.md`).
    Truncated => "truncated",
    /// No link of this engine has the VLAN, or its identifier is the reserved 4095.
    UnknownVlan => "unknown_vlan",
    /// The source MAC address is a group address or zero.
    BadSourceMac => "bad_source_mac",
    /// The frame is for another station: it arrived because the device is promiscuous.
    OtherHost => "other_host",
    /// Link-layer control protocols: LLC, STP, LLDP, LACP, pause frames.
    LinkControl => "link_control",
    /// The EtherType is none that a router forwards.
    EtherType => "ethertype",
    /// The IP header is truncated or invalid.
    IpHeader => "ip_header",
    /// The IP version contradicts the EtherType.
    IpVersion => "ip_version",
    /// The IP length is impossible.
    IpLength => "ip_length",
    /// The IPv4 header checksum is wrong.
    IpChecksum => "ip_checksum",
    /// The packet has a source route option.
    SourceRoute => "source_route",
    /// The transport header is truncated or invalid.
    Transport => "transport",
    /// The first fragment is too small for the headers.
    TinyFragment => "tiny_fragment",
    /// The ICMP checksum is wrong.
    IcmpChecksum => "icmp_checksum",
    /// No packet may have this source address (rule A4.4 of `docs/protocols.md`).
    MartianSource => "martian_source",
    /// No packet may have this destination address.
    MartianDestination => "martian_destination",
    /// Source and destination are the same address and port.
    Land => "land",
    /// Multicast or broadcast packets, which a router without multicast routing does not forward.
    Multicast => "multicast",
    /// A link-local address that would have to be routed (rule A3.3 of `docs/protocols.md`).
    LinkLocal => "link_local",
    /// The frame arrived on a link of firewalls from a station that is none of them.
    UnknownFirewall => "unknown_firewall",
    /// The route leads back into the group that the packet came from.
    GroupLoop => "group_loop",
    /// There is no route to the destination.
    NoRoute => "no_route",
    /// The TTL or hop limit ran out.
    TtlExpired => "ttl_expired",
    /// The packet exceeds the egress MTU and must not be fragmented.
    TooBig => "too_big",
    /// No firewall of the group is up, or the one that a connection belongs to has no first verdict yet after a start.
    NoPathUp => "no_path_up",
    /// Fewer firewalls than `min-up` are live.
    BelowMin => "below_min",
    /// The session's firewall failed, and `on-failure` is `drop` or `reset`.
    FirewallFailed => "firewall_failed",
    /// No server of the service can take a new session.
    NoServerUp => "no_server_up",
    /// The session's server failed, and `on-failure` is `drop` or `reset`.
    ServerFailed => "server_failed",
    /// Every port of the source addresses of `full-nat` is in use, or was used too recently.
    SnatExhausted => "snat_exhausted",
    /// Source ports or places in the session table run short, and the packet's source has more of them than a fair share.
    SourceShare => "source_share",
    /// The packet's source has as many sessions as it may (`[limits] source-sessions`).
    SourceSessions => "source_sessions",
    /// The packet's source opens more sessions a second than it may (`[limits] source-rate`).
    SourceRate => "source_rate",
    /// To the server the flow would have the same addresses and ports as another live one, and no free port tells them
    /// apart.
    NatClash => "nat_clash",
    /// The session table has no room for a translated flow, which cannot be forwarded without a session.
    SessionTableFull => "session_table_full",
    /// A server whose replies are translated sent a packet that belongs to no session. Untranslated it would reveal the
    /// server's address to a client of the service, and be half a conversation to firewalls.
    StrayReply => "stray_reply",
    /// The packet cannot be translated: its checksum is in another fragment, or an ICMP error quotes too little.
    Untranslatable => "untranslatable",
    /// A GSO frame that no device would segment and that cannot be segmented in software: its tunnel is unknown or
    /// numbers packets.
    NotSegmentable => "not_segmentable",
    /// The egress link is down.
    LinkDown => "link_down",
    /// This node of a cluster is not active, and only the active one forwards packets and answers for the virtual MAC
    /// address.
    Standby => "standby",
    /// This node of a cluster was active, but its lease is over: it was silent for so long that another node may have
    /// taken over.
    Lease => "lease",
    /// A later fragment of an unknown datagram arrived while the fragment table was full.
    FragmentTableFull => "fragment_table_full",
    /// A later fragment arrived before the first of its datagram while the store for such fragments was full.
    FragmentHeldFull => "fragment_held_full",
    /// The fragment overlaps the one that decided about the datagram (RFC 1858, RFC 5722).
    FragmentOverlap => "fragment_overlap",
    /// An ICMP error is not addressed to the sender of the packet that it quotes (rule A7.4 of `docs/protocols.md`).
    IcmpMismatch => "icmp_mismatch",
    /// The queue to the controller is full.
    PuntQueueFull => "punt_queue_full",
    /// Probes of peers, or answers to probes, exceed the rate at which a worker passes them to the controller.
    PuntLimitProbe => "punt_limit_probe",
    /// Answers to health checks and other requests of the engine exceed the rate at which a worker passes them to the
    /// controller.
    PuntLimitAnswer => "punt_limit_answer",
    /// ARP and neighbour discovery, of one station or of all, exceed the rate at which a worker passes them to the
    /// controller.
    PuntLimitNeighbor => "punt_limit_neighbor",
    /// Pings of the engine, of one source or of all, exceed the rate at which a worker passes them to the controller.
    PuntLimitPing => "punt_limit_ping",
    /// Other packets to the engine, of one source or of all, exceed the rate at which a worker passes them to the
    /// controller.
    PuntLimitLocal => "punt_limit_local",
    /// Packets to unresolved next hops, of one source or of all, exceed the rate at which a worker passes them to the
    /// controller.
    PuntLimitWaiting => "punt_limit_waiting",
    /// The queue of frames to send has no room for the fragments or segments of the packet.
    TransmitQueueFull => "transmit_queue_full",
}
