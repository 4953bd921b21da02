//! The routes, the same on the control socket and on the network.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::capture::{CaptureBody, EndQuery, Streamed};
use crate::api::console::console;
use crate::api::guard::Caller;
use crate::api::parameters::{EventsQuery, ExplainQuery, Order, PingBody, PlainQuery, ProbeBody, Question};
use crate::api::parameters::{PlanBody, ReloadBody, SessionsQuery, SetFirewallBody, SetServerBody, SetServiceBody};
use crate::api::{Answer, ApiError, Backend, Engines, Request, metrics};

/// A request body is a few words.
const BODY_MAX: usize = 64 * 1024;

/// What a control socket serves: one engine, and whoever may open the socket may do everything.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    guarded(Arc::new(Engines::new(vec![backend]))).layer(Extension(Caller::Socket)).layer(map_response(say_version))
}

/// Whoever asks over the socket is told by whom he was answered: a client of another version can say so.
async fn say_version(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static(concat!("fwlb/", env!("CARGO_PKG_VERSION"))));
    response
}

/// The routes of these engines. An outer layer has to say who asks, by an extension with the [`Caller`].
pub(super) fn guarded<B: Backend>(engines: Arc<Engines<B>>) -> Router {
    Router::new()
        .route("/api/v1/status", plain::<B>(Request::Status))
        .route("/api/v1/links", plain::<B>(Request::Links))
        .route("/api/v1/neighbors", plain::<B>(Request::Neighbors))
        .route("/api/v1/firewalls", plain::<B>(Request::Firewalls))
        .route("/api/v1/peers", plain::<B>(Request::Peers))
        .route("/api/v1/services", plain::<B>(Request::Services))
        .route("/api/v1/counters", plain::<B>(Request::Counters))
        .route("/api/v1/config", plain::<B>(Request::Config))
        .route("/api/v1/measures", plain::<B>(Request::Measures))
        .route("/api/v1/sessions", get(question::<B, SessionsQuery>))
        .route("/api/v1/events", get(question::<B, EventsQuery>))
        .route("/api/v1/explain", get(question::<B, ExplainQuery>))
        .route("/api/v1/firewalls/admin", put(order::<B, SetFirewallBody>))
        .route("/api/v1/servers/admin", put(order::<B, SetServerBody>))
        .route("/api/v1/services/admin", put(order::<B, SetServiceBody>))
        .route("/api/v1/reload", post(order::<B, ReloadBody>))
        .route("/api/v1/plan", post(order::<B, PlanBody>))
        .route("/api/v1/probe", post(order::<B, ProbeBody>))
        .route("/api/v1/ping", post(order::<B, PingBody>))
        .route("/api/v1/capture", post(capture::<B>).delete(end_capture::<B>))
        .route("/metrics", get(metrics::<B>))
        .merge(console())
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

type Served<B> = State<Arc<Engines<B>>>;
type Reply = Result<Json<Value>, ApiError>;

/// A question without parameters.
fn plain<B: Backend>(request: Request) -> MethodRouter<Arc<Engines<B>>> {
    get(async move |State(engines): Served<B>, Query(query): Query<PlainQuery>| -> Reply {
        engines.ask(query.engine.as_deref(), request).await.map(Json)
    })
}

async fn metrics<B: Backend>(
    State(engines): Served<B>,
    Query(query): Query<PlainQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let measured = engines.measures(query.engine.as_deref()).await?;
    let page = metrics::page(&headers, measured, engines.process());
    let (kind, page) = page.map_err(|_| ApiError::Unavailable("the metrics could not be written".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, kind)], page).into_response())
}

async fn question<B: Backend, Q: Question>(State(engines): Served<B>, Query(query): Query<Q>) -> Reply {
    let (engine, request) = query.request()?;
    engines.ask(engine.as_deref(), request).await.map(Json)
}

async fn order<B: Backend, O: Order>(
    State(engines): Served<B>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<O>,
) -> Reply {
    only_operators(&caller)?;
    engines.ask(query.engine.as_deref(), body.request(&caller)?).await.map(Json)
}

/// Packets are other people's letters: who may not change anything may not see them either.
async fn capture<B: Backend>(
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
    Ok(Json(Answer::Done { done: format!("capture {} ends", query.id) }))
}

fn only_operators(caller: &Caller) -> Result<(), ApiError> {
    let refused = || ApiError::Forbidden("only an operator may do that".to_owned());
    caller.may_change().then_some(()).ok_or_else(refused)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(self)).into_response()
    }
}

/// A query whose mistakes are answered in JSON.
struct Query<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| ApiError::BadRequest(rejection.body_text()))
    }
}

/// A JSON body whose mistakes are answered in JSON.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::from_request(request, state).await;
        body.map(|body: Json<T>| Self(body.0)).map_err(|rejection| ApiError::BadRequest(rejection.body_text()))
    }
}
