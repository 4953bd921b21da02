//! Sessions that an operator ends.

use std::sync::Arc;

use super::bench::{ArrivesAt, ForwarderBench, nets};
use super::packets::{ack, read, rst, syn, syn_ack, udp};
use super::services::{Web, farms};
use crate::engine::forwarder::KillOrder;
use crate::engine::testbed::{self, Side, host_mac};
use crate::engine::{SessionMatcher, Verdict};
use crate::id::{LinkId, ServiceId};
use crate::time::Duration;

/// Gives the order to every worker, and lets them work until it is done.
fn kill(lab: &mut ForwarderBench, selection: SessionMatcher, reset: bool) -> (u64, u64) {
    let order = give(lab, selection, reset);
    lab.wait(Duration::from_millis(10));
    assert!(order.is_done());
    order.counts()
}

fn give(lab: &mut ForwarderBench, selection: SessionMatcher, reset: bool) -> Arc<KillOrder> {
    let order = Arc::new(KillOrder::new(selection, reset, lab.workers.len(), lab.now));
    lab.workers.iter_mut().for_each(|(worker, _)| worker.kill(Arc::clone(&order)));
    order
}

#[test]
fn sessions_that_are_meant_end_and_no_others() {
    for net in nets() {
        let mut lab = ForwarderBench::with(Side::Outer, 3, 2, 1024);
        for port in 0..40 {
            let client = std::net::SocketAddr::new(net.client.ip(), 40_000 + port);
            lab.deliver_to(usize::from(port % 2), ArrivesAt::Near, syn(client, net.server));
        }
        let of_one = SessionMatcher { ports: vec![40_007], ..SessionMatcher::default() };

        assert_eq!(kill(&mut lab, of_one.clone(), false), (1, 0));
        assert_eq!(lab.sessions().len(), 39);
        assert_eq!(kill(&mut lab, of_one, false), (0, 0), "it is gone");
        assert_eq!(kill(&mut lab, SessionMatcher::default(), false), (39, 0));
        assert!(lab.sessions().is_empty() && lab.transmits().is_empty());
        assert_eq!(lab.counters().sessions_killed, 40);
        assert_eq!(lab.told.reasons(), ["killed"; 40]);
    }
}

#[test]
fn what_is_opened_after_the_order_lives_and_a_killed_flow_may_come_again() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        let firewall = lab.send(udp(net.client, net.server, 10));
        let order = give(&mut lab, SessionMatcher::default(), false);
        lab.now += Duration::from_millis(1);
        let other = std::net::SocketAddr::new(net.client.ip(), 50_000);
        lab.send(udp(other, net.server, 10));

        lab.wait(Duration::from_millis(10));

        assert!(order.is_done());
        assert_eq!((order.counts(), lab.sessions().len()), ((1, 0), 1));
        assert_eq!(lab.send(udp(net.client, net.server, 10)), firewall, "its next packet opens a new one");
        assert_eq!(lab.sessions().len(), 2);
    }
}

#[test]
fn each_engine_tells_the_end_on_its_side_and_sends_nothing_through_a_firewall() {
    for net in nets() {
        for (side, end, far) in [(Side::Outer, net.client, net.server), (Side::Inner, net.server, net.client)] {
            let mut lab = ForwarderBench::new(side, 3);
            let (near, firewall) = match side {
                Side::Outer => {
                    let firewall = lab.send(syn(net.client, net.server));
                    lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
                    (ArrivesAt::Near, ArrivesAt::Firewall(firewall))
                }
                Side::Inner => {
                    lab.deliver(ArrivesAt::Firewall(1), syn(net.client, net.server));
                    lab.send(syn_ack(net.server, net.client));
                    (ArrivesAt::Firewall(1), ArrivesAt::Near)
                }
            };
            lab.deliver(near, ack(net.client, net.server));
            let _ = firewall;

            assert_eq!(kill(&mut lab, SessionMatcher::default(), true), (1, 1));

            let resets = lab.transmits();
            let [reset] = &resets[..] else { panic!("{resets:?}") };
            assert_eq!(reset.link, LinkId(side.near()));
            let reset = read(&reset.bytes);
            assert_eq!((reset.source, reset.destination, reset.destination_mac), (far.ip(), end.ip(), host_mac(side)));
            assert_eq!(lab.counters().resets_sent, 1);
        }
    }
}

#[test]
fn of_a_session_that_a_service_placed_both_ends_are_told_and_the_server_is_free() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
        web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server, farm.client));
        web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));
        assert_eq!(web.active(0), 1);
        let others = SessionMatcher { service: Some(ServiceId(7)), ..SessionMatcher::default() };
        let at_vip = SessionMatcher { destination: Some(farm.vip.ip().into()), ..SessionMatcher::default() };

        assert_eq!(kill(&mut web.lab, others, true), (0, 0));
        assert_eq!(kill(&mut web.lab, at_vip, true), (1, 2));

        let resets: Vec<_> = web.lab.transmits().into_iter().map(|sent| (sent.link, read(&sent.bytes))).collect();
        let to = |link| &resets.iter().find(|(by, _)| *by == LinkId(link)).expect("a reset by that link").1;
        let (client, server) = (to(Side::Inner.far()), to(Side::Inner.near()));
        assert_eq!(client.destination_mac, testbed::firewall_mac(Side::Inner, 1), "through its own firewall");
        assert_eq!((client.source, client.destination), (farm.vip.ip(), farm.client.ip()));
        assert_eq!((server.source, server.destination), (farm.client.ip(), farm.server.ip()));
        assert_eq!(web.active(0), 0);
        // A packet in the middle of an unknown connection does not open one at a server.
        let answer = web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));
        assert!(!matches!(answer.verdict, Verdict::Forward(_)), "{answer:?}");
    }
}

#[test]
fn who_was_reset_already_and_who_is_no_tcp_is_told_nothing() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        let firewall = lab.send(syn(net.client, net.server));
        lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
        lab.deliver(ArrivesAt::Near, ack(net.client, net.server));
        lab.deliver(ArrivesAt::Near, rst(net.client, net.server));
        lab.send(udp(net.client, net.server, 10));
        lab.transmits();

        let (killed, resets) = kill(&mut lab, SessionMatcher::default(), true);

        assert_eq!((killed, resets, lab.transmits().len()), (2, 0, 0));
    }
}

#[test]
fn the_work_is_done_in_bounded_steps_whatever_waits_to_be_sent() {
    let net = nets()[0];
    let mut lab = ForwarderBench::with(Side::Outer, 3, 1, 10_000);
    for port in 0..6000 {
        let client = std::net::SocketAddr::new(net.client.ip(), 10_000 + port);
        let firewall = lab.send(syn(client, net.server));
        lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, client));
    }
    let order = give(&mut lab, SessionMatcher::default(), true);
    let mut steps = 0;
    while !order.is_done() {
        let before = lab.table.len();
        lab.workers[0].0.expire(&lab.snapshot, lab.now, 300);
        assert!(before - lab.table.len() <= 100, "more than the budget");
        // The queued resets are fetched from time to time, so that there is room.
        if steps % 10 == 0 {
            lab.transmits();
        }
        steps += 1;
        assert!(steps < 10_000, "it never ends");
    }
    lab.transmits();
    assert_eq!(order.counts(), (6000, 6000));
}
