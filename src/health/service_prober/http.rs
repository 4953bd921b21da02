//! The request of an HTTP check, and what its answer says (RFC 9112). No more of an answer is kept than is looked at.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The most of a head that is read, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// The most of a body that is looked at, in bytes.
pub(super) const BODY_MAX: usize = 64 * 1024;
const NO_ANSWER: &str = "not an HTTP answer";

/// The request; without `host`, the address is asked for.
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

/// What is known so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not enough.
    More,
    /// It is what was expected.
    Well,
    /// It is not, in words.
    Ill(String),
}

/// An answer as it comes in.
#[derive(Debug)]
pub(super) struct Answer {
    expected: Vec<RangeInclusive<u16>>,
    body: Option<String>,
    bytes: Vec<u8>,
    /// What came, kept or not.
    total: usize,
}

impl Answer {
    pub(super) fn new(expected: Vec<RangeInclusive<u16>>, body: Option<String>) -> Self {
        Self { expected, body, bytes: Vec::new(), total: 0 }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = (HEAD_MAX + BODY_MAX).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total = self.total.saturating_add(bytes.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True if more came than is ever looked at.
    pub(super) fn is_flood(&self) -> bool {
        self.total > HEAD_MAX + BODY_MAX
    }

    /// What the answer says; `ended` if no more will come.
    pub(super) fn progress(&self, ended: bool) -> Progress {
        let Some(line_end) = self.bytes.iter().take(HEAD_MAX).position(|byte| *byte == b'\n') else {
            return match (self.bytes.is_empty(), ended) {
                (true, true) => ill("connection closed without an answer"),
                (false, true) => ill(NO_ANSWER),
                (_, false) if self.bytes.len() >= HEAD_MAX || !begins_well(&self.bytes) => ill(NO_ANSWER),
                (_, false) => Progress::More,
            };
        };
        let Some(status) = status_of(&self.bytes[..line_end]) else { return ill(NO_ANSWER) };
        if !self.expected.iter().any(|range| range.contains(&status)) {
            return Progress::Ill(format!("HTTP {status}, expected {}", listed(&self.expected)));
        }
        let Some(wanted) = &self.body else { return Progress::Well };
        let Some(head) = head_length(&self.bytes) else {
            let endless = self.bytes.len() >= HEAD_MAX;
            return if ended || endless { ill("HTTP head without an end") } else { Progress::More };
        };
        let raw = &self.bytes[head..];
        let raw = &raw[..raw.len().min(BODY_MAX)];
        let framing = Framing::of(&self.bytes[..head]);
        if !(ended || raw.len() >= BODY_MAX || framing.is_complete(raw)) {
            return Progress::More;
        }
        if contains(&framing.body(raw), wanted.as_bytes()) {
            Progress::Well
        } else {
            Progress::Ill(format!("body lacks {wanted:?}"))
        }
    }
}

fn ill(why: &str) -> Progress {
    Progress::Ill(why.to_owned())
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
}

impl Framing {
    fn of(head: &[u8]) -> Self {
        let mut framing = Self::UntilClose;
        for line in head.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"transfer-encoding") && value.to_ascii_lowercase().ends_with(b"chunked") {
                return Self::Chunked;
            }
            if name.eq_ignore_ascii_case(b"content-length")
                && let Some(length) = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok())
            {
                framing = Self::Length(length);
            }
        }
        framing
    }

    fn is_complete(self, raw: &[u8]) -> bool {
        match self {
            // The last chunk; bytes of the body that look like it only make the check look early, at what there is.
            Self::Chunked => raw.ends_with(b"\r\n0\r\n\r\n") || raw == b"0\r\n\r\n",
            Self::Length(length) => raw.len() >= length,
            Self::UntilClose => false,
        }
    }

    fn body(self, raw: &[u8]) -> Vec<u8> {
        match self {
            Self::Chunked => dechunked(raw),
            Self::Length(length) => raw[..raw.len().min(length)].to_vec(),
            Self::UntilClose => raw.to_vec(),
        }
    }
}

/// The data of the chunks (RFC 9112 section 7.1), as far as they are legal.
fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line_end) = raw.iter().position(|byte| *byte == b'\n') {
        let line = raw[..line_end].split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(line).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        raw = &raw[line_end + 1..];
        let (data, rest) = raw.split_at(size.min(raw.len()));
        body.extend_from_slice(data);
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        raw = &rest[end..];
    }
    body
}

/// False if these bytes are not the beginning of a status line.
fn begins_well(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected)
}

/// The code of `HTTP/1.1 200 OK`.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (&[minor, space, a, b, c], rest) = rest.split_first_chunk()?;
    let digits = [a, b, c];
    let is_line = minor.is_ascii_digit() && space == b' ' && digits.iter().all(u8::is_ascii_digit);
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\r'));
    (is_line && ends).then(|| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

/// Bytes up to and with the empty line.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let within = &bytes[..bytes.len().min(HEAD_MAX)];
    let crlf = within.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let lf = within.windows(2).position(|window| window == b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || body.windows(wanted.len()).any(|window| window == wanted)
}

/// `200, 301-302`.
fn listed(ranges: &[RangeInclusive<u16>]) -> String {
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
