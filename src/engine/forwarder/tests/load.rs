//! What counts as load of a server: `least-connections` uses it, and operators watch it while a server drains.

use std::sync::Arc;

use super::packets::{ack, fin, fin_back, rst_back, syn, syn_ack};
use super::services::{Farm, Web, farms};
use crate::session::Timeouts;
use crate::slb::{ForwardingMode, HashOn, Maglev, Scheduler};
use crate::time::Duration;

/// A connection from port `port` of the client to the first server, acknowledged by both ends.
fn connect(web: &mut Web, farm: &Farm, port: u16) {
    web.request(syn(farm.client(port), farm.vip));
    web.reply(syn_ack(farm.server, farm.client(port)));
    web.request(ack(farm.client(port), farm.vip));
}

#[test]
fn the_fewest_connections_are_counted_down_when_they_are_forgotten() {
    for farm in farms() {
        let mut web = Web::new(&[1, 1]);
        web.change(|service| service.scheduler = Scheduler::LeastConnections);
        for port in 40000..40010 {
            web.request(syn(farm.client(port), farm.vip));
        }
        assert_eq!((web.active(0), web.active(1)), (5, 5));

        web.lab.wait(Duration::from_secs(300));
        assert_eq!((web.active(0), web.active(1)), (0, 0));
    }
}

#[test]
fn a_connection_that_both_ends_have_closed_is_no_load_while_it_is_still_remembered() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        connect(&mut web, &farm, 40000);
        connect(&mut web, &farm, 40001);

        web.request(fin(farm.client(40000), farm.vip));
        assert_eq!(web.active(0), 2, "the server may still speak");
        web.reply(fin_back(farm.server, farm.client(40000)));
        assert_eq!(web.active(0), 1);
        web.request(ack(farm.client(40000), farm.vip));
        assert_eq!((web.active(0), web.lab.table.len()), (1, 2), "the last acknowledgement finds its way");
        web.reply(rst_back(farm.server, farm.client(40001)));
        assert_eq!(web.active(0), 0);

        connect(&mut web, &farm, 40000);
        assert_eq!(web.active(0), 1, "the same ends connect anew");

        web.lab.wait(Timeouts::default().tcp_established + Duration::from_secs(60));
        assert_eq!((web.active(0), web.lab.table.len()), (0, 0));
    }
}

#[test]
fn a_connection_that_is_seen_from_its_last_segment_on_is_no_load() {
    for farm in farms() {
        let mut web = Web::new(&[1]);
        web.change(|service| {
            service.mode = ForwardingMode::Direct;
            service.servers[0].port = None;
            service.scheduler = Scheduler::Hash(HashOn { source_address: true, ..HashOn::default() });
            service.table = Arc::new(Maglev::new([("s1", 1)]));
        });

        web.request(fin(farm.client, farm.vip));

        assert_eq!((web.active(0), web.lab.table.len()), (0, 1));
        web.lab.wait(Duration::from_secs(600));
        assert_eq!((web.active(0), web.lab.table.len()), (0, 0));
    }
}
