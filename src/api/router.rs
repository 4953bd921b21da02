//! The routes of the API, the same on the control socket and on the network.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, on};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::capture::{CaptureBody, EndQuery, Streamed};
use crate::api::console::console;
use crate::api::guard::{Caller, CallerView, User};
use crate::api::openapi::{CallSpec, ResponseSpec, Verb, call_spec};
use crate::api::parameters::{
    ChangeCall, ConfigQuery, EventsQuery, ExplainQuery, PingBody, PlainQuery, ProbeBody, ReadCall,
};
use crate::api::parameters::{ChecksQuery, SetServiceBody, TalkersQuery};
use crate::api::parameters::{
    ConfirmBody, KillBody, PlanBody, ReloadBody, RollbackBody, SessionsQuery, SetFirewallBody, SetServerBody,
};
use crate::api::{Answer, ApiError, Backend, Done, Engines, Request, capture, listing, metrics, openapi};
use crate::engine::view;

/// Bytes of a request body, at most; most have a few words.
const BODY_MAX: usize = 64 * 1024;

/// The routes of a control socket: one engine, and every caller may do everything. An outer layer may add the caller's
/// [`User`] as an extension.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    guarded(Arc::new(Engines::new(vec![backend]))).layer(map_request(with_user)).layer(map_response(with_version))
}

/// Sets the caller: the user who opened the connection, if known.
async fn with_user(mut request: axum::extract::Request) -> axum::extract::Request {
    let user = request.extensions().get::<User>().cloned();
    request.extensions_mut().insert(Caller::Socket(user));
    request
}

/// Adds the engine's version to a response, so that a client of another version can say so.
async fn with_version(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static(concat!("fwlb/", env!("CARGO_PKG_VERSION"))));
    response
}

