//! Which firewall a flow takes: by session, learned, by hash.

mod icmp_errors;

use std::collections::HashSet;
use std::net::SocketAddr;

use super::bench::{ArrivesAt, ForwarderBench, nets, v4};
use super::packets::{Frame, ack, echo, icmp_error, ip, read, rst, syn, syn_ack, tcp, tcp_with, udp};
use crate::engine::route::{FibEntry, NextHop};
use crate::engine::testbed::{self, Side, host_mac, peer_set};
use crate::engine::verdict::{DropReason, Verdict};
use crate::flow::{AffinityRule, FlowHasher, HashMode, Seed};
use crate::id::{FirewallId, GroupId, LinkId, PathSetId};
use crate::path::{BelowMin, PathSet};
use crate::time::Duration;
use crate::wire::Family;

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

#[test]
fn outer_and_inner_agree_on_every_protocol_in_both_directions() {
    for net in nets() {
        let (mut outer, mut inner) = (ForwarderBench::outer(5), ForwarderBench::inner(5));
        for protocol in 0..=255u8 {
            // A payload that is valid where it is looked into: ports 0x1111, a fully covered UDP-Lite datagram; where
            // IPv6 expects an extension header, its next header is ESP.
            let mut payload = vec![0x11; 64];
            match (protocol, net.client) {
                (1 | 58, _) => payload[0] = 200,
                (17 | 136, _) => payload[4..8].copy_from_slice(&[0, 64, 0, 0]),
                (51, _) | (0 | 43 | 44 | 60 | 135 | 139 | 140, SocketAddr::V6(_)) => {
                    payload[..8].copy_from_slice(&[50, 1, 0, 0, 0, 0, 0, 0]);
                }
                _ => {}
            }
            match protocol {
                6 => payload[12] = 0x50,
                // Routing type 4; type 0 is dropped as a source route.
                43 => payload[2] = 4,
                _ => {}
            }
            let there = finished(ip(net.client.ip(), net.server.ip(), protocol, &payload));
            let back = finished(ip(net.server.ip(), net.client.ip(), protocol, &payload));

            let (there, back) = (outer.deliver(ArrivesAt::Near, there), inner.deliver(ArrivesAt::Near, back));

            let taken = outer.firewall_of(&there);
            assert!(taken.is_some(), "protocol {protocol}: {:?}", there.verdict);
            assert_eq!(taken, inner.firewall_of(&back), "protocol {protocol}");
        }
    }
}

