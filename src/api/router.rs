//! The routes of the API, the same on the control socket and on the network.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, on};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::capture::{CaptureBody, EndQuery, Streamed};
use crate::api::console::console;
use crate::api::guard::{Caller, CallerView, User};
use crate::api::openapi::{CallSpec, ResponseSpec, call_spec};
use crate::api::{
    ApiError, Backend, Call, Done, Engines, EventFilter, Listed, Routing, SessionRequest, TalkerRequest, Verb, calls,
    capture, listing, metrics, openapi, text,
};
use crate::engine::view;
use crate::ha::explained::ExplainedHaView;
use crate::ha::view::HaView;

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
        routes::<B>().into_iter().map(|Route(spec, serve)| (spec, serve)).unzip();
    let paths: Vec<_> = described.iter().map(|spec| spec.path).collect();
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
    fn new<T: 'static>(spec: CallSpec, handler: impl Handler<T, Arc<Engines<B>>>) -> Self {
        let serve = on(spec.verb.filter(), handler);
        Self(spec, serve)
    }
}

/// Every call except those of the page.
fn routes<B: Backend>() -> Vec<Route<B>> {
    use Verb::{Delete, Get, Post};
    use openapi::{object, object_of_each, rows, rows_of_each};
    vec![
        read::<B, calls::Status>(object_of_each::<view::StatusView>()),
        read::<B, calls::Health>(object_of_each::<view::HealthView>()),
        read::<B, calls::Links>(rows::<view::LinkView>()),
        read::<B, calls::Neighbors>(rows::<view::NeighborView>()),
        read::<B, calls::Firewalls>(rows::<view::FirewallView>()),
        read::<B, calls::Peers>(rows::<view::PeerView>()),
        read::<B, calls::Services>(rows::<view::ServiceView>()),
        read::<B, calls::Ha>(rows::<HaView>()),
        may_need_force(read::<B, calls::ExplainHa>(object::<ExplainedHaView>())),
        may_need_force(change::<B, calls::HaFailover>(object::<Done>())),
        may_need_force(change::<B, calls::HaMaintenance>(object::<Done>())),
        may_need_force(change::<B, calls::HaResync>(object::<Done>())),
        read::<B, calls::Checks>(rows::<view::CheckResultView>()),
        read::<B, calls::Counters>(openapi::counters()),
        read::<B, calls::Config>(object_of_each::<view::ConfigView>()),
        read::<B, calls::Metrics>(object::<view::MeasuresView>()),
        Route::new(read_spec::<SessionRequest>(openapi::paged(rows::<view::SessionView>())), sessions::<B>),
        read::<B, TalkerRequest>(rows::<view::TalkerView>()),
        change::<B, calls::Kill>(rows::<view::KillView>()),
        read::<B, EventFilter>(rows_of_each::<view::EventView>()),
        read::<B, calls::Explain>(object::<view::ExplainView>()),
        may_need_force(change::<B, calls::SetFirewall>(object::<Done>())),
        may_need_force(change::<B, calls::SetServer>(object::<Done>())),
        change::<B, calls::SetService>(object::<Done>()),
        may_be_invalid(change::<B, calls::Reload>(object::<view::ReloadView>())),
        may_be_invalid(change::<B, calls::Rollback>(object::<view::ReloadView>())),
        may_be_invalid(change::<B, calls::Confirm>(object::<Done>())),
        may_need_force(change::<B, calls::Upgrade>(object::<view::UpgradeView>())),
        read::<B, calls::Configs>(rows_of_each::<view::KeptConfigView>()),
        may_be_invalid(change::<B, calls::Plan>(object::<view::PlanView>())),
        change::<B, calls::Probe>(rows::<view::ExchangeView>()),
        change::<B, calls::Ping>(rows::<view::ExchangeView>()),
        Route::new(
            call_spec(Post, capture::PATH, "Captures packets, in pcapng", openapi::bytes(capture::CONTENT_TYPE))
                .query::<PlainQuery>()
                .body::<CaptureBody>()
                .by_operators(),
            start_capture::<B>,
        ),
        Route::new(
            call_spec(Delete, capture::PATH, "Ends a capture", object::<Done>()).query::<EndQuery>().by_operators(),
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

/// The description of a reading call.
fn read_spec<C: Call + IntoParams>(response: ResponseSpec) -> CallSpec {
    let spec = call_spec(C::METHOD, C::PATH, C::SUMMARY, response).query::<C>();
    match C::ROUTING {
        Routing::Each | Routing::EachByTime => spec.query::<EachQuery>(),
        Routing::Knowing | Routing::One => spec.query::<OneQuery>(),
    }
}

/// A reading call.
fn read<B: Backend, C: Listed + IntoParams>(response: ResponseSpec) -> Route<B> {
    let ask = async move |State(engines): Served<B>, Asked { engine, call }: Asked<C>| -> Reply {
        engines.ask(engine.as_deref(), call).await.map(Json)
    };
    Route::new(read_spec::<C>(response), ask)
}

/// A changing call, which only operators may make.
fn change<B: Backend, C: Listed + ToSchema>(response: ResponseSpec) -> Route<B> {
    let ask = async move |State(engines): Served<B>,
                          Extension(caller): Extension<Caller>,
                          Query(query): Query<PlainQuery>,
                          Body(call): Body<C>|
                -> Reply {
        only_operators(&caller)?;
        engines.ask(query.engine.as_deref(), call.checked(&caller)?).await.map(Json)
    };
    let spec = call_spec(C::METHOD, C::PATH, C::SUMMARY, response).query::<PlainQuery>().body::<C>().by_operators();
    Route::new(spec, ask)
}

/// Marks a call that may be refused because its file is invalid.
fn may_be_invalid<B>(Route(spec, serve): Route<B>) -> Route<B> {
    Route(spec.refused_with(&[StatusCode::UNPROCESSABLE_ENTITY]), serve)
}

/// Marks a call that may have to be repeated with `force`.
fn may_need_force<B>(Route(spec, serve): Route<B>) -> Route<B> {
    Route(spec.refused_with(&[StatusCode::CONFLICT]), serve)
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
    Asked { engine, call }: Asked<SessionRequest>,
) -> Result<Response, ApiError> {
    listing::list(&engines, engine.as_deref(), call).await
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
) -> Result<Json<Done>, ApiError> {
    only_operators(&caller)?;
    engines.one(query.engine.as_deref())?.end_capture(&query.id)?;
    Ok(Json(Done::from(format!("capture {} ends", query.id))))
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

/// Names the engine of several.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainQuery {
    /// The engine; absent: the only one, or all of them where rows can be told apart.
    pub(super) engine: Option<String>,
}

/// Names the engine of a reading call that goes to all.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it is described, and read with the parameters of the call")]
struct EachQuery {
    /// The engine; absent: every one.
    engine: Option<String>,
}

/// Names the engine of a reading call that goes to one.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it is described, and read with the parameters of the call")]
struct OneQuery {
    /// The engine; absent: the only one.
    engine: Option<String>,
}

fn parameter_names<C: IntoParams>() -> Vec<String> {
    C::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
}

/// A reading call, and the engine that its query names.
struct Asked<C> {
    engine: Option<String>,
    call: C,
}

impl<S: Send + Sync, C: Call + IntoParams> FromRequestParts<S> for Asked<C> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        const ENGINE: &str = "engine";
        let bad =
            |key: &str, what: &str| ApiError::BadRequest(format!("Failed to deserialize query string: {key}: {what}"));
        let text = parts.uri.query().unwrap_or_default();
        let mut pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(text).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let mut known = parameter_names::<C>();
        known.push(ENGINE.to_owned());
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !known.contains(key)) {
            let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            let expected = match known.as_slice() {
                [one] => one.clone(),
                [one, other] => format!("{one} or {other}"),
                all => format!("one of {}", all.join(", ")),
            };
            return Err(bad(key, &format!("unknown field `{key}`, expected {expected}")));
        }
        let mut engines = pairs.extract_if(.., |(key, _)| key == ENGINE).map(|(_, engine)| engine);
        let engine = engines.next();
        if engines.next().is_some() {
            return Err(bad(ENGINE, "duplicate field `engine`"));
        }
        drop(engines);
        let query = serde_urlencoded::to_string(&pairs).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let uri = Uri::try_from(format!("/?{query}")).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let call = axum::extract::Query::try_from_uri(&uri).map_err(|rejection| unreadable(rejection.body_text()))?;
        Ok(Self { engine, call: call.0 })
    }
}

/// The error of a query or body that cannot be read.
fn unreadable(why: String) -> ApiError {
    ApiError::BadRequest(text::message(why))
}

/// A query whose errors are answered in JSON.
struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| unreadable(rejection.body_text()))
    }
}

/// A JSON body whose errors are answered in JSON.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::from_request(request, state).await;
        body.map(|body: Json<T>| Self(body.0)).map_err(|rejection| unreadable(rejection.body_text()))
    }
}
