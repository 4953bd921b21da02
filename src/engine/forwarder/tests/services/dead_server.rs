//! What happens to connections of a failed server, and which ends get a reset.

use super::*;

fn established(web: &mut Web, farm: &Farm) {
    web.request(syn(farm.client, farm.vip));
    web.reply(syn_ack(farm.server, farm.client));
    web.request(tcp_with(farm.client, farm.vip, 0x18, 1000, 2000, b"hello"));
}

/// Sequence number, acknowledgement number and flags of a reset.
fn reset_numbers(read: &Read) -> (u32, u32, u8) {
    let word = |at: usize| u32::from_be_bytes(read.payload[at..at + 4].try_into().unwrap());
    (word(4), word(8), read.payload[13])
}

#[test]
fn a_connection_that_its_server_refused_is_not_reset_once_more_when_the_server_is_found_dead() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.request(syn(farm.client, farm.vip));
        web.reply(tcp_with(farm.server, farm.client, 0x14, 0, 1000, &[]));

        web.fell(0);
        web.lab.wait(Duration::from_millis(10));

        assert_eq!(web.lab.transmits().len(), 0, "a strict firewall would call it out of state");
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(1));
    }
}

#[test]
fn an_unanswered_attempt_gets_no_reset_which_its_repetition_could_overtake_but_a_live_server() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(0));
        web.fell(0);
        web.lab.wait(Duration::from_millis(10));

        assert_eq!(web.lab.transmits().len(), 0, "firewalls would take the next SYN/ACK for half a connection");
        assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(1));
        assert_eq!((web.active(0), web.active(1)), (0, 1));
    }
}

#[test]
fn both_ends_of_a_connection_are_told_that_its_server_died() {
    for farm in farms() {
        for by_packet in [false, true] {
            let mut web = Web::new(&[1, 1]);
            established(&mut web, &farm);
            web.fell(0);
            if by_packet {
                let answer = web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));
                assert!(matches!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed) | Verdict::Punted));
            } else {
                web.lab.wait(Duration::from_millis(10));
            }

            let resets: Vec<_> =
                web.lab.transmits().into_iter().map(|sent| (sent.link, read_checked(&sent.bytes))).collect();
            let to = |link| &resets.iter().find(|(by, _)| *by == LinkId(link)).expect("a reset by that link").1;
            let (client, server) = (to(Side::Inner.far()), to(Side::Inner.near()));
            assert_eq!(client.destination_mac, testbed::firewall_mac(Side::Inner, 1));
            assert_eq!((ends(client), reset_numbers(client)), ((farm.vip, farm.client), (2000, 1005, 0x14)));
            assert_eq!((ends(server), reset_numbers(server)), ((farm.client, farm.server), (1005, 2000, 0x14)));
            assert_eq!((resets.len(), web.active(0)), (2, 0));
            assert_eq!(web.lab.counters().sessions_failed, 1);
            assert_eq!(ends(&web.request(syn(farm.client, farm.vip))).1, farm.server(1));
        }
    }
}

#[test]
fn on_failure_decides_what_becomes_of_the_flows_of_a_dead_server() {
    for farm in farms() {
        for (on_failure, expected) in [
            (OnFailure::Keep, Some(farm.server(0))),
            (OnFailure::Drop, None),
            (OnFailure::Reselect, Some(farm.server(1))),
            (OnFailure::Reset, Some(farm.server(1))),
        ] {
            let mut web = Web::new(&[1, 1]);
            web.change(|service| service.on_failure = on_failure);
            assert_eq!(ends(&web.request(udp(farm.client, farm.vip, 10))).1, farm.server(0));
            web.fell(0);

            let answer = web.lab.deliver(ArrivesAt::Firewall(1), udp(farm.client, farm.vip, 10));
            match expected {
                Some(server) => assert_eq!(ends(&read_checked(&answer.bytes)).1, server),
                None => assert_eq!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed)),
            }
            let total: u64 = (0..2).map(|number| web.active(number)).sum();
            assert_eq!(total, web.lab.table.len() as u64);
        }
    }
}