/// Sets a correct ICMP checksum.
fn finished(mut frame: Frame) -> Frame {
    let (header, protocol) = if frame.bytes[12] == 0x08 { (34, frame.bytes[23]) } else { (54, frame.bytes[20]) };
    let read = read(&frame.bytes);
    let pseudo = match protocol {
        1 => 0,
        58 => crate::wire::checksum::pseudo_header(read.source, read.destination, 58, read.payload.len() as u32),
        _ => return frame,
    };
    frame.bytes[header + 2..header + 4].fill(0);
    let sum = !crate::wire::checksum::add(pseudo, crate::wire::checksum::sum(&frame.bytes[header..]));
    frame.bytes[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn a_thousand_flows_are_symmetric_and_use_every_firewall() {
    for net in nets() {
        let (mut outer, mut inner) = (ForwarderBench::outer(4), ForwarderBench::inner(4));
        let mut taken = [0; 4];
        for port in 1000..1500 {
            let client = with_port(net.client, port);
            let firewall = outer.send(udp(client, net.server, 10));
            assert_eq!(inner.send(udp(net.server, client, 10)), firewall);
            taken[usize::from(firewall)] += 1;
        }
        assert!(taken.iter().all(|flows| (80..170).contains(flows)), "{taken:?}");
    }
}

#[test]
fn one_ping_takes_one_way_and_two_pings_may_take_two() {
    for net in nets() {
        let (mut outer, mut inner) = (ForwarderBench::outer(4), ForwarderBench::inner(4));
        let mut used = HashSet::new();
        for identifier in 0..40 {
            let request = outer.send(echo(net.client.ip(), net.server.ip(), false, identifier));
            let reply = inner.send(echo(net.server.ip(), net.client.ip(), true, identifier));
            assert_eq!(request, reply);
            used.insert(request);
        }
        assert_eq!(used.len(), 4);
    }
}

#[test]
fn the_hash_takes_what_its_mode_names() {
    for net in nets() {
        let firewalls = |mode, frames: &[Frame]| {
            let mut lab = ForwarderBench::outer(8);
            lab.snapshot.groups[0].hasher = FlowHasher::new(Seed::from_text("modes"), mode);
            frames.iter().map(|frame| lab.send(frame.clone())).collect::<HashSet<_>>()
        };
        let ports: Vec<_> = (1..60).map(|port| udp(with_port(net.client, port), net.server, 1)).collect();
        let protocols: Vec<_> =
            (100..130).map(|number| ip(net.client.ip(), net.server.ip(), number, &[0; 8])).collect();
        let clients: Vec<_> = (2..60).map(|host| udp(neighbour(net.client, host), net.server, 1)).collect();
        let servers: Vec<_> = (2..60).map(|host| udp(net.client, neighbour(net.server, host), 1)).collect();

        for (mode, many) in [
            (HashMode::FiveTuple, [true, true, true, true]),
            (HashMode::ThreeTuple, [false, true, true, true]),
            (HashMode::Addresses, [false, false, true, true]),
            (HashMode::Source, [false, false, true, false]),
            (HashMode::Destination, [false, false, false, true]),
        ] {
            let seen = [&ports, &protocols, &clients, &servers].map(|frames| firewalls(mode, frames).len() > 1);
            assert_eq!(seen, many, "{mode:?}: ports, protocols, clients, servers");
        }
    }
}

fn neighbour(address: SocketAddr, host: u8) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => {
            let [a, b, c, _] = v4.ip().octets();
            SocketAddr::new([a, b, c, host].into(), address.port())
        }
        SocketAddr::V6(v6) => {
            let mut octets = v6.ip().octets();
            octets[15] = host;
            SocketAddr::new(octets.into(), address.port())
        }
    }
}

#[test]
fn source_on_one_side_meets_destination_on_the_other() {
    for net in nets() {
        let (mut outer, mut inner) = (ForwarderBench::outer(6), ForwarderBench::inner(6));
        outer.snapshot.groups[0].hasher = FlowHasher::new(Seed::from_text("modes"), HashMode::Source);
        inner.snapshot.groups[0].hasher = FlowHasher::new(Seed::from_text("modes"), HashMode::Destination);
        for host in 2..50 {
            let client = neighbour(net.client, host);
            assert_eq!(outer.send(udp(client, net.server, 1)), inner.send(udp(net.server, client, 1)));
        }
    }
}

#[test]
fn flows_with_an_affinity_share_a_firewall_on_both_sides() {
    for net in nets() {
        let rule = AffinityRule { prefix: net.server.ip().into(), mode: HashMode::Addresses };
        let [mut outer, mut inner] = [ForwarderBench::outer(8), ForwarderBench::inner(8)].map(|mut lab| {
            let hasher = FlowHasher::new(Seed::from_text("affinity"), HashMode::FiveTuple);
            lab.snapshot.groups[0].hasher = hasher.with_affinity([rule].into_iter().collect());
            lab
        });

        let to_server = (1..40).map(|port| outer.send(udp(with_port(net.client, port), net.server, 1)));
        let firewalls: HashSet<_> = to_server.collect();
        assert_eq!(firewalls.len(), 1);
        let back = (1..40).map(|port| inner.send(udp(with_port(net.server, port), net.client, 1)));
        assert_eq!(back.collect::<HashSet<_>>(), firewalls);
        let other = neighbour(net.server, 99);
        let spread = (1..40).map(|port| outer.send(udp(with_port(net.client, port), other, 1)));
        assert!(spread.collect::<HashSet<_>>().len() > 1, "other hosts are hashed as the group says");
    }
}

#[test]
fn a_session_stays_when_a_firewall_comes_or_goes_that_is_not_its_own() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        let firewall = lab.send(syn(net.client, net.server));
        lab.deliver(ArrivesAt::Firewall(firewall), syn_ack(net.server, net.client));
        for other in (0..3).filter(|other| *other != firewall) {
            lab.set_up(other, false);
            assert_eq!(lab.send(ack(net.client, net.server)), firewall);
            lab.set_up(other, true);
            assert_eq!(lab.send(ack(net.client, net.server)), firewall);
        }
    }
}

