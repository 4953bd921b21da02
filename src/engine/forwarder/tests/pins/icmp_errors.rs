//! Which firewall an ICMP error takes: that of the flow that it is about.

use super::*;

#[test]
fn an_icmp_error_follows_the_flow_it_is_about_and_changes_nothing() {
    for net in nets() {
        // The session is not at the firewall that the hash gives, so that only the session knows the way.
        let mut lab = ForwarderBench::inner(4);
        let hashed = ForwarderBench::inner(4).send(syn_ack(net.server, net.client));
        let firewall = (hashed + 1) % 4;
        lab.deliver(ArrivesAt::Firewall(firewall), syn(net.client, net.server));
        let before = lab.sessions();
        lab.now += Duration::from_millis(5);

        // A router behind the servers says that the client's packet is too big.
        let router = neighbour(net.server, 99).ip();
        let error = icmp_error(router, net.client.ip(), &tcp_with(net.client, net.server, 0x10, 1, 1, &[0; 64]));
        assert_eq!(lab.send(error), firewall);
        // The error arrives from any firewall.
        let error = icmp_error(net.router, net.server.ip(), &tcp_with(net.server, net.client, 0x10, 1, 1, &[0; 64]));
        let answer = lab.deliver(ArrivesAt::Firewall(hashed), error);
        assert_eq!(answer.verdict, Verdict::Forward(LinkId(1)));

        assert_eq!(lab.sessions(), before);
        lab.assert_moved([("received", 3), ("forwarded", 3), ("sessions_created", 1), ("pin_learned", 1)]);
    }
}

#[test]
fn an_icmp_error_without_session_takes_the_hash_of_the_flow_it_is_about() {
    for net in nets() {
        for port in 1..40 {
            let client = with_port(net.client, port);
            let mut lab = ForwarderBench::inner(4);
            let router = neighbour(net.server, 99).ip();
            let error = icmp_error(router, net.client.ip(), &udp(client, net.server, 64));

            let firewall = lab.send(error);

            assert!(lab.sessions().is_empty());
            assert_eq!(lab.send(udp(net.server, client, 64)), firewall);
            assert_eq!(ForwarderBench::outer(4).send(udp(client, net.server, 64)), firewall);
        }
    }
}

#[test]
fn an_icmp_error_that_quotes_too_little_goes_by_its_addresses() {
    for net in nets() {
        let mut lab = ForwarderBench::inner(4);
        let router = neighbour(net.server, 99).ip();
        let mut quoted = udp(net.client, net.server, 64);
        quoted.bytes.truncate(if net.client.is_ipv4() { 14 + 22 } else { 14 + 42 });

        lab.send(icmp_error(router, net.client.ip(), &quoted));

        lab.assert_moved([("received", 1), ("forwarded", 1)]);
    }
}
