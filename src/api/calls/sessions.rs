//! Requests about live sessions: which ones, in which order, and in which pages.

mod paging;
mod query;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::{ApiError, address_or_prefix};
use crate::engine::view::{SessionState, SessionView};
use crate::flow::FlowPattern;

pub(in crate::api) use paging::TOTAL_HEADER;
pub use query::Kill;
use query::{SessionsQuery, TalkersQuery};

/// Number of rows of an answer if the request sets no limit.
pub const DEFAULT_LIMIT: usize = 1000;
/// Number of rows of one engine's answer, at most. A longer list comes in pages; a sorted list is never longer.
pub const PAGE_MAX: usize = 10_000;
/// Number of hosts or ports in one filter, at most.
const PARTS_MAX: usize = 16;

/// Which sessions are selected; a session has to match every part that is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFilter {
    /// An address or prefix of the source.
    pub source: Option<IpNet>,
    /// An address or prefix of the destination.
    pub destination: Option<IpNet>,
    /// Addresses or prefixes, each of which has to be an end's, before or after translation.
    pub hosts: Vec<IpNet>,
    /// Ports, each of which has to be an end's, before or after translation.
    pub ports: Vec<u16>,
    /// A flow in either direction, before or after translation.
    pub flow: Option<FlowPattern>,
    /// Name of the firewall: `fw1` or `perimeter/fw1`.
    pub firewall: Option<String>,
    /// Name of the virtual service.
    pub service: Option<String>,
    /// Name of the server: `s1` or `web/s1`.
    pub server: Option<String>,
    /// State, one of [`SessionState::NAMES`].
    pub state: Option<String>,
}

/// The request of `show sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "SessionsQuery", into = "SessionsQuery")]
pub struct SessionRequest {
    /// Which sessions to list.
    pub filter: SessionFilter,
    /// The order; `None`: the order of the table, in which pages follow each other.
    pub sort: Option<SessionSort>,
    /// Number of rows, at most; `None`: [`DEFAULT_LIMIT`]; 0: as many as one answer holds.
    pub limit: Option<usize>,
    /// Continues after a page that ended here.
    pub after: Option<Cursor>,
}

named_enum! {
    /// The value by which sessions are sorted, largest first.
    pub enum SessionSort {
        /// Packets since the session was opened.
        Packets = "packets",
        /// Bytes since the session was opened.
        Bytes = "bytes",
        /// Bits per second.
        Rate = "rate",
        /// Packets per second.
        PacketRate = "packet-rate",
        /// Time since the session was opened.
        Age = "age",
        /// Time since the session's last packet.
        Idle = "idle",
    }
}

impl SessionSort {
    /// Whether it takes two looks at the sessions, half a second apart.
    pub fn is_rate(self) -> bool {
        match self {
            Self::Rate | Self::PacketRate => true,
            Self::Packets | Self::Bytes | Self::Age | Self::Idle => false,
        }
    }
}

/// The request of `show sessions --by`: sums of the selected sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TalkersQuery", into = "TalkersQuery")]
pub struct TalkerRequest {
    /// Which sessions to add up.
    pub filter: SessionFilter,
    /// By what to add up.
    pub by: TalkersBy,
    /// The order of the sums: by bytes, packets, or their rates.
    pub sort: SessionSort,
    /// Number of rows, at most; `None`: [`DEFAULT_LIMIT`].
    pub limit: Option<usize>,
}

named_enum! {
    /// By what sessions are added up.
    pub enum TalkersBy {
        /// By the address that opened the session.
        Source = "source",
        /// By the address to which the session was opened.
        Destination = "destination",
        /// By virtual service.
        Service = "service",
        /// By real server.
        Server = "server",
        /// By firewall; a session through two of them counts for both.
        Firewall = "firewall",
    }
}

/// The value of the word `text` among `words`.
pub fn parse_word<T: Copy>(what: &str, text: &str, words: &[(&str, T)]) -> Result<T, ApiError> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        ApiError::BadRequest(format!("`{what}` is one of {}; found {text:?}", all.join(", ")))
    })
}

