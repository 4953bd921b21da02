//! One check of a real server: an ICMP echo, a TCP connection, a half-open connection or an HTTP request. The prober
//! builds the frames and matches the answers.
//!
//! A check has one [`Verdict`] as soon as that is known, and goes on until its connection is closed: by FIN, or by a
//! reset when its time is over. The kinds `tcp` and `http` use smoltcp's TCP with a separate stack for each check, so
//! that checks share nothing. The caller finds the check of a segment by addresses and ports.
//!
//! A server may still hold an earlier connection between the same addresses and ports: in TIME-WAIT if the server
//! closed it first, or in any state if its end was lost. In TIME-WAIT the server accepts a new SYN with a sequence
//! number above the old ones (RFC 6191 section 2), which the caller provides. In other states it answers with the
//! acknowledgement that it expects there (a challenge ACK, RFC 5961 section 4). The check then sends the reset that
//! ends the old connection, and another SYN at once.

mod connection;
mod http;

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::health::{ServiceCheck, ServiceCheckKind};
use crate::time::{Duration, Instant};
use crate::wire::emit::{Macs, Pair};
use crate::wire::frame::tcp_flags;
use crate::wire::icmp::{Echo, EchoKind};
use crate::wire::tcp::{self, Segment};

use connection::{Connection, Phase};
use http::{Answer, Progress};

/// The source ports of checks. They lie below the ports that stand for clients in `full-nat`, which begin at 1024, so
/// that a check and a client never have the same 5-tuple. Their number limits the checks of one server port that run at
/// once, not the rate of checks.
pub const PORTS: RangeInclusive<u16> = 512..=1023;
/// The receive window of half-open checks in bytes; they receive no data.
const WINDOW: u16 = 8192;
const ECHO_DATA: &[u8] = b"service check by fwlb ";
/// The most old connections that one check resets.
const CLEARED_MAX: u8 = 3;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server is healthy. The time is that from the first frame to the deciding answer.
    Well(Duration),
    /// The server answered, but is not healthy, for this reason.
    Ill(String),
    /// The server did not answer in time, for this reason.
    Silent(String),
}

/// The addresses, ports and limits of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Source and destination hardware address.
    pub macs: Macs,
    /// The engine's address and the server's address.
    pub pair: Pair,
    /// Source port, or identifier of the echo; one of [`PORTS`].
    pub source_port: u16,
    /// Sequence number of the SYN (RFC 6528), above those of any earlier connection between the same ends.
    pub sequence: u32,
    /// Destination port at the server.
    pub port: u16,
    /// The MTU: length of the largest IP packet in bytes.
    pub mtu: u16,
}

/// The state of one check; see the module.
#[derive(Debug)]
pub struct ServiceProber {
    way: Way,
    timeout: Duration,
    started: Instant,
    asked: Asked,
    verdict: Option<Verdict>,
    /// Whether the verdict was already returned by [`ServiceProber::poll_verdict`].
    told: bool,
    done: bool,
    /// The number of old connections that this check has reset.
    cleared: u8,
    frames: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
enum Asked {
    Echo { data: Vec<u8> },
    HalfOpen,
    Tcp(Box<Connection>),
    Http(Box<Connection>, Box<Answer>),
}

impl ServiceProber {
    /// Starts a check. `random` makes its data unpredictable. `None` if the kind is [`ServiceCheckKind::None`], or if
    /// the connection cannot be opened.
    pub fn start(check: &ServiceCheck, way: Way, random: u64, now: Instant) -> Option<Self> {
        let asked = match &check.kind {
            ServiceCheckKind::None => return None,
            ServiceCheckKind::Icmp => {
                let data = [ECHO_DATA, &random.to_be_bytes()].concat();
                Asked::Echo { data }
            }
            ServiceCheckKind::HalfOpen => Asked::HalfOpen,
            ServiceCheckKind::Tcp => Asked::Tcp(Box::new(Connection::open(&way, Vec::new(), random, now)?)),
            ServiceCheckKind::Http { path, host, status, body } => {
                let request = http::request(path, host.as_deref(), way.pair.destination(), way.port);
                let answer = Answer::new(status.clone(), body.clone());
                Asked::Http(Box::new(Connection::open(&way, request, random, now)?), Box::new(answer))
            }
        };
        let mut prober = Self {
            way,
            timeout: check.timeout,
            started: now,
            asked,
            verdict: None,
            told: false,
            done: false,
            cleared: 0,
            frames: VecDeque::new(),
        };
        prober.open(now);
        Some(prober)
    }

