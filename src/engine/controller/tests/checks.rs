//! Checks of servers: each kind up and down for its own reason, at the times that the configuration says.

use super::farm::{self, Behaviour, Farm, OWN, SERVERS, VIP, check, http, web};
use crate::config::{Mode, ServiceCheck, ServiceCheckKind};
use crate::time::{Duration, Instant};
use crate::wire::frame::tcp_flags;

#[test]
fn a_tcp_check_opens_a_connection_and_closes_it_by_fin() {
    let mut farm = Farm::new(web(1, check(ServiceCheckKind::Tcp)));
    assert_eq!(farm.up(), [false], "a server is down until its first verdict");

    farm.wait_ms(100);

    assert_eq!(farm.up(), [true]);
    assert_eq!(farm.conversation(farm.last_port()), [">S", "<SA", ">A", ">FA", "<FA", ">A"]);
    assert_eq!(farm.view().servers[0].state, "up");
}
