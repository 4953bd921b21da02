//! Firewalls that fail, tables that are full, workers that share sessions.

use super::bench::{ArrivesAt, ForwarderBench, Net, nets};
use super::packets::{ack, fin, fin_back, read, rst, rst_back, syn, syn_ack, tcp_with, udp};
use crate::engine::testbed::{Side, host_mac};
use crate::engine::verdict::{DropReason, Verdict};
use crate::id::LinkId;
use crate::path::pinning::PinState;
use crate::path::{AdminState, OnFailure};
use crate::time::Duration;

/// An engine with an established connection through a firewall.
fn established(side: Side, net: &Net, on_failure: OnFailure) -> (ForwarderBench, u16) {
    let mut lab = ForwarderBench::new(side, 3);
    lab.snapshot.groups[0].on_failure = on_failure;
    let firewall = match side {
        Side::Outer => {
            let firewall = lab.send(syn(net.client, net.server));
            lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
            assert_eq!(lab.send(tcp_with(net.client, net.server, 0x18, 1000, 2000, b"hello")), firewall);
            firewall
        }
        Side::Inner => {
            lab.deliver(ArrivesAt::Firewall(1), syn(net.client, net.server));
            assert_eq!(lab.send(syn_ack(net.server, net.client)), 1);
            lab.deliver(ArrivesAt::Firewall(1), tcp_with(net.client, net.server, 0x18, 1000, 2000, b"hello"));
            1
        }
    };
    (lab, firewall)
}

#[test]
fn sessions_of_a_dead_firewall_are_reselected_once_and_do_not_return() {
    for net in nets() {
        let (mut lab, dead) = established(Side::Outer, &net, OnFailure::Reselect);
        lab.set_up(dead, false);

        let taken = lab.send(ack(net.client, net.server));

        assert_ne!(taken, dead);
        let counters = lab.counters();
        assert_eq!(counters.pin_changes(crate::path::pinning::PinChange::Reselected), 1);
        assert_eq!(counters.firewalls[usize::from(dead)].sessions, 0);
        assert_eq!(counters.firewalls[usize::from(taken)].sessions, 1);
        lab.deliver(ArrivesAt::Firewall(taken), ack(net.server, net.client));
        lab.set_up(dead, true);
        assert_eq!(lab.send(ack(net.client, net.server)), taken);
    }
}

#[test]
fn the_near_end_of_a_failed_session_is_reset_by_the_sweep() {
    for net in nets() {
        for side in [Side::Outer, Side::Inner] {
            let (mut lab, dead) = established(side, &net, OnFailure::Reset);
            lab.set_up(dead, false);

            lab.wait(Duration::from_millis(10));

            let resets = lab.transmits();
            let [reset] = &resets[..] else { panic!("{resets:?}") };
            assert_eq!(reset.link, LinkId(side.near()));
            let reset = read(&reset.bytes);
            // The client has received everything up to 2000 and sent "hello" from 1000 on.
            let (near, far, sequence, acknowledgement) = match side {
                Side::Outer => (net.client, net.server, 2000, 1005),
                Side::Inner => (net.server, net.client, 1005, 2000),
            };
            assert_eq!((reset.source, reset.destination), (far.ip(), near.ip()));
            assert_eq!(reset.destination_mac, host_mac(side));
            let segment = pnet_packet::tcp::TcpPacket::new(&reset.payload).unwrap();
            assert_eq!((segment.get_source(), segment.get_destination()), (far.port(), near.port()));
            assert_eq!((segment.get_sequence(), segment.get_acknowledgement()), (sequence, acknowledgement));
            assert_eq!(segment.get_flags(), 0x14);
            assert!(lab.sessions().is_empty());
            let counters = lab.counters();
            assert_eq!((counters.resets_sent, counters.sessions_failed), (1, 1));
        }
    }
}