/// Where a page ended: for each engine that has more, the place in its table where the next page begins.
///
/// As text it is `outer:1000,inner:2048`, to be handed back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(BTreeMap<String, u32>);

impl Cursor {
    /// The next page of `engine` begins at `place`.
    pub fn at(engine: &str, place: u32) -> Self {
        Self(BTreeMap::from([(engine.to_owned(), place)]))
    }

    /// Where the next page of `engine` begins; `None` if there is none.
    pub fn of(&self, engine: &str) -> Option<u32> {
        self.0.get(engine).copied()
    }

    /// Adds where another engine's page ended.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, (engine, place))| {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{engine}:{place}")
        })
    }
}

impl FromStr for Cursor {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let one = |part: &str| {
            let (engine, place) = part.rsplit_once(':')?;
            Some((engine.to_owned(), place.parse().ok()?)).filter(|(engine, _): &(String, u32)| !engine.is_empty())
        };
        text.split(',').map(one).collect::<Option<_>>().map(Self).ok_or_else(|| {
            ApiError::BadRequest(format!("`after` is where a page before ended, as ENGINE:PLACE; found {text:?}"))
        })
    }
}

/// A page of the selected sessions. As JSON it is the list of its rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionPage {
    /// The sessions of this page.
    pub rows: Vec<SessionView>,
    /// Number of all matching sessions; `None` if they were not counted, as for pages after the first.
    pub total: Option<u64>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<Cursor>,
}

impl From<Vec<SessionView>> for SessionPage {
    /// Rows of which it is unknown whether they are all.
    fn from(rows: Vec<SessionView>) -> Self {
        Self { rows, total: None, next: None }
    }
}

impl Serialize for SessionPage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SessionPage {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<SessionView>::deserialize(from).map(Self::from)
    }
}

impl SessionFilter {
    /// Whether every session is selected.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for SessionFilter {
    /// Formats the filter as it is typed after `show sessions`; `all` if it selects every session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, hosts, ports, flow, firewall, service, server, state } = self;
        let mut words = Vec::new();
        let mut say = |option: &str, value: String| words.push(format!("{option} {value}"));
        source.iter().for_each(|source| say("source", short(source)));
        destination.iter().for_each(|destination| say("destination", short(destination)));
        hosts.iter().for_each(|host| say("host", short(host)));
        ports.iter().for_each(|port| say("port", port.to_string()));
        flow.iter().for_each(|flow| say("flow", flow.to_string()));
        firewall.iter().for_each(|firewall| say("firewall", firewall.clone()));
        service.iter().for_each(|service| say("service", service.clone()));
        server.iter().for_each(|server| say("server", server.clone()));
        state.iter().for_each(|state| say("state", state.clone()));
        f.write_str(if words.is_empty() { "all".to_owned() } else { words.join(", ") }.as_str())
    }
}

