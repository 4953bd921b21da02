//! The request of an HTTP check, and the evaluation of its response (RFC 9112).
//!
//! A response is read from its first byte on, and the first part that decides gives the verdict: the status line, the
//! wanted text in the body, or the end of the body. It therefore does not matter where the network cuts the response.
//! Only an incomplete head, and as many bytes of the body as the wanted text has, are kept. `httparse` reads heads and
//! chunk sizes.

mod body;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Response};

use super::connection::{CheckConnection, ConnectionPhase};
use super::conversation::{Conversation, REFUSED};
use crate::time::Instant;
use body::{Body, Framing};

/// The largest number of bytes of one head that are read.
const HEAD_MAX: usize = 16 * 1024;
/// The largest number of bytes of a body that are searched, and that may follow after the verdict.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// The largest number of interim responses before the final one.
const INTERIM_MAX: usize = 64;
/// Length of the shortest header field: a name, a colon and a line end.
const FIELD_MIN: usize = 3;
const NO_ANSWER: &str = "not an HTTP answer";

/// The request. Without `host` its Host header is the server's address.
pub(super) fn request(path: &str, host: Option<&str>, address: IpAddr, port: u16) -> Vec<u8> {
    let address = match (address, port) {
        (IpAddr::V4(address), 80) => address.to_string(),
        (IpAddr::V6(address), 80) => format!("[{address}]"),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    };
    let host = host.unwrap_or(&address);
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fwlb\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// What is known from the response so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResponseVerdict {
    /// More bytes are needed for a verdict.
    Undecided,
    /// The response is as expected.
    Healthy,
    /// The response is not as expected, for this reason.
    Unhealthy(String),
}

/// A response that is read piece by piece.
#[derive(Debug)]
pub(super) struct HttpResponse {
    expected: Vec<RangeInclusive<u16>>,
    body_text: Option<String>,
    stage: Stage,
    /// The status code of the last status line that was read.
    status: Option<u16>,
    /// The number of interim responses that were read.
    interim: usize,
    /// Whether no byte was received yet.
    is_empty: bool,
    /// The number of bytes that followed after the verdict.
    after: usize,
}

#[derive(Debug)]
enum Stage {
    /// A head is being read.
    Head(Head),
    /// The body of the final response is being read.
    Body(Body),
    /// There is a verdict, which is never [`ResponseVerdict::Undecided`].
    Decided(ResponseVerdict),
}

/// A status line with header fields, as far as they were received.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    /// The status code, once the status line is complete.
    status: Option<u16>,
}

impl Conversation for HttpResponse {
    fn proceed(&mut self, connection: &mut CheckConnection, decided: bool, now: Instant) -> Option<Result<(), String>> {
        connection.poll(now);
        connection.read(|bytes| self.receive(bytes));
        let phase = connection.phase();
        let verdict = if decided { None } else { self.verdict_in(phase, connection.was_established()) };
        if verdict.is_some() {
            connection.close(now);
        }
        // Reading opened the receive window. The server may be waiting to be told so.
        connection.poll(now);
        if self.is_flood() {
            connection.abort(now);
        }
        verdict
    }

    fn answer(&self) -> String {
        self.status.map_or_else(String::new, |status| format!("HTTP {status}"))
    }

    fn timeout_reason(&self) -> &'static str {
        if self.is_empty { "no answer" } else { "answer not complete" }
    }
}

impl HttpResponse {
    /// The verdict while the connection is in `phase`, if there is one yet: the reason of a failure.
    fn verdict_in(&self, phase: ConnectionPhase, was_established: bool) -> Option<Result<(), String>> {
        match (self.verdict(phase == ConnectionPhase::PeerClosed), phase) {
            (ResponseVerdict::Healthy, _) => Some(Ok(())),
            (ResponseVerdict::Unhealthy(why), _) => Some(Err(why)),
            (ResponseVerdict::Undecided, ConnectionPhase::Closed) => {
                let why = if was_established { "connection reset" } else { REFUSED };
                Some(Err(why.to_owned()))
            }
            (
                ResponseVerdict::Undecided,
                ConnectionPhase::Connecting | ConnectionPhase::Established | ConnectionPhase::PeerClosed,
            ) => None,
        }
    }

    pub(super) fn new(expected: Vec<RangeInclusive<u16>>, wanted: Option<String>) -> Self {
        Self {
            expected,
            body_text: wanted,
            stage: Stage::Head(Head::default()),
            status: None,
            interim: 0,
            is_empty: true,
            after: 0,
        }
    }

