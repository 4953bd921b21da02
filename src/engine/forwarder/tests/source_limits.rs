//! What one source may have, so that the others get in.

use std::net::{IpAddr, SocketAddr};

use super::bench::{ArrivesAt, ForwarderBench, nets};
use super::packets::{Frame, ack, syn, udp};
use super::services::{Web, farms};
use crate::engine::{DropReason, Verdict};
use crate::session::{OverLimit, SourceLimits};
use crate::slb::ForwardingMode;
use crate::time::Duration;

/// The neighbour of a client: another source, also in IPv6.
fn other(client: SocketAddr) -> SocketAddr {
    let address = match client.ip() {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() ^ 1 << 64).into()),
    };
    SocketAddr::new(address, client.port())
}

fn at(client: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(client.ip(), port)
}

#[test]
fn a_source_at_its_sessions_opens_no_more_and_keeps_those_that_it_has() {
    for net in nets() {
        let mut lab = ForwarderBench::outer(3);
        lab.snapshot.source_limits = SourceLimits { sessions: Some(3), rate: None };
        let verdict = |lab: &mut ForwarderBench, frame: Frame| lab.deliver(ArrivesAt::Near, frame).verdict;
        for port in 1000..1003 {
            assert_eq!(verdict(&mut lab, syn(at(net.client, port), net.server)), Verdict::Forward(LINK));
        }
        let refused = Verdict::Dropped(DropReason::SourceSessions);
        assert_eq!(verdict(&mut lab, syn(at(net.client, 1003), net.server)), refused);
        assert_eq!(verdict(&mut lab, udp(at(net.client, 1004), net.server, 5)), refused);
        assert_eq!(verdict(&mut lab, syn(at(net.client, 1002), net.server)), Verdict::Forward(LINK), "again");
        assert_eq!(verdict(&mut lab, ack(at(net.client, 1002), net.server)), Verdict::Forward(LINK));
        assert_eq!(verdict(&mut lab, syn(other(net.client), net.server)), Verdict::Forward(LINK));
        let goes_on = ack(at(net.client, 1005), net.server);
        assert_eq!(verdict(&mut lab, goes_on), Verdict::Forward(LINK), "what goes on is taken up, as after a restart");

        let told: Vec<_> = lab.table.sources().take_refusals().map(|told| (told.reason, told.sessions)).collect();
        assert_eq!(told, [(OverLimit::Sessions, 3)]);
        lab.wait(Duration::from_secs(300));
        assert_eq!(verdict(&mut lab, syn(at(net.client, 1006), net.server)), Verdict::Forward(LINK), "they have ended");
    }
}

const LINK: crate::id::LinkId = crate::id::LinkId(1);

#[test]
fn a_source_that_opens_too_many_a_second_gets_its_rate_at_services_and_beside_them() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.lab.snapshot.source_limits = SourceLimits { sessions: None, rate: Some(4) };
        let mut opened = |client: SocketAddr, port| {
            let verdict = web.lab.deliver(ArrivesAt::Firewall(1), syn(at(client, port), farm.vip)).verdict;
            assert!(matches!(verdict, Verdict::Forward(_) | Verdict::Dropped(DropReason::SourceRate)), "{verdict:?}");
            matches!(verdict, Verdict::Forward(_))
        };
        assert_eq!((1000..1020).filter(|port| opened(farm.client, *port)).count(), 4);
        assert!(opened(other(farm.client), 1000));
        web.lab.wait(Duration::from_millis(500));
        let mut opened = |port| web.lab.deliver(ArrivesAt::Firewall(1), syn(farm.client(port), farm.vip)).verdict;
        assert_ne!(opened(1030), Verdict::Dropped(DropReason::SourceRate));
        assert_ne!(opened(1031), Verdict::Dropped(DropReason::SourceRate));
        assert_eq!(opened(1032), Verdict::Dropped(DropReason::SourceRate));
    }
}

#[test]
fn a_client_that_takes_every_port_leaves_one_to_a_hundred_others() {
    for farm in farms() {
        let mut web =
            Web { lab: ForwarderBench::with(crate::engine::testbed::Side::Inner, 3, 1, 100_000), ..Web::new(&[1]) };
        web.change(|service| service.mode = ForwardingMode::FullNat);
        let mut ask = |client: SocketAddr| web.lab.deliver(ArrivesAt::Firewall(1), syn(client, farm.vip)).verdict;
        let got =
            (1..=u16::MAX).filter(|port| ask(farm.client(*port)) == Verdict::Forward(crate::id::LinkId(1))).count();
        assert!((57_344..57_700).contains(&got), "{got}");
        assert_eq!(ask(farm.client(u16::MAX)), Verdict::Dropped(DropReason::SourceShare));
        let mut client = farm.client;
        for number in 0..100 {
            client = other(client);
            if client == farm.client {
                continue;
            }
            assert_eq!(ask(client), Verdict::Forward(crate::id::LinkId(1)), "{number}");
        }
        let told: Vec<_> = web.lab.table.sources().take_refusals().collect();
        assert!(matches!(told[..], [refusal] if refusal.reason == OverLimit::Share), "{told:?}");
    }
}
