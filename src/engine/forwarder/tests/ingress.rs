//! Frames that are dropped or punted before their flow is looked at.

use super::bench::{ArrivesAt, ForwarderBench, nets, v4, v6};
use super::packets::{Frame, ack, echo, icmp_error, ip, read, syn, tcp_with, udp};
use crate::engine::testbed::{self, Side, engine_mac, firewall_mac, host_mac};
use crate::engine::verdict::{DropReason, IcmpError, PuntReason, Verdict};
use crate::id::{DeviceId, LinkId};
use crate::wire::MacAddr;
use crate::wire::vlan::{TPID_SERVICE, VlanTag};

/// Delivers a frame from the near side and expects this drop, with the bytes unchanged.
#[track_caller]
fn refused(lab: &mut ForwarderBench, frame: Frame, reason: DropReason) {
    let answer = lab.deliver(ArrivesAt::Near, frame.clone());
    assert_eq!(answer.verdict, Verdict::Dropped(reason));
    assert_eq!(answer.bytes[12..], frame.bytes[12..], "a dropped frame was edited");
    lab.assert_moved([("received", 1), (reason.name(), 1)]);
    assert!(lab.sessions().is_empty(), "a dropped frame opened a session");
}

#[test]
fn malformed_frames_have_each_their_reason() {
    let net = v4();
    let good = || ack(net.client, net.server);
    let edited = |edit: fn(&mut Vec<u8>)| {
        let mut frame = good();
        edit(&mut frame.bytes);
        frame
    };
    let finished = |edit: fn(&mut Vec<u8>)| {
        let mut frame = edited(edit);
        frame.finish_v4();
        frame
    };
    let mut source_routed = ip(net.client.ip(), net.server.ip(), 99, &[0; 8]);
    source_routed.bytes[14] = 0x47;
    source_routed.bytes.splice(34..34, [131, 7, 4, 10, 0, 0, 1, 0]);
    source_routed.bytes[16..18].copy_from_slice(&36u16.to_be_bytes());
    source_routed.finish_v4();
    let mut bad_icmp = echo(net.client.ip(), net.server.ip(), false, 7);
    *bad_icmp.bytes.last_mut().unwrap() ^= 1;
    let tiny_first = super::packets::fragments(&good(), 8, 1).remove(0);
    let cases = [
        (edited(|bytes| bytes.truncate(30)), DropReason::IpHeader),
        (edited(|bytes| bytes[14] = 0x44), DropReason::IpHeader),
        (edited(|bytes| bytes[14] = 0x65), DropReason::IpVersion),
        (finished(|bytes| bytes[16] = 0x40), DropReason::IpLength),
        (edited(|bytes| bytes[24] ^= 1), DropReason::IpChecksum),
        (source_routed, DropReason::SourceRoute),
        (edited(|bytes| bytes[46] = 0x40), DropReason::Transport),
        (tiny_first, DropReason::TinyFragment),
        (bad_icmp, DropReason::IcmpChecksum),
    ];
    for (frame, reason) in cases {
        refused(&mut ForwarderBench::outer(2), frame, reason);
    }
}

#[test]
fn a_frame_shorter_than_an_ethernet_header_is_counted() {
    let mut lab = ForwarderBench::outer(2);

    for length in 0..14 {
        let answer = lab.put(0, DeviceId(0), Frame::new(vec![2; length]));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::EthernetTruncated));
    }

    lab.assert_moved([("received", 14), ("drop_ethernet_truncated", 14)]);
}

#[test]
fn a_frame_that_the_receiver_judged_keeps_its_verdict_and_is_counted() {
    let mut lab = ForwarderBench::outer(2);
    let mut bytes = syn(v4().client, v4().server).bytes;
    let mut batch = crate::engine::Batch::new();
    let truncated = Verdict::Dropped(DropReason::Truncated);
    batch.packets.push(crate::engine::Packet {
        device: DeviceId(0),
        vlan: None,
        offload: Default::default(),
        bytes: &mut bytes,
        verdict: Some(truncated),
    });

    lab.workers[0].0.process(&mut batch, &lab.snapshot, &mut lab.punts, lab.now);

    assert_eq!(batch.packets[0].verdict, Some(truncated));
    lab.assert_moved([("received", 1), ("drop_truncated", 1)]);
}

