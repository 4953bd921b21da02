//! The short path of steady packets has the same results as the long path. With a capture all packets take the long
//! path.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::bench::{ArrivesAt, ForwarderBench, FrameResult, nets};
use super::packets::{Frame, ack, fin, rst, syn, syn_ack, tcp_with, udp};
use super::services::{Web, farms};
use crate::engine::testbed::Side;
use crate::engine::trace::{CaptureSink, CapturedFrame, Filter, Tap};
use crate::id::LinkId;
use crate::path::OnFailure;
use crate::slb::ForwardingMode;
use crate::time::Duration;

/// A capture that wants every frame and keeps none.
#[derive(Debug)]
struct Nobody;

impl CaptureSink for Nobody {
    fn has_room(&mut self, _: LinkId) -> bool {
        false
    }

    fn put(&mut self, _: CapturedFrame) {}
}

fn watch(lab: &mut ForwarderBench) {
    for (forwarder, _) in &mut lab.workers {
        forwarder.set_taps(vec![Tap { filter: Arc::new(Filter::default()), snaplen: 64, sink: Box::new(Nobody) }]);
    }
}

/// One packet, and what happens before it.
#[derive(Debug, Clone)]
struct Step {
    family: usize,
    client: u16,
    kind: u8,
    is_reply: bool,
    firewall: u16,
    ttl: u8,
    event: u8,
    wait: u64,
}

fn step() -> impl Strategy<Value = Step> {
    // Most packets continue a session through the same firewall.
    let kind = prop_oneof![1 => 0u8..8, 3 => Just(2), 2 => Just(3), 3 => Just(6)];
    let firewall = prop_oneof![8 => Just(0u16), 1 => 1u16..3];
    let ttl = prop_oneof![20 => Just(64u8), 1 => 0u8..3];
    let event = prop_oneof![30 => Just(99u8), 1 => 0u8..10];
    let wait = prop_oneof![10 => 0u64..20, 1 => 0u64..5000];
    (0usize..2, 0u16..3, kind, any::<bool>(), firewall, ttl, event, wait).prop_map(
        |(family, client, kind, is_reply, firewall, ttl, event, wait)| Step {
            family,
            client,
            kind,
            is_reply,
            firewall,
            ttl,
            event,
            wait,
        },
    )
}

impl Step {
    fn frame(&self, near: SocketAddr, far: SocketAddr, number: u32) -> Frame {
        let (source, destination) = if self.is_reply { (far, near) } else { (near, far) };
        let frame = match self.kind {
            0 if self.is_reply => syn_ack(source, destination),
            0 => syn(source, destination),
            1 => fin(source, destination),
            2 => ack(source, destination),
            3 => tcp_with(source, destination, 0x18, 1000 + number * 7, 2000 + number * 5, &[1; 30]),
            4 => rst(source, destination),
            5 => tcp_with(source, destination, 0x10, u32::MAX - 3, 5, &[2; 9]),
            _ => udp(source, destination, 20 + number as usize),
        };
        frame.ttl(self.ttl)
    }
}