#[test]
fn an_unconfirmed_flow_adopts_the_firewall_that_answers() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let hashed = lab.send(syn(net.client, net.server));
        let other = 1 - hashed;

        lab.deliver(ArrivesAt::Firewall(other), syn_ack(net.server, net.client));

        lab.assert_moved([
            ("received", 2),
            ("forwarded", 2),
            ("sessions_created", 1),
            ("pin_hashed", 1),
            ("pin_corrected", 1),
            ("asymmetric", 1),
        ]);
        assert_eq!(lab.send(ack(net.client, net.server)), other);
        let counters = lab.counters();
        assert_eq!(counters.firewalls[usize::from(hashed)].sessions, 0);
        assert_eq!(counters.firewalls[usize::from(other)].sessions, 1);
        assert_eq!(counters.firewalls[usize::from(other)].new_sessions, 1);
        assert_eq!(counters.firewalls[usize::from(other)].packets, 2);
    }
}

#[test]
fn a_route_back_into_the_group_it_came_from_is_a_loop_and_leaves_no_trace() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let other = with_port(neighbour(net.server, 81), 80);

        let answer = lab.deliver(ArrivesAt::Firewall(0), syn(net.server, other));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::GroupLoop));
        lab.assert_moved([("received", 1), ("drop_group_loop", 1)]);

        // Even with a session whose destination is behind the group: this is a forged packet from there.
        lab.send(syn(net.client, net.server));
        let before = lab.sessions();
        let forged = lab.deliver(ArrivesAt::Firewall(0), ack(net.client, net.server));
        assert_eq!(forged.verdict, Verdict::Dropped(DropReason::GroupLoop));
        assert_eq!(lab.sessions(), before);
    }
}

/// The outer engine with a second group, "dmz" (firewall 2, on a link of its own), before 192.0.2.0/24.
fn two_groups() -> ForwarderBench {
    let mut lab = ForwarderBench::outer(2);
    let snapshot = &mut lab.snapshot;
    let dmz = LinkId(2);
    let mac = testbed::firewall_mac(Side::Inner, 77);
    snapshot.devices.push(crate::engine::snapshot::Device {
        name: "eth2".into(),
        untagged: Some(dmz),
        tagged: Vec::new(),
    });
    let mut link = snapshot.links[1].clone();
    link.name = "dmz".into();
    link.mac = testbed::engine_mac(Side::Outer, 2);
    link.addresses = vec!["10.9.0.1/16".parse().unwrap(), "fd09::1/64".parse().unwrap()];
    snapshot.links.push(link);
    let mut group = snapshot.groups[0].clone();
    group.id = GroupId(1);
    group.name = "dmz".into();
    group.members.truncate(1);
    group.members[0].id = FirewallId(2);
    snapshot.groups.push(group);
    let mut firewall = snapshot.firewalls[0].clone();
    firewall.group = GroupId(1);
    firewall.link = dmz;
    firewall.v4 = Some("10.9.0.11".parse().unwrap());
    firewall.v6 = Some("fd09::11".parse().unwrap());
    for address in [firewall.v4, firewall.v6].into_iter().flatten() {
        snapshot.neighbors.insert((dmz, address), mac);
    }
    snapshot.firewalls.push(firewall);
    snapshot.firewall_macs.insert((dmz, mac), FirewallId(2));
    for (family, prefix) in [(Family::V4, "192.0.2.0/24"), (Family::V6, "2001:db8:ffff::/64")] {
        let set = PathSetId::from(snapshot.path_sets.len());
        snapshot.path_sets.push(PathSet {
            group: GroupId(1),
            peer: None,
            family,
            up: 1,
            selectable: 1,
            starting: 0,
            failure_counts: vec![0],
        });
        snapshot.routes.insert(prefix.parse().unwrap(), FibEntry::Group { set, preferred: None, bypass: None });
    }
    lab
}

