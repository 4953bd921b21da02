//! Receives a packet capture as it arrives.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::http::response::Parts;
use hyper::{StatusCode, header};
use tokio::task::JoinHandle;

use crate::api::CaptureRequest;
use crate::api::capture::CONTENT_TYPE;
use crate::client::{Client, ClientError};

/// A running capture; dropping it ends the capture.
#[derive(Debug)]
pub struct CaptureStream {
    client: Client,
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Client {
    /// Starts a capture. To be called within a tokio runtime.
    pub async fn capture(&self, request: &CaptureRequest) -> Result<CaptureStream, ClientError> {
        let start = async {
            let (mut sender, connection) = self.connect().await?;
            let connection = tokio::spawn(async move {
                // A failure shows as the end of the body.
                let _ = connection.await;
            });
            let response = sender.send_request(self.request(request.call())?).await;
            Ok((response.map_err(|error| self.broken(&error))?, connection))
        };
        let (response, connection) = self.with_timeout(start).await?;
        let (head, body) = response.into_parts();
        let capturing = CaptureStream { client: self.clone(), body, connection };
        let is_capture = head.headers.get(header::CONTENT_TYPE).is_some_and(|found| found == CONTENT_TYPE);
        match head.status {
            StatusCode::OK if is_capture => Ok(capturing),
            _ => Err(self.with_timeout(capturing.refusal(&head)).await?),
        }
    }

    /// Ends the capture with this name; the frames captured so far are still received.
    pub async fn end_capture(&self, id: &str) -> Result<(), ClientError> {
        self.call(CaptureRequest::end(id)).await.map(drop)
    }
}

impl CaptureStream {
    /// Waits for the next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers have no meaning here.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(self.client.broken(&error)),
            }
        }
    }

    async fn refusal(mut self, head: &Parts) -> Result<ClientError, ClientError> {
        let mut text = Vec::new();
        while let Some(bytes) = self.next().await? {
            text.extend_from_slice(&bytes);
            if text.len() > REFUSAL_MAX {
                break;
            }
        }
        Ok(self.client.refused(head, &text))
    }
}

/// Bytes of an error message, at most.
const REFUSAL_MAX: usize = 64 * 1024;

impl Drop for CaptureStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
