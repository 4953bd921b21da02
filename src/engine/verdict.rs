//! What becomes of a frame.

use std::net::IpAddr;

use crate::id::LinkId;
use crate::wire::MacAddr;
use crate::wire::offload::Offload;
use crate::wire::vlan::VlanTag;

/// The fate of one received frame: exactly one per frame, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the (edited) bytes on another link than the one they came by.
    Forward(LinkId),
    /// Send the (edited) bytes on the link they came by.
    Hairpin(LinkId),
    /// Forwarded as something else: fragments wait in [`crate::engine::Forwarder::poll_transmit`].
    Replaced,
    /// Handed to the controller; the frame itself is done with.
    Punted,
    /// Not forwarded, for this reason.
    Dropped(DropReason),
}

/// Why a frame is handed (or, for errors, also shown) to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PuntReason {
    /// ARP, or IPv6 neighbour discovery.
    Neighbor,
    /// Addressed to the engine: ping, probes, probe answers.
    Local,
    /// Edited and ready to leave by `link`, but the next hop's MAC is not known.
    NeighborWait {
        /// Egress link.
        link: LinkId,
        /// Whom to resolve.
        next_hop: IpAddr,
        /// The source hardware address that the frame came with: who hears of it if nobody answers.
        sender: MacAddr,
    },
    /// The packet was dropped and its sender is to be told (the copy is cut to what an error quotes).
    IcmpError(IcmpError),
}

/// Which ICMP error to send. The controller builds, limits and returns it to where the packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// Time exceeded in transit (11/0; ICMPv6 3/0).
    TimeExceeded,
    /// No route (3/0; ICMPv6 1/0).
    NoRoute,
    /// The next hop does not answer (3/1; ICMPv6 1/3). Made by the controller itself.
    HostUnreachable,
    /// Fragmentation needed (3/4), packet too big (ICMPv6 2/0), with the MTU of the next hop in bytes.
    TooBig {
        /// Bytes of IP packet that would fit.
        mtu: u16,
    },
    /// Administratively prohibited (3/13; ICMPv6 1/1).
    Prohibited,
}

/// A frame on its way to the controller: a copy with what the ring knew about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punt {
    /// Why.
    pub reason: PuntReason,
    /// The link that it came by.
    pub link: LinkId,
    /// Its tag as received, or for [`PuntReason::NeighborWait`] the egress tag.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work left undone.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
    /// For [`PuntReason::NeighborWait`]: the packet as its sender knows it, if a service changed it; as much as an ICMP error
    /// quotes.
    pub original: Option<Vec<u8>>,
}

/// The bounded way from the forwarders to the controller.
pub trait PuntQueue {
    /// Takes the punt, or answers false when full. Never waits.
    fn offer(&mut self, punt: Punt) -> bool;

    /// The same for what a verdict about a firewall or a server hangs on: it goes before what [`PuntQueue::offer`] took, and has
    /// room of its own, in a queue that knows of that.
    fn offer_first(&mut self, punt: Punt) -> bool {
        self.offer(punt)
    }
}

