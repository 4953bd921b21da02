//! One check of a real server: an ICMP echo, a TCP connection, a half-open connection or an HTTP request. The prober
//! builds the frames and matches the answers.
//!
//! A check has one [`CheckVerdict`] as soon as that is known, and continues until its connection is closed: by FIN, or
//! by a reset when its time is over. The kinds `tcp` and `http` use smoltcp's TCP with a separate stack for each check,
//! so that checks share nothing. The caller finds the check of a segment by addresses and ports.
//!
//! A server may still hold an earlier connection between the same addresses and ports: in TIME-WAIT if the server
//! closed it first, or in any state if its end was lost. In TIME-WAIT the server accepts a new SYN with a sequence
//! number above the old ones (RFC 6191 section 2), which the caller provides. In other states it answers with the
//! acknowledgement that it expects there (a challenge ACK, RFC 5961 section 4). The check then sends the reset that
//! ends the old connection, and another SYN at once.

mod connection;
mod conversation;
mod http;
mod target;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::health::{ServiceCheck, ServiceCheckKind};
use crate::time::{Duration, Instant};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::tcp::{self, Segment};

use connection::{CheckConnection, ConnectionPhase};
use conversation::{Connect, Conversation, REFUSED};
use http::HttpResponse;

pub use target::CheckTarget;

/// The source ports of checks. They lie below the ports that stand for clients in `full-nat`, which begin at 1024, so
/// that a check and a client never have the same 5-tuple. Their number limits the checks of one server port that run at
/// once, not the rate of checks.
pub const PORTS: RangeInclusive<u16> = 512..=1023;
/// The receive window of half-open checks in bytes; they receive no data.
const WINDOW: u16 = 8192;
const ECHO_DATA: &[u8] = b"service check by fwlb ";
/// The largest number of old connections that one check resets.
const STALE_RESETS_MAX: u8 = 3;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckVerdict {
    /// The server is healthy. The time is that from the first frame to the deciding answer.
    Healthy(Duration),
    /// The server answered, but is not healthy, for this reason.
    Unhealthy(String),
    /// The server did not answer in time, for this reason.
    TimedOut(String),
}

/// The state of one check; see the module documentation.
#[derive(Debug)]
pub struct ServerProber {
    target: CheckTarget,
    timeout: Duration,
    started: Instant,
    exchange: Exchange,
    verdict: Option<CheckVerdict>,
    /// Whether the verdict was already returned by [`ServerProber::poll_verdict`].
    is_reported: bool,
    done: bool,
    /// The number of old connections that this check has reset.
    stale_resets: u8,
    frames: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
enum Exchange {
    Echo {
        data: Vec<u8>,
    },
    HalfOpen,
    /// A TCP connection, and what is said over it.
    Tcp(Box<CheckConnection>, Box<dyn Conversation>),
}

impl ServerProber {
    /// Starts a check. `random` makes its data unpredictable. `None` if the kind is [`ServiceCheckKind::None`], or if
    /// the connection cannot be opened.
    pub fn start(check: &ServiceCheck, way: CheckTarget, random: u64, now: Instant) -> Option<Self> {
        let exchange = match &check.kind {
            ServiceCheckKind::None => return None,
            ServiceCheckKind::Icmp => {
                let data = [ECHO_DATA, &random.to_be_bytes()].concat();
                Exchange::Echo { data }
            }
            ServiceCheckKind::HalfOpen => Exchange::HalfOpen,
            ServiceCheckKind::Tcp => {
                let connection = CheckConnection::open(&way, Vec::new(), random, now)?;
                Exchange::Tcp(Box::new(connection), Box::new(Connect))
            }
            ServiceCheckKind::Http { path, host, status, body } => {
                let request = http::request(path, host.as_deref(), way.addresses.destination(), way.port);
                let answer = HttpResponse::new(status.clone(), body.clone());
                Exchange::Tcp(Box::new(CheckConnection::open(&way, request, random, now)?), Box::new(answer))
            }
        };
        let mut prober = Self {
            target: way,
            timeout: check.timeout,
            started: now,
            exchange,
            verdict: None,
            is_reported: false,
            done: false,
            stale_resets: 0,
            frames: VecDeque::new(),
        };
        prober.open(now);
        Some(prober)
    }

    /// Takes an echo reply from the server. Returns whether it belongs to this check.
    pub fn handle_echo(&mut self, echo: &Echo<'_>, now: Instant) -> bool {
        let Exchange::Echo { data } = &self.exchange else { return false };
        let matches = echo.kind == EchoKind::Reply && echo.ident == self.target.source_port && echo.data == data;
        if matches && self.verdict.is_none() {
            self.verdict = Some(CheckVerdict::Healthy(now.since(self.started)));
            self.done = true;
        }
        matches
    }

    /// Takes a segment from the server to the port of the check. `packet` is the IP packet that carried it, whose
    /// checksums are verified.
    pub fn handle_segment(&mut self, packet: &[u8], segment: &Segment<'_>, now: Instant) {
        if self.is_stale(segment) {
            self.reset_stale(segment, now);
            return;
        }
        match &mut self.exchange {
            Exchange::Echo { .. } => {}
            Exchange::HalfOpen => self.half_open_answered(segment, now),
            Exchange::Tcp(connection, _) => {
                connection.receive(packet);
                self.advance(now);
            }
        }
    }

