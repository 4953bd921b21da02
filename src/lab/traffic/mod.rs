//! Traffic programs for the lab: a server that echoes, and clients that keep flows busy and report what each of them
//! experienced. They run in the lab's namespaces as `fwlb lab traffic …` and write JSON, one [`OutputLine`] per line.

mod pages;
mod ping;
mod serve;
mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::io::sockopt;

pub use pages::{PagePlan, PageReport, read_pages};
pub use serve::{Serve, serve};

/// Port of the echo service over TCP and UDP (RFC 862).
pub const ECHO_PORT: u16 = 7;

/// Number of lost requests whose times a flow reports.
pub const LOST_MAX: usize = 32;

/// What a client is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPlan {
    /// Protocol of the flows.
    pub protocol: Protocol,
    /// Address of the server; the port is not used for [`Protocol::Icmp`].
    pub to: SocketAddr,
    /// Number of flows at the same time.
    pub flows: usize,
    /// Time between two requests of a flow.
    pub interval: Duration,
    /// Bytes of a request and of its answer, at least 8.
    pub size: usize,
    /// How long requests are sent.
    pub duration: Duration,
    /// Time after which an unanswered request counts as lost, and a TCP flow as hung.
    pub timeout: Duration,
    /// Whether a TCP flow that was cut is opened again, as a new flow.
    pub reopen: bool,
    /// Time after which a TCP flow finishes and a new one takes its place; `None`: it lasts.
    pub lifetime: Option<Duration>,
}

/// Protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Requests and answers on one connection.
    Tcp,
    /// Datagrams on one socket.
    Udp,
    /// Echo requests with one identifier, by the program `ping`.
    Icmp,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OutputLine {
    /// The server listens.
    Ready,
    /// The progress, four times a second.
    Progress(Progress),
    /// A flow has ended.
    Flow(FlowReport),
    /// A page was read, or could not be read.
    Page(PageReport),
}

/// Progress of all flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// Requests so far.
    pub sent: u64,
    /// Answers so far.
    pub answered: u64,
}

/// What a flow experienced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Protocol of the flow.
    pub protocol: Protocol,
    /// Address of this end, as `show sessions` writes it (for ICMP without a port). Absent if there was never a
    /// connection.
    pub local: Option<String>,
    /// Address of the other end.
    pub remote: String,
    /// When it was opened, in milliseconds since the start of the program.
    pub opened_ms: u64,
    /// When it ended, in milliseconds since the start of the program.
    pub ended_ms: u64,
    /// Number of requests.
    pub sent: u64,
    /// Number of correct answers.
    pub answered: u64,
    /// When the first [`LOST_MAX`] unanswered requests were sent, in milliseconds since the start of the program; for
    /// UDP only.
    #[serde(default)]
    pub lost_at_ms: Vec<u64>,
    /// The longest time without an answer that was due, in milliseconds; for TCP including the time to connect.
    pub longest_stall_ms: u64,
    /// How it ended.
    pub end: FlowEnd,
    /// For TCP that did not finish: milliseconds from the last unanswered request until the program noticed.
    pub waited_ms: Option<u64>,
}

/// How a flow ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowEnd {
    /// At its time, with all answers correct.
    Finished,
    /// By a TCP reset, or closed by the other end before it had answered, as when its program dies.
    Reset,
    /// By a TCP reset before it was connected.
    Refused,
    /// No answer arrived within the plan's timeout.
    Hung,
    /// In another way, in words.
    Failed(String),
}

impl FlowReport {
    /// Number of unanswered requests.
    pub const fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }
}

/// Runs a plan and passes every line to `print`.
pub async fn run(plan: TrafficPlan, mut print: impl FnMut(&OutputLine)) {
    let start = Instant::now();
    let tally = Arc::new(TrafficTally::default());
    // Bounded: a flow that has to wait here has already ended.
    let (report, mut reports) = mpsc::channel(plan.flows.max(1));
    for number in 0..plan.flows {
        let flow = Flow { plan: plan.clone(), start, tally: Arc::clone(&tally), report: report.clone() };
        // Spread over one interval, so that the flows do not send at the same time.
        let delay = plan.interval.mul_f64(number as f64 / plan.flows as f64);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            match flow.plan.protocol {
                Protocol::Tcp => tcp::run(flow).await,
                Protocol::Udp => udp::run(flow).await,
                Protocol::Icmp => ping::run(flow).await,
            }
        });
    }
    drop(report);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            flow = reports.recv() => match flow {
                Some(flow) => print(&OutputLine::Flow(flow)),
                None => break,
            },
            _ = ticks.tick() => print(&OutputLine::Progress(tally.progress(start))),
        }
    }
    print(&OutputLine::Progress(tally.progress(start)));
}

/// What one flow needs.
struct Flow {
    plan: TrafficPlan,
    start: Instant,
    tally: Arc<TrafficTally>,
    report: mpsc::Sender<FlowReport>,
}

impl Flow {
    fn since_start(&self) -> u64 {
        millis(self.start.elapsed())
    }

    fn stop(&self) -> Instant {
        self.start + self.plan.duration
    }

    fn open_report(&self) -> FlowReport {
        FlowReport {
            protocol: self.plan.protocol,
            local: None,
            remote: match self.plan.protocol {
                Protocol::Tcp | Protocol::Udp => self.plan.to.to_string(),
                Protocol::Icmp => self.plan.to.ip().to_string(),
            },
            opened_ms: self.since_start(),
            ended_ms: 0,
            sent: 0,
            answered: 0,
            lost_at_ms: Vec::new(),
            longest_stall_ms: 0,
            end: FlowEnd::Finished,
            waited_ms: None,
        }
    }

    async fn close_report(&self, mut report: FlowReport) {
        report.ended_ms = self.since_start();
        // The receiver is dropped after every sender.
        let _ = self.report.send(report).await;
    }
}

/// Requests and answers of all flows together.
#[derive(Default)]
struct TrafficTally {
    sent: AtomicU64,
    answered: AtomicU64,
}

impl TrafficTally {
    fn progress(&self, start: Instant) -> Progress {
        Progress {
            at_ms: millis(start.elapsed()),
            sent: self.sent.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
        }
    }
}

/// Bytes that may wait in a datagram socket: thousands of small datagrams.
const DATAGRAMS_WAITING: i32 = 8 << 20;

/// A datagram socket with room for what arrives while its program has no processor. The system's default holds about
/// 250 small datagrams, which the flows of one test send in less than 0.1 s; the rest would look as if the network had
/// lost it.
async fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    sockopt::set_receive_buffer(&socket, DATAGRAMS_WAITING)?;
    Ok(socket)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request: its number, followed by bytes that differ between requests.
fn message(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..size.saturating_sub(8)).map(|at| (number as usize).wrapping_add(at) as u8));
    bytes
}

#[cfg(test)]
mod tests;