/// A frame that the engine itself wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// By which link; the tag of the link is in `vlan`.
    pub link: LinkId,
    /// The outer 802.1Q tag to put on.
    pub vlan: Option<VlanTag>,
    /// Checksum and segmentation work left to the device.
    pub offload: Offload,
    /// The Ethernet frame without its outer tag.
    pub bytes: Vec<u8>,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// Why a frame was not forwarded. The name is stable: operators grep for `drop_<name>`, tests assert it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl DropReason {
            /// All reasons, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("drop_", $name),)* }
            }

            /// The reason's word: the counter's name without `drop_`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// Position in [`DropReason::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header.
    EthernetTruncated => "ethernet_truncated",
    /// The capture was shorter than the frame (A1.7).
    Truncated => "truncated",
    /// A VLAN that no link of this engine has, or VID 4095.
    UnknownVlan => "unknown_vlan",
    /// Source MAC is a group address or zero.
    BadSourceMac => "bad_source_mac",
    /// To another station's MAC (the device is promiscuous).
    OtherHost => "other_host",
    /// Link-layer control: LLC, STP, LLDP, LACP, pause.
    LinkControl => "link_control",
    /// An EtherType that a router does not forward.
    EtherType => "ethertype",
    /// IP header truncated or impossible.
    IpHeader => "ip_header",
    /// IP version contradicts the EtherType.
    IpVersion => "ip_version",
    /// IP length impossible.
    IpLength => "ip_length",
    /// IPv4 header checksum wrong.
    IpChecksum => "ip_checksum",
    /// Source route.
    SourceRoute => "source_route",
    /// Transport header truncated or impossible.
    Transport => "transport",
    /// Fragment too small to hold its headers.
    TinyFragment => "tiny_fragment",
    /// ICMP checksum wrong.
    IcmpChecksum => "icmp_checksum",
    /// Source address that no packet may have (A4.4).
    MartianSource => "martian_source",
    /// Destination address that no packet may have.
    MartianDestination => "martian_destination",
    /// Source and destination are the same endpoint.
    Land => "land",
    /// Multicast or broadcast data; a router without multicast routing.
    Multicast => "multicast",
    /// Link-local address in transit (A3.3).
    LinkLocal => "link_local",
    /// On a firewall link, from nobody known.
    UnknownFirewall => "unknown_firewall",
    /// The route leads back into the group that the packet came from.
    GroupLoop => "group_loop",
    /// No route to the destination.
    NoRoute => "no_route",
    /// TTL or hop limit ran out.
    TtlExpired => "ttl_expired",
    /// Larger than the egress MTU and not to be fragmented.
    TooBig => "too_big",
    /// No firewall of the group is up.
    NoPathUp => "no_path_up",
    /// Fewer firewalls than `min-up` are live.
    BelowMin => "below_min",
    /// The session's firewall failed and `on-failure` is `drop` or `reset`.
    FirewallFailed => "firewall_failed",
    /// No server of the service can take a new session.
    NoServerUp => "no_server_up",
    /// The session's server failed and `on-failure` is `drop` or `reset`.
    ServerFailed => "server_failed",
    /// Every port that could stand for the client is in use or rests.
    SnatExhausted => "snat_exhausted",
    /// To the server the flow would look like another one that lives, and no port is left to tell them apart.
    NatClash => "nat_clash",
    /// A translated flow found no room in the session table.
    SessionTableFull => "session_table_full",
    /// From a server whose replies are translated, in a conversation that no session knows: as it is, it would show the server to
    /// a client of the service, and be half a conversation to firewalls.
    StrayReply => "stray_reply",
    /// It cannot be translated: the checksum lies in another fragment, or too little is quoted.
    Untranslatable => "untranslatable",
    /// A super-frame that no device would segment, and that cannot be segmented here: a tunnel that is not known, or numbers its
    /// packets.
    NotSegmentable => "not_segmentable",
    /// The egress link is down.
    LinkDown => "link_down",
    /// A later fragment of a datagram that the full fragment table does not know.
    FragmentTableFull => "fragment_table_full",
    /// A later fragment that came first, and the store of those is full.
    FragmentHeldFull => "fragment_held_full",
    /// Overlaps what decided about the datagram (RFC 1858, RFC 5722).
    FragmentOverlap => "fragment_overlap",
    /// An ICMP error that is not addressed to the sender of the packet it quotes (A7.4).
    IcmpMismatch => "icmp_mismatch",
    /// The queue to the controller is full.
    PuntQueueFull => "punt_queue_full",
    /// More probes of peers and answers to probes than a worker hands to the controller.
    PuntLimitProbe => "punt_limit_probe",
    /// More answers to questions of the engine's own than a worker hands to the controller.
    PuntLimitAnswer => "punt_limit_answer",
    /// More ARP and neighbour discovery than a worker hands to the controller, of one station or of all.
    PuntLimitNeighbor => "punt_limit_neighbor",
    /// More pings of the engine than a worker hands to the controller, of one source or of all.
    PuntLimitPing => "punt_limit_ping",
    /// More of anything else to the engine than a worker hands to the controller, of one source or of all.
    PuntLimitLocal => "punt_limit_local",
    /// More packets to unresolved next hops than a worker hands to the controller, of one source or of all.
    PuntLimitWaiting => "punt_limit_waiting",
    /// Made into fragments for which the queue of frames to send has no room.
    TransmitQueueFull => "transmit_queue_full",
}