#[test]
fn a_packet_that_comes_before_the_sweep_is_answered_at_once() {
    for net in nets() {
        let (mut lab, dead) = established(Side::Outer, &net, OnFailure::Reset);
        // The search has to pass many slots of other sessions first.
        lab.workers[0].0.expire(&lab.snapshot, lab.now, 30_000);
        lab.set_up(dead, false);
        lab.snapshot.epoch -= 1;

        let answer = lab.deliver(ArrivesAt::Near, ack(net.client, net.server));

        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::FirewallFailed));
        assert_eq!(lab.transmits().len(), 1);
        assert!(lab.sessions().is_empty());
    }
}

#[test]
fn the_sweep_goes_in_bounded_steps_and_reaches_every_session() {
    let [net, _] = nets();
    let mut lab = ForwarderBench::with(Side::Outer, 1, 1, 5000);
    lab.snapshot.groups[0].on_failure = OnFailure::Reset;
    lab.wait(Duration::ZERO);
    for port in 1..=1000 {
        let mut client = net.client;
        client.set_port(port);
        lab.send(ack(client, net.server));
        lab.deliver(ArrivesAt::Firewall(0), ack(net.server, client));
    }
    lab.set_up(0, false);

    let mut steps = 0;
    while lab.workers[0].0.expire(&lab.snapshot, lab.now, 300) {
        steps += 1;
        assert!(lab.transmits().len() <= 100);
    }

    assert!(steps >= 10, "{steps} steps for 1,000 sessions");
    lab.transmits();
    assert_eq!((lab.counters().resets_sent, lab.sessions().len()), (1000, 0));
}

#[test]
fn a_half_open_connection_is_not_reset_but_tried_again() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.groups[0].on_failure = OnFailure::Reset;
        let dead = lab.send(syn(net.client, net.server));
        lab.set_up(dead, false);
        lab.wait(Duration::from_millis(10));

        assert_eq!(lab.send(syn(net.client, net.server)), 1 - dead);
        assert!(lab.transmits().is_empty());
        assert_eq!(lab.sessions()[0].toward_low.or(lab.sessions()[0].toward_high).unwrap().state, PinState::Opening);
    }
}

#[test]
fn reset_reselects_what_is_not_tcp() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.groups[0].on_failure = OnFailure::Reset;
        let dead = lab.send(udp(net.client, net.server, 10));
        lab.deliver(ArrivesAt::Firewall(dead), udp(net.server, net.client, 10));
        lab.set_up(dead, false);
        lab.wait(Duration::from_millis(10));

        assert_eq!(lab.send(udp(net.client, net.server, 10)), 1 - dead);
        assert!(lab.transmits().is_empty());
    }
}

#[test]
fn drop_drops_a_session_until_a_syn_opens_it_anew() {
    for net in nets() {
        let (mut lab, dead) = established(Side::Outer, &net, OnFailure::Drop);
        lab.set_up(dead, false);
        for _ in 0..3 {
            let answer = lab.deliver(ArrivesAt::Near, ack(net.client, net.server));
            assert_eq!(answer.verdict, Verdict::Dropped(DropReason::FirewallFailed));
            lab.wait(Duration::from_secs(1));
        }

        assert_ne!(lab.send(syn(net.client, net.server)), dead);
        assert!(lab.transmits().is_empty());
    }
}

#[test]
fn keep_keeps_sending_to_the_firewall_that_is_believed_dead() {
    for net in nets() {
        let (mut lab, dead) = established(Side::Outer, &net, OnFailure::Keep);
        lab.set_up(dead, false);
        lab.wait(Duration::from_secs(5));
        assert_eq!(lab.send(ack(net.client, net.server)), dead);
        assert!(lab.transmits().is_empty());
    }
}

