//! What the engine answers to packets for itself, and which errors it reports to senders.

use super::*;

#[test]
fn ping_is_answered_in_both_families_to_the_station_that_sent_it() {
    let mut engine = Engine::up();
    let frame = ping(b"hello").frame(macs(HOST, CLIENTS_MAC), pair("192.0.2.77", "198.51.100.1"));
    let sent = engine.local(CLIENTS, frame);
    assert_eq!(station(only(&sent)), HOST);
    let (source, destination, kind, _, data) = icmp_v4(only(&sent));
    assert_eq!((source, destination.to_string(), kind, data), (OWN, "192.0.2.77".into(), 0, b"hello".to_vec()));

    let to_link_local = pair("fe80::9", &ndp::link_local(CLIENTS_MAC).to_string());
    let sent = engine.local(CLIENTS, ping(b"hello").frame(macs(HOST, CLIENTS_MAC), to_link_local));
    assert_eq!(icmp_v6(only(&sent)).2, 129);

    let other_link = pair("198.51.100.7", "10.1.0.1");
    let sent = engine.local(CLIENTS, ping(b"x").frame(macs(HOST, CLIENTS_MAC), other_link));
    assert_eq!(icmp_v4(only(&sent)).0, Ipv4Addr::new(10, 1, 0, 1), "an address of another link");
    assert_eq!(engine.counter("pings_answered"), 3);
}

#[test]
fn a_stranger_on_a_firewall_link_may_ping_but_its_probes_are_not_answered() {
    let mut engine = Engine::up();
    let firewall = engine.resolve_fw1();
    let payload = probe::Probe {
        epoch: 1,
        sequence: 1,
        nonce: 1,
        digest: 1,
        engine: "inner".into(),
        version: "0".into(),
        group: "perimeter".into(),
        firewalls: Vec::new(),
        cluster: None,
        supports_notes: false,
        notes: Vec::new(),
    }
    .encode(|_| 0);
    let ends = pair("10.2.0.1", "10.1.0.1");

    assert_eq!(engine.local(FIREWALLS, ping(b"ping").frame(macs(HOST, FIREWALLS_MAC), ends)).len(), 1);
    assert!(engine.local(FIREWALLS, ping(&payload).frame(macs(HOST, FIREWALLS_MAC), ends)).is_empty());
    assert_eq!(engine.counter("punt_drop_unknown_firewall"), 1);
    let sent = engine.local(FIREWALLS, ping(&payload).frame(macs(firewall, FIREWALLS_MAC), ends));
    assert_eq!((station(only(&sent)), icmp_v4(only(&sent)).4), (firewall, payload));
}

#[test]
fn closed_ports_are_refused() {
    let mut engine = Engine::up();
    let ends = pair("198.51.100.7", "198.51.100.1");
    let datagram = emit::udp(macs(HOST, CLIENTS_MAC), ends, 4000, 33434, b"traceroute");
    let sent = engine.local(CLIENTS, datagram.clone());
    let (_, destination, kind, code, quoted) = icmp_v4(only(&sent));
    assert_eq!((destination, kind, code, quoted), (HOST_ADDRESS, 3, 3, datagram[14..].to_vec()));

    let syn = Segment {
        source_port: 4000,
        destination_port: 80,
        flags: tcp_flags::SYN,
        sequence: 1000,
        ..Segment::default()
    };
    let sent = engine.local(CLIENTS, segments::segment(macs(HOST, CLIENTS_MAC), ends, &syn));
    let ip = Ipv4Packet::new(&only(&sent)[14..]).unwrap();
    let reset = TcpPacket::new(ip.payload()).unwrap();
    assert_eq!(reset.get_checksum(), tcp::ipv4_checksum(&reset, &ip.get_source(), &ip.get_destination()));
    assert_eq!((reset.get_flags(), reset.get_acknowledgement()), (TcpFlags::RST | TcpFlags::ACK, 1001));
    assert_eq!((reset.get_source(), reset.get_destination()), (80, 4000));

    let stray = Segment { flags: tcp_flags::ACK, acknowledgement: 77, ..syn };
    let sent = engine.local(CLIENTS, segments::segment(macs(HOST, CLIENTS_MAC), ends, &stray));
    let reset = TcpPacket::new(&only(&sent)[34..]).unwrap();
    assert_eq!((reset.get_flags(), reset.get_sequence()), (TcpFlags::RST, 77));

    let rst = Segment { flags: tcp_flags::RST, ..stray };
    assert!(engine.local(CLIENTS, segments::segment(macs(HOST, CLIENTS_MAC), ends, &rst)).is_empty());
    let unknown = emit::ip(macs(HOST, CLIENTS_MAC), ends, 132, 9, 12, |_| ());
    let sent = engine.local(CLIENTS, unknown);
    assert_eq!((icmp_v4(only(&sent)).2, icmp_v4(only(&sent)).3), (3, 2));
}

