//! Calls about sessions. Their filters are text in a query or body, and parsed everywhere else.

use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::{
    FilterWords, PAGE_MAX, SessionFilter, SessionPage, SessionRequest, SessionSort, TalkerRequest, TalkersBy, paging,
    parse_word,
};
use crate::api::ApiError;
use crate::api::calls::changes::{checked_attribution, named, one_line};
use crate::api::calls::{Call, Routing, Verb};
use crate::api::guard::Caller;
use crate::api::text::Verbatim;
use crate::engine::view;

/// Defines a query with the words of a filter, and with fields of its own. The words are no struct that is flattened
/// into it, because serde could not deny unknown fields then.
macro_rules! session_query {
    ($(#[$about:meta])* $name:ident { $($(#[$text:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Serialize, Deserialize, IntoParams)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
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
            $($(#[$text])* $field: $type,)*
        }

        impl $name {
            /// The words of the filter, and the fields of its own in their order.
            fn split(self) -> (FilterWords, ($($type,)*)) {
                let Self { source, destination, host, port, flow, firewall, service, server, state, $($field,)* } = self;
                let words = FilterWords { source, destination, host, port, flow, firewall, service, server, state };
                (words, ($($field,)*))
            }

            /// The query of these words and fields.
            fn join(words: FilterWords, ($($field,)*): ($($type,)*)) -> Self {
                let FilterWords { source, destination, host, port, flow, firewall, service, server, state } = words;
                Self { source, destination, host, port, flow, firewall, service, server, state, $($field,)* }
            }
        }
    };
}

session_query! {
    /// Which sessions to list; a session has to match every part that is given.
    SessionsQuery {
        /// The value by which to sort, largest first: `packets`, `bytes`, `rate` (bits per second), `packet-rate`, `age`
        /// or `idle`. Measuring rates takes half a second.
        sort: Option<String>,
        /// Number of sessions of each engine, at most; default 1000; 0: all, streamed as they are found.
        limit: Option<usize>,
        /// Continues where another answer ended; its `Link` header has the value.
        after: Option<String>,
    }
}

session_query! {
    /// Which sessions to add up, and by what.
    TalkersQuery {
        /// By what to add up: `source`, `destination`, `service`, `server` or `firewall`.
        by: String,
        /// The sum by which to sort, largest first: `bytes` (default), `packets`, `rate` (bits per second) or
        /// `packet-rate`.
        sort: Option<String>,
        /// Number of sums of each engine, at most, 1..=10000; default 1000.
        limit: Option<usize>,
    }
}

/// Which sessions to end; a session has to match every part that is given. At least one part is required, or `all`.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct KillBody {
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

/// Which sessions to end (`kill`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KillBody", into = "KillBody")]
pub struct Kill {
    /// The sessions to end.
    pub filter: SessionFilter,
    /// Whether both ends of a TCP session get a reset.
    pub reset: bool,
    /// The operator's reason.
    pub reason: Option<String>,
    /// The operator.
    pub by: Option<String>,
}

impl Call for SessionRequest {
    const PATH: &'static str = "/api/v1/sessions";
    const SUMMARY: &'static str = "Live sessions";
    const ROUTING: Routing = Routing::Each;
    /// One page.
    type Answer = SessionPage;

    fn with_head(page: SessionPage, head: &axum::http::HeaderMap) -> SessionPage {
        paging::with_cursor(page, head)
    }
}

impl Call for TalkerRequest {
    const PATH: &'static str = "/api/v1/talkers";
    const SUMMARY: &'static str = "Sums of live sessions, the largest first";
    const ROUTING: Routing = Routing::Each;
    type Answer = Vec<view::TalkerView>;
}

impl Call for Kill {
    const METHOD: Verb = Verb::Post;
    const PATH: &'static str = "/api/v1/sessions/kill";
    const SUMMARY: &'static str = "Ends sessions";
    const ROUTING: Routing = Routing::Knowing;
    const WALKS_OVER_SESSIONS: bool = true;
    /// One view per engine.
    type Answer = Vec<view::KillView>;

    checked_attribution!();
}

impl IntoParams for SessionRequest {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        SessionsQuery::into_params(place)
    }
}

impl IntoParams for TalkerRequest {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        TalkersQuery::into_params(place)
    }
}

