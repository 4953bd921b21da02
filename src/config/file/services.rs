//! Holds the typed values of `[[service]]` and its subsections, and reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};

use super::choices::{ADMIN, HASH_ON, MODE, OBSERVE, ON_FAILURE, PROTOCOL, SCHEDULER, SERVICE_KIND};
use super::keys::ALL;
use super::read::each;
use super::service_keys::{SERVER, SERVICE_CHECK, STICKY};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::reader::{Field, Located, Reader};
use crate::config::schema::choice_names;
use crate::config::synonyms;
use crate::config::value::{self, InvalidValue};
use crate::config::{AdminState, ForwardingMode, Observe, OnFailure, SchedulerName};
use crate::time::Duration;

/// The largest number of addresses in one range of `snat`. Each address gives 64,512 source ports per server.
const SNAT_RANGE_MAX: u128 = 256;

/// The values of `[[service]]`.
#[derive(Debug, Clone)]
pub struct Service {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub addresses: Field<Vec<Located<IpAddr>>>,
    /// IP protocol numbers: 6 or 17.
    pub protocols: Field<Vec<Located<u8>>>,
    pub ports: Field<Vec<Located<RangeInclusive<u16>>>>,
    pub scheduler: Field<SchedulerName>,
    pub hash_on: Field<Vec<Located<HashPart>>>,
    pub mode: Field<ForwardingMode>,
    /// First and last address of each range.
    pub snat: Field<Vec<Located<(IpAddr, IpAddr)>>>,
    pub sticky: Option<Sticky>,
    pub on_failure: Field<OnFailure>,
    pub drain_timeout: Field<Option<Duration>>,
    pub admin: Field<AdminState>,
    /// `observe`.
    pub observe: Field<Observe>,
    /// `[service.check]`.
    pub check: Option<ServiceCheck>,
    pub servers: Vec<Server>,
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

/// The values of `sticky` of `[[service]]`.
#[derive(Debug, Clone)]
pub struct Sticky {
    pub prefix: Field<u64>,
    pub prefix6: Field<u64>,
    pub timeout: Field<Duration>,
}

named_enum! {
    /// `kind` of `[service.check]`.
    pub enum ServiceCheckKindName {
        Icmp = "icmp",
        Tcp = "tcp",
        HalfOpen = "half-open",
        Http = "http",
        None = "none",
    }
}

/// The values of `[service.check]`.
#[derive(Debug, Clone)]
pub struct ServiceCheck {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub kind: Field<ServiceCheckKindName>,
    pub port: Field<u64>,
    pub path: Field<String>,
    pub host: Field<String>,
    pub status: Field<Vec<Located<RangeInclusive<u16>>>>,
    pub body: Field<String>,
    pub interval: Field<Duration>,
    pub timeout: Field<Duration>,
    pub fall: Field<u64>,
    pub rise: Field<u64>,
    pub dead_interval: Field<Duration>,
    pub down_after: Field<Duration>,
}

/// The values of `[[service.server]]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Byte range of the header.
    pub span: Range<usize>,
    pub name: Field<String>,
    pub addresses: Field<Vec<Located<IpAddr>>>,
    pub port: Field<u64>,
    pub weight: Field<u64>,
    pub backup: Field<bool>,
    pub admin: Field<AdminState>,
}

pub(super) fn read_service(reader: &Reader<'_>, out: &mut Diagnostics) -> Service {
    let check = reader.table("check", SERVICE_CHECK.section, out);
    let sticky = reader.table("sticky", "sticky = { by = \"source\" }", out);
    Service {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        addresses: reader.strings("address", value::station_address, out),
        protocols: reader.strings("protocol", protocol, out),
        ports: reader.ranges("port", out),
        scheduler: reader.choice("scheduler", &SCHEDULER, out),
        hash_on: reader.strings("hash-on", hash_part, out),
        mode: reader.string("mode", mode, out),
        snat: reader.strings("snat", address_range, out),
        sticky: sticky.map(|(table, span)| {
            let reader = Reader::new(table, span, &STICKY, &ALL, out);
            read_sticky(&reader, out)
        }),
        on_failure: reader.choice("on-failure", &ON_FAILURE, out),
        drain_timeout: reader.duration_or_never("drain-timeout", out),
        admin: reader.choice("admin", &ADMIN, out),
        observe: reader.choice("observe", &OBSERVE, out),
        check: check.map(|(table, span)| {
            let reader = Reader::new(table, span, &SERVICE_CHECK, &ALL, out);
            read_check(&reader, out)
        }),
        servers: each(reader, "server", &SERVER, out, read_server),
    }
}

fn protocol(text: &str) -> Result<u8, InvalidValue> {
    if let Some((_, number)) = PROTOCOL.iter().find(|(word, _)| *word == text) {
        return Ok(*number);
    }
    match text {
        "any" | "sctp" => Err(InvalidValue::new(format!("the protocol {text:?} is reserved for a later version"))
            .hint("use \"tcp\", \"udp\" or both")),
        _ => {
            let refused = InvalidValue::new(format!("`protocol` must be \"tcp\" or \"udp\", found {text:?}"));
            Err(synonyms::hinted(refused, "protocol", text))
        }
    }
}

