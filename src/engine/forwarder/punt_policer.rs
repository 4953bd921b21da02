//! Limits what workers pass to the controller, for each kind of packet and each source, as routers police their control
//! plane (RFC 6192). Packets that decide about the state of a firewall or server have rates and a queue of their own,
//! so that no flood of pings, ARP or ND requests, or packets to closed ports displaces them.
//!
//! The rates hold for one packet worker. All rates together leave the control thread most of its time.

use std::net::{IpAddr, Ipv6Addr};

use crate::engine::limit::{Rate, RateLimiter};
use crate::engine::{DropReason, PuntReason, Snapshot};
use crate::health::service_prober::PORTS;
use crate::id::LinkId;
use crate::time::Instant;
use crate::wire::frame::{ETHERNET_LEN, protocol, tcp_flags};
use crate::wire::{MacAddr, probe};

/// A kind of frame for the controller, which has rates of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PuntClass {
    /// A probe of a path, or the answer to one, that came from a firewall.
    Probe,
    /// A possible answer to the engine: a TCP segment with ACK, an echo reply, an ICMP error.
    Answer,
    /// ARP or ND from a station whose neighbour entry has the same MAC address, or from a firewall.
    KnownNeighbor,
    /// ARP or ND from any other station.
    UnknownNeighbor,
    /// A ping of an address of the engine or of a service.
    Ping,
    /// Any other packet to the engine, which will be refused.
    Local,
    /// A message for a node of a cluster from an address that is none of the other nodes': the link-local address of
    /// one, or a stranger.
    Cluster,
    /// A packet whose next hop must be resolved.
    Waiting,
    /// A packet whose sender gets an ICMP error.
    Error,
}

impl PuntClass {
    const ALL: [Self; 9] = [
        Self::Probe,
        Self::Answer,
        Self::KnownNeighbor,
        Self::UnknownNeighbor,
        Self::Ping,
        Self::Local,
        Self::Cluster,
        Self::Waiting,
        Self::Error,
    ];

    /// The rates for all sources together and for each source.
    const fn rates(self) -> (Rate, Rate) {
        const fn rate(per_second: u32, burst: u32) -> Rate {
            Rate { per_second, burst }
        }
        match self {
            // 64 firewalls with a probe in each direction every 10 ms make 12,800 packets a second.
            Self::Probe => (rate(20_000, 4_000), rate(2_000, 500)),
            Self::Answer => (rate(10_000, 2_000), rate(2_000, 500)),
            // A router answers for many hosts, and resolves many after its start.
            Self::KnownNeighbor => (rate(4_000, 1_000), rate(200, 300)),
            Self::UnknownNeighbor => (rate(2_000, 1_000), rate(100, 300)),
            Self::Ping => (rate(5_000, 1_000), rate(1_000, 200)),
            // These are higher than the rates at which the controller sends resets.
            Self::Local => (rate(12_000, 4_500), rate(1_500, 1_200)),
            // Seven nodes that advertise every 10 ms.
            Self::Cluster => (rate(2_000, 400), rate(400, 100)),
            Self::Waiting => (rate(8_000, 4_000), rate(2_000, 1_000)),
            // These are higher than the rates at which the controller sends ICMP errors.
            Self::Error => (rate(3_000, 150), rate(150, 40)),
        }
    }

    /// True if the queue serves it before others.
    const fn is_urgent(self) -> bool {
        match self {
            Self::Probe | Self::Answer | Self::KnownNeighbor => true,
            Self::UnknownNeighbor | Self::Ping | Self::Local | Self::Cluster | Self::Waiting | Self::Error => false,
        }
    }

    const fn reason(self) -> DropReason {
        match self {
            Self::Probe => DropReason::PuntLimitProbe,
            Self::Answer => DropReason::PuntLimitAnswer,
            Self::KnownNeighbor | Self::UnknownNeighbor => DropReason::PuntLimitNeighbor,
            Self::Ping => DropReason::PuntLimitPing,
            Self::Local | Self::Cluster | Self::Error => DropReason::PuntLimitLocal,
            Self::Waiting => DropReason::PuntLimitWaiting,
        }
    }
}