fn assert_same(
    steady: &ForwarderBench,
    watched: &ForwarderBench,
    answers: [FrameResult; 2],
) -> Result<(), TestCaseError> {
    let [left, right] = answers;
    prop_assert_eq!(left, right);
    prop_assert_eq!(steady.sessions(), watched.sessions());
    prop_assert_eq!(steady.counters(), watched.counters());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_routed_packet_ends_the_same_whichever_way_it_goes(
        steps in vec(step(), 1..80),
        is_outer: bool,
        policy in 0usize..4,
    ) {
        let side = if is_outer { Side::Outer } else { Side::Inner };
        let mut labs = [ForwarderBench::new(side, 3), ForwarderBench::new(side, 3)];
        watch(&mut labs[1]);
        for (number, step) in (0..).zip(steps) {
            let mut net = nets()[step.family];
            net.client.set_port(40_000 + step.client);
            let mut answers = Vec::new();
            for lab in &mut labs {
                lab.snapshot.groups[0].on_failure =
                    [OnFailure::Reselect, OnFailure::Reset, OnFailure::Keep, OnFailure::Drop][policy];
                match step.event {
                    firewall @ 0..=2 => lab.set_up(firewall.into(), false),
                    firewall @ 3..=5 => lab.set_up(u16::from(firewall) - 3, true),
                    6 => lab.snapshot.links[0].up ^= true,
                    7 => lab.snapshot.links[1].mtu = if lab.snapshot.links[1].mtu == 60 { 1500 } else { 60 },
                    8 => lab.snapshot.path_sets.iter_mut().for_each(|set| set.starting ^= 1),
                    _ => {}
                }
                lab.wait(Duration::from_millis(step.wait));
                let is_far = step.is_reply == is_outer;
                let at = if is_far { ArrivesAt::Firewall(step.firewall) } else { ArrivesAt::Near };
                answers.push(lab.deliver(at, step.frame(net.client, net.server, number)));
                lab.transmits();
            }
            assert_same(&labs[0], &labs[1], answers.try_into().expect("two"))?;
        }
    }

    #[test]
    fn a_translated_packet_ends_the_same_whichever_way_it_goes(
        steps in vec(step(), 1..80),
        mode in prop_oneof![3 => Just(ForwardingMode::Nat), 1 => Just(ForwardingMode::Direct)],
    ) {
        let mut webs = [Web::new(&[1, 1]), Web::new(&[1, 1])];
        watch(&mut webs[1].lab);
        for (number, step) in (0..).zip(steps) {
            let farm = farms()[step.family];
            let mut client = farm.client;
            client.set_port(40_000 + step.client);
            let mut answers = Vec::new();
            for web in &mut webs {
                web.change(|service| service.mode = mode);
                match step.event {
                    server @ 0..=1 => web.fell(server.into()),
                    server @ 2..=3 => web.change(|service| service.servers[usize::from(server) - 2].up = [true, true]),
                    firewall @ 4..=6 => web.lab.set_up(u16::from(firewall) - 4, false),
                    7 => (0..3).for_each(|firewall| web.lab.set_up(firewall, true)),
                    _ => {}
                }
                web.lab.wait(Duration::from_millis(step.wait));
                let at = if step.is_reply { ArrivesAt::Near } else { ArrivesAt::Firewall(step.firewall) };
                let far = if step.is_reply { farm.server(step.firewall.min(1) as u8) } else { farm.vip };
                answers.push(web.lab.deliver(at, step.frame(client, far, number)));
                web.lab.transmits();
            }
            let [steady, watched] = &webs;
            assert_same(&steady.lab, &watched.lab, answers.try_into().expect("two"))?;
            for server in 0..2 {
                prop_assert_eq!(steady.active(server), watched.active(server));
            }
        }
    }

    #[test]
    fn packets_of_one_batch_end_as_they_would_one_by_one(steps in vec(step(), 1..64)) {
        let mut labs = [ForwarderBench::outer(3), ForwarderBench::outer(3)];
        let mut frames = Vec::new();
        for (number, step) in (0..).zip(steps) {
            let mut net = nets()[step.family];
            net.client.set_port(40_000 + step.client);
            let at = if step.is_reply { ArrivesAt::Firewall(step.firewall) } else { ArrivesAt::Near };
            frames.push((at, step.frame(net.client, net.server, number)));
        }
        let one_by_one: Vec<_> = frames.iter().map(|(at, frame)| labs[0].deliver(*at, frame.clone())).collect();
        let together = labs[1].deliver_batch(frames);

        prop_assert_eq!(one_by_one, together);
        prop_assert_eq!(labs[0].sessions(), labs[1].sessions());
        let mut counters = [labs[0].counters(), labs[1].counters()];
        counters.iter_mut().for_each(|counters| counters.batches = Default::default());
        prop_assert_eq!(&counters[0], &counters[1]);
    }
}
