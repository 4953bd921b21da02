//! Whatever arrives, every frame has one verdict and the counters add up.

use proptest::collection::vec;
use proptest::prelude::*;

use super::bench::{ArrivesAt, ForwarderBench, nets};
use super::packets::{Frame, ack, echo, fragments, icmp_error, syn, udp};
use crate::engine::testbed::Side;
use crate::engine::verdict::Verdict;
use crate::id::DeviceId;
use crate::path::OnFailure;
use crate::time::Duration;
use crate::wire::offload::{Gso, GsoKind, Offload, PartialChecksum};
use crate::wire::vlan::VlanTag;

fn offload() -> impl Strategy<Value = Offload> {
    let partial = proptest::option::of((0u16..100, 0u16..40))
        .prop_map(|partial| partial.map(|(start, offset)| PartialChecksum { start, offset }));
    let kind =
        prop_oneof![Just(GsoKind::Tcp4), Just(GsoKind::Tcp6), Just(GsoKind::UdpSegments), Just(GsoKind::UdpFragments)];
    let gso = proptest::option::of((kind, any::<u16>(), any::<u16>()))
        .prop_map(|gso| gso.map(|(kind, size, header_len)| Gso { kind, ecn: false, size, header_len }));
    (partial, gso, any::<bool>()).prop_map(|(partial, gso, verified)| Offload { partial, gso, verified })
}

/// A valid frame of which some bytes were changed, cut off or added.
fn mutated() -> impl Strategy<Value = Frame> {
    let legal = (0usize..2, 0u8..7, 1u16..2000).prop_map(|(family, kind, length)| {
        let net = nets()[family];
        match kind {
            0 => syn(net.client, net.server),
            1 => ack(net.server, net.client),
            2 => udp(net.client, net.server, length.into()),
            3 => echo(net.client.ip(), net.server.ip(), false, length),
            4 => icmp_error(net.router, net.client.ip(), &udp(net.client, net.server, 64)),
            5 => fragments(&udp(net.client, net.server, 3000), 1000, length % 4).remove(usize::from(length) % 3),
            _ => fragments(&udp(net.server, net.client, 3000), 1000, length % 4).remove(usize::from(length) % 3),
        }
    });
    let edits = vec((0usize..120, any::<u8>()), 0..4);
    let vlan =
        proptest::option::weighted(0.1, any::<u16>()).prop_map(|tci| tci.map(|tci| VlanTag { tpid: 0x8100, tci }));
    (legal, edits, vec(any::<u8>(), 0..20), 0usize..2100, vlan, proptest::option::weighted(0.3, offload())).prop_map(
        |(mut frame, edits, tail, cut, vlan, offload)| {
            for (at, value) in edits {
                if let Some(byte) = frame.bytes.get_mut(at) {
                    *byte = value;
                }
            }
            frame.bytes.extend(tail);
            if cut < 40 {
                frame.bytes.truncate(cut * 3);
            }
            frame.vlan = vlan;
            frame.offload = offload.unwrap_or(Offload::NONE);
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_have_one_verdict_and_conserve(
        frames in vec((vec(any::<u8>(), 0..200), 0u16..4, offload()), 1..40),
    ) {
        // The test forwarder asserts conservation when it is dropped.
        let mut lab = ForwarderBench::outer(2);
        for (bytes, device, offload) in frames {
            lab.put(0, DeviceId(device), Frame { bytes, vlan: None, offload });
        }
    }

    #[test]
    fn mutated_packets_among_failures_have_one_verdict_and_conserve(
        steps in vec((mutated(), 0u8..5, 0u8..20, 0u64..3000), 1..150),
        policy in 0usize..4,
        mtu in prop_oneof![Just(1500u16), Just(576), Just(68), Just(30)],
        resolved in any::<bool>(),
    ) {
        let mut lab = ForwarderBench::with(Side::Outer, 3, 2, 24);
        lab.snapshot.groups[0].on_failure =
            [OnFailure::Reselect, OnFailure::Reset, OnFailure::Keep, OnFailure::Drop][policy];
        for link in &mut lab.snapshot.links {
            link.mtu = mtu;
        }
        if !resolved {
            lab.snapshot.neighbors.clear();
        }
        for (frame, at, event, wait) in steps {
            let at = match at {
                0 | 1 => ArrivesAt::Near,
                firewall => ArrivesAt::Firewall(u16::from(firewall) - 2),
            };
            match event {
                0..=2 => lab.set_up(event.into(), false),
                3..=5 => lab.set_up(u16::from(event) - 3, true),
                _ => {}
            }
            lab.wait(Duration::from_millis(wait));
            let answer = lab.deliver_to(usize::from(event) % 2, at, frame);
            prop_assert_ne!(answer.verdict, Verdict::Forward(crate::id::LinkId(9)));
            lab.transmits();
        }
    }
}
