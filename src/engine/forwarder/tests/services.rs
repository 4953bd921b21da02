//! Promises of virtual services.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::lab::{At, Lab};
use super::packets::{Frame, Read, ack, echo, fragments, icmp_error, read, rst, syn, syn_ack, tcp_with, udp};
use crate::engine::explain::{From, explain};
use crate::engine::testbed::{self, Side};
use crate::engine::verdict::PuntReason;
use crate::engine::{DropReason, Verdict};
use crate::flow::text;
use crate::id::{FirewallId, LinkId};
use crate::path::OnFailure;
use crate::session::{State, TcpState};
use crate::slb::{Mode, SchedulerState, Server, Service, Services};
use crate::time::Duration;
use crate::wire::MacAddr;
use crate::wire::checksum;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};

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
    let servers = weights.iter().zip(0..).map(|(&weight, number)| Server { weight, ..testbed::server(state, number) });
    testbed::service(state, servers)
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
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::NoServerUp));
        assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
    }
}

#[test]
fn full_nat_serves_a_client_in_the_subnet_of_the_servers_and_gives_the_port_back() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| service.mode = Mode::FullNat);
        let client = SocketAddr::new(farm.server(50).ip(), 40000);

        let answer = web.lab.deliver(At::Near, syn(client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(1)));
        let (source, server) = ends(&read_checked(&answer.bytes));
        let own = testbed::engine_addresses(Side::Inner)[0];
        assert_eq!(source.ip(), if farm.client.is_ipv4() { own.0 } else { own.1 });
        assert_eq!(server, farm.server);

        let answer = web.lab.deliver(At::Near, syn_ack(server, source));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(1)));
        assert_eq!(ends(&read_checked(&answer.bytes)), (farm.vip, client));
        let stranger = web.lab.deliver(At::Near, syn_ack(farm.server(1), source));
        assert_eq!(stranger.verdict, Verdict::Punted, "what no session knows is for the engine itself");

        web.lab.wait(Duration::from_secs(300));
        assert_eq!(web.active(0), 0);
        let answer = web.lab.deliver(At::Near, syn_ack(server, source));
        assert_eq!(answer.verdict, Verdict::Punted);
    }
}

#[test]
fn a_service_takes_its_own_source_addresses_for_clients() {
    let [farm, _] = farms();
    let mut web = Web::new(&[1]);
    let own: [IpAddr; 2] = ["203.0.113.240".parse().unwrap(), "203.0.113.241".parse().unwrap()];
    web.change(|service| {
        service.mode = Mode::FullNat;
        service.snat = own.to_vec();
    });
    web.lab.snapshot.vips.extend(own);

    for port in 40000..40016 {
        let (source, server) = ends(&web.request(syn(farm.client(port), farm.vip)));
        assert!(own.contains(&source.ip()));
        let (firewall, reply) = web.reply(syn_ack(server, source));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client(port))));
    }
}

#[test]
fn when_no_port_is_left_only_the_new_flow_is_refused() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| {
            service.mode = Mode::FullNat;
            service.ports = vec![1..=u16::MAX];
            service.servers[0].port = None;
        });
        let vip = |port| SocketAddr::new(farm.vip.ip(), port);
        // There is room for 64 pairs of a source and a server.
        let sources: Vec<_> = (1..=64).map(|port| ends(&web.request(syn(farm.client, vip(port)))).0).collect();

        let refused = web.lab.deliver(At::Firewall(1), syn(farm.client, vip(65)));
        assert_eq!(refused.verdict, Verdict::Dropped(DropReason::SnatExhausted));
        assert_eq!(ends(&web.request(ack(farm.client, vip(64)))).0, sources[63]);
        web.request(syn(farm.client(41000), vip(64)));
    }
}

#[test]
fn two_flows_that_would_be_one_to_a_server_take_two_servers_or_the_second_is_refused() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        let second_vip = SocketAddr::new(farm.server(100).ip(), 80);
        web.change(|service| service.addresses.push(second_vip.ip()));
        let mut take = |client, vip| ends(&web.request(syn(client, vip))).1;

        assert_eq!(take(farm.client, farm.vip), farm.server(0));
        assert_eq!(take(farm.client(40001), farm.vip), farm.server(1));
        assert_eq!(take(farm.client, second_vip), farm.server(1), "the turn is the first server's");
        assert_eq!(take(farm.client(40001), second_vip), farm.server(0));

        let mut web = Web::new(&[1]);
        web.change(|service| service.addresses.push(second_vip.ip()));
        web.request(syn(farm.client, farm.vip));
        let refused = web.lab.deliver(At::Firewall(1), syn(farm.client, second_vip));
        assert_eq!(refused.verdict, Verdict::Dropped(DropReason::NatClash));
        let past_the_vip = web.lab.deliver(At::Firewall(1), ack(farm.client, farm.server));
        assert_eq!(past_the_vip.verdict, Verdict::Dropped(DropReason::NatClash));
        assert_eq!(web.active(0), 1);
    }
}

