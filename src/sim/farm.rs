//! The farm: virtual services of the engines, and the real servers behind the inner one. The servers are on the segment
//! of the inner hosts, so that an inner host that uses a service is a hairpin.
//!
//! ```text
//!   service of the inner engine: clients ── outer ── firewalls ── inner (VIP 203.0.113.80+) ── s1..sN
//!   service of the outer engine: clients ── outer (VIP 198.51.100.80+) ── firewalls ── inner ── s1..sN
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{ForwardingMode, OnFailure};
use crate::sim::host::{DISCARD_PORT, ECHO_PORT, GENERATOR_PORT, HTTP_PORT, Traffic};
use crate::sim::packet::protocol;
use crate::sim::side::Side;
use crate::wire::MacAddr;

/// The services and servers of a plan; by default none.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct FarmPlan {
    /// Number of real servers, at most 8.
    pub servers: usize,
    /// Virtual services; each has all servers.
    pub services: Vec<ServicePlan>,
    /// Ports per worker that stand for clients in `full-nat`; 0: as many as in production.
    pub ports: u16,
}

/// How a service chooses the server of a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedScheduler {
    /// `round-robin`.
    RoundRobin,
    /// `least-connections`.
    LeastConnections,
    /// `hash` over the client's address and port.
    Hash,
}

/// How a service checks its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedCheck {
    /// `icmp`.
    Icmp,
    /// `tcp`.
    Tcp,
    /// `half-open`.
    HalfOpen,
    /// `http`, by status and body.
    Http,
}

/// A virtual service.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ServicePlan {
    /// The engine that has it.
    pub side: Side,
    /// What its clients do, which decides its protocol and server port.
    pub traffic: Traffic,
    /// How packets reach the server.
    #[serde(skip)]
    pub mode: ForwardingMode,
    /// In `full-nat`: whether clients are translated to addresses of a pool instead of the link's.
    pub snat: bool,
    /// How it chooses a server.
    pub scheduler: PlannedScheduler,
    /// Weights by server; servers beyond have weight 1.
    pub weights: Vec<u16>,
    /// A server that is used only if all others are down.
    pub backup: Option<usize>,
    /// Timeout of stickiness in seconds; 0: clients are not sticky.
    pub sticky_s: u64,
    /// What becomes of sessions when their server goes down; `None`: the default.
    #[serde(skip)]
    pub on_failure: Option<OnFailure>,
    /// How servers are checked.
    pub check: PlannedCheck,
    /// `drain-timeout` of the service.
    pub drain_timeout: &'static str,
}

impl Default for ServicePlan {
    fn default() -> Self {
        Self {
            side: Side::Inner,
            traffic: Traffic::TcpEcho,
            mode: ForwardingMode::Nat,
            snat: false,
            scheduler: PlannedScheduler::RoundRobin,
            weights: Vec::new(),
            backup: None,
            sticky_s: 0,
            on_failure: None,
            check: PlannedCheck::Tcp,
            drain_timeout: "5m",
        }
    }
}

impl ServicePlan {
    /// The IP protocol number.
    pub fn protocol(&self) -> u8 {
        match self.traffic {
            Traffic::TcpEcho | Traffic::TcpPush => protocol::TCP,
            Traffic::UdpEcho | Traffic::UdpOneWay => protocol::UDP,
            Traffic::Ping | Traffic::Gre => unreachable!("services are of TCP or UDP"),
        }
    }

    /// The port on which servers listen.
    pub fn server_port(&self) -> u16 {
        match self.traffic {
            Traffic::TcpEcho | Traffic::UdpEcho => ECHO_PORT,
            Traffic::TcpPush => GENERATOR_PORT,
            Traffic::UdpOneWay => DISCARD_PORT,
            Traffic::Ping | Traffic::Gre => unreachable!("services are of TCP or UDP"),
        }
    }

    /// The weight of a server in the configuration.
    pub fn weight(&self, server: usize) -> u16 {
        self.weights.get(server).copied().unwrap_or(1)
    }

    /// The `on-failure` that is in force for its sessions.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or(match self.protocol() {
            protocol::TCP => OnFailure::Reset,
            _ => OnFailure::Reselect,
        })
    }

    /// Whether servers answer from the virtual address themselves.
    pub fn is_direct(&self) -> bool {
        match self.mode {
            ForwardingMode::Direct | ForwardingMode::Tunnel => true,
            ForwardingMode::Nat | ForwardingMode::FullNat => false,
        }
    }
}

/// Name of service number `number`.
pub fn service_name(number: usize) -> String {
    format!("web{number}")
}

/// Name of server number `number`.
pub fn server_name(number: usize) -> String {
    format!("s{}", number + 1)
}

/// Address of a server.
pub fn server_address(number: usize, v4: bool) -> IpAddr {
    in_subnet(Side::Inner, 100 + number as u8, v4)
}

/// MAC address of a server.
pub fn server_mac(number: usize) -> MacAddr {
    MacAddr([0x02, 0xbb, 0, 0, 0, number as u8])
}

/// Number of the server with this address.
pub fn server_at(address: IpAddr) -> Option<usize> {
    (0..8).find(|number| [true, false].map(|v4| server_address(*number, v4)).contains(&address))
}