fn mode(text: &str) -> Result<ForwardingMode, InvalidValue> {
    if let Some((_, mode)) = MODE.iter().find(|(word, _)| *word == text) {
        return Ok(*mode);
    }
    match text {
        "proxy" => Err(InvalidValue::new("the mode \"proxy\" is reserved for a later version")
            .hint("use \"nat\", \"full-nat\", \"direct\" or \"tunnel\"")),
        _ => {
            let modes = "\"nat\", \"full-nat\", \"direct\" or \"tunnel\"";
            let refused = InvalidValue::new(format!("`mode` must be {modes}, found {text:?}"));
            Err(match value::did_you_mean(text, choice_names(&MODE)) {
                Some(word) => synonyms::hinted(refused.hint(format!("did you mean {word:?}?")), "mode", text),
                None => synonyms::hinted(refused, "mode", text),
            })
        }
    }
}

fn hash_part(text: &str) -> Result<HashPart, InvalidValue> {
    HASH_ON.iter().find(|(word, _)| *word == text).map(|(_, part)| *part).ok_or_else(|| {
        let refused = InvalidValue::new(format!(
            "`hash-on` is made of \"source-address\", \"source-port\", \"destination-address\" and \"destination-port\", \
             found {text:?}"
        ));
        synonyms::hinted(refused, "hash-on", text)
    })
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

fn read_sticky(reader: &Reader<'_>, out: &mut Diagnostics) -> Sticky {
    let by = |text: &str| match text {
        "source" => Ok(()),
        "cookie" => {
            Err(InvalidValue::new("`by = \"cookie\"` is reserved for a later version").hint("use by = \"source\""))
        }
        _ => {
            let refused = InvalidValue::new(format!("`by` must be \"source\", found {text:?}"));
            Err(synonyms::hinted(refused, "by", text))
        }
    };
    reader.string("by", by, out);
    Sticky {
        prefix: reader.number("prefix", out),
        prefix6: reader.number("prefix6", out),
        timeout: reader.duration("timeout", out),
    }
}

fn read_check(reader: &Reader<'_>, out: &mut Diagnostics) -> ServiceCheck {
    let kind = match reader.raw("kind") {
        Some(raw) if raw.get_ref().as_str() == Some("https") => {
            let message = "the kind \"https\" is reserved for a later version";
            out.push(Diagnostic::error(raw.span(), message).hint("use \"http\" or \"tcp\""));
            Field::Invalid
        }
        Some(_) | None => reader.choice("kind", &SERVICE_KIND, out),
    };
    ServiceCheck {
        span: reader.span(),
        kind,
        port: reader.number("port", out),
        path: reader.string("path", http_path, out),
        host: reader.string("host", http_host, out),
        status: reader.ranges("expect-status", out),
        body: reader.string("expect-body", body, out),
        interval: reader.duration("interval", out),
        timeout: reader.duration("timeout", out),
        fall: reader.number("fall", out),
        rise: reader.number("rise", out),
        dead_interval: reader.duration("dead-interval", out),
        down_after: reader.duration("down-after", out),
    }
}

/// Parses the path of an HTTP request line, which white space would end (RFC 9112 section 3).
fn http_path(text: &str) -> Result<String, InvalidValue> {
    match text {
        _ if !text.starts_with('/') => {
            Err(InvalidValue::new(format!("`path` begins with a slash, found {text:?}"))
                .hint(format!("write \"/{text}\"")))
        }
        _ if text.len() > 1024 => Err(InvalidValue::new("`path` may have 1024 bytes")),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(InvalidValue::new(format!("`path` has visible ASCII characters only, found {text:?}"))
                .hint("write others as %20 and so on"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn http_host(text: &str) -> Result<String, InvalidValue> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match !text.is_empty() && text.len() <= 255 && text.bytes().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::new(format!("not a host name: {text:?}")).hint("write it as in www.example.com")),
    }
}

fn body(text: &str) -> Result<String, InvalidValue> {
    match text.len() {
        0 => Err(InvalidValue::new("`expect-body` is empty: every body has that").hint("remove it")),
        1..=1024 => Ok(text.to_owned()),
        long => Err(InvalidValue::new(format!("`expect-body` may have 1024 bytes, this one has {long}"))),
    }
}

fn read_server(reader: &Reader<'_>, out: &mut Diagnostics) -> Server {
    Server {
        span: reader.span(),
        name: reader.string("name", value::name, out),
        addresses: reader.strings("address", value::station_address, out),
        port: reader.number("port", out),
        weight: reader.number("weight", out),
        backup: reader.flag("backup", out),
        admin: reader.choice("admin", &ADMIN, out),
    }
}
