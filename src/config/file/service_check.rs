//! Declares `[service.check]`.

use std::ops::RangeInclusive;

use super::choices::SERVICE_CHECK_KIND_RESERVED;
use super::section::section;
use crate::config::fact::{Value, bare, list, or_none, ports, text, time};
use crate::config::value::InvalidValue;
use crate::config::{self, ServiceCheckKind};
use crate::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(50)..=HOUR;

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

section! {
    /// The values of `[service.check]`.
    ServiceCheck = "[service.check]" "The health check of each server. A server is down after `fall` failures in a row, and up after `rise` successes.";
    facts(check: &config::ServiceCheck, _config);
    reserved "https", "send", "expect", "negative";
    kind: ServiceCheckKindName = choice("kind", &ServiceCheckKindName::CHOICES, SERVICE_CHECK_KIND_RESERVED),
        unset("tcp for TCP services, else icmp"),
        "The kind of check." => text(kind_name(&check.kind));
    port: u16 = number("port", 1..=65_535), unset("the server's"),
        "The port that the check goes to." => or_none(check.port, bare);
    path: String = string("path", "a path of visible ASCII characters, 1024 bytes at most", http_path),
        optional("/".to_owned()),
        "Kind http: the path of the request." => http_keys(&check.kind).path;
    host: String = string("host", "a host name", http_host), unset("the server's address"),
        "Kind http: the Host header." => http_keys(&check.kind).host;
    status: RangeInclusive<u16> = ranges("expect-status", 100..=599, None), optional(),
        "Kind http: the status codes that mean success." => http_keys(&check.kind).status;
    body: String = string("expect-body", "a text of 1 to 1024 bytes", body), unset("any body"),
        "Kind http: what the body has to contain." => http_keys(&check.kind).body;
    interval: Duration = duration("interval", INTERVAL), optional(Duration::from_secs(2)),
        "The time between checks; longer than `timeout`." => time(check.interval);
    timeout: Duration = duration("timeout", Duration::from_millis(10)..=HOUR), optional(Duration::from_secs(1)),
        "How long to wait for an answer." => time(check.timeout);
    fall: u8 = number("fall", 1..=255), optional(3),
        "Failures in a row after which a server is down." => bare(check.fall);
    rise: u8 = number("rise", 1..=255), optional(2),
        "Successes in a row after which a server is up." => bare(check.rise);
    dead_interval: Duration = duration("dead-interval", INTERVAL), optional(),
        "The time between checks of a server that is down; left out, it is `interval`." => time(check.dead_interval);
    down_after: Duration = duration("down-after", INTERVAL), unset("`fall` alone decides"),
        "A server without a success for this long is down, whatever `fall` says." => or_none(check.down_after, time);
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

fn kind_name(kind: &ServiceCheckKind) -> ServiceCheckKindName {
    match kind {
        ServiceCheckKind::Icmp => ServiceCheckKindName::Icmp,
        ServiceCheckKind::Tcp => ServiceCheckKindName::Tcp,
        ServiceCheckKind::HalfOpen => ServiceCheckKindName::HalfOpen,
        ServiceCheckKind::Http { .. } => ServiceCheckKindName::Http,
        ServiceCheckKind::None => ServiceCheckKindName::None,
    }
}

/// The keys of the kind `http`.
struct HttpKeys {
    path: Value,
    host: Value,
    status: Value,
    body: Value,
}

fn http_keys(kind: &ServiceCheckKind) -> HttpKeys {
    match kind {
        ServiceCheckKind::Http { path, host, status, body } => HttpKeys {
            path: text(path),
            host: or_none(host.as_ref(), text),
            status: list(status, ports),
            body: or_none(body.as_ref(), text),
        },
        ServiceCheckKind::Icmp | ServiceCheckKind::Tcp | ServiceCheckKind::HalfOpen | ServiceCheckKind::None => {
            HttpKeys { path: Value::None, host: Value::None, status: Value::None, body: Value::None }
        }
    }
}