#[test]
fn a_drain_deadline_and_maintenance_act_as_a_fall() {
    for net in nets() {
        let (mut lab, drained) = established(Side::Outer, &net, OnFailure::Reset);
        for set in &mut lab.snapshot.path_sets {
            set.selectable &= !(1 << drained);
        }
        lab.snapshot.epoch += 1;
        lab.wait(Duration::from_millis(10));
        assert_eq!(lab.send(ack(net.client, net.server)), drained, "draining keeps");

        lab.set_up(drained, false);
        lab.wait(Duration::from_millis(10));
        assert_eq!((lab.transmits().len(), lab.sessions().len()), (1, 0));
    }
}

#[test]
fn idle_sessions_are_forgotten() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.send(udp(net.client, net.server, 10));
        lab.wait(Duration::from_secs(60));
        assert_eq!(lab.sessions().len(), 1);
        for _ in 0..10 {
            lab.wait(Duration::from_secs(60));
        }
        assert!(lab.sessions().is_empty());
        assert_eq!(lab.counters().sessions_expired, 1);
    }
}

#[test]
fn the_end_of_a_session_is_told_with_its_reason() {
    let net = nets()[0];
    let end_by = |frames: &[super::packets::Frame]| {
        let (mut lab, firewall) = established(Side::Outer, &net, OnFailure::Reselect);
        for frame in frames {
            lab.deliver(ArrivesAt::Firewall(firewall), frame.clone());
        }
        lab.wait(Duration::from_secs(3 * 3600));
        lab.told.reasons()
    };
    let client_is_done = || {
        let (mut lab, firewall) = established(Side::Outer, &net, OnFailure::Reselect);
        lab.send(fin(net.client, net.server));
        lab.deliver(ArrivesAt::Firewall(firewall), fin_back(net.server, net.client));
        lab.wait(Duration::from_secs(300));
        lab.told.reasons()
    };
    let end_with = |admin| {
        let (mut lab, firewall) = established(Side::Outer, &net, OnFailure::Reset);
        lab.snapshot.firewalls[usize::from(firewall)].admin = admin;
        lab.set_up(firewall, false);
        lab.wait(Duration::from_millis(10));
        lab.told.reasons()
    };

    assert_eq!(client_is_done(), ["closed"]);
    assert_eq!(end_by(&[rst_back(net.server, net.client)]), ["reset"]);
    assert_eq!(end_by(&[rst(net.server, net.client)]), ["idle"], "no end expects its number");
    assert_eq!(end_by(&[fin(net.server, net.client)]), ["idle"], "half closed is open");
    assert_eq!(end_with(AdminState::Ready), ["firewall_down"]);
    assert_eq!(end_with(AdminState::Drain), ["drain_timeout"]);
    assert_eq!(end_with(AdminState::Maint), ["maint"]);
}

#[test]
fn a_full_table_forwards_by_hash_and_stays_symmetric() {
    for net in nets() {
        let mut outer = ForwarderBench::with(Side::Outer, 4, 1, 16);
        let mut inner = ForwarderBench::inner(4);
        let client = |port| {
            let mut client = net.client;
            client.set_port(port);
            client
        };
        // Established sessions, which are not evicted for new sessions that the hash serves as well.
        for port in 1..=16 {
            let firewall = outer.send(udp(client(port), net.server, 10));
            outer.deliver(ArrivesAt::Firewall(firewall), udp(net.server, client(port), 10));
        }
        for port in 100..200 {
            let firewall = outer.send(udp(client(port), net.server, 10));
            assert_eq!(inner.send(udp(net.server, client(port), 10)), firewall);
        }
        let counters = outer.counters();
        assert_eq!((counters.table_full, counters.sessions_evicted), (100, 0));
        assert_eq!(outer.table.len(), 16);
    }
}

