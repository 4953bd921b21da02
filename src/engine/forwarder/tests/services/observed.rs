//! What the forwarder notes of the connections that it gives to servers, and where those go whose server is avoided.

use super::*;
use crate::slb::observe::{FailureKind, PassiveFailure};
use crate::wire::Family;

/// A service whose servers are observed.
fn observed(weights: &[u16]) -> Web {
    let web = Web::new(weights);
    for server in &web.service.servers {
        server.state.observed(Family::V4).set_enabled(true);
        server.state.observed(Family::V6).set_enabled(true);
    }
    web
}

fn complaint(web: &Web, farm: &Farm, after: Duration) -> Option<PassiveFailure> {
    let family = Family::of(farm.client.ip());
    web.service.servers[0].state.observed(family).failure(web.lab.now + after)
}

#[test]
fn refused_connections_count_and_an_answered_one_takes_them_back() {
    for farm in farms() {
        let mut web = observed(&[1]);
        for port in 1..=3 {
            assert_eq!(complaint(&web, &farm, Duration::ZERO), None);
            web.request(syn(farm.client(port), farm.vip));
            web.reply(tcp_with(farm.server, farm.client(port), 0x14, 0, 1000, &[]));
        }
        let failed = FailureKind::Refused(3);
        assert_eq!(complaint(&web, &farm, Duration::ZERO), Some(PassiveFailure { kind: failed, is_shared: false }));

        web.request(syn(farm.client(4), farm.vip));
        web.reply(syn_ack(farm.server, farm.client(4)));
        assert_eq!(complaint(&web, &farm, Duration::ZERO), None);
    }
}

#[test]
fn connections_that_are_reset_later_are_answered_ones() {
    for farm in farms() {
        let mut web = observed(&[1]);
        for port in 1..=9 {
            web.request(syn(farm.client(port), farm.vip));
            web.reply(syn_ack(farm.server, farm.client(port)));
            web.reply(tcp_with(farm.server, farm.client(port), 0x14, 2000, 1000, &[]));
        }
        assert_eq!(complaint(&web, &farm, Duration::from_secs(9)), None);
    }
}

#[test]
fn a_repeated_syn_to_an_avoided_server_goes_to_another_and_a_connection_that_it_answered_stays() {
    for farm in farms() {
        let mut web = observed(&[1, 1]);
        let first = ends(&web.request(syn(farm.client(1), farm.vip))).1;
        let number = u8::from(first != farm.server(0));
        let second = ends(&web.request(syn(farm.client(2), farm.vip))).1;
        let third = ends(&web.request(syn(farm.client(3), farm.vip))).1;
        assert_eq!((first, third), (farm.server(number), first), "in turns");
        web.reply(syn_ack(third, farm.client(3)));

        web.change(|service| service.servers[usize::from(number)].up = [false, false]);

        assert_eq!(ends(&web.request(syn(farm.client(1), farm.vip))).1, second);
        assert_eq!(ends(&web.request(ack(farm.client(3), farm.vip))).1, third);
        assert_eq!(ends(&web.request(syn(farm.client(3), farm.vip))).1, third, "a late copy");
    }
}
