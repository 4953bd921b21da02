//! Tests of the forwarder, frame by frame.

mod bench;
mod chaos;
mod copies;
mod egress;
mod explained;
mod failure;
mod fast_path;
mod fragments;
mod frame_tracing;
mod ingress;
mod inside;
mod kill;
mod load;
mod packets;
mod pins;
mod punt_policer;
mod roles;
mod services;
mod source_limits;
mod strays;
mod tunnel;

use bench::{ArrivesAt, ForwarderBench, nets};
use packets::{read, syn, syn_ack};

use crate::engine::Verdict;
use crate::engine::testbed::{Side, engine_mac, host_mac};
use crate::id::LinkId;

#[test]
fn a_new_flow_takes_the_firewall_of_its_hash_and_keeps_it() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);

        let first = lab.deliver(ArrivesAt::Near, syn(net.client, net.server));

        assert_eq!(first.verdict, Verdict::Forward(LinkId(1)));
        let firewall = lab.firewall_of(&first).unwrap();
        lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_hashed", 1)]);
        let sent = read(&first.bytes);
        let original = read(&syn(net.client, net.server).bytes);
        assert_eq!((sent.source, sent.destination, sent.ttl), (net.client.ip(), net.server.ip(), 63));
        assert_eq!((sent.source_mac, &sent.payload), (engine_mac(Side::Outer, 1), &original.payload));

        let reply = lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));

        assert_eq!(reply.verdict, Verdict::Forward(LinkId(0)));
        assert_eq!(read(&reply.bytes).destination_mac, host_mac(Side::Outer));
        lab.assert_moved([("received", 1), ("forwarded", 1)]);
        assert_eq!(lab.send(packets::ack(net.client, net.server)), firewall);
        lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
        let passed = lab.counters().firewalls[usize::from(firewall)];
        assert_eq!((passed.new_sessions, passed.answered_sessions), (1, 1), "answered once, whatever follows");
    }
}

#[test]
fn the_reply_returns_through_the_firewall_that_brought_the_request() {
    for net in nets() {
        for firewall in 0..3 {
            let mut lab = ForwarderBench::inner(3);

            lab.deliver(ArrivesAt::Firewall(firewall), syn(net.client, net.server));
            lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);

            assert_eq!(lab.send(syn_ack(net.server, net.client)), firewall);
            lab.assert_moved([("received", 1), ("forwarded", 1)]);
            let answered = |lab: &ForwarderBench| lab.counters().firewalls[usize::from(firewall)].answered_sessions;
            assert_eq!(answered(&lab), 0, "whether the answer passes the firewall is not known yet");
            lab.deliver(ArrivesAt::Firewall(firewall), packets::ack(net.client, net.server));
            assert_eq!(answered(&lab), 1);
        }
    }
}