    /// Takes an echo reply from the server. Returns whether it belongs to this check.
    pub fn handle_echo(&mut self, echo: &Echo<'_>, now: Instant) -> bool {
        let Asked::Echo { data } = &self.asked else { return false };
        let matches = echo.kind == EchoKind::Reply && echo.ident == self.way.source_port && echo.data == data;
        if matches && self.verdict.is_none() {
            self.verdict = Some(Verdict::Well(now.since(self.started)));
            self.done = true;
        }
        matches
    }

    /// Takes a segment from the server to the port of the check. `packet` is the IP packet that carried it, whose
    /// checksums are verified.
    pub fn handle_segment(&mut self, packet: &[u8], segment: &Segment<'_>, now: Instant) {
        if self.is_of_another(segment) {
            self.clear(segment, now);
            return;
        }
        match &mut self.asked {
            Asked::Echo { .. } => {}
            Asked::HalfOpen => self.half_open_answered(segment, now),
            Asked::Tcp(connection) | Asked::Http(connection, _) => {
                connection.receive(packet);
                self.advance(now);
            }
        }
    }

    /// Handles the passing of time: retransmissions, and the end of the check when its timeout is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline() {
            self.give_up(now);
        } else {
            self.advance(now);
        }
    }

    /// When [`ServiceProber::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        let wake = match &self.asked {
            Asked::Echo { .. } | Asked::HalfOpen => None,
            Asked::Tcp(connection) | Asked::Http(connection, _) => connection.wake(),
        };
        wake.map_or(self.deadline(), |wake| wake.min(self.deadline()))
    }

    /// The next frame to send.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// The verdict, which is returned once.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        if std::mem::replace(&mut self.told, self.verdict.is_some()) {
            return None;
        }
        self.verdict.clone()
    }

    /// The successful answer in words, such as `HTTP 200` or `connected`.
    pub fn answer(&self) -> String {
        match &self.asked {
            Asked::Echo { .. } => "echo reply".to_owned(),
            Asked::HalfOpen => "SYN-ACK".to_owned(),
            Asked::Tcp(_) => "connected".to_owned(),
            Asked::Http(_, answer) => answer.status().map_or_else(String::new, |status| format!("HTTP {status}")),
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
        let Way { macs, pair, source_port, port, sequence, .. } = self.way;
        match &mut self.asked {
            Asked::Echo { data } => {
                let echo = Echo { kind: EchoKind::Request, ident: source_port, sequence: 1, data };
                self.frames.push_back(echo.frame(macs, pair));
            }
            Asked::HalfOpen => {
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
            Asked::Tcp(_) | Asked::Http(..) => self.advance(now),
        }
    }

    /// True if a segment that arrives before the connection is established acknowledges something that this check never
    /// sent.
    fn is_of_another(&self, segment: &Segment<'_>) -> bool {
        let is_opening = !self.done
            && match &self.asked {
                Asked::Echo { .. } => false,
                Asked::HalfOpen => true,
                Asked::Tcp(connection) | Asked::Http(connection, _) => connection.phase() == Phase::Opening,
            };
        is_opening
            && segment.flags & tcp_flags::ACK != 0
            && segment.flags & tcp_flags::RST == 0
            && segment.acknowledgement != self.way.sequence.wrapping_add(1)
    }

    /// Resets the old connection that a segment belongs to (RFC 9293 section 3.10.7.3), and sends the check's SYN
    /// again.
    fn clear(&mut self, segment: &Segment<'_>, now: Instant) {
        if self.cleared >= CLEARED_MAX {
            return;
        }
        self.cleared += 1;
        self.reset(segment.acknowledgement);
        let (way, random) = (&self.way, u64::from(segment.sequence));
        match &mut self.asked {
            Asked::Echo { .. } | Asked::HalfOpen => {}
            Asked::Tcp(connection) | Asked::Http(connection, _) => {
                if let Some(again) = Connection::open(way, connection.take_request(), random, now) {
                    **connection = again;
                }
            }
        }
        self.open(now);
    }

    fn half_open_answered(&mut self, segment: &Segment<'_>, now: Instant) {
        let expected = self.way.sequence.wrapping_add(1);
        if self.done || segment.flags & tcp_flags::ACK == 0 || segment.acknowledgement != expected {
            return;
        }
        if segment.flags & tcp_flags::RST != 0 {
            self.verdict = Some(Verdict::Ill("connection refused".to_owned()));
            self.done = true;
        } else if segment.flags & tcp_flags::SYN != 0 {
            self.reset(expected);
            self.verdict = Some(Verdict::Well(now.since(self.started)));
            self.done = true;
        }
    }

    fn reset(&mut self, sequence: u32) {
        let reset = Segment {
            source_port: self.way.source_port,
            destination_port: self.way.port,
            sequence,
            flags: tcp_flags::RST,
            ..Segment::default()
        };
        self.frames.push_back(tcp::segment(self.way.macs, self.way.pair, &reset));
    }

    /// Lets the connection proceed, and looks whether there is a verdict.
    fn advance(&mut self, now: Instant) {
        if self.done {
            return;
        }
        let rtt = now.since(self.started);
        match &mut self.asked {
            Asked::Echo { .. } | Asked::HalfOpen => {}
            Asked::Tcp(connection) => {
                connection.poll(now);
                if self.verdict.is_none() {
                    self.verdict = match connection.phase() {
                        Phase::Opening => None,
                        Phase::Open | Phase::Ended => Some(Verdict::Well(rtt)),
                        Phase::Gone => Some(Verdict::Ill("connection refused".to_owned())),
                    };
                    if self.verdict.is_some() {
                        connection.close(now);
                    }
                } else {
                    connection.drop_received();
                }
            }
            Asked::Http(connection, answer) => {
                connection.poll(now);
                connection.read(|bytes| answer.take(bytes));
                if self.verdict.is_none() {
                    let phase = connection.phase();
                    self.verdict = match answer.progress(phase == Phase::Ended) {
                        Progress::Well => Some(Verdict::Well(rtt)),
                        Progress::Ill(why) => Some(Verdict::Ill(why)),
                        Progress::More => match (phase, connection.was_open()) {
                            (Phase::Gone, false) => Some(Verdict::Ill("connection refused".to_owned())),
                            (Phase::Gone, true) => Some(Verdict::Ill("connection reset".to_owned())),
                            (Phase::Opening | Phase::Open | Phase::Ended, _) => None,
                        },
                    };
                    if self.verdict.is_some() {
                        connection.close(now);
                    }
                }
                // Reading opened the receive window. The server may be waiting to be told so.
                connection.poll(now);
                if answer.is_flood() {
                    connection.abort(now);
                }
            }
        }
        self.take_packets();
    }

    /// Ends the check, because its timeout is over.
    fn give_up(&mut self, now: Instant) {
        if self.done {
            return;
        }
        let within = self.timeout;
        if self.verdict.is_none() {
            self.verdict = Some(Verdict::Silent(match &self.asked {
                Asked::Echo { .. } => format!("no answer in {within:?}"),
                Asked::HalfOpen => format!("no SYN-ACK in {within:?}"),
                Asked::Tcp(connection) | Asked::Http(connection, _) if !connection.was_open() => {
                    format!("no SYN-ACK in {within:?}")
                }
                Asked::Http(_, answer) if !answer.is_empty() => format!("answer not complete in {within:?}"),
                Asked::Tcp(_) | Asked::Http(..) => format!("no answer in {within:?}"),
            }));
        }
        match &mut self.asked {
            Asked::Echo { .. } | Asked::HalfOpen => {}
            Asked::Tcp(connection) | Asked::Http(connection, _) => connection.abort(now),
        }
        self.take_packets();
        self.done = true;
    }

    fn take_packets(&mut self) {
        let (Asked::Tcp(connection) | Asked::Http(connection, _)) = &mut self.asked else { return };
        while let Some(frame) = connection.poll_frame(self.way.macs) {
            self.frames.push_back(frame);
        }
        self.done |= connection.phase() == Phase::Gone;
    }
}