#[test]
fn stations_that_are_none_of_ours_are_refused() {
    let net = v4();
    let cases = [
        (MacAddr([3, 0, 0, 0, 0, 1]), engine_mac(Side::Outer, 0), DropReason::BadSourceMac),
        (MacAddr([0; 6]), engine_mac(Side::Outer, 0), DropReason::BadSourceMac),
        (host_mac(Side::Outer), MacAddr([2, 9, 9, 9, 9, 9]), DropReason::OtherHost),
        (host_mac(Side::Outer), MacAddr([1, 0x80, 0xc2, 0, 0, 0]), DropReason::LinkControl),
        (host_mac(Side::Outer), MacAddr([1, 0x80, 0xc2, 0, 0, 0x0e]), DropReason::LinkControl),
        (host_mac(Side::Outer), MacAddr::BROADCAST, DropReason::Multicast),
    ];
    for (source, destination, reason) in cases {
        let mut lab = ForwarderBench::outer(2);
        let mut frame = syn(net.client, net.server);
        frame.address(source, destination);

        assert_eq!(lab.put(0, DeviceId(0), frame).verdict, Verdict::Dropped(reason));

        lab.assert_moved([("received", 1), (reason.name(), 1)]);
    }
}

#[test]
fn what_is_not_ip_is_arp_or_refused() {
    let frame = |ethertype: [u8; 2]| {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&ethertype);
        Frame::new(bytes)
    };
    refused(&mut ForwarderBench::outer(2), frame([0x00, 0x26]), DropReason::LinkControl);
    refused(&mut ForwarderBench::outer(2), frame([0x81, 0x00]), DropReason::EtherType);
    refused(&mut ForwarderBench::outer(2), frame([0x88, 0xcc]), DropReason::EtherType);

    let mut lab = ForwarderBench::outer(2);
    assert_eq!(lab.deliver(ArrivesAt::Near, frame([0x08, 0x06])).verdict, Verdict::Punted);
    assert_eq!(
        lab.deliver(ArrivesAt::Stranger(MacAddr([2, 1, 1, 1, 1, 1])), frame([0x08, 0x06])).verdict,
        Verdict::Punted
    );
    lab.assert_moved([("received", 2), ("punted", 2)]);
    assert!(lab.punts.taken.iter().all(|punt| punt.reason == PuntReason::Neighbor));
    assert_eq!(lab.punts.taken[0].link, LinkId(0));
}

#[test]
fn addresses_that_may_not_travel_are_refused_before_a_session_is_made() {
    let [v4, v6] = nets();
    let own = |index: usize| testbed::engine_addresses(Side::Outer)[index];
    let cases: Vec<(&str, &str, DropReason)> = vec![
        ("0.0.0.0", "203.0.113.80", DropReason::MartianSource),
        ("0.1.2.3", "203.0.113.80", DropReason::MartianSource),
        ("127.0.0.1", "203.0.113.80", DropReason::MartianSource),
        ("224.0.0.5", "203.0.113.80", DropReason::MartianSource),
        ("240.0.0.1", "203.0.113.80", DropReason::MartianSource),
        ("255.255.255.255", "203.0.113.80", DropReason::MartianSource),
        ("198.51.100.1", "203.0.113.80", DropReason::MartianSource),
        ("198.51.100.7", "0.0.0.0", DropReason::MartianDestination),
        ("198.51.100.7", "127.0.0.1", DropReason::MartianDestination),
        ("198.51.100.7", "240.0.0.1", DropReason::MartianDestination),
        ("198.51.100.7", "224.0.0.18", DropReason::Multicast),
        ("198.51.100.7", "239.1.2.3", DropReason::Multicast),
        ("198.51.100.7", "255.255.255.255", DropReason::Multicast),
        ("192.0.2.7", "198.51.100.255", DropReason::Multicast),
        ("169.254.1.1", "203.0.113.80", DropReason::LinkLocal),
        ("198.51.100.7", "169.254.1.1", DropReason::LinkLocal),
        ("::", "2001:db8:113::50", DropReason::MartianSource),
        ("::1", "2001:db8:113::50", DropReason::MartianSource),
        ("ff02::1", "2001:db8:113::50", DropReason::MartianSource),
        ("::ffff:10.0.0.1", "2001:db8:113::50", DropReason::MartianSource),
        ("2001:db8:1::1", "2001:db8:113::50", DropReason::MartianSource),
        ("2001:db8:1::7", "::1", DropReason::MartianDestination),
        ("2001:db8:1::7", "ff0e::1", DropReason::Multicast),
        ("fe80::7", "2001:db8:113::50", DropReason::LinkLocal),
        ("2001:db8:1::7", "fe80::7", DropReason::LinkLocal),
    ];
    for (source, destination, reason) in cases {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        refused(&mut ForwarderBench::outer(2), ip(source, destination, 99, &[1; 16]), reason);
    }
    for net in [v4, v6] {
        refused(&mut ForwarderBench::outer(2), syn(net.server, net.server), DropReason::Land);
    }
    refused(&mut ForwarderBench::outer(2), ip(own(0).0, own(0).0, 99, &[1; 16]), DropReason::Land);
}

