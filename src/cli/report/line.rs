//! One line of the session log, as far as it is summed.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::Deserialize;

/// One line of the log, see the module. Keys that a later version adds are ignored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) at: SystemTime,
    pub(super) hour: &'a str,
    pub(super) client: Cow<'a, str>,
    pub(super) reason: Cow<'a, str>,
    pub(super) duration_ms: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) service: Option<Cow<'a, str>>,
    pub(super) server: Option<Cow<'a, str>>,
    pub(super) firewalls: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    at: &'a str,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    duration_ms: u64,
    packets: u64,
    bytes: u64,
    #[serde(borrow)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow)]
    server: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pins: Vec<TypedPin<'a>>,
}

#[derive(Deserialize)]
struct TypedPin<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    firewall: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` if it is not a line of the session log.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let typed: Typed<'a> = serde_json::from_slice(text).ok()?;
        let at = humantime::parse_rfc3339(typed.at).ok()?;
        Some(Self {
            at,
            hour: typed.at.get(..13)?,
            client: address(typed.source),
            reason: typed.reason,
            duration_ms: typed.duration_ms,
            packets: typed.packets,
            bytes: typed.bytes,
            service: typed.service,
            server: typed.server,
            firewalls: typed.pins.into_iter().map(|pin| (pin.group, pin.firewall)).collect(),
        })
    }
}

/// The address of an end: `198.51.100.7:40000`, `[2001:db8::1]:53`, or without a port.
fn address(end: Cow<'_, str>) -> Cow<'_, str> {
    let length = |text: &str| match text.strip_prefix('[') {
        Some(rest) => rest.find(']').map(|at| 1..at + 1),
        // An IPv6 address without brackets has no port.
        None if text.matches(':').count() == 1 => text.find(':').map(|at| 0..at),
        None => None,
    };
    match (length(&end), end) {
        (None, end) => end,
        (Some(range), Cow::Borrowed(text)) => Cow::Borrowed(&text[range]),
        (Some(range), Cow::Owned(text)) => Cow::Owned(text[range].to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_an_end_is_what_stands_before_its_port() {
        for (end, expected) in [
            ("198.51.100.7:40000", "198.51.100.7"),
            ("198.51.100.7", "198.51.100.7"),
            ("[2001:db8::1]:53", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("", ""),
        ] {
            assert_eq!(address(end.into()), expected, "{end}");
        }
    }
}