    /// Takes the next bytes.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        self.is_empty &= bytes.is_empty();
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Head(head) => {
                    let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
                    let (line, rest) = bytes.split_at(line.min(HEAD_MAX - head.bytes.len()));
                    head.bytes.extend_from_slice(line);
                    bytes = rest;
                    self.head_grew();
                }
                Stage::Body(body) => {
                    if let Some(verdict) = body.receive(&mut bytes) {
                        self.stage = Stage::Decided(verdict);
                    }
                }
                Stage::Decided(_) => {
                    self.after = self.after.saturating_add(bytes.len());
                    return;
                }
            }
        }
    }

    /// True if so many bytes followed after the verdict that the end is no longer waited for.
    pub(super) const fn is_flood(&self) -> bool {
        self.after > BODY_MAX
    }

    /// What is known from the response. `ended` says that no more bytes will come.
    pub(super) fn verdict(&self, ended: bool) -> ResponseVerdict {
        match &self.stage {
            Stage::Decided(verdict) => verdict.clone(),
            Stage::Head(_) | Stage::Body(_) if !ended => ResponseVerdict::Undecided,
            Stage::Head(_) if self.is_empty => unhealthy("connection closed without an answer"),
            Stage::Head(head) if head.bytes.is_empty() => unhealthy("connection closed after an interim answer"),
            Stage::Head(Head { status: None, .. }) => unhealthy(NO_ANSWER),
            Stage::Head(Head { status: Some(_), .. }) => unhealthy("HTTP head without an end"),
            Stage::Body(body) => body.at_end(),
        }
    }

    /// Evaluates the head after more of it was received, at most up to the end of a line.
    fn head_grew(&mut self) {
        let Stage::Head(head) = &mut self.stage else { return };
        let is_line = head.bytes.ends_with(b"\n");
        let verdict = if head.status.is_none() {
            match status_of(&head.bytes) {
                Err(NotHttp) => Some(unhealthy(NO_ANSWER)),
                Ok(Some(status)) if is_line => {
                    head.status = Some(status);
                    self.status = Some(status);
                    judge(status, &self.expected, self.body_text.as_deref())
                }
                Ok(_) => (head.bytes.len() >= HEAD_MAX).then(|| unhealthy(NO_ANSWER)),
            }
        } else if head.bytes.ends_with(b"\n\r\n") || head.bytes.ends_with(b"\n\n") {
            return self.head_ended();
        } else {
            (head.bytes.len() >= HEAD_MAX).then(|| unhealthy("HTTP head without an end"))
        };
        if let Some(verdict) = verdict {
            self.stage = Stage::Decided(verdict);
        }
    }

    /// Handles a complete head. It is followed by its body or, after an interim response, by the next head (RFC 9110
    /// section 15.2).
    fn head_ended(&mut self) {
        let Stage::Head(Head { bytes, status: Some(status) }) = &self.stage else { return };
        self.stage = if is_interim(*status) {
            self.interim += 1;
            match self.interim {
                0..=INTERIM_MAX => Stage::Head(Head::default()),
                _ => Stage::Decided(unhealthy("interim HTTP answers without an end")),
            }
        } else {
            match framing(*status, bytes).map(|framing| Body::new(framing, self.body_text.clone().unwrap_or_default()))
            {
                Ok(body) => body.verdict().map_or(Stage::Body(body), Stage::Decided),
                Err(why) => Stage::Decided(unhealthy(why)),
            }
        };
    }
}

fn unhealthy(why: &str) -> ResponseVerdict {
    ResponseVerdict::Unhealthy(why.to_owned())
}

/// The verdict for which the status line alone suffices.
fn judge(status: u16, expected: &[RangeInclusive<u16>], wanted: Option<&str>) -> Option<ResponseVerdict> {
    if is_interim(status) {
        None
    } else if !expected.iter().any(|range| range.contains(&status)) {
        Some(ResponseVerdict::Unhealthy(format!("HTTP {status}, expected {}", format_status_ranges(expected))))
    } else {
        wanted.is_none_or(str::is_empty).then_some(ResponseVerdict::Healthy)
    }
}

/// True for an interim status. After 101 the connection no longer uses HTTP (RFC 9110 section 15.2.2), which the check
/// did not ask for.
const fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..=199)
}

struct NotHttp;

/// A parser that accepts whatever a client can make sense of (RFC 9112 sections 2.2 and 5.2), because a check only asks
/// whether the server serves.
fn lenient() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    config
}

/// The code of a status line; `None` if the line is incomplete and may still become valid.
fn status_of(line: &[u8]) -> Result<Option<u16>, NotHttp> {
    let mut response = Response::new(&mut []);
    match lenient().parse_response(&mut response, line) {
        Ok(_) => Ok(response.code),
        Err(_) => Err(NotHttp),
    }
}

/// How the end of the body that follows a complete head is found (RFC 9112 section 6.3).
fn framing(status: u16, head: &[u8]) -> Result<Framing, &'static str> {
    if matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let mut headers = vec![EMPTY_HEADER; head.len() / FIELD_MIN];
    let mut response = Response::new(&mut headers);
    match lenient().parse_response(&mut response, head) {
        Ok(read) if read.is_complete() => {}
        Ok(_) | Err(_) => return Err("HTTP head that cannot be read"),
    }
    if let Some(coding) = values(response.headers, "transfer-encoding").last() {
        // With any other last coding the body ends with the connection. Transfer-Encoding overrides Content-Length.
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { Framing::chunked() } else { Framing::UntilClose });
    }
    let mut lengths = values(response.headers, "content-length").map(length);
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
    match first {
        Some(length) if lengths.all(|other| other == Some(length)) => Ok(Framing::Length(length)),
        Some(_) | None => Err("HTTP head with a bad Content-Length"),
    }
}

/// The members of a header field that is a list, over all its lines.
fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    lines.flat_map(|header| header.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Writes ranges of status codes as `200, 301-302`.
fn format_status_ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let mut text = String::new();
    for range in ranges {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = match (range.start(), range.end()) {
            (first, last) if first == last => write!(text, "{comma}{first}"),
            (first, last) => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests;