impl PartialSchema for Kill {
    fn schema() -> RefOr<Schema> {
        KillBody::schema()
    }
}

impl ToSchema for Kill {
    fn name() -> std::borrow::Cow<'static, str> {
        KillBody::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        KillBody::schemas(schemas);
    }
}

impl TryFrom<SessionsQuery> for SessionRequest {
    type Error = Verbatim;

    fn try_from(query: SessionsQuery) -> Result<Self, Verbatim> {
        let (words, (sort, limit, after)) = query.split();
        let sort = sort.map(|sort| parse_word("sort", &sort, &SessionSort::CHOICES)).transpose()?;
        if sort.is_some() && limit.is_some_and(|limit| !(1..=PAGE_MAX).contains(&limit)) {
            return Err(ApiError::BadRequest(format!("with `sort` a `limit` is 1..={PAGE_MAX}")).into());
        }
        if sort.is_some() && after.is_some() {
            let refusal = "`sort` lists the first ones: `after` goes on in the table's order";
            return Err(ApiError::BadRequest(refusal.to_owned()).into());
        }
        let after = after.map(|after| after.parse()).transpose()?;
        Ok(Self { filter: words.read()?, sort, limit, after })
    }
}

impl From<SessionRequest> for SessionsQuery {
    fn from(request: SessionRequest) -> Self {
        let SessionRequest { filter, sort, limit, after } = request;
        let sort = sort.map(|sort| sort.name().to_owned());
        let after = after.map(|after| after.to_string());
        Self::join(filter.into(), (sort, limit, after))
    }
}

impl TryFrom<TalkersQuery> for TalkerRequest {
    type Error = Verbatim;

    fn try_from(query: TalkersQuery) -> Result<Self, Verbatim> {
        let (words, (by, sort, limit)) = query.split();
        let sort = sort
            .map(|sort| parse_word("sort", &sort, &SessionSort::CHOICES))
            .transpose()?
            .unwrap_or(SessionSort::Bytes);
        if matches!(sort, SessionSort::Age | SessionSort::Idle) {
            let refusal = "sums are sorted by bytes, packets, rate or packet-rate";
            return Err(ApiError::BadRequest(refusal.to_owned()).into());
        }
        if limit.is_some_and(|limit| !(1..=PAGE_MAX).contains(&limit)) {
            return Err(ApiError::BadRequest(format!("`limit` is 1..={PAGE_MAX}")).into());
        }
        let by = parse_word("by", &by, &TalkersBy::CHOICES)?;
        Ok(Self { filter: words.read()?, by, sort, limit })
    }
}

impl From<TalkerRequest> for TalkersQuery {
    fn from(request: TalkerRequest) -> Self {
        let TalkerRequest { filter, by, sort, limit } = request;
        Self::join(filter.into(), (by.name().to_owned(), Some(sort.name().to_owned()), limit))
    }
}

impl TryFrom<KillBody> for Kill {
    type Error = Verbatim;

    fn try_from(body: KillBody) -> Result<Self, Verbatim> {
        let KillBody {
            source,
            destination,
            hosts,
            ports,
            flow,
            firewall,
            service,
            server,
            state,
            all,
            reset,
            reason,
            by,
        } = body;
        let list = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(","));
        let (host, port) = (list(hosts), list(ports.iter().map(ToString::to_string).collect()));
        let filter = FilterWords { source, destination, host, port, flow, firewall, service, server, state }.read()?;
        match (filter.is_all(), all) {
            (true, false) => Err(ApiError::BadRequest("say which sessions are to end, or `all`".to_owned()).into()),
            (false, true) => Err(ApiError::BadRequest("either a filter or `all`, not both".to_owned()).into()),
            (true, true) | (false, false) => Ok(Self { filter, reset, reason, by }),
        }
    }
}

impl From<Kill> for KillBody {
    fn from(Kill { filter, reset, reason, by }: Kill) -> Self {
        let all = filter.is_all();
        let hosts = filter.hosts.iter().map(ToString::to_string).collect();
        let ports = filter.ports.clone();
        let FilterWords { source, destination, host: _, port: _, flow, firewall, service, server, state } =
            filter.into();
        Self { source, destination, hosts, ports, flow, firewall, service, server, state, all, reset, reason, by }
    }
}