#[test]
fn transport_checksums_are_verified_unless_a_device_has_yet_to_fill_them() {
    let mut engine = Engine::up();
    let mut frame = emit::udp(macs(HOST, CLIENTS_MAC), pair("198.51.100.7", "198.51.100.1"), 4000, 33434, b"data");
    frame[40] ^= 0x55;
    assert!(engine.local(CLIENTS, frame.clone()).is_empty());
    assert_eq!(engine.counter("punt_drop_checksum"), 1);
    let offload = Offload { partial: Some(PartialChecksum { start: 34, offset: 6 }), ..Offload::NONE };
    assert_eq!(engine.punt_with(PuntReason::Local, CLIENTS, frame, offload).len(), 1);
}

#[test]
fn errors_leave_from_the_ingress_link_to_the_sender() {
    let mut engine = Engine::up();
    let ends = pair("192.0.2.7", "203.0.113.80");
    let frame = emit::udp(macs(HOST, CLIENTS_MAC), ends, 1, 2, &[0; 1000]);
    for (error, expected) in [
        (IcmpError::TimeExceeded, (11, 0)),
        (IcmpError::NoRoute, (3, 0)),
        (IcmpError::TooBig { mtu: 1400 }, (3, 4)),
        (IcmpError::Prohibited, (3, 13)),
    ] {
        // What arrives is cut to what an error quotes.
        let sent = engine.punt(PuntReason::IcmpError(error), CLIENTS, frame[..300].to_vec());
        let (source, destination, kind, code, _) = icmp_v4(only(&sent));
        assert_eq!((source, destination.to_string(), (kind, code)), (OWN, "192.0.2.7".to_owned(), expected));
        assert_eq!(station(only(&sent)), HOST);
    }
    let v6 = emit::udp(macs(HOST, CLIENTS_MAC), pair("2001:db8:9::7", "2001:db8:113::80"), 1, 2, &[0; 100]);
    let sent = engine.punt(PuntReason::IcmpError(IcmpError::TimeExceeded), CLIENTS, v6);
    assert_eq!(icmp_v6(only(&sent)).0, "2001:db8:1::1".parse::<Ipv6Addr>().unwrap());
    let directed = emit::udp(macs(HOST, CLIENTS_MAC), pair("192.0.2.7", "198.51.100.255"), 1, 2, b"");
    assert!(engine.punt(PuntReason::IcmpError(IcmpError::NoRoute), CLIENTS, directed).is_empty());
    assert_eq!((engine.counter("icmp_errors_sent"), engine.counter("icmp_errors_forbidden")), (5, 1));
}

#[test]
fn traceroute_is_answered_and_a_flood_is_not() {
    let mut engine = Engine::up();
    let reason = PuntReason::IcmpError(IcmpError::TimeExceeded);
    let frame = emit::udp(macs(HOST, CLIENTS_MAC), pair("192.0.2.7", "203.0.113.80"), 1, 33434, b"");
    let answered: usize = (0..3).map(|_| engine.punt(reason, CLIENTS, frame.clone()).len()).sum();
    assert_eq!(answered, 3);

    let mut answered = 0;
    for n in 0..20_000_u32 {
        engine.now += Duration::from_micros(50);
        let source = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
        let ends = AddressPair::new(source, "203.0.113.80".parse().unwrap()).unwrap();
        answered += engine
            .punt(reason, CLIENTS, emit::udp(macs(HOST, CLIENTS_MAC), ends, 1, 2, b""))
            .iter()
            .filter(|transmit| transmit.link == CLIENTS && transmit.bytes[12..14] == [8, 0])
            .count();
    }
    assert!((990..=1_050).contains(&answered), "{answered}");
    assert!(engine.counter("icmp_errors_limited") > 18_000);
}

