//! Parses the strings of a file: names, durations, addresses, prefixes. Each refusal says what was expected, what was
//! found and, where possible, what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::time::Duration;
use crate::wire::MacAddr;

/// Why a string is not a valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// What was expected, and what was found instead.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl InvalidValue {
    /// A refusal without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what to write instead.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Parses a name: `[A-Za-z0-9._-]{1,63}` with at least one letter or digit, because names become parts of file names.
pub fn name(text: &str) -> Result<String, InvalidValue> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = if text.is_empty() {
        "it is empty"
    } else if text.len() > 63 {
        "it is longer than 63 characters"
    } else if !text.chars().all(legal) {
        "it may hold letters, digits, `.`, `_` and `-`"
    } else if !text.contains(|c: char| c.is_ascii_alphanumeric()) {
        "it needs a letter or digit"
    } else {
        return Ok(text.to_owned());
    };
    Err(InvalidValue::new(format!("not a name: {text:?}: {problem}")))
}

/// Parses a device: an interface name as the kernel allows it (at most 15 bytes, no `/`, no white space), or `mac:`
/// with the MAC address of a card whose interface name is not stable.
pub fn device(text: &str) -> Result<String, InvalidValue> {
    if let Some(address) = text.strip_prefix("mac:") {
        return mac(address).map(|address| format!("mac:{address}"));
    }
    if let Ok(address) = text.parse::<MacAddr>() {
        let refused = InvalidValue::new(format!("not a device name: {text:?}: it is a hardware address"));
        return Err(refused.hint(format!("write \"mac:{address}\" for the device that has it")));
    }
    let refused = |problem: &str| Err(InvalidValue::new(format!("not a device name: {text:?}: {problem}")));
    match text {
        "" | "." | ".." => refused("expected one as `ip link` shows it"),
        "lo" => refused("the loopback device leads nowhere"),
        _ if text.len() > 15 => refused("the kernel allows 15 bytes"),
        _ if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
            refused("no `/`, `:` or white space")
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses a duration such as `50ms`, `2s` or `2h4m`.
pub fn duration(text: &str) -> Result<Duration, InvalidValue> {
    humantime::parse_duration(text).map_err(|error| {
        InvalidValue::new(format!("not a duration: {text:?}: {error}"))
            .hint(r#"write it as "100ms", "2s", "10m" or "2h4m""#)
    })
}

/// A duration in the form that a file has it.
pub fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// Parses an IP address without a prefix length.
pub fn address(text: &str) -> Result<IpAddr, InvalidValue> {
    text.parse().map_err(|_| {
        let refused = InvalidValue::new(format!("not an IP address: {text:?}"));
        match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                refused.hint(format!("write it without the prefix length: {address:?}"))
            }
            Some(_) | None => match text.parse::<SocketAddr>() {
                Ok(both) => {
                    let (address, port) = (both.ip(), both.port());
                    refused
                        .hint(format!("write the address alone, \"{address}\", and a line port = {port} for the port"))
                }
                Err(_) if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') => {
                    refused.hint("write the address itself: names are not looked up")
                }
                Err(_) => refused,
            },
        }
    })
}

