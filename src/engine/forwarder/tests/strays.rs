//! What servers say that no session knows.

use std::net::SocketAddr;

use super::lab::At;
use super::packets::{ack, fin, rst, syn, udp};
use super::services::{Web, ends, farms};
use crate::engine::explain::explain;
use crate::engine::{DropReason, Verdict};
use crate::flow::text;
use crate::id::LinkId;
use crate::slb::Mode;

#[test]
fn a_reply_that_no_session_knows_does_not_show_the_server_to_the_firewalls() {
    for farm in farms() {
        for mode in [Mode::Nat, Mode::FullNat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            let about = |web: &Web, source, destination| {
                let flow = text::parse(&format!("tcp {source} {destination}")).unwrap();
                explain("inner", &web.lab.snapshot, &web.lab.table, &flow, None, web.lab.now).story.join(" ")
            };

            for frame in [ack, rst, fin].map(|frame| frame(farm.server, farm.client)) {
                assert_eq!(web.lab.deliver(At::Near, frame).verdict, Verdict::Dropped(DropReason::StrayReply));
            }
            assert!(about(&web, farm.server, farm.client).contains("drop_stray_reply"));
            web.lab.assert_moved([("received", 3), ("drop_stray_reply", 3)]);

            // Conversations of the server's own, and from where none of the service listens.
            let beside = SocketAddr::new(farm.server.ip(), 8081);
            assert!(!about(&web, beside, farm.client).contains("drop_stray_reply"));
            for frame in [
                syn(farm.server, farm.client(40001)),
                udp(farm.server, farm.client(40002), 1),
                ack(beside, farm.client),
                ack(farm.server(1), farm.client),
            ] {
                web.reply(frame);
            }
        }
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
        let early = web.lab.deliver(At::Near, ack(farm.server, farm.client));
        assert_eq!(early.verdict, Verdict::Dropped(DropReason::StrayReply));
        web.request(ack(farm.client, farm.server));
        assert_eq!(ends(&web.reply(ack(farm.server, farm.client)).1), (farm.server, farm.client));
    }
}

#[test]
fn modes_without_translation_and_engines_without_firewalls_let_servers_speak() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| service.mode = Mode::Direct);
        web.reply(ack(farm.server, farm.client));

        let mut web = Web::new(&[1]);
        let neighbour = SocketAddr::new(farm.server(50).ip(), 40000);
        let answer = web.lab.deliver(At::Near, ack(farm.server, neighbour));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(1)), "no firewall is on the way");
    }
}
