//! Declares `[[service]]` and its subsections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::choices::{MODE_RESERVED, PROTOCOL, PROTOCOL_RESERVED, STICKY_BY, STICKY_BY_RESERVED};
use super::section::section;
use super::service_check::ServiceCheck;
use super::{NAME, TIME_MAX};
use crate::config::fact::{Value, bare, list, or_never, or_none, ports, text, time, word};
use crate::config::value::{self, InvalidValue};
use crate::config::{self, AdminState, ForwardingMode, HashOn, Observe, OnFailure, Scheduler, SchedulerName, StickyBy};
use crate::time::Duration;

/// The largest number of addresses in one range of `snat`. Each address gives 64,512 source ports per server.
const SNAT_RANGE_MAX: u128 = 256;

section! {
    /// The values of `[[service]]`.
    Service = "[[service]]" "A virtual service: addresses and ports that clients know, and the servers that answer for them. An engine with \
            services needs no group.";
    facts(service: &config::Service, _config);
    reserved "http", "tls", "rule", "encapsulation", "limit", "announce", "send-proxy", "helpers";
    name: String = string("name", NAME, value::name), required("\"web\""),
        "The service's name, unique in the file." => text(&service.name);
    addresses: IpAddr = strings("address", "an address", value::station_address), required("\"203.0.113.80\""),
        "The virtual addresses (VIPs)." => list(&service.addresses, text);
    /// IP protocol numbers: 6 or 17.
    protocols: u8 = choices("protocol", &PROTOCOL, PROTOCOL_RESERVED), required("\"tcp\""),
        "The protocols that are served." => list(&service.protocols, |number| word(&PROTOCOL, number));
    ports: RangeInclusive<u16> = ranges("port", 1..=65_535, Some("any")), required("80"),
        "The ports; of services with the same VIP the most specific port wins." => list(&service.ports, ports);
    scheduler: SchedulerName = choice("scheduler", &SchedulerName::CHOICES), optional(SchedulerName::RoundRobin),
        "How a new session gets its server; weights always count." => text(service.scheduler.name());
    hash_on: HashPart = choices("hash-on", &HashPart::CHOICES),
        unset("the source address, with scheduler = \"hash\""),
        "The fields of a packet that the scheduler `hash` uses." => hash_on(service.scheduler);
    mode: ForwardingMode = choice("mode", &ForwardingMode::CHOICES, MODE_RESERVED), optional(ForwardingMode::default()),
        "How packets reach the server: NAT, NAT of the source too, by MAC (DSR), or in an IP-in-IP tunnel (DSR)."
        => text(service.mode);
    /// First and last address of each range.
    snat: (IpAddr, IpAddr) = strings(
            "snat", "an address, or a range such as 10.10.20.240-10.10.20.243", address_range
        ), unset("those of the link that leads to the server"),
        "Mode full-nat: the source addresses that replace those of clients." => list(&service.snat, text);
    sticky: Sticky = table("sticky"), unset("off"), "Source-address persistence: clients keep their server.";
    on_failure: OnFailure = choice("on-failure", &OnFailure::CHOICES), unset("reset for TCP, reselect for the rest"),
        "What happens to the sessions of a server that went down."
        => text(service.on_failure);
    drain_timeout: Option<Duration> = duration_or_never("drain-timeout", Duration::ZERO..=TIME_MAX),
        optional(Some(Duration::from_secs(300))),
        "How long the sessions of a draining server may stay." => or_never(service.drain_timeout);
    admin: AdminState = choice("admin", &AdminState::CHOICES), optional(AdminState::default()),
        "Its administrative state." => text(service.admin);
    observe: Observe = choice("observe", &Observe::CHOICES), optional(Observe::default()),
        "Passive checks: with layer4, TCP connections that a server refuses or does not answer have it checked at once; it takes no new \
             sessions until it passes. At most half of the servers, never the last."
        => text(service.observe);
    check: ServiceCheck = table("check"), unset("its defaults"), "How its servers are checked.";
    servers: Server = tables("server"), unset("none"), "Its servers.";
}

