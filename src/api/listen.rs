//! HTTP and HTTPS on the kernel's side: slow, many or foreign clients take nothing from the engines.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::api::guard::{Guard, Refusal};
use crate::api::router::guarded;
use crate::api::tls::{self, TlsError};
use crate::api::{ApiError, Backend, Engines};
use crate::config::{Tls, Token};
use crate::time::Duration;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the whole head of a request, and for a connection without one.
    pub head: Duration,
    /// For the rest of a request, and until its answer begins.
    pub answer: Duration,
    /// For a client to take the next piece of an answer.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(15));
        Self { connections: 64, handshake: short, head: long, answer: long, stall: long }
    }
}

/// For heads: names, a token, what browsers add.
const BUFFER: usize = 16 * 1024;
/// After a failure to accept, which is most often a lack of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// The page needs nothing but what comes with it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What may change while an address is served.
#[derive(Debug)]
pub struct Access {
    guard: Guard,
    tls: Option<Arc<ServerConfig>>,
}

impl Access {
    /// For `listen`, by HTTPS if there is `tls`.
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
    let places = Arc::new(Semaphore::new(limits.connections));
    // Dropping the set ends all connections.
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the API was not accepted");
                sleep(BREATH).await;
                continue;
            }
        };
        let (router, access) = (router.clone(), access.load_full());
        connections.spawn(async move {
            let served = match &access.tls {
                None => http(stream, router, limits).await,
                Some(config) => {
                    match timeout(limits.handshake, TlsAcceptor::from(Arc::clone(config)).accept(stream)).await {
                        Ok(Ok(stream)) => http(stream, router, limits).await,
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err("no TLS handshake in time".to_owned()),
                    }
                }
            };
            if let Err(error) = served {
                tracing::debug!(%from, error, "a connection to the API ended early");
            }
            drop(place);
        });
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    limits: Limits,
) -> Result<(), String> {
    let stream = TokioIo::new(Patient { stream, patience: limits.stall, stalled: None });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER).max_headers(64);
    let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
    connection.await.map_err(|error| error.to_string())
}

/// The routes behind the guard of `access`, bounded in time, with the headers of a management surface.
fn protected(router: Router, access: Arc<ArcSwap<Access>>, patience: Duration) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let access = access.load_full();
        async move { Ok::<_, Infallible>(with_headers(answer(&access.guard, request, next, patience).await)) }
    }))
}

async fn answer(guard: &Guard, mut request: Request, next: Next, patience: Duration) -> Response {
    match guard.admit(request.method(), request.uri().path(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            timeout(patience, next.run(request)).await.unwrap_or_else(|_| {
                let error = ApiError::Unavailable(format!("the request took longer than {} s", patience.as_secs()));
                (StatusCode::REQUEST_TIMEOUT, axum::Json(error)).into_response()
            })
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

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is true of an engine is true for a moment; a file of the page may say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A stream whose other end has to take what is written within `patience`.
struct Patient<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Patient<S> {
    /// Passes on what a write came to, unless it has waited for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shut)
    }
}
