//! Flows that the server could not distinguish: the second gets another source port, as with `nf_nat` of Linux.

use super::*;

/// A service at two addresses, and its servers.
fn web_at(second: SocketAddr, weights: &[u16]) -> Web {
    let mut web = Web::new(weights);
    web.change(|service| service.addresses.push(second.ip()));
    web
}

/// A second VIP in the family of `farm`.
fn second_vip(farm: &Farm) -> SocketAddr {
    SocketAddr::new(farm.server(100).ip(), 80)
}

fn is_clean(web: &Web) -> bool {
    web.lab.counters().drops_for(DropReason::NatClash) == 0
}

type Build = fn(SocketAddr, SocketAddr) -> Frame;

fn datagram(source: SocketAddr, destination: SocketAddr) -> Frame {
    udp(source, destination, 30)
}

#[test]
fn two_virtual_addresses_of_one_server_answer_a_client_that_speaks_from_one_port() {
    let builds: [(Build, Build, u16); 4] =
        [(syn, syn_ack, 40_000), (datagram, datagram, 123), (datagram, datagram, 700), (syn, syn_ack, 1024)];
    for farm in farms() {
        for (ask, answer, port) in builds {
            let (client, other_vip) = (farm.client(port), second_vip(&farm));
            let mut web = web_at(other_vip, &[1]);

            let (first, server) = ends(&web.request(ask(client, farm.vip)));
            let (second, _) = ends(&web.request(ask(client, other_vip)));

            assert_eq!((first, server), (client, farm.server), "a free port is kept");
            assert_eq!(second.ip(), client.ip());
            assert_ne!(second.port(), port);
            let class = |port: u16| (port >= 512, port >= 1024);
            assert_eq!(class(second.port()), class(port));
            for (inside, vip) in [(first, farm.vip), (second, other_vip), (first, farm.vip)] {
                let (firewall, reply) = web.reply(answer(farm.server, inside));
                assert_eq!((firewall, ends(&reply)), (1, (vip, client)));
            }
            assert_eq!(ends(&web.request(ask(client, other_vip))).0, second, "the port stays");
            assert!(is_clean(&web));

            // The port can be used again when its flow is forgotten.
            web.lab.wait(Duration::from_secs(8000));
            assert_eq!((web.lab.table.len(), web.active(0)), (0, 0));
            assert_eq!(ends(&web.request(ask(client, other_vip))).0, client);
        }
    }
}

#[test]
fn a_flow_past_the_service_and_one_by_it_have_one_port_in_either_order() {
    let builds: [(Build, Build); 2] = [(syn, syn_ack), (datagram, datagram)];
    for farm in farms() {
        for (ask, answer) in builds {
            for by_service_first in [true, false] {
                let mut web = Web::new(&[1]);
                let mut order = [farm.vip, farm.server];
                if !by_service_first {
                    order.reverse();
                }
                let inside = order.map(|to| ends(&web.request(ask(farm.client, to))));
                assert_eq!(inside.map(|(_, server)| server), [farm.server; 2]);
                assert_eq!(inside[0].0, farm.client);
                assert_ne!(inside[1].0, farm.client);

                for (to, (source, _)) in order.into_iter().zip(inside) {
                    let (firewall, reply) = web.reply(answer(farm.server, source));
                    assert_eq!((firewall, ends(&reply)), (1, (to, farm.client)));
                    assert_eq!(ends(&web.request(ask(farm.client, to))).0, source);
                }
                assert!(is_clean(&web));
                assert_eq!(web.lab.table.len(), 2);
            }
        }
    }
}

#[test]
fn errors_and_fragments_of_a_flow_by_another_port_are_its_own() {
    for farm in farms() {
        let other_vip = second_vip(&farm);
        let mut web = web_at(other_vip, &[1]);
        web.request(udp(farm.client, farm.vip, 10));
        let request = web.lab.deliver(ArrivesAt::Firewall(1), udp(farm.client, other_vip, 500));
        let (source, server) = ends(&read(&request.bytes));

        // The server refuses the packet with the other port.
        let error = icmp_error(server.ip(), source.ip(), &Frame::new(request.bytes));
        let (_, heard) = web.reply(error);
        assert_eq!((heard.source, heard.destination), (other_vip.ip(), farm.client.ip()));

        // A later fragment before the first.
        let pieces = fragments(&udp(farm.client, other_vip, 3000), 1000, 77);
        web.lab.deliver(ArrivesAt::Firewall(1), pieces[1].clone());
        web.lab.deliver(ArrivesAt::Firewall(1), pieces[0].clone());
        let released = web.lab.transmits();
        assert_eq!(read(&released[0].bytes).destination, farm.server.ip());
        let answers = fragments(&udp(farm.server, source, 3000), 1000, 78);
        for piece in answers {
            let answer = web.lab.deliver(ArrivesAt::Near, piece);
            assert_eq!(read(&answer.bytes).source, other_vip.ip());
        }
    }
}

