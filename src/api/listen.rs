//! Serves HTTP and HTTPS on network addresses, and HTTP on control sockets. Slow, numerous or foreign clients take
//! nothing from the engines, and no client takes all connections from the others.

mod busy;
mod connection_table;
mod stall;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::api::guard::{Guard, Refusal, User};
use crate::api::router::guarded;
use crate::api::tls::{self, TlsError};
use crate::api::{ApiError, Backend, Engines, SESSION_WALK_TIMEOUT};
use crate::config::{Tls, Token};
use crate::time::Duration;

use busy::BusyService;
use connection_table::{ClientOrigin, ConnectionLimits, ConnectionSlot, ConnectionTable};
use stall::StallGuard;

/// Limits on what clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of connections at once. When it is reached, an idle connection is closed for a new one.
    pub connections: usize,
    /// Number of connections at once from one address (for IPv6 one /64), or from one process on a control socket.
    pub per_origin: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for the whole head of a request, and of a connection without a request.
    pub head: Duration,
    /// Time for the rest of a request, and until its answer begins.
    pub answer: Duration,
    /// Time for a client to take the next 32 KiB of an answer, or its rest.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(15));
        Self { connections: 128, per_origin: 32, handshake: short, head: short, answer: long, stall: long }
    }
}

impl Limits {
    /// The limits of a control socket. Whoever opens it may do everything, so only mistakes have to be bounded. The
    /// reader of a capture may be slow, for example a pipe into a pager.
    pub fn of_socket() -> Self {
        let long = Duration::from_secs(60);
        Self { per_origin: 64, answer: SESSION_WALK_TIMEOUT + long, stall: long, ..Self::default() }
    }

    fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits { total: self.connections, per_origin: self.per_origin }
    }
}

/// Bytes for the head of a request.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after a failure to accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The content security policy: the page uses only what it is served with.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The access rules of an address, which may change while it is served.
#[derive(Debug)]
pub struct Access {
    guard: Guard,
    tls: Option<Arc<ServerConfig>>,
}

impl Access {
    /// The access rules of `listen`, over HTTPS if there is `tls`.
    pub fn new(listen: SocketAddr, tls: Option<&Tls>, tokens: Vec<Token>) -> Result<Self, TlsError> {
        let guard = Guard::new(listen, tls.is_some(), tokens);
        Ok(Self { guard, tls: tls.map(tls::server).transpose()? })
    }
}

/// Serves `engines` on `listener` until dropped.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    engines: Arc<Engines<B>>,
    access: Arc<ArcSwap<Access>>,
    limits: Limits,
) {
    let router = protected(guarded(engines), Arc::clone(&access), limits.answer);
    let mut connections = Connections::new(limits);
    let mut trouble = AcceptErrors::default();
    loop {
        let Some((stream, from)) = trouble.report(listener.accept().await, "the API") else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, access) = (router.clone(), access.load_full());
        connections.serve(ClientOrigin::of(from), async move |place| match &access.tls {
            None => http(stream, router, place, limits).await,
            Some(config) => {
                match timeout(limits.handshake, TlsAcceptor::from(Arc::clone(config)).accept(stream)).await {
                    Ok(Ok(stream)) => http(stream, router, place, limits).await,
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no TLS handshake in time".to_owned()),
                }
            }
        });
    }
}

/// Serves `router` on the control socket `listener` until dropped. `opener` finds the user at the other end.
pub async fn serve_socket(
    listener: UnixListener,
    router: Router,
    opener: impl Fn(&UnixStream) -> Option<User>,
    limits: Limits,
) {
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        Ok::<_, Infallible>(within(limits.answer, next.run(request)).await)
    }));
    let mut connections = Connections::new(limits);
    let mut trouble = AcceptErrors::default();
    loop {
        let Some((stream, _)) = trouble.report(listener.accept().await, "a control socket") else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let router = match opener(&stream) {
            Some(user) => router.clone().layer(Extension(user)),
            None => router.clone(),
        };
        connections.serve(ClientOrigin::Process(process), async move |place| http(stream, router, place, limits).await);
    }
}

/// Reports failures to accept connections: once when they begin, and not again for as long as they last.
#[derive(Debug, Default)]
struct AcceptErrors {
    is_reported: bool,
}

impl AcceptErrors {
    fn report<T>(&mut self, accepted: std::io::Result<T>, what: &str) -> Option<T> {
        let error = match accepted {
            Ok(accepted) => {
                self.is_reported = false;
                return Some(accepted);
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut self.is_reported, true) {
            let help =
                "too many open files: raise LimitNOFILE= of the unit (ulimit -n); others wait until connections end";
            tracing::warn!(%error, help, "connections to {what} are not accepted");
        }
        None
    }
}

/// The connections of one listener; dropping it closes them all.
struct Connections {
    table: ConnectionTable,
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(limits: Limits) -> Self {
        Self { table: ConnectionTable::new(limits.connection_limits()), tasks: JoinSet::new() }
    }

    /// Serves a connection of `origin`, if there is room for it.
    fn serve<F>(&mut self, origin: ClientOrigin, serve: impl FnOnce(ConnectionSlot) -> F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        let Some(place) = self.table.admit(origin) else {
            tracing::debug!(?origin, "no room for a connection to the API");
            return;
        };
        let id = place.id();
        let served = serve(place);
        let task = self.tasks.spawn(async move {
            if let Err(error) = served.await {
                tracing::debug!(?origin, error, "a connection to the API ended early");
            }
        });
        self.table.set_task(id, task);
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    place: ConnectionSlot,
    limits: Limits,
) -> Result<(), String> {
    let stream = TokioIo::new(StallGuard::new(stream, limits.stall));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES).max_headers(64);
    let connection = builder.serve_connection(stream, BusyService::new(router, place));
    connection.await.map_err(|error| error.to_string())
}

/// Adds the access rules, the time limit and the security headers to the routes.
fn protected(router: Router, access: Arc<ArcSwap<Access>>, timeout: Duration) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let access = access.load_full();
        async move { Ok::<_, Infallible>(with_headers(answer(&access.guard, request, next, timeout).await)) }
    }))
}

async fn answer(guard: &Guard, mut request: Request, next: Next, timeout: Duration) -> Response {
    match guard.admit(request.method(), request.uri().path(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            within(timeout, next.run(request)).await
        }
        Err(Refusal { status, error }) => {
            let mut response = (status, axum::Json(error)).into_response();
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// The response, or the error that it takes too long.
async fn within(timeout: Duration, answer: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
        let error = ApiError::Unavailable(format!("the request took longer than {} s", timeout.as_secs()));
        (StatusCode::REQUEST_TIMEOUT, axum::Json(error)).into_response()
    })
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Data of an engine is true only for a moment; files of the page set a header of their own.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
