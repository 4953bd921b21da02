//! `[[service]]` as it was typed, and how it is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};

use super::read::{ADMIN, ALL, ON_FAILURE, TIME_MAX, each};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{At, Field, Reader, Schema};
use crate::config::synonyms;
use crate::config::value::{self, Refused};
use crate::config::{Admin, Mode, OnFailure};
use crate::time::Duration;

/// Addresses of one range of `snat` at most: each lends 64,512 ports per server.
const SNAT_RANGE_MAX: u128 = 256;

pub(super) static SERVICE: Schema = Schema {
    section: "[[service]]",
    keys: &[
        "name",
        "address",
        "protocol",
        "port",
        "scheduler",
        "hash-on",
        "mode",
        "snat",
        "sticky",
        "on-failure",
        "drain-timeout",
        "admin",
        "check",
        "server",
    ],
    reserved: &["http", "tls", "rule", "encapsulation", "limit", "announce", "send-proxy", "helpers"],
    absent: &[],
};
pub(super) static STICKY: Schema = Schema {
    section: "`sticky` of [[service]]",
    keys: &["by", "prefix", "prefix6", "timeout"],
    reserved: &["cookie"],
    absent: &[],
};
pub(super) static SERVICE_CHECK: Schema = Schema {
    section: "[service.check]",
    keys: &[
        "kind",
        "port",
        "path",
        "host",
        "expect-status",
        "expect-body",
        "interval",
        "timeout",
        "fall",
        "rise",
        "dead-interval",
        "down-after",
    ],
    reserved: &["https", "send", "expect", "negative"],
    absent: &[],
};
pub(super) static SERVER: Schema = Schema {
    section: "[[service.server]]",
    keys: &["name", "address", "port", "weight", "backup", "admin"],
    reserved: &["max-sessions", "max-rate", "slow-start"],
    absent: &[],
};

/// `[[service]]`.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `address`.
    pub addresses: Field<Vec<At<IpAddr>>>,
    /// `protocol`: 6 or 17.
    pub protocols: Field<Vec<At<u8>>>,
    /// `port`.
    pub ports: Field<Vec<At<RangeInclusive<u16>>>>,
    /// `scheduler`.
    pub scheduler: Field<SchedulerName>,
    /// `hash-on`.
    pub hash_on: Field<Vec<At<HashPart>>>,
    /// `mode`.
    pub mode: Field<Mode>,
    /// `snat`: first and last address of each range.
    pub snat: Field<Vec<At<(IpAddr, IpAddr)>>>,
    /// `sticky`.
    pub sticky: Option<Sticky>,
    /// `on-failure`.
    pub on_failure: Field<OnFailure>,
    /// `drain-timeout`.
    pub drain_timeout: Field<Option<Duration>>,
    /// `admin`.
    pub admin: Field<Admin>,
    /// `[service.check]`.
    pub check: Option<ServiceCheck>,
    /// `[[service.server]]`.
    pub servers: Vec<Server>,
}

/// `scheduler` of `[[service]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerName {
    /// `round-robin`.
    RoundRobin,
    /// `least-connections`.
    LeastConnections,
    /// `hash`.
    Hash,
}

/// A word of `hash-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashPart {
    /// `source-address`.
    SourceAddress,
    /// `source-port`.
    SourcePort,
    /// `destination-address`.
    DestinationAddress,
    /// `destination-port`.
    DestinationPort,
}

/// `sticky` of `[[service]]`.
#[derive(Debug, Clone)]
pub struct Sticky {
    /// `prefix`.
    pub prefix: Field<u64>,
    /// `prefix6`.
    pub prefix6: Field<u64>,
    /// `timeout`.
    pub timeout: Field<Duration>,
}

/// `kind` of `[service.check]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKind {
    /// `icmp`.
    Icmp,
    /// `tcp`.
    Tcp,
    /// `half-open`.
    HalfOpen,
    /// `http`.
    Http,
    /// `none`.
    None,
}

/// `[service.check]`.
#[derive(Debug, Clone)]
pub struct ServiceCheck {
    /// Its header.
    pub span: Range<usize>,
    /// `kind`.
    pub kind: Field<ServiceKind>,
    /// `port`.
    pub port: Field<u64>,
    /// `path`.
    pub path: Field<String>,
    /// `host`.
    pub host: Field<String>,
    /// `expect-status`.
    pub status: Field<Vec<At<RangeInclusive<u16>>>>,
    /// `expect-body`.
    pub body: Field<String>,
    /// `interval`.
    pub interval: Field<Duration>,
    /// `timeout`.
    pub timeout: Field<Duration>,
    /// `fall`.
    pub fall: Field<u64>,
    /// `rise`.
    pub rise: Field<u64>,
    /// `dead-interval`.
    pub dead_interval: Field<Duration>,
    /// `down-after`.
    pub down_after: Field<Duration>,
}

