//! Translated packets that need more than a change of addresses: quoted in ICMP errors, fragmented, with an unfinished
//! checksum, too big, waiting.

use super::*;

/// The addresses and ports of the packet that an ICMP error quotes.
fn quoted(read: &Read) -> (SocketAddr, SocketAddr) {
    let is_v4 = read.source.is_ipv4();
    let packet = &read.payload[8..];
    let address = |at: usize| match is_v4 {
        true => IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap()),
        false => IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()),
    };
    let (source, destination, ports) = if is_v4 { (12, 16, 20) } else { (8, 24, 40) };
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (source, destination) = (address(source), address(destination));
    (SocketAddr::new(source, port(ports)), SocketAddr::new(destination, port(ports + 2)))
}

#[test]
fn an_icmp_error_about_a_translated_packet_speaks_of_the_packet_as_its_sender_knows_it() {
    for farm in farms() {
        for mode in [ForwardingMode::Nat, ForwardingMode::FullNat] {
            let mut web = Web::new(&[1]);
            web.change(|service| service.mode = mode);
            let request = web.lab.deliver(ArrivesAt::Firewall(1), udp(farm.client, farm.vip, 500));
            let (source, server) = ends(&read(&request.bytes));
            let reply = web.lab.deliver(ArrivesAt::Near, udp(server, source, 900));

            // The server refuses the packet that it got; the ICMP error to the client is about the VIP.
            let error = icmp_error(server.ip(), source.ip(), &Frame::new(request.bytes));
            let (firewall, heard) = web.reply(error);
            assert_eq!((firewall, heard.source, heard.destination), (1, farm.vip.ip(), farm.client.ip()));
            assert_eq!(quoted(&heard), (farm.client, farm.vip));

            // A router on the way to the client refuses the reply; the ICMP error to the server is about its own
            // packet.
            let router = SocketAddr::new(farm.client(0).ip(), 0).ip();
            let error = icmp_error(router, farm.vip.ip(), &Frame::new(reply.bytes));
            let heard = web.request(error);
            assert_eq!(heard.destination, server.ip());
            assert_eq!(quoted(&heard), (server, source));
        }
    }
}

#[test]
fn fragments_of_a_translated_datagram_go_where_the_first_went_in_any_order() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        let pieces = fragments(&udp(farm.client, farm.vip, 3000), 1000, 77);
        let (first, later) = pieces.split_first().unwrap();
        web.lab.deliver(ArrivesAt::Firewall(1), later[0].clone());

        let sent = web.lab.deliver(ArrivesAt::Firewall(1), first.clone());
        assert_eq!(sent.verdict, Verdict::Forward(LinkId(1)));
        // In an IPv6 fragment the ports follow the fragment header.
        let mut sent = read(&sent.bytes);
        sent.payload.drain(..if farm.client.is_ipv4() { 0 } else { 8 });
        assert_eq!(ends(&sent), (farm.client, farm.server));
        let released = web.lab.transmits();
        assert_eq!(released.len(), 1);
        for bytes in [released[0].bytes.clone(), web.lab.deliver(ArrivesAt::Firewall(1), later[1].clone()).bytes] {
            let piece = read(&bytes);
            assert_eq!((piece.source, piece.destination), (farm.client.ip(), farm.server.ip()));
        }
    }
}

#[test]
fn a_checksum_that_the_device_will_finish_follows_the_addresses() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.request(syn(farm.client, farm.vip));
        let is_v4 = farm.client.is_ipv4();
        let mut frame = tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, &[7; 4000]);
        let start: u16 = if is_v4 { 34 } else { 54 };
        let length = frame.bytes.len() as u32 - u32::from(start);
        let at = usize::from(start) + 16;
        let sum = |source, destination| checksum::pseudo_header(source, destination, 6, length);
        let partial = sum(farm.client.ip(), farm.vip.ip());
        frame.bytes[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let kind = if is_v4 { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        frame.offload = Offload {
            partial: Some(PartialChecksum { start, offset: 16 }),
            gso: Some(Gso { kind, ecn: false, size: 1400, header_len: start + 20 }),
            ..Offload::NONE
        };

        let answer = web.lab.deliver(ArrivesAt::Firewall(1), frame);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(1)));
        assert_eq!(ends(&read(&answer.bytes)), (farm.client, farm.server));
        let left = u16::from_be_bytes([answer.bytes[at], answer.bytes[at + 1]]);
        assert_eq!(left, sum(farm.client.ip(), farm.server.ip()));
        assert!(answer.offload.gso.is_some());
    }
}

#[test]
fn a_packet_that_is_too_big_is_shown_to_its_sender_as_it_was_sent() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.request(syn(farm.client, farm.vip));
        web.lab.snapshot.links[1].mtu = 1300;

        let big = tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, &[7; 1400]).dont_fragment();
        let answer = web.lab.deliver(ArrivesAt::Firewall(1), big);
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::TooBig));
        let punt = web.lab.punts.taken.pop().unwrap();
        assert_eq!(ends(&read_loosely(&punt.bytes)), (farm.client, farm.vip));
    }
}

/// Reads a frame that was cut short.
fn read_loosely(bytes: &[u8]) -> Read {
    let mut whole = bytes.to_vec();
    whole.resize(2000, 0);
    read(&whole)
}

#[test]
fn a_translated_packet_that_waits_for_its_neighbour_is_remembered_as_its_sender_knows_it() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.lab.snapshot.neighbors.remove(&(LinkId(1), farm.server.ip()));
        let original = syn(farm.client, farm.vip);

        assert_eq!(web.lab.deliver(ArrivesAt::Firewall(1), original.clone()).verdict, Verdict::Punted);

        let punt = web.lab.punts.taken.pop().unwrap();
        assert_eq!(ends(&read_checked(&punt.bytes)), (farm.client, farm.server));
        assert_eq!(punt.original.unwrap()[14..], original.bytes[14..]);
    }
}