#[test]
fn what_opens_no_connection_is_for_the_controller() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        for frame in [
            ack(farm.client, farm.vip),
            rst(farm.client, farm.vip),
            syn(farm.client, SocketAddr::new(farm.vip.ip(), 81)),
            echo(farm.client.ip(), farm.vip.ip(), false, 7),
        ] {
            assert_eq!(web.lab.deliver(At::Firewall(1), frame).verdict, Verdict::Punted);
            assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
        }
        assert_eq!(web.active(0), 0);
    }
}

#[test]
fn traffic_that_is_no_services_passes_as_if_there_were_none() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        let host = farm.server(60);

        assert_eq!(ends(&web.request(syn(farm.client, host))), (farm.client, host));
        let (firewall, reply) = web.reply(syn_ack(host, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (host, farm.client)));
        assert!(web.lab.counters().servers.is_empty());
    }
}

/// Ends of the packet that an ICMP error quotes.
fn quoted(read: &Read) -> (SocketAddr, SocketAddr) {
    let is_v4 = read.source.is_ipv4();
    let packet = &read.payload[8..];
    let address = |at: usize| match is_v4 {
        true => IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap()),
        false => IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()),
    };
    let (source, destination, ports) = if is_v4 { (12, 16, 20) } else { (8, 24, 40) };
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (source, destination) = (address(source), address(destination));
    (SocketAddr::new(source, port(ports)), SocketAddr::new(destination, port(ports + 2)))
}

#[test]
fn an_icmp_error_about_a_translated_packet_speaks_of_the_packet_as_its_sender_knows_it() {
    for farm in farms() {
        for mode in [Mode::Nat, Mode::FullNat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            let request = web.lab.deliver(At::Firewall(1), udp(farm.client, farm.vip, 500));
            let (source, server) = ends(&read(&request.bytes));
            let reply = web.lab.deliver(At::Near, udp(server, source, 900));

            // The server refuses what it got; the client hears that of the virtual address.
            let error = icmp_error(server.ip(), source.ip(), &Frame::new(request.bytes));
            let (firewall, heard) = web.reply(error);
            assert_eq!((firewall, heard.source, heard.destination), (1, farm.vip.ip(), farm.client.ip()));
            assert_eq!(quoted(&heard), (farm.client, farm.vip));

            // A router on the way to the client refuses the reply; the server hears of its own.
            let router = SocketAddr::new(farm.client(0).ip(), 0).ip();
            let error = icmp_error(router, farm.vip.ip(), &Frame::new(reply.bytes));
            let heard = web.request(error);
            assert_eq!(heard.destination, server.ip());
            assert_eq!(quoted(&heard), (server, source));
        }
    }
}

#[test]
fn fragments_of_a_translated_datagram_go_where_the_first_went_in_any_order() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        let pieces = fragments(&udp(farm.client, farm.vip, 3000), 1000, 77);
        let (first, later) = pieces.split_first().unwrap();
        web.lab.deliver(At::Firewall(1), later[0].clone());

        let sent = web.lab.deliver(At::Firewall(1), first.clone());
        assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)));
        // The ports of an IPv6 fragment follow its fragment header.
        let mut sent = read(&sent.bytes);
        sent.payload.drain(..if farm.client.is_ipv4() { 0 } else { 8 });
        assert_eq!(ends(&sent), (farm.client, farm.server));
        let released = web.lab.transmits();
        assert_eq!(released.len(), 1);
        for bytes in [released[0].bytes.clone(), web.lab.deliver(At::Firewall(1), later[1].clone()).bytes] {
            let piece = read(&bytes);
            assert_eq!((piece.source, piece.destination), (farm.client.ip(), farm.server.ip()));
        }
    }
}

