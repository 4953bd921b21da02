//! Marks a connection as busy while a request is answered: from the end of its head until the last byte of the answer
//! is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::connection_table::{Busy, ConnectionSlot};

/// Serves the requests of one connection.
#[derive(Debug)]
pub(super) struct BusyService {
    router: TowerToHyperService<Router>,
    slot: ConnectionSlot,
}

impl BusyService {
    /// Serves the connection that has this place by this router.
    pub(super) fn new(router: Router, place: ConnectionSlot) -> Self {
        Self { router: TowerToHyperService::new(router), slot: place }
    }
}

impl Service<hyper::Request<Incoming>> for BusyService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let busy = self.slot.busy();
        let answer = self.router.call(request);
        Box::pin(async move { answer.await.map(|answer| answer.map(|body| Body::new(BusyBody { body, _busy: busy }))) })
    }
}

/// A response body that keeps its connection busy until it is sent.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
