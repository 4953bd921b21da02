//! Packets of servers that belong to no session.

use std::net::SocketAddr;

use super::bench::ArrivesAt;
use super::packets::{ack, echo, fin, fragments, icmp_error, rst, syn, syn_ack, udp};
use super::services::{Web, ends, farms, read_checked};
use crate::engine::explain::explain;
use crate::engine::{DropReason, Verdict};
use crate::flow::text;
use crate::id::LinkId;
use crate::slb::ForwardingMode;
use crate::time::Duration;

#[test]
fn a_reply_that_no_session_knows_does_not_show_the_server_to_the_firewalls() {
    for farm in farms() {
        for mode in [ForwardingMode::Nat, ForwardingMode::FullNat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            let about = |web: &Web, source, destination| {
                let flow = text::parse(&format!("tcp {source} {destination}")).unwrap();
                explain("inner", &web.lab.snapshot, &web.lab.table, &flow, None, web.lab.now).story.join(" ")
            };

            for frame in [ack, rst, fin, syn_ack].map(|frame| frame(farm.server, farm.client)) {
                assert_eq!(web.lab.deliver(ArrivesAt::Near, frame).verdict, Verdict::Dropped(DropReason::StrayReply));
            }
            assert!(about(&web, farm.server, farm.client).contains("drop_stray_reply"));
            let late = udp(farm.server, farm.client, 1);
            assert_eq!(web.lab.deliver(ArrivesAt::Near, late).verdict, Verdict::Dropped(DropReason::StrayReply));
            web.lab.assert_moved([("received", 5), ("drop_stray_reply", 5)]);

            // Connections that the server opens itself, and ports on which no service has a server.
            let beside = SocketAddr::new(farm.server.ip(), 8081);
            assert!(!about(&web, beside, farm.client).contains("drop_stray_reply"));
            for frame in [
                syn(farm.server, farm.client(40001)),
                ack(farm.server, farm.client(40001)),
                udp(farm.server, farm.client(53), 1),
                udp(farm.server, farm.client(8080), 1),
                udp(beside, farm.client(40002), 1),
                echo(farm.server.ip(), farm.client.ip(), false, 7),
                ack(beside, farm.client),
                ack(farm.server(1), farm.client),
            ] {
                web.reply(frame);
            }
        }
    }
}

/// ICMP errors of a server about a datagram whose session has ended would name addresses that the client does not know
/// (RFC 5508 section 4.2). Errors about other packets are forwarded, and fragments too.
#[test]
fn late_errors_and_fragments_of_a_server_are_strays_too() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        let about = |server: SocketAddr| icmp_error(server.ip(), farm.client.ip(), &udp(farm.client, server, 100));
        let error = web.lab.deliver(ArrivesAt::Near, about(farm.server));
        assert_eq!(error.verdict, Verdict::Dropped(DropReason::StrayReply));
        web.reply(about(SocketAddr::new(farm.server.ip(), 8081)));
        for piece in fragments(&udp(farm.server, farm.client, 3000), 1000, 5) {
            assert_eq!(web.lab.deliver(ArrivesAt::Near, piece).verdict, Verdict::Dropped(DropReason::StrayReply));
        }

        // All of these have a session.
        web.request(udp(farm.client, farm.vip, 1));
        assert_eq!(web.reply(about(farm.server)).1.source, farm.vip.ip());
        assert_eq!(ends(&web.reply(udp(farm.server, farm.client, 1)).1).0, farm.vip);
        // After 300 s without packets none has.
        web.lab.wait(Duration::from_secs(400));
        let late = web.lab.deliver(ArrivesAt::Near, udp(farm.server, farm.client, 1));
        assert_eq!(late.verdict, Verdict::Dropped(DropReason::StrayReply));
    }
}

#[test]
fn a_client_that_speaks_past_the_service_hears_the_server_until_a_restart_and_after_its_next_packet() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.request(syn(farm.client, farm.server));
        let (firewall, reply) = web.reply(ack(farm.server, farm.client));
        assert_eq!((firewall, ends(&reply)), (1, (farm.server, farm.client)));

        let mut web = Web::new(&[1]);
        let early = web.lab.deliver(ArrivesAt::Near, ack(farm.server, farm.client));
        assert_eq!(early.verdict, Verdict::Dropped(DropReason::StrayReply));
        web.request(ack(farm.client, farm.server));
        assert_eq!(ends(&web.reply(ack(farm.server, farm.client)).1), (farm.server, farm.client));
    }
}

#[test]
fn modes_without_translation_let_servers_speak() {
    for farm in farms() {
        for mode in [ForwardingMode::Direct, ForwardingMode::Tunnel] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            web.reply(ack(farm.server, farm.client));
            web.reply(udp(farm.server, farm.client, 1));
        }
    }
}

/// A plain load balancer without firewalls between clients and servers.
#[test]
fn a_plain_balancer_keeps_the_servers_address_from_clients_and_lets_direct_connections_be() {
    for farm in farms() {
        let client = SocketAddr::new(farm.server(50).ip(), 40000);
        let mut web = Web::new(&[1]);
        let stray = Verdict::Dropped(DropReason::StrayReply);
        assert_eq!(web.lab.deliver(ArrivesAt::Near, ack(farm.server, client)).verdict, stray);

        let near = Verdict::Hairpin(LinkId(1));
        assert_eq!(web.lab.deliver(ArrivesAt::Near, syn(client, farm.server)).verdict, near);
        let answer = web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server, client));
        assert_eq!((answer.verdict, ends(&read_checked(&answer.bytes))), (near, (farm.server, client)));

        // A flow to the service from the same port: the server distinguishes the two by their ports.
        let request = web.lab.deliver(ArrivesAt::Near, syn(client, farm.vip));
        let (source, server) = ends(&read_checked(&request.bytes));
        assert_eq!((source.ip(), server), (client.ip(), farm.server));
        assert_ne!(source.port(), client.port());
        let answer = web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server, source));
        assert_eq!(ends(&read_checked(&answer.bytes)), (farm.vip, client));
        let answer = web.lab.deliver(ArrivesAt::Near, ack(farm.server, client));
        assert_eq!(ends(&read_checked(&answer.bytes)), (farm.server, client));
        assert_eq!(web.lab.table.len(), 2);

        // A connection that the server opened has a session, so that it continues.
        assert_eq!(web.lab.deliver(ArrivesAt::Near, syn(farm.server, client)).verdict, near);
    }
}