/// The routes of these engines. An outer layer has to add the [`Caller`] as an extension.
pub(super) fn guarded<B: Backend>(engines: Arc<Engines<B>>) -> Router {
    let (described, served): (Vec<_>, Vec<_>) =
        routes::<B>().into_iter().map(|Route(said, serve)| (said, serve)).unzip();
    let paths: Vec<_> = described.iter().map(|said| said.path).collect();
    let document: Bytes = openapi::document(described).into();
    paths
        .into_iter()
        .zip(served)
        .fold(Router::new(), |router, (path, serve)| router.route(path, serve))
        .merge(console())
        .layer(Extension(Document(document)))
        .fallback(|uri: axum::http::Uri| async move {
            ApiError::NotFound(format!("no such resource: {}", uri.path())).into_response()
        })
        .method_not_allowed_fallback(|method: axum::http::Method, uri: axum::http::Uri| async move {
            let error = ApiError::BadRequest(format!("{method} is not possible on {}", uri.path()));
            (StatusCode::METHOD_NOT_ALLOWED, Json(error))
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(engines)
}

/// A call with its description and its handler: nothing is served that is not described.
struct Route<B>(CallSpec, MethodRouter<Arc<Engines<B>>>);

impl<B: Backend> Route<B> {
    /// Serves a call by the method with which it is described.
    fn new<T: 'static>(said: CallSpec, handler: impl Handler<T, Arc<Engines<B>>>) -> Self {
        let serve = on(said.verb.filter(), handler);
        Self(said, serve)
    }
}

/// Every call except those of the page.
fn routes<B: Backend>() -> Vec<Route<B>> {
    use Verb::{Delete, Get, Post, Put};
    use openapi::{object, object_of_each, rows, rows_of_each};
    use view::{
        CheckResultView, ConfigView, EventView, ExchangeView, ExplainView, FirewallView, HealthView, KeptConfigView,
        LinkView, MeasuresView, NeighborView, PeerView,
    };
    use view::{KillView, PlanView, ReloadView, ServiceView, SessionView, StatusView, TalkerView};
    const CAPTURE: &str = "/api/v1/capture";
    vec![
        plain("/api/v1/status", Request::Status, "Alarms and overrides of the engine", object_of_each::<StatusView>()),
        plain("/api/v1/health", Request::Health, "Whether the engine forwards", object_of_each::<HealthView>()),
        plain("/api/v1/links", Request::Links, "Links, as `ip -s link`", rows::<LinkView>()),
        plain("/api/v1/neighbors", Request::Neighbors, "Neighbours, as `ip neigh`", rows::<NeighborView>()),
        plain("/api/v1/firewalls", Request::Firewalls, "Firewalls and their paths", rows::<FirewallView>()),
        plain("/api/v1/peers", Request::Peers, "The engines on the far sides", rows::<PeerView>()),
        plain("/api/v1/services", Request::Services, "Services and their servers", rows::<ServiceView>()),
        reads::<B, ChecksQuery>(
            "/api/v1/checks",
            "The last results of checks, oldest first",
            rows::<CheckResultView>(),
        ),
        plain("/api/v1/counters", Request::Counters, "Counters of one instant", openapi::counters()),
        reads::<B, ConfigQuery>("/api/v1/config", "The configuration in force", object_of_each::<ConfigView>()),
        plain("/api/v1/measures", Request::Metrics, "All measurements, as for `/metrics`", object::<MeasuresView>()),
        Route::new(
            call_spec(Get, "/api/v1/sessions", "Live sessions", openapi::paged(rows::<SessionView>()))
                .query::<SessionsQuery>(),
            sessions::<B>,
        ),
        reads::<B, TalkersQuery>("/api/v1/talkers", "Sums of live sessions, the largest first", rows::<TalkerView>()),
        changes::<B, KillBody>(Post, "/api/v1/sessions/kill", "Ends sessions", rows::<KillView>()),
        reads::<B, EventsQuery>("/api/v1/events", "State changes, oldest first", rows_of_each::<EventView>()),
        reads::<B, ExplainQuery>("/api/v1/explain", "Where a flow goes, and why", object::<ExplainView>()),
        may_need_force(changes::<B, SetFirewallBody>(
            Put,
            "/api/v1/firewalls/admin",
            "Sets the state of a firewall",
            object::<Done>(),
        )),
        may_need_force(changes::<B, SetServerBody>(
            Put,
            "/api/v1/servers/admin",
            "Sets the state or weight of a server",
            object::<Done>(),
        )),
        changes::<B, SetServiceBody>(Put, "/api/v1/services/admin", "Sets the state of a service", object::<Done>()),
        may_be_invalid(changes::<B, ReloadBody>(
            Post,
            "/api/v1/reload",
            "Applies a configuration",
            object::<ReloadView>(),
        )),
        may_be_invalid(changes::<B, RollbackBody>(
            Post,
            "/api/v1/rollback",
            "Returns to an earlier configuration",
            object::<ReloadView>(),
        )),
        may_be_invalid(changes::<B, ConfirmBody>(
            Post,
            "/api/v1/confirm",
            "Confirms the configuration in force",
            object::<Done>(),
        )),
        plain(
            "/api/v1/configs",
            Request::Configs,
            "The last configurations, newest first",
            rows_of_each::<KeptConfigView>(),
        ),
        may_be_invalid(changes::<B, PlanBody>(Post, "/api/v1/plan", "What a reload would do", object::<PlanView>())),
        changes::<B, ProbeBody>(Post, "/api/v1/probe", "Checks a member at once", rows::<ExchangeView>()),
        changes::<B, PingBody>(Post, "/api/v1/ping", "Pings from the engine", rows::<ExchangeView>()),
        Route::new(
            call_spec(Post, CAPTURE, "Captures packets, in pcapng", openapi::bytes(capture::CONTENT_TYPE))
                .query::<PlainQuery>()
                .body::<CaptureBody>()
                .by_operators(),
            start_capture::<B>,
        ),
        Route::new(
            call_spec(Delete, CAPTURE, "Ends a capture", object::<Done>()).query::<EndQuery>().by_operators(),
            end_capture::<B>,
        ),
        Route::new(
            call_spec(Get, "/metrics", "Metrics for Prometheus", openapi::text(&metrics::KINDS)).query::<PlainQuery>(),
            metrics::<B>,
        ),
        Route::new(
            call_spec(
                Get,
                "/healthz",
                "200 while the engines forward, else 503 with the reasons",
                openapi::text(&["text/plain"]),
            )
            .query::<PlainQuery>(),
            healthz::<B>,
        ),
        Route::new(call_spec(Get, "/api/v1/caller", "The caller, and what he may do", object::<CallerView>()), caller),
        Route::new(call_spec(Get, "/api/v1/openapi.json", "This document", openapi::untyped_object()), document),
    ]
}

type Served<B> = State<Arc<Engines<B>>>;
type Reply = Result<Json<Value>, ApiError>;

/// A reading call without parameters.
fn plain<B: Backend>(path: &'static str, request: Request, summary: &str, answered: ResponseSpec) -> Route<B> {
    let ask = async move |State(engines): Served<B>, Query(query): Query<PlainQuery>| -> Reply {
        engines.ask(query.engine.as_deref(), request).await.map(Json)
    };
    Route::new(call_spec(Verb::Get, path, summary, answered).query::<PlainQuery>(), ask)
}

/// A reading call with parameters.
fn reads<B: Backend, Q: ReadCall + 'static>(path: &'static str, summary: &str, answered: ResponseSpec) -> Route<B> {
    Route::new(call_spec(Verb::Get, path, summary, answered).query::<Q>(), read::<B, Q>)
}

