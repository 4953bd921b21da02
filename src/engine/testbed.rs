//! Fixed snapshots of an outer and an inner engine, without controllers. Tests, fuzzing and benchmarks forward packets
//! through them.
//!
//! ```text
//!   clients 198.51.100.0/24 ── outer ── fw1, fw2, ... ── inner ── servers 203.0.113.0/24
//!   2001:db8:1::/64            10.1.0.1                10.2.0.1   2001:db8:113::/64
//!                              fd00:1::1               fd00:2::1
//! ```
//!
//! Links are numbered as their devices. Device 0 of the outer engine is on the clients' side and device 1 on the
//! firewalls' side; device 0 of the inner engine is on the firewalls' side and device 1 on the servers' side. The
//! default route of the outer engine leads to a gateway among the clients, so that every other address is a client,
//! too. That of the inner engine leads through the group.

mod service;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::engine::forwarder::ForwarderLimits;
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::snapshot::{Device, Firewall, Link};
use crate::engine::{CountersCell, Forwarder, Punt, PuntQueue, Snapshot};
use crate::flow::{FlowHasher, HashMode, Seed};
use crate::id::{DeviceId, FirewallId, GroupId, LinkId, PathSetId, PeerId};
use crate::nat::PortPools;
use crate::path::{AdminState, BelowMin, FirewallGroup, GroupMember, OnFailure, PathSet};
use crate::session::{SessionTable, SessionWorker, Timeouts};
use crate::time::Duration;
use crate::wire::{Family, MacAddr};

pub use service::{server, service};

/// One of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On the clients' side.
    Outer,
    /// On the servers' side.
    Inner,
}

impl Side {
    /// The number of the device and link without firewalls.
    pub const fn near(self) -> u16 {
        match self {
            Self::Outer => 0,
            Self::Inner => 1,
        }
    }

    /// The number of the device and link of the firewalls.
    pub const fn far(self) -> u16 {
        1 - self.near()
    }

    const fn number(self) -> u8 {
        match self {
            Self::Outer => 1,
            Self::Inner => 2,
        }
    }
}

/// The path set of a family toward the other engine, which the routes use.
pub const fn peer_set(family: Family) -> PathSetId {
    match family {
        Family::V4 => PathSetId(0),
        Family::V6 => PathSetId(1),
    }
}

/// The MAC address of an engine on one of its links.
pub const fn engine_mac(side: Side, link: u16) -> MacAddr {
    MacAddr([0x02, 0xee, 0, 0, side.number(), link as u8])
}

/// The MAC address of a firewall on its side toward an engine.
pub const fn firewall_mac(side: Side, firewall: u16) -> MacAddr {
    MacAddr([0x02, 0xf0, 0, side.number(), (firewall >> 8) as u8, firewall as u8])
}

/// The MAC address that all hosts on the near side have: clients, gateway or servers.
pub const fn host_mac(side: Side) -> MacAddr {
    MacAddr([0x02, 0xaa, 0, 0, 0, side.number()])
}

/// The addresses of an engine: near link, far link; of each IPv4 and IPv6.
pub const fn engine_addresses(side: Side) -> [(IpAddr, IpAddr); 2] {
    let near_v4 = match side {
        Side::Outer => Ipv4Addr::new(198, 51, 100, 1),
        Side::Inner => Ipv4Addr::new(203, 0, 113, 1),
    };
    let near_v6 = match side {
        Side::Outer => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        Side::Inner => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1),
    };
    let far_v4 = Ipv4Addr::new(10, side.number(), 0, 1);
    let far_v6 = Ipv6Addr::new(0xfd00, side.number() as u16, 0, 0, 0, 0, 0, 1);
    [(IpAddr::V4(near_v4), IpAddr::V6(near_v6)), (IpAddr::V4(far_v4), IpAddr::V6(far_v6))]
}

/// The gateway of the outer engine's default route.
pub const GATEWAY: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 254)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe)));

fn firewall_addresses(side: Side, firewall: u16) -> (IpAddr, IpAddr) {
    let [high, low] = (firewall + 11).to_be_bytes();
    let v4 = Ipv4Addr::new(10, side.number(), high, low);
    let v6 = Ipv6Addr::new(0xfd00, u16::from(side.number()), 0, 0, 0, 0, 0, firewall + 11);
    (v4.into(), v6.into())
}

