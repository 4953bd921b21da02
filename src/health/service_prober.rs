//! One check of a real server: ICMP echo, a TCP connection, half of one, or an HTTP request, as frames to send and answers
//! to match.
//!
//! A check ends in one [`Verdict`] when it is known, and lives on until its connection is closed: by FIN, or by a reset when
//! its time is over. The TCP of `tcp` and `http` is smoltcp's, one stack for each check: nothing is shared, and whose
//! answer a segment is the caller tells by its addresses and ports.
//!
//! A server may still hold an earlier connection between the same ports: in TIME-WAIT, as it closed first, or in any state if the
//! end of it was lost. In TIME-WAIT it takes a new SYN whose sequence number is beyond the old ones (RFC 6191 section 2), which
//! the caller sees to; else it answers with what it expects there (a challenge ACK, RFC 5961 section 4). That is answered by the
//! reset that ends the old connection, and by another SYN at once.

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

/// The source ports of checks: below those that stand for clients in `full-nat` (which begin at 1024), so that a check and
/// a client never have the same tuple. They bound the checks of one server port that are under way at once, not their pace.
pub const PORTS: RangeInclusive<u16> = 512..=1023;
/// Receive window of half-open checks, which take nothing.
const WINDOW: u16 = 8192;
const ECHO_DATA: &[u8] = b"service check by fwlb ";
/// Old connections that one check clears out of its way.
const CLEARED_MAX: u8 = 3;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server is well; the time from the first frame to the answer that said so.
    Well(Duration),
    /// It is not, in words.
    Ill(String),
    /// It did not answer in time, in words.
    Silent(String),
}

/// From whom to whom a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Hardware addresses.
    pub macs: Macs,
    /// The engine's address and the server's.
    pub pair: Pair,
    /// Source port, or identifier of the echo; of [`PORTS`].
    pub source_port: u16,
    /// The sequence number of the SYN (RFC 6528): beyond those of an earlier connection between the same ends.
    pub sequence: u32,
    /// The server's port.
    pub port: u16,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// See the module.
#[derive(Debug)]
pub struct ServiceProber {
    way: Way,
    timeout: Duration,
    started: Instant,
    asked: Asked,
    verdict: Option<Verdict>,
    /// The verdict was handed out.
    told: bool,
    done: bool,
    /// Old connections that were in its way.
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
    /// Begins a check; `random` makes its numbers unpredictable. `None` if there is nothing to ask.
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

    /// An echo reply from the server.
    pub fn handle_echo(&mut self, echo: &Echo<'_>, now: Instant) -> bool {
        let Asked::Echo { data } = &self.asked else { return false };
        let matches = echo.kind == EchoKind::Reply && echo.ident == self.way.source_port && echo.data == data;
        if matches && self.verdict.is_none() {
            self.verdict = Some(Verdict::Well(now.since(self.started)));
            self.done = true;
        }
        matches
    }

    /// A segment from the server to the check's port, with the IP packet that it came in; checksums are verified.
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

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline() {
            self.give_up(now);
        } else {
            self.advance(now);
        }
    }

    /// When [`ServiceProber::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        let wake = match &self.asked {
            Asked::Echo { .. } | Asked::HalfOpen => None,
            Asked::Tcp(connection) | Asked::Http(connection, _) => connection.wake(),
        };
        wake.map_or(self.deadline(), |wake| wake.min(self.deadline()))
    }

    /// A frame to send.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// How it ended; once.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        if std::mem::replace(&mut self.told, self.verdict.is_some()) {
            return None;
        }
        self.verdict.clone()
    }

    /// What the server answered, if it is well.
    pub fn answer(&self) -> String {
        match &self.asked {
            Asked::Echo { .. } => "echo reply".to_owned(),
            Asked::HalfOpen => "SYN-ACK".to_owned(),
            Asked::Tcp(_) => "connected".to_owned(),
            Asked::Http(_, answer) => answer.status().map_or_else(String::new, |status| format!("HTTP {status}")),
        }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long an answer is waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// True if there is nothing to wait for.
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

    /// True if a segment that comes before the connection stands acknowledges what this check never sent.
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

    /// Resets the connection that a segment belongs to (RFC 9293 section 3.10.7.3), and asks again.
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

    /// Lets the connection do what it can, and looks how it stands.
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
                // The read opened the window: that is to be told, and may be all that the server waits for.
                connection.poll(now);
                if answer.is_flood() {
                    connection.abort(now);
                }
            }
        }
        self.take_packets();
    }

    /// Its time is over.
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