#[test]
fn from_one_group_into_another_pins_in_both() {
    for net in nets() {
        let mut lab = two_groups();
        let dmz = SocketAddr::new(net.router, 80);

        let there = lab.deliver(ArrivesAt::Firewall(1), syn(net.server, dmz));

        assert_eq!(there.verdict, Verdict::Forward(LinkId(2)));
        lab.assert_moved([
            ("received", 1),
            ("forwarded", 1),
            ("sessions_created", 1),
            ("pin_learned", 1),
            ("pin_hashed", 1),
        ]);
        let [session] = &lab.sessions()[..] else { panic!() };
        let pinned: HashSet<_> = [session.toward_low, session.toward_high].map(|pin| pin.unwrap().firewall.0).into();
        assert_eq!(pinned, HashSet::from([1, 2]));

        let mut back = syn_ack(dmz, net.server);
        back.address(testbed::firewall_mac(Side::Inner, 77), testbed::engine_mac(Side::Outer, 2));
        let back = lab.put(0, crate::id::DeviceId(2), back);
        assert_eq!(lab.firewall_of(&back), Some(1));
        lab.assert_moved([("received", 1), ("forwarded", 1)]);
    }
}

#[test]
fn a_flow_is_learned_into_the_set_of_the_route_back_or_else_toward_every_peer() {
    for net in nets() {
        let family = Family::of(net.client.ip());
        let mut lab = ForwarderBench::outer(2);
        lab.deliver(ArrivesAt::Firewall(0), syn(net.server, net.client));
        lab.deliver(ArrivesAt::Firewall(0), syn(SocketAddr::new(net.router, 80), net.client));

        let set =
            |session: &crate::session::Session| session.toward_low.or(session.toward_high).map(|pin| pin.set).unwrap();
        let sets: HashSet<_> = lab.sessions().iter().map(set).collect();
        assert_eq!(sets, HashSet::from([peer_set(family), PathSetId(peer_set(family).0 + 2)]));
        // Even a source that is routed elsewhere is answered through the firewall that its packet came from.
        assert_eq!(lab.send(syn_ack(net.client, SocketAddr::new(net.router, 80))), 0);
    }
}

#[test]
fn the_firewall_that_a_route_prefers_takes_new_flows_while_it_is_up() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        let prefix = ipnet::IpNet::new(net.server.ip(), if net.server.is_ipv4() { 32 } else { 128 }).unwrap();
        let set = peer_set(Family::of(net.server.ip()));
        let target = FibEntry::Group { set, preferred: Some(FirewallId(2)), bypass: None };
        lab.snapshot.routes.insert(prefix, target);

        assert!((1..50).all(|port| lab.send(udp(with_port(net.client, port), net.server, 1)) == 2));
        lab.set_up(2, false);
        assert!((50..99).all(|port| lab.send(udp(with_port(net.client, port), net.server, 1)) != 2));
    }
}

#[test]
fn a_spare_takes_over_for_a_dead_firewall_only() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        lab.snapshot.groups[0].members[2].spare = true;
        let mut ports = 1..;
        let mut round = |lab: &mut ForwarderBench| -> HashSet<u16> {
            ports.by_ref().take(60).map(|port| lab.send(udp(with_port(net.client, port), net.server, 1))).collect()
        };

        assert_eq!(round(&mut lab), HashSet::from([0, 1]));
        lab.set_up(0, false);
        assert_eq!(round(&mut lab), HashSet::from([1, 2]));
        lab.set_up(0, true);
        assert_eq!(round(&mut lab), HashSet::from([0, 1]));
    }
}

#[test]
fn a_draining_firewall_keeps_its_flows_and_takes_no_new_ones() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let firewall = lab.send(syn(net.client, net.server));
        for set in &mut lab.snapshot.path_sets {
            set.selectable &= !(1 << firewall);
        }

        assert_eq!(lab.send(ack(net.client, net.server)), firewall);
        assert!((1..30).all(|port| lab.send(syn(with_port(net.client, port), net.server)) != firewall));
    }
}