#[test]
fn one_address_with_two_ports_is_no_land_attack() {
    for net in nets() {
        let mut other = net.server;
        other.set_port(81);
        ForwarderBench::outer(2).send(syn(net.server, other));
    }
}

#[test]
fn a_stranger_among_the_firewalls_is_heard_only_by_the_engine_itself() {
    let stranger = ArrivesAt::Stranger(MacAddr([2, 1, 1, 1, 1, 1]));
    for net in nets() {
        let mut lab = ForwarderBench::inner(2);
        let local = testbed::engine_addresses(Side::Inner)[1];
        let local = if net.client.is_ipv4() { local.0 } else { local.1 };

        let routed = lab.deliver(stranger, syn(net.client, net.server));
        assert_eq!(routed.verdict, Verdict::Dropped(DropReason::UnknownFirewall));
        lab.assert_moved([("received", 1), ("drop_unknown_firewall", 1)]);

        assert_eq!(lab.deliver(stranger, echo(net.client.ip(), local, false, 7)).verdict, Verdict::Punted);
        lab.assert_moved([("received", 1), ("punted", 1)]);
        assert_eq!(lab.punts.taken[0].reason, PuntReason::Local);
        assert!(lab.sessions().is_empty());
    }
}

#[test]
fn every_local_address_is_reached_from_every_side() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let addresses = testbed::engine_addresses(Side::Outer);
        for (v4, v6) in addresses {
            let local = if net.client.is_ipv4() { v4 } else { v6 };
            for at in [ArrivesAt::Near, ArrivesAt::Firewall(1)] {
                let answer = lab.deliver(at, echo(net.client.ip(), local, false, 7).ttl(1));
                assert_eq!(answer.verdict, Verdict::Punted);
            }
        }
        lab.assert_moved([("received", 4), ("punted", 4)]);
        assert!(lab.punts.taken.iter().all(|punt| punt.reason == PuntReason::Local));
    }
}

#[test]
fn neighbour_discovery_and_listener_reports_go_to_the_controller_and_never_beyond() {
    let discovery = |source: &str, destination: &str, kind: u8| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let mut message = vec![0; 24];
        message[0] = kind;
        let pseudo = crate::wire::checksum::pseudo_header(source, destination, 58, 24);
        let sum = !crate::wire::checksum::add(pseudo, crate::wire::checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        ip(source, destination, 58, &message)
    };
    let mut lab = ForwarderBench::outer(2);
    // A duplicate address detection, a solicitation, an advertisement, a redirect and a report.
    for (source, destination, kind) in [
        ("::", "ff02::1:ff00:1", 135),
        ("fe80::7", "2001:db8:1::1", 135),
        ("fe80::7", "ff02::1", 136),
        ("fe80::7", "2001:db8:1::1", 137),
        ("fe80::7", "ff02::16", 143),
    ] {
        assert_eq!(
            lab.deliver(ArrivesAt::Near, discovery(source, destination, kind)).verdict,
            Verdict::Punted,
            "{kind}"
        );
    }
    lab.assert_moved([("received", 5), ("punted", 5)]);
    assert!(lab.punts.taken.iter().all(|punt| punt.reason == PuntReason::Neighbor));
    refused(&mut ForwarderBench::outer(2), discovery("fe80::7", "2001:db8:113::50", 135), DropReason::LinkLocal);
}

#[test]
fn vlans_are_kept_apart() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.snapshot.devices[0].untagged = None;
    lab.snapshot.devices[0].tagged = vec![(10, LinkId(0))];
    lab.snapshot.links[0].vlan = Some(10);
    for (tag, verdict) in [
        (None, Verdict::Dropped(DropReason::UnknownVlan)),
        (Some(VlanTag::new(0)), Verdict::Dropped(DropReason::UnknownVlan)),
        (Some(VlanTag::new(11)), Verdict::Dropped(DropReason::UnknownVlan)),
        (Some(VlanTag::new(4095)), Verdict::Dropped(DropReason::UnknownVlan)),
        (Some(VlanTag { tpid: TPID_SERVICE, tci: 10 }), Verdict::Dropped(DropReason::UnknownVlan)),
        (Some(VlanTag::new(10)), Verdict::Forward(LinkId(1))),
    ] {
        let frame = Frame { vlan: tag, ..syn(net.client, net.server) };
        assert_eq!(lab.deliver(ArrivesAt::Near, frame).verdict, verdict, "{tag:?}");
    }
    lab.assert_moved([
        ("received", 6),
        ("drop_unknown_vlan", 5),
        ("forwarded", 1),
        ("sessions_created", 1),
        ("pin_hashed", 1),
    ]);
    assert_eq!(lab.counters().links[0].rx_packets, 1);
}

