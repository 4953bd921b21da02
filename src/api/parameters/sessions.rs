//! Queries and bodies of requests about sessions.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ChangeCall, ReadCall};
use crate::api::guard::Caller;
use crate::api::sessions::{FilterWords, PAGE_MAX, parse_word, word_of};
use crate::api::{ApiError, Request, SessionFilter, SessionRequest, SessionSort, TalkerRequest, TalkersBy};

/// Which sessions to list; a session has to match every part that is given.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SessionsQuery {
    /// An address or prefix of the source.
    source: Option<String>,
    /// An address or prefix of the destination.
    destination: Option<String>,
    /// Addresses or prefixes, separated by commas, each of which has to be an end's, before or after translation.
    host: Option<String>,
    /// Ports, separated by commas, each of which has to be an end's, before or after translation.
    port: Option<String>,
    /// A flow in either direction, before or after translation; ports may be left out: `tcp 198.51.100.7
    /// 203.0.113.80:80`.
    flow: Option<String>,
    /// Name of the firewall: `fw1` or `perimeter/fw1`.
    firewall: Option<String>,
    /// Name of the virtual service.
    service: Option<String>,
    /// Name of the server: `s1` or `web/s1`.
    server: Option<String>,
    /// State of the session: `opening`, `established`, `closing`, `one-way` or `two-way`.
    state: Option<String>,
    /// The value by which to sort, largest first: `packets`, `bytes`, `rate` (bits per second), `packet-rate`, `age` or
    /// `idle`. Measuring rates takes half a second.
    sort: Option<String>,
    /// Number of sessions of each engine, at most; default 1000; 0: all, streamed as they are found.
    limit: Option<usize>,
    /// Continues where another answer ended; its `Link` header has the value.
    after: Option<String>,
    /// The engine; absent: every one.
    engine: Option<String>,
}

/// Which sessions to add up, and by what.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TalkersQuery {
    /// By what to add up: `source`, `destination`, `service`, `server` or `firewall`.
    by: String,
    /// An address or prefix of the source.
    source: Option<String>,
    /// An address or prefix of the destination.
    destination: Option<String>,
    /// Addresses or prefixes, separated by commas, each of which has to be an end's, before or after translation.
    host: Option<String>,
    /// Ports, separated by commas, each of which has to be an end's, before or after translation.
    port: Option<String>,
    /// A flow in either direction, before or after translation; ports may be left out.
    flow: Option<String>,
    /// Name of the firewall: `fw1` or `perimeter/fw1`.
    firewall: Option<String>,
    /// Name of the virtual service.
    service: Option<String>,
    /// Name of the server: `s1` or `web/s1`.
    server: Option<String>,
    /// State of the sessions: `opening`, `established`, `closing`, `one-way` or `two-way`.
    state: Option<String>,
    /// The sum by which to sort, largest first: `bytes` (default), `packets`, `rate` (bits per second) or
    /// `packet-rate`.
    sort: Option<String>,
    /// Number of sums of each engine, at most, 1..=10000; default 1000.
    limit: Option<usize>,
    /// The engine; absent: every one.
    engine: Option<String>,
}

/// Which sessions to end; a session has to match every part that is given. At least one part is required, or `all`.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct KillBody {
    /// An address or prefix of the source.
    source: Option<String>,
    /// An address or prefix of the destination.
    destination: Option<String>,
    /// Addresses or prefixes, each of which has to be an end's, before or after translation.
    hosts: Vec<String>,
    /// Ports, each of which has to be an end's, before or after translation.
    ports: Vec<u16>,
    /// A flow in either direction, before or after translation; ports may be left out.
    flow: Option<String>,
    /// Name of the firewall: `fw1` or `perimeter/fw1`.
    firewall: Option<String>,
    /// Name of the virtual service.
    service: Option<String>,
    /// Name of the server: `s1` or `web/s1`.
    server: Option<String>,
    /// State of the sessions: `opening`, `established`, `closing`, `one-way` or `two-way`.
    state: Option<String>,
    /// Ends every session, instead of those that a filter selects.
    all: bool,
    /// Whether both ends of a TCP session get a reset, each from the engine on its side.
    reset: bool,
    /// The reason: one line of at most 200 characters.
    reason: Option<String>,
    /// The claimed name of the caller; on the network the name of the token is recorded instead.
    by: Option<String>,
}

impl SessionsQuery {
    /// The same query for the page after one that ended at `after`.
    pub(in crate::api) fn after(self, after: String) -> Self {
        Self { after: Some(after), ..self }
    }