/// The position of an admitted frame in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before frames that are not urgent.
    Urgent,
    /// After the frames that are queued already.
    Normal,
}

/// The rate limits of one worker; see the module documentation.
#[derive(Debug)]
pub(super) struct PuntPolicer {
    limiters: Box<[RateLimiter; PuntClass::ALL.len()]>,
}

impl PuntPolicer {
    pub(super) fn new(seed: u64) -> Self {
        let limiter = |kind: PuntClass| {
            let (all, of_source) = kind.rates();
            RateLimiter::new(all, of_source, seed ^ (kind as u64) << 56, Instant::ZERO)
        };
        Self { limiters: Box::new(PuntClass::ALL.map(limiter)) }
    }

    /// Whether a frame that was received on `link` may be passed to the controller, and with which urgency.
    pub(super) fn admit(
        &mut self,
        reason: PuntReason,
        bytes: &[u8],
        link: LinkId,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Urgency, DropReason> {
        let (kind, source) = match reason {
            PuntReason::Neighbor => classify_neighbor(bytes, link, snapshot),
            PuntReason::Local => classify_local(bytes, link, snapshot),
            // The queue is the only limit of the nodes themselves.
            PuntReason::Cluster if is_from_node(bytes, snapshot) => return Ok(Urgency::Urgent),
            PuntReason::Cluster => (PuntClass::Cluster, PolicedSource::of_station(bytes)),
            PuntReason::NeighborWait { .. } => (PuntClass::Waiting, PolicedSource::of(bytes)),
            PuntReason::IcmpError(_) => (PuntClass::Error, PolicedSource::of(bytes)),
        };
        if !self.limiters[kind as usize].allows(source.0, now) {
            return Err(kind.reason());
        }
        Ok(if kind.is_urgent() { Urgency::Urgent } else { Urgency::Normal })
    }
}

/// True if a frame to the controller is a probe, or the answer to one, that came from a firewall.
pub(super) fn is_probe(bytes: &[u8], link: LinkId, snapshot: &Snapshot) -> bool {
    classify_local(bytes, link, snapshot).0 == PuntClass::Probe
}

/// The destination address of a frame that may be the answer to a health check: TCP with ACK or an echo reply, to a
/// port that checks are sent from.
pub(super) fn check_answer_address(bytes: &[u8]) -> Option<IpAddr> {
    let ip = IpFields::of(bytes)?;
    let (number, transport) = ip.transport?;
    let port_at = match (number, transport.first()?) {
        (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => 4,
        (protocol::TCP, _) if transport.get(13).is_some_and(|flags| flags & tcp_flags::ACK != 0) => 2,
        _ => return None,
    };
    let port = transport.get(port_at..)?.first_chunk().map(|port| u16::from_be_bytes(*port))?;
    PORTS.contains(&port).then_some(ip.destination)
}

/// The source whose tokens a frame uses.
#[derive(Debug, Clone, Copy)]
struct PolicedSource(IpAddr);

impl PolicedSource {
    /// The source IP address.
    fn of(bytes: &[u8]) -> Self {
        IpFields::of(bytes).map_or_else(|| Self::of_station(bytes), |ip| Self(ip.source))
    }

    /// The source MAC address.
    fn of_station(bytes: &[u8]) -> Self {
        let MacAddr([a, b, c, d, e, f]) = source_mac(bytes);
        let words = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
        Self(Ipv6Addr::new(0, 0, 0, 0, 0, words[0], words[1], words[2]).into())
    }
}

/// The fields of an IP packet by which the classes are distinguished.
#[derive(Debug, Clone, Copy)]
struct IpFields<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// Protocol and transport header; `None` for a fragment. IPv6 extension headers count as a protocol.
    transport: Option<(u8, &'a [u8])>,
}

impl<'a> IpFields<'a> {
    /// Reads a frame that was checked before.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let ip = bytes.get(ETHERNET_LEN..)?;
        match bytes.get(12..ETHERNET_LEN)? {
            [0x08, 0x00] => {
                let header: &[u8; 20] = ip.first_chunk()?;
                let is_whole = u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0;
                let transport = ip.get(usize::from(header[0] & 0xf) * 4..)?;
                let address = |at: usize| IpAddr::from([0, 1, 2, 3].map(|index: usize| header[at + index]));
                let (source, destination) = (address(12), address(16));
                Some(Self { source, destination, transport: is_whole.then_some((header[9], transport)) })
            }
            [0x86, 0xdd] => {
                let (header, transport) = ip.split_first_chunk::<40>()?;
                let address = |at: usize| {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(&header[at..at + 16]);
                    IpAddr::from(octets)
                };
                Some(Self { source: address(8), destination: address(24), transport: Some((header[6], transport)) })
            }
            _ => None,
        }
    }
}

/// The class and source of ARP or ND.
fn classify_neighbor(bytes: &[u8], link: LinkId, snapshot: &Snapshot) -> (PuntClass, PolicedSource) {
    let mac = source_mac(bytes);
    let is_of = |address: IpAddr| snapshot.neighbor(link, address) == Some(mac);
    let is_known = match IpFields::of(bytes) {
        Some(ip) => is_of(ip.source),
        // The sender protocol address of ARP (RFC 826).
        None => bytes.get(28..32).and_then(|octets| <[u8; 4]>::try_from(octets).ok()).is_some_and(|a| is_of(a.into())),
    };
    let is_firewall = || snapshot.links[link.index()].has_firewalls && snapshot.firewall_at(link, mac).is_some();
    (
        if is_known || is_firewall() { PuntClass::KnownNeighbor } else { PuntClass::UnknownNeighbor },
        PolicedSource::of_station(bytes),
    )
}

fn is_from_node(bytes: &[u8], snapshot: &Snapshot) -> bool {
    IpFields::of(bytes).is_some_and(|ip| snapshot.node_addresses.contains(&ip.source))
}

/// The class and source of a packet to the engine.
fn classify_local(bytes: &[u8], link: LinkId, snapshot: &Snapshot) -> (PuntClass, PolicedSource) {
    let Some(ip) = IpFields::of(bytes) else { return (PuntClass::Local, PolicedSource::of_station(bytes)) };
    let source = PolicedSource(ip.source);
    let Some((number, transport)) = ip.transport else { return (PuntClass::Local, source) };
    let is_own = || snapshot.own_addresses.contains(&ip.destination);
    let is_magic = || transport.get(8..).is_some_and(probe::is_probe);
    let is_from_firewall =
        || snapshot.links[link.index()].has_firewalls && snapshot.firewall_at(link, source_mac(bytes)).is_some();
    let is_probe = || is_magic() && is_from_firewall() && is_own();
    let answer_if = |is_answer: bool| if is_answer && is_own() { PuntClass::Answer } else { PuntClass::Local };
    let kind = match (number, transport.first()) {
        (protocol::ICMP, Some(0 | 8)) | (protocol::ICMPV6, Some(128 | 129)) | (protocol::UDP, _) if is_probe() => {
            // Here the source is the firewall's MAC address: each firewall has tokens for the probes through it.
            return (PuntClass::Probe, PolicedSource::of_station(bytes));
        }
        (protocol::ICMP, Some(8)) | (protocol::ICMPV6, Some(128)) => PuntClass::Ping,
        (protocol::ICMP | protocol::ICMPV6, Some(_)) => answer_if(true),
        (protocol::TCP, _) => answer_if(transport.get(13).is_some_and(|flags| flags & tcp_flags::ACK != 0)),
        _ => PuntClass::Local,
    };
    (kind, source)
}

fn source_mac(bytes: &[u8]) -> MacAddr {
    let mut mac = [0; 6];
    if let Some(source) = bytes.get(6..12) {
        mac.copy_from_slice(source);
    }
    MacAddr(mac)
}