fn in_subnet(side: Side, last: u8, v4: bool) -> IpAddr {
    match (side, v4) {
        (Side::Outer, true) => Ipv4Addr::new(198, 51, 100, last).into(),
        (Side::Inner, true) => Ipv4Addr::new(203, 0, 113, last).into(),
        (Side::Outer, false) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last.into()).into(),
        (Side::Inner, false) => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, last.into()).into(),
    }
}

impl FarmPlan {
    /// The virtual address of a service; two services share one.
    pub fn vip(&self, service: usize, v4: bool) -> IpAddr {
        in_subnet(self.services[service].side, 80 + service as u8 / 2, v4)
    }

    /// The port of a service; without translation it is the servers' port.
    pub fn port(&self, service: usize) -> u16 {
        if self.services[service].is_direct() { self.services[service].server_port() } else { 8000 + service as u16 }
    }

    /// The service of an engine with this destination.
    pub fn service_at(&self, side: Side, proto: u8, destination: (IpAddr, u16)) -> Option<usize> {
        (0..self.services.len()).find(|number| {
            let service = &self.services[*number];
            service.side == side
                && service.protocol() == proto
                && (self.vip(*number, destination.0.is_ipv4()), self.port(*number)) == destination
        })
    }

    /// The pool of addresses that stand for clients.
    pub fn snat(v4: bool) -> [IpAddr; 2] {
        [240, 241].map(|last| in_subnet(Side::Inner, last, v4))
    }

    /// Whether a service sends to its servers through tunnels.
    pub fn has_tunnels(&self) -> bool {
        self.services.iter().any(|service| service.mode == ForwardingMode::Tunnel)
    }

    /// The virtual addresses that servers have on their loopback.
    pub fn loopbacks(&self) -> Vec<IpAddr> {
        let direct = (0..self.services.len()).filter(|number| self.services[*number].is_direct());
        direct.flat_map(|number| [true, false].map(|v4| self.vip(number, v4))).collect()
    }

    /// The services of an engine as its configuration file has them.
    pub fn configuration(&self, side: Side) -> String {
        let mut text = String::new();
        for number in (0..self.services.len()).filter(|number| self.services[*number].side == side) {
            self.service(number, &mut text);
        }
        text
    }

    fn service(&self, number: usize, text: &mut String) {
        let service = &self.services[number];
        let protocol = if service.protocol() == protocol::TCP { "tcp" } else { "udp" };
        let mode = match service.mode {
            ForwardingMode::Nat => "nat",
            ForwardingMode::FullNat => "full-nat",
            ForwardingMode::Direct => "direct",
            ForwardingMode::Tunnel => "tunnel",
        };
        let scheduler = match service.scheduler {
            PlannedScheduler::RoundRobin => "\"round-robin\"",
            PlannedScheduler::LeastConnections => "\"least-connections\"",
            PlannedScheduler::Hash => "\"hash\"\nhash-on = [\"source-address\", \"source-port\"]",
        };
        let _ = writeln!(
            text,
            "[[service]]\nname = \"{}\"\naddress = [\"{}\", \"{}\"]\nprotocol = \"{protocol}\"\nport = {}\nmode = \"{mode}\"\n\
             scheduler = {scheduler}\ndrain-timeout = \"{}\"",
            service_name(number),
            self.vip(number, true),
            self.vip(number, false),
            self.port(number),
            service.drain_timeout
        );
        if service.snat {
            let snat: Vec<_> =
                [true, false].into_iter().flat_map(Self::snat).map(|address| format!("\"{address}\"")).collect();
            let _ = writeln!(text, "snat = [{}]", snat.join(", "));
        }
        if service.sticky_s > 0 {
            let _ = writeln!(text, "sticky = {{ by = \"source\", timeout = \"{}s\" }}", service.sticky_s);
        }
        if let Some(on_failure) = service.on_failure {
            let _ = writeln!(text, "on-failure = \"{}\"", on_failure_name(on_failure));
        }
        let check = match service.check {
            PlannedCheck::Icmp => "kind = \"icmp\"".to_owned(),
            PlannedCheck::Tcp => format!("kind = \"tcp\"\nport = {ECHO_PORT}"),
            PlannedCheck::HalfOpen => format!("kind = \"half-open\"\nport = {ECHO_PORT}"),
            PlannedCheck::Http => {
                format!(
                    "kind = \"http\"\nport = {HTTP_PORT}\npath = \"/healthz\"\nexpect-status = [200]\nexpect-body = \"well\""
                )
            }
        };
        let _ = writeln!(
            text,
            "\n[service.check]\n{check}\ninterval = \"300ms\"\ntimeout = \"150ms\"\nfall = 2\nrise = 2\n"
        );
        for server in 0..self.servers {
            let _ = writeln!(
                text,
                "[[service.server]]\nname = \"{}\"\naddress = [\"{}\", \"{}\"]\nweight = {}",
                server_name(server),
                server_address(server, true),
                server_address(server, false),
                service.weight(server)
            );
            if !service.is_direct() {
                let _ = writeln!(text, "port = {}", service.server_port());
            }
            if service.backup == Some(server) {
                text.push_str("backup = true\n");
            }
            text.push('\n');
        }
    }
}

/// The word of the configuration file.
pub fn on_failure_name(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Reselect => "reselect",
        OnFailure::Reset => "reset",
        OnFailure::Keep => "keep",
        OnFailure::Drop => "drop",
    }
}
