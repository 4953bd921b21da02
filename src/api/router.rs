//! The routes of one engine's control socket.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

use crate::api::call::{EventsQuery, ExplainQuery, PingBody, PlainQuery, ProbeBody, SessionsQuery};
use crate::api::call::{SetFirewallBody, SetServerBody, SetServiceBody};
use crate::api::{Answer, ApiError, Backend, Request, Via, flow_text};
use crate::time::Duration;

/// A request body is a few words.
const BODY_MAX: usize = 64 * 1024;
/// An engine answers within a second or so; one that does not is stuck or stopping.
const PATIENCE: Duration = Duration::from_secs(5);

/// The routes of one engine.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/api/v1/status", read::<B>(Request::Status))
        .route("/api/v1/links", read::<B>(Request::Links))
        .route("/api/v1/neighbors", read::<B>(Request::Neighbors))
        .route("/api/v1/firewalls", read::<B>(Request::Firewalls))
        .route("/api/v1/peers", read::<B>(Request::Peers))
        .route("/api/v1/services", read::<B>(Request::Services))
        .route("/api/v1/counters", read::<B>(Request::Counters))
        .route("/api/v1/config", read::<B>(Request::Config))
        .route("/api/v1/sessions", get(sessions::<B>))
        .route("/api/v1/events", get(events::<B>))
        .route("/api/v1/explain", get(explain::<B>))
        .route("/api/v1/firewalls/admin", put(set_firewall::<B>))
        .route("/api/v1/servers/admin", put(set_server::<B>))
        .route("/api/v1/services/admin", put(set_service::<B>))
        .route("/api/v1/probe", post(probe::<B>))
        .route("/api/v1/ping", post(ping::<B>))
        .fallback(|uri: axum::http::Uri| async move {
            ApiError::NotFound(format!("no such resource: {}", uri.path())).into_response()
        })
        .method_not_allowed_fallback(|method: axum::http::Method, uri: axum::http::Uri| async move {
            let error = ApiError::BadRequest(format!("{method} is not possible on {}", uri.path()));
            (StatusCode::METHOD_NOT_ALLOWED, Json(error))
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(backend)
}

/// A question without parameters.
fn read<B: Backend>(request: Request) -> MethodRouter<Arc<B>> {
    get(async move |State(backend): State<Arc<B>>, Query(query): Query<PlainQuery>| {
        ask(backend, query.engine, Ok(request)).await
    })
}

async fn sessions<B: Backend>(State(backend): State<Arc<B>>, Query(mut query): Query<SessionsQuery>) -> Reply {
    let engine = query.engine.take();
    ask(backend, engine, query.filter().map(Request::Sessions)).await
}

async fn events<B: Backend>(State(backend): State<Arc<B>>, Query(query): Query<EventsQuery>) -> Reply {
    ask(backend, query.engine, Ok(Request::Events { after: query.after.unwrap_or(0) })).await
}

async fn explain<B: Backend>(State(backend): State<Arc<B>>, Query(query): Query<ExplainQuery>) -> Reply {
    let flow = flow_text::parse(&query.flow).map_err(|error| ApiError::BadRequest(error.to_string()));
    let from = query.from.map(|from| from.parse()).transpose();
    let request = flow.and_then(|flow| Ok(Request::Explain { flow, from: from? }));
    ask(backend, query.engine, request).await
}

async fn set_firewall<B: Backend>(
    State(backend): State<Arc<B>>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<SetFirewallBody>,
) -> Reply {
    let SetFirewallBody { group, name, admin, reason, by } = body;
    let by = by.unwrap_or_else(|| "api".to_owned());
    ask(backend, query.engine, Ok(Request::SetFirewall { group, name, admin, reason, by })).await
}

async fn set_server<B: Backend>(
    State(backend): State<Arc<B>>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<SetServerBody>,
) -> Reply {
    let change = body.change();
    let SetServerBody { service, name, reason, by, admin: _, weight: _ } = body;
    let by = by.unwrap_or_else(|| "api".to_owned());
    let request = change.map(|change| Request::SetServer { service, name, change, reason, by });
    ask(backend, query.engine, request).await
}

async fn set_service<B: Backend>(
    State(backend): State<Arc<B>>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<SetServiceBody>,
) -> Reply {
    let SetServiceBody { name, admin, reason, by } = body;
    let by = by.unwrap_or_else(|| "api".to_owned());
    ask(backend, query.engine, Ok(Request::SetService { name, admin, reason, by })).await
}

async fn probe<B: Backend>(
    State(backend): State<Arc<B>>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<ProbeBody>,
) -> Reply {
    ask(backend, query.engine, Ok(Request::Probe { subject: body.subject })).await
}

async fn ping<B: Backend>(
    State(backend): State<Arc<B>>,
    Query(query): Query<PlainQuery>,
    Body(body): Body<PingBody>,
) -> Reply {
    let via = match (body.link, body.firewall) {
        (None, None) => Ok(None),
        (Some(link), None) => Ok(Some(Via::Link(link))),
        (None, Some(firewall)) => Ok(Some(Via::Firewall(firewall))),
        (Some(_), Some(_)) => Err(ApiError::BadRequest("either `link` or `firewall`, not both".to_owned())),
    };
    ask(backend, query.engine, via.map(|via| Request::Ping { address: body.address, via })).await
}

/// Asks the engine, unless another one was meant.
async fn ask<B: Backend>(backend: Arc<B>, engine: Option<String>, request: Result<Request, ApiError>) -> Reply {
    if let Some(other) = engine.filter(|engine| engine != backend.engine()) {
        let message = format!("engine {other:?} is not here: this is {:?}", backend.engine());
        return Reply(Err(ApiError::NotFound(message)));
    }
    let request = match request {
        Ok(request) => request,
        Err(error) => return Reply(Err(error)),
    };
    let late = |_| ApiError::Unavailable(format!("the engine did not answer within {} s", PATIENCE.as_secs()));
    Reply(tokio::time::timeout(PATIENCE, backend.ask(request)).await.map_err(late).and_then(|answer| answer))
}

/// What goes back.
struct Reply(Result<Answer, ApiError>);

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(answer) => Json(answer).into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
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