#[test]
fn a_checksum_that_the_device_will_finish_follows_the_addresses() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.request(syn(farm.client, farm.vip));
        let is_v4 = farm.client.is_ipv4();
        let mut frame = tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, &[7; 4000]);
        let start: u16 = if is_v4 { 34 } else { 54 };
        let length = frame.bytes.len() as u32 - u32::from(start);
        let at = usize::from(start) + 16;
        let sum = |source, destination| checksum::pseudo_header(source, destination, 6, length);
        let partial = sum(farm.client.ip(), farm.vip.ip());
        frame.bytes[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let kind = if is_v4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        frame.offload = Offload {
            partial: Some(PartialChecksum { start, offset: 16 }),
            gso: Some(Gso { kind, ecn: false, size: 1400, header_len: start + 20 }),
            ..Offload::NONE
        };

        let answer = web.lab.deliver(At::Firewall(1), frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(1)));
        assert_eq!(ends(&read(&answer.bytes)), (farm.client, farm.server));
        let left = u16::from_be_bytes([answer.bytes[at], answer.bytes[at + 1]]);
        assert_eq!(left, sum(farm.client.ip(), farm.server.ip()));
        assert!(answer.offload.gso.is_some());
    }
}

#[test]
fn a_packet_that_is_too_big_is_shown_to_its_sender_as_it_was_sent() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.request(syn(farm.client, farm.vip));
        web.lab.snapshot.links[1].mtu = 1300;

        let big = tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, &[7; 1400]).dont_fragment();
        let answer = web.lab.deliver(At::Firewall(1), big);
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        let punt = web.lab.punts.taken.pop().unwrap();
        assert_eq!(ends(&read_loosely(&punt.bytes)), (farm.client, farm.vip));
    }
}

/// Reads a frame that was cut.
fn read_loosely(bytes: &[u8]) -> Read {
    let mut whole = bytes.to_vec();
    whole.resize(2000, 0);
    read(&whole)
}

fn established(web: &mut Web, farm: &Farm) {
    web.request(syn(farm.client, farm.vip));
    web.reply(syn_ack(farm.server, farm.client));
    web.request(tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, b"hello"));
}

/// Sequence number, acknowledgement number and flags of a reset.
fn reset_numbers(read: &Read) -> (u32, u32, u8) {
    let word = |at: usize| u32::from_be_bytes(read.payload[at..at + 4].try_into().unwrap());
    (word(4), word(8), read.payload[13])
}

#[test]
fn traffic_of_services_is_counted_apart_from_what_is_only_routed() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.request(syn(farm.client, farm.vip));
        web.reply(syn_ack(farm.server, farm.client));
        web.lab.deliver(At::Firewall(1), syn(farm.client, farm.server(1)));

        let counters = web.lab.counters();
        let of = |wanted: &str| counters.named().find(|(name, _)| *name == wanted).expect("is published").1;
        assert_eq!((of("balanced_packets"), of("routed_packets")), (2, 1));
        assert_eq!(of("balanced_bytes"), 2 * of("routed_bytes"), "a SYN, its answer, and another SYN are of one size");
    }
}

#[test]
fn a_connection_that_its_server_refused_is_not_reset_once_more_when_the_server_is_found_dead() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.request(syn(farm.client, farm.vip));
        web.reply(tcp_with(farm.server, farm.client, 0x14, 0, 1000, &[]));

        web.fell(0);
        web.lab.wait(Duration::from_millis(10));

        assert_eq!(web.lab.transmits().len(), 0, "a strict firewall would call it out of state");
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(1));
    }
}

#[test]
fn both_ends_of_a_connection_are_told_that_its_server_died() {
    for farm in farms() {
        for by_packet in [false, true] {
            let mut web = Web::new(&[1, 1]);
            established(&mut web, &farm);
            web.fell(0);
            if by_packet {
                let answer = web.lab.deliver(At::Firewall(1), ack(farm.client, farm.vip));
                assert!(matches!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed) | Verdict::Punted));
            } else {
                web.lab.wait(Duration::from_millis(10));
            }

            let resets: Vec<_> =
                web.lab.transmits().into_iter().map(|sent| (sent.link, read_checked(&sent.bytes))).collect();
            let to = |link| &resets.iter().find(|(by, _)| *by == LinkId(link)).expect("a reset by that link").1;
            let (client, server) = (to(Side::Inner.far()), to(Side::Inner.near()));
            assert_eq!(client.destination_mac, testbed::firewall_mac(Side::Inner, 1));
            assert_eq!((ends(client), reset_numbers(client)), ((farm.vip, farm.client), (2000, 1005, 0x14)));
            assert_eq!((ends(server), reset_numbers(server)), ((farm.client, farm.server), (1005, 2000, 0x14)));
            assert_eq!((resets.len(), web.active(0)), (2, 0));
            assert_eq!(web.lab.counters().sessions_failed, 1);
            assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(1));
        }
    }
}