    /// The engine, if one is named, and the request to it.
    pub(in crate::api) fn session_request(self) -> Result<(Option<String>, SessionRequest), ApiError> {
        let Self {
            source,
            destination,
            host,
            port,
            flow,
            firewall,
            service,
            server,
            state,
            sort,
            limit,
            after,
            engine,
        } = self;
        let words = FilterWords { source, destination, host, port, flow, firewall, service, server, state };
        let sort = sort.map(|sort| parse_word("sort", &sort, &SessionSort::ALL)).transpose()?;
        if sort.is_some() && limit.is_some_and(|limit| !(1..=PAGE_MAX).contains(&limit)) {
            return Err(ApiError::BadRequest(format!("with `sort` a `limit` is 1..={PAGE_MAX}")));
        }
        if sort.is_some() && after.is_some() {
            return Err(ApiError::BadRequest(
                "`sort` lists the first ones: `after` goes on in the table's order".to_owned(),
            ));
        }
        let after = after.map(|after| after.parse()).transpose()?;
        Ok((engine, SessionRequest { filter: words.read()?, sort, limit, after }))
    }
}

impl From<SessionRequest> for SessionsQuery {
    fn from(question: SessionRequest) -> Self {
        let SessionRequest { filter, sort, limit, after } = question;
        let FilterWords { source, destination, host, port, flow, firewall, service, server, state } = filter.into();
        let sort = sort.map(|sort| word_of(sort, &SessionSort::ALL).to_owned());
        let after = after.map(|after| after.to_string());
        let engine = None;
        Self { source, destination, host, port, flow, firewall, service, server, state, sort, limit, after, engine }
    }
}

impl ReadCall for TalkersQuery {
    fn request(self) -> Result<(Option<String>, Request), ApiError> {
        let Self { by, source, destination, host, port, flow, firewall, service, server, state, sort, limit, engine } =
            self;
        let words = FilterWords { source, destination, host, port, flow, firewall, service, server, state };
        let sort =
            sort.map(|sort| parse_word("sort", &sort, &SessionSort::ALL)).transpose()?.unwrap_or(SessionSort::Bytes);
        if matches!(sort, SessionSort::Age | SessionSort::Idle) {
            return Err(ApiError::BadRequest("sums are sorted by bytes, packets, rate or packet-rate".to_owned()));
        }
        if limit.is_some_and(|limit| !(1..=PAGE_MAX).contains(&limit)) {
            return Err(ApiError::BadRequest(format!("`limit` is 1..={PAGE_MAX}")));
        }
        let by = parse_word("by", &by, &TalkersBy::ALL)?;
        Ok((engine, Request::Talkers(TalkerRequest { filter: words.read()?, by, sort, limit })))
    }
}

impl From<TalkerRequest> for TalkersQuery {
    fn from(question: TalkerRequest) -> Self {
        let TalkerRequest { filter, by, sort, limit } = question;
        let FilterWords { source, destination, host, port, flow, firewall, service, server, state } = filter.into();
        let by = word_of(by, &TalkersBy::ALL).to_owned();
        let sort = Some(word_of(sort, &SessionSort::ALL).to_owned());
        let engine = None;
        Self { by, source, destination, host, port, flow, firewall, service, server, state, sort, limit, engine }
    }
}

impl ChangeCall for KillBody {
    fn request(self, caller: &Caller) -> Result<Request, ApiError> {
        let Self { source, destination, hosts, ports, flow, firewall, service, server, state, all, reset, reason, by } =
            self;
        let list = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(","));
        let (host, port) = (list(hosts), list(ports.iter().map(ToString::to_string).collect()));
        let filter = FilterWords { source, destination, host, port, flow, firewall, service, server, state }.read()?;
        match (filter.is_all(), all) {
            (true, false) => Err(ApiError::BadRequest("say which sessions are to end, or `all`".to_owned())),
            (false, true) => Err(ApiError::BadRequest("either a filter or `all`, not both".to_owned())),
            (true, true) | (false, false) => Ok(Request::Kill { filter, reset, reason, by: caller.by(by.as_deref()) }),
        }
    }
}

impl KillBody {
    /// The body that ends the sessions of `filter`.
    pub(in crate::api) fn new(filter: SessionFilter, reset: bool, reason: Option<String>, by: String) -> Self {
        let all = filter.is_all();
        let hosts = filter.hosts.iter().map(ToString::to_string).collect();
        let ports = filter.ports.clone();
        let FilterWords { source, destination, host: _, port: _, flow, firewall, service, server, state } =
            filter.into();
        let by = Some(by);
        Self { source, destination, hosts, ports, flow, firewall, service, server, state, all, reset, reason, by }
    }
}