#[test]
fn any_worker_finds_the_session_of_an_answer() {
    for farm in farms() {
        let other_vip = second_vip(&farm);
        let mut web = web_at(other_vip, &[1]);
        web.lab = ForwarderBench::with(Side::Inner, 3, 2, 64);
        web.change(|_| ());
        let mut sources = Vec::new();
        for (worker, vip) in [(0, farm.vip), (1, other_vip)] {
            let answer = web.lab.deliver_to(worker, ArrivesAt::Firewall(1), syn(farm.client, vip));
            sources.push((ends(&read_checked(&answer.bytes)).0, vip));
        }
        for (source, vip) in sources {
            for worker in [0, 1] {
                let reply = web.lab.deliver_to(worker, ArrivesAt::Near, syn_ack(farm.server, source));
                assert_eq!(ends(&read_checked(&reply.bytes)), (vip, farm.client));
            }
        }
    }
}

#[test]
fn a_flow_is_dropped_where_no_port_of_its_class_is_left() {
    let [farm, _] = farms();
    let mut web = Web::new(&[1]);
    // No port of the class is left when the client uses all of its ports for the server's own address.
    for port in 512..1024 {
        web.request(udp(farm.client(port), farm.server, 1));
    }
    let answer = web.lab.deliver(ArrivesAt::Firewall(1), udp(farm.client(700), farm.vip, 1));
    assert_eq!(answer.verdict, Verdict::Dropped(DropReason::NatClash));
    web.request(udp(farm.client(1024), farm.vip, 1));

    // Another server takes it.
    let mut web = Web::new(&[1, 1]);
    for port in 512..1024 {
        web.request(udp(farm.client(port), farm.server, 1));
    }
    assert_eq!(ends(&web.request(udp(farm.client(700), farm.vip, 1))), (farm.client(700), farm.server(1)));
}

#[test]
fn what_goes_on_past_the_service_keeps_the_port_that_its_server_knows() {
    let [farm, _] = farms();
    let mut web = Web::new(&[1]);
    web.request(syn(farm.client, farm.vip));
    let answer = web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.server));
    assert_eq!(answer.verdict, Verdict::Dropped(DropReason::NatClash));
}

#[test]
fn the_port_is_explained() {
    for farm in farms() {
        let other_vip = second_vip(&farm);
        let mut web = web_at(other_vip, &[1]);
        let about = |web: &Web, source: SocketAddr, destination: SocketAddr| {
            let flow = text::parse(&format!("tcp {source} {destination}")).unwrap();
            explain(
                "inner",
                &web.lab.snapshot,
                &web.lab.table,
                &flow,
                Some(ArrivalPoint::Firewall(FirewallId(1))),
                web.lab.now,
            )
        };
        web.request(syn(farm.client, farm.vip));
        for destination in [other_vip, farm.server] {
            let story = about(&web, farm.client, destination).story.join(" ");
            assert!(story.contains("another flow from port 40000"), "{story}");
        }
        let (source, _) = ends(&web.request(syn(farm.client, other_vip)));
        let told = about(&web, farm.client, other_vip);
        let story = told.story.join(" ");
        assert!(story.contains(&format!("port {} stands for it there", source.port())), "{story}");
        let leaving = text::format(&text::parse(&format!("tcp {source} {}", farm.server)).unwrap());
        assert_eq!((told.decided_by.name(), told.translation), ("session", Some(leaving)));
        assert!(!about(&web, farm.client, farm.vip).story.join(" ").contains("another flow"));
    }
}

/// Which server is next depends on the scheduler alone, and not on source ports.
#[test]
fn a_server_takes_its_turn_whatever_ports_it_knows() {
    for farm in farms() {
        let other_vip = second_vip(&farm);
        let mut web = web_at(other_vip, &[1, 1]);
        let mut take = |client, vip| ends(&web.request(syn(client, vip)));

        assert_eq!(take(farm.client, farm.vip), (farm.client, farm.server(0)));
        assert_eq!(take(farm.client(40001), farm.vip), (farm.client(40001), farm.server(1)));
        let (source, server) = take(farm.client, other_vip);
        assert_eq!(server, farm.server(0));
        assert_ne!(source, farm.client);
        assert_eq!((web.active(0), web.active(1)), (2, 1));
    }
}