#[test]
fn on_failure_decides_what_becomes_of_the_flows_of_a_dead_server() {
    for farm in farms() {
        for (on_failure, expected) in [
            (OnFailure::Keep, Some(farm.server(0))),
            (OnFailure::Drop, None),
            (OnFailure::Reselect, Some(farm.server(1))),
            (OnFailure::Reset, Some(farm.server(1))),
        ] {
            let mut web = Web::new(&[1, 1]);
            web.change(|service| service.on_failure_udp = on_failure);
            assert_eq!(ends(&web.request(udp(farm.client, farm.vip, 10))).1, farm.server(0));
            web.fell(0);

            let answer = web.lab.deliver(At::Firewall(1), udp(farm.client, farm.vip, 10));
            match expected {
                Some(server) => assert_eq!(ends(&read_checked(&answer.bytes)).1, server),
                None => assert_eq!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed)),
            }
            let total: u64 = (0..2).map(|number| web.active(number)).sum();
            assert_eq!(total, web.lab.table.len() as u64);
        }
    }
}

#[test]
fn a_server_that_is_up_again_serves_the_sessions_that_were_kept() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.change(|service| service.on_failure_tcp = OnFailure::Drop);
        established(&mut web, &farm);
        web.fell(0);
        let answer = web.lab.deliver(At::Firewall(1), ack(farm.client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed));

        web.change(|service| service.servers[0].up = [true, true]);
        assert_eq!(ends(&web.request(ack(farm.client, farm.vip))).1, farm.server(0));
    }
}

#[test]
fn mode_direct_changes_the_hardware_address_only_and_hears_half_of_the_flow() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| {
            service.mode = Mode::Direct;
            service.servers[0].port = None;
        });
        let mac = MacAddr([2, 0xbb, 0, 0, 0, 1]);
        web.lab.snapshot.neighbors.insert((LinkId(1), farm.server.ip()), mac);

        let original = syn(farm.client, farm.vip);
        let request = web.request(original.clone());
        assert_eq!((ends(&request), request.destination_mac), ((farm.client, farm.vip), mac));
        assert_eq!(request.payload, read(&original.bytes).payload);
        web.request(ack(farm.client, farm.vip));
        assert_eq!(web.lab.sessions()[0].state, State::Tcp(TcpState::Established));

        web.request(tcp_with(farm.client, farm.vip, 0x11, 1000, 2000, b""));
        assert_eq!(web.lab.sessions()[0].state, State::Tcp(TcpState::Closing));
        let (firewall, reply) = web.reply(ack(farm.vip, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client)), "a server may route its replies here");
    }
}

#[test]
fn the_client_of_a_dead_server_is_told_though_the_replies_pass_the_engine_by() {
    for farm in farms() {
        for mode in [Mode::Direct, Mode::Tunnel] {
            let mut web = Web::new(&[1, 1]);
            web.change(|service| {
                service.mode = mode;
                service.servers.iter_mut().for_each(|server| server.port = None);
            });
            web.lab.deliver(At::Firewall(1), syn(farm.client, farm.vip));
            web.lab.deliver(At::Firewall(1), tcp_with(farm.client, farm.vip, 0x10, 1000, 2000, b""));
            web.lab.deliver(At::Firewall(1), tcp_with(farm.client, farm.vip, 0x18, 1000, 7000, b"hello"));
            web.lab.deliver(At::Firewall(1), tcp_with(farm.client, farm.vip, 0x10, 1005, 6000, b""));
            web.lab.transmits();
            web.fell(0);
            web.lab.wait(Duration::from_millis(10));

            let sent = web.lab.transmits();
            let [reset] = &sent[..] else { panic!("{} frames", sent.len()) };
            let read = read_checked(&reset.bytes);
            assert_eq!((reset.link, read.destination_mac), (LinkId(0), testbed::firewall_mac(Side::Inner, 1)));
            assert_eq!((ends(&read), reset_numbers(&read)), ((farm.vip, farm.client), (7000, 1005, 0x14)));
            assert_eq!((web.lab.counters().sessions_failed, web.active(0)), (1, 0));
        }
    }
}