/// The number that is meant by `1M`, `10k`, `1_000_000` or `1e6`, for hints.
pub fn amount(text: &str) -> Option<u64> {
    let text = text.trim().replace(['_', ','], "");
    if let Some((digits, power)) = text.split_once(['e', 'E']) {
        let power = 10u64.checked_pow(power.trim_start_matches('+').parse().ok()?)?;
        return digits.trim_end_matches(".0").parse::<u64>().ok()?.checked_mul(power);
    }
    let unit = match text.chars().last()? {
        'k' | 'K' => 1000,
        'm' | 'M' => 1_000_000,
        'g' | 'G' => 1_000_000_000,
        _ => return text.trim_end_matches(".0").parse().ok(),
    };
    text[..text.len() - 1].trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// A number with the digit groups of TOML: `1_000_000`.
pub fn format_amount(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join("_")
}

/// Parses an address that another station can have, such as a next hop or a peer.
pub fn station_address(text: &str) -> Result<IpAddr, InvalidValue> {
    let address = address(text)?;
    match unusable(address) {
        Some(why) => Err(InvalidValue::new(format!("{address} is {why}, not the address of a station"))),
        None => Ok(address),
    }
}

/// Parses an interface address with the prefix length of its subnet.
pub fn interface(text: &str) -> Result<IpNet, InvalidValue> {
    let network: IpNet = text.parse().map_err(|_| {
        let refused = InvalidValue::new(format!("not an address with prefix length: {text:?}"));
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => refused.hint(format!("add the length of its subnet: \"{text}/24\"")),
            Ok(IpAddr::V6(_)) => refused.hint(format!("add the length of its subnet: \"{text}/64\"")),
            Err(_) => refused,
        }
    })?;
    if let Some(why) = unusable(network.addr()) {
        return Err(InvalidValue::new(format!("{} is {why}, not an address for a link", network.addr())));
    }
    let hosts_only = hosts_only(network);
    if !hosts_only && network.addr() == network.network() {
        return Err(InvalidValue::new(format!("{} is the subnet itself, not an address in it", network.addr())));
    }
    if !hosts_only && matches!(network, IpNet::V4(_)) && network.addr() == network.broadcast() {
        return Err(InvalidValue::new(format!("{} is the broadcast address of its subnet", network.addr())));
    }
    if network.prefix_len() == 0 {
        return Err(InvalidValue::new(format!("{text:?} makes the whole Internet a subnet of the link")));
    }
    Ok(network)
}

/// True if every address of the subnet can be a host's: /31, /32 (RFC 3021), /127 and /128 (RFC 6164).
pub fn hosts_only(subnet: IpNet) -> bool {
    subnet.prefix_len() + 1 >= subnet.max_prefix_len()
}

/// Parses a destination prefix; an address alone is a prefix of full length.
pub fn prefix(text: &str) -> Result<IpNet, InvalidValue> {
    let network: IpNet = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(|_| {
        InvalidValue::new(format!("not a prefix: {text:?}")).hint(r#"write it as "203.0.113.0/24", or "default""#)
    })?;
    if network.trunc() != network {
        return Err(InvalidValue::new(format!("{network} has bits set beyond its prefix length"))
            .hint(format!("the prefix is \"{}\"", network.trunc())));
    }
    match unroutable(network) {
        Some(why) => Err(InvalidValue::new(format!("{network} is {why}: nothing is forwarded to it"))),
        None => Ok(network),
    }
}

/// Why no router forwards to any address within a prefix. Wider prefixes such as the default route are accepted
/// although they contain such addresses.
fn unroutable(prefix: IpNet) -> Option<&'static str> {
    const V4: [(&str, &str); 5] = [
        ("0.0.0.0/8", "this network (RFC 791 section 3.2)"),
        ("127.0.0.0/8", "the loopback network"),
        ("169.254.0.0/16", "a link-local prefix (RFC 3927 section 7)"),
        ("224.0.0.0/4", "a multicast prefix"),
        ("240.0.0.0/4", "in a reserved range"),
    ];
    const V6: [(&str, &str); 5] = [
        ("::/96", "in a reserved range"),
        ("::ffff:0:0/96", "in a reserved range"),
        ("fe80::/10", "a link-local prefix (RFC 4291 section 2.5.6)"),
        ("ff00::/8", "a multicast prefix"),
        ("::1/128", "the loopback address"),
    ];
    let inside = |(whole, _): &&(&str, &str)| whole.parse::<IpNet>().is_ok_and(|whole| whole.contains(&prefix));
    V4.iter().chain(&V6).find(inside).map(|(_, why)| *why)
}

/// Parses the unicast MAC address of a station.
pub fn mac(text: &str) -> Result<MacAddr, InvalidValue> {
    let mac: MacAddr = MacAddr::from_str(text).map_err(|error| InvalidValue::new(error.to_string()))?;
    match (mac.is_multicast(), mac.is_zero()) {
        (true, _) => Err(InvalidValue::new(format!("{mac} is a group address, not a station's"))
            .hint("the lowest bit of the first octet must be 0, as in 02:00:5e:10:00:01")),
        (false, true) => Err(InvalidValue::new("00:00:00:00:00:00 is no station's address")),
        (false, false) => Ok(mac),
    }
}

