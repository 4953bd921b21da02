//! A virtual service of the inner engine, which callers change as they need.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::id::{ServerId, ServiceId};
use crate::path::{AdminState, OnFailure};
use crate::slb::{ForwardingMode, Maglev, RotationMembersByFamily, Scheduler, SchedulerState, Server, Service};

/// The service `web`: TCP and UDP port 80 of 203.0.113.200 and 2001:db8:113::c8, mode `nat`, scheduler `round-robin`.
pub fn service(state: &SchedulerState, servers: impl IntoIterator<Item = Server>) -> Service {
    Service {
        id: ServiceId(0),
        name: "web".to_owned(),
        addresses: vec![
            Ipv4Addr::new(203, 0, 113, 200).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0xc8).into(),
        ],
        protocols: vec![6, 17],
        ports: vec![80..=80],
        scheduler: Scheduler::RoundRobin,
        mode: ForwardingMode::Nat,
        snat: Vec::new(),
        sticky: None,
        on_failure: OnFailure::Reset,
        accepts_new_sessions: true,
        servers: servers.into_iter().collect(),
        table: Arc::new(Maglev::new([])),
        rotation_members: RotationMembersByFamily::default(),
        state: state.service("web"),
    }
}

/// A server of the service: number 0 is `s1` at 203.0.113.11 and 2001:db8:113::b, and the others follow. It listens on
/// port 8080, has weight 1 and is up.
pub fn server(state: &SchedulerState, number: u8) -> Server {
    let name = format!("s{}", u16::from(number) + 1);
    let host = 11 + number;
    Server {
        id: ServerId(number.into()),
        state: state.server("web", &name),
        name,
        v4: Some(Ipv4Addr::new(203, 0, 113, host).into()),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, host.into()).into()),
        port: Some(8080),
        weight: 1,
        backup: false,
        up: [true; 2],
        is_starting: [false; 2],
        accepts_new_sessions: true,
        failure_counts: [0; 2],
        admin: AdminState::Ready,
        out_of_service: None,
        is_removed: false,
    }
}