#[test]
fn another_connection_between_the_same_ends_leaves_a_server_that_takes_no_new_ones() {
    type Change = fn(&mut Service);
    let changes: [(Change, u8); 6] = [
        (|_| (), 0),
        (|service| service.servers[0].takes_new = false, 1),
        (|service| service.servers[0].weight = 0, 1),
        (|service| service.servers[0].backup = true, 1),
        (|service| service.servers[0].up = [false; 2], 1),
        (|service| service.on_failure_tcp = OnFailure::Keep, 0),
    ];
    for farm in farms() {
        for mode in [Mode::Nat, Mode::FullNat] {
            for (change, expected) in changes {
                let mut web = Web::new(&[1, 1]);
                web.change(|service| service.mode = mode);
                let (source, server) = ends(&web.request(syn(farm.client, farm.vip)));
                web.reply(syn_ack(server, source));
                web.request(ack(farm.client, farm.vip));
                web.change(|service| {
                    change(service);
                    let server = &mut service.servers[0];
                    server.falls = server.falls.map(|falls| falls + u32::from(!server.up[0]));
                    service.on_failure_tcp = OnFailure::Keep;
                });
                // What lives stays, what is over does not.
                assert_eq!(ends(&web.request(ack(farm.client, farm.vip))).1, farm.server(0));
                web.request(tcp_with(farm.client, farm.vip, 0x11, 1000, 2000, b""));
                web.reply(tcp_with(server, source, 0x11, 2000, 1001, b""));
                assert_eq!(web.lab.sessions()[0].state, State::Tcp(TcpState::Closing));

                let (_, chosen) = ends(&web.request(syn(farm.client, farm.vip)));

                assert_eq!(chosen, farm.server(expected));
                assert_eq!((web.lab.table.len(), web.active(0) + web.active(1)), (1, 1));
            }
        }
    }
}

#[test]
fn checks_and_clients_never_have_the_same_port() {
    assert!(*crate::health::service_prober::PORTS.end() < crate::nat::ports::PORT_MIN);
}

#[test]
fn what_a_virtual_address_answers_to_a_check_is_for_the_controller() {
    for farm in farms() {
        for mode in [Mode::Direct, Mode::Tunnel, Mode::Nat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            web.lab.deliver(At::Firewall(1), syn(farm.client, farm.vip));
            web.lab.transmits();
            let own = testbed::engine_addresses(Side::Inner)[0];
            let own = SocketAddr::new(if farm.vip.is_ipv4() { own.0 } else { own.1 }, 700);

            let answer = web.lab.deliver(At::Near, syn_ack(farm.vip, own));

            assert_eq!(answer.verdict, Verdict::Punted);
            assert_eq!(web.lab.punts.taken.pop().map(|punt| punt.reason), Some(PuntReason::Local));
            assert_eq!(web.lab.table.len(), 1);
        }
    }
}

#[test]
fn a_translated_packet_that_waits_for_its_neighbour_is_remembered_as_its_sender_knows_it() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.lab.snapshot.neighbors.remove(&(LinkId(1), farm.server.ip()));
        let original = syn(farm.client, farm.vip);

        assert_eq!(web.lab.deliver(At::Firewall(1), original.clone()).verdict, Verdict::Punted);

        let punt = web.lab.punts.taken.pop().unwrap();
        assert_eq!(ends(&read_checked(&punt.bytes)), (farm.client, farm.server));
        assert_eq!(punt.original.unwrap()[14..], original.bytes[14..]);
    }
}