/// A changing call, which only operators may make.
fn changes<B: Backend, O: ChangeCall + 'static>(
    verb: Verb,
    path: &'static str,
    summary: &str,
    answered: ResponseSpec,
) -> Route<B> {
    let said = call_spec(verb, path, summary, answered).query::<PlainQuery>().body::<O>().by_operators();
    Route::new(said, change::<B, O>)
}

/// Marks a call that may be refused because its file is invalid.
fn may_be_invalid<B>(Route(said, serve): Route<B>) -> Route<B> {
    Route(said.refused_with(&[StatusCode::UNPROCESSABLE_ENTITY]), serve)
}

/// Marks a call that may have to be repeated with `force`.
fn may_need_force<B>(Route(said, serve): Route<B>) -> Route<B> {
    Route(said.refused_with(&[StatusCode::CONFLICT]), serve)
}

/// The OpenAPI document of the routes.
#[derive(Clone)]
struct Document(Bytes);

async fn caller(Extension(caller): Extension<Caller>) -> Json<CallerView> {
    Json(caller.view())
}

async fn document(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

async fn metrics<B: Backend>(
    State(engines): Served<B>,
    Query(query): Query<PlainQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let measured = engines.metrics(query.engine.as_deref()).await?;
    let page = metrics::page(&headers, measured, engines.process());
    let (kind, page) = page.map_err(|_| ApiError::Unavailable("the metrics could not be written".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, kind)], page).into_response())
}

/// Answers load balancers, container engines and monitors that look at the HTTP status only.
async fn healthz<B: Backend>(State(engines): Served<B>, Query(query): Query<PlainQuery>) -> Result<Response, ApiError> {
    let mut problems = String::new();
    for health in engines.health(query.engine.as_deref()).await? {
        for problem in &health.problems {
            problems += &format!("{}: {}\n", health.engine, problem.reason);
        }
    }
    Ok(match problems.is_empty() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, problems).into_response(),
    })
}

async fn sessions<B: Backend>(
    State(engines): Served<B>,
    Query(query): Query<SessionsQuery>,
) -> Result<Response, ApiError> {
    listing::list(&engines, query).await
}

async fn read<B: Backend, Q: ReadCall>(State(engines): Served<B>, Query(query): Query<Q>) -> Reply {
    let (engine, request) = query.request()?;
    engines.ask(engine.as_deref(), request).await.map(Json)
}

async fn change<B: Backend, O: ChangeCall>(
    State(engines): Served<B>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<O>,
) -> Reply {
    only_operators(&caller)?;
    engines.ask(query.engine.as_deref(), body.request(&caller)?).await.map(Json)
}

/// Starts a capture. Packets contain other people's data, so only callers who may change something may see them.
async fn start_capture<B: Backend>(
    State(engines): Served<B>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<CaptureBody>,
) -> Result<Streamed, ApiError> {
    only_operators(&caller)?;
    engines.one(query.engine.as_deref())?.capture(body.request()?).map(Streamed)
}

async fn end_capture<B: Backend>(
    State(engines): Served<B>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<EndQuery>,
) -> Result<Json<Answer>, ApiError> {
    only_operators(&caller)?;
    engines.one(query.engine.as_deref())?.end_capture(&query.id)?;
    Ok(Json(Answer::Done(Done::from(format!("capture {} ends", query.id)))))
}

fn only_operators(caller: &Caller) -> Result<(), ApiError> {
    let refused = || ApiError::Forbidden("only an operator may do that".to_owned());
    caller.may_change().then_some(()).ok_or_else(refused)
}

impl ApiError {
    /// The HTTP status of the error.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(self)).into_response()
    }
}

/// A query whose errors are answered in JSON.
struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| ApiError::BadRequest(rejection.body_text()))
    }
}

/// A JSON body whose errors are answered in JSON.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::from_request(request, state).await;
        body.map(|body: Json<T>| Self(body.0)).map_err(|rejection| ApiError::BadRequest(rejection.body_text()))
    }
}