/// Formats a prefix, or the address if it is a single one.
fn short(prefix: &IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

/// The parts of a filter as text, as they stand in a query or body.
#[derive(Debug, Default)]
pub(super) struct FilterWords {
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
    /// Several are separated by commas.
    pub(super) host: Option<String>,
    /// Several are separated by commas.
    pub(super) port: Option<String>,
    pub(super) flow: Option<String>,
    pub(super) firewall: Option<String>,
    pub(super) service: Option<String>,
    pub(super) server: Option<String>,
    pub(super) state: Option<String>,
}

impl FilterWords {
    /// Parses the parts.
    pub(super) fn read(self) -> Result<SessionFilter, ApiError> {
        let Self { source, destination, host, port, flow, firewall, service, server, state } = self;
        let prefix = |text: Option<String>| text.as_deref().map(address_or_prefix).transpose();
        let parts = |text: Option<String>| -> Result<Vec<String>, ApiError> {
            let parts: Vec<_> =
                text.iter().flat_map(|text| text.split(',')).map(|part| part.trim().to_owned()).collect();
            match parts.len() {
                0..=PARTS_MAX => Ok(parts),
                _ => Err(ApiError::BadRequest(format!("at most {PARTS_MAX} hosts or ports in one filter"))),
            }
        };
        let bad_port = |text: &str| ApiError::BadRequest(format!("a port is 0..=65535, found {text:?}"));
        if let Some(state) = &state {
            parse_word("state", state, &SessionState::CHOICES)?;
        }
        Ok(SessionFilter {
            source: prefix(source)?,
            destination: prefix(destination)?,
            hosts: parts(host)?.iter().map(|host| address_or_prefix(host)).collect::<Result<_, _>>()?,
            ports: parts(port)?
                .iter()
                .map(|port| port.parse().map_err(|_| bad_port(port)))
                .collect::<Result<_, _>>()?,
            flow: flow
                .map(|flow| flow.parse())
                .transpose()
                .map_err(|error: crate::flow::text::FlowTextError| ApiError::BadRequest(error.to_string()))?,
            firewall,
            service,
            server,
            state,
        })
    }
}

impl From<SessionFilter> for FilterWords {
    fn from(filter: SessionFilter) -> Self {
        let SessionFilter { source, destination, hosts, ports, flow, firewall, service, server, state } = filter;
        let text = |prefix: Option<IpNet>| prefix.map(|prefix| prefix.to_string());
        let list = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(","));
        Self {
            source: text(source),
            destination: text(destination),
            host: list(hosts.iter().map(ToString::to_string).collect()),
            port: list(ports.iter().map(ToString::to_string).collect()),
            flow: flow.map(|flow| flow.to_string()),
            firewall,
            service,
            server,
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mut cursor = Cursor::at("outer", 1000);
        cursor.join(Cursor::at("in.ner-2", 7));

        assert_eq!(cursor.to_string(), "in.ner-2:7,outer:1000");
        assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
        assert_eq!((cursor.of("outer"), cursor.of("other")), (Some(1000), None));
        for text in ["", "outer", "outer:", ":7", "outer:-1", "outer:4294967296", "outer:1,,inner:2"] {
            let refused = text.parse::<Cursor>().unwrap_err().to_string();
            assert!(refused.contains("ENGINE:PLACE"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_filter_is_told_as_it_is_typed() {
        assert_eq!(SessionFilter::default().to_string(), "all");
        let filter = SessionFilter {
            source: Some("198.51.100.7/32".parse().unwrap()),
            hosts: vec!["2001:db8::/32".parse().unwrap()],
            ports: vec![80, 443],
            server: Some("web/s1".to_owned()),
            ..SessionFilter::default()
        };
        assert_eq!(filter.to_string(), "source 198.51.100.7, host 2001:db8::/32, port 80, port 443, server web/s1");
    }

    #[test]
    fn words_that_mean_nothing_are_told_what_was_expected() {
        let refused = |words: FilterWords| words.read().unwrap_err().to_string();
        let empty = FilterWords::default;
        assert!(refused(FilterWords { host: Some("10.0.0.1,nobody".into()), ..empty() }).contains("\"nobody\""));
        assert!(refused(FilterWords { port: Some("80,http".into()), ..empty() }).contains("0..=65535, found \"http\""));
        assert!(refused(FilterWords { port: Some("70000".into()), ..empty() }).contains("0..=65535"));
        assert!(refused(FilterWords { port: Some("1,".repeat(17)), ..empty() }).contains("at most 16"));
        assert!(refused(FilterWords { flow: Some("tcp 1.2.3.4".into()), ..empty() }).contains("a flow is PROTO"));
        let state = refused(FilterWords { state: Some("established ".into()), ..empty() });
        assert!(state.contains("opening, established, closing, one-way, two-way"), "{state}");
        let by = parse_word("by", "sauce", &TalkersBy::CHOICES).unwrap_err().to_string();
        assert!(by.contains("source, destination, service, server, firewall") && by.contains("sauce"), "{by}");
    }
}