named_enum! {
    /// A word of `hash-on`.
    pub enum HashPart {
        SourceAddress = "source-address",
        SourcePort = "source-port",
        DestinationAddress = "destination-address",
        DestinationPort = "destination-port",
    }
}

/// Parses `10.10.20.240-10.10.20.243`, or one address.
fn address_range(text: &str) -> Result<(IpAddr, IpAddr), InvalidValue> {
    let Some((first, last)) = text.split_once('-') else {
        return value::station_address(text).map(|one| (one, one));
    };
    let (first, last) = (value::station_address(first.trim())?, value::station_address(last.trim())?);
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    if first.is_ipv4() != last.is_ipv4() {
        return Err(InvalidValue::new(format!("a range has one family, found {text:?}")));
    }
    match number(last).checked_sub(number(first)) {
        None => Err(InvalidValue::new(format!("the range {text:?} ends before it begins"))
            .hint(format!("write \"{last}-{first}\""))),
        Some(more) if more >= SNAT_RANGE_MAX => {
            Err(InvalidValue::new(format!("a range has at most {SNAT_RANGE_MAX} addresses, found {text:?}")))
        }
        Some(_) => Ok((first, last)),
    }
}

/// All addresses of a range of `snat`, given by its first and last.
pub fn addresses_of((first, last): (IpAddr, IpAddr)) -> Vec<IpAddr> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (first.to_bits()..=last.to_bits()).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).collect()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    }
}

/// The value of `hash-on`; none for a scheduler that takes none.
fn hash_on(scheduler: Scheduler) -> Value {
    match scheduler {
        Scheduler::RoundRobin | Scheduler::LeastConnections => Value::None,
        Scheduler::Hash(HashOn { source_address, source_port, destination_address, destination_port }) => {
            let parts = [
                (source_address, HashPart::SourceAddress),
                (source_port, HashPart::SourcePort),
                (destination_address, HashPart::DestinationAddress),
                (destination_port, HashPart::DestinationPort),
            ];
            let named: Vec<HashPart> = parts.into_iter().filter(|(has, _)| *has).map(|(_, part)| part).collect();
            list(&named, text)
        }
    }
}

section! {
    /// The values of `sticky` of `[[service]]`.
    Sticky = "`sticky` of [[service]]" as "sticky = { by = \"source\" }"
        "Source-address persistence: clients keep their server, as in sticky = { by = \"source\", timeout = \"10m\" }.";
    facts(sticky: &StickyBy, _config);
    reserved "cookie";
    by: () = choice("by", &STICKY_BY, STICKY_BY_RESERVED), required("\"source\""), "What identifies a client." => text("source");
    prefix: u8 = number("prefix", 0..=32), optional(32),
        "IPv4 clients that share a prefix of this length count as one." => bare(sticky.prefix);
    prefix6: u8 = number("prefix6", 0..=128), optional(128),
        "IPv6 clients that share a prefix of this length count as one." => bare(sticky.prefix6);
    timeout: Duration = duration("timeout", Duration::from_secs(1)..=TIME_MAX), optional(Duration::from_secs(600)),
        "How long a client without a session is remembered." => time(sticky.timeout);
}

section! {
    /// The values of `[[service.server]]`.
    Server = "[[service.server]]" "A real server of the service.";
    facts(server: &config::Server, _config);
    reserved "max-sessions", "max-rate", "slow-start";
    name: String = string("name", NAME, value::name), required("\"s1\""),
        "The server's name, unique in the service." => text(&server.name);
    addresses: IpAddr = strings("address", "an address, one per family", value::station_address),
        required("\"10.10.20.11\""),
        "The server's addresses." => list(&server.addresses, text);
    port: u16 = number("port", 1..=65_535), unset("the one that the client asked for"),
        "The port that traffic is sent to." => or_none(server.port, bare);
    weight: u16 = number("weight", 0..=256), optional(1),
        "Its share of the sessions, relative to other servers; 0 takes no new ones." => bare(server.weight);
    backup: bool = flag("backup"), optional(false),
        "A sorry server: it is used only while every other server is down." => bare(server.backup);
    admin: AdminState = choice("admin", &AdminState::CHOICES), optional(AdminState::default()),
        "Its administrative state." => text(server.admin);
}