    /// Handles the passing of time: retransmissions, and the end of the check when its timeout is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline() {
            self.time_out(now);
        } else {
            self.advance(now);
        }
    }

    /// When [`ServerProber::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        let wake = match &self.exchange {
            Exchange::Echo { .. } | Exchange::HalfOpen => None,
            Exchange::Tcp(connection, _) => connection.poll_timeout(),
        };
        wake.map_or(self.deadline(), |wake| wake.min(self.deadline()))
    }

    /// The next frame to send.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// The verdict, which is returned once.
    pub fn poll_verdict(&mut self) -> Option<CheckVerdict> {
        if std::mem::replace(&mut self.is_reported, self.verdict.is_some()) {
            return None;
        }
        self.verdict.clone()
    }

    /// The successful answer in words, such as `HTTP 200` or `connected`.
    pub fn answer(&self) -> String {
        match &self.exchange {
            Exchange::Echo { .. } => "echo reply".to_owned(),
            Exchange::HalfOpen => "SYN-ACK".to_owned(),
            Exchange::Tcp(_, conversation) => conversation.answer(),
        }
    }

    /// When the check began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long the check waits for an answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// True if the check is over, its connection included.
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    fn open(&mut self, now: Instant) {
        let CheckTarget { macs, addresses: pair, source_port, port, sequence, .. } = self.target;
        match &mut self.exchange {
            Exchange::Echo { data } => {
                let echo = Echo { kind: EchoKind::Request, ident: source_port, sequence: 1, data };
                self.frames.push_back(echo.frame(macs, pair));
            }
            Exchange::HalfOpen => {
                let syn = Segment {
                    source_port,
                    destination_port: port,
                    sequence,
                    flags: tcp_flags::SYN,
                    window: WINDOW,
                    ..Segment::default()
                };
                self.frames.push_back(tcp::segment(macs, pair, &syn));
            }
            Exchange::Tcp(..) => self.advance(now),
        }
    }

    /// True if a segment that arrives before the connection is established acknowledges something that this check never
    /// sent.
    fn is_stale(&self, segment: &Segment<'_>) -> bool {
        let is_opening = !self.done
            && match &self.exchange {
                Exchange::Echo { .. } => false,
                Exchange::HalfOpen => true,
                Exchange::Tcp(connection, _) => connection.phase() == ConnectionPhase::Connecting,
            };
        is_opening
            && segment.flags & tcp_flags::ACK != 0
            && segment.flags & tcp_flags::RST == 0
            && segment.acknowledgement != self.target.sequence.wrapping_add(1)
    }

    /// Resets the old connection that a segment belongs to (RFC 9293 section 3.10.7.3), and sends the check's SYN
    /// again.
    fn reset_stale(&mut self, segment: &Segment<'_>, now: Instant) {
        if self.stale_resets >= STALE_RESETS_MAX {
            return;
        }
        self.stale_resets += 1;
        self.reset(segment.acknowledgement);
        let (way, random) = (&self.target, u64::from(segment.sequence));
        match &mut self.exchange {
            Exchange::Echo { .. } | Exchange::HalfOpen => {}
            Exchange::Tcp(connection, _) => {
                if let Some(again) = CheckConnection::open(way, connection.take_request(), random, now) {
                    **connection = again;
                }
            }
        }
        self.open(now);
    }

    fn half_open_answered(&mut self, segment: &Segment<'_>, now: Instant) {
        let expected = self.target.sequence.wrapping_add(1);
        if self.done || segment.flags & tcp_flags::ACK == 0 || segment.acknowledgement != expected {
            return;
        }
        if segment.flags & tcp_flags::RST != 0 {
            self.verdict = Some(CheckVerdict::Unhealthy(REFUSED.to_owned()));
            self.done = true;
        } else if segment.flags & tcp_flags::SYN != 0 {
            self.reset(expected);
            self.verdict = Some(CheckVerdict::Healthy(now.since(self.started)));
            self.done = true;
        }
    }

    fn reset(&mut self, sequence: u32) {
        let reset = Segment {
            source_port: self.target.source_port,
            destination_port: self.target.port,
            sequence,
            flags: tcp_flags::RST,
            ..Segment::default()
        };
        self.frames.push_back(tcp::segment(self.target.macs, self.target.addresses, &reset));
    }

    /// Lets the connection proceed, and checks whether there is a verdict.
    fn advance(&mut self, now: Instant) {
        if self.done {
            return;
        }
        let rtt = now.since(self.started);
        match &mut self.exchange {
            Exchange::Echo { .. } | Exchange::HalfOpen => {}
            Exchange::Tcp(connection, conversation) => {
                match conversation.proceed(connection, self.verdict.is_some(), now) {
                    Some(Ok(())) => self.verdict = Some(CheckVerdict::Healthy(rtt)),
                    Some(Err(why)) => self.verdict = Some(CheckVerdict::Unhealthy(why)),
                    None => {}
                }
            }
        }
        self.take_packets();
    }

    /// Ends the check, because its timeout is over.
    fn time_out(&mut self, now: Instant) {
        if self.done {
            return;
        }
        let within = self.timeout;
        if self.verdict.is_none() {
            self.verdict = Some(CheckVerdict::TimedOut(match &self.exchange {
                Exchange::Echo { .. } => format!("no answer in {within:?}"),
                Exchange::HalfOpen => format!("no SYN-ACK in {within:?}"),
                Exchange::Tcp(connection, _) if !connection.was_established() => {
                    format!("no SYN-ACK in {within:?}")
                }
                Exchange::Tcp(_, conversation) => format!("{} in {within:?}", conversation.timeout_reason()),
            }));
        }
        match &mut self.exchange {
            Exchange::Echo { .. } | Exchange::HalfOpen => {}
            Exchange::Tcp(connection, _) => connection.abort(now),
        }
        self.take_packets();
        self.done = true;
    }

    fn take_packets(&mut self) {
        let Exchange::Tcp(connection, _) = &mut self.exchange else { return };
        while let Some(frame) = connection.poll_frame(self.target.macs) {
            self.frames.push_back(frame);
        }
        self.done |= connection.phase() == ConnectionPhase::Closed;
    }
}