/// A packet in the middle of an unknown connection.
fn stray(source: IpAddr, port: u16) -> Vec<u8> {
    let ends = AddressPair::new(source, OWN.into()).unwrap();
    let stray = Segment {
        source_port: port,
        destination_port: 80,
        flags: tcp_flags::ACK,
        acknowledgement: 77,
        ..Segment::default()
    };
    segments::segment(macs(HOST, CLIENTS_MAC), ends, &stray)
}

#[test]
fn every_lost_connection_of_a_shared_address_is_told_at_once() {
    let mut engine = Engine::up();
    let told: usize = (0..800).map(|n| engine.local(CLIENTS, stray(HOST_ADDRESS.into(), 2000 + n)).len()).sum();
    assert_eq!((told, engine.counter("local_resets_limited")), (800, 0));
}

#[test]
fn a_source_that_floods_takes_no_answer_from_another() {
    let mut engine = Engine::up();
    let other: IpAddr = "198.51.100.8".parse().unwrap();
    let oversize = |source: &str| emit::udp(macs(HOST, CLIENTS_MAC), pair(source, "203.0.113.80"), 1, 2, b"");
    let too_big = PuntReason::IcmpError(IcmpError::TooBig { mtu: 1400 });
    let (mut resets, mut errors) = (0, 0);
    for n in 0..40_000_u32 {
        engine.now += Duration::from_micros(25);
        engine.local(CLIENTS, stray(HOST_ADDRESS.into(), n as u16));
        engine.punt(too_big, CLIENTS, oversize("198.51.100.7"));
        if n % 400 == 0 {
            resets += engine.local(CLIENTS, stray(other, n as u16)).len();
            errors += engine.punt(too_big, CLIENTS, oversize("198.51.100.8")).len();
        }
    }
    assert_eq!((resets, errors), (100, 100));
    assert!((1_990..=2_110).contains(&engine.counter("local_resets_sent")), "{}", engine.counter("local_resets_sent"));
    assert!((200..=230).contains(&engine.counter("icmp_errors_sent")), "{}", engine.counter("icmp_errors_sent"));
}

#[test]
fn a_ping_in_fragments_is_answered_in_fragments() {
    let mut engine = Engine::up();
    let data: Vec<u8> = (0..4_000_u32).map(|n| n as u8).collect();
    let mut request = ping(&data).frame(macs(HOST, CLIENTS_MAC), pair("198.51.100.7", "198.51.100.1"));
    request[20] = 0;
    smoltcp::wire::Ipv4Packet::new_unchecked(&mut request[14..]).fill_checksum();
    let mut pieces = fragment::split(&Frame::parse(&mut request, &Offload::NONE).unwrap(), None, 1500).unwrap();
    let last = pieces.pop().unwrap();
    for piece in pieces {
        assert!(engine.local(CLIENTS, piece).is_empty());
    }

    let sent = engine.local(CLIENTS, last);

    assert_eq!(sent.len(), 3);
    let mut answered = Vec::new();
    for transmit in &sent {
        let ip = Ipv4Packet::new(&transmit.bytes[14..]).unwrap();
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        assert!(usize::from(ip.get_total_length()) <= 1500);
        assert_eq!(usize::from(ip.get_fragment_offset()) * 8, answered.len());
        answered.extend_from_slice(ip.payload());
    }
    assert_eq!((answered[0], &answered[8..]), (0, &data[..]));
}

#[test]
fn a_broadcast_is_counted_and_not_answered() {
    let mut engine = Engine::up();
    let broadcast = ping(b"x").frame(macs(HOST, MacAddr::BROADCAST), pair("198.51.100.7", "198.51.100.255"));
    assert!(engine.local(CLIENTS, broadcast).is_empty());
    assert_eq!(engine.counter("punt_drop_group"), 1);
}
