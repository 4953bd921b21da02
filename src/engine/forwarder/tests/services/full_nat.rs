//! Mode `full-nat`: which source addresses and ports clients get, and what happens when none is left.

use super::*;

#[test]
fn full_nat_serves_a_client_in_the_subnet_of_the_servers_and_gives_the_port_back() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| service.mode = ForwardingMode::FullNat);
        let client = SocketAddr::new(farm.server(50).ip(), 40000);

        let answer = web.lab.deliver(ArrivesAt::Near, syn(client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(1)));
        let (source, server) = ends(&read_checked(&answer.bytes));
        let own = testbed::engine_addresses(Side::Inner)[0];
        assert_eq!(source.ip(), if farm.client.is_ipv4() { own.0 } else { own.1 });
        assert_eq!(server, farm.server);

        let answer = web.lab.deliver(ArrivesAt::Near, syn_ack(server, source));
        assert_eq!(answer.verdict, Verdict::Hairpin(LinkId(1)));
        assert_eq!(ends(&read_checked(&answer.bytes)), (farm.vip, client));
        let stranger = web.lab.deliver(ArrivesAt::Near, syn_ack(farm.server(1), source));
        assert_eq!(stranger.verdict, Verdict::Punted, "what no session knows is for the engine itself");

        web.lab.wait(Duration::from_secs(300));
        assert_eq!(web.active(0), 0);
        let answer = web.lab.deliver(ArrivesAt::Near, syn_ack(server, source));
        assert_eq!(answer.verdict, Verdict::Punted);
    }
}

#[test]
fn a_service_takes_its_own_source_addresses_for_clients() {
    let [farm, _] = farms();
    let mut web = Web::new(&[1]);
    let own: [IpAddr; 2] = ["203.0.113.240".parse().unwrap(), "203.0.113.241".parse().unwrap()];
    web.change(|service| {
        service.mode = ForwardingMode::FullNat;
        service.snat = own.to_vec();
    });
    web.lab.snapshot.service_addresses.extend(own);

    for port in 40000..40016 {
        let (source, server) = ends(&web.request(syn(farm.client(port), farm.vip)));
        assert!(own.contains(&source.ip()));
        let (firewall, reply) = web.reply(syn_ack(server, source));
        assert_eq!((firewall, ends(&reply)), (1, (farm.vip, farm.client(port))));
    }
}

#[test]
fn when_no_port_is_left_only_the_new_flow_is_refused() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| {
            service.mode = ForwardingMode::FullNat;
            service.ports = vec![1..=u16::MAX];
            service.servers[0].port = None;
        });
        let vip = |port| SocketAddr::new(farm.vip.ip(), port);
        // There is room for 64 pairs of source and server.
        let sources: Vec<_> = (1..=64).map(|port| ends(&web.request(syn(farm.client, vip(port)))).0).collect();

        let refused = web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, vip(65)));
        assert_eq!(refused.verdict, Verdict::Dropped(DropReason::SnatExhausted));
        assert_eq!(ends(&web.request(ack(farm.client, vip(64)))).0, sources[63]);
        web.request(syn(farm.client(41000), vip(64)));
    }
}

#[test]
fn checks_and_clients_never_have_the_same_port() {
    assert!(*crate::health::service_prober::PORTS.end() < crate::nat::ports::PORT_MIN);
}