#[test]
fn a_server_that_is_up_again_serves_the_sessions_that_were_kept() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.change(|service| service.on_failure = OnFailure::Drop);
        established(&mut web, &farm);
        web.fell(0);
        let answer = web.lab.deliver(ArrivesAt::Firewall(1), ack(farm.client, farm.vip));
        assert_eq!(answer.verdict, Verdict::Dropped(DropReason::ServerFailed));

        web.change(|service| service.servers[0].up = [true, true]);
        assert_eq!(ends(&web.request(ack(farm.client, farm.vip))).1, farm.server(0));
    }
}

#[test]
fn the_client_of_a_dead_server_is_told_though_the_replies_pass_the_engine_by() {
    for farm in farms() {
        for mode in [ForwardingMode::Direct, ForwardingMode::Tunnel] {
            let mut web = Web::new(&[1, 1]);
            web.change(|service| {
                service.mode = mode;
                service.servers.iter_mut().for_each(|server| server.port = None);
            });
            web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client, farm.vip));
            web.lab.deliver(ArrivesAt::Firewall(1), tcp_with(farm.client, farm.vip, 0x10, 1000, 2000, b""));
            web.lab.deliver(ArrivesAt::Firewall(1), tcp_with(farm.client, farm.vip, 0x18, 1000, 7000, b"hello"));
            web.lab.deliver(ArrivesAt::Firewall(1), tcp_with(farm.client, farm.vip, 0x10, 1005, 6000, b""));
            web.lab.transmits();
            web.fell(0);
            web.lab.wait(Duration::from_millis(10));

            let sent = web.lab.transmits();
            let [reset] = &sent[..] else { panic!("{} frames", sent.len()) };
            let read = read_checked(&reset.bytes);
            assert_eq!((reset.link, read.destination_mac), (LinkId(0), testbed::firewall_mac(Side::Inner, 1)));
            assert_eq!((ends(&read), reset_numbers(&read)), ((farm.vip, farm.client), (7000, 1005, 0x14)));
            assert_eq!((web.lab.counters().sessions_failed, web.active(0)), (1, 0));
        }
    }
}

#[test]
fn another_connection_between_the_same_ends_leaves_a_server_that_takes_no_new_ones() {
    type Change = fn(&mut Service);
    let changes: [(Change, u8); 6] = [
        (|_| (), 0),
        (|service| service.servers[0].accepts_new_sessions = false, 1),
        (|service| service.servers[0].weight = 0, 1),
        (|service| service.servers[0].backup = true, 1),
        (|service| service.servers[0].up = [false; 2], 1),
        (|service| service.on_failure = OnFailure::Keep, 0),
    ];
    for farm in farms() {
        for mode in [ForwardingMode::Nat, ForwardingMode::FullNat] {
            for (change, expected) in changes {
                let mut web = Web::new(&[1, 1]);
                web.change(|service| service.mode = mode);
                let (source, server) = ends(&web.request(syn(farm.client, farm.vip)));
                web.reply(syn_ack(server, source));
                web.request(ack(farm.client, farm.vip));
                web.change(|service| {
                    change(service);
                    let server = &mut service.servers[0];
                    server.failure_counts = server.failure_counts.map(|falls| falls + u32::from(!server.up[0]));
                    service.on_failure = OnFailure::Keep;
                });
                // A live connection stays, a closed one does not.
                assert_eq!(ends(&web.request(ack(farm.client, farm.vip))).1, farm.server(0));
                web.request(tcp_with(farm.client, farm.vip, 0x11, 1000, 2000, b""));
                web.reply(tcp_with(server, source, 0x11, 2000, 1001, b""));
                assert_eq!(web.lab.sessions()[0].state, ConversationState::Tcp(TcpState::Closing));

                let (_, chosen) = ends(&web.request(syn(farm.client, farm.vip)));

                assert_eq!(chosen, farm.server(expected));
                assert_eq!((web.lab.table.len(), web.active(0) + web.active(1)), (1, 1));
            }
        }
    }
}