#[test]
fn without_a_firewall_packets_are_dropped_for_that_reason() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let first = lab.send(syn(net.client, net.server));
        lab.snapshot.groups[0].min_up = 2;
        lab.set_up(1 - first, false);
        let closed = |lab: &mut ForwarderBench, reason: DropReason| {
            for frame in [ack(net.client, net.server), syn(with_port(net.client, 1), net.server)] {
                assert_eq!(lab.deliver(ArrivesAt::Near, frame).verdict, Verdict::Dropped(reason));
            }
        };
        // Packets of live sessions are dropped, too: it fails closed.
        closed(&mut lab, DropReason::BelowMin);
        lab.set_up(first, false);
        closed(&mut lab, DropReason::NoPathUp);
        assert!(lab.punts.taken.is_empty(), "failing closed is silent");
    }
}

#[test]
fn below_the_minimum_bypass_leads_past_the_firewalls() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(2);
        let family = Family::of(net.client.ip());
        let round = NextHop { link: LinkId(0), address: neighbour(net.client, 99).ip() };
        let prefix = ipnet::IpNet::new(net.server.ip(), if net.server.is_ipv4() { 32 } else { 128 }).unwrap();
        let target = FibEntry::Group { set: peer_set(family), preferred: None, bypass: Some(round) };
        lab.snapshot.routes.insert(prefix, target);
        lab.snapshot.groups[0].below_min = BelowMin::Bypass;
        let firewall = lab.send(syn(net.client, net.server));

        lab.set_up(0, false);
        // One live firewall is enough.
        lab.send(ack(net.client, net.server));
        lab.set_up(1, false);
        let answer = lab.deliver(ArrivesAt::Near, ack(net.client, net.server));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(0)));
        assert_eq!(read(&answer.bytes).destination_mac, host_mac(Side::Outer));

        lab.set_up(firewall, true);
        lab.send(ack(net.client, net.server));
    }
}

#[test]
fn a_firewall_that_is_starting_is_learned_and_keeps_what_it_brought() {
    for net in nets() {
        let mut lab = ForwarderBench::inner(2);
        for set in &mut lab.snapshot.path_sets {
            (set.up, set.selectable, set.starting) = (0, 0, 0b11);
        }

        lab.deliver(ArrivesAt::Firewall(1), syn(net.client, net.server));
        assert_eq!(lab.send(syn_ack(net.server, net.client)), 1);
        let new = lab.deliver(ArrivesAt::Near, syn(with_port(net.server, 5), net.client));
        assert_eq!(new.verdict, Verdict::Dropped(DropReason::NoPathUp));
    }
}

#[test]
fn odd_tcp_segments_follow_the_hash_or_the_session_and_open_none() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(4);
        let odd = [0x00, 0x01, 0x03, 0x06, 0x07, 0x29, 0x3f, 0x04, 0x14];
        let mut hashed = HashSet::new();
        for flags in odd {
            hashed.insert(lab.send(tcp(net.client, net.server, flags)));
        }
        lab.assert_moved([("received", odd.len() as u64), ("forwarded", odd.len() as u64)]);

        let firewall = (0..4).find(|number| !hashed.contains(number)).unwrap();
        lab.deliver(ArrivesAt::Firewall(firewall), syn(net.server, net.client));
        assert_eq!(hashed.len(), 1, "one flow, one hash");
        for flags in odd {
            assert_eq!(lab.send(tcp(net.client, net.server, flags)), firewall, "{flags:#x}");
        }
    }
}

#[test]
fn a_reset_does_not_forget_the_pin() {
    for net in nets() {
        let mut lab = ForwarderBench::inner(3);
        lab.deliver(ArrivesAt::Firewall(2), syn(net.client, net.server));
        lab.send(syn_ack(net.server, net.client));
        lab.deliver(ArrivesAt::Firewall(2), ack(net.client, net.server));
        lab.send(rst(net.server, net.client));
        lab.wait(Duration::from_secs(10));
        assert_eq!(lab.send(ack(net.server, net.client)), 2);
    }
}

#[test]
fn equal_tuples_of_two_protocols_are_two_flows() {
    let net = v4();
    let mut lab = ForwarderBench::outer(2);
    lab.send(syn(net.client, net.server));
    lab.send(udp(net.client, net.server, 1));
    assert_eq!(lab.sessions().len(), 2);
}