/// The snapshot of one engine with up to 64 firewalls that are all up. Hosts with a last byte of 1 to 254 are resolved.
pub fn snapshot(side: Side, firewalls: u16) -> Snapshot {
    let (near, far) = (LinkId(side.near()), LinkId(side.far()));
    let [near_addresses, far_addresses] = engine_addresses(side);
    let mut snapshot = Snapshot { epoch: 1, ..Snapshot::default() };
    let net = |address: IpAddr| {
        let length = if address.is_ipv4() { if address.to_string().starts_with("10.") { 16 } else { 24 } } else { 64 };
        ipnet::IpNet::new(address, length).expect("lengths fit their families")
    };
    for number in 0..2 {
        let is_far = LinkId(number) == far;
        let (v4, v6) = if is_far { far_addresses } else { near_addresses };
        snapshot.devices.push(Device {
            name: format!("eth{number}"),
            untagged: Some(LinkId(number)),
            tagged: Vec::new(),
        });
        snapshot.links.push(Link {
            name: if is_far { "firewalls" } else { "hosts" }.to_owned(),
            device: DeviceId(number),
            vlan: None,
            mac: engine_mac(side, number),
            mtu: 1500,
            up: true,
            addresses: vec![net(v4), net(v6)],
            has_firewalls: is_far,
            sole_firewall: None,
            router_macs: [engine_mac(side, number); 2],
            floating: Vec::new(),
        });
        for address in [v4, v6] {
            snapshot.own_addresses.insert(address, LinkId(number));
            snapshot.routes.insert(net(address), FibEntry::Connected(LinkId(number)));
        }
    }
    snapshot.groups.push(group(firewalls));
    snapshot.peers.push(
        match side {
            Side::Outer => "inner",
            Side::Inner => "outer",
        }
        .to_owned(),
    );
    let all = (0..firewalls).fold(0, |slots, slot| slots | 1 << slot);
    for peer in [Some(PeerId(0)), None] {
        for family in [Family::V4, Family::V6] {
            snapshot.path_sets.push(PathSet {
                group: GroupId(0),
                peer,
                family,
                up: all,
                selectable: all,
                starting: 0,
                failure_counts: vec![0; firewalls.into()],
            });
        }
    }
    for number in 0..firewalls {
        let (v4, v6) = firewall_addresses(side, number);
        let mac = firewall_mac(side, number);
        snapshot.firewalls.push(Firewall {
            name: format!("fw{}", number + 1),
            group: GroupId(0),
            slot: number.into(),
            admin: AdminState::Ready,
            link: far,
            v4: Some(v4),
            v6: Some(v6),
        });
        snapshot.firewall_macs.insert((far, mac), FirewallId(number));
        snapshot.neighbors.insert((far, v4), mac);
        snapshot.neighbors.insert((far, v6), mac);
    }
    add_hosts(&mut snapshot, side, near);
    add_routes(&mut snapshot, side, near);
    snapshot
}

fn group(firewalls: u16) -> FirewallGroup {
    let member =
        |number| GroupMember { id: FirewallId(number), name: format!("fw{}", number + 1), weight: 1, spare: false };
    FirewallGroup {
        id: GroupId(0),
        name: "perimeter".to_owned(),
        hasher: FlowHasher::new(Seed::from_text("a testbed's seed"), HashMode::FiveTuple),
        members: (0..firewalls).map(member).collect(),
        on_failure: OnFailure::Reselect,
        min_up: 1,
        below_min: BelowMin::Drop,
        has_mates: false,
    }
}

fn add_hosts(snapshot: &mut Snapshot, side: Side, near: LinkId) {
    let [(v4, v6), _] = engine_addresses(side);
    for host in 2..=254 {
        for address in [with_last_byte(v4, host), with_last_byte(v6, host)] {
            snapshot.neighbors.insert((near, address), host_mac(side));
        }
    }
}

fn with_last_byte(address: IpAddr, last: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, last])
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] = last;
            IpAddr::from(octets)
        }
    }
}

fn add_routes(snapshot: &mut Snapshot, side: Side, near: LinkId) {
    let through = |family| FibEntry::Group { set: peer_set(family), preferred: None, bypass: None };
    let gateway = |address| FibEntry::Via(NextHop { link: near, address });
    let mut route = |prefix: &str, target| {
        snapshot.routes.insert(prefix.parse().expect("a prefix written in this file"), target);
    };
    match side {
        Side::Outer => {
            route("203.0.113.0/24", through(Family::V4));
            route("2001:db8:113::/64", through(Family::V6));
            route("0.0.0.0/0", gateway(GATEWAY.0));
            route("::/0", gateway(GATEWAY.1));
        }
        Side::Inner => {
            route("0.0.0.0/0", through(Family::V4));
            route("::/0", through(Family::V6));
        }
    }
}

/// Forwarders that share a session table for `capacity` sessions, each with the cell that it publishes its counters
/// into.
pub fn forwarders(workers: usize, capacity: usize) -> (Arc<SessionTable>, Vec<(Forwarder, Arc<CountersCell>)>) {
    let (table, workers) = SessionTable::new(capacity, workers, Timeouts::default(), [1, 2, 3, 4]);
    let ports = PortPools::new(workers.len() as u16, 64, Duration::from_secs(120), 7);
    (table, forwarders_of(workers, &Arc::new(ports)))
}

/// Forwarders with these workers and source ports.
pub fn forwarders_of(workers: Vec<SessionWorker>, ports: &Arc<PortPools>) -> Vec<(Forwarder, Arc<CountersCell>)> {
    let limits = ForwarderLimits { fragments: 64, held: 16, fragment_timeout: Duration::from_secs(5) };
    let forwarders = workers.into_iter().map(|worker| {
        let cell = Arc::<CountersCell>::default();
        let seed = u64::from(worker.number());
        (Forwarder::new(worker, limits, Arc::clone(ports), seed, Arc::clone(&cell)), cell)
    });
    forwarders.collect()
}

/// A queue to a controller that does not exist.
#[derive(Debug, Default)]
pub struct PuntList {
    /// The punts that were taken.
    pub taken: Vec<Punt>,
    /// The largest number of punts that are taken.
    pub capacity: usize,
}

impl PuntQueue for PuntList {
    fn offer(&mut self, punt: Punt) -> bool {
        let has_room = self.taken.len() < self.capacity;
        if has_room {
            self.taken.push(punt);
        }
        has_room
    }

    fn offer_cluster(&mut self, punt: Punt) -> bool {
        self.offer(punt)
    }
}
