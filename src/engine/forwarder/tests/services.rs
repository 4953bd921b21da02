//! Promises of virtual services.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::lab::{At, Lab};
use super::packets::{Frame, Read, ack, read, syn, syn_ack, udp};
use crate::engine::Verdict;
use crate::engine::testbed::Side;
use crate::engine::verdict::PuntReason;
use crate::id::{LinkId, ServerId, ServiceId};
use crate::path::OnFailure;
use crate::slb::{Maglev, Mode, Scheduler, SchedulerState, Server, Service, Services};

/// The ends of a service on the inner engine, in one family.
#[derive(Debug, Clone, Copy)]
pub struct Farm {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    /// Address of the first server; the others follow.
    pub server: SocketAddr,
}

pub fn farms() -> [Farm; 2] {
    let at = |text: &str| text.parse().unwrap();
    [
        Farm { client: at("198.51.100.7:40000"), vip: at("203.0.113.200:80"), server: at("203.0.113.11:8080") },
        Farm {
            client: at("[2001:db8:1::7]:40000"),
            vip: at("[2001:db8:113::c8]:80"),
            server: at("[2001:db8:113::b]:8080"),
        },
    ]
}

impl Farm {
    pub fn server(&self, number: u8) -> SocketAddr {
        let address = match self.server.ip() {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() + u32::from(number)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() + u128::from(number)).into()),
        };
        SocketAddr::new(address, self.server.port())
    }

    pub fn client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.ip(), port)
    }
}

/// A service of both families with servers of these weights, every one up.
pub fn service(state: &SchedulerState, weights: &[u16]) -> Service {
    let [v4, v6] = farms();
    let servers = weights.iter().zip(0_u8..).map(|(&weight, number)| {
        let name = format!("s{}", number + 1);
        Server {
            id: ServerId(number.into()),
            state: state.server("web", &name),
            name,
            v4: Some(v4.server(number).ip()),
            v6: Some(v6.server(number).ip()),
            port: Some(v4.server.port()),
            weight,
            backup: false,
            up: [true, true],
            takes_new: true,
            falls: [0, 0],
        }
    });
    Service {
        id: ServiceId(0),
        name: "web".to_owned(),
        addresses: vec![v4.vip.ip(), v6.vip.ip()],
        protocols: vec![6, 17],
        ports: vec![80..=80],
        scheduler: Scheduler::RoundRobin,
        mode: Mode::Nat,
        snat: Vec::new(),
        sticky: None,
        on_failure_tcp: OnFailure::Reset,
        on_failure_udp: OnFailure::Reselect,
        takes_new: true,
        servers: servers.collect(),
        table: Arc::new(Maglev::new([])),
        state: state.service("web"),
    }
}

/// An inner engine with one service, and hands on its servers.
pub struct Web {
    pub lab: Lab,
    pub service: Service,
}

impl Web {
    pub fn new(weights: &[u16]) -> Self {
        let state = SchedulerState::new(64);
        let mut web = Self { lab: Lab::inner(3), service: service(&state, weights) };
        web.publish();
        web
    }

    /// Changes the service and lets the workers see it.
    pub fn change(&mut self, change: impl FnOnce(&mut Service)) {
        change(&mut self.service);
        self.publish();
    }

    fn publish(&mut self) {
        let snapshot = &mut self.lab.snapshot;
        snapshot.epoch += 1;
        snapshot.vips = self.service.addresses.iter().copied().collect();
        snapshot.services = Services::new(vec![self.service.clone()]);
    }

    /// The server's checks say that it is gone, in both families.
    pub fn fell(&mut self, number: usize) {
        self.change(|service| {
            let server = &mut service.servers[number];
            server.up = [false, false];
            server.falls = server.falls.map(|falls| falls + 1);
        });
    }

    pub fn active(&self, number: usize) -> u64 {
        self.service.servers[number].state.active()
    }

    /// A packet of a client through a firewall, which is to reach a server; how it does.
    #[track_caller]
    pub fn request(&mut self, frame: Frame) -> Read {
        let answer = self.lab.deliver(At::Firewall(1), frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(Side::Inner.near())));
        read_checked(&answer.bytes)
    }

    /// A packet of a server, which is to leave through a firewall; which, and how.
    #[track_caller]
    pub fn reply(&mut self, frame: Frame) -> (u16, Read) {
        let answer = self.lab.deliver(At::Near, frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(Side::Inner.far())));
        (self.lab.firewall_of(&answer).unwrap(), read_checked(&answer.bytes))
    }
}

/// Reads a frame and holds its transport checksum against a computation from scratch.
#[track_caller]
pub fn read_checked(bytes: &[u8]) -> Read {
    use crate::wire::checksum;
    let read = read(bytes);
    if matches!(read.protocol, 6 | 17) {
        let length = read.payload.len() as u32;
        let pseudo = checksum::pseudo_header(read.source, read.destination, read.protocol, length);
        assert_eq!(checksum::add(pseudo, checksum::sum(&read.payload)), 0xffff, "transport checksum");
    }
    read
}

/// Source and destination with their ports.
pub fn ends(read: &Read) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([read.payload[at], read.payload[at + 1]]);
    (SocketAddr::new(read.source, port(0)), SocketAddr::new(read.destination, port(2)))
}

#[test]
fn a_connection_is_translated_to_the_server_and_back_through_the_firewall_that_brought_it() {
    for farm in farms() {
        let mut web = Web::new(&[1]);

        let request = web.request(syn(farm.client, farm.vip));
        assert_eq!(ends(&request), (farm.client, farm.server));
        assert_eq!(request.ttl, 63);
        web.lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);

        let (firewall, reply) = web.reply(syn_ack(farm.server, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)));
        assert_eq!(ends(&web.request(ack(farm.client, farm.vip))), (farm.client, farm.server));
        web.lab.assert_moved([("received", 2), ("forwarded", 2)]);
        assert_eq!(web.active(0), 1);
        let counters = web.lab.counters().servers[0];
        assert_eq!((counters.new_sessions, counters.packets), (1, 3));
    }
}

#[test]
fn a_datagram_is_translated_to_the_server_and_back() {
    for farm in farms() {
        let mut web = Web::new(&[1]);

        assert_eq!(ends(&web.request(udp(farm.client, farm.vip, 100))), (farm.client, farm.server));
        let (firewall, reply) = web.reply(udp(farm.server, farm.client, 1));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)));
    }
}

#[test]
fn weights_are_shares_of_the_new_connections() {
    for farm in farms() {
        let mut web = Web::new(&[3, 1]);

        let mut shares = HashMap::new();
        for port in 40000..40040 {
            let (_, server) = ends(&web.request(syn(farm.client(port), farm.vip)));
            *shares.entry(server).or_insert(0) += 1;
        }
        assert_eq!(shares, HashMap::from([(farm.server(0), 30), (farm.server(1), 10)]));
    }
}

#[test]
fn a_packet_to_a_service_that_nobody_can_serve_is_dropped_and_shown_to_the_controller() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.fell(0);

        let answer = web.lab.deliver(At::Firewall(1), syn(farm.client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Dropped(crate::engine::DropReason::NoServerUp));
        assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
    }
}
