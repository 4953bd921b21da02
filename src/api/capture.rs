//! The request for a packet capture, and the stream of bytes that answers it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use crate::api::{ApiError, HttpCall, address_or_prefix};
use crate::engine::trace::{Filter, UnknownDropReason};

/// The path of both calls.
pub(super) const PATH: &str = "/api/v1/capture";

/// Number of names or prefixes in one list of a filter, at most.
const PARTS_MAX: usize = 16;

/// The media type of a capture.
pub const CONTENT_TYPE: &str = "application/x-pcapng";

/// A piece of a capture.
pub type Chunk = Bytes;

/// A capture in pcapng, piece by piece; dropping it ends the capture.
pub type Download = mpsc::Receiver<Chunk>;

/// What to capture, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureRequest {
    /// A name by which the caller can end the capture; `None`: it ends with its connection or at its limits.
    pub id: Option<String>,
    /// The frames to capture.
    pub filter: Filter,
    /// Bytes kept of each frame, at most; `None`: the whole frame.
    pub snaplen: Option<u32>,
    /// Number of frames after which it ends.
    pub count: Option<u64>,
    /// Number of seconds after which it ends.
    pub seconds: Option<u64>,
}

/// What to capture, and how much. A frame has to match every part that is given.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CaptureBody {
    /// A name by which the caller can end the capture; null: it ends with its connection or at its limits.
    id: Option<String>,
    /// Frames on one of these links; empty: on any link.
    links: Vec<String>,
    /// Frames of this flow, in either direction, before or after translation: `tcp 198.51.100.7:40000 203.0.113.80:80`.
    flow: Option<String>,
    /// Frames with an end in each of these addresses or prefixes.
    hosts: Vec<String>,
    /// Frames with each of these ports at an end.
    ports: Vec<u16>,
    /// Frames of sessions that this address or prefix opened.
    source: Option<String>,
    /// Frames of sessions that were opened to this address or prefix.
    destination: Option<String>,
    /// Frames through, from or to this firewall: `fw1` or `perimeter/fw1`.
    firewall: Option<String>,
    /// Frames of sessions of this virtual service.
    service: Option<String>,
    /// Frames of sessions at this server: `s1` or `web/s1`.
    server: Option<String>,
    /// Dropped frames only, as they were received: `any`, or a reason as in the counters `drop_REASON`; null: all
    /// frames.
    dropped: Option<String>,
    /// Bytes kept of each frame, at most; null: the whole frame.
    snaplen: Option<u32>,
    /// Number of frames after which it ends.
    count: Option<u64>,
    /// Number of seconds after which it ends.
    seconds: Option<u64>,
}

/// The capture to end.
#[derive(Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EndQuery {
    /// The name with which it was started.
    pub(super) id: String,
    /// The engine; absent: the only one.
    pub(super) engine: Option<String>,
}

impl CaptureRequest {
    /// The request as an HTTP call.
    pub fn call(&self) -> HttpCall {
        let Self { id, filter, snaplen, count, seconds } = self.clone();
        let Filter { links, flow, hosts, ports, source, destination, firewall, service, server, dropped } = filter;
        let text = |prefix: Option<ipnet::IpNet>| prefix.map(|prefix| prefix.to_string());
        let body = CaptureBody {
            id,
            links,
            flow: flow.map(|flow| flow.to_string()),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            ports,
            source: text(source),
            destination: text(destination),
            firewall,
            service,
            server,
            dropped: dropped.map(|dropped| dropped.to_string()),
            snaplen,
            count,
            seconds,
        };
        let body = serde_json::to_string(&body).expect("structures of words can be JSON");
        HttpCall { method: "POST", uri: PATH.to_owned(), body: Some(body) }
    }

    /// The call that ends the capture with this name.
    pub fn end(id: &str) -> HttpCall {
        let query = EndQuery { id: id.to_owned(), engine: None };
        let query = serde_urlencoded::to_string(query).expect("flat structures of words can be a query");
        HttpCall { method: "DELETE", uri: format!("{PATH}?{query}"), body: None }
    }
}

impl CaptureBody {
    pub(super) fn request(self) -> Result<CaptureRequest, ApiError> {
        let Self { id, links, flow, hosts, ports, source, destination, firewall, service, server, dropped, .. } = self;
        let bad = |error: &dyn std::error::Error| ApiError::BadRequest(error.to_string());
        if [links.len(), hosts.len(), ports.len()].into_iter().any(|parts| parts > PARTS_MAX) {
            return Err(ApiError::BadRequest(format!("at most {PARTS_MAX} links, hosts or ports in one filter")));
        }
        let filter = Filter {
            links,
            flow: flow.map(|flow| flow.parse()).transpose().map_err(|error| bad(&error))?,
            hosts: hosts.iter().map(|host| address_or_prefix(host)).collect::<Result<_, _>>()?,
            ports,
            source: source.as_deref().map(address_or_prefix).transpose()?,
            destination: destination.as_deref().map(address_or_prefix).transpose()?,
            firewall,
            service,
            server,
            dropped: dropped
                .map(|dropped| dropped.parse())
                .transpose()
                .map_err(|error: UnknownDropReason| bad(&error))?,
        };
        Ok(CaptureRequest { id, filter, snaplen: self.snaplen, count: self.count, seconds: self.seconds })
    }
}

/// A capture as the body of an HTTP response.
pub(super) struct Streamed(pub(super) Download);

impl axum::body::HttpBody for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

impl IntoResponse for Streamed {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::new(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::DropReason;
    use crate::engine::trace::DropFilter;

    #[test]
    fn a_request_is_understood_as_it_was_said() {
        let request = CaptureRequest {
            id: Some("x & y".to_owned()),
            filter: Filter {
                links: vec!["clients".to_owned()],
                flow: Some("tcp 198.51.100.7 203.0.113.80:80".parse().unwrap()),
                hosts: vec!["10.0.0.0/8".parse().unwrap()],
                ports: vec![80],
                source: Some("198.51.100.7/32".parse().unwrap()),
                destination: Some("2001:db8::/32".parse().unwrap()),
                firewall: Some("perimeter/fw1".to_owned()),
                service: Some("web".to_owned()),
                server: Some("s1".to_owned()),
                dropped: Some(DropFilter::For(DropReason::TtlExpired)),
            },
            snaplen: Some(96),
            count: Some(10),
            seconds: Some(5),
        };
        let heard = |request: &CaptureRequest| {
            let body: CaptureBody = serde_json::from_str(&request.call().body.unwrap()).unwrap();
            body.request().unwrap()
        };

        assert_eq!(heard(&request), request);
        assert_eq!(heard(&CaptureRequest::default()), CaptureRequest::default());
        assert_eq!(CaptureRequest::end("x & y").uri, "/api/v1/capture?id=x+%26+y");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_with_the_reason() {
        let refused = |body: serde_json::Value| {
            let body: CaptureBody = serde_json::from_value(body).unwrap();
            body.request().unwrap_err().to_string()
        };
        assert!(refused(serde_json::json!({"flow": "tcp 1.2.3.4"})).contains("a flow is PROTO"));
        assert!(refused(serde_json::json!({"hosts": ["nobody"]})).contains("not an address or prefix"));
        assert!(refused(serde_json::json!({"ports": vec![1; 17]})).contains("at most 16"));
        assert!(refused(serde_json::json!({"dropped": "ttl_expird"})).contains("did you mean \"ttl_expired\"?"));
    }
}
