//! Traffic for the laboratory: a server that echoes, and clients that keep flows busy and report what each of them lived
//! through. They run inside the lab's namespaces as `fwlb lab traffic …` and speak JSON, one [`Line`] per line.

mod pages;
mod ping;
mod serve;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use pages::{PageReport, Pages, read_pages};
pub use serve::{Serve, serve};

/// Port of the echo service, TCP and UDP (RFC 862).
pub const ECHO_PORT: u16 = 7;

/// A flow's report tells when so many of its lost requests were made.
pub const LOST_MAX: usize = 32;

/// What a client is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Protocol of the flows.
    pub protocol: Protocol,
    /// Server; the port means nothing to [`Protocol::Icmp`].
    pub to: SocketAddr,
    /// Flows at the same time.
    pub flows: usize,
    /// Time between two requests of a flow.
    pub interval: Duration,
    /// Bytes of a request, and of its answer; at least 8.
    pub size: usize,
    /// How long requests are made.
    pub duration: Duration,
    /// An answer that takes longer is taken for lost, and a TCP flow for hung.
    pub patience: Duration,
    /// A TCP flow that was cut is opened again, as a new flow.
    pub reopen: bool,
    /// A TCP flow finishes after this long, and a new one takes its place; `None`: it lasts.
    pub life: Option<Duration>,
}

/// Protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Requests and answers on one connection.
    Tcp,
    /// Datagrams on one socket.
    Udp,
    /// Echo requests of one identifier, by the `ping` program.
    Icmp,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The server listens.
    Ready,
    /// How it goes, four times a second.
    Progress(Progress),
    /// A flow ended.
    Flow(FlowReport),
    /// A page was read, or not.
    Page(PageReport),
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Since the start.
    pub at_ms: u64,
    /// Requests so far.
    pub sent: u64,
    /// Answers so far.
    pub answered: u64,
}

/// What a flow lived through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Protocol.
    pub protocol: Protocol,
    /// This end, as `show sessions` writes it; for ICMP the address. Absent if there was never a connection.
    pub local: Option<String>,
    /// The other end.
    pub remote: String,
    /// Since the start of the program.
    pub opened_ms: u64,
    /// Since the start of the program.
    pub ended_ms: u64,
    /// Requests.
    pub sent: u64,
    /// Right answers.
    pub answered: u64,
    /// When the first [`LOST_MAX`] requests without an answer were made, since the start of the program; UDP only.
    #[serde(default)]
    pub lost_at_ms: Vec<u64>,
    /// The longest time without an answer that was due; for TCP also the time to connect.
    pub longest_stall_ms: u64,
    /// How it ended.
    pub end: End,
    /// TCP that did not finish: from the last unanswered request until the program knew.
    pub waited_ms: Option<u64>,
}

/// How a flow ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// At its time, and in order.
    Finished,
    /// By a TCP reset, or by the other end before it had answered, as when its program dies.
    Reset,
    /// By a TCP reset before it was connected.
    Refused,
    /// No answer came for as long as the plan's patience.
    Hung,
    /// Another way, in words.
    Failed(String),
}

impl FlowReport {
    /// Requests without an answer.
    pub const fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }
}

/// Runs a plan and hands every line to `print`.
pub async fn run(plan: Plan, mut print: impl FnMut(&Line)) {
    let start = Instant::now();
    let tally = Arc::new(Tally::default());
    // Bounded: a flow that has to wait here has already ended.
    let (report, mut reports) = mpsc::channel(plan.flows.max(1));
    for number in 0..plan.flows {
        let flow = Flow { plan: plan.clone(), start, tally: Arc::clone(&tally), report: report.clone() };
        // Spread over one interval, so that the flows do not beat in time.
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
                Some(flow) => print(&Line::Flow(flow)),
                None => break,
            },
            _ = ticks.tick() => print(&Line::Progress(tally.progress(start))),
        }
    }
    print(&Line::Progress(tally.progress(start)));
}

/// What one flow needs to know.
struct Flow {
    plan: Plan,
    start: Instant,
    tally: Arc<Tally>,
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
            end: End::Finished,
            waited_ms: None,
        }
    }

    async fn close_report(&self, mut report: FlowReport) {
        report.ended_ms = self.since_start();
        // The receiver leaves only after every sender.
        let _ = self.report.send(report).await;
    }
}

/// Requests and answers of all flows together.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Tally {
    fn progress(&self, start: Instant) -> Progress {
        Progress {
            at_ms: millis(start.elapsed()),
            sent: self.sent.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request: its number, then bytes that differ from request to request.
fn message(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..size.saturating_sub(8)).map(|at| (number as usize).wrapping_add(at) as u8));
    bytes
}

#[cfg(test)]
mod tests;