#[test]
fn a_learned_flow_off_its_hash_takes_the_place_of_a_harmless_session() {
    for net in nets() {
        let mut lab = ForwarderBench::with(Side::Inner, 4, 1, 16);
        let client = |port| {
            let mut client = net.client;
            client.set_port(port);
            client
        };
        for port in 1..=16 {
            let hashed = lab.send(udp(net.server, client(port), 10));
            lab.deliver(ArrivesAt::Firewall(hashed), udp(client(port), net.server, 10));
        }
        assert_eq!(lab.table.len(), 16);

        let hashed = ForwarderBench::inner(4).send(udp(net.server, client(99), 10));
        let other = (hashed + 1) % 4;
        lab.deliver(ArrivesAt::Firewall(other), udp(client(99), net.server, 10));

        assert_eq!(lab.send(udp(net.server, client(99), 10)), other);
        let counters = lab.counters();
        assert_eq!((counters.sessions_evicted, counters.table_full), (1, 0));
    }
}

#[test]
fn a_flood_of_half_open_sessions_breaks_no_established_one() {
    for net in nets() {
        let mut lab = ForwarderBench::with(Side::Outer, 4, 1, 64);
        let client = |port| {
            let mut client = net.client;
            client.set_port(port);
            client
        };
        let pins: Vec<_> = (1..=32)
            .map(|port| {
                let firewall = lab.send(syn(client(port), net.server));
                let other = (firewall + 1) % 4;
                lab.deliver(ArrivesAt::Firewall(other), syn_ack(net.server, client(port)));
                lab.send(ack(client(port), net.server));
                lab.deliver(ArrivesAt::Firewall(other), ack(net.server, client(port)));
                other
            })
            .collect();
        for port in 1000..3000 {
            lab.send(syn(client(port), net.server));
        }
        for (port, firewall) in (1..=32).zip(pins) {
            assert_eq!(lab.send(ack(client(port), net.server)), firewall);
        }
    }
}

#[test]
fn two_workers_share_sessions() {
    for net in nets() {
        let mut lab = ForwarderBench::with(Side::Inner, 4, 2, 64);
        lab.deliver_to(0, ArrivesAt::Firewall(3), syn(net.client, net.server));

        let reply = lab.deliver_to(1, ArrivesAt::Near, syn_ack(net.server, net.client));
        assert_eq!(lab.firewall_of(&reply), Some(3));
        // The other worker moves the session: only the sum of the gauge is right.
        let other = lab.deliver_to(1, ArrivesAt::Firewall(2), ack(net.client, net.server));
        assert_eq!(other.verdict, Verdict::Forward(LinkId(1)));
        lab.set_up(3, false);
        lab.deliver_to(1, ArrivesAt::Firewall(2), ack(net.client, net.server));
        let reply = lab.deliver_to(0, ArrivesAt::Near, ack(net.server, net.client));
        assert_eq!(lab.firewall_of(&reply), Some(2));
        assert_eq!(lab.counters().sessions_created, 1);
    }
}

#[test]
fn two_workers_at_once_open_one_session_and_lose_nothing() {
    let [net, _] = nets();
    let mut lab = ForwarderBench::with(Side::Outer, 4, 2, 4096);
    let snapshot = lab.snapshot.clone();
    let now = lab.now;
    std::thread::scope(|scope| {
        for (forwarder, _) in &mut lab.workers {
            scope.spawn(|| {
                let mut punts = crate::engine::testbed::PuntList::default();
                for port in 1..2000u16 {
                    let mut client = net.client;
                    client.set_port(port);
                    let mut frame = udp(client, net.server, 1);
                    frame.address(host_mac(Side::Outer), crate::engine::testbed::engine_mac(Side::Outer, 0));
                    let mut batch = crate::engine::Batch::new();
                    batch.packets.push(crate::engine::Packet {
                        device: crate::id::DeviceId(0),
                        vlan: None,
                        offload: frame.offload,
                        bytes: &mut frame.bytes,
                        verdict: None,
                    });
                    forwarder.process(&mut batch, &snapshot, &mut punts, now);
                    assert_eq!(batch.packets[0].verdict, Some(Verdict::Forward(LinkId(1))));
                }
            });
        }
    });
    let counters = lab.counters();
    assert_eq!((counters.received, counters.sessions_created, lab.table.len()), (3998, 1999, 1999));
}
