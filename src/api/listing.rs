//! Answers requests for sessions over HTTP: with one page, the total number and where the next page begins; or with all
//! sessions, streamed as they are found.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::api::engines::ask;
use crate::api::sessions::{Cursor, DEFAULT_LIMIT, PAGE_MAX, SessionPage, SessionRequest, TOTAL_HEADER};
use crate::api::{ApiError, Backend, Call, Engines};
use crate::engine::view::SessionView;

/// Rows that are fetched at once when all are streamed. Twice as many may wait for a slow client.
const PIECE_ROWS: usize = 1000;

type Piece = Result<Bytes, ApiError>;

/// Answers `question` of the engine called `name`, or of all engines.
pub(super) async fn list<B: Backend>(
    engines: &Engines<B>,
    name: Option<&str>,
    question: SessionRequest,
) -> Result<Response, ApiError> {
    let asked = engines.selected(name)?;
    match question.limit.unwrap_or(DEFAULT_LIMIT) {
        0 => stream_all(asked, question, usize::MAX).await,
        limit if limit > PAGE_MAX => stream_all(asked, question, limit).await,
        _ => page(&asked, name, question).await,
    }
}

/// Answers with one page of each engine.
async fn page<B: Backend>(
    asked: &[Arc<B>],
    name: Option<&str>,
    question: SessionRequest,
) -> Result<Response, ApiError> {
    let mut text = JsonArray::default();
    let mut total = Some(0);
    let mut next: Option<Cursor> = None;
    for engine in asked {
        if is_before_cursor(engine.as_ref(), &question) {
            continue;
        }
        let page = ask(engine, question.clone()).await?;
        text.add(&page.rows)?;
        total = total.zip(page.total).map(|(sum, more)| sum + more);
        match (&mut next, page.next) {
            (Some(next), Some(more)) => next.join(more),
            (next @ None, more) => *next = more,
            (Some(_), None) => {}
        }
    }
    let mut response = json(Body::from(text.finish()));
    let headers = response.headers_mut();
    if let Some(total) = total.filter(|_| question.after.is_none()) {
        headers.insert(TOTAL_HEADER, total.into());
    }
    if let Some(next) = next {
        let mut uri = SessionRequest { after: Some(next), ..question }.http().uri;
        if let Some(name) = name {
            let engine = serde_urlencoded::to_string([("engine", name)]);
            uri = format!("{uri}&{}", engine.map_err(|error| ApiError::Unavailable(error.to_string()))?);
        }
        let link = HeaderValue::try_from(format!("<{uri}>; rel=\"next\""));
        headers.insert(header::LINK, link.map_err(|error| ApiError::Unavailable(error.to_string()))?);
    }
    Ok(response)
}

/// Streams all pages of each engine, up to `limit` rows each. An error in the first page is the answer; if a later page
/// fails, the answer breaks off.
async fn stream_all<B: Backend>(
    asked: Vec<Arc<B>>,
    question: SessionRequest,
    limit: usize,
) -> Result<Response, ApiError> {
    let mut first = Vec::new();
    let mut total = 0;
    for engine in asked {
        if is_before_cursor(engine.as_ref(), &question) {
            continue;
        }
        let page = ask(&engine, SessionRequest { limit: Some(PIECE_ROWS.min(limit)), ..question.clone() }).await?;
        total += page.total.unwrap_or(0);
        first.push((engine, page));
    }
    let counted = question.after.is_none().then_some(total);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut text = JsonArray::default();
        for (engine, page) in first {
            if let Err(error) = stream_pages(&engine, &question, page, limit, &mut text, &sender).await {
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
        let _ = sender.send(Ok(text.finish())).await;
    });
    let mut response = json(Body::new(Pieces(receiver)));
    if let Some(total) = counted {
        response.headers_mut().insert(TOTAL_HEADER, total.into());
    }
    Ok(response)
}

/// Streams `page` and the pages after it, `limit` rows in all.
async fn stream_pages<B: Backend>(
    engine: &Arc<B>,
    question: &SessionRequest,
    mut page: SessionPage,
    limit: usize,
    text: &mut JsonArray,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), ApiError> {
    let mut left = limit;
    loop {
        left = left.saturating_sub(page.rows.len());
        text.add(&page.rows)?;
        // The client has disconnected.
        if sender.send(Ok(text.take())).await.is_err() {
            return Ok(());
        }
        let (Some(after), true) = (page.next, left > 0) else { return Ok(()) };
        let more = SessionRequest { after: Some(after), limit: Some(PIECE_ROWS.min(left)), ..question.clone() };
        page = ask(engine, more).await?;
    }
}

fn is_before_cursor<B: Backend>(engine: &B, question: &SessionRequest) -> bool {
    question.after.as_ref().is_some_and(|after| after.of(engine.engine()).is_none())
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// A JSON array that is written in pieces.
#[derive(Default)]
struct JsonArray {
    written: Vec<u8>,
    /// Whether a row was written before, in this piece or an earlier one.
    has_rows: bool,
}

impl JsonArray {
    fn add(&mut self, rows: &[SessionView]) -> Result<(), ApiError> {
        for row in rows {
            self.written.push(if self.has_rows { b',' } else { b'[' });
            self.has_rows = true;
            let written = serde_json::to_writer(&mut self.written, row);
            written.map_err(|error| ApiError::Unavailable(format!("a session is no JSON: {error}")))?;
        }
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.written).into()
    }

    fn finish(mut self) -> Bytes {
        self.written.extend_from_slice(if self.has_rows { b"]" } else { b"[]" });
        self.written.into()
    }
}

/// The pieces of an answer as a response body.
struct Pieces(mpsc::Receiver<Piece>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
