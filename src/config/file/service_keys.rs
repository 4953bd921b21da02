//! Declares the keys of `[[service]]` and its subsections.

use super::choices::{ADMIN, HASH_ON, MODE, OBSERVE, ON_FAILURE, PROTOCOL, SCHEDULER, SERVICE_KIND, STICKY_BY};
use super::keys::{NAME, TIME_MAX};
use crate::config::schema::{Key, Schema, ValueKind, choice_names};
use crate::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const INTERVAL: ValueKind = ValueKind::Duration(Duration::from_millis(50)..=HOUR);

pub static SERVICE: Schema = Schema {
    section: "[[service]]",
    about: "A virtual service: addresses and ports that clients know, and the servers that answer for them. An engine with \
            services needs no group.",
    keys: &[
        Key::required("name", NAME, "\"web\"", "The service's name, unique in the file."),
        Key::required("address", ValueKind::Strings("an address"), "\"203.0.113.80\"", "The virtual addresses (VIPs)."),
        Key::required(
            "protocol",
            ValueKind::Choices(|| choice_names(&PROTOCOL)),
            "\"tcp\"",
            "The protocols that are served.",
        ),
        Key::required(
            "port",
            ValueKind::Ranges(1..=65_535, Some("any")),
            "80",
            "The ports; of services with the same VIP the most specific port wins.",
        ),
        Key::optional(
            "scheduler",
            ValueKind::Choice(|| choice_names(&SCHEDULER)),
            "How a new session gets its server; weights always count.",
        ),
        Key::unset(
            "hash-on",
            ValueKind::Choices(|| choice_names(&HASH_ON)),
            "the source address, with scheduler = \"hash\"",
            "The fields of a packet that the scheduler `hash` uses.",
        ),
        Key::optional(
            "mode",
            ValueKind::Choice(|| choice_names(&MODE)),
            "How packets reach the server: NAT, NAT of the source too, by MAC (DSR), or in an IP-in-IP tunnel (DSR).",
        ),
        Key::unset(
            "snat",
            ValueKind::Strings("an address, or a range such as 10.10.20.240-10.10.20.243"),
            "those of the link that leads to the server",
            "Mode full-nat: the source addresses that replace those of clients.",
        ),
        Key::unset("sticky", ValueKind::Table, "off", "Source-address persistence: clients keep their server."),
        Key::unset(
            "on-failure",
            ValueKind::Choice(|| choice_names(&ON_FAILURE)),
            "reset for TCP, reselect for the rest",
            "What happens to the sessions of a server that went down.",
        ),
        Key::optional(
            "drain-timeout",
            ValueKind::DurationOrNever(Duration::ZERO..=TIME_MAX),
            "How long the sessions of a draining server may stay.",
        ),
        Key::optional("admin", ValueKind::Choice(|| choice_names(&ADMIN)), "Its administrative state."),
        Key::optional(
            "observe",
            ValueKind::Choice(|| choice_names(&OBSERVE)),
            "Passive checks: with layer4, TCP connections that a server refuses or does not answer have it checked at once; it takes no new \
             sessions until it passes. At most half of the servers, never the last.",
        ),
        Key::unset("check", ValueKind::Table, "its defaults", "How its servers are checked."),
        Key::unset("server", ValueKind::Tables, "none", "Its servers."),
    ],
    reserved: &["http", "tls", "rule", "encapsulation", "limit", "announce", "send-proxy", "helpers"],
    absent: &[],
};

pub static STICKY: Schema = Schema {
    section: "`sticky` of [[service]]",
    about: "Source-address persistence: clients keep their server, as in sticky = { by = \"source\", timeout = \"10m\" }.",
    keys: &[
        Key::required("by", ValueKind::Choice(|| choice_names(&STICKY_BY)), "\"source\"", "What identifies a client."),
        Key::optional(
            "prefix",
            ValueKind::Number(0..=32),
            "IPv4 clients that share a prefix of this length count as one.",
        ),
        Key::optional(
            "prefix6",
            ValueKind::Number(0..=128),
            "IPv6 clients that share a prefix of this length count as one.",
        ),
        Key::optional(
            "timeout",
            ValueKind::Duration(Duration::from_secs(1)..=TIME_MAX),
            "How long a client without a session is remembered.",
        ),
    ],
    reserved: &["cookie"],
    absent: &[],
};

pub static SERVICE_CHECK: Schema = Schema {
    section: "[service.check]",
    about: "The health check of each server. A server is down after `fall` failures in a row, and up after `rise` successes.",
    keys: &[
        Key::unset(
            "kind",
            ValueKind::Choice(|| choice_names(&SERVICE_KIND)),
            "tcp for TCP services, else icmp",
            "The kind of check.",
        ),
        Key::unset("port", ValueKind::Number(1..=65_535), "the server's", "The port that the check goes to."),
        Key::optional(
            "path",
            ValueKind::String("a path of visible ASCII characters, 1024 bytes at most"),
            "Kind http: the path of the request.",
        ),
        Key::unset("host", ValueKind::String("a host name"), "the server's address", "Kind http: the Host header."),
        Key::optional(
            "expect-status",
            ValueKind::Ranges(100..=599, None),
            "Kind http: the status codes that mean success.",
        ),
        Key::unset(
            "expect-body",
            ValueKind::String("a text of 1 to 1024 bytes"),
            "any body",
            "Kind http: what the body has to contain.",
        ),
        Key::optional("interval", INTERVAL, "The time between checks; longer than `timeout`."),
        Key::optional(
            "timeout",
            ValueKind::Duration(Duration::from_millis(10)..=HOUR),
            "How long to wait for an answer.",
        ),
        Key::optional("fall", ValueKind::Number(1..=255), "Failures in a row after which a server is down."),
        Key::optional("rise", ValueKind::Number(1..=255), "Successes in a row after which a server is up."),
        Key::optional(
            "dead-interval",
            INTERVAL,
            "The time between checks of a server that is down; left out, it is `interval`.",
        ),
        Key::unset(
            "down-after",
            INTERVAL,
            "`fall` alone decides",
            "A server without a success for this long is down, whatever `fall` says.",
        ),
    ],
    reserved: &["https", "send", "expect", "negative"],
    absent: &[],
};

pub static SERVER: Schema = Schema {
    section: "[[service.server]]",
    about: "A real server of the service.",
    keys: &[
        Key::required("name", NAME, "\"s1\"", "The server's name, unique in the service."),
        Key::required(
            "address",
            ValueKind::Strings("an address, one per family"),
            "\"10.10.20.11\"",
            "The server's addresses.",
        ),
        Key::unset(
            "port",
            ValueKind::Number(1..=65_535),
            "the one that the client asked for",
            "The port that traffic is sent to.",
        ),
        Key::optional(
            "weight",
            ValueKind::Number(0..=256),
            "Its share of the sessions, relative to other servers; 0 takes no new ones.",
        ),
        Key::optional("backup", ValueKind::Flag, "A sorry server: it is used only while every other server is down."),
        Key::optional("admin", ValueKind::Choice(|| choice_names(&ADMIN)), "Its administrative state."),
    ],
    reserved: &["max-sessions", "max-rate", "slow-start"],
    absent: &[],
};