/// Why no station can have this address.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let reserved = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 240,
        // ::/96 was for IPv4-compatible addresses (RFC 4291 section 2.5.5.1).
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some() || address.segments()[..6] == [0; 6],
    };
    if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() {
        Some("the unspecified address")
    } else if reserved {
        Some("in a reserved range")
    } else {
        None
    }
}

/// The string of `known` that `typed` was probably meant to be.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|word| (distance(&typed, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= (word.len().max(typed.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The Damerau-Levenshtein distance in its restricted form: insertions, deletions, substitutions, and swaps of
/// neighbouring characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let edited = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { edited.min(rows[i - 2][j - 2] + 1) } else { edited }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_contract_says() {
        for good in ["a", "fw1", "FW-1_a.b", &"x".repeat(63)] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "ü", "..", "-", "a/b", &"x".repeat(64)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn large_numbers_are_understood_as_people_write_them() {
        let read = ["1M", "10k", "1_000_000", "1e6", "1.0e3", "7", "2 G"].map(amount);
        let expected = [1_000_000, 10_000, 1_000_000, 1_000_000, 1000, 7, 2_000_000_000].map(Some);
        assert_eq!(read, expected);
        assert_eq!(["", "M", "1.5", "1e99", "x", "ä", "-1"].map(amount), [None; 7]);
        assert_eq!([7, 1024, 10_000, 1_000_000].map(format_amount), ["7", "1024", "10_000", "1_000_000"]);
    }

    #[test]
    fn an_address_with_its_port_is_told_apart() {
        let hint = |text: &str| address(text).unwrap_err().hint.unwrap_or_default();
        assert!(hint("10.0.0.11:8080").contains("\"10.0.0.11\", and a line port = 8080"));
        assert!(hint("[2001:db8::1]:80").contains("\"2001:db8::1\", and a line port = 80"));
        assert!(hint("web1.example.com").contains("names are not looked up"));
        assert_eq!(hint("10.0.0.300"), "");
    }

    #[test]
    fn nothing_is_forwarded_to_some_prefixes() {
        for bad in
            ["127.0.0.0/8", "127.0.0.1", "224.0.0.0/4", "ff02::/16", "fe80::/10", "169.254.0.0/16", "240.0.0.0/8"]
        {
            assert!(prefix(bad).unwrap_err().message.contains("nothing is forwarded to it"), "{bad}");
        }
        for good in ["0.0.0.0/0", "::/0", "192.0.2.0/24", "224.0.0.0/3", "2000::/3", "64:ff9b::/96"] {
            assert!(prefix(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn durations_read_as_they_are_written() {
        assert_eq!(duration("2h4m"), Ok(Duration::from_secs(7440)));
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(format_duration(Duration::from_secs(7440)), "2h4m");
        for bad in ["", "5", "-1s", "1x", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interface_address_is_a_host_in_its_subnet() {
        for good in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "2001:db8::1/64", "2001:db8::/127"] {
            assert!(interface(good).is_ok(), "{good}");
        }
        for bad in [
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.1",
            "2001:db8::/64",
            "224.0.0.1/24",
            "127.0.0.1/8",
            "::1/128",
            "10.0.0.1/0",
            "0.0.0.1/8",
            "::ffff:1.2.3.4/96",
        ] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_with_host_bits_is_refused_with_the_prefix_that_was_meant() {
        assert_eq!(prefix("203.0.113.7/24").unwrap_err().hint.as_deref(), Some("the prefix is \"203.0.113.0/24\""));
        assert_eq!(prefix("203.0.113.7").map(|p| p.to_string()).as_deref(), Ok("203.0.113.7/32"));
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_nonsense_finds_none() {
        let known = ["on-failure", "min-up", "below-min", "name", "seed"];
        assert_eq!(did_you_mean("on_failure", known), Some("on-failure"));
        assert_eq!(did_you_mean("onfailure", known), Some("on-failure"));
        assert_eq!(did_you_mean("nmae", known), Some("name"));
        assert_eq!(did_you_mean("colour", known), None);
    }
}
