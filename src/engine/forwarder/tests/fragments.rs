//! Every fragment of a datagram goes the way of its flow, in whatever order they arrive.

use super::bench::{ArrivesAt, ForwarderBench, Net, nets};
use super::packets::{Frame, fragments, read, udp};
use crate::engine::verdict::{DropReason, PuntReason, Verdict};
use crate::id::LinkId;
use crate::time::Duration;

/// An inner engine with a session at a firewall that the hash does not give, the fragments of a datagram of it, and
/// that firewall.
fn off_hash(net: &Net) -> (ForwarderBench, Vec<Frame>, u16) {
    let datagram = udp(net.server, net.client, 4000);
    let hashed = ForwarderBench::inner(4).send(udp(net.server, net.client, 10));
    let firewall = (hashed + 1) % 4;
    let mut lab = ForwarderBench::inner(4);
    lab.deliver(ArrivesAt::Firewall(firewall), udp(net.client, net.server, 10));
    lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);
    (lab, fragments(&datagram, 1400, 77), firewall)
}

#[test]
fn fragments_in_any_order_take_the_firewall_of_their_flow() {
    for net in nets() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (mut lab, pieces, firewall) = off_hash(&net);
            let mut gone = Vec::new();
            let mut held = 0;
            for index in order {
                let answer = lab.deliver(ArrivesAt::Near, pieces[index].clone());
                match answer.verdict {
                    Verdict::Forward(LinkId(0)) => gone.push(answer.bytes),
                    Verdict::Punted => held += 1,
                    other => panic!("{order:?}: {other:?}"),
                }
                gone.extend(lab.transmits().into_iter().map(|transmit| transmit.bytes));
            }

            assert_eq!(gone.len(), 3, "{order:?}");
            let station = crate::engine::testbed::firewall_mac(lab.side, firewall);
            assert!(gone.iter().all(|bytes| read(bytes).destination_mac == station && read(bytes).ttl == 63));
            let first_at = order.iter().position(|index| *index == 0).unwrap() as u64;
            assert_eq!(held, first_at);
            let counters = lab.counters();
            assert_eq!((counters.punted, counters.fragments_released), (first_at, first_at));
            assert_eq!(counters.forwarded, 4 - first_at);
            assert!(lab.punts.taken.is_empty(), "held, not handed over");
        }
    }
}

#[test]
fn fragments_of_an_unknown_flow_agree_on_both_engines() {
    for net in nets() {
        for port in 1..20 {
            let mut client = net.client;
            client.set_port(port);
            let whole = ForwarderBench::inner(4).send(udp(net.server, client, 10));
            let mut lab = ForwarderBench::outer(4);
            for piece in fragments(&udp(client, net.server, 4000), 1400, port) {
                assert_eq!(lab.send(piece), whole);
            }
        }
    }
}

#[test]
fn interleaved_datagrams_are_not_confused() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(4);
        let clients: Vec<_> = (1..12)
            .map(|port| {
                let mut client = net.client;
                client.set_port(port);
                client
            })
            .collect();
        let pieces: Vec<_> =
            clients.iter().map(|client| fragments(&udp(*client, net.server, 4000), 1400, client.port())).collect();
        let mut taken = vec![Vec::new(); pieces.len()];
        for index in 0..3 {
            for (datagram, pieces) in pieces.iter().enumerate() {
                taken[datagram].push(lab.send(pieces[index].clone()));
            }
        }
        for (client, taken) in clients.iter().zip(taken) {
            let firewall = lab.send(udp(*client, net.server, 10));
            assert!(taken.iter().all(|number| *number == firewall), "{client}: {taken:?}");
        }
    }
}

#[test]
fn a_fragment_whose_first_does_not_come_is_given_up() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let pieces = fragments(&udp(net.client, net.server, 4000), 1400, 5);

        assert_eq!(lab.deliver(ArrivesAt::Near, pieces[2].clone()).verdict, Verdict::Punted);
        lab.wait(Duration::from_secs(3));

        lab.assert_moved([("received", 1), ("punted", 1), ("punt_drop_fragment_timeout", 1)]);
        assert!(lab.transmits().is_empty());
    }
}

#[test]
fn the_store_of_waiting_fragments_is_bounded() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let mut refused = 0;
        for id in 0..40 {
            let last = fragments(&udp(net.client, net.server, 4000), 1400, id).remove(2);
            match lab.deliver(ArrivesAt::Near, last).verdict {
                Verdict::Punted => assert!(id < 16, "more are held than the limit says"),
                Verdict::Dropped(DropReason::FragmentHeldFull) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 24);
    }
}

#[test]
fn a_full_table_refuses_later_fragments_and_nothing_else() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        // Datagrams whose first fragment arrived fill the table; later fragments of others find no room.
        for id in 0..64 {
            lab.send(fragments(&udp(net.client, net.server, 4000), 1400, id).remove(0));
        }
        let stranger = fragments(&udp(net.client, net.server, 4000), 1400, 1000);
        let answer = lab.deliver(ArrivesAt::Near, stranger[1].clone());
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::FragmentTableFull));
        lab.send(stranger[0].clone());
        lab.send(stranger[1].clone());
        lab.send(udp(net.client, net.server, 10));
    }
}

#[test]
fn overlapping_fragments_are_dropped() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let pieces = fragments(&udp(net.client, net.server, 4000), 1400, 9);
        let overlapping = fragments(&udp(net.client, net.server, 4000), 1000, 9);
        lab.send(pieces[0].clone());

        let answer = lab.deliver(ArrivesAt::Near, overlapping[1].clone());

        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::FragmentOverlap));
    }
}

#[test]
fn released_fragments_wait_for_the_neighbour_or_are_given_up_beside_the_sum() {
    for net in nets() {
        let mut lab = ForwarderBench::inner(2);
        lab.snapshot.neighbors.remove(&(LinkId(1), net.server.ip()));
        let pieces = fragments(&udp(net.client, net.server, 4000), 1400, 5);
        lab.deliver(ArrivesAt::Firewall(0), pieces[1].clone());
        lab.deliver(ArrivesAt::Firewall(0), pieces[2].clone());
        lab.punts.capacity = 2;

        lab.deliver(ArrivesAt::Firewall(0), pieces[0].clone());

        lab.assert_moved([
            ("received", 3),
            ("punted", 3),
            ("sessions_created", 1),
            ("pin_learned", 1),
            ("fragments_released", 1),
            ("punt_drop_fragment_unsent", 1),
        ]);
        assert!(lab.punts.taken.iter().all(|punt| matches!(punt.reason, PuntReason::NeighborWait { .. })));
    }
}