/// `[[service.server]]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its header.
    pub span: Range<usize>,
    /// `name`.
    pub name: Field<String>,
    /// `address`.
    pub addresses: Field<Vec<At<IpAddr>>>,
    /// `port`.
    pub port: Field<u64>,
    /// `weight`.
    pub weight: Field<u64>,
    /// `backup`.
    pub backup: Field<bool>,
    /// `admin`.
    pub admin: Field<Admin>,
}

pub(super) fn read_service(reader: &Reader<'_>, out: &mut Diagnostics) -> Service {
    reader.require("name", "\"web\"", out);
    reader.require("address", "\"203.0.113.80\"", out);
    reader.require("protocol", "\"tcp\"", out);
    reader.require("port", "80", out);
    let schedulers = [
        ("round-robin", SchedulerName::RoundRobin),
        ("least-connections", SchedulerName::LeastConnections),
        ("hash", SchedulerName::Hash),
    ];
    let check = reader.table("check", SERVICE_CHECK.section, out);
    let sticky = reader.table("sticky", "sticky = { by = \"source\" }", out);
    Service {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        addresses: reader.words("address", value::station, out),
        protocols: reader.words("protocol", protocol, out),
        ports: reader.ranges("port", 1..=65_535, Some("any"), out),
        scheduler: reader.choice("scheduler", &schedulers, out),
        hash_on: reader.words("hash-on", hash_part, out),
        mode: reader.word("mode", mode, out),
        snat: reader.words("snat", address_range, out),
        sticky: sticky.map(|(table, span)| {
            let reader = Reader::new(table, span, &STICKY, &ALL, out);
            read_sticky(&reader, out)
        }),
        on_failure: reader.choice("on-failure", &ON_FAILURE, out),
        drain_timeout: reader.duration_or_never("drain-timeout", Duration::ZERO..=TIME_MAX, out),
        admin: reader.choice("admin", &ADMIN, out),
        check: check.map(|(table, span)| {
            let reader = Reader::new(table, span, &SERVICE_CHECK, &ALL, out);
            read_check(&reader, out)
        }),
        servers: each(reader, "server", &SERVER, out, read_server),
    }
}

fn protocol(text: &str) -> Result<u8, Refused> {
    match text {
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "any" | "sctp" => Err(Refused::new(format!("the protocol {text:?} is reserved for a later version"))
            .hint("use \"tcp\", \"udp\" or both")),
        _ => {
            let refused = Refused::new(format!("`protocol` must be \"tcp\" or \"udp\", found {text:?}"));
            Err(synonyms::hinted(refused, "protocol", text))
        }
    }
}

fn mode(text: &str) -> Result<Mode, Refused> {
    match text {
        "nat" => Ok(Mode::Nat),
        "full-nat" => Ok(Mode::FullNat),
        "direct" => Ok(Mode::Direct),
        "tunnel" => Ok(Mode::Tunnel),
        "proxy" => Err(Refused::new("the mode \"proxy\" is reserved for a later version")
            .hint("use \"nat\", \"full-nat\", \"direct\" or \"tunnel\"")),
        _ => {
            let modes = "\"nat\", \"full-nat\", \"direct\" or \"tunnel\"";
            let refused = Refused::new(format!("`mode` must be {modes}, found {text:?}"));
            Err(match value::did_you_mean(text, ["nat", "full-nat", "direct", "tunnel"]) {
                Some(word) => synonyms::hinted(refused.hint(format!("did you mean {word:?}?")), "mode", text),
                None => synonyms::hinted(refused, "mode", text),
            })
        }
    }
}

fn hash_part(text: &str) -> Result<HashPart, Refused> {
    match text {
        "source-address" => Ok(HashPart::SourceAddress),
        "source-port" => Ok(HashPart::SourcePort),
        "destination-address" => Ok(HashPart::DestinationAddress),
        "destination-port" => Ok(HashPart::DestinationPort),
        _ => {
            let refused = Refused::new(format!(
                "`hash-on` is made of \"source-address\", \"source-port\", \"destination-address\" and \"destination-port\", \
                 found {text:?}"
            ));
            Err(synonyms::hinted(refused, "hash-on", text))
        }
    }
}