#[test]
fn a_service_before_the_group_sends_the_translated_flow_through_one_firewall() {
    let farm = Farm {
        client: "198.51.100.7:40000".parse().unwrap(),
        vip: "198.51.100.200:80".parse().unwrap(),
        server: "203.0.113.11:8080".parse().unwrap(),
    };
    let state = SchedulerState::new(8);
    let mut web = Web { lab: Lab::outer(3), service: service(&state, &[1]) };
    web.change(|service| service.addresses = vec![farm.vip.ip()]);

    let answer = web.lab.deliver(At::Near, syn(farm.client, farm.vip));
    let taken = web.lab.firewall_of(&answer).unwrap();
    assert_eq!(ends(&read_checked(&answer.bytes)), (farm.client, farm.server));
    let mut plain = Lab::outer(3);
    assert_eq!(plain.send(syn(farm.client, farm.server)), taken, "the hash takes what the firewalls see");

    let answer = web.lab.deliver(At::Firewall(taken), syn_ack(farm.server, farm.client));
    assert_eq!(answer.verdict, Verdict::Forward(LinkId(0)));
    assert_eq!(ends(&read_checked(&answer.bytes)), (farm.vip, farm.client));
    let answer = web.lab.deliver(At::Near, ack(farm.client, farm.vip));
    assert_eq!(web.lab.firewall_of(&answer), Some(taken));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_two_live_flows_look_alike_to_a_server(
        full_nat in any::<bool>(),
        steps in proptest::collection::vec((0_u16..6, 0_u8..3, any::<bool>(), 0_u8..20), 1..60),
    ) {
        let [farm, _] = farms();
        let mut web = Web::new(&[1, 1]);
        let vips = [farm.vip, SocketAddr::new(farm.server(100).ip(), 80), SocketAddr::new(farm.server(101).ip(), 80)];
        web.change(|service| {
            service.mode = if full_nat { Mode::FullNat } else { Mode::Nat };
            service.addresses = vips.iter().map(SocketAddr::ip).collect();
        });
        for (port, vip, is_tcp, pause) in steps {
            let (client, vip) = (farm.client(40000 + port), vips[usize::from(vip)]);
            let frame = if is_tcp { syn(client, vip) } else { udp(client, vip, 8) };
            web.lab.deliver(At::Firewall(1), frame);
            web.lab.wait(Duration::from_secs(u64::from(pause)));

            let mut legs = HashSet::new();
            let mut live = 0;
            web.lab.table.for_each(|_, _, bound| {
                live += 1;
                legs.insert(bound.expect("every flow is a service's").inside.expect("it is translated"));
                true
            });
            prop_assert_eq!(legs.len(), live);
            prop_assert_eq!(web.active(0) + web.active(1), live as u64);
        }
    }
}

#[test]
fn what_is_explained_of_a_service_is_what_happens_and_costs_nobody_a_turn() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        let told = |web: &Web, source: SocketAddr, destination: SocketAddr| {
            let flow = text::parse(&format!("tcp {source} {destination}")).unwrap();
            explain("inner", &web.lab.snapshot, &web.lab.table, &flow, Some(From::Firewall(FirewallId(1))), web.lab.now)
        };
        let translated = |source: SocketAddr, destination| format!("tcp {source} {destination}");
        let shown = |text: &str| Some(text::show(&text::parse(text).unwrap()));

        for _ in 0..2 {
            let first = told(&web, farm.client, farm.vip);
            assert_eq!(first.decided_by, "service");
            assert_eq!((first.service.as_deref(), first.server.as_deref()), (Some("web"), Some("s1")));
            assert_eq!(first.translation, shown(&translated(farm.client, farm.server)));
            assert_eq!(first.egress.and_then(|egress| egress.next_hop), Some(farm.server.ip().to_string()));
        }
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(0));

        let next = told(&web, farm.client, farm.vip);
        assert_eq!((next.decided_by.as_str(), next.server.as_deref()), ("session", Some("s1")));
        let flow = text::parse(&translated(farm.server, farm.client)).unwrap();
        let reply = explain("inner", &web.lab.snapshot, &web.lab.table, &flow, None, web.lab.now);
        assert_eq!((reply.decided_by.as_str(), reply.firewall.as_deref()), ("session", Some("fw2")));
        assert_eq!(reply.translation, shown(&translated(farm.vip, farm.client)));

        assert_eq!(told(&web, farm.client(40001), farm.vip).server.as_deref(), Some("s2"));
        web.lab.deliver(At::Near, syn(farm.client(40002), farm.vip));
        let flow = text::parse(&translated(farm.client(40002), farm.vip)).unwrap();
        let near = From::Link(LinkId(Side::Inner.near()));
        let known = explain("inner", &web.lab.snapshot, &web.lab.table, &flow, Some(near), web.lab.now);
        assert_eq!((known.decided_by.as_str(), known.firewall), ("session", None), "no firewall is on the way");
        web.fell(0);
        web.fell(1);
        assert_eq!(told(&web, farm.client(40001), farm.vip).drop.as_deref(), Some("drop_no_server_up"));
        assert_eq!(told(&web, farm.client, farm.vip).drop.as_deref(), Some("drop_server_failed"));
        let closed = SocketAddr::new(farm.vip.ip(), 81);
        assert_eq!(told(&web, farm.client, closed).decided_by, "local");
    }
}