#[test]
fn a_priority_tag_is_untagged() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    let frame = Frame { vlan: Some(VlanTag { tpid: 0x8100, tci: 0xa000 }), ..syn(net.client, net.server) };

    let answer = lab.deliver(ArrivesAt::Near, frame);

    assert_eq!((answer.verdict, answer.vlan), (Verdict::Forward(LinkId(1)), None));
}

#[test]
fn an_expired_ttl_is_dropped_told_and_leaves_no_session() {
    for net in nets() {
        for ttl in [0, 1] {
            let mut lab = ForwarderBench::outer(2);
            let frame = syn(net.client, net.server).ttl(ttl);

            refused(&mut lab, frame.clone(), DropReason::TtlExpired);

            let [punt] = &lab.punts.taken[..] else { panic!("{:?}", lab.punts.taken) };
            assert_eq!(punt.reason, PuntReason::IcmpError(IcmpError::TimeExceeded));
            assert_eq!((punt.link, &punt.bytes[14..]), (LinkId(0), &frame.bytes[14..]));
        }
    }
}

#[test]
fn the_copy_for_an_icmp_error_is_bounded() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);

        refused(&mut lab, udp(net.client, net.server, 1400).ttl(1), DropReason::TtlExpired);

        assert_eq!(lab.punts.taken[0].bytes.len(), 14 + 1280);
    }
}

#[test]
fn a_full_queue_drops_a_punt_but_not_the_verdict_about_an_error() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.punts.capacity = 0;
    let local = testbed::engine_addresses(Side::Outer)[0].0;

    let ping = lab.deliver(ArrivesAt::Near, echo(net.client.ip(), local, false, 7));
    assert_eq!(ping.verdict, Verdict::Dropped(DropReason::PuntQueueFull));
    lab.assert_moved([("received", 1), ("drop_punt_queue_full", 1)]);

    let expired = lab.deliver(ArrivesAt::Near, syn(net.client, net.server).ttl(1));
    assert_eq!(expired.verdict, Verdict::Dropped(DropReason::TtlExpired));
    lab.assert_moved([("received", 1), ("drop_ttl_expired", 1), ("punt_drop_icmp_error", 1)]);
}

#[test]
fn a_destination_without_route_is_dropped_and_told() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.snapshot.routes = Default::default();

        refused(&mut lab, syn(net.client, net.server), DropReason::NoRoute);

        assert_eq!(lab.punts.taken[0].reason, PuntReason::IcmpError(IcmpError::NoRoute));
    }
}

#[test]
fn an_icmp_error_to_another_than_the_quoted_sender_is_dropped() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        lab.send(syn(net.client, net.server));
        lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_hashed", 1)]);

        // The error is about the client's packet, but addressed to the router.
        let error = icmp_error(net.client.ip(), net.router, &syn(net.client, net.server));
        assert_eq!(lab.deliver(ArrivesAt::Near, error).verdict, Verdict::Dropped(DropReason::IcmpMismatch));

        lab.assert_moved([("received", 1), ("drop_icmp_mismatch", 1)]);
    }
}

#[test]
fn learn_by_link_takes_every_station_for_the_firewall() {
    let net = v6();
    let mut lab = ForwarderBench::inner(2);
    lab.snapshot.firewall_macs.clear();
    lab.snapshot.links[0].sole_firewall = Some(crate::id::FirewallId(1));

    lab.deliver(ArrivesAt::Stranger(MacAddr([2, 1, 1, 1, 1, 1])), syn(net.client, net.server));

    lab.assert_moved([("received", 1), ("forwarded", 1), ("sessions_created", 1), ("pin_learned", 1)]);
    assert_eq!(lab.send(ack(net.server, net.client)), 1);
}

#[test]
fn a_firewall_that_changes_its_hardware_address_keeps_its_sessions() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    let firewall = lab.send(syn(net.client, net.server));
    let moved = MacAddr([2, 7, 7, 7, 7, 7]);
    let old = firewall_mac(Side::Outer, firewall);
    for mac in lab.snapshot.neighbors.values_mut().filter(|mac| **mac == old) {
        *mac = moved;
    }

    let answer = lab.deliver(ArrivesAt::Near, tcp_with(net.client, net.server, 0x10, 1, 1, b"x"));

    assert_eq!(read(&answer.bytes).destination_mac, moved);
    lab.assert_moved([("received", 2), ("forwarded", 2), ("sessions_created", 1), ("pin_hashed", 1)]);
}