/// `10.10.20.240-10.10.20.243`, or one address.
fn address_range(text: &str) -> Result<(IpAddr, IpAddr), Refused> {
    let Some((first, last)) = text.split_once('-') else {
        return value::station(text).map(|one| (one, one));
    };
    let (first, last) = (value::station(first.trim())?, value::station(last.trim())?);
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    if first.is_ipv4() != last.is_ipv4() {
        return Err(Refused::new(format!("a range has one family, found {text:?}")));
    }
    match number(last).checked_sub(number(first)) {
        None => {
            Err(Refused::new(format!("the range {text:?} ends before it begins"))
                .hint(format!("write \"{last}-{first}\"")))
        }
        Some(more) if more >= SNAT_RANGE_MAX => {
            Err(Refused::new(format!("a range has at most {SNAT_RANGE_MAX} addresses, found {text:?}")))
        }
        Some(_) => Ok((first, last)),
    }
}

/// The addresses of a range of `snat`.
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

fn read_sticky(reader: &Reader<'_>, out: &mut Diagnostics) -> Sticky {
    reader.require("by", "\"source\"", out);
    let by = |text: &str| match text {
        "source" => Ok(()),
        "cookie" => Err(Refused::new("`by = \"cookie\"` is reserved for a later version").hint("use by = \"source\"")),
        _ => {
            let refused = Refused::new(format!("`by` must be \"source\", found {text:?}"));
            Err(synonyms::hinted(refused, "by", text))
        }
    };
    reader.word("by", by, out);
    Sticky {
        prefix: reader.number("prefix", 0..=32, out),
        prefix6: reader.number("prefix6", 0..=128, out),
        timeout: reader.duration("timeout", Duration::from_secs(1)..=TIME_MAX, out),
    }
}

fn read_check(reader: &Reader<'_>, out: &mut Diagnostics) -> ServiceCheck {
    let kinds = [
        ("icmp", ServiceKind::Icmp),
        ("tcp", ServiceKind::Tcp),
        ("half-open", ServiceKind::HalfOpen),
        ("http", ServiceKind::Http),
        ("none", ServiceKind::None),
    ];
    let kind = match reader.raw("kind") {
        Some(raw) if raw.get_ref().as_str() == Some("https") => {
            let message = "the kind \"https\" is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("use \"http\" or \"tcp\""));
            Field::Invalid
        }
        Some(_) | None => reader.choice("kind", &kinds, out),
    };
    let hour = Duration::from_secs(3600);
    let interval = Duration::from_millis(50)..=hour;
    ServiceCheck {
        span: reader.span(),
        kind,
        port: reader.number("port", 1..=65_535, out),
        path: reader.word("path", http_path, out),
        host: reader.word("host", http_host, out),
        status: reader.ranges("expect-status", 100..=599, None, out),
        body: reader.word("expect-body", body, out),
        interval: reader.duration("interval", interval.clone(), out),
        timeout: reader.duration("timeout", Duration::from_millis(10)..=hour, out),
        fall: reader.number("fall", 1..=255, out),
        rise: reader.number("rise", 1..=255, out),
        dead_interval: reader.duration("dead-interval", interval.clone(), out),
        down_after: reader.duration("down-after", interval, out),
    }
}

/// It becomes part of a request line: no white space, which would end it (RFC 9112 section 3).
fn http_path(text: &str) -> Result<String, Refused> {
    match text {
        _ if !text.starts_with('/') => {
            Err(Refused::new(format!("`path` begins with a slash, found {text:?}")).hint(format!("write \"/{text}\"")))
        }
        _ if text.len() > 1024 => Err(Refused::new("`path` may have 1024 bytes")),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(Refused::new(format!("`path` has visible ASCII characters only, found {text:?}"))
                .hint("write others as %20 and so on"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn http_host(text: &str) -> Result<String, Refused> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match !text.is_empty() && text.len() <= 255 && text.bytes().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(Refused::new(format!("not a host name: {text:?}")).hint("write it as in www.example.com")),
    }
}

fn body(text: &str) -> Result<String, Refused> {
    match text.len() {
        0 => Err(Refused::new("`expect-body` is empty: every body has that").hint("remove it")),
        1..=1024 => Ok(text.to_owned()),
        long => Err(Refused::new(format!("`expect-body` may have 1024 bytes, this one has {long}"))),
    }
}

fn read_server(reader: &Reader<'_>, out: &mut Diagnostics) -> Server {
    reader.require("name", "\"s1\"", out);
    reader.require("address", "\"10.10.20.11\"", out);
    Server {
        span: reader.span(),
        name: reader.word("name", value::name, out),
        addresses: reader.words("address", value::station, out),
        port: reader.number("port", 1..=65_535, out),
        weight: reader.number("weight", 0..=256, out),
        backup: reader.flag("backup", out),
        admin: reader.choice("admin", &ADMIN, out),
    }
}
